//! Statements that change a server. Each writes nothing to the binary log: the caller's session has it off.

use super::profile::{self, Want};
use super::{
    Flavour, Server, Version, clone, failure, info, quote_account, quote_name, quote_text,
};
use crate::error::Result;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};

/// Runs a statement without a result.
///
/// # Errors
/// The server's, with the beginning of the statement.
pub fn execute(conn: &mut Conn, statement: &str) -> Result<()> {
    conn.query_drop(statement).map_err(|e| {
        // Never more than the first words: the rest may hold a password.
        let head: String = statement
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ");
        failure("this connection", "", &e).context(head)
    })
}

/// Keeps this session's statements out of the binary log.
///
/// # Errors
/// If the account may not (SUPER or BINLOG ADMIN).
pub fn binlog_off(conn: &mut Conn) -> Result<()> {
    execute(conn, "SET SESSION sql_log_bin = 0")
}

/// In the record of what must be put back, the name of a redo log that was switched off. It is no variable.
const REDO_LOG: &str = "innodb redo log";

/// Whether the server can load without a redo log and has one now (MySQL 8.0.21 and later).
///
/// # Errors
/// If the query fails.
pub fn has_redo_log(conn: &mut Conn) -> Result<bool> {
    let row: Option<(String, String)> = conn
        .query_first("SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'")
        .map_err(|e| failure("this connection", "", &e))?;
    Ok(row.is_some_and(|(_, value)| value == "ON"))
}

/// What the record of settings to put back says of a redo log that will be switched off by [`relax`].
pub fn redo_log_to_put_back() -> (String, String) {
    (REDO_LOG.into(), "ENABLE".into())
}

/// Switches the redo log on again if `values` say that it is off. Takes as long as the server needs to write its pages. May be
/// repeated.
///
/// # Errors
/// If the account may not (INNODB_REDO_LOG_ENABLE).
pub fn redo_log_on(conn: &mut Conn, values: &BTreeMap<String, String>) -> Result<()> {
    match values.contains_key(REDO_LOG) {
        true => execute(conn, "ALTER INSTANCE ENABLE INNODB REDO_LOG"),
        false => Ok(()),
    }
}

/// In the record of what must be put back, what stands before the name of a variable whose persisted value was changed; its value
/// there is empty if none was persisted.
const PERSISTED: &str = "persisted ";

/// What the record of settings to put back says of the persisted value of variable `name` (SET PERSIST, MySQL 8.0 and later).
///
/// # Errors
/// If the query fails.
pub fn persisted_to_put_back(conn: &mut Conn, name: &str) -> Result<(String, String)> {
    let value: Option<String> = conn
        .exec_first(
            "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = ?",
            (name,),
        )
        .map_err(|e| failure("this connection", "", &e))?;
    Ok((format!("{PERSISTED}{name}"), value.unwrap_or_default()))
}

/// Gives a variable a value that outlives a restart; an empty one: what the my.cnf says. May be repeated.
///
/// # Errors
/// If the account may not (SYSTEM_VARIABLES_ADMIN, for some variables PERSIST_RO_VARIABLES_ADMIN).
pub fn persist(conn: &mut Conn, name: &str, value: &str) -> Result<()> {
    let name = quote_name(name);
    let statement = match value {
        "" => format!("RESET PERSIST IF EXISTS {name}"),
        value => {
            // PERSIST_ONLY takes the second privilege for any variable.
            let word = match name.starts_with("`skip_") {
                true => "PERSIST_ONLY",
                false => "PERSIST",
            };
            format!("SET {word} {name} = {value}")
        }
    };
    execute(conn, &statement)
}

/// The present values of those of [`profile::GLOBAL`] that a load changes, with a source whose values are `of_source`. To be recorded before [`relax`] is called.
///
/// # Errors
/// If a query fails.
pub fn to_put_back(
    conn: &mut Conn,
    of_source: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let present = profile::variables(conn, true)?;
    let mut out = BTreeMap::new();
    for g in profile::GLOBAL {
        let Some(value) = present.get(g.name) else {
            continue;
        };
        if g.load == Want::Keep || g.change(value, of_source).is_some() {
            out.insert(g.name.to_string(), value.clone());
        }
    }
    Ok(out)
}

/// Sets the variables named in `present` to their values while loading. May be repeated.
///
/// # Errors
/// If the account may not.
pub fn relax(
    conn: &mut Conn,
    present: &BTreeMap<String, String>,
    of_source: &BTreeMap<String, String>,
) -> Result<()> {
    for g in profile::GLOBAL {
        if let Some(value) = present.get(g.name).and_then(|v| g.change(v, of_source)) {
            execute(conn, &format!("SET GLOBAL {} = {value}", g.name))?;
        }
    }
    if present.contains_key(REDO_LOG) {
        execute(conn, "ALTER INSTANCE DISABLE INNODB REDO_LOG").map_err(|e| {
            e.context(
                "mysql.load-without-redo-log = true needs the privilege INNODB_REDO_LOG_ENABLE",
            )
        })?;
    }
    Ok(())
}

