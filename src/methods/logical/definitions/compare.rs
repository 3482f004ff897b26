//! The comparison of the two catalogues.

use super::kept::Kept;
use super::prepare::READ_ONLY;
use crate::mysql::catalogue::{Catalogue, Definition, Kind, Object, UNREADABLE};
use crate::sys::Inserted;
use std::collections::{BTreeMap, BTreeSet};

/// How many objects a message names.
const NAMED: usize = 10;
/// Longest value that a message shows, in characters.
const SHOWN: usize = 60;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Object and what differs.
    pub(super) found: Vec<(Object, String)>,
    /// Objects of the source's schemas that only the target has: of an earlier use of it.
    pub(super) extra: Vec<Object>,
    pub(super) equal: usize,
}

impl Differences {
    /// The first ten objects, with what differs.
    pub(super) fn first(&self) -> String {
        let first = self.found.iter().take(NAMED);
        let mut named: Vec<String> = first.map(|(o, what)| format!("{o}: {what}")).collect();
        if self.found.len() > NAMED {
            named.push(format!("and {} more", self.found.len() - NAMED));
        }
        named.join("; ")
    }
}

/// Compares what the target has after the load with what was kept of the source. `left_out` are tables that the operator's options leave
/// out of the dump (`schema.table`); an event whose only time is before `now` (`2026-11-27 04:00:00`) may be over, and is not created by
/// a load then (1588).
pub(super) fn compare(
    kept: &Kept,
    target: &Catalogue,
    left_out: &BTreeSet<String>,
    now: &str,
) -> Differences {
    let series = |c: &Catalogue| (c.server.version.0, c.server.version.1);
    let loosely = series(&kept.equal) != series(target);
    let mut out = Differences::default();
    for (object, wanted) in &kept.equal.objects {
        if left_out.contains(&object.full_name()) {
            continue;
        }
        let Some(found) = target.objects.get(object) else {
            let mut times = ["at", "ends"].iter().filter_map(|p| wanted.get(*p));
            let is_past = |t: &String| !t.is_empty() && t.as_str() <= now;
            if object.kind != Kind::Event || !times.any(is_past) {
                out.found.push((object.clone(), "it is missing".into()));
            }
            continue;
        };
        match difference(object.kind, wanted, found, loosely) {
            None => out.equal += 1,
            Some(what) => out.found.push((object.clone(), what)),
        }
    }
    let known = |o: &Object| kept.equal.objects.contains_key(o) || kept.changed.contains(o);
    for (object, of) in target.objects.iter().filter(|(o, _)| !known(o)) {
        let table = of.get("table").map_or("", String::as_str);
        let table = Object::new(Kind::Table, object.schema.as_str(), table);
        match object.kind {
            // A load that makes a table makes its triggers.
            Kind::Trigger if kept.equal.objects.contains_key(&table) => {
                let what = format!("the source has no such trigger on table {}", table.name);
                out.found.push((object.clone(), what));
            }
            Kind::Account => out
                .found
                .push((object.clone(), "the source has no such account".into())),
            _ => out.extra.push(object.clone()),
        }
    }
    out
}

/// What differs, in words without rows, bodies or passwords; first what is here, then what the source has.
fn difference(
    kind: Kind,
    wanted: &Definition,
    found: &Definition,
    loosely: bool,
) -> Option<String> {
    if let Some(error) = found.get(UNREADABLE) {
        return Some(format!("it cannot be read here: {error}"));
    }
    if kind == Kind::Account {
        return rights(wanted, found, loosely);
    }
    let mut what = Vec::new();
    // How a body is printed depends on its sql_mode.
    let same_mode = wanted.get("sql_mode") == found.get("sql_mode");
    for (property, wanted) in wanted {
        if kind == Kind::Schema && property == READ_ONLY {
            continue;
        }
        let found = match found.get(property) {
            Some(found) => found,
            None if loosely => continue, // the other version does not have it
            None => "",
        };
        let (mut wanted, mut found) = (wanted.clone(), found.to_string());
        if kind == Kind::Table && property == "Create Table" {
            wanted = normal(&wanted, loosely);
            found = normal(&found, loosely);
        } else if loosely {
            wanted = wanted.replace("utf8mb3", "utf8");
            found = found.replace("utf8mb3", "utf8");
        }
        if wanted == found {
            continue;
        }
        match (kind, property.as_str()) {
            (Kind::Table, "Create Table") => what.push(lines(&wanted, &found)),
            (_, "statement" | "Create View" | "Create Procedure" | "Create Function")
            | (_, "Create Package" | "Create Package Body") => {
                if same_mode {
                    what.push(body(&wanted, &found));
                }
            }
            _ => what.push(format!(
                "{property} is {} and not {}",
                shown(&found),
                shown(&wanted)
            )),
        }
    }
    (!what.is_empty()).then(|| what.join(", "))
}

