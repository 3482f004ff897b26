//! The engine: takes start calls, keeps one seed at a time, runs a stage in a thread of its own, and writes the record. What a method
//! does it does not know. A repeated call starts nothing twice; `make_room` decides when a seed is evicted by another one.

mod calls;
#[cfg(test)]
mod durable_tests;
#[cfg(test)]
mod tests;

use super::record::{Load, Seed, Seeds, Store, incomplete_note, short_ascii};
use super::sessions::Sessions;
use super::stage::{Context, Held, Prepared, Progress, Reception, Recorder, SeedMethod};
use super::types::{Method, Run, Side, Stage, Status};
use crate::error::{Error, Result};
use crate::process::{Cancel, end_orphans};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a stage waits for the one before it to end: more than an abort may take.
const PREDECESSOR: Duration = Duration::from_secs(60);

/// The outcome of a start call. Both are a 202 for the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    Now,
    /// It runs already, or is done and need not run again.
    Already,
}

/// After so long without a call the controller of a source's seed is taken to be gone.
const SOURCE_SILENCE: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Engine {
    state: Mutex<State>,
    store: Mutex<Store>,
    methods: Vec<Arc<dyn SeedMethod>>,
    orphan_timeout: Duration,
    /// Locked while settings are restored, so that no stage begins meanwhile.
    restoring: Mutex<()>,
}

struct State {
    seeds: Seeds,
    version: u64,
    runs: u64,
    work: Option<Work>,
    /// Runs that are Completed and not yet on the disk as such.
    unwritten: Vec<Run>,
    /// When a controller last called with the number of the current seed.
    called: Instant,
    stopping: bool,
}

/// The stage at work, or one that was cancelled and has not ended yet.
struct Work {
    run: Run,
    method: Method,
    cancel: Cancel,
    progress: Arc<Progress>,
    /// Disconnected when its thread has ended.
    ended: Receiver<()>,
    /// True while it waits before the swap of a classic seed, until `release` is dropped.
    waits: Arc<AtomicBool>,
    release: Option<Sender<()>>,
}

impl Work {
    /// False once its thread has ended.
    fn is_live(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Empty)
    }
}

