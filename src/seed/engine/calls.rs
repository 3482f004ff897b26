//! The calls of a controller: what is refused, what is repeated, what starts.

use super::{Engine, State};
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::seed::record::{LeftBy, Load, Peer, Seed, incomplete_note};
use crate::seed::stage::{Prepared, Run, SeedMethod};
use crate::seed::types::{Method, Side, Stage, Status};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The outcome of a start call. Both are a 202 for the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    /// The stage runs now.
    Now,
    /// It runs already, or is done and need not run again.
    Already,
}

/// The state of a stage for `seed-stage-state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageView {
    pub(crate) status: Status,
    /// Short ASCII text.
    pub(crate) details: String,
    /// [`Progress::timestamp`](super::super::stage::Progress::timestamp) while it runs, else the time of its end.
    pub(crate) timestamp: SystemTime,
    /// Bytes done, bytes expected (0 = unknown).
    pub(crate) bytes: (u64, u64),
    /// What has become of the data of this host, if it is the target.
    pub(crate) target_data: Option<Load>,
    /// [`Seed::source_lock_ms`], of Backup.
    pub(crate) source_lock_ms: Option<u64>,
    /// The earlier seed that has left these data incomplete, if it was none of this seed's doing.
    pub(crate) incomplete_since: Option<LeftBy>,
}

impl Engine {
    fn method(&self, method: Method) -> Result<Arc<dyn SeedMethod>> {
        let found = self.shared.methods.iter().find(|m| m.method() == method);
        found.cloned().ok_or_else(|| {
            Error::permanent(format!(
                "Seed method unavailiable on agent: {method} is not enabled"
            ))
        })
    }

    /// Starts Prepare of a new seed, or again of the current one. Every earlier work of the same seed is stopped first.
    ///
    /// # Errors
    /// If another seed holds this host, or the record cannot be written.
    pub(crate) fn prepare(&self, id: i64, method: Method, side: Side) -> Result<Started> {
        if id < 1 {
            return Err(Error::permanent(format!("seed id {id} is not positive")));
        }
        let implementation = self.method(method)?;
        let mut state = self.lock();
        if state.stopping {
            return Err(Error::transient("the agent is stopping"));
        }
        if state.seeds.current().is_some_and(|s| s.id == id) {
            if state.at_work(id) == Some(Stage::Prepare) {
                return Ok(Started::Already);
            }
            state.cancel_work("a new Prepare of the same seed");
        } else {
            self.make_room(&mut state, id)?;
        }
        if side == Side::Source {
            state.refuse_partial()?;
        }
        let mut seed = Seed::new(id, method, side);
        if let Some(old) = state.seeds.get(id) {
            seed.tools.clone_from(&old.tools); // still ending
        }
        state.seeds.make_current(seed);
        state.called = Instant::now();
        self.start(
            state,
            id,
            Stage::Prepare,
            Box::new(move |ctx| implementation.prepare(ctx, side)),
        )
    }

    /// Decides whether the current seed keeps this host from the new seed. A source holds nothing between its stages. A target does
    /// while its controller calls with the seed's own number; once Restore has ended, well or badly, a later seed takes over at
    /// once, because a controller that gives up after that ends without a call.
    ///
    /// # Errors
    /// Transient: it does, with the call that frees this host.
    fn make_room(&self, state: &mut State, new_seed: i64) -> Result<()> {
        let Some(current) = state.seeds.current() else {
            return Ok(());
        };
        let (old, stage) = (current.id, current.stage);
        let working = state.at_work(old).is_some();
        if !working && !current.waits() {
            return Ok(());
        }
        if !working && current.is_over() && new_seed > old {
            log::info!(
                "seed {new_seed} takes the place of seed {old}, whose {stage} has ended before"
            );
            return Self::give_up(state, old, new_seed);
        }
        let moved = state.work.as_ref().map(|w| w.progress.stalled_for());
        let silent = state
            .called
            .elapsed()
            .min(moved.unwrap_or(std::time::Duration::MAX));
        if silent < self.shared.orphan_timeout {
            return Err(Error::transient(format!(
                "seed {old} holds this host ({stage} {}): GET /api/abort-seed-stage/{old}/{stage} frees it at once; otherwise it \
                 is free after common.seed-orphan-timeout = {}s without a call for seed {old}",
                if working {
                    "is running"
                } else {
                    "is completed, the next stage has not been called"
                },
                self.shared.orphan_timeout.as_secs()
            )));
        }
        log::warn!(
            "seed {new_seed} evicts seed {old}: no request for it was received for {}s",
            silent.as_secs()
        );
        Self::give_up(state, old, new_seed)
    }