fn shown(value: &str) -> String {
    let line = value.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "empty".into();
    }
    if line.chars().count() <= SHOWN {
        return line;
    }
    let head: String = line.chars().take(SHOWN).collect();
    format!("{head} ...")
}

/// The definer, or that the text differs: it may hold anything.
fn body(wanted: &str, found: &str) -> String {
    let definer = |text: &str| {
        let (_, rest) = text.split_once("DEFINER=")?;
        rest.split_whitespace().next().map(str::to_string)
    };
    match (definer(wanted), definer(found)) {
        (Some(w), Some(f)) if w != f => format!("its definer is {f} and not {w}"),
        _ => "its statement differs".into(),
    }
}

/// The first line of SHOW CREATE TABLE that differs.
fn lines(wanted: &str, found: &str) -> String {
    let set = |text: &str| -> BTreeSet<String> {
        let line = |l: &str| l.trim().trim_end_matches(',').to_string();
        text.lines().map(line).collect()
    };
    let (of_source, here) = (set(wanted), set(found));
    let missing: Vec<&String> = of_source.difference(&here).collect();
    let more: Vec<&String> = here.difference(&of_source).collect();
    let part = |line: &str| -> String {
        let name = line.split('`').nth(1).unwrap_or_default();
        let lower = line.trim_start().to_ascii_lowercase();
        match lower.as_str() {
            l if l.starts_with('`') => format!("column {name}"),
            l if l.starts_with("primary key") => "the primary key".into(),
            l if l.starts_with("constraint") => format!("constraint {name}"),
            l if l.contains("partition") => "its partitioning".into(),
            l if l.starts_with(')') => "one of its options".into(),
            l if l.contains("key ") => format!("index {name}"),
            _ => "its definition".into(),
        }
    };
    match (missing.first(), more.first()) {
        (Some(m), Some(f)) if part(m) == part(f) && m.starts_with('`') => {
            format!("{} is ({}) and not ({})", part(m), shown(f), shown(m))
        }
        (Some(m), Some(f)) if part(m) == part(f) => format!("{} differs", part(m)),
        (Some(m), _) => format!("{} is missing", part(m)),
        (None, Some(f)) => format!("{} is not on the source", part(f)),
        (None, None) => "the order of its columns or indexes differs".into(),
    }
}

/// The first right of an account that differs. Values are never shown: they may be those of passwords.
fn rights(wanted: &Definition, found: &Definition, loosely: bool) -> Option<String> {
    for (right, wanted) in wanted {
        let Some(found) = found.get(right) else {
            return Some(format!("the row of {right} is missing"));
        };
        if wanted == found {
            continue;
        }
        let columns = |text: &str| -> BTreeMap<String, String> {
            let of = |l: &str| l.split_once('\t').map(|(a, b)| (a.into(), b.into()));
            text.lines().filter_map(of).inserted()
        };
        let (wanted, found) = (columns(wanted), columns(found));
        let differs = |c: &&String| match (wanted.get(*c), found.get(*c)) {
            (Some(w), Some(f)) => w != f,
            _ => !loosely,
        };
        let all: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
        if let Some(column) = all.into_iter().find(differs) {
            return Some(format!("{right} differs in column {column}"));
        }
    }
    let more = found.keys().find(|right| !wanted.contains_key(*right))?;
    if loosely {
        return None; // the newer server's own defaults
    }
    Some(format!("the source has no row of {more}"))
}

/// The text of SHOW CREATE TABLE without what counts rows. For servers of different series (`loosely`) also without what their
/// versions print differently: display widths of integers (gone in MySQL 8.0.19), the old name of utf8mb3 (MySQL 8.0.28, MariaDB
/// 10.6), collations and character sets that are the default, comments with a version, and defaults of temporal columns.
fn normal(text: &str, loosely: bool) -> String {
    let mut out = without_counter(text);
    for line in &mut out {
        without_implied(line);
    }
    if loosely {
        for line in &mut out {
            *line = loose(line);
        }
    }
    out.join("\n")
}

