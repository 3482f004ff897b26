//! Restore: the agent's own objects and myloader's tables and rows, into the running server.

use super::backup::read_metadata;
use super::options;
use super::tool::{Call, End, size};
use super::version::{Tool, ToolVersion};
use super::{Mydumper, log, objects};
use crate::contents::target_server::TargetServer;
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::methods::logical;
use crate::methods::logical::Loading;
use crate::methods::mysqldump::{self, messages};
use crate::methods::state::LogicalState;
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
        let seed = ctx.seed()?;
        let state: LogicalState = seed.method_state()?;
        let directory = self.directory();
        let found = read_metadata(&directory)?;
        let bytes = size(&directory).0 + objects::size(&self.objects_directory());
        let same = |c: &Coordinates| c.log_file == found.log_file && c.log_pos == found.log_pos;
        let coordinates = seed.coordinates.clone().filter(same);
        let Some(coordinates) = coordinates.filter(|_| bytes == state.dump_bytes) else {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({bytes} bytes, not {}): call prepare again",
                directory.display(),
                state.dump_bytes
            )));
        };
        let version = self.version(Tool::Myloader)?;
        let kept = self.options(Tool::Myloader, version)?;
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        objects::check_target(&self.objects_directory(), &target.columns_of_server()?)?;
        ctx.cancel().check()?;

        let identity = target.identity(state.target_server.as_ref())?;
        let what = Loading {
            bytes,
            coordinates: &coordinates,
        };
        logical::restore(&self.config, ctx, target, &what, |t| {
            self.load_objects(ctx, t.server, &identity, objects::BEFORE)?;
            self.load_rows(ctx, t.server, version, &identity, &kept)?;
            self.load_objects(ctx, t.server, &identity, objects::OF_SERVER)?;
            // Views are checked with the privileges of the definers of views that they refer to (1449).
            t.interruptible(ctx, TargetServer::flush_privileges)?;
            self.load_objects(ctx, t.server, &identity, objects::AFTER)?;
            ctx.cancel().check()?;
            t.interruptible(ctx, |t| t.adopt_gtid_set(&coordinates.gtid_executed))?;
            Ok(String::new())
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
        let client =
            mysqldump::load::Load::new(ctx, &self.config, &self.launcher, server, identity)?;
        let result = client.run_script(&script);
        result.map_err(|e| match e.tool_stderr().and_then(messages::line_of) {
            Some(line) => {
                let object = objects::object_at(&script, line).unwrap_or_default();
                let doing = if name == objects::OF_SERVER {
                    "loading"
                } else {
                    "creating"
                };
                e.context(format!("{doing} {object}"))
            }
            _ => e,
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
        let (before, _) = progress.get();
        let mut done = before;
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
            .map_err(|e| {
                if e.is_cancelled() {
                    e
                } else {
                    identity.explain("myloader", e).context("loading the dump")
                }
            })
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