    fn give_up(state: &mut State, old: i64, new_seed: i64) -> Result<()> {
        state.cancel_work(&format!(
            "seed {new_seed} has taken over this host, no call had come for seed {old}"
        ));
        if let Some(seed) = state.seeds.get_mut(old) {
            seed.given_up = true;
        }
        Ok(())
    }

    /// That `id` is the current seed.
    ///
    /// # Errors
    /// `Unable to start <stage> stage. SeedID not found`, as the Go agent reports it.
    pub(crate) fn expect_current(&self, id: i64, what: &str) -> Result<()> {
        self.lock().expect_current(id, what)
    }

    /// Starts Backup. Only after Prepare; once per Prepare.
    ///
    /// # Errors
    /// Wrong seed, method, side or order.
    pub(crate) fn backup(&self, id: i64, method: Method, peer: Peer) -> Result<Started> {
        let implementation = self.method(method)?;
        let mut state = self.lock();
        state.expect_current(id, "start backup stage")?;
        state.called_for(id);
        state.expect_method(id, method)?;
        let seed = state.seed(id)?;
        if seed.side != method.backup_side() {
            return Err(Error::permanent(format!(
                "backup of {method} runs on the {}, and this host is the {} of seed {id}",
                method.backup_side(),
                seed.side
            )));
        }
        match (seed.status(Stage::Prepare), seed.status(Stage::Backup)) {
            (_, Some(Status::Running | Status::Completed)) => return Ok(Started::Already),
            (Some(Status::Completed), None) => {}
            (Some(Status::Completed), Some(Status::Error)) => {
                return Err(Error::permanent(format!(
                    "backup of seed {id} failed before: call prepare again first"
                )));
            }
            _ => {
                return Err(Error::permanent(format!(
                    "Unable to start backup stage: prepare of seed {id} is not completed"
                )));
            }
        }
        seed.peer = Some(peer);
        self.start(
            state,
            id,
            Stage::Backup,
            Box::new(move |ctx| implementation.backup(ctx).map(Prepared::from)),
        )
    }

    /// Starts Restore on the target. Again after an error; a completed one is not run twice.
    ///
    /// # Errors
    /// Wrong seed, method, side or order.
    pub(crate) fn restore(&self, id: i64, method: Method) -> Result<Started> {
        let implementation = self.method(method)?;
        let mut state = self.lock();
        state.expect_current(id, "start restore stage")?;
        state.called_for(id);
        state.expect_method(id, method)?;
        let seed = state.seed(id)?;
        if seed.side != Side::Target {
            return Err(Error::permanent(format!(
                "restore runs on the Target, and this host is the Source of seed {id}"
            )));
        }
        // The source receives the acknowledgement of its copy a moment before this host has recorded the end of its own Backup, and
        // its controller may be that quick: Restore waits for that end then.
        let received = method.backup_side() == Side::Source && seed.coordinates.is_some();
        match (seed.status(Stage::Backup), seed.status(Stage::Restore)) {
            (_, Some(Status::Running | Status::Completed)) => return Ok(Started::Already),
            (Some(Status::Completed), _) => {}
            (Some(Status::Running), _) if received => {}
            _ => {
                return Err(Error::permanent(format!(
                    "Unable to start restore stage: backup of seed {id} is not completed"
                )));
            }
        }
        self.start(
            state,
            id,
            Stage::Restore,
            Box::new(move |ctx| implementation.restore(ctx).map(Prepared::from)),
        )
    }

