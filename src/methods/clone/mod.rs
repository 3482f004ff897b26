//! The ClonePlugin method: MySQL of the target copies the source by CLONE (8.0.17 and later). With space for two copies a private server
//! does, into the staging directory; else the target's own, in place. In a classic seed, whose target is down, a private server does in
//! any case, and where two copies do not fit the old data are deleted before.
//!
//! | stage | source | target |
//! |---|---|---|
//! | Prepare | [`checks`] | checks, staging directory, the variables are tried |
//! | Backup | | [`run`]: CLONE into the staging directory; or [`in_place`] |
//! | Restore | | trial start and swap; or [`in_place`]: MySQL's restart, channels and events of the source removed, GTID state |
//! | Cleanup | | old data by `mysql.keep-old-data`, staging directory |

mod checks;
mod in_place;
mod run;

use super::swap_in;
use crate::config::Config;
use crate::datadir::{self, Host};
use crate::error::{Error, Result};
use crate::methods::state::{CloneMode, PhysicalState};
use crate::seed::record::Seed;
use crate::seed::stage::{Context, Prepared, SeedMethod};
use crate::seed::types::{Method, Side};
use std::sync::Arc;

/// The method; cheap to clone.
#[derive(Clone)]
pub(crate) struct ClonePlugin {
    config: Arc<Config>,
}

impl ClonePlugin {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    fn prepare_source(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        let this = self.clone();
        ctx.interruptible(move || this.check_source())?;
        self.install(ctx)?;
        swap_in::prepared_source(&self.config, ctx)
    }

    fn prepare_target(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        if ctx.seed()?.classic {
            let this = self.clone();
            let info = ctx.interruptible(move || this.check_stopped_target())?;
            swap_in::stage(&self.config, ctx, &info)?;
            return Ok("Prepare completed".into());
        }
        // The CLONE of an agent that was killed may still run.
        let (this, seed) = (self.clone(), ctx.seed()?);
        let info = ctx.interruptible(move || {
            this.restore_pending(&seed)?;
            this.check_target()
        })?;
        ctx.update(|s| s.pending_restore.clear())?;
        swap_in::stage(&self.config, ctx, &info)?;
        self.install(ctx)?;
        let tried = self.set_variables(ctx, &self.wanted(), None);
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
        self.check_plugin()
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        match side {
            Side::Target => self.prepare_target(ctx),
            Side::Source => self.prepare_source(ctx),
        }
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        self.copy(ctx)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (info, staged) = swap_in::staged(&seed)?;
        match seed.method_state::<PhysicalState>()?.cloning {
            Some(CloneMode::Staged) => {
                let host = Host::of_stage(&self.config, ctx);
                let (verified, coordinates) =
                    datadir::trial_start_of_clone(&info, &staged, &self.config.mysql, &host)?;
                ctx.update(|s| s.coordinates = Some(coordinates.clone()))?;
                let places = (&info, &staged);
                swap_in::swap_in(&self.config, ctx, places, &verified, &coordinates)
            }
            Some(CloneMode::InPlace) => self.restarted(ctx, &info, false),
            Some(CloneMode::InPlaceDown) => self.restarted(ctx, &info, true),
            None => Err(Error::permanent(
                "no complete copy was made: run a new seed",
            )),
        }
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        swap_in::cleanup(&self.config, ctx, side)
    }

    fn restore_settings(&self, seed: &Seed) -> Result<()> {
        self.restore_pending(seed)
    }
}
