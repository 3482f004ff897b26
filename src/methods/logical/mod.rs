//! What the two methods have in common that dump on the source and load into the target's running server: Mysqldump and Mydumper.

pub(crate) mod definitions;
pub(crate) mod target_server;

use super::operators::left_out;
use super::preflight;
use super::state::{LogicalState, PhysicalState};
use crate::compatibility;
use crate::config::{self, Config};
use crate::contents::row_mode::Tables;
use crate::contents::{self, foreign_keys, values, xa};
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::mysql::profile::Purpose;
use crate::mysql::{Endpoint, Flavour, Identity, Server, connect, control, settings};
use crate::process::{Login, SessionInit};
use crate::seed::record::Load;
use crate::seed::source_lock::{Seen, milliseconds};
use crate::seed::stage::{Context, Prepared};
use crate::seed::types::Side;
use crate::sys::thread::{lock, spawn};
use definitions::kept::{self, Read};
use definitions::prepare as schemas;
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use target_server::{LOGIN_TIMEOUT, TargetServer};

/// For the search of one table.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// A Prepare. On the target `tools` checks them for the server, once it has been checked itself, and `remove` removes an earlier
/// dump. Nothing else is changed; may be called again.
pub(crate) fn prepare(
    config: &Arc<Config>,
    ctx: &Context,
    side: Side,
    tools: impl Fn(Server) -> Result<()> + Send + 'static,
    remove: impl FnOnce() -> Result<()>,
) -> Result<Prepared> {
    let settings = Arc::clone(config);
    if side == Side::Source {
        let method = ctx.seed()?.method;
        let checked = ctx.interruptible(move || preflight::source(&settings, method));
        return checked.map(Prepared::from);
    }
    ctx.report("Running prepare");
    let server = ctx.interruptible(move || preflight::target(&settings, tools))?;
    ctx.update_state(|_, s: &mut LogicalState| s.target_server = Some(server))?;
    kept::remove(config)?;
    remove()?;
    Ok("Stage completed".into())
}

/// A Cleanup: on the target the dump is removed, by `remove`. May be called again.
pub(crate) fn cleanup(
    config: &Config,
    ctx: &Context,
    side: Side,
    remove: impl FnOnce() -> Result<()>,
) -> Result<String> {
    if side == Side::Target {
        ctx.report("Running cleanup");
        kept::remove(config)?;
        remove()?;
    }
    Ok("Stage completed".into())
}

/// The source of a dump, once all that can be known of it fits the target.
pub(crate) struct DumpSource {
    pub(crate) endpoint: Endpoint,
    pub(crate) server: Server,
    /// Directories that the server lists as schemas.
    pub(crate) directories: Vec<String>,
    /// What identifies it to the tools.
    pub(crate) identity: Arc<Identity>,
}

/// What is recorded of a dump.
pub(crate) struct Dumped {
    pub(crate) coordinates: Coordinates,
    pub(crate) bytes: u64,
    /// Number of files, if it is not one.
    pub(crate) files: Option<u64>,
    /// What was seen of the tool's lock.
    pub(crate) lock: Seen,
    /// The source's schemas after the dump.
    pub(crate) schemas: Vec<String>,
    /// Tables that cannot be loaded in strict mode.
    pub(crate) lenient: Tables,
}

/// A Backup. `dump` checks that the tool can dump what the source has and calls [`values`] before it writes anything. When it returns
/// the dump is complete and on disk, and [`Read`] has the definitions that were read with it. When this returns Ok the coordinates are
/// recorded; otherwise there is no dump: `remove` removes it.
pub(crate) fn backup(
    config: &Arc<Config>,
    ctx: &Context,
    remove: impl FnOnce() -> Result<()>,
    dump: impl FnOnce(&DumpSource, &mut Read) -> Result<Dumped>,
) -> Result<String> {
    ctx.report("Running backup");
    let result = dump_and_record(config, ctx, dump);
    if result.is_err()
        && let Err(e) = remove()
    {
        log::error!("the remainder of a failed dump was not removed: {e}");
    }
    result
}

