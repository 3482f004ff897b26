//! Calls of our own for `seed --verify`: another program stops the applier of this host's replica for a while.

use super::{Api, reply, seed};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::protocol::wire::HeldApplier;
use crate::seed::applier::LEASE;
use crate::seed::{Side, Stage, Status};

impl Api {
    /// Records what the applier is like, or extends the lease. To be called again within `LeaseSeconds`.
    pub(super) fn hold_applier(&self, id: &str) -> Result<Response> {
        let id = seed::number(id)?;
        self.engine.expect_current(id, "hold the applier")?;
        let restored = self.engine.seed(id).is_some_and(|s| {
            s.side == Side::Target && s.status(Stage::Restore) == Some(Status::Completed)
        });
        if !restored {
            return Err(Error::permanent(format!(
                "seed {id} has not restored this server: its applier is not held"
            )));
        }
        let before = self.applier.hold(id)?;
        Ok(reply::json(&HeldApplier {
            delay: before.delay,
            lease_seconds: LEASE.as_secs(),
        }))
    }

    pub(super) fn release_applier(&self, id: &str) -> Result<Response> {
        let current = self.engine.current().map(|s| s.id);
        self.applier.release(seed::number(id)?, current)?;
        Ok(reply::json(&true))
    }
}
