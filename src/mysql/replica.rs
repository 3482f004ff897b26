//! A replica while its default channel is connected: statements that hold its account's password, and the wait until both threads run.

use super::applier::Channel;
use super::{Flavour, Server, cause, info, quote_text};
use crate::config::Secret;
use crate::error::{Cause, Error, MysqlError, Result, shortened};
use crate::process::Cancel;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

/// The source does not have the binary log that the target requests; 13114 is what MySQL 8.0 and later make of 1236.
pub(crate) const BINLOG_GONE: [u32; 2] = [1236, 13114];
/// How long both threads may take to run.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two queries of one state.
const PAUSE: Duration = Duration::from_secs(1);
/// Longer statements are shown in messages by their first characters.
const SHOWN: (usize, usize) = (300, 60);

/// Runs a statement. The password in it appears neither in an error nor, if the account may prevent it, in the general query log.
pub(crate) fn run_with_password(
    conn: &mut Conn,
    server: Server,
    statement: &str,
    password: Option<&Secret>,
) -> Result<()> {
    if password.is_some()
        && logs_passwords(conn, server)?
        && let Err(e) = conn.query_drop("SET SESSION sql_log_off = 1")
    {
        log::warn!(
            "general_log is ON, and the account lacks SUPER to keep CHANGE MASTER out of it ({e}): the password of the replication account \
             is written into that log"
        );
    }
    let done = conn.query_drop(statement);
    done.map_err(|e| failed(statement, password, &e))
}

/// Whether a password in a statement would be written to a log: MariaDB's general query log has CHANGE MASTER as it is; MySQL
/// replaces passwords (manual, Passwords and Logging).
pub(crate) fn logs_passwords(conn: &mut Conn, server: Server) -> Result<bool> {
    Ok(server.flavour == Flavour::MariaDb && info::is_on(conn, "general_log")?)
}

/// The error of a statement without the password in it.
pub(crate) fn failed(statement: &str, password: Option<&Secret>, e: &mysql::Error) -> Error {
    let mut cause = cause(e);
    if let Cause::Server { message, .. } | Cause::Unreachable(message) = &mut cause {
        *message = hidden(message, password);
    }
    let mut purpose = hidden(statement, password);
    if purpose.chars().count() > SHOWN.0 {
        purpose = purpose.chars().take(SHOWN.1).collect::<String>() + " ...";
    }
    Error::Mysql(Box::new(MysqlError {
        purpose,
        cause,
        ..MysqlError::default()
    }))
}

/// A text without the literal that is the password.
pub(crate) fn hidden(text: &str, password: Option<&Secret>) -> String {
    password.map_or(text.into(), |password| {
        text.replace(&quote_text(password.reveal()), "(password)")
    })
}

/// Polls the channel until both threads were seen running twice in a row: a thread with a wrong start stops within its first events. The
/// error is permanent: what the threads report after 60 seconds at most.
pub(crate) fn wait_until_it_runs(
    mut poll: impl FnMut() -> Result<Channel>,
    cancel: &Cancel,
) -> Result<Channel> {
    let begin = Instant::now();
    let mut ran = false;
    loop {
        let c = poll()?;
        let runs = c.io_state == "Yes" && c.sql_state == "Yes";
        if runs && ran {
            return Ok(c);
        }
        ran = runs;
        if let Some(e) = failure(&c, begin.elapsed() >= LIMIT) {
            return Err(e);
        }
        if !cancel.sleep(PAUSE) {
            return Err(Error::cancelled());
        }
    }
}

/// For a stage's Details.
pub(crate) fn running_line(c: &Channel) -> String {
    let lag = c
        .lag
        .map_or("unknown time".into(), |s| format!("{s} seconds"));
    let (io, sql) = (&c.io_state, &c.sql_state);
    format!("Replication: IO thread {io}, SQL thread {sql}, {lag} behind")
}