fn dump_and_record(
    config: &Arc<Config>,
    ctx: &Context,
    dump: impl FnOnce(&DumpSource, &mut Read) -> Result<Dumped>,
) -> Result<String> {
    let mut seed = ctx.seed()?;
    let peer = seed.peer.take();
    let peer = peer.ok_or_else(|| Error::permanent("backup was called without a source"))?;
    let endpoint = Endpoint::remote(&config.mysql, &peer.host, peer.mysql_port);
    let (settings, from) = (Arc::clone(config), endpoint.clone());
    let state: PhysicalState = seed.method_state()?;
    let replaced = state.datadir.filter(|_| seed.classic);
    let (facts, identity) = ctx.interruptible(move || {
        let (facts, mut conn) =
            preflight::source_of(&settings, &from, seed.method, replaced.as_deref())?;
        let identity = Identity::hold(&from).and_then(|i| i.verify(&mut conn).map(|()| i));
        let identity = identity.map_err(|e| e.context(format!("source {}", from.name())))?;
        Ok((facts, Arc::new(identity)))
    })?;
    ctx.progress().expect(facts.bytes);
    ctx.update_state(|_, s: &mut LogicalState| {
        s.source_variables = facts.variables;
        s.source_bytes = facts.bytes;
    })?;
    let source = DumpSource {
        endpoint,
        server: facts.server,
        directories: facts.directories,
        identity,
    };
    let mut read = Read {
        before: facts.definitions,
        early: None,
        inexact: facts.inexact,
    };
    let dumped = dump(&source, &mut read)?;
    ctx.report("Running backup. Reading the source's definitions");
    let from = source.endpoint.clone();
    ctx.interruptible(move || xa::refuse_prepared_after_dump(&from))?;
    kept::keep(config, ctx, &source.endpoint, read)?;
    let files = dumped.files.map(|n| format!(" in {n} files"));
    let (c, lock) = (dumped.coordinates, dumped.lock);
    let text = format!(
        "Dumped {} bytes{}. Coordinates {}:{}. {lock}",
        dumped.bytes,
        files.unwrap_or_default(),
        c.log_file,
        c.log_pos
    );
    // A schema that was created while the dump ran is in it as well.
    let schemas: BTreeSet<String> = facts.schemas.into_iter().chain(dumped.schemas).collect();
    ctx.update_state(|seed, state: &mut LogicalState| {
        seed.coordinates = Some(c);
        seed.source_lock_ms = Some(milliseconds(lock.longest));
        state.dump_bytes = dumped.bytes;
        state.source_schemas = schemas.into_iter().collect();
        state.lenient_tables = dumped.lenient;
    })?;
    Ok(text)
}

/// What is read from the source in a thread of its own while a tool works, once its dump's position is fixed: the dump itself goes on
/// for hours.
pub(crate) struct Early<T> {
    read: Box<dyn Fn() -> Result<T> + Send + Sync>,
    thread: Mutex<Option<JoinHandle<Result<T>>>>,
}

impl<T: Send + 'static> Early<T> {
    pub(crate) fn new(read: impl Fn() -> Result<T> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            read: Box::new(read),
            thread: Mutex::default(),
        })
    }

    /// Reads, at the first call.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let this = Arc::clone(self);
            *thread = spawn("early", move || (this.read)()).ok(); // else it is read by `get`
        }
    }

    /// What was read; if that is missing or has failed, what is there now.
    pub(crate) fn get(&self) -> Result<T> {
        match lock(&self.thread).take().and_then(|t| t.join().ok()) {
            Some(Ok(early)) => Ok(early),
            _ => (self.read)(),
        }
    }
}

/// `e` with `what: ` in front, unless the work was cancelled.
pub(super) fn context(e: Error, what: impl Display) -> Error {
    if e.is_cancelled() { e } else { e.context(what) }
}