impl Engine {
    /// With the record as read from `store`. Tools that an earlier agent left behind are ended here, before the first call.
    pub(crate) fn open(
        mut store: Store,
        methods: Vec<Arc<dyn SeedMethod>>,
        orphan_timeout: Duration,
    ) -> Result<Arc<Self>> {
        let mut seeds = store.load()?;
        let tools = seeds.all.iter().map(|s| Sessions::left_by(&s.tools));
        let left: Vec<Sessions> = tools.flatten().collect();
        if !left.is_empty() {
            seeds.sessions.extend(left);
            store.save(&seeds, 1)?; // before the tools end and take with them what they were
        }
        for seed in &mut seeds.all {
            for tool in std::mem::take(&mut seed.tools) {
                end_orphans(&tool.id);
            }
        }
        let engine = Arc::new(Self {
            state: Mutex::new(State {
                seeds,
                version: 1,
                runs: 0,
                work: None,
                unwritten: Vec::new(),
                called: Instant::now(),
                stopping: false,
            }),
            store: Mutex::new(store),
            methods,
            orphan_timeout,
            restoring: Mutex::default(),
        });
        engine.persist(engine.lock())?;
        Ok(engine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Writes the record; the state is unlocked before, so that calls that only read never wait for a disk.
    fn persist(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        state.version += 1;
        let (seeds, version) = (state.seeds.clone(), state.version);
        drop(state);
        lock(&self.store).save(&seeds, version)
    }

    fn find(&self, method: Method) -> Option<&Arc<dyn SeedMethod>> {
        self.methods.iter().find(|m| m.method() == method)
    }

    /// True if the method is enabled and built, whatever its tools are like.
    pub(crate) fn offers(&self, method: Method) -> bool {
        self.find(method).is_some()
    }

    /// Adds to the record of a seed whose stage was interrupted what was found and done at the agent's start.
    pub(crate) fn recovered(&self, id: i64, data: Option<Load>, text: &str) {
        let mut state = self.lock();
        let Some(seed) = state.seeds.get_mut(id) else {
            return log::warn!("seed {id} is not in the record any more");
        };
        // An earlier seed may have left the old data partial.
        if let Some(data) = data.filter(|d| *d != Load::Unchanged) {
            seed.load = data;
        }
        let before = seed
            .stages
            .get(&seed.stage)
            .map_or("", |s| s.details.as_str());
        let text = format!("{before}; {text}");
        seed.set(seed.stage, Status::Error, &text);
        if let Err(e) = self.persist(state) {
            log::error!("{e}");
        }
    }

    pub(crate) fn current(&self) -> Option<Seed> {
        let state = self.lock();
        state.seeds.current().map(|seed| state.reported(seed))
    }

    /// The method of the seed in progress (it must stay in `get-agent-data`, also while the seed waits for a retry, and on the source).
    pub(crate) fn method_in_use(&self) -> Option<Method> {
        self.lock().method_in_use()
    }

    /// True while a seed is in progress and its controller still exists, as far as can be seen: a stage is at work, or a call has come
    /// within `seed-orphan-timeout`. A source gets no calls while its target works, so it waits a day.
    pub(crate) fn is_attended(&self) -> bool {
        let state = self.lock();
        if state.work.as_ref().is_some_and(Work::is_live) {
            return true;
        }
        let limit = match state.seeds.current().map(|s| s.side) {
            Some(Side::Source) => SOURCE_SILENCE.max(self.orphan_timeout),
            Some(Side::Target) | None => self.orphan_timeout,
        };
        state.method_in_use().is_some() && state.called.elapsed() < limit
    }

    /// The method of seed `id`, if it is the one in progress.
    pub(crate) fn method_of(&self, id: i64) -> Option<Method> {
        let state = self.lock();
        let current = state.seeds.current().filter(|s| s.id == id)?.method;
        state.method_in_use().filter(|m| *m == current)
    }

    /// True until the stage of seed `id` that is at work, or was cancelled, has ended.
    pub(crate) fn is_at_work(&self, id: i64) -> bool {
        let state = self.lock();
        let work = state.work.as_ref().filter(|w| w.run.seed_id == id);
        work.is_some_and(Work::is_live)
    }

    fn is_busy(&self) -> bool {
        self.lock().work.as_ref().is_some_and(Work::is_live)
    }

    /// Stops for good: no stage starts any more, the one at work is aborted and recorded. Waits at most `limit`.
    pub(crate) fn stop(&self, limit: Duration) {
        let mut state = self.lock();
        state.stopping = true;
        let ended = state.work.as_ref().map(|w| {
            w.cancel.cancel("the agent was stopped");
            w.ended.clone()
        });
        drop(state);
        if let Some(ended) = ended {
            let _ = ended.recv_timeout(limit); // a disconnect is the good end, a timeout is logged by the caller's exit
        }
    }

    /// Restores what interrupted seeds have changed in the server. Returns the errors; called again until there are none.
    pub(crate) fn restore_pending(&self) -> Vec<Error> {
        let restoring = lock(&self.restoring);
        if self.is_busy() {
            return Vec::new(); // Prepare has done so, Restore will
        }
        self.restore_all(&restoring)
    }

    /// The same while a stage is at work that has not begun yet.
    fn restore_all(&self, _restoring: &MutexGuard<'_, ()>) -> Vec<Error> {
        let state = self.lock();
        let pending = state
            .seeds
            .all
            .iter()
            .filter(|s| !s.pending_restore.is_empty());
        let pending: Vec<Seed> = pending.cloned().collect();
        drop(state);
        let failed = |seed: &Seed| self.restore_of(seed).err();
        pending.iter().filter_map(failed).collect()
    }

    fn restore_of(&self, seed: &Seed) -> Result<()> {
        let method = self.find(seed.method).ok_or_else(|| {
            Error::permanent(format!(
                "seed {} changed settings of MySQL ({:?}) and its method {} is no longer enabled: reset them by hand",
                seed.id, seed.pending_restore, seed.method
            ))
        })?;
        method.restore_settings(seed)?;
        let mut state = self.lock();
        if let Some(s) = state.seeds.get_mut(seed.id) {
            s.pending_restore.clear();
        }
        self.persist(state)
    }

    /// Ends by `end` the sessions that tools of an agent that was killed have left, and forgets them. Returns the errors; called
    /// again until there are none.
    pub(crate) fn end_sessions(&self, end: impl Fn(&Sessions) -> Result<()>) -> Vec<Error> {
        let mut over = self.lock().seeds.sessions.clone();
        let mut errors = Vec::new();
        over.retain(|sessions| match end(sessions) {
            Err(e) if !sessions.is_old() => {
                errors.push(e);
                false
            }
            Err(e) => {
                log::warn!(
                    "gave up looking for sessions of killed tools (check SHOW PROCESSLIST): {e}"
                );
                true
            }
            Ok(()) => true,
        });
        if !over.is_empty() {
            let mut state = self.lock();
            state.seeds.sessions.retain(|s| !over.contains(s));
            errors.extend(self.persist(state).err());
        }
        errors
    }

    /// Registers the stage as Running, durably and before the caller answers, and starts its thread.
    fn start(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        seed_id: i64,
        stage: Stage,
        job: impl FnOnce(&Context) -> Result<Prepared> + Send + 'static,
    ) -> Result<Started> {
        if state.stopping {
            return Err(Error::transient("the agent is stopping"));
        }
        state.runs += 1;
        let run = Run {
            seed_id,
            stage,
            number: state.runs,
        };
        let (release, released) = bounded::<()>(0);
        let waits = Arc::new(AtomicBool::new(false));
        let ctx = Context {
            recorder: self.clone(),
            run,
            cancel: Cancel::default(),
            progress: Arc::default(),
            held: Held {
                waits: Arc::clone(&waits),
                released,
            },
            before_load: None,
        };
        let (ended_tx, ended) = bounded::<()>(0);
        let work = Work {
            run,
            method: state.begin(run)?,
            cancel: ctx.cancel.clone(),
            progress: Arc::clone(&ctx.progress),
            ended,
            waits,
            release: Some(release),
        };
        let mut before = state.work.replace(work);
        let written = self.persist(state);
        let engine = Arc::clone(self);
        let body = move || {
            let result = written
                .and_then(|()| wait_for(&mut before, &ctx.cancel))
                .and_then(|()| engine.run_job(&ctx, job));
            engine.finish(&ctx, result, before);
            drop(ended_tx);
        };
        let name = format!("seed-{}", stage.as_str().to_lowercase());
        if let Err(e) = spawn(&name, body) {
            let mut state = self.lock();
            state.work = None;
            state
                .seed(seed_id)?
                .set(stage, Status::Error, &e.to_string());
            return Err(e);
        }
        Ok(Started::Now)
    }

    fn run_job(
        &self,
        ctx: &Context,
        job: impl FnOnce(&Context) -> Result<Prepared>,
    ) -> Result<Prepared> {
        ctx.cancel.check()?;
        let restoring = lock(&self.restoring); // a restore of settings ends before this stage changes any
        if ctx.run.stage == Stage::Prepare {
            // What an interrupted load has left must not wait for the end of a new seed.
            for e in self.restore_all(&restoring) {
                log::warn!("settings of MySQL are not restored yet: {e}");
            }
        }
        drop(restoring);
        log::info!("seed {} {}: started", ctx.run.seed_id, ctx.run.stage);
        catch_unwind(AssertUnwindSafe(|| job(ctx))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(Error::permanent(format!(
                "internal error: {}; please report it",
                text.unwrap_or("panic")
            )))
        })
    }

    /// Records how a run ended. `before` is the run for which it waited without success: it is the one at work then, or a third
    /// run would begin next to it.
    fn finish(self: &Arc<Self>, ctx: &Context, result: Result<Prepared>, before: Option<Work>) {
        let (result, reception) = match result {
            Ok(done) => (Ok(done.text), done.reception),
            Err(e) => (Err(e), None),
        };
        let (run, mut completed) = (ctx.run, false);
        let mut state = self.lock();
        if state.work.as_ref().is_some_and(|w| w.run == run) {
            state.work = before.filter(Work::is_live);
        }
        if let Some(seed) = state.seeds.get_mut(run.seed_id) {
            let (status, text) = outcome(ctx, seed, result);
            let level = if status == Status::Error {
                log::Level::Error
            } else {
                log::Level::Info
            };
            log::log!(level, "seed {} {}: {text}", run.seed_id, run.stage);
            if seed.record_of(run).is_some() {
                seed.tools.clear();
                let record = seed.set(run.stage, status, &text);
                record.bytes = ctx.progress().get().0;
                completed = status == Status::Completed;
                if completed {
                    state.unwritten.push(run); // a killed agent makes it an Error
                }
            }
        }
        let written = self.persist_or_receive(state, run, reception.filter(|_| completed));
        if let Err(e) = written {
            log::error!(
                "{e}; the state of seed {} is in memory only (lost on restart)",
                run.seed_id
            );
        }
        self.lock().unwritten.retain(|r| *r != run);
    }

    /// After the Prepare of a target that is sent its copy, its Backup begins at once. The port is bound already, so no sender comes
    /// too early.
    fn persist_or_receive(
        self: &Arc<Self>,
        state: MutexGuard<'_, State>,
        run: Run,
        reception: Option<Reception>,
    ) -> Result<()> {
        let Some(reception) = reception else {
            return self.persist(state);
        };
        let job = move |ctx: &Context| reception(ctx).map(Prepared::from);
        self.start(state, run.seed_id, Stage::Backup, job).map(drop)
    }
}

/// Once cancelled a stage is Error, even if it completed in the same moment: its controller was answered so.
fn outcome(ctx: &Context, seed: &Seed, result: Result<String>) -> (Status, String) {
    let is_cancelled = ctx.cancel.is_cancelled();
    match result {
        Ok(text) if !is_cancelled => (Status::Completed, text),
        Err(e) if !is_cancelled => {
            let note = incomplete_note(seed, Some(&e));
            (Status::Error, format!("{e}{note}"))
        }
        other => {
            let more = match &other {
                Err(e) if !e.is_cancelled() => format!(" ({e})"),
                _ => String::new(),
            };
            let (stage, reason) = (ctx.run.stage, ctx.cancel.reason());
            let note = incomplete_note(seed, None);
            let text = format!("{stage} ended: {reason}{more}{note}");
            (Status::Error, text)
        }
    }
}

/// Waits until the run before has ended; `before` is then `None`. It also waits when it is cancelled itself: a stop of the agent,
/// which waits for the end of this run, has to wait for the tools of all runs before it.
fn wait_for(before: &mut Option<Work>, cancel: &Cancel) -> Result<()> {
    let Some(work) = before else { return Ok(()) };
    while work.ended.recv_timeout(PREDECESSOR) == Err(RecvTimeoutError::Timeout) {
        if !cancel.is_cancelled() {
            return Err(Error::transient(format!(
                "{} of seed {} was cancelled and has not ended within {}s: does MySQL hang?",
                work.run.stage,
                work.run.seed_id,
                PREDECESSOR.as_secs()
            )));
        }
    }
    *before = None;
    cancel.check()
}

impl State {
    fn method_in_use(&self) -> Option<Method> {
        let in_progress =
            |s: &&Seed| !s.given_up && s.status(Stage::Cleanup) != Some(Status::Completed);
        let current = self.seeds.current().filter(in_progress).map(|s| s.method);
        self.work.as_ref().map(|w| w.method).or(current)
    }

