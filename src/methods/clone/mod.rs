//! The ClonePlugin method: MySQL of the target copies the source by CLONE (8.0.17 and later). With room for two copies a private server
//! does, into the staging directory; else the target's own, in place.
//!
//! | stage | source | target |
//! |---|---|---|
//! | Prepare | [`checks`] | checks, staging directory, the variables are tried |
//! | Backup | | [`target`]: CLONE, into the staging directory or in place |
//! | Restore | | trial start and swap; or [`restart`]: MySQL's restart, channels and events of the source ended, GTID state |
//! | Cleanup | | old data by `mysql.keep-old-data`, staging directory |

mod checks;
mod restart;
mod run;
mod settings;
mod target;

use super::swap_in;
use crate::config::Config;
use crate::contents;
use crate::datadir::Staged;
use crate::error::Result;
use crate::methods::state::PhysicalState;
use crate::seed::record::Seed;
use crate::seed::stage::Context;
use crate::seed::stage::{Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use std::sync::Arc;

/// The method; cheap to clone.
#[derive(Clone)]
pub struct ClonePlugin {
    config: Arc<Config>,
}

impl ClonePlugin {
    /// By the configuration.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    fn prepare_target(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        // A CLONE of an agent that was killed must not run on.
        let (this, seed) = (self.clone(), ctx.seed()?);
        let facts = ctx.interruptible(move || {
            this.restore_pending(&seed)?;
            this.check_target()
        })?;
        ctx.update(|s| s.pending_restore.clear())?;
        let journals = swap_in::journals(&self.config);
        Staged::make(&facts, ctx.seed_id(), &journals, ctx.cancel())?;
        ctx.update_state(|_, s: &mut PhysicalState| s.datadir = Some(Box::new(facts)))?;
        self.install(ctx)?;
        let wanted = settings::wanted(&self.config.clone_plugin);
        let tried = self.set(ctx, &wanted, None);
        self.restore_now(ctx)?;
        tried?;
        Ok("Prepare completed".into())
    }
}

impl SeedMethod for ClonePlugin {
    fn method(&self) -> Method {
        Method::ClonePlugin
    }

    fn available(&self) -> Result<()> {
        self.look()
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        match side {
            Side::Target => self.prepare_target(ctx),
            Side::Source => {
                ctx.report("Running prepare");
                let this = self.clone();
                ctx.interruptible(move || this.check_source())?;
                self.install(ctx)?;
                let settings = self.config.mysql.clone();
                let known = ctx.interruptible(move || Ok(contents::warnings(&settings)))?;
                let text = ["Prepare completed".to_string()].into_iter().chain(known);
                Ok(Prepared::from(text.collect::<Vec<_>>().join(", ")))
            }
        }
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        self.copy(ctx)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        self.finish(ctx)
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        swap_in::cleanup(&self.config, ctx, side)
    }

    fn restore_settings(&self, seed: &Seed) -> Result<()> {
        self.restore_pending(seed)
    }
}
