//! Settings of a server that is dumped or loaded: those that change what a copy is are set in its sessions, by the [`profile`], and what
//! cannot be set is refused before the target is changed.

pub(crate) use super::profile::Variables;
use super::profile::{self, GLOBAL, Harm, Purpose, Row, SESSION};
use super::{Endpoint, Flavour, READABLE, Server, connect_plain, grants, query, quote_account};
use crate::error::{Error, Result};
use crate::process::SessionInit;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
use std::time::Duration;

/// For a login and each statement.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Variables that change a dump of mariadb-dump, which takes no init command and does not set them itself (10.11.19: it sets max_statement_time, sql_mode, time_zone,
/// sql_quote_show_create, character_set_results and the isolation level).
const CHANGE_MARIADB_DUMP: [&str; 4] = [
    "character_set_client",
    "max_join_size",
    "sql_select_limit",
    "system_versioning_asof",
];

/// A read-only setting of a target, when it cannot be loaded whatever the source has, and why.
type Unloadable = (&'static str, fn(&str) -> bool, &'static str);

#[rustfmt::skip]
const UNLOADABLE: [Unloadable; 2] = [
    ("innodb_read_only", profile::is_on, "InnoDB is in read only mode"),
    ("innodb_force_recovery", |v| v != "0", "InnoDB is in recovery mode and allows no changes"),
];

#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) row: &'static Row,
    /// What the session shows without it.
    pub(crate) present: String,
    pub(crate) value: String,
}

impl Assignment {
    /// `name = value`, for SET.
    fn text(&self) -> String {
        format!("{} = {}", self.row.name, self.value)
    }
}

/// What must be set in a session whose variables are `present`: only what differs. `of_source` are the values by [`profile::for_load`].
fn assignments(
    server: Server,
    purpose: Purpose,
    present: &Variables,
    of_source: &Variables,
) -> Vec<Assignment> {
    let is_known =
        |r: &&Row| server.flavour == Flavour::MySql || r.from.is_none_or(|v| server.version >= v);
    let assignment = |row: &'static Row| {
        let present = present.get(row.name)?.clone();
        let value = profile::change(row.want(purpose), &present, of_source.get(row.name))?;
        Some(Assignment {
            row,
            present,
            value,
        })
    };
    let known = SESSION.iter().filter(is_known);
    known.filter_map(assignment).collect()
}

/// What came of trying the assignments in a session.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    pub(crate) taken: Vec<Assignment>,
    /// Those of variables that it has as read-only ones.
    pub(crate) fixed: Vec<Assignment>,
    pub(crate) problems: Vec<Problem>,
}

/// What prevents a seed with this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Which setting or privilege, and why.
    pub(crate) what: String,
    /// Empty where `what` names it.
    pub(crate) remedy: String,
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        let remedy = String::new();
        Self { what, remedy }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; remedy: {}", self.remedy)?;
        }
        Ok(())
    }
}

fn try_all(conn: &mut Conn, server: Server, list: Vec<Assignment>) -> Result<Trial> {
    let mut trial = Trial::default();
    for assignment in list {
        let e = match conn.query_drop(format!("SET SESSION {}", assignment.text())) {
            Ok(()) => {
                trial.taken.push(assignment);
                continue;
            }
            Err(mysql::Error::MySqlError(e)) => e,
            Err(e) => return Err(query::failed(e)),
        };
        let Assignment { row, value, .. } = &assignment;
        let (name, reason, present) = (row.name, row.reason, shown(&assignment.present));
        let (code, message) = (e.code, &e.message);
        if matches!(code, 1238 | 1229 | 1621) {
            // Of this server read-only, or without a session value.
            trial.fixed.push(assignment);
        } else if row.harm == Harm::Failure {
            log::warn!("{name} is {present} and cannot be set ({message}): {reason}");
        } else {
            let remedy = match (code, row.needs.privilege(server)) {
                (1227, Some(privilege)) => grant(conn, privilege),
                _ => format!("SET GLOBAL {}", assignment.text()),
            };
            let what = format!(
                "{name} is {present} and must be {value} in the sessions of the seed ({reason}), but ERROR {code}: {message}"
            );
            trial.problems.push(Problem { what, remedy });
        }
    }
    Ok(trial)
}

fn grant(conn: &mut Conn, privilege: &str) -> String {
    match grants::rows(conn, "SELECT CURRENT_USER()") {
        Ok(account) => grant_to(&quote_account(&account.concat()), privilege),
        Err(_) => format!("grant {privilege}"),
    }
}

fn grant_to(account: &str, privilege: &str) -> String {
    format!("GRANT {privilege} ON *.* TO {account}")
}

pub(crate) fn shown(value: &str) -> &str {
    if value.is_empty() { "''" } else { value }
}

/// What the account lacks because of the values that this server has: the privileges for the globals that a load changes, and those that
/// [`profile::demands`] names.
fn missing_privileges(
    conn: &mut Conn,
    server: Server,
    purpose: Purpose,
    globals: &Variables,
) -> Result<Vec<Problem>> {
    let mut needed: Vec<(&str, String, &str)> = Vec::new(); // variable, why, privilege
    if purpose == Purpose::Load {
        for g in GLOBAL {
            let present = globals.get(g.name);
            if let Some(value) = present.and_then(|v| g.change(v, &Variables::new())) {
                let why = format!("must be {value} during a load ({})", g.reason);
                needed.push((g.name, why, g.privilege(server)));
            }
        }
    }
    for (d, privilege) in profile::demands(server, purpose, globals) {
        needed.push((d.name, d.reason.to_string(), privilege));
    }
    if needed.is_empty() {
        return Ok(Vec::new());
    }
    let (account, held) = grants::held(conn, server)?;
    needed.retain(|(_, _, privilege)| {
        let one = BTreeSet::from([privilege.to_string()]);
        !grants::missing(server, &one, &held).is_empty()
    });
    let problem = |(name, why, privilege): (&str, String, &str)| {
        let present = shown(globals.get(name).map_or("", String::as_str));
        Problem {
            what: format!("{name} is {present} and {account} lacks {privilege}: {why}"),
            remedy: grant_to(&account, privilege),
        }
    };
    Ok(needed.into_iter().map(problem).collect())
}

