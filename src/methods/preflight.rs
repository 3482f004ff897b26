//! What the logical methods check before anything is copied or touched (P1), as far as one host can know.

use super::contents::{self, Source};
use super::logical;
use super::server_state;
use super::settings::{self, Variables};
use super::target_server::{QUESTIONS, TargetServer};
use super::values;
use crate::config::{self, Config, inside};
use crate::error::{Error, Result};
use crate::mysql::catalogue::Catalogue;
use crate::mysql::profile::{self, Purpose};
use crate::mysql::{Endpoint, Fingerprint, Flavour, Server, Version, connect, info, one_server};
use crate::seed::vocabulary::Method;
use mysql::Conn;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For questions to a server with thousands of tables.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For its first words: a server that hangs is found out sooner.
const GREETING: Duration = Duration::from_secs(10);
const MEMORY_LIMIT: &str = "max_heap_table_size";
const VAR_CASE: &str = "lower_case_table_names";

/// What is known of the source once it was reached.
pub struct SourceFacts {
    /// What it is.
    pub server: Server,
    /// Its schemas, without the server's own.
    pub schemas: Vec<String>,
    /// Bytes of all its tables, as information_schema estimates them.
    pub bytes: u64,
    /// Its settings that a load must know.
    pub variables: Variables,
    /// Its definitions before the dump, and what the method does not copy exactly.
    pub definitions: (Catalogue, Vec<String>),
    /// Directories that the server lists as schemas: not a part of the dump.
    pub directories: Vec<String>,
}

/// The local server's family, or `None` while it cannot be asked.
pub fn flavour(settings: &config::Mysql) -> Option<Flavour> {
    let mut conn = connect(&Endpoint::local(settings), Duration::from_secs(1)).ok()?;
    Server::ask(&mut conn).ok().map(|s| s.flavour)
}

/// Ok if `find` finds the tools of the local server's family, or of any family while the server cannot be asked.
///
/// # Errors
/// The last one of `find`.
pub fn tools_of_server(
    settings: &config::Mysql,
    find: impl Fn(Flavour) -> Result<()>,
) -> Result<()> {
    match flavour(settings) {
        Some(f) => find(f),
        None => find(Flavour::MariaDb).or_else(|_| find(Flavour::MySql)),
    }
}

/// That the local server can be a source of a seed by `method`.
///
/// # Errors
/// What is not as it must be, with the remedy.
pub fn source(config: &Config, method: Method) -> Result<String> {
    one_server(&config.mysql)?;
    let mut conn = patient(&Endpoint::local(&config.mysql))?;
    let server = Server::ask(&mut conn)?;
    writes_binlog(&mut conn, server, "this server")?;
    settings::check(
        "this server",
        &Endpoint::local(&config.mysql),
        Purpose::Dump,
    )?;
    let contents = Source::ask(&mut conn, server)?;
    let left_out = logical::left_out(config, method);
    let mut inexact = contents::check(&contents, None, method, &left_out)?;
    let found = values::search(&mut conn, server, &left_out, Some(values::GLANCE), || ())?;
    inexact.extend(values::check(&found, method)?);
    let text = ["Prepare completed".to_string()].into_iter().chain(inexact);
    Ok(text.collect::<Vec<_>>().join(", "))
}

fn patient(endpoint: &Endpoint) -> Result<Conn> {
    drop(connect(endpoint, GREETING)?);
    connect(endpoint, TIMEOUT)
}

fn writes_binlog(conn: &mut Conn, server: Server, who: &str) -> Result<()> {
    if !info::is_on(conn, "log_bin")? {
        return Err(Error::permanent(format!(
            "{who} writes no binary log, so a copy of it could not replicate: set log_bin in its my.cnf and restart it"
        )));
    }
    let updates = if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 26) {
        "log_replica_updates"
    } else {
        "log_slave_updates"
    };
    let role = info::role(conn, server)?;
    if let Some((from, _)) = role.source
        && !info::is_on(conn, updates)?
    {
        return Err(Error::permanent(format!(
            "{who} is a replica of {from} without {updates}: its binary log lacks what it replicates; set {updates} in \
             its my.cnf and restart it"
        )));
    }
    Ok(())
}

/// Fails unless `dir` is a directory that this process may write to.
///
/// # Errors
/// Names the setting and its value.
pub fn writable(dir: &Path, setting: &str) -> Result<()> {
    // Several threads may ask at once.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let me = std::process::id();
    let probe = dir.join(format!(".orchestrator-agent-probe-{me}-{n}"));
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    made.map_err(|e| {
        Error::io(
            format!(
                "{setting} = \"{}\" must be a directory that the agent may write to",
                dir.display()
            ),
            &e,
        )
    })?;
    std::fs::remove_file(&probe).map_err(|e| Error::io(probe.display(), &e))
}

/// True if an account for host pattern `pattern` would be used for a login over the loopback interface.
fn loopback(pattern: &str) -> bool {
    let p = pattern.to_ascii_lowercase();
    matches!(p.as_str(), "%" | "localhost" | "127.0.0.1" | "::1" | "")
        || p.strip_suffix('%')
            .is_some_and(|head| "127.0.0.1".starts_with(head))
        || p.starts_with("127.0.0.")
}