/// `AUTO_INCREMENT=7` of the last lines: it counts on while a source is written to.
fn without_counter(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    // A partitioned table has more lines after its options; in a comment of several lines there may be anything.
    let options = lines.iter_mut().rev().find(|l| l.starts_with(") "));
    if let Some(line) = options {
        let word = " AUTO_INCREMENT=";
        // The options begin with ENGINE; a COMMENT comes later.
        if let Some(at) = line.find(word)
            && line.find(" COMMENT=").is_none_or(|c| at < c)
        {
            let digits = line[at + word.len()..]
                .bytes()
                .take_while(u8::is_ascii_digit)
                .count();
            line.replace_range(at..at + word.len() + digits, "");
        }
    }
    lines
}

/// A column's character set where its collation follows, which implies it: MySQL prints it only where the column was made with a
/// collation of its own, which a column is that had its table's.
fn without_implied(line: &mut String) {
    let (set, collate) = (" CHARACTER SET ", " COLLATE ");
    let end = line.find('\'').unwrap_or(line.len());
    let Some(at) = line[..end].find(set).filter(|_| line.starts_with("  `")) else {
        return;
    };
    let name = at + set.len();
    let name_end = line[name..].find(' ').map_or(line.len(), |n| name + n);
    let collation = line[name_end..].strip_prefix(collate).unwrap_or_default();
    if collation.starts_with(&format!("{}_", &line[name..name_end])) {
        line.replace_range(at..name_end, "");
    }
}

fn loose(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let clean = line.replace("/*!", " /*! ").replace("*/", " */ ");
    for word in clean.split_whitespace() {
        let word = word.to_ascii_lowercase();
        // What follows one of these words is left out with it.
        let follows = words.pop_if(|w| *w == "collate" || *w == "set").is_some();
        if matches!(word.as_str(), "collate" | "set") {
            words.push(word);
        } else if !follows
            && word != "*/"
            && word != "character"
            && !word.starts_with("/*!")
            && !word.starts_with("collate")
        {
            words.push(width(&word.replace("utf8mb3", "utf8")));
        }
    }
    words.join(" ")
}

