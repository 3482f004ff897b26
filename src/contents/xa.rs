//! Prepared XA transactions: a dump does not hold them, and their locks stop a load.

use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, query};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

/// For each answer of the source after a dump.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a transaction may be between XA PREPARE and XA COMMIT.
const IN_FLIGHT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// The privilege for XA RECOVER (MySQL 8.0 and later).
pub(super) const PRIVILEGE: &str = "XA_RECOVER_ADMIN";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prepared {
    /// Their xids as XA COMMIT takes them.
    pub(super) xids: Vec<String>,
    /// True where the account may not see them.
    pub(super) hidden: bool,
}

fn xid(format: i64, global: &[u8], branch: &[u8]) -> String {
    let part = |bytes: &[u8]| {
        let plain = |b: &u8| (b.is_ascii_graphic() || *b == b' ') && !matches!(*b, b'\'' | b'\\');
        if bytes.iter().all(plain) {
            format!("'{}'", String::from_utf8_lossy(bytes))
        } else {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("X'{hex}'")
        }
    };
    match (branch, format) {
        ([], 1) => part(global),
        (_, 1) => format!("{},{}", part(global), part(branch)),
        _ => format!("{},{},{format}", part(global), part(branch)),
    }
}

/// The prepared XA transactions that stay so for [`IN_FLIGHT`]: with a transaction manager there are always some for milliseconds.
pub(super) fn prepared(conn: &mut Conn) -> Result<Prepared> {
    let mut found = recover(conn)?;
    let begin = Instant::now();
    while !found.xids.is_empty() && begin.elapsed() < IN_FLIGHT {
        std::thread::sleep(POLL);
        let now = recover(conn)?.xids;
        found.xids.retain(|xid| now.contains(xid));
    }
    Ok(found)
}

fn recover(conn: &mut Conn) -> Result<Prepared> {
    let rows: Vec<(i64, usize, usize, Vec<u8>)> = match conn.query("XA RECOVER") {
        Ok(rows) => rows,
        // MySQL 8.0 and later without XA_RECOVER_ADMIN.
        Err(mysql::Error::MySqlError(e)) if matches!(e.code, 1227 | 1401) => {
            return Ok(Prepared {
                hidden: true,
                ..Prepared::default()
            });
        }
        Err(e) => return Err(query::failed(e)),
    };
    let text = |(format, global, branch, data): &(i64, usize, usize, Vec<u8>)| {
        let (first, rest) = data.split_at((*global).min(data.len()));
        xid(*format, first, &rest[..(*branch).min(rest.len())])
    };
    Ok(Prepared {
        xids: rows.iter().map(text).collect(),
        ..Prepared::default()
    })
}

/// The prepared XA transactions of a source that a dump would miss for good: those of a server whose binary log has an event at
/// XA PREPARE.
pub(super) fn missed_by_dump(conn: &mut Conn, server: Server) -> Result<Prepared> {
    let since = match server.flavour {
        Flavour::MySql => Version(5, 7, 7),
        Flavour::MariaDb => Version(10, 5, 0),
    };
    if server.version < since {
        return Ok(Prepared::default());
    }
    prepared(conn)
}

/// Refuses a source with a prepared XA transaction right after a dump: it may have been prepared between the first check and the dump's
/// position.
pub(crate) fn refuse_prepared_after_dump(source: &Endpoint) -> Result<()> {
    let mut conn = connect(source, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    let found = missed_by_dump(&mut conn, server)?;
    if found.xids.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "XA transactions were prepared on source {} during the dump: {}. The dump may not hold them, and replication would stop at \
         their XA COMMIT (error 1397): XA COMMIT or XA ROLLBACK them there and run a new seed, or use a physical method",
        source.name(),
        found.xids.join("; ")
    )))
}

/// Refuses a target with a prepared XA transaction: its locks would stop a load.
pub(crate) fn refuse_prepared_on_target(conn: &mut Conn) -> Result<()> {
    let found = prepared(conn)?;
    if found.xids.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "this server has prepared XA transactions, whose locks would stop the load: {}; XA ROLLBACK or XA COMMIT them here",
        found.xids.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_are_as_xa_commit_takes_them() {
        for (format, global, branch, wanted) in [
            (1, &b"a 1"[..], &b""[..], "'a 1'"),
            (1, b"a", b"b", "'a','b'"),
            (7, b"\x00\xff", b"b", "X'00ff','b',7"),
            (7, b"it's", b"", "X'69742773','',7"),
        ] {
            assert_eq!(xid(format, global, branch), wanted);
        }
    }
}