/// What a dump does not carry exactly of the rows of `source`, as messages. All tables that may hold such values are read.
///
/// # Errors
/// Permanent: the method cannot copy something. If a query fails; cancelled.
pub(crate) fn values(config: &Config, ctx: &Context, source: &Endpoint) -> Result<Vec<String>> {
    let method = ctx.seed()?.method;
    let left_out = left_out(config, method);
    let progress = Arc::clone(ctx.progress());
    scan(ctx, source, move |conn, server| {
        values::search(conn, server, &left_out, None, || progress.touch())
    })
    .and_then(|found| contents::refuse(&values::inspect(&found, method), method))
}

/// Reads rows of `source`, as long as that takes, in a session of its own with the settings of a dump. A cancellation ends the session.
pub(crate) fn scan<T: Send + 'static>(
    ctx: &Context,
    source: &Endpoint,
    work: impl FnOnce(&mut Conn, Server) -> Result<T> + Send + 'static,
) -> Result<T> {
    let from = source.clone();
    let (mut conn, server) = ctx.interruptible(move || {
        let mut conn = connect(&from, SEARCH_TIMEOUT)?;
        let server = Server::ask(&mut conn)?;
        settings::apply(&mut conn, server, Purpose::Dump, &BTreeMap::new())?;
        Ok((conn, server))
    })?;
    let id = u64::from(conn.connection_id());
    let result = ctx.interruptible(move || work(&mut conn, server));
    if ctx.cancel().is_cancelled() {
        end_connection(source, id);
    }
    result.map_err(|e| context(e, format!("source {}", source.name())))
}

/// Ends a session of a client that was killed, and the statement that continues in it. By a new connection: one that is open may itself
/// be waiting.
pub(crate) fn end_connection(server: &Endpoint, id: u64) {
    let ended = connect(server, Duration::from_secs(3)).and_then(|mut conn| {
        control::wait_until_gone(|| control::kill(&mut conn, &server.user, |i, _| i == id))
    });
    if let Err(e) = ended {
        log::warn!("cannot end connection {id} on {}: {e}", server.name());
    }
}

/// For the option file of a client of `server`.
pub(crate) fn login(endpoint: &Endpoint, server: Server, plugin_dir: Option<PathBuf>) -> Login<'_> {
    Login {
        host: &endpoint.host,
        port: endpoint.port,
        socket: &endpoint.socket,
        user: &endpoint.user,
        password: endpoint.password.reveal(),
        public_key: server.flavour == Flavour::MySql,
        plugin_dir,
        server: None,
    }
}

/// What each session of a dump tool begins with: the check that it is at the source, and the settings of a dump.
pub(crate) fn dump_sessions(ctx: &Context, source: &DumpSource) -> Result<SessionInit> {
    let from = source.endpoint.clone();
    let init =
        ctx.interruptible(move || settings::session_init(&from, Purpose::Dump, &BTreeMap::new()))?;
    Ok(init.first(source.identity.assignment()))
}

/// What each session of a tool that loads into the local server begins with: the check that it is there, nothing of it is written to
/// the binary log, and no setting of this server changes what the dump means.
pub(crate) fn load_sessions(
    config: &Config,
    ctx: &Context,
    identity: &Identity,
) -> Result<SessionInit> {
    let local = Endpoint::local(&config.mysql);
    let of_source = ctx.state::<LogicalState>()?.source_variables;
    let init = settings::session_init(&local, Purpose::Load, &of_source)?;
    Ok(init.first(identity.assignment()))
}

/// What is known before a load.
pub(crate) struct Loading {
    pub(crate) target: TargetServer,
    /// What identifies the target to the tools.
    pub(crate) identity: Arc<Identity>,
    /// Bytes of the dump.
    pub(crate) bytes: u64,
    /// The source's at the moment of the dump.
    pub(crate) coordinates: Coordinates,
    /// Tables of the dump that cannot be loaded in strict mode.
    pub(crate) lenient: Tables,
}

