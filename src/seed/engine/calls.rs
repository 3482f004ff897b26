//! The calls of a controller: what is refused, what is repeated, what starts.

use super::{Engine, Started, State};
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::seed::record::{Peer, Seed, StageRecord, incomplete_note};
use crate::seed::stage::{Prepared, Progress, SeedMethod};
use crate::seed::types::{Method, Run, Side, Stage, Status};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

impl Engine {
    fn method(&self, method: Method) -> Result<Arc<dyn SeedMethod>> {
        self.find(method).cloned().ok_or_else(|| {
            Error::permanent(format!(
                "Seed method unavailiable on agent: {method} is not enabled"
            ))
        })
    }

    /// A call by seed `id`, which must be the current one and by this method.
    fn called(
        &self,
        id: i64,
        method: Method,
        what: &str,
    ) -> Result<(Arc<dyn SeedMethod>, MutexGuard<'_, State>)> {
        let implementation = self.method(method)?;
        let mut state = self.lock();
        state.expect_current(id, what)?;
        state.called = Instant::now();
        let own = state.seed(id)?.method;
        if own != method {
            return Err(Error::permanent(format!(
                "seed {id} was prepared with method {own}, not {method}"
            )));
        }
        Ok((implementation, state))
    }

    /// Starts Prepare of a new seed, or again of the current one, whose earlier work is stopped first. An error if another seed holds
    /// this host.
    pub(crate) fn prepare(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        side: Side,
    ) -> Result<Started> {
        self.prepare_seed(id, Seed::new(id, method, side))
    }

    /// The same for a seed of the classic protocol, whose number may be that of an older seed.
    pub(crate) fn prepare_classic(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        side: Side,
    ) -> Result<Started> {
        let mut seed = Seed::new(id, method, side);
        seed.classic = true;
        self.prepare_seed(id, seed)
    }

    /// True while Restore of classic seed `id` waits before the swap: the copy is complete, prepared, and was seen to start.
    pub(crate) fn waits_for_swap(&self, id: i64) -> bool {
        let state = self.lock();
        let work = state.work.as_ref().filter(|w| w.run.seed_id == id);
        work.is_some_and(|w| w.waits.load(Ordering::Acquire))
    }

    /// Lets that Restore go on.
    pub(crate) fn release_swap(&self, id: i64) {
        let mut state = self.lock();
        if let Some(work) = state.work.as_mut().filter(|w| w.run.seed_id == id) {
            work.release = None;
        }
    }

