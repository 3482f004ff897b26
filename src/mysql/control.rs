//! Statements that change a server. None is written to the binary log: the caller's session has it off.

use super::profile::{self, Want};
use super::{
    Flavour, PendingRestore, Restore, Server, Version, cause, clone, info, query, quote_account,
    quote_name, quote_text,
};
use crate::error::{Error, MysqlError, Result};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Runs a statement without a result.
///
/// # Errors
/// The server's, with the beginning of the statement.
pub(crate) fn execute(conn: &mut Conn, statement: &str) -> Result<()> {
    conn.query_drop(statement).map_err(|e| {
        // Never more than the first words: the rest may hold a password.
        let head: Vec<&str> = statement.split_whitespace().take(3).collect();
        Error::Mysql(Box::new(MysqlError {
            server: "this connection".into(),
            purpose: head.join(" "),
            cause: cause(&e),
            ..MysqlError::default()
        }))
    })
}

/// Keeps this session's statements out of the binary log.
///
/// # Errors
/// If the account may not (SUPER or BINLOG ADMIN).
pub(crate) fn binlog_off(conn: &mut Conn) -> Result<()> {
    execute(conn, "SET SESSION sql_log_bin = 0")
}

/// Whether the server can load without a redo log and has one now (MySQL 8.0.21 and later).
pub(crate) fn has_redo_log(conn: &mut Conn) -> Result<bool> {
    let row: Option<(String, String)> =
        query::first(conn, "SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'")?;
    Ok(row.is_some_and(|(_, value)| value == "ON"))
}

/// Enables the redo log again if it is disabled. Takes as long as the server needs to write its pages. May be repeated.
///
/// # Errors
/// If the account may not (INNODB_REDO_LOG_ENABLE).
pub(crate) fn enable_redo_log(conn: &mut Conn, pending: &PendingRestore) -> Result<()> {
    if pending.has_redo_log() {
        execute(conn, "ALTER INSTANCE ENABLE INNODB REDO_LOG")
    } else {
        Ok(())
    }
}

/// The persisted value of variable `name` (SET PERSIST, MySQL 8.0 and later), for the record.
pub(crate) fn persisted(conn: &mut Conn, name: &str) -> Result<Restore> {
    let value: Option<String> = query::first(
        conn,
        format!(
            "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = {}",
            quote_text(name)
        ),
    )?;
    Ok(Restore::Persisted {
        name: name.into(),
        value: value.filter(|v| !v.is_empty()),
    })
}

/// Gives a variable a value that outlives a restart; `None`: that of the my.cnf. May be repeated.
///
/// # Errors
/// If the account may not (SYSTEM_VARIABLES_ADMIN, for some variables PERSIST_RO_VARIABLES_ADMIN).
pub(crate) fn persist(conn: &mut Conn, name: &str, value: Option<&str>) -> Result<()> {
    let name = quote_name(name);
    let statement = match value {
        None => format!("RESET PERSIST IF EXISTS {name}"),
        Some(value) => {
            // PERSIST_ONLY needs the second privilege for any variable.
            let word = if name.starts_with("`skip_") {
                "PERSIST_ONLY"
            } else {
                "PERSIST"
            };
            format!("SET {word} {name} = {value}")
        }
    };
    execute(conn, &statement)
}

/// The present values of those of [`profile::GLOBAL`] that a load changes, with a source whose values are `of_source`. To be recorded before [`relax`] is called.
pub(crate) fn to_restore(
    conn: &mut Conn,
    of_source: &BTreeMap<String, String>,
) -> Result<Vec<Restore>> {
    let present = profile::variables(conn, true)?;
    let mut out = Vec::new();
    for g in profile::GLOBAL {
        let Some(value) = present.get(g.name) else {
            continue;
        };
        if g.load == Want::Keep || g.change(value, of_source).is_some() {
            out.push(Restore::Global {
                name: g.name.into(),
                value: value.clone(),
            });
        }
    }
    Ok(out)
}

/// Gives the variables of `pending` their values for a load, and disables the redo log if that is pending. May be repeated.
///
/// # Errors
/// If the account may not.
pub(crate) fn relax(
    conn: &mut Conn,
    pending: &PendingRestore,
    of_source: &BTreeMap<String, String>,
) -> Result<()> {
    for g in profile::GLOBAL {
        if let Some(value) = pending.global(g.name).and_then(|v| g.change(v, of_source)) {
            execute(conn, &format!("SET GLOBAL {} = {value}", g.name))?;
        }
    }
    if pending.has_redo_log() {
        execute(conn, "ALTER INSTANCE DISABLE INNODB REDO_LOG").map_err(|e| {
            e.context(
                "mysql.load-without-redo-log = true needs the privilege INNODB_REDO_LOG_ENABLE",
            )
        })?;
    }
    Ok(())
}

/// Restores everything. May be repeated. Continues after a failure and returns the first one.
///
/// # Errors
/// If the account may not.
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
    let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let literal = if number {
        value.to_string()
    } else if value.is_empty() && name.starts_with("clone_") {
        "NULL".to_string() // no list of donors is not an empty one (3869)
    } else {
        quote_text(value)
    };
    execute(
        conn,
        &format!("SET GLOBAL {} = {literal}", quote_name(name)),
    )
}

/// Disables every enabled event, as a replica has them: definer, character set and collation stay as they are. Returns how many were
/// changed. May be repeated.
///
/// # Errors
/// If one cannot be altered (EVENT and SET USER or SUPER are needed).
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
    let by_variable = server.flavour == Flavour::MariaDb && server.version >= Version(10, 6, 2);
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
    let own: Option<String> = query::first(
        conn,
        "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()",
    )?;
    let own = own.unwrap_or_default();
    // This host as the server sees it: another host may have the same account and the same port.
    let here = own.rsplit_once(':').map_or(own.as_str(), |(h, _)| h);
    kill(conn, user, |_, host| {
        host.rsplit_once(':')
            .is_some_and(|(h, p)| h == here && p.parse().is_ok_and(|p: u16| ports.contains(&p)))
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

/// Ends the connection of account `user` with this number. Returns how many were found.
pub(crate) fn kill_connection(conn: &mut Conn, user: &str, id: u64) -> Result<usize> {
    kill(conn, user, |i, _| i == id)
}

/// Numbers of the connections of account `user`, this one left out.
pub(crate) fn connections(conn: &mut Conn, user: &str) -> Result<BTreeSet<u64>> {
    let all = connections_at_rest(conn, user)?.into_iter();
    Ok(all.map(|(id, ..)| id).collect())
}

/// Ends the connections of account `user` through the unix socket that are not among `known`. Returns how many were found.
pub(crate) fn kill_socket_connections(
    conn: &mut Conn,
    user: &str,
    known: &BTreeSet<u64>,
) -> Result<usize> {
    kill(conn, user, |id, host| {
        host == "localhost" && !known.contains(&id)
    })
}

fn kill(conn: &mut Conn, user: &str, which: impl Fn(u64, &str) -> bool) -> Result<usize> {
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
/// seconds: a server needs a moment to end them.
///
/// # Errors
/// Those of `count`; transient if some are still there.
pub fn wait_until_gone(mut count: impl FnMut() -> Result<usize>) -> Result<()> {
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
