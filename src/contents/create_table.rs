//! A parser of SHOW CREATE TABLE.

use crate::mysql::quote_name;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Index of the quote that ends the literal or quoted name with which `text` begins. In it the quote is written twice, and in a literal
/// a backslash precedes another character.
fn closing_quote(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '`'))?;
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && quote == '\'' {
            characters.next();
        } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at);
        }
    }
    None
}

/// What the literal or quoted name means with which `text` begins, and how the text goes on.
fn unquote(text: &str) -> Option<(String, &str)> {
    let end = closing_quote(text)?;
    let is_literal = text.starts_with('\'');
    let quote = if is_literal { '\'' } else { '`' };
    let mut inside = text[1..end].chars();
    let mut value = String::new();
    while let Some(c) = inside.next() {
        let escapes = c == quote || is_literal && c == '\\';
        value.extend(if escapes { inside.next() } else { Some(c) });
    }
    Some((value, &text[end + 1..]))
}

/// The name in backticks with which `text` begins, and how the text goes on.
fn name(text: &str) -> Option<(String, &str)> {
    unquote(text).filter(|_| text.starts_with('`'))
}

/// The last lines: the table's options and its partitions.
pub(super) fn last_lines(create: &str) -> &str {
    &create[create.rfind("\n) ").unwrap_or(0)..]
}

/// [`last_lines`] in lower case. Of texts only those about encryption.
pub(super) fn options(create: &str) -> String {
    let options = last_lines(create).to_ascii_lowercase();
    without_texts(&options, |option| option.starts_with("encrypt"))
}

