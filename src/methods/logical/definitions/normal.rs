//! Where two servers print one definition in two ways.

/// The text of SHOW CREATE TABLE without what counts rows. For servers of different series (`loosely`) also without what their
/// versions print differently: display widths of integers (gone in MySQL 8.0.19), the old name of utf8mb3 (MySQL 8.0.28, MariaDB
/// 10.6), collations and character sets that are the default, comments with a version, and defaults of temporal columns.
pub(super) fn table(text: &str, loosely: bool) -> String {
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
        let lower = word.to_ascii_lowercase();
        let skip = lower == "*/"
            || lower.starts_with("/*!")
            || lower.starts_with("collate=")
            || lower.starts_with("collate")
            || words.last().is_some_and(|w| w == "collate")
            || words.last().is_some_and(|w| w == "set")
            || lower == "character";
        if words.last().is_some_and(|w| w == "collate" || w == "set") {
            words.pop();
        }
        if lower == "collate" || lower == "set" {
            words.push(lower);
            continue;
        }
        if !skip {
            words.push(width(&lower.replace("utf8mb3", "utf8")));
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
    use super::*;

    #[test]
    fn only_the_counter_is_left_out() {
        let text = "CREATE TABLE `t` (\n  `a` int NOT NULL AUTO_INCREMENT COMMENT ') AUTO_INCREMENT=3',\n  PRIMARY KEY (`a`)\n) \
                    ENGINE=InnoDB AUTO_INCREMENT=102 DEFAULT CHARSET=utf8mb4 COMMENT='x AUTO_INCREMENT=5'\n PARTITION BY HASH (a)";
        let found = table(text, false);
        assert_eq!(found, text.replace(" AUTO_INCREMENT=102", ""));
        let plain = "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB COMMENT='x AUTO_INCREMENT=5'";
        assert_eq!(table(plain, false), plain);
    }

    #[test]
    fn a_character_set_that_the_collation_says_too() {
        let of = |column: &str| {
            table(
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
        assert_eq!(table(old, true), table(new, true));
        assert_ne!(table(old, false), table(new, false));
        let other = new.replace("int unsigned", "bigint unsigned");
        assert_ne!(table(old, true), table(&other, true));
        let other = new.replace("varchar(20)", "varchar(21)");
        assert_ne!(table(old, true), table(&other, true));
    }
}