/// Sets everything back, `read_only` before `super_read_only`, which implies it. May be repeated. Goes on after a failure
/// and returns the first one.
///
/// # Errors
/// If the account may not.
pub fn put_back(conn: &mut Conn, values: &BTreeMap<String, String>) -> Result<()> {
    let mut first = redo_log_on(conn, values);
    for (name, value) in values {
        if let Some(name) = name.strip_prefix(PERSISTED) {
            let done = persist(conn, name, value); // sets the present value as well
            first = first.and(done);
        }
    }
    for (name, value) in values {
        if name == REDO_LOG || name.starts_with(PERSISTED) {
            continue;
        }
        if name == clone::RUNNING {
            let done = clone::end(conn, value.parse().unwrap_or(0));
            first = first.and(done);
            continue;
        }
        let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let literal = if number {
            value.clone()
        } else if value.is_empty() && name.starts_with("clone_") {
            "NULL".to_string() // no list of donors is not an empty one (3869)
        } else {
            quote_text(value)
        };
        let done = execute(
            conn,
            &format!("SET GLOBAL {} = {literal}", quote_name(name)),
        );
        if first.is_ok() {
            first = done;
        }
    }
    first
}

/// Keeps every enabled event from running here, as a replica has them: definer, character set and collation stay as they
/// are. Returns how many were changed. May be repeated.
///
/// # Errors
/// If one cannot be altered (EVENT and SET USER or SUPER are needed).
pub fn disable_events(conn: &mut Conn, server: Server) -> Result<usize> {
    type Event = (String, String, String, String, String);
    if info::global(conn, "event_scheduler")?.is_some_and(|v| v.eq_ignore_ascii_case("DISABLED")) {
        return Ok(0); // none can run, and every statement on them is refused (1577)
    }
    let events: Vec<Event> = conn
        .query(
            "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION FROM information_schema.EVENTS \
             WHERE STATUS = 'ENABLED'",
        )
        .map_err(|e| failure("this connection", "", &e))?;
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

/// ALTER EVENT writes the session's character set over the event's, so the session takes the event's for that moment. MariaDB
/// is given the statement in a variable before, because names in it may not be ASCII; where that cannot be done (MySQL) such
/// a statement keeps utf8mb4.
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
        execute(
            conn,
            &format!("SET @orchestrator_agent = {}", quote_text(statement)),
        )?;
        text = "EXECUTE IMMEDIATE @orchestrator_agent";
    }
    execute(
        conn,
        &format!(
            "SET SESSION character_set_client = {charset}, collation_connection = {collation}"
        ),
    )?;
    let done = execute(conn, text);
    execute(conn, "SET NAMES utf8mb4")?;
    done
}

/// Ends the connections of account `user` from this host whose client port is among `ports`. Returns how many were found.
///
/// # Errors
/// If the process list cannot be read.
pub fn kill_ports(conn: &mut Conn, user: &str, ports: &[u16]) -> Result<usize> {
    let own: Option<String> = conn
        .query_first("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
        .map_err(|e| failure("this connection", "", &e))?;
    let own = own.unwrap_or_default();
    // This host as the server sees it: another host may have the same account and the same port.
    let here = own.rsplit_once(':').map_or(own.as_str(), |(h, _)| h);
    kill(conn, user, |_, host| {
        host.rsplit_once(':')
            .is_some_and(|(h, p)| h == here && p.parse().is_ok_and(|p: u16| ports.contains(&p)))
    })
}

/// The connections of account `user`, this one left out: number, client address with port, and whether it runs no statement.
///
/// # Errors
/// If the process list cannot be read.
pub fn connections_at_rest(conn: &mut Conn, user: &str) -> Result<Vec<(u64, String, bool)>> {
    conn.query(format!(
        "SELECT ID, HOST, COMMAND = 'Sleep' FROM information_schema.PROCESSLIST WHERE USER = {} AND ID <> CONNECTION_ID()",
        quote_text(user)
    ))
    .map_err(|e| failure("this connection", "", &e))
}

/// Ends the connection of account `user` with this number. Returns how many were found.
///
/// # Errors
/// If the process list cannot be read.
pub fn kill_connection(conn: &mut Conn, user: &str, id: u64) -> Result<usize> {
    kill(conn, user, |i, _| i == id)
}

/// Numbers of the connections of account `user`, this one left out.
///
/// # Errors
/// If the process list cannot be read.
pub fn connections(conn: &mut Conn, user: &str) -> Result<BTreeSet<u64>> {
    conn.query(format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {} AND ID <> CONNECTION_ID()",
        quote_text(user)
    ))
    .map(|ids: Vec<u64>| ids.into_iter().collect())
    .map_err(|e| failure("this connection", "", &e))
}

/// Ends the connections of account `user` through the unix socket that are not among `known`. Returns how many were found.
///
/// # Errors
/// If the process list cannot be read.
pub fn kill_socket_connections(
    conn: &mut Conn,
    user: &str,
    known: &BTreeSet<u64>,
) -> Result<usize> {
    kill(conn, user, |id, host| {
        host == "localhost" && !known.contains(&id)
    })
}

fn kill(conn: &mut Conn, user: &str, which: impl Fn(u64, &str) -> bool) -> Result<usize> {
    let rows: Vec<(u64, String)> = conn
        .query(format!(
            "SELECT ID, HOST FROM information_schema.PROCESSLIST WHERE USER = {} AND ID <> CONNECTION_ID()",
            quote_text(user)
        ))
        .map_err(|e| failure("this connection", "", &e))?;
    let mut found = 0;
    for (id, _) in rows.iter().filter(|(id, host)| which(*id, host)) {
        found += 1;
        // It may have gone since; whoever calls looks again.
        if let Err(e) = conn.query_drop(format!("KILL {id}")) {
            log::debug!("KILL {id}: {e}");
        }
    }
    Ok(found)
}
