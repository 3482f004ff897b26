//! Mydumper: the target pulls a dump from the source into a directory in `backup-dir`, with a thread per processor, and loads
//! it into its running server in the same way.

mod backup;
mod log;
pub mod options;
mod parts;
mod restore;
mod tool;
pub mod version;

use super::target_server::TargetServer;
use super::{Prepared, SeedMethod, logical, preflight};
use crate::config::Config;
use crate::error::Result;
use crate::process::Launcher;
use crate::seed::context::Context;
use crate::seed::record::Seed;
use crate::seed::vocabulary::{Method, Side};
use options::Tool;
use std::path::PathBuf;
use std::sync::Arc;
use version::ToolVersion;

/// The method with the configuration it works by.
#[derive(Clone)]
pub struct Mydumper {
    config: Arc<Config>,
    /// Without sudo: both tools are clients over the network, and what mydumper writes this process must read and remove.
    launcher: Launcher,
}

impl Mydumper {
    /// By the configuration.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            launcher: Launcher::default(),
        }
    }

    /// The dump, under the Go agent's name (agent-api-v2 4.2).
    fn directory(&self) -> PathBuf {
        let backup_dir = &self.config.common.backup_dir;
        backup_dir.join("orchestrator_agent_backup")
    }

    fn parts_directory(&self) -> PathBuf {
        self.directory().with_extension("parts")
    }

    fn remove_dump(&self) -> Result<()> {
        parts::remove(&self.parts_directory())?;
        parts::remove(&self.directory())
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

    /// Both tools are here and take the operator's options.
    fn check_tools(&self) -> Result<()> {
        for tool in [Tool::Mydumper, Tool::Myloader] {
            let (kept, _) = options::operators(tool, self.given(tool));
            options::check(tool, self.version(tool)?, &kept)?;
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
        let tools = move |_| this.check_tools();
        logical::prepare(&self.config, ctx, side, tools, || self.remove_dump())
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        self.dump(ctx)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        self.load(ctx)
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        logical::cleanup(&self.config, ctx, side, || self.remove_dump())
    }

    fn put_back(&self, seed: &Seed) -> Result<()> {
        TargetServer::open(&self.config.mysql)?.put_back(seed)
    }
}