/// Prepare of a target; `tools` finds those of its server. Returns which server it is.
///
/// # Errors
/// What is not as it must be, with the remedy.
pub fn target(config: &Config, tools: impl Fn(Server) -> Result<()>) -> Result<Fingerprint> {
    let dir = &config.common.backup_dir;
    writable(dir, "common.backup-dir")?;
    let mut target = TargetServer::open_for(&config.mysql, QUESTIONS)?;
    one_server(&config.mysql)?;
    tools(target.server)?;
    let [datadir] = target.variables(["datadir"])?;
    if inside(dir, Path::new(&datadir)) {
        return Err(Error::permanent(format!(
            "common.backup-dir = \"{}\" is inside the data directory {datadir}: give it a place of its own",
            dir.display()
        )));
    }
    target.check_role()?;
    target.check_prepared()?;
    let local = Endpoint::local(&config.mysql);
    settings::check("this server", &local, Purpose::Load)?;
    target.fingerprint()
}

/// Backup of a target: the first moment at which the source is known. Returns also the connection over which it was asked.
///
/// # Errors
/// What is not as it must be, with the remedy.
pub fn source_of(
    config: &Config,
    source: &Endpoint,
    method: Method,
) -> Result<(SourceFacts, Conn)> {
    let mut target = TargetServer::open_for(&config.mysql, QUESTIONS)?;
    target.check_role()?;
    let who = format!("source {}", source.name());
    let reach = |e: Error| e.context(&who);
    let mut conn = patient(source).map_err(reach)?;
    let server = Server::ask(&mut conn).map_err(reach)?;
    fits(server, target.server)?;
    let [own_id, own_uuid, own_case, datadir] =
        target.variables(["server_id", "server_uuid", VAR_CASE, "datadir"])?;
    let mut of_source = |name| info::global(&mut conn, name).map(Option::unwrap_or_default);
    let uuid = of_source("server_uuid").map_err(reach)?;
    if !uuid.is_empty() && uuid == own_uuid {
        return Err(Error::permanent(format!(
            "{who} and target have the same server_uuid = {uuid}: they are one server, or one was made from the other's \
             files; remove auto.cnf from the target's data directory and restart it"
        )));
    }
    if of_source("server_id").map_err(reach)? == own_id {
        return Err(Error::permanent(format!(
            "{who} and target have the same server_id = {own_id}: they may be the same server; give each its own"
        )));
    }
    let case = of_source(VAR_CASE).map_err(reach)?;
    if case != own_case {
        return Err(Error::permanent(format!(
            "{VAR_CASE} is {case} on the source and {own_case} on the target, so names that differ in case only would \
             become one table: set both alike"
        )));
    }
    writes_binlog(&mut conn, server, &who)?;
    check_account(&config.mysql.user, &mut conn)?;
    target.check_events(info::events(&mut conn, server)?)?;
    target.check_tablespaces(&info::general_tablespaces(&mut conn, server)?)?;
    let schemas = info::schemas(&mut conn, server).map_err(reach)?;
    target.check_engines(&schemas)?;
    let globals = settings::check(&who, source, Purpose::Dump)?;
    settings::check_pair(
        &Endpoint::local(&config.mysql),
        &mut conn,
        &globals,
        &schemas.keys().cloned().collect(),
    )?;
    let bytes = schemas.values().map(|s| s.size).sum();
    check_room(
        &config.common.backup_dir,
        bytes,
        Path::new(&datadir),
        target.own_bytes()?,
    )?;
    let contents = Source::ask(&mut conn, server).map_err(reach)?;
    let here = target.contents(&contents)?;
    let without_redo_log = config.mysql.load_without_redo_log;
    contents::check_rights(&mut conn, server, &here, without_redo_log)?;
    let left_out = logical::left_out(config, method);
    let inexact = contents::check(&contents, Some(&here), method, &left_out)?;
    let places = contents.places(&here, &left_out);
    check_places(&places, Path::new(&datadir))?;
    target.check_names(&contents.catalogue)?;
    let mut variables = profile::for_load(&globals);
    // The limit of a MEMORY table is that of the session which made it.
    let largest = server_state::largest_memory_table(&mut conn)?;
    profile::at_least(&mut variables, MEMORY_LIMIT, largest.saturating_mul(2));
    let facts = SourceFacts {
        server,
        schemas: schemas.into_keys().collect(),
        bytes,
        variables,
        definitions: (contents.catalogue, inexact),
        directories: contents.directories,
    };
    Ok((facts, conn))
}

