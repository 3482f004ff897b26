//! A server's own CLONE: the state of one that runs, and how it is ended (MySQL 8.0.17 and later).

use super::{Session, query, quote_text};
use crate::error::{Error, Result};
use mysql::{Conn, Row};
use std::time::Duration;

/// ER_NO_SUCH_TABLE: the plugin is not loaded.
pub(crate) const NO_SUCH_TABLE: u16 = 1146;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// `FILE COPY` and so on; empty before the first one.
    pub(crate) stage: String,
    /// True once it has begun to delete the data of the server that it runs in, if it does that at all.
    pub(crate) began: bool,
    pub(crate) bytes: u64,
    /// Bytes expected, as far as estimated.
    pub(crate) total: u64,
}

/// How a CLONE in place has ended, after the server's restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// `Completed`, `Failed`, `In Progress`
    pub(crate) state: String,
    /// The server runs on the copy.
    pub(crate) recovered: bool,
    /// Of a failure.
    pub(crate) message: String,
    /// Binary log, position and executed GTID set of the source.
    pub(crate) file: String,
    pub(crate) position: u64,
    pub(crate) gtid: String,
}

/// How far the CLONE of connection `id` is; `None` if the server does not show it.
pub(crate) fn progress(conn: &mut Conn, id: u64) -> Result<Option<Progress>> {
    let ours: Option<u64> = query::first(conn, "SELECT PID FROM performance_schema.clone_status")?;
    if ours != Some(id) {
        return Ok(None); // what it shows is an earlier one
    }
    let rows: Vec<(String, String, u64, u64)> = query::rows(
        conn,
        "SELECT STAGE, STATE, CAST(ESTIMATE AS UNSIGNED), CAST(DATA AS UNSIGNED) FROM performance_schema.clone_progress",
    )?;
    let mut found = Progress::default();
    for (stage, state, estimate, data) in rows {
        found.bytes += data;
        found.total += estimate.max(data);
        if state != "Not Started" {
            found.began = true; // DROP DATA is the first stage
            found.stage = stage;
        }
    }
    Ok(Some(found))
}

/// The state of the last CLONE in place. [`NO_SUCH_TABLE`] where the plugin is not loaded.
pub(crate) fn status(conn: &mut Conn) -> Result<Status> {
    let row: Option<Row> = query::first(
        conn,
        "SELECT STATE, ERROR_MESSAGE, BINLOG_FILE, BINLOG_POSITION, GTID_EXECUTED FROM performance_schema.clone_status",
    )?;
    let Some(row) = row else {
        return Ok(Status::default());
    };
    let text = |name: &str| query::text(&row, name);
    let recovered: Option<String> = query::first(
        conn,
        "SELECT STATE FROM performance_schema.clone_progress WHERE STAGE = 'RECOVERY'",
    )?;
    Ok(Status {
        state: text("STATE"),
        recovered: recovered.as_deref() == Some("Completed"),
        message: text("ERROR_MESSAGE"),
        file: text("BINLOG_FILE"),
        position: text("BINLOG_POSITION").parse().unwrap_or(0),
        gtid: text("GTID_EXECUTED"),
    })
}

/// Ends the CLONE of connection `id`, and waits until it has ended, at most eight seconds. Ok if none runs: another client may have this
/// connection number by now, so it is ended only if the server shows it as cloning. Transient: it still runs.
pub(crate) fn end(conn: &mut Conn, id: u64) -> Result<()> {
    let running = format!(
        "SELECT PID FROM performance_schema.clone_status WHERE STATE = 'In Progress' AND PID = {id}"
    );
    for _ in 0..80 {
        match query::first::<u64>(conn, &running) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(e) if e.mysql_code() == Some(NO_SUCH_TABLE) => return Ok(()), // no plugin
            Err(e) => return Err(e),
        }
        // Repeated: not every part of it ends at the first one.
        if let Err(e) = query::run(conn, format!("KILL QUERY {id}")) {
            log::debug!("KILL QUERY {id}: {e}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = format!("the CLONE of connection {id} does not end: KILL {id}");
    Err(Error::transient(text))
}

/// How many sessions of `user` from this host a source serves with a CLONE. With `kill` they are killed.
pub(crate) fn served(conn: &mut Conn, user: &str, kill: bool) -> Result<usize> {
    let sessions = format!(
        "SELECT ID, HOST, COMMAND FROM information_schema.PROCESSLIST WHERE USER = {}",
        quote_text(user)
    );
    let rows: Vec<(u64, String, String)> = query::rows(conn, sessions)?;
    let here = Session::own(conn)?.host;
    let mut found = 0;
    for (id, host, command) in rows {
        let is_here = Session::parse(&host).host == here;
        if !is_here || !matches!(&*command.to_ascii_lowercase(), "clone" | "killed") {
            continue;
        }
        found += 1;
        if kill && let Err(e) = query::run(conn, format!("KILL {id}")) {
            log::debug!("KILL {id}: {e}"); // it may have ended since; the caller checks again
        }
    }
    Ok(found)
}
