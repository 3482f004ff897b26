//! What the two methods have in common that dump on the source and load into the target's running server: Mysqldump and Mydumper.

use super::definitions;
use super::mysqldump::options::ignored_tables;
use super::preflight::{self, SourceFacts};
use super::server_state;
use super::settings;
use super::state::LogicalState;
use super::target_server::TargetServer;
use super::values;
use crate::config::Config;
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::mysql::profile::Purpose;
use crate::mysql::{Endpoint, Identity, Server, connect, control};
use crate::process::SessionInit;
use crate::seed::record::Load;
use crate::seed::stage::Context;
use crate::seed::stage::Prepared;
use crate::seed::types::{Method, Side};
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// For the search of one table.
const SEARCH: Duration = Duration::from_secs(6 * 3600);

/// A Prepare. On the target `tools` checks them for the server, once it has been checked itself, and `remove` makes place for
/// the dump. Nothing else is changed; may be called again.
///
/// # Errors
/// As [`preflight::source`] and [`preflight::target`]; those of `tools` and `remove`; cancelled.
pub fn prepare(
    config: &Arc<Config>,
    ctx: &Context,
    side: Side,
    tools: impl Fn(Server) -> Result<()> + Send + 'static,
    remove: impl FnOnce() -> Result<()>,
) -> Result<Prepared> {
    let config = Arc::clone(config);
    if side == Side::Source {
        let method = ctx.seed()?.method;
        let checked = ctx.interruptible(move || preflight::source(&config, method));
        return checked.map(Prepared::from);
    }
    ctx.report("Running prepare");
    let settings = Arc::clone(&config);
    let server = ctx.interruptible(move || preflight::target(&settings, tools))?;
    ctx.update_state(|_, s: &mut LogicalState| s.target_server = Some(server))?;
    definitions::remove(&config)?;
    remove()?;
    Ok("Stage completed".into())
}

/// A Cleanup: on the target the dump goes, by `remove`. May be called again.
///
/// # Errors
/// Those of `remove`.
pub fn cleanup(
    config: &Config,
    ctx: &Context,
    side: Side,
    remove: impl FnOnce() -> Result<()>,
) -> Result<String> {
    if side == Side::Target {
        ctx.report("Running cleanup");
        definitions::remove(config)?;
        remove()?;
    }
    Ok("Stage completed".into())
}

/// Runs a Backup. Where it fails there is no dump, by `remove`.
///
/// # Errors
/// The Backup's own.
pub fn dump(
    pull: impl FnOnce() -> Result<String>,
    remove: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let result = pull();
    if result.is_err()
        && let Err(e) = remove()
    {
        log::error!("the useless rest of a dump stays: {e}");
    }
    result
}

/// Tables that the operator's options leave out of a dump, as `schema.table`.
pub fn left_out(config: &Config, method: Method) -> BTreeSet<String> {
    if method == Method::Mysqldump {
        return ignored_tables(&config.mysqldump.additional_opts);
    }
    BTreeSet::new()
}

/// The source that Backup was called with, when all that can be known of it fits the target; and what identifies it to the tools.
///
/// # Errors
/// As [`preflight::source_of`] and [`Identity::hold`]; cancelled.
pub fn source(
    config: &Arc<Config>,
    ctx: &Context,
) -> Result<(Endpoint, SourceFacts, Arc<Identity>)> {
    let seed = ctx.seed()?;
    let peer = seed
        .peer
        .ok_or_else(|| Error::permanent("backup was called without a source"))?;
    let source = Endpoint::remote(&config.mysql, &peer.host, peer.mysql_port);
    let (config, from) = (Arc::clone(config), source.clone());
    let (facts, identity) = ctx.interruptible(move || {
        let (facts, mut conn) = preflight::source_of(&config, &from, seed.method)?;
        let held = Identity::hold(&from).and_then(|identity| {
            identity.verify(&mut conn)?;
            Ok(Arc::new(identity))
        });
        let identity = held.map_err(|e| e.context(format!("source {}", from.name())))?;
        Ok((facts, identity))
    })?;
    ctx.progress().expect(facts.bytes);
    let variables = facts.variables.clone();
    ctx.update_state(|_, s: &mut LogicalState| s.source_variables = variables)?;
    Ok((source, facts, identity))
}

/// What a dump by `method` does not carry exactly of the rows of `source`, as messages. All tables that may hold such values are read.
///
/// # Errors
/// Permanent: `method` cannot copy something. If a query fails; cancelled.
pub fn values(config: &Config, ctx: &Context, source: &Endpoint) -> Result<Vec<String>> {
    let method = ctx.seed()?.method;
    let left_out = left_out(config, method);
    let progress = Arc::clone(ctx.progress());
    let found = scan(ctx, source, move |conn, server| {
        values::search(conn, server, &left_out, None, || progress.touch())
    });
    let name = source.name();
    found
        .and_then(|found| values::check(&found, method))
        .map_err(|e| {
            if e.is_cancelled() {
                e
            } else {
                e.context(format!("source {name}"))
            }
        })
}

