//! What mysqld and mariadbd write, as far as their texts are searched.

/// ER_NEW_ABORTING_CONNECTION, by which a session is ended when its first statement comes.
const ABORTING: u16 = 1184;

/// True for a session that the server ends because `init_connect` has failed: `Aborted connection 5 to db: ... (init_connect command
/// failed)` (seen on MySQL 9.7.4 and MariaDB 10.11.19). Other causes have the same number.
pub(super) fn is_init_connect(code: u16, message: &str) -> bool {
    code == ABORTING && message.contains("init_connect")
}

/// The number in what CLONE reports of its source: `Clone Donor Error: 1045 : Access denied for user ...`, `Clone Donor Error: Connect
/// failed: 2003 : Can't connect to MySQL server ...` (ER_CLONE_DONOR, MySQL 8.0.17 to 9.7).
pub(crate) fn code_of_donor(message: &str) -> Option<u16> {
    let (_, text) = message.split_once("Clone Donor Error: ")?;
    let (head, _) = text.split_once(" : ")?;
    head.rsplit(' ').next()?.parse().ok()
}

/// The last errors of an error log, or its last line. `[ERROR]` as MySQL 9.7.4 and MariaDB 10.11.19 mark them.
pub(crate) fn last_errors(log: &str) -> String {
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("[ERROR]")).collect();
    if errors.is_empty() {
        return log.lines().last().unwrap_or("empty").to_string();
    }
    errors[errors.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_clone_has_its_own_number() {
        for (message, code) in [
            (
                "Clone Donor Error: 1045 : Access denied for user 'a'@'b' (using password: YES).",
                Some(1045),
            ),
            (
                "Clone Donor Error: Connect failed: 2003 : Can't connect to MySQL server on 'db1:3306' (111).",
                Some(2003),
            ),
            ("Clone Donor Error: x", None),
            ("Access denied : 1045 : x", None),
        ] {
            assert_eq!(code_of_donor(message), code, "{message}");
        }
    }

    #[test]
    fn errors_of_a_log() {
        assert_eq!(last_errors(""), "empty");
        assert_eq!(last_errors("a [Note] x\nb [Note] y\n"), "b [Note] y");
        let log: String = (0..7)
            .map(|i| format!("{i} [ERROR] x\n{i} [Note] y\n"))
            .collect();
        assert_eq!(
            last_errors(&log),
            "2 [ERROR] x / 3 [ERROR] x / 4 [ERROR] x / 5 [ERROR] x / 6 [ERROR] x"
        );
    }
}
