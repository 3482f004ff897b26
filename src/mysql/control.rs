//! Statements that change a server. None is written to the binary log: the caller's session has it off.

use super::profile::{self, Global, Variables, Want};
use super::{PendingRestore, Restore, Server, Session, cause, clone, info, query};
use super::{quote_account, quote_name, quote_text};
use crate::error::{Error, MysqlError, Result};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::time::Duration;

/// Runs a statement without a result; the error has its first words.
pub(crate) fn execute(conn: &mut Conn, statement: &str) -> Result<()> {
    conn.query_drop(statement).map_err(|e| {
        // Never more than the first words: the rest may hold a password.
        let head: Vec<&str> = statement.split_whitespace().take(3).collect();
        Error::Mysql(Box::new(MysqlError {
            purpose: head.join(" "),
            cause: cause(&e),
            ..MysqlError::default()
        }))
    })
}

/// Keeps this session's statements out of the binary log (needs SUPER or BINLOG ADMIN).
pub(crate) fn binlog_off(conn: &mut Conn) -> Result<()> {
    execute(conn, "SET SESSION sql_log_bin = 0")
}

/// Whether the server can load without a redo log and has one now (MySQL 8.0.21 and later).
pub(crate) fn has_redo_log(conn: &mut Conn) -> Result<bool> {
    let row: Option<(String, String)> =
        query::first(conn, "SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'")?;
    Ok(row.is_some_and(|(_, value)| value == "ON"))
}

/// Enables the redo log again if it is disabled (needs INNODB_REDO_LOG_ENABLE). Takes as long as the server needs to write its
/// pages. May be repeated.
pub(crate) fn enable_redo_log(conn: &mut Conn, pending: &PendingRestore) -> Result<()> {
    if pending.has_redo_log() {
        execute(conn, "ALTER INSTANCE ENABLE INNODB REDO_LOG")?;
    }
    Ok(())
}

/// The persisted value of variable `name` (SET PERSIST, MySQL 8.0 and later), for the record.
pub(crate) fn persisted(conn: &mut Conn, name: &str) -> Result<Restore> {
    let select = format!(
        "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = {}",
        quote_text(name)
    );
    let value: Option<String> = query::first(conn, select)?;
    let (name, value) = (name.into(), value.filter(|v| !v.is_empty()));
    Ok(Restore::Persisted { name, value })
}

/// Gives a variable a value that outlives a restart; `None`: that of the my.cnf. Needs SYSTEM_VARIABLES_ADMIN, for some variables
/// PERSIST_RO_VARIABLES_ADMIN. May be repeated.
pub(crate) fn persist(conn: &mut Conn, name: &str, value: Option<&str>) -> Result<()> {
    let name = quote_name(name);
    let statement = match value {
        None => format!("RESET PERSIST IF EXISTS {name}"),
        // It needs the second privilege for any variable.
        Some(value) if name.starts_with("`skip_") => format!("SET PERSIST_ONLY {name} = {value}"),
        Some(value) => format!("SET PERSIST {name} = {value}"),
    };
    execute(conn, &statement)
}

/// The present values of those of [`profile::GLOBAL`] that a load changes, with a source whose values are `of_source`. To be recorded before [`relax`] is called.
pub(crate) fn to_restore(conn: &mut Conn, of_source: &Variables) -> Result<Vec<Restore>> {
    let present = profile::variables(conn, true)?;
    let global = |g: &Global| {
        let value = present.get(g.name)?;
        let changes = g.load == Want::Keep || g.change(value, of_source).is_some();
        let (name, value) = (g.name.into(), value.clone());
        changes.then_some(Restore::Global { name, value })
    };
    Ok(profile::GLOBAL.iter().filter_map(global).collect())
}

/// Gives the variables of `pending` their values for a load, and disables the redo log if that is pending. May be repeated.
pub(crate) fn relax(
    conn: &mut Conn,
    pending: &PendingRestore,
    of_source: &Variables,
) -> Result<()> {
    for g in profile::GLOBAL {
        if let Some(value) = pending.global(g.name).and_then(|v| g.change(v, of_source)) {
            execute(conn, &format!("SET GLOBAL {} = {value}", g.name))?;
        }
    }
    if pending.has_redo_log() {
        const NEEDS: &str =
            "mysql.load-without-redo-log = true needs the privilege INNODB_REDO_LOG_ENABLE";
        execute(conn, "ALTER INSTANCE DISABLE INNODB REDO_LOG").map_err(|e| e.context(NEEDS))?;
    }
    Ok(())
}

