//! Mydumper: the target pulls a dump from the source into a directory in `backup-dir`, with a thread per processor, and loads
//! it into its running server in the same way.

mod backup;
mod content;
mod log;
mod objects;
pub mod options;
mod restore;
mod strict;
mod tool;
pub mod version;

use super::logical::target_server::TargetServer;
use super::{logical, preflight};
use crate::config::Config;
use crate::error::Result;
use crate::mysql::Server;
use crate::process::Launcher;
use crate::seed::record::Seed;
use crate::seed::stage::{Context, Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use std::path::PathBuf;
use std::sync::Arc;
use version::{Tool, ToolVersion};

#[derive(Clone)]
pub(super) struct Mydumper {
    config: Arc<Config>,
    /// Without sudo: both tools are clients over the network, and what mydumper writes this process must read and remove.
    launcher: Launcher,
}

impl Mydumper {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            launcher: Launcher::default(),
        }
    }

    /// The dump, under the name that the Go agent gives it.
    fn directory(&self) -> PathBuf {
        let backup_dir = &self.config.common.backup_dir;
        backup_dir.join("orchestrator_agent_backup")
    }

    /// What the agent itself dumps.
    fn objects_directory(&self) -> PathBuf {
        self.directory().with_extension("objects")
    }

    fn given(&self, tool: Tool) -> &[String] {
        match tool {
            Tool::Mydumper => &self.config.mydumper.mydumper_additional_opts,
            Tool::Myloader => &self.config.mydumper.myloader_additional_opts,
        }
    }

    /// The operator's options for a tool of this version; those that were dropped are in the log.
    fn options(&self, tool: Tool, version: ToolVersion) -> Result<Vec<String>> {
        let (kept, dropped) = options::operators(tool, self.given(tool));
        options::check(tool, version, &kept)?;
        for option in dropped {
            ::log::error!(
                "{}: {option} is set by the agent itself and was dropped",
                tool.setting()
            );
        }
        Ok(kept)
    }

    /// Both tools are here, are of a version that has been tried, and take the operator's options.
    fn check_tools(&self) -> Result<()> {
        for tool in [Tool::Mydumper, Tool::Myloader] {
            let (kept, _) = options::operators(tool, self.given(tool));
            let version = self.version(tool)?;
            version::supported(tool, version, self.config.mydumper.any_version)?;
            options::check(tool, version, &kept)?;
        }
        Ok(())
    }
}

impl SeedMethod for Mydumper {
    fn method(&self) -> Method {
        Method::Mydumper
    }

    fn available(&self) -> Result<()> {
        preflight::writable(&self.config.common.backup_dir, "common.backup-dir")?;
        self.check_tools()
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        let this = self.clone();
        let tools = move |server: Server| {
            this.check_tools()?;
            this.launcher.find(server.flavour.client_tools()).map(drop)
        };
        logical::prepare(&self.config, ctx, side, tools, || self.remove_dump())
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        let dump = |source: &_, read: &mut _| self.dump(ctx, source, read);
        logical::backup(&self.config, ctx, || self.remove_dump(), dump)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        self.load(ctx)
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        logical::cleanup(&self.config, ctx, side, || self.remove_dump())
    }

    fn restore_settings(&self, seed: &Seed) -> Result<()> {
        TargetServer::open(&self.config.mysql)?.restore_settings(seed)
    }
}
