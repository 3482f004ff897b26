//! What the binary log of a source does not carry to a replica, whatever the method is.

use super::finding::{Finding, Outcome};
use crate::config::Mysql;
use crate::error::Result;
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, info, query};
use mysql::{Conn, Row};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What an operator has to know of the local server as a source, whatever the method is. A source that cannot be queried has no
/// warnings: its stages report why.
pub(crate) fn warnings(settings: &Mysql) -> Vec<String> {
    let read = || -> Result<[Vec<String>; 2]> {
        let mut conn = connect(&Endpoint::local(settings), TIMEOUT)?;
        let server = Server::ask(&mut conn)?;
        Ok([
            filters(&mut conn, server)?,
            temporary_tables(&mut conn, server)?,
        ])
    };
    let [filters, temporary] = read().unwrap_or_else(|e| {
        log::warn!("filters of the binary log are not known: {e}");
        Default::default()
    });
    let kinds = [
        (FILTERS, filters, FILTERED),
        (TEMPORARY, temporary, STATEMENTS),
    ];
    let found = kinds.iter().filter(|(_, names, _)| !names.is_empty());
    let finding = found.map(|(what, names, why)| Finding::new(what, names, *why));
    finding.map(|f| f.message()).collect()
}

pub(super) const FILTERS: &str = "filters of the binary log";
pub(super) const FILTERED: Outcome = Outcome::Warning(
    "statements and rows of schemas that they leave out are not replicated: such schemas of the new replica become stale, or its \
     replication stops; remove them from the source's my.cnf and use filters of the replica",
);
pub(super) const TEMPORARY: &str = "open temporary tables with binlog_format = STATEMENT:";
pub(super) const STATEMENTS: Outcome = Outcome::Warning(
    "statements on them that are replicated later find no such table on the new replica, and its replication stops; set \
     binlog_format = ROW on the source",
);

/// `binlog_do_db` and `binlog_ignore_db`, as `name = value`.
pub(super) fn filters(conn: &mut Conn, server: Server) -> Result<Vec<String>> {
    let status = match server.flavour {
        Flavour::MySql if server.version >= Version(8, 4, 0) => "SHOW BINARY LOG STATUS",
        _ => "SHOW MASTER STATUS",
    };
    let mut out = Vec::new();
    for row in query::rows::<Row>(conn, status)? {
        for name in ["Binlog_Do_DB", "Binlog_Ignore_DB"] {
            let value = query::text(&row, name);
            if !value.is_empty() {
                out.push(format!("{} = {value}", name.to_ascii_lowercase()));
            }
        }
    }
    Ok(out)
}

fn status(conn: &mut Conn, name: &str) -> Result<u64> {
    let row: Option<(String, String)> =
        query::first(conn, format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
    Ok(row.and_then(|(_, v)| v.parse().ok()).unwrap_or(0))
}

/// What shows temporary tables of sessions on a server whose binary log has statements.
pub(super) fn temporary_tables(conn: &mut Conn, server: Server) -> Result<Vec<String>> {
    let format = info::global(conn, "binlog_format")?.unwrap_or_default();
    if !format.eq_ignore_ascii_case("STATEMENT") {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for name in ["Slave_open_temp_tables", "Replica_open_temp_tables"] {
        let n = status(conn, name)?;
        if n > 0 && out.is_empty() {
            out.push(format!("{n} of its replication"));
        }
    }
    match server.flavour {
        // It has no list of them: what ended with a session counts as well.
        Flavour::MariaDb => {
            let made = status(conn, "Com_create_temporary_table")?;
            let n = made.saturating_sub(status(conn, "Com_drop_temporary_table")?);
            if n > 0 {
                out.push(format!(
                    "{n} created and not dropped by statements since its start"
                ));
            }
        }
        Flavour::MySql if server.version >= Version(5, 7, 0) => {
            let list = "SELECT COUNT(*) FROM information_schema.INNODB_TEMP_TABLE_INFO";
            let n: u64 = query::first(conn, list)?.unwrap_or(0);
            if n > 0 {
                out.push(format!("{n} of its sessions"));
            }
        }
        Flavour::MySql => {}
    }
    Ok(out)
}