/// Restores everything. May be repeated. Continues after a failure and returns the first one.
pub(crate) fn restore(conn: &mut Conn, pending: &PendingRestore) -> Result<()> {
    let mut first = Ok(());
    for change in pending.iter() {
        let done = match change {
            Restore::RunningClone { connection } => clone::end(conn, *connection),
            Restore::RedoLog => enable_redo_log(conn, pending),
            // Sets the present value as well.
            Restore::Persisted { name, value } => persist(conn, name, value.as_deref()),
            Restore::Global { name, value } => set_global(conn, name, value),
        };
        first = first.and(done);
    }
    first
}

fn set_global(conn: &mut Conn, name: &str, value: &str) -> Result<()> {
    let literal = if value.is_empty() && name.starts_with("clone_") {
        "NULL".to_string() // no list of donors is not an empty one (3869)
    } else {
        profile::literal(value)
    };
    let set = format!("SET GLOBAL {} = {literal}", quote_name(name));
    execute(conn, &set)
}

/// Disables every enabled event, as a replica has them: definer, character set and collation stay as they are. Returns how many were
/// changed. Needs EVENT and SET USER or SUPER. May be repeated.
pub(crate) fn disable_events(conn: &mut Conn, server: Server) -> Result<usize> {
    type Event = (String, String, String, String, String);
    if info::global(conn, "event_scheduler")?.is_some_and(|v| v.eq_ignore_ascii_case("DISABLED")) {
        return Ok(0); // none can run, and every statement on them is refused (1577)
    }
    let events: Vec<Event> = query::rows(
        conn,
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION FROM information_schema.EVENTS \
         WHERE STATUS = 'ENABLED'",
    )?;
    for (schema, name, definer, charset, collation) in &events {
        let statement = format!(
            "ALTER DEFINER = {} EVENT {}.{} {}",
            quote_account(definer),
            quote_name(schema),
            quote_name(name),
            server.disable_event()
        );
        in_charset_of_event(conn, server, &statement, charset, collation)
            .map_err(|e| e.context(format!("event {schema}.{name}")))?;
    }
    Ok(events.len())
}

/// ALTER EVENT writes the session's character set over the event's, so the session takes the event's for that moment. MariaDB gets the
/// statement in a variable before, because names in it may not be ASCII; where that cannot be done (MySQL) such a statement keeps
/// utf8mb4.
fn in_charset_of_event(
    conn: &mut Conn,
    server: Server,
    statement: &str,
    charset: &str,
    collation: &str,
) -> Result<()> {
    let by_variable = server.maria_from(10, 6, 2);
    if !by_variable && !statement.is_ascii() {
        return execute(conn, statement);
    }
    let mut text = statement;
    if by_variable {
        let set = format!("SET @orchestrator_agent = {}", quote_text(statement));
        execute(conn, &set)?;
        text = "EXECUTE IMMEDIATE @orchestrator_agent";
    }
    let of_event =
        format!("SET SESSION character_set_client = {charset}, collation_connection = {collation}");
    execute(conn, &of_event)?;
    let done = execute(conn, text);
    execute(conn, "SET NAMES utf8mb4")?;
    done
}

/// Ends the connections of account `user` from this host whose client port is among `ports`. Returns how many were found.
pub(crate) fn kill_ports(conn: &mut Conn, user: &str, ports: &[u16]) -> Result<usize> {
    // This host as the server sees it: another host may have the same account and the same port.
    let here = Session::own(conn)?.host;
    kill(conn, user, |_, client| {
        let client = Session::parse(client);
        client.host == here && client.port.is_some_and(|p| ports.contains(&p))
    })
}

/// The connections of account `user`, this one left out: number, client address with port, and whether it runs no statement.
pub(crate) fn connections_at_rest(conn: &mut Conn, user: &str) -> Result<Vec<(u64, String, bool)>> {
    let list = format!(
        "SELECT ID, HOST, COMMAND = 'Sleep' FROM information_schema.PROCESSLIST WHERE USER = {} AND ID <> CONNECTION_ID()",
        quote_text(user)
    );
    query::rows(conn, list)
}

/// Ends those of the other connections of account `user` that `which` chooses by number and client address. Returns how many were
/// found.
pub(crate) fn kill(
    conn: &mut Conn,
    user: &str,
    which: impl Fn(u64, &str) -> bool,
) -> Result<usize> {
    let all = connections_at_rest(conn, user)?;
    let mut found = 0;
    for (id, ..) in all.iter().filter(|(id, host, _)| which(*id, host)) {
        found += 1;
        // It may have ended since; the caller checks again.
        if let Err(e) = conn.query_drop(format!("KILL {id}")) {
            log::debug!("KILL {id}: {e}");
        }
    }
    Ok(found)
}

/// Calls `count`, which ends connections of ours and returns how many are left on the server, until there are none, at most five
/// seconds: a server needs a moment to end them. Transient if some are still there.
pub(crate) fn wait_until_gone(mut count: impl FnMut() -> Result<usize>) -> Result<()> {
    for _ in 0..50 {
        if count()? == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Error::transient(
        "connections of ours still run on the server",
    ))
}
