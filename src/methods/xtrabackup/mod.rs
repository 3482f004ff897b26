//! The Xtrabackup method: the source's running server is copied by Percona's xtrabackup or mariadb-backup, whichever is its
//! own, sent through the seed [`crate::stream`], and swapped in by [`crate::datadir`] after a trial start.
//!
//! | stage | source | target |
//! |---|---|---|
//! | Prepare | checks | checks, staging directory, listener |
//! | Backup | [`send`]: tool to stream | [`receive`]: stream to tool, decompress; begins as soon as Prepare is done |
//! | Restore | | [`restore`]: prepare, trial start, swap |
//! | Cleanup | | old data by `mysql.keep-old-data`, staging directory |

mod messages;
mod receive;
mod restore;
mod send;
pub(crate) mod tools;

use super::swap_in;
use crate::config::Config;
use crate::datadir::{self, DatadirInfo, Role};
use crate::error::{Error, Result};
use crate::process::Launcher;
use crate::seed::stage::{Context, Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use crate::stream::Settings;
use std::sync::Arc;
use tools::Tools;

/// The method; cheap to clone.
#[derive(Clone)]
pub(crate) struct Xtrabackup {
    config: Arc<Config>,
    launcher: Launcher,
}

impl Xtrabackup {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let launcher = Launcher::new(&config.common);
        Self { config, launcher }
    }

    fn stream(&self, seed: i64) -> Result<Settings> {
        let x = &self.config.xtrabackup;
        Settings::new(
            &self.config.common,
            &x.socat,
            x.stream_compression,
            seed,
            Method::Xtrabackup.as_str(),
        )
    }

    /// The operator's options; those that were dropped are in the log.
    fn options(&self) -> Vec<String> {
        let (kept, dropped) = tools::kept(&self.config.xtrabackup.additional_opts);
        for option in dropped {
            log::error!(
                "xtrabackup.xtrabackup-addtional-opts: {option} is set by the agent itself and was dropped"
            );
        }
        kept
    }

    /// The local data directory, and tools that fit its server. Changes nothing.
    fn inspect(&self, side: Side) -> Result<(DatadirInfo, Tools)> {
        self.check_settings(side)?;
        let info = datadir::inspect(&self.config, side.into())?;
        let tools = tools::find(&self.launcher, info.server.flavour)?;
        tools.fit(info.server)?;
        match side {
            Side::Target => {
                self.can_decompress(&tools)?;
                swap_in::service_permitted(&self.config)?;
            }
            Side::Source => self.backup_permitted(&info, &tools)?,
        }
        Ok((info, tools))
    }

    fn backup_permitted(&self, info: &DatadirInfo, tools: &Tools) -> Result<()> {
        let common = &self.config.common;
        let login = common.state_dir.join("tools/login.cnf");
        let arguments = tools::backup(&login, &common.backup_dir, false, &self.options());
        let launcher = self.launcher.on_files_of(info.uid);
        launcher.permits(&tools.backup, &arguments)
    }

    fn check_settings(&self, side: Side) -> Result<()> {
        if let Some(option) = tools::incomplete(&self.config.xtrabackup.additional_opts) {
            return Err(Error::permanent(format!(
                "xtrabackup.xtrabackup-addtional-opts: with {option} a copy is not complete or has no valid coordinates; remove it"
            )));
        }
        match side {
            Side::Source => Ok(()),
            Side::Target => swap_in::check_settings(&self.config.mysql),
        }
    }
}

impl SeedMethod for Xtrabackup {
    fn method(&self) -> Method {
        Method::Xtrabackup
    }

    fn available(&self) -> Result<()> {
        self.check_settings(Side::Target)?;
        super::preflight::tools_of_server(&self.config.mysql, |f| {
            tools::find(&self.launcher, f).map(drop)
        })
    }

    fn permitted(&self) -> Result<()> {
        if !self.launcher.sudo() {
            return Ok(());
        }
        let info = datadir::inspect(&self.config, Role::Source)?;
        let tools = tools::find(&self.launcher, info.server.flavour)?;
        self.backup_permitted(&info, &tools)
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        match side {
            Side::Target => self.prepare_target(ctx),
            Side::Source => {
                ctx.report("Running prepare");
                let this = self.clone();
                ctx.interruptible(move || this.check_source())?;
                swap_in::prepared_source(&self.config, ctx)
            }
        }
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        self.send(ctx)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        self.swap_in(ctx)
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        swap_in::cleanup(&self.config, ctx, side)
    }
}