/// Why it is useless to wait longer: a thread has stopped with an error, the login was refused, or the time is over.
fn failure(c: &Channel, late: bool) -> Option<Error> {
    let refused = c.io_error.0 == 1045;
    let stopped = !c.io && c.io_error.0 != 0 || !c.sql && c.error.0 != 0;
    if !late && !refused && !stopped {
        return None;
    }
    let mut text = format!("IO thread {}, SQL thread {}", c.io_state, c.sql_state);
    for (name, (code, message)) in [("Last_IO_Error", &c.io_error), ("Last_SQL_Error", &c.error)] {
        if *code != 0 {
            text += &format!(", {name} {code}: {}", shortened(message));
        }
    }
    if BINLOG_GONE.contains(&c.io_error.0) {
        text += "; if the source has purged the binary logs from which the copy goes on, raise binlog_expire_logs_seconds there \
             (expire_logs_days before MariaDB 10.6 and MySQL 8.0) and run a new seed";
    }
    if late {
        text += &format!(" after {} s", LIMIT.as_secs());
    }
    Some(Error::permanent(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_never_shows_its_password() {
        let password = Secret::new("ge'heim");
        let text = "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD='ge''heim'";
        assert_eq!(
            hidden(text, Some(&password)),
            "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD=(password)"
        );
        assert_eq!(
            hidden("near 'ge''heim' at line 1", Some(&password)),
            "near (password) at line 1"
        );
        assert_eq!(hidden("STOP SLAVE", None), "STOP SLAVE");
    }

    #[test]
    fn what_threads_report() {
        let c = |io: &str, io_code, sql: &str, sql_code| Channel {
            io: io != "No",
            sql: sql != "No",
            io_state: io.into(),
            sql_state: sql.into(),
            io_error: (io_code, "io text".into()),
            error: (sql_code, "sql text".into()),
            lag: Some(3),
            ..Channel::default()
        };
        assert_eq!(
            running_line(&c("Yes", 0, "Yes", 0)),
            "Replication: IO thread Yes, SQL thread Yes, 3 seconds behind"
        );
        assert!(
            failure(&c("Connecting", 2003, "Yes", 0), false).is_none(),
            "it tries again by itself"
        );
        assert!(failure(&c("Preparing", 0, "No", 0), false).is_none());
        let text = |c: &Channel, late| failure(c, late).unwrap().to_string();
        assert_eq!(
            text(&c("No", 1593, "Yes", 0), false),
            "IO thread No, SQL thread Yes, Last_IO_Error 1593: io text"
        );
        let gone = text(&c("No", 1236, "Yes", 0), false);
        assert!(
            gone.contains("1236: io text; if") && gone.contains("binlog_expire_logs_seconds"),
            "{gone}"
        );
        assert_eq!(
            text(&c("Yes", 0, "No", 1062), false),
            "IO thread Yes, SQL thread No, Last_SQL_Error 1062: sql text"
        );
        assert!(text(&c("Connecting", 1045, "Yes", 0), false).contains("1045"));
        assert!(text(&c("Connecting", 0, "Yes", 0), true).ends_with("after 60 s"));
    }

    #[test]
    fn running_is_seen_twice_in_a_row() {
        let state = |sql: &str, error| Channel {
            io: true,
            sql: sql == "Yes",
            io_state: "Yes".into(),
            sql_state: sql.into(),
            error: (error, String::new()),
            ..Channel::default()
        };
        let wait = |states: Vec<Channel>| {
            let mut states = states.into_iter();
            let poll = || Ok(states.next().unwrap());
            wait_until_it_runs(poll, &Cancel::default())
        };
        let (yes, no) = (state("Yes", 0), state("No", 0));
        assert!(wait(vec![yes.clone(), no, yes.clone(), yes.clone()]).is_ok());
        let e = wait(vec![yes, state("No", 1062)]).unwrap_err();
        assert!(e.to_string().contains("Last_SQL_Error 1062"), "{e}");
    }
}