/// One permanent error out of all problems, if there are any.
pub(crate) fn refuse(who: &str, problems: &[Problem]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Err(Error::permanent(format!(
        "settings of {who} do not allow this seed: {}",
        lines.join(". ")
    )))
}

/// Tries the profile in a session at `endpoint`. The problems are all that prevents a load into the server or a dump of it: settings and
/// missing privileges. `of_source` are the source's values by [`profile::for_load`], if they are known yet. Returns also the server's
/// global variables.
pub(crate) fn inspect(
    endpoint: &Endpoint,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<(Trial, Variables)> {
    let mut conn = connect_plain(endpoint, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    let mut present = profile::variables(&mut conn, false)?;
    let globals = profile::variables(&mut conn, true)?;
    for name in READABLE {
        if let Some(value) = globals.get(name) {
            present.insert(name.to_string(), value.clone());
        }
    }
    let list = assignments(server, purpose, &present, of_source);
    let mut trial = try_all(&mut conn, server, list)?;
    let missing = missing_privileges(&mut conn, server, purpose, &globals)?;
    trial.problems.extend(missing);
    for (name, is_so, reason) in UNLOADABLE.iter().filter(|_| purpose == Purpose::Load) {
        if let Some(value) = globals.get(*name).filter(|v| is_so(v)) {
            trial.problems.push(Problem {
                what: format!("{name} is {value}: {reason}"),
                remedy: "remove it from the server's my.cnf and restart it".into(),
            });
        }
    }
    Ok((trial, globals))
}

/// Checks that a server can be dumped or loaded with its settings and the account's privileges. Returns its global variables.
pub(crate) fn check(who: &str, endpoint: &Endpoint, purpose: Purpose) -> Result<Variables> {
    let (trial, globals) = inspect(endpoint, purpose, &Variables::new())?;
    refuse(who, &trial.problems)?;
    Ok(globals)
}

/// What each session of a tool begins with, which works at `endpoint` for `purpose`.
pub(crate) fn session_init(
    endpoint: &Endpoint,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<SessionInit> {
    let (trial, _) = inspect(endpoint, purpose, of_source)?;
    refuse(&endpoint.name(), &trial.problems)?;
    let assign = |init: SessionInit, a: &Assignment| init.assign(a.text());
    Ok(trial.taken.iter().fold(SessionInit::default(), assign))
}

/// Checks that a dump tool which takes no init command (mariadb-dump) makes a true dump of the source all the same.
pub(crate) fn check_tool_without_init(tool: &str, source: &Endpoint) -> Result<()> {
    let (trial, _) = inspect(source, Purpose::Dump, &Variables::new())?;
    refuse("the source", &trial.problems)?;
    let is_wrong = |a: &&Assignment| {
        CHANGE_MARIADB_DUMP.contains(&a.row.name) && !a.present.eq_ignore_ascii_case(&a.value)
    };
    let problem = |a: &Assignment| {
        Problem::from(format!(
            "{} is {} on the source, which {tool} cannot change in its session: {}; SET GLOBAL {} there for the time of the dump, or use another method",
            a.row.name,
            shown(&a.present),
            a.row.reason,
            a.text()
        ))
    };
    let wrong: Vec<Problem> = trial.taken.iter().filter(is_wrong).map(problem).collect();
    refuse("the source", &wrong)
}

/// Sets the profile in an open session.
pub(crate) fn apply(
    conn: &mut Conn,
    server: Server,
    purpose: Purpose,
    of_source: &Variables,
) -> Result<()> {
    let present = profile::variables(conn, false)?;
    let list = assignments(server, purpose, &present, of_source);
    let trial = try_all(conn, server, list)?;
    refuse("this server", &trial.problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str) -> Server {
        Server::parse(version, "").unwrap()
    }

    #[test]
    fn only_what_differs_is_set_and_only_where_it_exists() {
        let present: Variables = [
            ("sql_select_limit", "10"),
            ("autocommit", "ON"),
            ("wait_timeout", "3"),
            ("net_read_timeout", "99999"),
            ("old_mode", ""),
            ("lc_time_names", "de_DE"),
            ("div_precision_increment", "4"),
        ]
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .into();
        let source = Variables::from([
            ("lc_time_names".to_string(), "en_US".to_string()),
            ("div_precision_increment".to_string(), "4".to_string()),
        ]);
        let texts = |version, purpose| -> Vec<String> {
            assignments(server(version), purpose, &present, &source)
                .iter()
                .map(Assignment::text)
                .collect()
        };
        assert_eq!(
            texts("10.11.19-MariaDB", Purpose::Load),
            [
                "sql_select_limit = 18446744073709551615",
                "wait_timeout = 86400",
                "old_mode = 'UTF8_IS_UTF8MB3'",
                "lc_time_names = 'en_US'",
            ]
        );
        assert_eq!(
            texts("10.5.12-MariaDB", Purpose::Dump),
            [
                "sql_select_limit = 18446744073709551615",
                "wait_timeout = 86400"
            ]
        );
        assert!(!texts("10.5.12-MariaDB", Purpose::Load).contains(&"old_mode".to_string()));
    }
}
