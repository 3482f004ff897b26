//! What the logical methods check before anything is copied or changed, as far as one host can know.

use crate::compatibility::{self, CopyKind, Login, ServerInfo};
use crate::config::{self, Config, inside};
use crate::contents::{self, Source, Target, name_conflicts, pair_settings, values, xa};
use crate::datadir::{self, DatadirInfo};
use crate::error::{Error, OnPath, Result};
use crate::methods::logical::target_server::{QUERY_TIMEOUT, TargetServer};
use crate::methods::operators::left_out;
use crate::mysql::catalogue::Catalogue;
use crate::mysql::profile::{self, Purpose};
use crate::mysql::settings::{self, Variables};
use crate::mysql::{Endpoint, Fingerprint, Flavour, MOVE_BACK, Server, connect, info, one_server};
use crate::seed::types::Method;
use crate::sys::host::human_bytes;
use mysql::Conn;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For queries of a server with thousands of tables.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For its greeting: a server that hangs is found sooner.
const GREETING: Duration = Duration::from_secs(10);
const MEMORY_LIMIT: &str = "max_heap_table_size";

/// What is known of the source once it was reached.
pub(super) struct SourceFacts {
    pub server: Server,
    /// Without the server's own.
    pub schemas: Vec<String>,
    /// Of all its tables, as information_schema estimates them.
    pub bytes: u64,
    /// Settings that a load must know.
    pub variables: Variables,
    /// Before the dump.
    pub definitions: Catalogue,
    /// What the method does not copy exactly.
    pub inexact: Vec<String>,
    /// Directories that the server lists as schemas: not a part of the dump.
    pub directories: Vec<String>,
}

/// The local server's family, or `None` while it cannot be queried.
pub(super) fn flavour(settings: &config::Mysql) -> Option<Flavour> {
    let mut conn = connect(&Endpoint::local(settings), Duration::from_secs(1)).ok()?;
    Server::ask(&mut conn).ok().map(|s| s.flavour)
}

/// Ok if `find` finds the tools of the local server's family, or of any family while the server cannot be queried.
pub(super) fn tools_of_server(
    settings: &config::Mysql,
    find: impl Fn(Flavour) -> Result<()>,
) -> Result<()> {
    match flavour(settings) {
        Some(f) => find(f),
        None => find(Flavour::MariaDb).or_else(|_| find(Flavour::MySql)),
    }
}

/// That the local server can be a source of a seed by `method`.
pub(super) fn source(config: &Config, method: Method) -> Result<String> {
    one_server(&config.mysql)?;
    let mut conn = patient(&Endpoint::local(&config.mysql))?;
    let server = Server::ask(&mut conn)?;
    compatibility::check_binlog(&mut conn, server, "this server")?;
    let local = Endpoint::local(&config.mysql);
    settings::check("this server", &local, Purpose::Dump)?;
    let contents = Source::read(&mut conn, server)?;
    let left_out = left_out(config, method);
    let mut findings = contents::inspect(&contents, None, method, &left_out);
    contents::refuse(&findings, method)?;
    let limit = Some(values::SEARCH_LIMIT);
    let found = values::search(&mut conn, server, &left_out, limit, || ())?;
    findings.extend(values::inspect(&found, method));
    let mut text = vec!["Prepare completed".to_string()];
    text.extend(contents::refuse(&findings, method)?);
    Ok(text.join(", "))
}

fn patient(endpoint: &Endpoint) -> Result<Conn> {
    drop(connect(endpoint, GREETING)?);
    connect(endpoint, TIMEOUT)
}

/// Fails unless `dir`, the value of `setting`, is a directory that this process may write to.
pub(super) fn writable(dir: &Path, setting: &str) -> Result<()> {
    // Several threads may call at once.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let me = std::process::id();
    let probe = dir.join(format!(".orchestrator-agent-probe-{me}-{n}"));
    std::fs::File::create_new(&probe).on(format!(
        "{setting} = \"{}\" must be a directory that the agent may write to",
        dir.display()
    ))?;
    std::fs::remove_file(&probe).on(&probe)
}

