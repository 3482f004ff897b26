//! Locks that a query waits for: how long, and whose they are.

use super::{Flavour, Server};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::time::Duration;

/// Sessions with a deadline of at most this put questions; longer ones change data.
const QUESTIONS: Duration = Duration::from_secs(60);
/// Seconds that a question waits for a lock. information_schema.TABLES of MariaDB waits so long for each table that is locked.
const PATIENCE: u64 = 3;
/// The largest value of lock_wait_timeout.
const LONGEST: u64 = 31_536_000;
/// Sessions that are named, at most.
const NAMED: usize = 3;
/// Characters of a statement that are shown.
const SHOWN: usize = 80;

/// lock_wait_timeout in seconds for a session whose statements have this deadline: the server's own error must come before the
/// connection is given up.
pub fn patience(deadline: Duration) -> u64 {
    let longest = deadline.as_secs().saturating_sub(1).clamp(1, LONGEST);
    if deadline <= QUESTIONS {
        longest.min(PATIENCE)
    } else {
        longest
    }
}

/// The sessions that hold metadata locks which hinder others, longest first; empty if none is found. MariaDB does not show who
/// holds one (without its plugin METADATA_LOCK_INFO), so there they are those that run DDL.
pub fn holders(conn: &mut Conn, server: Server) -> String {
    let query = match server.flavour {
        Flavour::MySql => {
            "SELECT t.PROCESSLIST_ID, CONCAT(t.PROCESSLIST_USER, '@', t.PROCESSLIST_HOST), t.PROCESSLIST_TIME, \
             IF(l.OBJECT_TYPE = 'TABLE', CONCAT(l.OBJECT_SCHEMA, '.', l.OBJECT_NAME), l.OBJECT_TYPE), t.PROCESSLIST_INFO \
             FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
             WHERE l.LOCK_STATUS = 'GRANTED' AND t.PROCESSLIST_ID <> CONNECTION_ID() AND (l.OBJECT_TYPE = 'TABLE' AND \
             l.LOCK_TYPE IN ('EXCLUSIVE', 'SHARED_NO_READ_WRITE') OR l.OBJECT_TYPE = 'GLOBAL' AND l.LOCK_TYPE = 'SHARED') \
             ORDER BY t.PROCESSLIST_TIME DESC"
        }
        Flavour::MariaDb => {
            "SELECT ID, CONCAT(USER, '@', HOST), TIME, '', INFO FROM information_schema.PROCESSLIST \
             WHERE ID <> CONNECTION_ID() AND COMMAND = 'Query' AND STATE NOT LIKE 'Waiting for % lock' AND INFO REGEXP \
             '^[[:space:]]*(CREATE|ALTER|DROP|TRUNCATE|RENAME|OPTIMIZE|REPAIR|FLUSH|BACKUP)' ORDER BY TIME DESC"
        }
    };
    let rows: Vec<Row> = conn.query(query).unwrap_or_default();
    let text = |row: &Row, i| {
        let value = row.get_opt::<Option<String>, _>(i);
        value.and_then(|v| v.ok().flatten()).unwrap_or_default()
    };
    let name = |row: &Row| {
        let object = text(row, 3);
        let object = match object.as_str() {
            "" => String::new(),
            object => format!(" holds a lock on {object},"),
        };
        format!(
            "session {} ({}){object} runs for {} s: {}",
            text(row, 0),
            text(row, 1),
            text(row, 2),
            beginning(&text(row, 4))
        )
    };
    let named: Vec<String> = rows.iter().take(NAMED).map(name).collect();
    named.join("; ")
}

/// The beginning of a statement, on one line, and nothing of the literals in it: one may be a password.
fn beginning(statement: &str) -> String {
    let plain = statement.split(['\'', '"']).next().unwrap_or_default();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(SHOWN).collect();
    match shown.as_str() {
        "" => "(no statement)".into(),
        _ if shown.len() < words.len() || plain.len() < statement.len() => format!("{shown} ..."),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_answers_before_the_connection_is_given_up() {
        let of = |s| patience(Duration::from_secs(s));
        assert_eq!([1, 2, 5, 60, 61, 600].map(of), [1, 1, 3, 3, 60, 599]);
        assert_eq!(of(u64::MAX), LONGEST);
    }

    #[test]
    fn literals_are_not_shown() {
        assert_eq!(
            beginning("ALTER USER a IDENTIFIED BY 'geheim'"),
            "ALTER USER a IDENTIFIED BY ..."
        );
        assert_eq!(
            beginning("create  table\nshop.t as select 1"),
            "create table shop.t as select 1"
        );
        assert_eq!(beginning(""), "(no statement)");
        assert_eq!(beginning(&"x ".repeat(99)).len(), SHOWN + 4);
    }
}