    /// Starts Cleanup. A completed one is kept.
    ///
    /// # Errors
    /// Wrong seed, method or side; another stage at work.
    pub(crate) fn cleanup(&self, id: i64, method: Method, side: Side) -> Result<Started> {
        let implementation = self.method(method)?;
        let mut state = self.lock();
        state.expect_current(id, "start cleanup stage")?;
        state.called_for(id);
        state.expect_method(id, method)?;
        match state.at_work(id) {
            Some(Stage::Cleanup) => return Ok(Started::Already),
            Some(stage) => {
                return Err(Error::permanent(format!(
                    "{stage} of seed {id} is running: abort it before cleanup"
                )));
            }
            None => {}
        }
        let seed = state.seed(id)?;
        if seed.side != side {
            return Err(Error::permanent(format!(
                "this host is the {} of seed {id}, not the {side}",
                seed.side
            )));
        }
        if seed.status(Stage::Cleanup) == Some(Status::Completed) {
            return Ok(Started::Already);
        }
        self.start(
            state,
            id,
            Stage::Cleanup,
            Box::new(move |ctx| implementation.cleanup(ctx, side).map(Prepared::from)),
        )
    }

    /// The coordinates of the source at the moment of the copy . May be repeated until the seed is forgotten.
    ///
    /// # Errors
    /// Wrong seed or method; no copy yet.
    pub(crate) fn metadata(&self, id: i64, method: Method) -> Result<Coordinates> {
        self.method(method)?;
        let mut state = self.lock();
        state.expect_current(id, "get metadata for seed")?;
        state.called_for(id);
        state.expect_method(id, method)?;
        let seed = state.seed(id)?;
        let found = seed
            .coordinates
            .clone()
            .filter(|_| seed.status(Stage::Backup) == Some(Status::Completed));
        found.ok_or_else(|| {
            Error::permanent(format!(
                "seed {id} has no coordinates yet: its backup is not completed on this host"
            ))
        })
    }

    /// The state of a stage of one of the last few seeds.
    ///
    /// # Errors
    /// `SeedID 6 not found`, `SeedID 5 on stage Backup not found`.
    pub(crate) fn stage_state(&self, id: i64, stage: Stage) -> Result<StageView> {
        let mut state = self.lock();
        state.called_for(id);
        let Some(seed) = state.seeds.get(id) else {
            return Err(Error::permanent(format!("SeedID {id} not found")));
        };
        let Some(record) = seed.stages.get(&stage) else {
            return Err(Error::permanent(format!(
                "SeedID {id} on stage {stage} not found"
            )));
        };
        let progress = state
            .work
            .as_ref()
            .filter(|w| w.run.number == record.run)
            .map(|w| &w.progress);
        // A stage is reported as completed once it is on the disk, where a killed agent cannot revoke it.
        let (status, details) = if state.is_unwritten(id, stage, record.run) {
            let text = format!("Running {stage}. Writing the record");
            (Status::Running, text)
        } else {
            (record.status, record.details.clone())
        };
        Ok(StageView {
            status,
            details,
            timestamp: match progress {
                Some(p) if status == Status::Running => p.timestamp(),
                _ => Self::time(record.changed),
            },
            bytes: progress.map_or((record.bytes, 0), |p| p.get()),
            target_data: (seed.side == Side::Target).then_some(seed.load),
            source_lock_ms: seed.source_lock_ms.filter(|_| stage == Stage::Backup),
            incomplete_since: seed
                .left_by
                .filter(|_| seed.side == Side::Target && seed.load == Load::Partial),
        })
    }

    /// That `id` is one of the last few seeds.
    ///
    /// # Errors
    /// `Unable to abort seed stage. SeedID not found`.
    pub(crate) fn expect_known(&self, id: i64) -> Result<()> {
        self.lock().expect_known(id)
    }