/// That `backup_dir` is not inside the data directory.
pub(super) fn outside(backup_dir: &Path, datadir: &Path) -> Result<()> {
    if !inside(backup_dir, datadir) {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "common.backup-dir = \"{}\" is inside the data directory {}: give it a place of its own",
        backup_dir.display(),
        datadir.display()
    )))
}

/// Prepare of a target; `tools` finds those of its server. Returns which server it is.
pub(super) fn target(config: &Config, tools: impl Fn(Server) -> Result<()>) -> Result<Fingerprint> {
    let dir = &config.common.backup_dir;
    writable(dir, "common.backup-dir")?;
    let mut target = TargetServer::open_for(&config.mysql, QUERY_TIMEOUT)?;
    one_server(&config.mysql)?;
    tools(target.server)?;
    let datadir = target.variable("datadir")?;
    outside(dir, Path::new(&datadir))?;
    compatibility::check_target_role(&mut target.conn, target.server)?;
    xa::refuse_prepared_on_target(&mut target.conn)?;
    let local = Endpoint::local(&config.mysql);
    settings::check("this server", &local, Purpose::Load)?;
    Fingerprint::of(&mut target.conn)
}

/// Backup of a target: the first moment at which the source is known. `replaced`: the data directory that this one is swapped in for,
/// where the target's server is a private one. Returns also the connection over which the source was queried.
pub(super) fn source_of(
    config: &Config,
    source: &Endpoint,
    method: Method,
    replaced: Option<&DatadirInfo>,
) -> Result<(SourceFacts, Conn)> {
    let local = Endpoint::local(&config.mysql);
    let mut target = TargetServer::open_for(&config.mysql, QUERY_TIMEOUT)?;
    compatibility::check_target_role(&mut target.conn, target.server)?;
    let own = |e: Error| e.context(format!("target {}", local.name()));
    let who = format!("source {}", source.name());
    let reach = |e: Error| e.context(&who);
    let mut conn = patient(source).map_err(reach)?;
    let server = Server::ask(&mut conn).map_err(reach)?;
    let of_source = ServerInfo::query(&mut conn, server).map_err(reach)?;
    let here = ServerInfo::query(&mut target.conn, target.server).map_err(own)?;
    compatibility::check(CopyKind::Dump, &of_source, &here).map_err(reach)?;
    let datadir = target.variable("datadir")?;
    let datadir = Path::new(&datadir);
    compatibility::check_binlog(&mut conn, server, &who)?;
    let login = if replaced.is_some() {
        Login::Socket
    } else {
        Login::Local
    };
    compatibility::check_account(&config.mysql.user, login, &mut conn)?;
    let schemas = info::schemas(&mut conn, server).map_err(reach)?;
    target.refuse_missing(&mut conn, server, &schemas)?;
    let globals = settings::check(&who, source, Purpose::Dump)?;
    let names = schemas.keys().cloned().collect();
    pair_settings::check(&local, &mut conn, &globals, &names)?;
    let size = |all: &BTreeMap<String, info::Schema>| -> u64 { all.values().map(|s| s.size).sum() };
    let bytes = size(&schemas);
    match replaced {
        Some(replaced) => check_room_for_swap(config, bytes, replaced)?,
        None => {
            let replaced = info::schemas(&mut target.conn, target.server).map_err(own)?;
            check_room(&config.common.backup_dir, bytes, datadir, size(&replaced))?;
        }
    }
    let contents = Source::read(&mut conn, server).map_err(reach)?;
    let inexact = check_contents(
        config,
        method,
        &mut conn,
        &contents,
        &mut target,
        datadir,
        replaced.is_some(),
    )?;
    let mut variables = profile::for_load(&globals);
    // The limit of a MEMORY table is that of the session which made it.
    let largest = contents::largest_memory_table(&mut conn)?;
    profile::at_least(&mut variables, MEMORY_LIMIT, largest.saturating_mul(2));
    let facts = SourceFacts {
        server,
        schemas: schemas.into_keys().collect(),
        bytes,
        variables,
        definitions: contents.catalogue,
        inexact,
        directories: contents.directories,
    };
    Ok((facts, conn))
}