/// SQL without its texts in `'`, but those of options that are `kept`, by their names in lower case.
pub(super) fn without_texts(sql: &str, kept: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find('\'') {
        let (before, text) = rest.split_at(at);
        out.push_str(before);
        let Some((value, after)) = unquote(text) else {
            rest = text;
            break;
        };
        let option = before.trim_end_matches([' ', '=']);
        let option = option.rsplit([' ', ',', '\n', '(']).next();
        if kept(option.unwrap_or_default().trim_matches('`')) {
            out.push_str(&value);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Names and declarations of the columns; the declarations in lower case.
pub(super) fn columns(create: &str) -> Vec<(String, String)> {
    let column = |line: &str| {
        let (name, declared) = name(line.strip_prefix("  ")?)?;
        Some((name, declared.trim().to_ascii_lowercase()))
    };
    create.lines().filter_map(column).collect()
}

pub(super) fn constraints(create: &str) -> Vec<String> {
    let constraint = |line: &str| {
        let (name, _) = name(line.trim_start().strip_prefix("CONSTRAINT ")?)?;
        Some(name)
    };
    create.lines().filter_map(constraint).collect()
}

pub(super) fn parsers(create: &str) -> Vec<String> {
    let parser = |line: &str| {
        let line = line.trim_start().strip_prefix("FULLTEXT ")?;
        let (_, rest) = line.split_once(" WITH PARSER `")?;
        rest.split_once('`').map(|(name, _)| name.to_string())
    };
    create.lines().filter_map(parser).collect()
}

/// The directories of the table and its partitions (DATA DIRECTORY, INDEX DIRECTORY).
pub(super) fn directories(create: &str) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let mut rest = last_lines(create);
    while let Some(at) = rest.find([' ', '\'']) {
        if rest[at..].starts_with('\'') {
            // Another option's text.
            let Some((_, after)) = unquote(&rest[at..]) else {
                break;
            };
            rest = after;
            continue;
        }
        rest = &rest[at + 1..];
        let named = |word: &&str| {
            let start = rest.get(..word.len());
            start.is_some_and(|s| s.eq_ignore_ascii_case(word))
        };
        if let Some(word) = ["DATA DIRECTORY", "INDEX DIRECTORY"]
            .into_iter()
            .find(named)
        {
            let value = rest[word.len()..].trim_start_matches([' ', '=']);
            if let Some((directory, after)) = unquote(value).filter(|_| value.starts_with('\'')) {
                out.insert(PathBuf::from(directory));
                rest = after;
            }
        }
    }
    out
}

/// The engine in lower case.
pub(super) fn engine(create: &str) -> String {
    let options = options(create);
    let (_, after) = options.split_once("engine=").unwrap_or_default();
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_');
    name.into_iter().next().unwrap_or_default().to_string()
}

/// The members of `enum('a','it''s')` or of a SET, each as the literal that it is there.
pub(super) fn members(declared: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = declared.find('\'').map_or("", |at| &declared[at..]);
    while let Some(end) = closing_quote(rest) {
        found.push(&rest[..=end]);
        rest = rest[end + 1..].strip_prefix(',').unwrap_or_default();
    }
    found
}

pub(super) fn expression(create: &str, column: &str) -> Option<String> {
    let start = format!("\n  {} ", quote_name(column));
    let declared = &create[create.find(&start)? + start.len()..];
    let (_, text) = declared.split_once(" AS (")?;
    let (mut depth, mut at) = (1, 0);
    while depth > 0 {
        let c = text[at..].chars().next()?;
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\'' | '`' => at += closing_quote(&text[at..])?,
            _ => {}
        }
        at += c.len_utf8();
    }
    Some(text[..at - 1].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_tables_and_partitions() {
        for (of_table, engine_name, wanted) in [
            (
                ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 DATA DIRECTORY='/X/it''s/' COMMENT='DATA DIRECTORY=''/no/'''",
                "innodb",
                "/X/it's/",
            ),
            (
                ") ENGINE=MyISAM COMMENT='a '' DATA DIRECTORY=''/no/''' DATA DIRECTORY='/d/' INDEX DIRECTORY='/i/'",
                "myisam",
                "/d/ /i/",
            ),
            (
                ") ENGINE=InnoDB\n/*!50100 PARTITION BY HASH (a)\n(PARTITION p0 DATA DIRECTORY = '/x/' ENGINE = InnoDB,\n \
                 PARTITION p1 DATA DIRECTORY = '/y/' ENGINE = InnoDB) */",
                "innodb",
                "/x/ /y/",
            ),
            (") ENGINE=InnoDB", "innodb", ""),
        ] {
            let create = format!(
                "CREATE TABLE `t` (\n  `a` int COMMENT ' DATA DIRECTORY=''/c/'''\n{of_table}"
            );
            let found = directories(&create).into_iter();
            let found: Vec<String> = found.map(|d| d.display().to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{of_table}");
            assert_eq!(engine(&create), engine_name);
        }
    }

    #[test]
    fn columns_with_their_declarations() {
        let create = "CREATE TABLE `t` (\n  `a ``b` FLOAT DEFAULT NULL COMMENT '`x` int',\n  `c` enum('a`','b') NOT NULL,\n  KEY `k` \
                      (`c`)\n) ENGINE=InnoDB";
        let found = columns(create);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, "a `b");
        assert!(found[0].1.starts_with("float default null"));
        assert!(found[1].1.starts_with("enum("));
    }

    #[test]
    fn constraints_by_name() {
        let create = "CREATE TABLE `t` (\n  `a` int,\n  KEY `k` (`a`),\n  CONSTRAINT `a ``b` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n  \
                      CONSTRAINT `c` CHECK (`a` > 0)\n) ENGINE=InnoDB";
        assert_eq!(constraints(create), ["a `b", "c"]);
    }

    #[test]
    fn parsers_of_fulltext_indexes() {
        let create = "CREATE TABLE `t` (\n  `a` text COMMENT ' WITH PARSER `no`',\n  FULLTEXT KEY `t` (`t`) /*!50100 WITH PARSER `ngram` */ \n)";
        assert_eq!(parsers(create), ["ngram"]);
    }

    #[test]
    fn expressions_of_generated_columns() {
        let create = "CREATE TABLE `t` (\n  `a` int NOT NULL COMMENT ' AS (no)',\n  `b ``c` varchar(9) GENERATED ALWAYS AS \
                      (concat(`a`,_utf8mb4') \\'(',`x)`,'''(')) STORED COMMENT 'x (',\n  `d` int GENERATED ALWAYS AS (`a` * (2)) VIRTUAL\n)";
        assert_eq!(
            expression(create, "b `c").unwrap(),
            "concat(`a`,_utf8mb4') \\'(',`x)`,'''(')"
        );
        assert_eq!(expression(create, "d").unwrap(), "`a` * (2)");
        assert_eq!(expression(create, "e"), None);
        assert_eq!(
            expression("CREATE TABLE `t` (\n  `a` int AS ('x", "a"),
            None
        );
    }

    #[test]
    fn members_of_a_declaration() {
        for (declared, expected) in [
            ("enum('a','b')", vec!["'a'", "'b'"]),
            ("set('')", vec!["''"]),
            (
                "enum('it''s','','a,b',''',''')",
                vec!["'it''s'", "''", "'a,b'", "''','''"],
            ),
            (
                r"enum('\\','é','\n','\'?')",
                vec![r"'\\'", "'é'", r"'\n'", r"'\'?'"],
            ),
            ("enum('a", vec![]),
            ("int(11)", vec![]),
        ] {
            assert_eq!(members(declared), expected, "{declared}");
        }
    }
}
