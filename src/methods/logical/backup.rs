//! A Backup by Mysqldump or Mydumper: what is checked, dumped and read again on the source, in this order for both tools.

use crate::config::Config;
use crate::contents::row_mode::Tables;
use crate::coordinates::Coordinates;
use crate::error::Result;
use crate::methods::logical::definitions::kept::Read;
use crate::methods::state::LogicalState;
use crate::mysql::{Endpoint, Flavour, Identity, Server};
use crate::process::Login;
use crate::seed::source_lock::{Seen, milliseconds};
use crate::seed::stage::Context;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// The source of a dump, once it was checked.
pub(crate) struct DumpSource {
    pub(crate) endpoint: Endpoint,
    pub(crate) server: Server,
    /// Directories that the server lists as schemas.
    pub(crate) directories: Vec<String>,
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

/// The steps of a Backup that differ by tool, in this order.
pub(crate) trait DumpTool {
    type Checked;
    type Written;

    /// That the tool can dump what the source has. Nothing is written.
    fn check(&self, ctx: &Context, source: &DumpSource) -> Result<Self::Checked>;

    /// Dumps. When this returns the dump is complete and on disk, and `read` has the definitions that were read with it.
    fn write(
        &self,
        ctx: &Context,
        source: &DumpSource,
        read: &mut Read,
        checked: Self::Checked,
    ) -> Result<Self::Written>;

    /// Called when the source's definitions were read once more.
    fn finish(&self, ctx: &Context, source: &DumpSource, written: Self::Written) -> Result<Dumped>;

    /// Removes the dump, if there is one.
    fn remove_dump(&self) -> Result<()>;
}

/// The whole stage. When it returns Ok the dump is on disk and its coordinates are recorded; otherwise there is no dump.
///
/// # Errors
/// Those of the steps; cancelled.
pub(crate) fn backup(tool: &impl DumpTool, config: &Arc<Config>, ctx: &Context) -> Result<String> {
    ctx.report("Running backup");
    let result = dump(tool, config, ctx);
    if result.is_err()
        && let Err(e) = tool.remove_dump()
    {
        log::error!("the remainder of a failed dump was not removed: {e}");
    }
    result
}

fn dump(tool: &impl DumpTool, config: &Arc<Config>, ctx: &Context) -> Result<String> {
    let (endpoint, facts, identity) = super::source(config, ctx)?;
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
    let checked = tool.check(ctx, &source)?;
    let values = super::values(config, ctx, &source.endpoint)?;
    read.inexact.extend(values);
    let written = tool.write(ctx, &source, &mut read, checked)?;
    super::keep_definitions(config, ctx, &source.endpoint, read)?;
    let dumped = tool.finish(ctx, &source, written)?;
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
