//! Who holds the metadata locks that a query waits for.

use super::{Flavour, Server, query};
use mysql::{Conn, Row};

/// Sessions that are named, at most.
const NAMED: usize = 3;
/// Characters of a statement that are shown.
const SHOWN: usize = 80;

/// The sessions that hold metadata locks which block others, longest first; empty if none is found. MariaDB does not show who
/// holds one (without its plugin METADATA_LOCK_INFO), so there they are those that run DDL.
pub(crate) fn holders(conn: &mut Conn, server: Server) -> String {
    let statement = match server.flavour {
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
    let rows: Vec<Row> = query::rows(conn, statement).unwrap_or_default();
    let name = |row: &Row| {
        let [id, account, seconds, object, statement] =
            [0, 1, 2, 3, 4].map(|i| query::text(row, i));
        let object = match object.as_str() {
            "" => String::new(),
            object => format!(" holds a lock on {object},"),
        };
        let statement = beginning(&statement);
        format!("session {id} ({account}){object} runs for {seconds} s: {statement}")
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