    /// Aborts whatever of this seed is at work and gives up its place; nothing to do is a success as well. Returns at
    /// once: the tools end within seconds, and a new Prepare waits for that.
    ///
    /// # Errors
    /// A seed that was never here, or has been forgotten.
    pub(crate) fn abort(&self, id: i64) -> Result<()> {
        let mut state = self.lock();
        state.expect_known(id)?;
        if let Some(stage) = state.at_work(id) {
            state.cancel_work("aborted by request");
            let seed = state.seed(id)?;
            let text = format!(
                "{stage} was aborted by request{}",
                incomplete_note(seed, None)
            );
            seed.set(stage, Status::Error, &text);
            log::info!("seed {id}: {text}");
        }
        state.seed(id)?.given_up = true;
        self.persist(state)
    }
}

impl State {
    /// The stage of seed `id` that is at work and not told to end.
    fn at_work(&self, id: i64) -> Option<Stage> {
        self.work
            .as_ref()
            .filter(|w| w.run.seed_id == id && !w.cancel.is_cancelled())
            .map(|w| w.run.stage)
    }

    /// A controller has called with the number of seed `id`.
    fn called_for(&mut self, id: i64) {
        if self.seeds.current().is_some_and(|s| s.id == id) {
            self.called = Instant::now();
        }
    }

    /// True for a stage that is Completed while it is still Running in the record on disk.
    pub(super) fn is_unwritten(&self, id: i64, stage: Stage, run: u64) -> bool {
        let run = Run {
            seed_id: id,
            stage,
            number: run,
        };
        self.unwritten.contains(&run)
    }

    /// A server with half a load in it must not be copied.
    fn refuse_partial(&self) -> Result<()> {
        match self.seeds.current() {
            Some(s) if s.load == Load::Partial => Err(Error::permanent(format!(
                "this host cannot be a source: {}{}; make it the target of a new seed, or, if its data were restored by other means, \
                 stop the agent and remove seeds.json from common.state-dir",
                s.incomplete().unwrap_or_default(),
                match s.left_by {
                    Some(_) => String::new(),
                    None => format!(" since seed {} by {} was interrupted", s.id, s.method),
                }
            ))),
            _ => Ok(()),
        }
    }

    fn cancel_work(&self, reason: &str) {
        if let Some(work) = &self.work {
            work.cancel.cancel(reason);
        }
    }

    /// Makes the stage the seed's current one, as Running. Returns the seed's method.
    pub(super) fn begin(&mut self, run: Run) -> Result<Method> {
        let seed = self.seed(run.seed_id)?;
        seed.stages.remove(&run.stage);
        let text = format!("Running {}", run.stage.as_str().to_lowercase());
        seed.set(run.stage, Status::Running, &text);
        if let Some(record) = seed.stages.get_mut(&run.stage) {
            record.run = run.number;
        }
        seed.stage = run.stage;
        seed.given_up = false;
        Ok(seed.method)
    }

    pub(super) fn seed(&mut self, id: i64) -> Result<&mut Seed> {
        self.seeds
            .get_mut(id)
            .ok_or_else(|| Error::permanent(format!("SeedID {id} not found")))
    }

    fn expect_known(&self, id: i64) -> Result<()> {
        if self.seeds.get(id).is_some() {
            return Ok(());
        }
        Err(Error::permanent(
            "Unable to abort seed stage. SeedID not found",
        ))
    }

    fn expect_current(&self, id: i64, what: &str) -> Result<()> {
        if self.seeds.current().is_some_and(|s| s.id == id) {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "Unable to {what}. SeedID not found"
        )))
    }

    /// The method of later calls is that of the seed.
    fn expect_method(&mut self, id: i64, method: Method) -> Result<()> {
        let own = self.seed(id)?.method;
        if own == method {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "seed {id} was prepared with method {own}, not {method}"
        )))
    }
}