/// That the target can hold what the source has. Returns what the method does not copy exactly.
fn check_contents(
    config: &Config,
    method: Method,
    source: &mut Conn,
    contents: &Source,
    target: &mut TargetServer,
    datadir: &Path,
    swapped: bool,
) -> Result<Vec<String>> {
    let here = Target::read(&mut target.conn, target.server, contents)?;
    let without_redo_log = config.mysql.load_without_redo_log;
    here.check_privileges_on_source(source, contents.catalogue.server, without_redo_log)?;
    let left_out = left_out(config, method);
    let findings = contents::inspect(contents, Some(&here), method, &left_out);
    let inexact = contents::refuse(&findings, method)?;
    let places = here.directories_of_tables(contents, &left_out);
    if swapped && let Some((dir, table)) = places.first_key_value() {
        return Err(Error::permanent(format!(
            "table {table} of the source is in DATA DIRECTORY or INDEX DIRECTORY {}, and this seed replaces the content of the target's \
             data directory only; {MOVE_BACK}",
            dir.display()
        )));
    }
    check_places(&places, datadir)?;
    let catalogue = &contents.catalogue;
    name_conflicts::constraint_of_extra_table(&mut target.conn, target.server, catalogue)?
        .map_or(Ok(inexact), |text| Err(Error::permanent(text)))
}

/// Half of the bytes of the tables is the least that a dump of them may take.
fn check_room_for_dump(backup_dir: &Path, bytes: u64) -> Result<()> {
    room(backup_dir, "common.backup-dir", 0, bytes, bytes / 2)
}

/// orchestrator wants 0.6 of the source's datadir free; less than half of the table bytes is too little.
/// The load replaces `own` bytes of the target's tables.
fn check_room(backup_dir: &Path, bytes: u64, datadir: &Path, own: u64) -> Result<()> {
    check_room_for_dump(backup_dir, bytes)?;
    if !datadir.is_dir() {
        return Ok(()); // this process may not see it
    }
    room(datadir, "the target's data directory", own, bytes, bytes)
}

fn room(dir: &Path, what: &str, more: u64, bytes: u64, needed: u64) -> Result<()> {
    let space = crate::sys::disk::space(dir).on(dir)?;
    if space.available.saturating_add(more) >= needed {
        return Ok(());
    }
    let (free, bytes) = (human_bytes(space.available), human_bytes(bytes));
    Err(Error::permanent(format!(
        "{what} {} has {free} free, too little for {bytes} of tables",
        dir.display()
    )))
}

/// The same where the tables are loaded into a new data directory, by the rule of `mysql.datadir-swap`. The dump may be on the same file
/// system.
fn check_room_for_swap(config: &Config, bytes: u64, replaced: &DatadirInfo) -> Result<()> {
    let dir = &config.common.backup_dir;
    check_room_for_dump(dir, bytes)?;
    let device = |dir: &Path| std::fs::metadata(dir).map(|m| m.dev()).on(dir);
    let of_dump = if device(dir)? == device(&replaced.datadir)? {
        bytes / 2
    } else {
        0
    };
    let need = bytes.saturating_add(of_dump);
    let need = need.saturating_add(replaced.redo_log());
    datadir::swap_mode(replaced, Some(need), config.mysql.datadir_swap).map(drop)
}

/// That the server's user, whose `datadir` is, may create tables in these directories, each with a table that belongs there: the load
/// would stop at it. What depends on groups is not known here, and nothing is where the server is on another host.
fn check_places(places: &BTreeMap<PathBuf, String>, datadir: &Path) -> Result<()> {
    let Ok(owner) = std::fs::metadata(datadir) else {
        return Ok(());
    };
    for (dir, table) in places {
        // The server makes what is missing below it.
        let mut ancestors = dir.ancestors();
        let found = ancestors.find_map(|d| Some((d, std::fs::metadata(d).ok()?)));
        let Some((parent, meta)) = found else {
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
    let all = |bits: u32| mode & bits == bits;
    if uid == owner {
        uid == 0 || all(0o300)
    } else {
        uid == 0 || all(0o030) || all(0o003)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