    fn prepare_seed(self: &Arc<Self>, id: i64, mut seed: Seed) -> Result<Started> {
        let (method, side) = (seed.method, seed.side);
        if id < 1 {
            return Err(Error::permanent(format!("seed id {id} is not positive")));
        }
        let implementation = self.method(method)?;
        let mut state = self.lock();
        if state.stopping {
            return Err(Error::transient("the agent is stopping"));
        }
        // Two orchestrators of the classic protocol may have the same number for two seeds.
        let same = |s: &Seed| {
            let side = !s.classic || s.side == side;
            (s.id, s.classic) == (id, seed.classic) && side
        };
        if state.seeds.current().is_some_and(same) {
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
        if let Some(old) = state.seeds.get(id) {
            seed.tools.clone_from(&old.tools); // still ending
        }
        state.seeds.make_current(seed);
        state.called = Instant::now();
        self.start(state, id, Stage::Prepare, move |ctx| {
            implementation.prepare(ctx, side)
        })
    }

    /// Decides whether the current seed keeps this host from the new seed: then it is a transient error, with the call that frees this
    /// host. A source holds nothing between its stages. A target does while its controller calls with the seed's own number; once
    /// Restore has ended, well or badly, a later seed takes over at once, because a controller that gives up after that ends without a
    /// call.
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
        } else {
            let moved = state.work.as_ref().map(|w| w.progress.stalled_for());
            let silent = state.called.elapsed().min(moved.unwrap_or(Duration::MAX));
            if silent < self.orphan_timeout {
                return Err(Error::transient(format!(
                    "seed {old} holds this host ({stage} {}): GET /api/abort-seed-stage/{old}/{stage} frees it at once; otherwise it \
                     is free after common.seed-orphan-timeout = {}s without a call for seed {old}",
                    if working {
                        "is running"
                    } else {
                        "is completed, the next stage has not been called"
                    },
                    self.orphan_timeout.as_secs()
                )));
            }
            log::warn!(
                "seed {new_seed} evicts seed {old}: no request for it was received for {}s",
                silent.as_secs()
            );
        }
        state.cancel_work(&format!(
            "seed {new_seed} has taken over this host, no call had come for seed {old}"
        ));
        state.seed(old)?.given_up = true;
        Ok(())
    }

    /// That `id` is the current seed; else `Unable to <what>. SeedID not found`, as the Go agent reports it.
    pub(crate) fn expect_current(&self, id: i64, what: &str) -> Result<()> {
        self.lock().expect_current(id, what)
    }

    /// Starts Backup. Only after Prepare; once per Prepare.
    pub(crate) fn backup(self: &Arc<Self>, id: i64, method: Method, peer: Peer) -> Result<Started> {
        let (implementation, mut state) = self.called(id, method, "start backup stage")?;
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
            _ => return Err(not_completed("backup", "prepare", id)),
        }
        seed.peer = Some(peer);
        self.start(state, id, Stage::Backup, move |ctx| {
            implementation.backup(ctx).map(Prepared::from)
        })
    }

    /// Starts Restore on the target. Again after an error; a completed one is not run twice.
    pub(crate) fn restore(self: &Arc<Self>, id: i64, method: Method) -> Result<Started> {
        let (implementation, mut state) = self.called(id, method, "start restore stage")?;
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
            _ => return Err(not_completed("restore", "backup", id)),
        }
        self.start(state, id, Stage::Restore, move |ctx| {
            implementation.restore(ctx).map(Prepared::from)
        })
    }

    /// Starts Cleanup, unless another stage is at work. A completed one is kept.
    pub(crate) fn cleanup(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        side: Side,
    ) -> Result<Started> {
        let (implementation, mut state) = self.called(id, method, "start cleanup stage")?;
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
        self.start(state, id, Stage::Cleanup, move |ctx| {
            implementation.cleanup(ctx, side).map(Prepared::from)
        })
    }

    /// The coordinates of the source at the moment of the copy. May be repeated until the seed is forgotten.
    pub(crate) fn metadata(&self, id: i64, method: Method) -> Result<Coordinates> {
        let (_, mut state) = self.called(id, method, "get metadata for seed")?;
        let seed = state.seed(id)?;
        let is_complete = seed.status(Stage::Backup) == Some(Status::Completed);
        let found = seed.coordinates.clone().filter(|_| is_complete);
        found.ok_or_else(|| {
            Error::permanent(format!(
                "seed {id} has no coordinates yet: its backup is not completed on this host"
            ))
        })
    }

    /// One of the last few seeds, its `stage`, and the progress of that while it is at work.
    pub(crate) fn stage_state(
        &self,
        id: i64,
        stage: Stage,
    ) -> Result<(Seed, StageRecord, Option<Arc<Progress>>)> {
        let mut state = self.lock();
        if state.seeds.current().is_some_and(|s| s.id == id) {
            state.called = Instant::now();
        }
        let seed = state.seeds.get(id).map(|seed| state.reported(seed));
        let seed = seed.ok_or_else(|| Error::permanent(format!("SeedID {id} not found")))?;
        let Some(record) = seed.stages.get(&stage).cloned() else {
            return Err(Error::permanent(format!(
                "SeedID {id} on stage {stage} not found"
            )));
        };
        let run = Run {
            seed_id: id,
            stage,
            number: record.run,
        };
        let work = state.work.as_ref().filter(|w| w.run == run);
        Ok((seed, record, work.map(|w| Arc::clone(&w.progress))))
    }

    /// That `id` is one of the last few seeds; else `Unable to abort seed stage. SeedID not found`.
    pub(crate) fn expect_known(&self, id: i64) -> Result<()> {
        let known = self.lock().seeds.get(id).is_some();
        known
            .then_some(())
            .ok_or_else(|| not_found("abort seed stage"))
    }

    /// Aborts whatever of this seed is at work and gives up its place; nothing to do is a success as well. Returns at
    /// once: the tools end within seconds, and a new Prepare waits for that.
    pub(crate) fn abort(&self, id: i64) -> Result<()> {
        let mut state = self.lock();
        let at_work = state.at_work(id);
        if at_work.is_some() {
            state.cancel_work("aborted by request");
        }
        let seed = state.seeds.get_mut(id);
        let seed = seed.ok_or_else(|| not_found("abort seed stage"))?;
        if let Some(stage) = at_work {
            let note = incomplete_note(seed, None);
            let text = format!("{stage} was aborted by request{note}");
            seed.set(stage, Status::Error, &text);
            log::info!("seed {id}: {text}");
        }
        seed.given_up = true;
        self.persist(state)
    }
}

fn not_found(what: &str) -> Error {
    Error::permanent(format!("Unable to {what}. SeedID not found"))
}

fn not_completed(stage: &str, before: &str, id: i64) -> Error {
    Error::permanent(format!(
        "Unable to start {stage} stage: {before} of seed {id} is not completed"
    ))
}

impl State {
    /// The stage of seed `id` that is at work and not told to end.
    fn at_work(&self, id: i64) -> Option<Stage> {
        let work = self.work.as_ref();
        let work = work.filter(|w| w.run.seed_id == id && !w.cancel.is_cancelled());
        work.map(|w| w.run.stage)
    }

    /// A server with half a load in it must not be copied.
    fn refuse_partial(&self) -> Result<()> {
        let current = self.seeds.current();
        let Some((seed, state)) = current.and_then(|s| Some((s, s.incomplete()?))) else {
            return Ok(());
        };
        let since = match seed.left_by {
            Some(_) => String::new(),
            None => format!(" since seed {} by {} was interrupted", seed.id, seed.method),
        };
        Err(Error::permanent(format!(
            "this host cannot be a source: {state}{since}; make it the target of a new seed, or, if its data were restored by other \
             means, stop the agent and remove seeds.json from common.state-dir"
        )))
    }

    fn cancel_work(&self, reason: &str) {
        if let Some(work) = &self.work {
            work.cancel.cancel(reason);
        }
    }

    fn expect_current(&self, id: i64, what: &str) -> Result<()> {
        let current = self.seeds.current().filter(|s| s.id == id);
        current.map(drop).ok_or_else(|| not_found(what))
    }
}