/// `int(11)` is `int`.
fn width(word: &str) -> String {
    for kind in ["tinyint", "smallint", "mediumint", "bigint", "int", "year"] {
        if let Some(rest) = word.strip_prefix(kind)
            && let Some((digits, rest)) = rest.strip_prefix('(').and_then(|r| r.split_once(')'))
            && digits.bytes().all(|b| b.is_ascii_digit())
        {
            return format!("{kind}{rest}");
        }
    }
    word.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, of};
    use super::*;

    #[test]
    fn what_is_missing_or_different_is_named() {
        let event = [("at", "2026-01-01 00:00:00"), ("statement", "x")];
        let source = of(
            "9.7.4",
            &[
                (
                    Kind::Table,
                    "t",
                    &[(
                        "Create Table",
                        "CREATE TABLE `t` (\n  `a` int,\n  KEY `k` (`a`)\n) ENGINE=InnoDB",
                    )],
                ),
                (Kind::Event, "over", &event),
                (Kind::Event, "later", &[("at", "2027-01-01 00:00:00")]),
                (
                    Kind::Procedure,
                    "p",
                    &[("sql_mode", "A"), ("Create Procedure", "1")],
                ),
                (
                    Kind::Account,
                    "u@%",
                    &[("mysql.user", "x\ty\npassword\tsecret-1")],
                ),
            ],
        );
        let target = of(
            "9.7.4",
            &[
                (
                    Kind::Table,
                    "t",
                    &[(
                        "Create Table",
                        "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB AUTO_INCREMENT=3",
                    )],
                ),
                (
                    Kind::Procedure,
                    "p",
                    &[("sql_mode", "B"), ("Create Procedure", "2")],
                ),
                (
                    Kind::Account,
                    "u@%",
                    &[("mysql.user", "x\ty\npassword\tsecret-2")],
                ),
                (Kind::View, "old", &[]),
                (Kind::Trigger, "new", &[("table", "t")]),
                (Kind::Trigger, "other", &[("table", "old")]),
            ],
        );
        let kept = Kept::new(1, source.clone(), source, Vec::new());
        let (all, now) = (BTreeSet::new(), "2026-06-01 00:00:00");
        let found = compare(&kept, &target, &all, now);
        let text = found.first();
        for words in [
            "table s.t: index k is missing",
            "event s.later: it is missing",
            "procedure s.p: sql_mode is B and not A",
            "account u@%: mysql.user differs in column password",
            "trigger s.new: the source has no such trigger",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(found.found.len(), 5, "{text}");
        assert!(!text.contains("secret") && !text.contains("over"), "{text}");
        let extra: Vec<&str> = found.extra.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(extra, ["old", "other"]);
        let left_out = BTreeSet::from(["s.t".to_string()]);
        assert_eq!(compare(&kept, &target, &left_out, now).found.len(), 4);
    }

    #[test]
    fn ten_objects_are_named() {
        let many: Vec<String> = (0..12).map(|n| format!("v{n:02}")).collect();
        let objects: Vec<_> = many
            .iter()
            .map(|n| (Kind::View, n.as_str(), [("Create View", "a")]))
            .collect();
        let objects: Vec<fixture::Definition> =
            objects.iter().map(|(k, n, d)| (*k, *n, &d[..])).collect();
        let source = of("9.7.4", &objects);
        let kept = Kept::new(1, source.clone(), source, Vec::new());
        let text = compare(&kept, &of("9.7.4", &[]), &BTreeSet::new(), "").first();
        assert!(
            text.contains("view s.v09: ") && !text.contains("v10") && text.ends_with("and 2 more"),
            "{text}"
        );
    }

    #[test]
    fn only_the_counter_is_left_out() {
        let text = "CREATE TABLE `t` (\n  `a` int NOT NULL AUTO_INCREMENT COMMENT ') AUTO_INCREMENT=3',\n  PRIMARY KEY (`a`)\n) \
                    ENGINE=InnoDB AUTO_INCREMENT=102 DEFAULT CHARSET=utf8mb4 COMMENT='x AUTO_INCREMENT=5'\n PARTITION BY HASH (a)";
        let found = normal(text, false);
        assert_eq!(found, text.replace(" AUTO_INCREMENT=102", ""));
        let plain = "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB COMMENT='x AUTO_INCREMENT=5'";
        assert_eq!(normal(plain, false), plain);
    }

    #[test]
    fn a_character_set_that_the_collation_says_too() {
        let of = |column: &str| {
            normal(
                &format!("CREATE TABLE `t` (\n  `a` {column}\n) ENGINE=InnoDB"),
                false,
            )
        };
        let short = of("varchar(9) COLLATE latin1_bin DEFAULT NULL");
        assert_eq!(
            of("varchar(9) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT NULL"),
            short
        );
        assert_ne!(of("varchar(9) CHARACTER SET latin1 DEFAULT NULL"), short);
        assert_ne!(
            of("varchar(9) CHARACTER SET latin2 COLLATE latin2_bin DEFAULT NULL"),
            short
        );
        let text = "varchar(9) COMMENT ' CHARACTER SET latin1 COLLATE latin1_bin'";
        assert_ne!(of(text), of("varchar(9) COMMENT ' COLLATE latin1_bin'"));
    }

    #[test]
    fn what_two_series_print_differently() {
        let old = "CREATE TABLE `t` (\n  `a` int(11) unsigned NOT NULL,\n  `c` varchar(20) CHARACTER SET utf8 DEFAULT NULL\n) \
                   ENGINE=InnoDB DEFAULT CHARSET=utf8\n/*!50100 PARTITION BY HASH (`a`) */";
        let new = "CREATE TABLE `t` (\n  `a` int unsigned NOT NULL,\n  `c` varchar(20) CHARACTER SET utf8mb3 COLLATE \
                   utf8mb3_general_ci DEFAULT NULL\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci\n/*!50100 \
                   PARTITION BY HASH (`a`) */";
        assert_eq!(normal(old, true), normal(new, true));
        assert_ne!(normal(old, false), normal(new, false));
        let other = new.replace("int unsigned", "bigint unsigned");
        assert_ne!(normal(old, true), normal(&other, true));
        let other = new.replace("varchar(20)", "varchar(21)");
        assert_ne!(normal(old, true), normal(&other, true));
    }
}
