//! What the two methods have in common that dump on the source and load into the target's running server: Mysqldump and Mydumper.

pub(crate) mod backup;
pub(crate) mod definitions;
pub(crate) mod early;
pub(crate) mod target_server;

use super::preflight::{self, SourceFacts};
use super::state::LogicalState;
use crate::config::{self, Config};
use crate::contents::target_server::TargetServer;
use crate::contents::{left_out, values, xa};
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::mysql::profile::Purpose;
use crate::mysql::{Endpoint, Identity, Server, connect, control, settings};
use crate::process::SessionInit;
use crate::seed::record::Load;
use crate::seed::stage::Context;
use crate::seed::stage::Prepared;
use crate::seed::types::Side;
use definitions::kept;
use mysql::Conn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For the search of one table.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A Prepare. On the target `tools` checks them for the server, once it has been checked itself, and `remove` removes an earlier
/// dump. Nothing else is changed; may be called again.
///
/// # Errors
/// As [`preflight::source`] and [`preflight::target`]; those of `tools` and `remove`; cancelled.
pub(crate) fn prepare(
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
    kept::remove(&config)?;
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

/// The source that Backup was called with, when all that can be known of it fits the target; and what identifies it to the tools.
///
/// # Errors
/// As [`preflight::source_of`] and [`Identity::hold`]; cancelled.
pub(crate) fn source(
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
        let identity = Identity::hold(&from).and_then(|identity| {
            identity.verify(&mut conn)?;
            Ok(Arc::new(identity))
        });
        let identity = identity.map_err(|e| e.context(format!("source {}", from.name())))?;
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
pub(crate) fn values(config: &Config, ctx: &Context, source: &Endpoint) -> Result<Vec<String>> {
    let method = ctx.seed()?.method;
    let left_out = left_out::tables(config, method);
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
        let ended = connect(source, Duration::from_secs(3)).and_then(|mut conn| {
            control::wait_until_gone(|| control::kill_connection(&mut conn, &source.user, id))
        });
        if let Err(e) = ended {
            log::warn!("cannot end a query on {}: {e}", source.name());
        }
    }
    result
}

/// What each session of a dump tool at `source` begins with: the check that it is there, and the settings of a dump.
///
/// # Errors
/// If the source cannot be reached or refuses one; cancelled.
pub(crate) fn dump_sessions(
    ctx: &Context,
    source: &Endpoint,
    identity: &Identity,
) -> Result<SessionInit> {
    let source = source.clone();
    let init = ctx
        .interruptible(move || settings::session_init(&source, Purpose::Dump, &BTreeMap::new()))?;
    Ok(init.first(identity.assignment()))
}

/// As [`settings::check_tool_without_init`].
///
/// # Errors
/// Permanent, with the settings; if the source cannot be reached; cancelled.
pub(crate) fn check_tool_without_init(ctx: &Context, tool: &str, source: &Endpoint) -> Result<()> {
    let (tool, source) = (tool.to_string(), source.clone());
    ctx.interruptible(move || settings::check_tool_without_init(&tool, &source))
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

/// Ends a Backup: the source's definitions are read once more and kept with the dump.
///
/// # Errors
/// As [`xa::refuse_prepared_after_dump`] and [`kept::keep`].
pub(crate) fn keep_definitions(
    config: &Config,
    ctx: &Context,
    source: &Endpoint,
    read: kept::Read,
) -> Result<()> {
    ctx.report("Running backup. Reading the source's definitions");
    let from = source.clone();
    ctx.interruptible(move || xa::refuse_prepared_after_dump(&from))?;
    kept::keep(config, ctx, source, read)
}

pub(crate) struct Loading<'a> {
    pub(crate) bytes: u64,
    /// The source's at the moment of the dump.
    pub(crate) coordinates: &'a Coordinates,
}

/// A Restore from its first statement on: the server is prepared, `load` fills it, GTID state and accounts are set, and every
/// setting is restored on every path. What `load` returns is added to the stage's Details.
///
/// # Errors
/// The first cause; whether data are partial is in the record.
pub(crate) fn restore(
    config: &Config,
    ctx: &Context,
    mut target: TargetServer,
    what: &Loading,
    load: impl FnOnce(&mut TargetServer) -> Result<String>,
) -> Result<String> {
    let result = fill(config, ctx, &mut target, what, load);
    let is_complete = result.is_ok();
    let restored = ctx
        .seed()
        .and_then(|s| target.restore_settings_soon(&s, is_complete))
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
    target: &mut TargetServer,
    what: &Loading,
    load: impl FnOnce(&mut TargetServer) -> Result<String>,
) -> Result<String> {
    let kept = Arc::new(kept::read(config, ctx.seed_id())?);
    target.interruptible(ctx, |t| t.begin(ctx))?;
    target.interruptible(ctx, |t| t.prepare_for(&kept))?;
    ctx.report("Running restore. Loading the dump");
    ctx.progress().expect(what.bytes);
    let note = load(target)?;
    ctx.progress().bytes(what.bytes);
    ctx.cancel().check()?;
    ctx.report("Running restore. Comparing definitions");
    let left_out = left_out::tables(config, ctx.seed()?.method);
    let compared = definitions::check::check(config, ctx, &kept, left_out)?;
    ctx.report("Running restore. Setting accounts and GTID state");
    let of_source = ctx.state::<LogicalState>()?.source_schemas;
    let mut notes = vec![
        format!("Stage completed: {} bytes loaded", what.bytes),
        note,
        compared,
    ];
    notes.push(target.interruptible(ctx, |t| t.complete(ctx, what.coordinates))?);
    target.interruptible(ctx, |t| t.make_read_only(&kept))?;
    ctx.update(|s| s.load = Load::Complete)?;
    notes.extend(target.interruptible(ctx, |t| t.extras(&of_source))?);
    notes.retain(|n| !n.is_empty());
    Ok(notes.join(", "))
}
