//! Settings of the two servers of a logical seed: those that change what a copy is are set in its sessions, and what cannot be set is refused before the target is touched.

use crate::error::Result;
use crate::mysql::profile::{self, Assignment, Problem, Purpose, Trial};
use crate::mysql::{Endpoint, READABLE, Server, connect_plain, failure};
use crate::process::SessionInit;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// For a login and each statement.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Variables that change a dump of mariadb-dump, which takes no init command and does not set them itself (10.11.19: it sets max_statement_time, sql_mode, time_zone,
/// sql_quote_show_create, character_set_results and the isolation level).
const CHANGE_MARIADB_DUMP: [&str; 4] = [
    "character_set_client",
    "max_join_size",
    "sql_select_limit",
    "system_versioning_asof",
];

/// A read-only setting of a target with which it cannot be loaded, whatever the source has.
struct Unloadable {
    name: &'static str,
    when: fn(&str) -> bool,
    reason: &'static str,
    remedy: &'static str,
}

const UNLOADABLE: &[Unloadable] = &[
    Unloadable {
        name: "innodb_read_only",
        when: is_on,
        reason: "InnoDB takes no writes",
        remedy: "remove it from the server's my.cnf and restart it",
    },
    Unloadable {
        name: "innodb_force_recovery",
        when: |v| v != "0",
        reason: "InnoDB takes no writes in recovery mode",
        remedy: "remove it from the server's my.cnf and restart it",
    },
];

fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("ON")
}

