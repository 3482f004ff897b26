//! Mysqldump: the target pulls a dump from the source into `backup-dir` and loads it into its running server.

mod backup;
pub(super) mod load;
pub(crate) mod messages;
mod mode;
pub mod options;

use super::logical::target_server::TargetServer;
use super::{logical, preflight};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server};
use crate::process::{Launcher, version_text};
use crate::seed::record::Seed;
use crate::seed::stage::{Context, Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use crate::sys::file;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Mysqldump {
    config: Arc<Config>,
    launcher: Launcher,
}

impl Mysqldump {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let launcher = Launcher::new(&config.common);
        Self { config, launcher }
    }

    /// The dump, under the name that the Go agent gives it.
    fn dump_file(&self) -> PathBuf {
        let backup_dir = &self.config.common.backup_dir;
        backup_dir.join("orchestrator_agent_backup.sql")
    }

    fn remove_dump(&self) -> Result<()> {
        file::remove_if_there(&self.dump_file())
    }

    /// That the tools are there and can be started as they will be.
    fn tools_permitted(&self, flavour: Flavour) -> Result<()> {
        let dump = self.launcher.find(flavour.dump_tools())?;
        let client = self.launcher.find(flavour.client_tools())?;
        let version = options::version_of(&dump)?;
        if version.flavour != flavour {
            return Err(Error::permanent(format!(
                "{} is {}'s, and the server is {flavour}: put the directory of the server's own tools first in the agent's PATH",
                dump.display(),
                version.flavour
            )));
        }
        let of_client = options::tool_version(&version_text(&client)?).unwrap_or(version);
        let login = self.config.common.state_dir.join("tools/login.cnf");
        let (kept, _) = options::operators(&self.config.mysqldump.additional_opts);
        let sudo = self.launcher.sudo();
        let of_dump = options::dump_arguments(&login, version, sudo, &[], &kept);
        self.launcher.permits(&dump, &of_dump)?;
        let of_client = options::client_arguments(&login, of_client, sudo);
        self.launcher.permits(&client, &of_client)
    }
}

impl SeedMethod for Mysqldump {
    fn method(&self) -> Method {
        Method::Mysqldump
    }

    fn available(&self) -> Result<()> {
        if let Some(option) = options::incomplete(&self.config.mysqldump.additional_opts) {
            return Err(Error::permanent(format!(
                "mysqldump.mysqldump-addtional-opts: with {option} a dump is not a complete copy; remove it"
            )));
        }
        preflight::writable(&self.config.common.backup_dir, "common.backup-dir")?;
        preflight::tools_of_server(&self.config.mysql, |f| {
            self.launcher.find(f.dump_tools())?;
            self.launcher.find(f.client_tools()).map(drop)
        })
    }

    fn permitted(&self) -> Result<()> {
        let is_there = |f: &Flavour| self.launcher.find(f.dump_tools()).is_ok();
        let mut any = [Flavour::MariaDb, Flavour::MySql].into_iter();
        let family = preflight::flavour(&self.config.mysql).or_else(|| any.find(is_there));
        family.map_or(Ok(()), |f| self.tools_permitted(f))
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        let this = self.clone();
        let tools = move |server: Server| this.tools_permitted(server.flavour);
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
