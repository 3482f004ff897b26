//! The host's MySQL server, and the agent's account there.

use super::findings::Findings;
use crate::config::Config;
use crate::error::Result;
use crate::mysql::grants::{self, rows};
use crate::mysql::profile::Purpose;
use crate::mysql::settings as server_settings;
use crate::mysql::{Endpoint, Server, answers, connect, info, quote_account, quote_text};
use mysql::Conn;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For each connection and statement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the other checks want to know of it.
#[derive(Default)]
pub(super) struct ServerInfo {
    /// True if it accepts the agent's login.
    pub(super) answers: bool,
    /// True if it answers, be it with an error.
    pub(super) alive: bool,
    /// Its datadir, or `mysql.datadir` if it does not answer.
    pub(super) datadir: Option<PathBuf>,
    /// Bytes of its tables, as information_schema estimates them.
    pub(super) bytes: Option<u64>,
}

pub(super) fn check(f: &mut Findings, config: &Config) -> ServerInfo {
    let set = Some(&config.mysql.datadir).filter(|d| !d.is_empty());
    let mut info = ServerInfo {
        datadir: set.map(PathBuf::from),
        ..ServerInfo::default()
    };
    if config.mysql.user.is_empty() {
        note!(f, Warning, "mysql.user" =>
            "there is no account: MySQL is not queried, and only operators' commands and the method LVM are offered";
            "for the built-in seed methods set mysql.user and mysql.password (in JSON: \"mysql\": {{\"user\": \"...\", \"password\": \"...\"}})");
        info.alive = answers(&Endpoint::local(&config.mysql), TIMEOUT).is_ok();
        return info;
    }
    let Some((server, mut conn)) = login(f, config, &mut info) else {
        return info;
    };
    let logical = config.mysqldump.enabled || config.mydumper.enabled;
    let checked = privileges(f, &mut conn, server, &features(config));
    failed(f, "mysql.user", checked);
    if logical {
        let checked = settings(f, &Endpoint::local(&config.mysql));
        failed(f, "mysql", checked);
    }
    let checked = local_login(f, &mut conn, &config.mysql.user);
    failed(f, "mysql.user", checked);
    let checked = variables(f, &mut conn, config, &mut info);
    failed(f, "mysql", checked);
    let schemas = info::schemas(&mut conn, server);
    let sizes = schemas.map(|all| info.bytes = Some(all.values().map(|s| s.size).sum()));
    failed(f, "mysql.user", sizes);
    info
}

fn login(f: &mut Findings, config: &Config, info: &mut ServerInfo) -> Option<(Server, Conn)> {
    let endpoint = Endpoint::local(&config.mysql);
    let key = if config.mysql.socket.is_empty() {
        "mysql.host"
    } else {
        "mysql.socket"
    };
    let opened = connect(&endpoint, TIMEOUT).and_then(|mut c| Ok((Server::ask(&mut c)?, c)));
    info.answers = opened.is_ok();
    info.alive = info.answers || answers(&endpoint, TIMEOUT).is_ok();
    match &opened {
        Ok((server, _)) => note!(f, Ok, key => "{} {} answers at {}",
            server.flavour, server.version, endpoint.name()),
        Err(e) if info.alive => note!(f, Error, key => "{e}";
            "MySQL runs and answers with this error: correct the account there, or [mysql] user and password here"),
        Err(e) => {
            note!(f, Error, key => "{e}"; "start MySQL, or correct [mysql] host, port and socket")
        }
    }
    opened.ok()
}

/// Names of the parts of the lists of grants.
fn features(config: &Config) -> Vec<&'static str> {
    let logical = config.mysqldump.enabled || config.mydumper.enabled;
    let features = [
        ("logical", logical),
        ("redo", logical && config.mysql.load_without_redo_log),
        ("xtrabackup", config.xtrabackup.enabled),
        ("clone", config.clone_plugin.enabled),
    ];
    features.iter().filter(|f| f.1).map(|f| f.0).collect()
}

/// A check whose queries failed.
fn failed(f: &mut Findings, key: &str, result: Result<()>) {
    if let Err(e) = result {
        note!(f, Error, key => "{e}"; "give the account the grants of the sample agent-account files");
    }
}

