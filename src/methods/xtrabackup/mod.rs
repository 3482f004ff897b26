//! The Xtrabackup method: the source's running server is copied by Percona's xtrabackup or mariadb-backup, whichever is its
//! own, sent through the seed [`crate::stream`], and swapped in by [`crate::datadir`] after a trial start.
//!
//! | stage | source | target |
//! |---|---|---|
//! | Prepare | checks | checks, staging directory, listener |
//! | Backup | [`send`]: tool to stream | [`receive`]: stream to tool, decompress; begins as soon as Prepare is done |
//! | Restore | | [`restore`]: prepare, trial start, swap |
//! | Cleanup | | old data by `mysql.keep-old-data`, staging directory |

mod copy;
mod messages;
pub(crate) mod options;
mod receive;
mod restore;
mod send;
pub(crate) mod tools;

use super::swap_in;
use crate::config::Config;
use crate::contents;
use crate::datadir;
use crate::datadir::{DatadirInfo, Journals, Role, Staged};
use crate::error::{Error, Result};
use crate::methods::state::PhysicalState;
use crate::process::Launcher;
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use crate::seed::stage::{Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use crate::stream::{Listener, Settings};
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

    fn journals(&self) -> Journals {
        swap_in::journals(&self.config)
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
        let (kept, dropped) = options::kept(&self.config.xtrabackup.additional_opts);
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
        let facts = datadir::inspect(&self.config, side.into())?;
        let tools = tools::find(&self.launcher, facts.server.flavour)?;
        tools.fit(facts.server)?;
        match side {
            Side::Target => {
                self.can_decompress(&tools)?;
                swap_in::service_permitted(&self.config)?;
            }
            Side::Source => self.backup_permitted(&facts, &tools)?,
        }
        Ok((facts, tools))
    }

    fn backup_permitted(&self, facts: &DatadirInfo, tools: &Tools) -> Result<()> {
        let common = &self.config.common;
        let login = common.state_dir.join("tools/login.cnf");
        let arguments = options::backup(&login, &common.backup_dir, false, &self.options());
        let launcher = self.launcher.on_files_of(facts.uid);
        launcher.permits(&tools.backup, &arguments)
    }

    fn check_settings(&self, side: Side) -> Result<()> {
        if let Some(option) = options::incomplete(&self.config.xtrabackup.additional_opts) {
            return Err(Error::permanent(format!(
                "xtrabackup.xtrabackup-addtional-opts: with {option} a copy is not complete or has no valid coordinates; remove it"
            )));
        }
        match side {
            Side::Source => Ok(()),
            Side::Target => swap_in::check_settings(&self.config.mysql),
        }
    }

    fn prepare_target(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        let this = self.clone();
        let (facts, tools) = ctx.interruptible(move || this.inspect(Side::Target))?;
        let id = ctx.seed_id();
        // The size of the source is in its handshake; what cannot fit in any case is refused at once.
        datadir::swap_mode(&facts, None, self.config.mysql.datadir_swap)?;
        let journals = self.journals();
        let wiped = journals.data_gone();
        ctx.cancel().check()?;
        let staged = Staged::make(&facts, id, &journals, ctx.cancel())?;
        ctx.update_state(|seed, state: &mut PhysicalState| {
            state.datadir = Some(Box::new(facts.clone()));
            if wiped {
                seed.load = Load::Partial; // since an earlier seed
            }
        })?;
        let listener = Listener::bind(self.stream(id)?)?;
        let at = listener.address()?;
        let this = self.clone();
        Ok(Prepared {
            text: format!(
                "Prepare completed. Listening on port {}. Waiting for backup data",
                at.port()
            ),
            reception: Some(Box::new(move |ctx| {
                this.receive(ctx, listener, &facts, &staged, &tools)
            })),
        })
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
        let facts = datadir::inspect(&self.config, Role::Source)?;
        let tools = tools::find(&self.launcher, facts.server.flavour)?;
        self.backup_permitted(&facts, &tools)
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        match side {
            Side::Target => self.prepare_target(ctx),
            Side::Source => {
                ctx.report("Running prepare");
                let this = self.clone();
                ctx.interruptible(move || this.check_source())?;
                let settings = self.config.mysql.clone();
                let known = ctx.interruptible(move || Ok(contents::warnings(&settings)))?;
                let text = ["Prepare completed".to_string()].into_iter().chain(known);
                Ok(Prepared::from(text.collect::<Vec<_>>().join(", ")))
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

    fn restore_settings(&self, _seed: &Seed) -> Result<()> {
        Ok(()) // no setting is changed at run time
    }
}
