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
#[derive(Debug, Default)]
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
    let Some((server, mut conn)) = login(f, config, &mut info) else {
        return info;
    };
    let result = privileges(f, &mut conn, server, &features(config));
    failed(f, "mysql.user", result);
    if config.mysqldump.enabled || config.mydumper.enabled {
        let result = settings(f, &Endpoint::local(&config.mysql));
        failed(f, "mysql", result);
    }
    let result = local_login(f, &mut conn, &config.mysql.user);
    failed(f, "mysql.user", result);
    let result = variables(f, &mut conn, config, &mut info);
    failed(f, "mysql", result);
    match info::schemas(&mut conn, server) {
        Ok(schemas) => info.bytes = Some(schemas.values().map(|s| s.size).sum()),
        Err(e) => failed(f, "mysql.user", Err(e)),
    }
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
    match opened {
        Ok((server, conn)) => {
            (info.answers, info.alive) = (true, true);
            let (flavour, version) = (server.flavour, server.version);
            let text = format!("{flavour} {version} answers at {}", endpoint.name());
            f.ok(key, text);
            Some((server, conn))
        }
        Err(e) => {
            info.alive = answers(&endpoint, TIMEOUT).is_ok();
            let remedy = if info.alive {
                "MySQL runs and answers with this error: correct the account there, or [mysql] user and password here"
            } else {
                "start MySQL, or correct [mysql] host, port and socket"
            };
            f.error(key, e.to_string(), remedy);
            None
        }
    }
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
        let remedy = "give the account the grants of the sample agent-account files";
        f.error(key, e.to_string(), remedy);
    }
}

fn privileges(f: &mut Findings, conn: &mut Conn, server: Server, features: &[&str]) -> Result<()> {
    let (account, held) = grants::held(conn, server)?;
    let Some(needed) = grants::needed(server, features) else {
        f.warning(
            "mysql.user",
            format!(
                "the grants of {account} were not checked: no list is known for {} {}",
                server.flavour, server.version
            ),
            "compare SHOW GRANTS with the sample agent-account files",
        );
        return Ok(());
    };
    let missing = grants::missing(server, &needed, &held);
    if missing.is_empty() {
        f.ok(
            "mysql.user",
            format!("{account} has all {} privileges it needs", needed.len()),
        );
    } else {
        let names = missing.join(", ");
        f.error(
            "mysql.user",
            format!("{account} lacks {names}"),
            format!("on the source and on the target: GRANT {names} ON *.* TO {account}"),
        );
    }
    if held.iter().any(|r| r.starts_with("REVOKE ")) {
        f.warning(
            "mysql.user",
            format!("partial revokes restrict {account}, so that a dump may lack schemas"),
            "see SHOW GRANTS, and grant the revoked privileges again",
        );
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
            let what = format!("as the {part} of a seed: {}", problem.what);
            f.warning("mysql", what, problem.remedy);
        }
    }
    if !found {
        f.ok("mysql", "its settings allow dumps and loads");
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
        Some(account) => f.ok(
            "mysql.user",
            format!("{} can log in over the loopback interface", quote_account(account)),
        ),
        None => f.error(
            "mysql.user",
            format!(
                "no account '{user}' may log in from localhost or 127.0.0.1: as the source of a seed this host is refused, \
                 because its accounts become the target's"
            ),
            format!("create '{user}'@'localhost' or '{user}'@'%' with the same password and grants"),
        ),
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
        f.ok("log_bin", "the server writes a binary log");
    } else {
        f.warning(
            "log_bin",
            "the server writes no binary log: this host cannot be the source of a seed",
            "set log_bin in its my.cnf and restart it",
        );
    }
    match info::global(conn, "server_id")?
        .unwrap_or_default()
        .as_str()
    {
        "0" | "" => f.error(
            "server_id",
            "is 0: the server can be neither source nor replica",
            "give it a number of its own in its my.cnf",
        ),
        id => f.ok("server_id", format!("is {id}")),
    }
    let datadir = info::global(conn, "datadir")?.unwrap_or_default();
    let set = &config.mysql.datadir;
    let real = |p: &str| Path::new(p).canonicalize().unwrap_or_else(|_| p.into());
    if !set.is_empty() && real(set) != real(&datadir) {
        f.error(
            "mysql.datadir",
            format!("is {set}, but the server's datadir is {datadir}"),
            "correct mysql.datadir, or leave it empty; or mysql.host and mysql.port lead to another server",
        );
    }
    if !datadir.is_empty() {
        info.datadir = Some(datadir.into());
    }
    Ok(())
}