/// After the load the source's accounts are the target's: the agent's must be among them, with this password, for a login
/// from the target's own host.
///
/// # Errors
/// Permanent: it is not, with the remedy. If a query fails.
pub fn check_account(user: &str, conn: &mut Conn) -> Result<()> {
    let accounts = info::accounts(conn, user)?;
    let here = info::current_account_host(conn)?;
    let used = accounts.iter().find(|a| a.host == here);
    let local: Vec<_> = accounts.iter().filter(|a| loopback(&a.host)).collect();
    if local.is_empty() {
        return Err(Error::permanent(format!(
            "the source has no account '{user}' that can log in from localhost or 127.0.0.1 (only {}), and its accounts \
             will be the target's: create '{user}'@'localhost' or '{user}'@'%' on the source",
            accounts
                .iter()
                .map(|a| format!("'{user}'@'{}'", a.host))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    // Hashes of one plugin without salt tell whether the passwords agree; salted ones do not tell.
    let tells = |a: &str| a.starts_with("mysql_native_password:") || a.starts_with("ed25519:");
    if let Some(used) = used
        && tells(&used.authentication)
        && let Some(other) = local
            .iter()
            .find(|a| tells(&a.authentication) && a.authentication != used.authentication)
    {
        return Err(Error::permanent(format!(
            "on the source '{user}'@'{}' has another password than '{user}'@'{here}', with which the agent logs in: after \
             the load the agent could not log in to the target; give both the same password",
            other.host
        )));
    }
    Ok(())
}

/// orchestrator wants 0.6 of the source's datadir free (agent-api-v2 3.1); less than half of the table bytes cannot do.
/// The load replaces `own` bytes of the target's tables.
fn check_room(backup_dir: &Path, bytes: u64, datadir: &Path, own: u64) -> Result<()> {
    let room = |dir: &Path, what: &str, more: u64, needed: u64| {
        let space = crate::sys::disk::space(dir).map_err(|e| Error::io(dir.display(), &e))?;
        if space.available.saturating_add(more) >= needed {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "{what} {} has {} free, too little for {} of tables",
            dir.display(),
            crate::sys::host::human_bytes(space.available),
            crate::sys::host::human_bytes(bytes)
        )))
    };
    room(backup_dir, "common.backup-dir", 0, bytes / 2)?;
    if !datadir.is_dir() {
        return Ok(()); // not for this process to see
    }
    room(datadir, "the target's data directory", own, bytes)
}

/// That the server's user, whose `datadir` is, may create tables in these directories, each with a table that belongs there: the load
/// would stop at it. What depends on groups is not known here, and nothing is where the server is on another host.
fn check_places(places: &BTreeMap<PathBuf, String>, datadir: &Path) -> Result<()> {
    let Ok(owner) = std::fs::metadata(datadir) else {
        return Ok(());
    };
    for (dir, table) in places {
        // The server makes what is missing below it.
        let Some((parent, meta)) = dir
            .ancestors()
            .find_map(|d| Some((d, std::fs::metadata(d).ok()?)))
        else {
            continue;
        };
        if !meta.is_dir() || !permits(meta.mode(), meta.uid(), owner.uid()) {
            return Err(Error::permanent(format!(
                "table {table} of the source is in DATA DIRECTORY or INDEX DIRECTORY {}, and on this host the server's user (uid {}) may \
                 not write to {}: create {0} for this user here, or move the table into the source's data directory",
                dir.display(),
                owner.uid(),
                parent.display()
            )));
        }
    }
    Ok(())
}

/// False if the user `uid` may certainly not create files in a directory with this mode and owner.
fn permits(mode: u32, owner: u32, uid: u32) -> bool {
    if uid == 0 {
        return true;
    }
    let all = |bits: u32| mode & bits == bits;
    if uid == owner {
        all(0o300)
    } else {
        all(0o030) || all(0o003)
    }
}

/// Families do not mix, and data do not go to an older series.
fn fits(source: Server, target: Server) -> Result<()> {
    if source.flavour != target.flavour {
        return Err(Error::permanent(format!(
            "the source is {} {}, the target {} {}: the two families do not mix in a seed",
            source.flavour, source.version, target.flavour, target.version
        )));
    }
    let series = |s: Server| (s.version.0, s.version.1);
    if series(target) < series(source) {
        return Err(Error::permanent(format!(
            "the target ({}) is older than the source ({}): upgrade it first",
            target.version, source.version
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_accounts_serve_the_loopback() {
        for yes in [
            "%",
            "localhost",
            "127.0.0.1",
            "127.%",
            "127.0.0.0/255.0.0.0",
            "::1",
            "",
        ] {
            assert!(loopback(yes), "{yes}");
        }
        for no in ["10.%", "db1", "192.168.1.7", "%.example.com"] {
            assert!(!loopback(no), "{no}");
        }
    }

    #[test]
    fn which_directories_a_user_may_write_to() {
        for (owner, mode, yes) in [
            (7, 0o700, true),
            (7, 0o500, false),
            (7, 0o577, false),
            (0, 0o755, false),
            (0, 0o757, true),
            (0, 0o775, true), // perhaps
            (0, 0o700, false),
        ] {
            assert_eq!(permits(mode, owner, 7), yes, "{owner} {mode:o}");
            assert!(permits(mode, owner, 0));
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let e = writable(Path::new("/no/such/place"), "common.backup-dir")
            .unwrap_err()
            .to_string();
        assert!(e.contains("common.backup-dir = \"/no/such/place\""), "{e}");
    }
}
