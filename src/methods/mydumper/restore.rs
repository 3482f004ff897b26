//! Restore: the agent's own objects and myloader's tables and rows, into the running server.

use super::backup::read_metadata;
use super::options;
use super::tool::{Call, End, size};
use super::version::{Tool, ToolVersion};
use super::{Mydumper, log, objects};
use crate::error::Result;
use crate::methods::logical;
use crate::methods::logical::target_server::TargetServer;
use crate::methods::mysqldump::load::Load;
use crate::methods::mysqldump::messages;
use crate::mysql::{Endpoint, Identity, Server};
use crate::process::Cancel;
use crate::seed::stage::Context;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Mydumper {
    /// The whole stage. Until the last check has passed nothing on the server is changed. When it returns Ok the data are
    /// complete, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let (directory, place) = (self.directory(), self.objects_directory());
        let found = read_metadata(&directory)?;
        let bytes = size(&directory).0 + objects::size(&place);
        // The recorded ones have the server's GTID set.
        let mut loading = logical::loading(&self.config, ctx, &directory, bytes, |c| {
            c.log_file == found.log_file && c.log_pos == found.log_pos
        })?;
        let version = self.version(Tool::Myloader)?;
        let kept = self.options(Tool::Myloader, version)?;
        objects::check_target(
            &place,
            &objects::columns_of_server(&mut loading.target.conn)?,
        )?;
        ctx.cancel().check()?;
        logical::restore(&self.config, ctx, loading, |l| {
            let (server, t) = (l.target.server, &mut l.target);
            let script = |name| self.load_objects(ctx, server, &l.identity, name);
            script(objects::BEFORE)?;
            self.load_rows(ctx, server, version, &l.identity, &kept)?;
            script(objects::OF_SERVER)?;
            // Views are checked with the privileges of the definers of views that they refer to (1449).
            t.interruptible(ctx, TargetServer::flush_privileges)?;
            script(objects::AFTER)?;
            ctx.cancel().check()?;
            t.interruptible(ctx, |t| t.adopt_gtid_set(&l.coordinates.gtid_executed))
        })
    }

    /// Executes one of the scripts with the server's own client.
    fn load_objects(
        &self,
        ctx: &Context,
        server: Server,
        identity: &Arc<Identity>,
        name: &str,
    ) -> Result<()> {
        let script = self.objects_directory().join(name);
        let identity = Arc::clone(identity);
        let client = Load::new(ctx, &self.config, &self.launcher, server, identity)?;
        client.run_script(&script).map_err(|e| {
            let Some(line) = e.tool_stderr().and_then(messages::line_of) else {
                return e;
            };
            let object = objects::object_at(&script, line).unwrap_or_default();
            let is_created = name != objects::OF_SERVER;
            let doing = if is_created { "creating" } else { "loading" };
            e.context(format!("{doing} {object}"))
        })
    }

    fn load_rows(
        &self,
        ctx: &Context,
        server: Server,
        version: ToolVersion,
        identity: &Identity,
        kept: &[String],
    ) -> Result<()> {
        let local = Endpoint::local(&self.config.mysql);
        let directory = self.directory();
        let first = logical::load_sessions(&self.config, ctx, identity)?;
        let credentials = self.credentials(&local, server, Tool::Myloader, version, first)?;
        let arguments =
            options::load_arguments(version, credentials.path(), &local, &directory, kept);
        let progress = Arc::clone(ctx.progress());
        let mut sizes = sizes(&directory);
        let (mut done, _) = progress.get();
        let line = move |text: &str| {
            progress.touch();
            if let Some(n) = log::file_of(text).and_then(|name| sizes.remove(&name)) {
                progress.bytes(done); // what is begun now is not yet loaded
                done += n;
            }
        };
        let call = Call {
            tool: Tool::Myloader,
            arguments: &arguments,
            server: &local,
            stop: &Cancel::default(),
        };
        self.run(ctx, &call, line, || {})
            .and_then(End::well)
            .map_err(|e| logical::context(identity.explain("myloader", e), "loading the dump"))
    }
}

/// Sizes of the dump's files by name; of compressed ones also by the name that 0.10 prints.
fn sizes(directory: &Path) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for file in files {
        // Through a link, where it is one.
        if let Ok(m) = std::fs::metadata(file.path()) {
            let name = file.file_name().to_string_lossy().into_owned();
            let plain = name.strip_suffix(".gz").unwrap_or(&name);
            out.insert(plain.to_string(), m.len());
            out.insert(name, m.len());
        }
    }
    out
}