fn privileges(f: &mut Findings, conn: &mut Conn, server: Server, features: &[&str]) -> Result<()> {
    const KEY: &str = "mysql.user";
    let (account, held) = grants::held(conn, server)?;
    let Some(needed) = grants::needed(server, features) else {
        note!(f, Warning, KEY => "the grants of {account} were not checked: no list is known for {} {}",
            server.flavour, server.version;
            "compare SHOW GRANTS with the sample agent-account files");
        return Ok(());
    };
    let missing = grants::missing(server, &needed, &held).join(", ");
    if missing.is_empty() {
        note!(f, Ok, KEY => "{account} has all {} privileges it needs", needed.len());
    } else {
        note!(f, Error, KEY => "{account} lacks {missing}";
            "on the source and on the target: GRANT {missing} ON *.* TO {account}");
    }
    if held.iter().any(|r| r.starts_with("REVOKE ")) {
        note!(f, Warning, KEY => "partial revokes restrict {account}, so that a dump may lack schemas";
            "see SHOW GRANTS, and grant the revoked privileges again");
    }
    Ok(())
}

/// Settings of the server, and privileges that they make necessary, with which a seed by Mysqldump or Mydumper is refused.
fn settings(f: &mut Findings, endpoint: &Endpoint) -> Result<()> {
    let mut found = false;
    for (purpose, part) in [(Purpose::Dump, "source"), (Purpose::Load, "target")] {
        let (trial, _) = server_settings::inspect(endpoint, purpose, &BTreeMap::new())?;
        for problem in trial.problems {
            found = true;
            note!(f, Warning, "mysql" => "as the {part} of a seed: {}", problem.what; "{}", problem.remedy);
        }
    }
    if !found {
        note!(f, Ok, "mysql" => "its settings allow dumps and loads");
    }
    Ok(())
}

/// A seed brings the source's accounts to the target, where the agent logs in from the host itself.
fn local_login(f: &mut Findings, conn: &mut Conn, user: &str) -> Result<()> {
    let name = quote_text(user);
    let found = rows(
        conn,
        &format!(
            "SELECT CONCAT(User, '@', Host) FROM mysql.user WHERE User = {name} AND \
             (Host = '' OR 'localhost' LIKE Host OR '127.0.0.1' LIKE Host OR '::1' LIKE Host OR Host LIKE '127.0.0.%')"
        ),
    )?;
    match found.first() {
        Some(account) => note!(f, Ok, "mysql.user" =>
            "{} can log in over the loopback interface", quote_account(account)),
        None => note!(f, Error, "mysql.user" =>
            "no account '{user}' may log in from localhost or 127.0.0.1: as the source of a seed this host is refused, because \
             its accounts become the target's";
            "create '{user}'@'localhost' or '{user}'@'%' with the same password and grants"),
    }
    Ok(())
}

fn variables(
    f: &mut Findings,
    conn: &mut Conn,
    config: &Config,
    info: &mut ServerInfo,
) -> Result<()> {
    if info::is_on(conn, "log_bin")? {
        note!(f, Ok, "log_bin" => "the server writes a binary log");
    } else {
        note!(f, Warning, "log_bin" => "the server writes no binary log: this host cannot be the source of a seed";
            "set log_bin in its my.cnf and restart it");
    }
    match info::global(conn, "server_id")?.as_deref() {
        None | Some("0" | "") => note!(f, Error, "server_id" =>
            "is 0: the server can be neither source nor replica";
            "give it a number of its own in its my.cnf"),
        Some(id) => note!(f, Ok, "server_id" => "is {id}"),
    }
    let datadir = info::global(conn, "datadir")?.unwrap_or_default();
    let set = &config.mysql.datadir;
    let real = |p: &str| Path::new(p).canonicalize().unwrap_or_else(|_| p.into());
    if !set.is_empty() && real(set) != real(&datadir) {
        note!(f, Error, "mysql.datadir" => "is {set}, but the server's datadir is {datadir}";
            "correct mysql.datadir, or leave it empty; or mysql.host and mysql.port point to another server");
    }
    if !datadir.is_empty() {
        info.datadir = Some(datadir.into());
    }
    Ok(())
}
