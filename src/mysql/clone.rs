//! A server's own CLONE: what it says of one that runs, and how it is ended (MySQL 8.0.17 and later).

use super::failure;
use crate::error::{Error, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::time::Duration;

/// How far a CLONE is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// `FILE COPY` and so on; empty before the first one.
    pub stage: String,
    /// True once it has begun to delete the data of the server that it runs in, if it does that at all.
    pub began: bool,
    /// Bytes copied.
    pub bytes: u64,
    /// Bytes expected, as far as estimated.
    pub total: u64,
}

/// How a CLONE in place has ended, after the server's restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// `Completed`, `Failed`, `In Progress`
    pub state: String,
    /// True if the server runs on the copy.
    pub recovered: bool,
    /// Of a failure.
    pub message: String,
    /// Binary log file of the source.
    pub file: String,
    /// Position in it.
    pub position: u64,
    /// Its executed GTID set.
    pub gtid: String,
}

fn fail(e: &mysql::Error) -> Error {
    failure("this connection", "", e)
}

/// How far the CLONE of connection `id` is; `None` if the server knows of none.
///
/// # Errors
/// If a query fails.
pub fn progress(conn: &mut Conn, id: u64) -> Result<Option<Progress>> {
    let ours: Option<u64> = conn
        .query_first("SELECT PID FROM performance_schema.clone_status")
        .map_err(|e| fail(&e))?;
    if ours != Some(id) {
        return Ok(None); // what it shows is an earlier one
    }
    let rows: Vec<(String, String, u64, u64)> = conn
        .query("SELECT STAGE, STATE, CAST(ESTIMATE AS UNSIGNED), CAST(DATA AS UNSIGNED) FROM performance_schema.clone_progress")
        .map_err(|e| fail(&e))?;
    let mut found = Progress::default();
    for (stage, state, estimate, data) in rows {
        found.bytes += data;
        found.total += estimate.max(data);
        if state == "Not Started" {
            continue;
        }
        found.began = true; // DROP DATA is the first stage
        found.stage = stage;
    }
    Ok(Some(found))
}

/// What the server says of the last CLONE in place.
///
/// # Errors
/// If a query fails (1146 where the plugin is not loaded).
pub fn status(conn: &mut Conn) -> Result<Status> {
    let row: Option<Row> = conn
        .query_first("SELECT STATE, ERROR_MESSAGE, BINLOG_FILE, BINLOG_POSITION, GTID_EXECUTED FROM performance_schema.clone_status")
        .map_err(|e| fail(&e))?;
    let Some(row) = row else {
        return Ok(Status::default());
    };
    let text = |name: &str| {
        let value = row.get_opt::<Option<String>, _>(name);
        value
            .and_then(std::result::Result::ok)
            .flatten()
            .unwrap_or_default()
    };
    let recovered: Option<String> = conn
        .query_first("SELECT STATE FROM performance_schema.clone_progress WHERE STAGE = 'RECOVERY'")
        .map_err(|e| fail(&e))?;
    Ok(Status {
        state: text("STATE"),
        recovered: recovered.as_deref() == Some("Completed"),
        message: text("ERROR_MESSAGE"),
        file: text("BINLOG_FILE"),
        position: text("BINLOG_POSITION").parse().unwrap_or(0),
        gtid: text("GTID_EXECUTED"),
    })
}

/// Ends the CLONE of connection `id`, and waits until it has ended, at most eight seconds. Fine if none runs: a connection's
/// number may be somebody else's by now, so it is ended only if the server says that it is cloning.
///
/// # Errors
/// Transient: it runs on. If a query fails.
pub fn end(conn: &mut Conn, id: u64) -> Result<()> {
    for _ in 0..80 {
        let running: std::result::Result<Option<u64>, _> = conn.exec_first(
            "SELECT PID FROM performance_schema.clone_status WHERE STATE = 'In Progress' AND PID = ?",
            (id,),
        );
        match running {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(mysql::Error::MySqlError(e)) if e.code == 1146 => return Ok(()), // no plugin
            Err(e) => return Err(fail(&e)),
        }
        // Again and again: not every part of it hears the first one.
        if let Err(e) = conn.query_drop(format!("KILL QUERY {id}")) {
            log::debug!("KILL QUERY {id}: {e}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Error::transient(format!(
        "the CLONE of connection {id} does not end: KILL {id}"
    )))
}

/// How many sessions of `user` from this host a source serves with a CLONE. With `kill` they are told to end.
///
/// # Errors
/// If the process list cannot be read.
pub fn served(conn: &mut Conn, user: &str, kill: bool) -> Result<usize> {
    let rows: Vec<(u64, String, String)> = conn
        .exec(
            "SELECT ID, SUBSTRING_INDEX(HOST, ':', 1), COMMAND FROM information_schema.PROCESSLIST WHERE USER = ?",
            (user,),
        )
        .map_err(|e| fail(&e))?;
    let here: Option<String> = conn
        .query_first(
            "SELECT SUBSTRING_INDEX(HOST, ':', 1) FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()",
        )
        .map_err(|e| fail(&e))?;
    let mut found = 0;
    for (id, host, command) in rows {
        let command = command.to_ascii_lowercase();
        if Some(host) != here || !matches!(command.as_str(), "clone" | "killed") {
            continue;
        }
        found += 1;
        if kill && let Err(e) = conn.query_drop(format!("KILL {id}")) {
            log::debug!("KILL {id}: {e}"); // it may have gone since; whoever calls looks again
        }
    }
    Ok(found)
}
