//! The engine: takes start calls, keeps one seed at a time, runs a stage in a thread of its own, and writes the record. It
//! never knows what a method does. A call that is repeated begins nothing twice; when a seed gives up its place to another one is decided in `make_room`.

mod calls;
#[cfg(test)]
mod durable_tests;
mod run;
#[cfg(test)]
mod tests;

use super::record::{Seed, Seeds, Store};
use super::sessions::Sessions;
use super::stage::Progress;
use super::stage::SeedMethod;
use super::vocabulary::{Method, Stage};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

pub use calls::{StageView, Started};

/// Cloneable handle; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    store: Mutex<Store>,
    methods: Vec<Arc<dyn SeedMethod>>,
    orphan_timeout: Duration,
    /// Held while settings are put back, so that no stage begins meanwhile.
    settling: Mutex<()>,
}

struct State {
    seeds: Seeds,
    version: u64,
    runs: u64,
    work: Option<Work>,
    /// Seed, stage and run of stages that are Completed and not on the disk as such yet.
    unwritten: Vec<(i64, Stage, u64)>,
    /// When a controller last called with the number of the current seed.
    called: Instant,
    stopping: bool,
}

/// The stage at work, or the one that was told to end and has not yet.
struct Work {
    run: u64,
    seed_id: i64,
    stage: Stage,
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
    /// With the record as read from `store`. Tools that an earlier agent left behind are ended here, before anybody can
    /// ask for anything.
    ///
    /// # Errors
    /// If the record cannot be read or written.
    pub fn open(
        mut store: Store,
        methods: Vec<Arc<dyn SeedMethod>>,
        orphan_timeout: Duration,
    ) -> Result<Self> {
        let mut seeds = store.load()?;
        let left: Vec<Sessions> = seeds.iter().flat_map(Sessions::left_by).collect();
        if !left.is_empty() {
            seeds.sessions.extend(left);
            store.save(&seeds, 1)?; // before the tools end and take with them what they were
        }
        for seed in seeds.iter_mut() {
            for tool in std::mem::take(&mut seed.tools) {
                run::end_orphans(&tool.id);
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
                settling: Mutex::new(()),
            }),
        };
        engine.persist(engine.lock())?;
        Ok(engine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Writes the record; the state's lock is given back before the disk is touched, so that nobody who only reads ever
    /// waits for a disk.
    fn persist(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        state.version += 1;
        let (seeds, version) = (state.seeds.clone(), state.version);
        drop(state);
        lock(&self.shared.store).save(&seeds, version)
    }

    /// Changes a seed's record durably, on behalf of a run of a stage.
    ///
    /// # Errors
    /// Cancelled if another run has taken the stage's place (D6); the record's own.
    pub(super) fn update(
        &self,
        id: i64,
        stage: Stage,
        run: u64,
        change: impl FnOnce(&mut Seed),
    ) -> Result<()> {
        let mut state = self.lock();
        match state.seeds.get_mut(id) {
            Some(s) if s.stages.get(&stage).is_some_and(|r| r.run == run) => change(s),
            _ => return Err(Error::cancelled()),
        }
        self.persist(state)
    }

    pub(super) fn report(&self, id: i64, stage: Stage, run: u64, text: &str) {
        let mut state = self.lock();
        if let Some(record) = state
            .seeds
            .get_mut(id)
            .and_then(|s| s.stages.get_mut(&stage))
            && record.run == run
            && record.status == super::Status::Running
        {
            record.details = super::record::short_ascii(text);
        }
    }

    /// True if the method is enabled and built, whatever its tools are like.
    pub fn offers(&self, method: Method) -> bool {
        self.shared.methods.iter().any(|m| m.method() == method)
    }

    /// Adds to the record of a seed whose stage was interrupted what was found and done at the agent's start.
    pub fn recovered(&self, id: i64, data: Option<super::record::Load>, text: &str) {
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
            None | Some(super::record::Load::Untouched) => {}
            Some(data) => seed.load = data,
        }
        seed.set(stage, super::Status::Error, &format!("{before}; {text}"));
        if let Err(e) = self.persist(state) {
            log::error!("{e}");
        }
    }

    /// The seed with this number, if it is still remembered.
    pub fn seed(&self, id: i64) -> Option<Seed> {
        self.lock().seeds.get(id).cloned()
    }

    /// The seed that was prepared last.
    pub fn current(&self) -> Option<Seed> {
        let state = self.lock();
        let mut seed = state.seeds.current().cloned()?;
        for (stage, record) in &mut seed.stages {
            if state.is_unwritten(seed.id, *stage, record.run) {
                record.status = super::Status::Running;
            }
        }
        Some(seed)
    }

    /// The method of the seed in progress (8.4: it must stay in `get-agent-data`, also while the seed waits for a retry, and
    /// on the source).
    pub fn method_in_use(&self) -> Option<Method> {
        let state = self.lock();
        let in_progress =
            |s: &&Seed| !s.given_up && s.status(Stage::Cleanup) != Some(super::Status::Completed);
        let current = state.seeds.current().filter(in_progress).map(|s| s.method);
        state.work.as_ref().map(|w| w.method).or(current)
    }

    /// The method of seed `id`, if it is the one in progress.
    pub fn method_of(&self, id: i64) -> Option<Method> {
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
    pub fn is_busy(&self) -> bool {
        self.lock().work.as_ref().is_some_and(Work::is_live)
    }

    /// Stops for good: no stage starts any more, the one at work is aborted and recorded. Waits at most `limit`.
    pub fn stop(&self, limit: Duration) {
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

    /// Puts back what interrupted seeds owe to the server. Returns the errors; called again until there are none.
    pub fn settle(&self) -> Vec<Error> {
        let settling = self.settling();
        if self.is_busy() {
            return Vec::new(); // Prepare has seen to it, Restore will
        }
        self.settle_now(&settling)
    }

    /// The same while a stage is at work that has not begun yet.
    fn settle_now(&self, _settling: &MutexGuard<'_, ()>) -> Vec<Error> {
        let owing: Vec<Seed> = {
            let state = self.lock();
            state
                .seeds
                .iter()
                .filter(|s| !s.pending_restore.is_empty())
                .cloned()
                .collect()
        };
        owing
            .iter()
            .filter_map(|seed| self.settle_one(seed).err())
            .collect()
    }

    fn settling(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.settling)
    }

    /// Ends by `end` the sessions that tools of an agent that was killed have left, and forgets them. Returns the errors; called
    /// again until there are none.
    pub fn end_sessions(&self, end: impl Fn(&Sessions) -> Result<()>) -> Vec<Error> {
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

    fn settle_one(&self, seed: &Seed) -> Result<()> {
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