/// What prevents a load into the server at `endpoint` or a dump of it: settings and missing privileges, each with its remedy. `of_source` are the source's values
/// by [`profile::for_load`], if they are known yet.
///
/// # Errors
/// If it cannot be reached or a query fails.
pub fn problems(
    endpoint: &Endpoint,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<(Vec<Problem>, Trial, Variables)> {
    let mut conn = connect_plain(endpoint, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    let mut present = profile::variables(&mut conn, false)?;
    let globals = profile::variables(&mut conn, true)?;
    for name in READABLE {
        if let Some(value) = globals.get(name) {
            present.insert(name.to_string(), value.clone());
        }
    }
    let list = profile::assignments(server, purpose, &present, of_source);
    let mut trial = profile::apply(&mut conn, server, list)?;
    let mut problems = std::mem::take(&mut trial.problems);
    problems.extend(profile::lacking(&mut conn, server, purpose, &globals)?);
    if purpose == Purpose::Load {
        for u in UNLOADABLE {
            if let Some(value) = globals.get(u.name).filter(|v| (u.when)(v)) {
                problems.push(Problem {
                    what: format!("{} is {value}: {}", u.name, u.reason),
                    remedy: u.remedy.into(),
                });
            }
        }
    }
    Ok((problems, trial, globals))
}

/// That a server can be dumped or loaded with its settings and the account's privileges. Returns its global variables.
///
/// # Errors
/// Permanent, with all that prevents it; as [`problems`].
pub fn check(who: &str, endpoint: &Endpoint, purpose: Purpose) -> Result<Variables> {
    let (problems, _, globals) = problems(endpoint, purpose, &Variables::new())?;
    profile::refuse(who, &problems)?;
    Ok(globals)
}

/// That this target can take the objects of this source: what [`check`] cannot know before the source is known. `source` is a session of it, `of_source` are its global
/// variables.
///
/// # Errors
/// Permanent, with all that prevents it; if a query fails.
pub fn check_pair(
    target: &Endpoint,
    source: &mut Conn,
    of_source: &Variables,
    schemas: &BTreeSet<String>,
) -> Result<()> {
    let (mut problems, trial, own) =
        problems(target, Purpose::Load, &profile::for_load(of_source))?;
    let value = |name: &str| own.get(name).map_or("", String::as_str);
    for fixed in trial.fixed {
        let name = fixed.row.name;
        // It is read-only before MySQL 8.0, and harms only columns that were made with ON.
        let column = match name {
            "explicit_defaults_for_timestamp" => first(
                source,
                "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMNS WHERE DATA_TYPE = 'timestamp' \
                 AND IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') LIMIT 1",
            )?,
            _ => String::new(),
        };
        if name == "explicit_defaults_for_timestamp" && column.is_empty() {
            continue;
        }
        let where_ = match column.as_str() {
            "" => String::new(),
            column => format!(", such as {column} of the source"),
        };
        problems.push(Problem::from(format!(
            "{name} is {} and read-only here, and must be {} for a load ({}{where_}): set it in the target's my.cnf and restart it",
            profile::shown(&fixed.present),
            fixed.value,
            fixed.row.reason
        )));
    }
    let disabled = listed(value("disabled_storage_engines"));
    if !disabled.is_empty() {
        // Before MySQL 8.0 a dump creates the tables of the server's own schema too.
        let engines = "SELECT ENGINE, MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)) FROM information_schema.TABLES WHERE ENGINE IS NOT NULL AND \
                       TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'sys') AND (TABLE_SCHEMA <> 'mysql' OR VERSION() LIKE '5.%') GROUP BY ENGINE";
        let rows: Vec<(String, String)> = source
            .query(engines)
            .map_err(|e| failure("the source", "", &e))?;
        for (engine, table) in rows {
            if disabled.contains(&engine.to_ascii_lowercase()) {
                problems.push(Problem::from(format!(
                    "disabled_storage_engines = {} forbids {engine}, and table {table} of the source would become one of another engine: remove {engine} from it in \
                     the target's my.cnf and restart it, or convert the source's tables",
                    value("disabled_storage_engines")
                )));
            }
        }
    }
    let page = |v: &str| v.parse::<u64>().unwrap_or(0);
    let (here, there) = (
        value("innodb_page_size"),
        of_source.get("innodb_page_size").map_or("", String::as_str),
    );
    if page(here) != 0 && page(here) < page(there) {
        problems.push(Problem::from(format!(
            "innodb_page_size is {here}, and {there} on the source: its rows and keys may not fit; initialise the target with innodb_page_size = {there}"
        )));
    }
    let ignored = listed(value("ignore_db_dirs"));
    for schema in schemas
        .iter()
        .filter(|s| ignored.contains(&s.to_ascii_lowercase()))
    {
        problems.push(Problem::from(format!(
            "ignore_db_dirs = {} hides schema {schema} of the source: remove it from the target's my.cnf and restart it",
            value("ignore_db_dirs")
        )));
    }
    if is_on(value("innodb_read_only_compressed")) {
        let table = first(
            source,
            "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE ENGINE = 'InnoDB' AND ROW_FORMAT = 'Compressed' LIMIT 1",
        )?;
        if !table.is_empty() {
            problems.push(Problem::from(format!(
                "innodb_read_only_compressed is ON, and table {table} of the source is ROW_FORMAT=COMPRESSED: set it to OFF in the target's my.cnf and restart it"
            )));
        }
    }
    // The history of versioned tables is loaded by a session that sets the clock.
    if !matches!(value("secure_timestamp"), "" | "NO" | "SUPER") {
        let table = first(
            source,
            "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_TYPE = 'SYSTEM VERSIONED' LIMIT 1",
        )?;
        if !table.is_empty() {
            problems.push(Problem::from(format!(
                "secure_timestamp is {}, and the history of table {table} of the source could not be loaded: set it to NO in the target's my.cnf and restart it",
                value("secure_timestamp")
            )));
        }
    }
    profile::refuse("the target", &problems)
}

fn first(conn: &mut Conn, query: &str) -> Result<String> {
    conn.query_first(query)
        .map(Option::unwrap_or_default)
        .map_err(|e| failure("the source", "", &e))
}

/// Items of a list in lower case.
fn listed(value: &str) -> BTreeSet<String> {
    value
        .split(',')
        .map(|v| v.trim().to_ascii_lowercase())
        .filter(|v| !v.is_empty())
        .collect()
}

/// What each session of a tool begins with, which works at `endpoint` for `purpose`.
///
/// # Errors
/// As [`problems`]; permanent if the server refuses one.
pub(crate) fn session_init(
    endpoint: &Endpoint,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<SessionInit> {
    let (problems, trial, _) = problems(endpoint, purpose, of_source)?;
    profile::refuse(&endpoint.name(), &problems)?;
    Ok(trial
        .taken
        .iter()
        .fold(SessionInit::default(), |init, a| init.assign(a.text())))
}

/// That a dump tool which takes no init command (mariadb-dump) makes a true dump of the source all the same.
///
/// # Errors
/// Permanent, with the variables that it would have to set; as [`problems`].
pub fn check_tool_without_init(tool: &str, source: &Endpoint) -> Result<()> {
    let (problems, trial, _) = problems(source, Purpose::Dump, &Variables::new())?;
    profile::refuse("the source", &problems)?;
    let wrong = |a: &&Assignment| {
        CHANGE_MARIADB_DUMP.contains(&a.row.name) && !a.present.eq_ignore_ascii_case(&a.value)
    };
    let wrong = trial.taken.iter().filter(wrong).map(|a| {
        Problem::from(format!(
            "{} is {} on the source, which {tool} cannot change in its session: {}; SET GLOBAL {} there for the time of the dump, or use another method",
            a.row.name,
            profile::shown(&a.present),
            a.row.reason,
            a.text()
        ))
    });
    profile::refuse("the source", &wrong.collect::<Vec<_>>())
}

/// Sets the profile in an open session.
///
/// # Errors
/// Permanent if the server refuses one; if a query fails.
pub fn apply(
    conn: &mut Conn,
    server: Server,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<()> {
    let present = profile::variables(conn, false)?;
    let list = profile::assignments(server, purpose, &present, of_source);
    let trial = profile::apply(conn, server, list)?;
    profile::refuse("this server", &trial.problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_server() {
        assert_eq!(
            listed("MyISAM, Archive,,"),
            BTreeSet::from(["myisam".to_string(), "archive".to_string()])
        );
    }
}