/// Begins a Restore: the dump that is in `place`, with `bytes` and coordinates that `is_same` accepts, is the one that Backup made, and
/// the server is the one that Prepare has checked and may be replaced.
pub(crate) fn loading(
    config: &Config,
    ctx: &Context,
    place: &Path,
    bytes: u64,
    is_same: impl Fn(&Coordinates) -> bool,
) -> Result<Loading> {
    let seed = ctx.seed()?;
    let state: LogicalState = seed.method_state()?;
    let recorded = seed.coordinates.filter(is_same);
    let Some(coordinates) = recorded.filter(|_| bytes == state.dump_bytes) else {
        return Err(Error::permanent(format!(
            "{} is not the dump that Backup made ({bytes} bytes, not {}): run a new seed",
            place.display(),
            state.dump_bytes
        )));
    };
    let mut target = TargetServer::open(&config.mysql)?;
    compatibility::check_target_role(&mut target.conn, target.server)?;
    ctx.cancel().check()?;
    Ok(Loading {
        identity: target.identity(state.target_server.as_ref())?,
        target,
        bytes,
        coordinates,
        lenient: state.lenient_tables,
    })
}

/// A Restore from its first statement on: the server is prepared, `load` fills it, GTID state and accounts are set, and every
/// setting is restored on every path. After an error the record has whether data are partial.
pub(crate) fn restore(
    config: &Config,
    ctx: &Context,
    mut loading: Loading,
    load: impl FnOnce(&mut Loading) -> Result<()>,
) -> Result<String> {
    let result = fill(config, ctx, &mut loading, load);
    let is_complete = result.is_ok();
    let restored = ctx
        .seed()
        .and_then(|s| loading.target.restore_settings_soon(&s, is_complete))
        .and_then(|()| ctx.update(|s| s.pending_restore.clear()));
    if let Err(e) = &restored {
        log::error!("settings of MySQL are not restored yet: {e}");
    }
    let notes = result?;
    restored?;
    check_login(&config.mysql)?;
    Ok(notes)
}

/// A new login with the configured account.
fn check_login(settings: &config::Mysql) -> Result<()> {
    let login = connect(&Endpoint::local(settings), LOGIN_TIMEOUT);
    login.map(drop).map_err(|e| {
        Error::permanent(format!(
            "the data are loaded, but the accounts are the source's now and mysql.user = \"{}\" cannot log in any more ({e}); create \
             this account on the source for this host",
            settings.user
        ))
    })
}

fn fill(
    config: &Config,
    ctx: &Context,
    loading: &mut Loading,
    load: impl FnOnce(&mut Loading) -> Result<()>,
) -> Result<String> {
    let kept = Arc::new(kept::read(config, ctx.seed_id())?);
    let bytes = loading.bytes;
    loading.target.interruptible(ctx, |t| {
        t.begin(ctx)?;
        schemas::prepare(&mut t.conn, t.server, &kept)?;
        foreign_keys::drop_replaced(&mut t.conn, t.server, &kept.equal)
    })?;
    ctx.report("Running restore. Loading the dump");
    ctx.progress().expect(bytes);
    load(loading)?;
    ctx.progress().bytes(bytes);
    ctx.cancel().check()?;
    ctx.report("Running restore. Comparing definitions");
    let left_out = left_out(config, ctx.seed()?.method);
    let compared = definitions::check::check(config, ctx, &kept, left_out)?;
    ctx.report("Running restore. Setting accounts and GTID state");
    let of_source = ctx.state::<LogicalState>()?.source_schemas;
    let mut notes = vec![format!("Stage completed: {bytes} bytes loaded"), compared];
    let (target, coordinates) = (&mut loading.target, &loading.coordinates);
    target.interruptible(ctx, |t| {
        notes.push(t.complete(ctx, coordinates)?);
        schemas::make_read_only(&mut t.conn, &kept)
    })?;
    ctx.update(|s| s.load = Load::Complete)?;
    notes.extend(target.interruptible(ctx, |t| t.extras(&of_source))?);
    notes.retain(|n| !n.is_empty());
    Ok(notes.join(", "))
}
