//! What the tools and clients of MySQL and MariaDB write, as far as it is searched.

use std::collections::BTreeSet;

/// The client's own messages (`ERROR 1064 (42000) at line 17: ...`, MySQL 9.7.4, MariaDB 10.11.19): it repeats the statement that failed, and with
/// it rows, on its standard error, and those must not be shown.
pub(crate) fn errors_only(stderr: &str) -> String {
    let own: Vec<&str> = stderr.lines().filter(|l| l.starts_with("ERROR ")).collect();
    own.join("\n")
}

/// The line number in such a message.
pub(in crate::methods) fn line_of(stderr: &str) -> Option<usize> {
    let (_, rest) = stderr.split_once(" at line ")?;
    rest.split(':').next()?.parse().ok()
}

/// What a server calls a value that it has changed (error numbers of MySQL and MariaDB alike): out of range, truncated, a wrong value,
/// an incorrect string, too long.
const CHANGES: [&str; 5] = ["1264", "1265", "1292", "1366", "1406"];

/// Whether `line` of a client's output with --show-warnings reports that a value of a column other than `excused` was changed: `Warning
/// (Code 1265): Data truncated for column 'e' at row 3`, in MariaDB also with `` `s`.`t`.`e` ``. A warning without a column comes from
/// an expression.
pub(super) fn is_change(line: &str, excused: &BTreeSet<String>) -> bool {
    let Some((code, text)) = line
        .strip_prefix("Warning (Code ")
        .and_then(|rest| rest.split_once("): "))
    else {
        return false;
    };
    let Some((_, column)) = text.rsplit_once(" for column ") else {
        return false;
    };
    let column = column
        .rsplit_once(" at row ")
        .map_or(column, |(name, _)| name);
    let name = if column.starts_with('`') {
        column.rsplit("`.`").next().unwrap_or(column)
    } else {
        column
    };
    CHANGES.contains(&code) && !excused.contains(name.trim_matches(['`', '\'']))
}

/// What mysqldump and mariadb-dump write of a part that is not in the dump, because the account was refused it: `mysqldump: Error: 'Access denied; you need
/// (at least one of) the PROCESS privilege(s) for this operation' when trying to dump tablespaces` (MySQL 5.7.31 and later). It ends with 0
/// all the same.
pub(super) fn left_out(stderr: &str) -> Option<&str> {
    stderr.lines().find(|l| l.contains("Error:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_names_a_line() {
        for (message, line) in [
            ("ERROR 1064 (42000) at line 17: You have an error", Some(17)),
            ("ERROR 2006 (HY000): MySQL server has gone away", None),
            ("ERROR 1 (1) at line x: y", None),
        ] {
            assert_eq!(line_of(message), line, "{message}");
        }
    }

    #[test]
    fn warnings_of_values_that_were_changed() {
        let excused = BTreeSet::from(["e".to_string()]);
        for (line, change) in [
            (
                "Warning (Code 1265): Data truncated for column 'e' at row 3",
                false,
            ),
            (
                "Warning (Code 1265): Data truncated for column 'f' at row 3",
                true,
            ),
            (
                r"Warning (Code 1366): Incorrect string value: '\xE4' for column `s`.`t`.`f` at row 1",
                true,
            ),
            (
                r"Warning (Code 1366): Incorrect integer value: 'x' for column `s`.`t`.`e` at row 1",
                false,
            ),
            (
                "Warning (Code 1366): Incorrect integer value: ' for column 'e'' for column 'f' at row 1",
                true,
            ),
            (
                "Warning (Code 1406): Data too long for column 'f' at row 1",
                true,
            ),
            (
                "Warning (Code 1292): Truncated incorrect INTEGER value: 'abc'",
                false,
            ),
            ("Note (Code 1051): Unknown table 's.t'", false),
            (
                "Warning (Code 1681): Integer display width is deprecated",
                false,
            ),
            ("17", false),
        ] {
            assert_eq!(is_change(line, &excused), change, "{line}");
        }
    }
}