/// Reads rows of `source`, as long as that takes, in a session of its own with the settings of a dump. A cancellation ends the session.
///
/// # Errors
/// Those of `work`; if the source cannot be reached or refuses a setting; cancelled.
pub fn scan<T: Send + 'static>(
    ctx: &Context,
    source: &Endpoint,
    work: impl FnOnce(&mut Conn, Server) -> Result<T> + Send + 'static,
) -> Result<T> {
    let from = source.clone();
    let (mut conn, server) = ctx.interruptible(move || {
        let mut conn = connect(&from, SEARCH)?;
        let server = Server::ask(&mut conn)?;
        settings::apply(&mut conn, server, Purpose::Dump, &BTreeMap::new())?;
        Ok((conn, server))
    })?;
    let id = u64::from(conn.connection_id());
    let result = ctx.interruptible(move || work(&mut conn, server));
    if ctx.cancel().is_cancelled() {
        let ended = connect(source, Duration::from_secs(3)).and_then(|mut conn| {
            control::wait_until_gone(|| control::kill_connection(&mut conn, &source.user, id))
        });
        if let Err(e) = ended {
            log::warn!("cannot end a query on {}: {e}", source.name());
        }
    }
    result
}

/// What each session of a dump tool at `source` begins with: the proof that it is there, and the settings of a dump.
///
/// # Errors
/// If the source cannot be reached or refuses one; cancelled.
pub fn dump_sessions(ctx: &Context, source: &Endpoint, identity: &Identity) -> Result<SessionInit> {
    let source = source.clone();
    let init = ctx
        .interruptible(move || settings::session_init(&source, Purpose::Dump, &BTreeMap::new()))?;
    Ok(init.first(identity.assignment()))
}

/// That `tool`, which takes no init command, makes a true dump of `source` with the settings that this has.
///
/// # Errors
/// Permanent, with the settings; if the source cannot be reached; cancelled.
pub fn check_tool_without_init(ctx: &Context, tool: &str, source: &Endpoint) -> Result<()> {
    let (tool, source) = (tool.to_string(), source.clone());
    ctx.interruptible(move || settings::check_tool_without_init(&tool, &source))
}

/// What each session of a tool that loads into the local server begins with: the proof that it is there, nothing of it is written to
/// the binary log, and no setting of this server changes what the dump means.
///
/// # Errors
/// If the server cannot be reached or refuses one.
pub fn load_sessions(config: &Config, ctx: &Context, identity: &Identity) -> Result<SessionInit> {
    let local = Endpoint::local(&config.mysql);
    let of_source = ctx.state::<LogicalState>()?.source_variables;
    let init = settings::session_init(&local, Purpose::Load, &of_source)?;
    Ok(init.first(identity.assignment()))
}

/// Ends a Backup: the source's definitions are read once more and kept with the dump.
///
/// # Errors
/// As [`server_state::none_prepared_after_dump`] and [`definitions::keep`].
pub fn dumped(
    config: &Config,
    ctx: &Context,
    source: &Endpoint,
    read: definitions::Read,
) -> Result<()> {
    ctx.report("Running backup. Reading the source's definitions");
    let from = source.clone();
    ctx.interruptible(move || server_state::none_prepared_after_dump(&from))?;
    definitions::keep(config, ctx, source, read)
}

/// What a Restore loads.
pub struct Loading<'a> {
    /// Bytes of the dump.
    pub bytes: u64,
    /// The source's at the moment of the dump.
    pub coordinates: &'a Coordinates,
}

/// A Restore from its first statement on: the server is made ready, `load` fills it, GTID state and accounts are set, and every
/// setting is put back on every path. What `load` returns is told in the stage's Details.
///
/// # Errors
/// The first cause; the record says whether data are partial.
pub fn restore(
    config: &Config,
    ctx: &Context,
    mut target: TargetServer,
    what: &Loading,
    load: impl FnOnce(&mut TargetServer) -> Result<String>,
) -> Result<String> {
    let result = fill(config, ctx, &mut target, what, load);
    let whole = result.is_ok();
    let settled = ctx
        .seed()
        .and_then(|s| target.restore_settings_soon(&s, whole))
        .and_then(|()| ctx.update(|s| s.pending_restore.clear()));
    if let Err(e) = &settled {
        log::error!("settings of MySQL are not restored yet: {e}");
    }
    let notes = result?;
    settled?;
    TargetServer::prove_login(&config.mysql)?;
    Ok(notes)
}

fn fill(
    config: &Config,
    ctx: &Context,
    target: &mut TargetServer,
    what: &Loading,
    load: impl FnOnce(&mut TargetServer) -> Result<String>,
) -> Result<String> {
    let kept = Arc::new(definitions::kept(config, ctx.seed_id())?);
    target.interruptible(ctx, |t| t.begin(ctx))?;
    target.interruptible(ctx, |t| t.ready(&kept))?;
    ctx.report("Running restore. Loading the dump");
    ctx.progress().expect(what.bytes);
    let told = load(target)?;
    ctx.progress().bytes(what.bytes);
    ctx.cancel().check()?;
    ctx.report("Running restore. Comparing definitions");
    let left_out = left_out(config, ctx.seed()?.method);
    let compared = definitions::check(config, ctx, &kept, left_out)?;
    ctx.report("Running restore. Setting accounts and GTID state");
    let of_source = ctx.state::<LogicalState>()?.source_schemas;
    let mut notes = vec![
        format!("Stage completed: {} bytes loaded", what.bytes),
        told,
        compared,
    ];
    notes.push(target.interruptible(ctx, |t| t.complete(ctx, what.coordinates))?);
    target.interruptible(ctx, |t| t.read_only_schemas(&kept))?;
    ctx.update(|s| s.load = Load::Whole)?;
    notes.extend(target.interruptible(ctx, |t| t.extras(&of_source))?);
    notes.retain(|n| !n.is_empty());
    Ok(notes.join(", "))
}
