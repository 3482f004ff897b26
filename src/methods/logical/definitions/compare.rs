//! The comparison of the two catalogues.

use super::kept::Kept;
use super::normal;
use super::prepare::READ_ONLY;
use crate::mysql::catalogue::{Catalogue, Definition, Kind, Object, UNREADABLE};
use std::collections::{BTreeMap, BTreeSet};

/// How many objects a message names.
const NAMED: usize = 10;
/// Longest value that a message shows, in characters.
const SHOWN: usize = 60;

/// What the comparison leaves out.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Tables that the operator's options leave out of the dump, as `schema.table`.
    pub(super) left_out: BTreeSet<String>,
    /// As `2026-11-27 04:00:00`: an event whose only time is before it may be over, and is not created by a load then (1588).
    pub(super) now: String,
}

/// What the comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Object and what differs.
    pub(super) found: Vec<(Object, String)>,
    /// Objects of the source's schemas that only the target has: of an earlier use of it.
    pub(super) extra: Vec<Object>,
    /// How many objects are equal.
    pub(super) equal: usize,
}

impl Differences {
    /// The first ten objects, with what differs.
    pub(super) fn first(&self) -> String {
        let named: Vec<String> = self
            .found
            .iter()
            .take(NAMED)
            .map(|(object, what)| format!("{object}: {what}"))
            .collect();
        let mut text = named.join("; ");
        if let Some(more) = self.found.len().checked_sub(NAMED).filter(|n| *n > 0) {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }
}

/// Compares what the target has after the load with what was kept of the source.
pub(super) fn compare(kept: &Kept, target: &Catalogue, rules: &Rules) -> Differences {
    let series = |c: &Catalogue| (c.server.version.0, c.server.version.1);
    let loosely = series(&kept.equal) != series(target);
    let mut out = Differences::default();
    for (object, wanted) in &kept.equal.objects {
        if rules.left_out.contains(&object.full_name()) {
            continue;
        }
        let Some(found) = target.objects.get(object) else {
            let over = object.kind == Kind::Event
                && ["at", "ends"]
                    .iter()
                    .filter_map(|p| wanted.get(*p))
                    .any(|t| !t.is_empty() && *t <= rules.now);
            if !over {
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
            wanted = normal::table(&wanted, loosely);
            found = normal::table(&found, loosely);
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
        (Some(w), Some(f)) if w != f => {
            format!("its definer is {f} and not {w}")
        }
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
        let name = |text: &str| {
            let rest = text.split_once('`').map_or("", |(_, r)| r);
            rest.split_once('`').map_or("", |(n, _)| n).to_string()
        };
        let lower = line.trim_start().to_ascii_lowercase();
        if lower.starts_with('`') {
            return format!("column {}", name(line));
        }
        if lower.starts_with("primary key") {
            return "the primary key".into();
        }
        if lower.starts_with("constraint") {
            return format!("constraint {}", name(line));
        }
        if lower.contains("partition") {
            return "its partitioning".into();
        }
        if lower.starts_with(')') {
            return "one of its options".into();
        }
        if lower.contains("key ") {
            return format!("index {}", name(line));
        }
        "its definition".into()
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
            text.lines().filter_map(of).collect()
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
        let rules = Rules {
            now: "2026-06-01 00:00:00".into(),
            ..Rules::default()
        };
        let found = compare(&kept, &target, &rules);
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
        let rules = Rules {
            left_out: BTreeSet::from(["s.t".to_string()]),
            ..rules
        };
        assert_eq!(compare(&kept, &target, &rules).found.len(), 4);
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
        let text = compare(&kept, &of("9.7.4", &[]), &Rules::default()).first();
        assert!(
            text.contains("view s.v09: ") && !text.contains("v10") && text.ends_with("and 2 more"),
            "{text}"
        );
    }
}
