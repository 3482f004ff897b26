//! The engine: takes start calls, keeps one seed at a time, runs a stage in a thread of its own, and writes the record. What a method
//! does it does not know. A repeated call starts nothing twice; `make_room` decides when a seed is evicted by another one.

mod calls;
#[cfg(test)]
mod durable_tests;
mod run;
#[cfg(test)]
mod tests;

use super::record::{Load, Seed, Seeds, Store, short_ascii};
use super::sessions::Sessions;
use super::stage::{Progress, Recorder, Run, SeedMethod};
use super::types::{Method, Stage, Status};
use crate::error::{Error, Result};
use crate::process::{Cancel, end_orphans};
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

pub(crate) use calls::Started;

/// Cloneable handle; all clones are the same engine.
#[derive(Clone)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
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
}

impl Work {
    /// False once its thread has ended.
    fn is_live(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Empty)
    }
}

impl Engine {
    /// With the record as read from `store`. Tools that an earlier agent left behind are ended here, before the
    /// first call.
    ///
    /// # Errors
    /// If the record cannot be read or written.
    pub(crate) fn open(
        mut store: Store,
        methods: Vec<Arc<dyn SeedMethod>>,
        orphan_timeout: Duration,
    ) -> Result<Self> {
        let mut seeds = store.load()?;
        let left: Vec<Sessions> = seeds
            .iter()
            .flat_map(|s| Sessions::left_by(&s.tools))
            .collect();
        if !left.is_empty() {
            seeds.sessions.extend(left);
            store.save(&seeds, 1)?; // before the tools end and take with them what they were
        }
        for seed in seeds.iter_mut() {
            for tool in std::mem::take(&mut seed.tools) {
                end_orphans(&tool.id);
            }
        }
        let state = State {
            seeds,
            version: 1,
            runs: 0,
            work: None,
            unwritten: Vec::new(),
            called: Instant::now(),
            stopping: false,
        };
        let engine = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                store: Mutex::new(store),
                methods,
                orphan_timeout,
                restoring: Mutex::new(()),
            }),
        };
        engine.persist(engine.lock())?;
        Ok(engine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Writes the record; the state is unlocked before, so that calls that only read never wait for a disk.
    fn persist(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        state.version += 1;
        let (seeds, version) = (state.seeds.clone(), state.version);
        drop(state);
        lock(&self.shared.store).save(&seeds, version)
    }

    /// True if the method is enabled and built, whatever its tools are like.
    pub(crate) fn offers(&self, method: Method) -> bool {
        self.shared.methods.iter().any(|m| m.method() == method)
    }

    /// Adds to the record of a seed whose stage was interrupted what was found and done at the agent's start.
    pub(crate) fn recovered(&self, id: i64, data: Option<Load>, text: &str) {
        let mut state = self.lock();
        let Some(seed) = state.seeds.get_mut(id) else {
            log::warn!("seed {id} is not in the record any more");
            return;
        };
        let (stage, before) = match seed.stages.get(&seed.stage) {
            Some(s) => (seed.stage, s.details.clone()),
            None => (seed.stage, String::new()),
        };
        match data {
            // An earlier seed may have left the old data partial.
            None | Some(Load::Unchanged) => {}
            Some(data) => seed.load = data,
        }
        seed.set(stage, Status::Error, &format!("{before}; {text}"));
        if let Err(e) = self.persist(state) {
            log::error!("{e}");
        }
    }

    /// The seed with this number, if it is still remembered.
    pub(crate) fn seed(&self, id: i64) -> Option<Seed> {
        self.lock().seeds.get(id).cloned()
    }

    /// The seed that was prepared last.
    pub(crate) fn current(&self) -> Option<Seed> {
        let state = self.lock();
        let mut seed = state.seeds.current().cloned()?;
        for (stage, record) in &mut seed.stages {
            if state.is_unwritten(seed.id, *stage, record.run) {
                record.status = Status::Running;
            }
        }
        Some(seed)
    }

    /// The method of the seed in progress (it must stay in `get-agent-data`, also while the seed waits for a retry, and
    /// on the source).
    pub(crate) fn method_in_use(&self) -> Option<Method> {
        let state = self.lock();
        let in_progress =
            |s: &&Seed| !s.given_up && s.status(Stage::Cleanup) != Some(Status::Completed);
        let current = state.seeds.current().filter(in_progress).map(|s| s.method);
        state.work.as_ref().map(|w| w.method).or(current)
    }

    /// The method of seed `id`, if it is the one in progress.
    pub(crate) fn method_of(&self, id: i64) -> Option<Method> {
        let in_use = self.method_in_use();
        let state = self.lock();
        state
            .seeds
            .current()
            .filter(|s| s.id == id)
            .map(|s| s.method)
            .filter(|m| Some(*m) == in_use)
    }

    /// True while a stage is at work.
    pub(crate) fn is_busy(&self) -> bool {
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
        let restoring = self.restoring();
        if self.is_busy() {
            return Vec::new(); // Prepare has done so, Restore will
        }
        self.restore_all(&restoring)
    }

    /// The same while a stage is at work that has not begun yet.
    fn restore_all(&self, _restoring: &MutexGuard<'_, ()>) -> Vec<Error> {
        let state = self.lock();
        let pending = state.seeds.iter().filter(|s| !s.pending_restore.is_empty());
        let pending: Vec<Seed> = pending.cloned().collect();
        drop(state);
        let failed = |seed: &Seed| self.restore_of(seed).err();
        pending.iter().filter_map(failed).collect()
    }

    fn restoring(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.restoring)
    }

    /// Ends by `end` the sessions that tools of an agent that was killed have left, and forgets them. Returns the errors; called
    /// again until there are none.
    pub(crate) fn end_sessions(&self, end: impl Fn(&Sessions) -> Result<()>) -> Vec<Error> {
        let left = self.lock().seeds.sessions.clone();
        let mut errors = Vec::new();
        let mut over = Vec::new();
        for sessions in left {
            match end(&sessions) {
                Err(e) if !sessions.is_old() => {
                    errors.push(e);
                    continue;
                }
                Err(e) => log::warn!("sessions of killed tools are not looked for any more: {e}"),
                Ok(()) => {}
            }
            over.push(sessions);
        }
        if !over.is_empty() {
            let mut state = self.lock();
            state.seeds.sessions.retain(|s| !over.contains(s));
            errors.extend(self.persist(state).err());
        }
        errors
    }

    fn restore_of(&self, seed: &Seed) -> Result<()> {
        let Some(method) = self
            .shared
            .methods
            .iter()
            .find(|m| m.method() == seed.method)
        else {
            return Err(Error::permanent(format!(
                "seed {} changed settings of MySQL ({:?}) and its method {} is not enabled any more: set them by hand",
                seed.id, seed.pending_restore, seed.method
            )));
        };
        method.restore_settings(seed)?;
        let mut state = self.lock();
        if let Some(s) = state.seeds.get_mut(seed.id) {
            s.pending_restore.clear();
        }
        self.persist(state)
    }

    /// Wall-clock time of a record's nanoseconds.
    fn time(nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
    }
}

impl Recorder for Engine {
    fn seed(&self, id: i64) -> Option<Seed> {
        Engine::seed(self, id)
    }

    fn update(&self, run: Run, change: &mut dyn FnMut(&mut Seed)) -> Result<()> {
        let mut state = self.lock();
        match state.seeds.get_mut(run.seed_id) {
            Some(s)
                if s.stages
                    .get(&run.stage)
                    .is_some_and(|r| r.run == run.number) =>
            {
                change(s)
            }
            _ => return Err(Error::cancelled()),
        }
        self.persist(state)
    }

    fn report(&self, run: Run, text: &str) {
        let mut state = self.lock();
        if let Some(record) = state
            .seeds
            .get_mut(run.seed_id)
            .and_then(|s| s.stages.get_mut(&run.stage))
            && record.run == run.number
            && record.status == Status::Running
        {
            record.details = short_ascii(text);
        }
    }
}