    /// `seed` as it is reported: a stage is completed once it is so on the disk, where a killed agent cannot revoke it.
    fn reported(&self, seed: &Seed) -> Seed {
        let mut seed = seed.clone();
        for run in &self.unwritten {
            if run.seed_id == seed.id
                && let Some(record) = seed.record_of(*run)
            {
                record.status = Status::Running;
                record.details = format!("Running {}. Writing the record", run.stage);
            }
        }
        seed
    }

    /// Makes the stage the seed's current one, as Running. Returns the seed's method.
    fn begin(&mut self, run: Run) -> Result<Method> {
        let seed = self.seed(run.seed_id)?;
        seed.stages.remove(&run.stage);
        let text = format!("Running {}", run.stage.as_str().to_lowercase());
        seed.set(run.stage, Status::Running, &text).run = run.number;
        seed.stage = run.stage;
        seed.given_up = false;
        Ok(seed.method)
    }

    fn seed(&mut self, id: i64) -> Result<&mut Seed> {
        let seed = self.seeds.get_mut(id);
        seed.ok_or_else(|| Error::permanent(format!("SeedID {id} not found")))
    }
}

impl Recorder for Engine {
    fn seed(&self, id: i64) -> Option<Seed> {
        self.lock().seeds.get(id).cloned()
    }

    fn update(&self, run: Run, change: Box<dyn FnOnce(&mut Seed) + '_>) -> Result<()> {
        let mut state = self.lock();
        let seed = state.seeds.get_mut(run.seed_id);
        let seed = seed.ok_or_else(Error::cancelled)?;
        if seed.record_of(run).is_none() {
            return Err(Error::cancelled());
        }
        change(seed);
        self.persist(state)
    }

    fn report(&self, run: Run, text: &str) {
        let mut state = self.lock();
        let seed = state.seeds.get_mut(run.seed_id);
        if let Some(record) = seed.and_then(|s| s.record_of(run))
            && record.status == Status::Running
        {
            record.details = short_ascii(text);
        }
    }
}
