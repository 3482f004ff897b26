//! Seeds of the classic protocol. orchestrator 3.2.6 and its forks call:
//!
//! | call | host | what is done |
//! |---|---|---|
//! | `mountlv` | source | one of the [virtual snapshots](Classic::snapshots), a seed method by name, is noted |
//! | `delete-mysql-datadir` | target | checks; nothing is deleted before the new data have been seen to start |
//! | `receive-mysql-seed-data` | target | [`target`]: listens on the seed port |
//! | `send-mysql-seed-data` | source | [`source`]: connects there, and announces method, host and size |
//! | `seed-command-completed`, `-succeeded` | target | true once the copy is complete, prepared, and was seen to start |
//! | `post-copy` | target | the swap, and replication |
//! | `umount` | source | what the seed holds is released |
//! | `mysql-start` | target | MySQL runs already |
//!
//! Both hosts run the stages of the seed's method by the [engine](crate::seed::engine). The connection of the announcement stays open until
//! the copy is complete, so that each host knows of the end of the other. orchestrator is not relied upon: a seed for which it has not
//! called for `common.seed-orphan-timeout` fails, and both hosts release what they hold.

mod announcement;
mod source;
mod target;
#[cfg(test)]
mod tests;

use crate::config::{Config, DatadirSwap};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::seed::Method;
use crate::seed::engine::Engine;
use crate::seed::record::Seed;
use crate::seed::types::{Side, Stage, Status};
use crate::sys::thread::{lock, spawn, unpoisoned};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a mounted snapshot waits for its seed, if `common.seed-orphan-timeout` is not shorter.
/// orchestrator calls `send-mysql-seed-data` some seconds later, and nothing at all where it ends a seed before that.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// How long the check of a target is good for: orchestrator goes on at once.
const CHECK_LIMIT: Duration = Duration::from_secs(300);
/// How long the number of an aborted seed is remembered: longer than orchestrator goes on with its procedure.
const ABORTED_LIMIT: Duration = Duration::from_secs(3600);
/// How often a seed is polled.
const POLL: Duration = Duration::from_millis(100);
/// How long `umount` waits for the end of the seed.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(600);
/// How old an abort must be to belong to an earlier seed than the one that begins with `mountlv` and `delete-mysql-datadir`: each
/// orchestrator, each node of raft, and one whose database was reset has numbers of its own.
const EARLIER_SEED: Duration = Duration::from_secs(30);
/// How long orchestrator waits for the end of a stage that was aborted, and for its Cleanup, before it is sent the reason.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Before the names of the methods in the paths of virtual snapshots.
pub(crate) const PREFIX: &str = "/orchestrator-agent/";

/// The classic seeds of this host.
pub(crate) struct Classic {
    config: Arc<Config>,
    engine: Arc<Engine>,
    /// The name under which the agent registers.
    hostname: String,
    state: Mutex<State>,
    /// The phase of the target's seed, or the end of the source's.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mount: Option<Mounted>,
    source: Option<Active>,
    /// When `delete-mysql-datadir` has checked this host; no seed has begun since.
    checked: Option<Instant>,
    target: Option<Target>,
    /// The seed of the latest `seed-command-completed`: that of the `post-copy` that follows, which has no number. `None` before the first
    /// for a seed, 0 if it was no number.
    polled: Option<i64>,
    /// With the time of the abort.
    aborted: BTreeMap<i64, Instant>,
}

/// A virtual snapshot that `mountlv` was called for.
struct Mounted {
    method: Method,
    at: Instant,
}

/// A seed at work.
struct Active {
    id: i64,
    cancel: Cancel,
}

/// The latest seed of which this host is the target.
struct Target {
    seed: Active,
    phase: Phase,
    /// When orchestrator last called for it.
    called: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Up to the trial start of the copy.
    Copying,
    /// Waits for `post-copy`.
    Complete,
    /// The swap, and what follows it.
    Swapping,
    Done,
    Failed(String),
}

impl State {
    fn is_checked(&self) -> bool {
        self.checked.is_some_and(|at| at.elapsed() < CHECK_LIMIT)
    }

    /// Seed `id` begins, with a call of `began`: an abort that was long before it was of an earlier seed with this number.
    fn forget_earlier_abort(&mut self, id: i64, began: Option<Instant>) {
        let earlier = |aborted: &Instant| began.is_some_and(|at| at > *aborted + EARLIER_SEED);
        self.aborted.retain(|n, at| *n != id || !earlier(at));
    }

    /// An error if a seed is at work on this host, whatever its side.
    fn refuse_second(&self) -> Result<()> {
        let target = self.target.as_ref().filter(|t| t.is_active());
        match target.map(|t| &t.seed).or(self.source.as_ref()) {
            Some(seed) => Err(Error::permanent(format!(
                "seed {0} is in progress on this host: GET /api/abort-seed/{0} ends it",
                seed.id
            ))),
            None => Ok(()),
        }
    }

    fn is_aborted(&self, id: i64) -> bool {
        self.aborted.contains_key(&id)
    }
}

impl Target {
    fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Done | Phase::Failed(_))
    }
}

/// A seed number. orchestrator's are numbers.
fn number(id: &str) -> Result<i64> {
    let number = id.parse().ok().filter(|n: &i64| *n > 0);
    number.ok_or_else(|| Error::permanent(format!("seed id {id:?} is not a positive number")))
}

/// The path of the virtual snapshot of `method`. orchestrator sends it unescaped.
pub(crate) fn path_of(method: Method) -> String {
    format!("{PREFIX}{method}")
}

/// True for the path of a virtual snapshot.
pub(crate) fn is_virtual(path: &str) -> bool {
    path.starts_with(PREFIX)
}

impl Classic {
    pub(crate) fn new(config: &Arc<Config>, engine: &Arc<Engine>, hostname: &str) -> Arc<Self> {
        let this = Arc::new(Self {
            config: Arc::clone(config),
            engine: Arc::clone(engine),
            hostname: hostname.into(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        this.fail_interrupted();
        this
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A seed during which the agent ended has failed; what it has left on this host is removed.
    fn fail_interrupted(self: &Arc<Self>) {
        let is_open = |s: &Seed| s.status(Stage::Cleanup) != Some(Status::Completed);
        let interrupted = self.engine.current();
        let Some(seed) = interrupted.filter(|s| s.classic && is_open(s)) else {
            return;
        };
        let stage = seed.stages.get(&seed.stage);
        let details = stage.map_or("", |s| s.details.as_str());
        let reason = format!("the agent was restarted in seed {}: {details}", seed.id);
        log::warn!("{reason}");
        if seed.side == Side::Target {
            self.lock().target = Some(Target {
                seed: Active {
                    id: seed.id,
                    cancel: Cancel::default(),
                },
                phase: Phase::Failed(reason),
                called: Instant::now(),
            });
        }
        let this = Arc::clone(self);
        let body = move || this.end_stages(seed.id, seed.method, seed.side, &|| Ok(()));
        if let Err(e) = spawn("classic-cleanup", body) {
            log::error!("{e}");
        }
    }

    /// The methods among `usable` that have virtual snapshots, the preferred one first: by `classic.seed-method`, else the fastest.
    pub(crate) fn snapshots(&self, usable: impl Fn(Method) -> bool) -> Vec<Method> {
        let names = &self.config.classic.seed_method;
        let wanted: Vec<Method> = names.iter().filter_map(|n| Method::parse(n)).collect();
        let order = if wanted.is_empty() {
            Method::FASTEST_FIRST.to_vec()
        } else {
            wanted
        };
        order.into_iter().filter(|m| usable(*m)).collect()
    }

    /// `classic.snapshot-mount-point`: the place of snapshots of volumes.
    pub(crate) fn mount_point(&self) -> &str {
        &self.config.classic.snapshot_mount_point
    }

    /// The method whose virtual snapshot is mounted on this host. One that no seed has used is released after a minute.
    pub(crate) fn mounted(&self) -> Option<Method> {
        let mut state = self.lock();
        let unused = state.source.is_none();
        let limit = self.mount_limit();
        state.mount.take_if(|m| unused && m.at.elapsed() > limit);
        state.mount.as_ref().map(|m| m.method)
    }

    fn mount_limit(&self) -> Duration {
        MOUNT_LIMIT.min(self.config.common.seed_orphan_timeout)
    }

    /// Notes that the seed that follows is to be sent by the method of `path`, one of `snapshots`.
    pub(crate) fn mount(&self, path: &str, snapshots: &[Method]) -> Result<()> {
        let method = snapshots.iter().find(|m| path_of(**m) == path);
        let Some(&method) = method else {
            let all: Vec<String> = snapshots.iter().map(|m| path_of(*m)).collect();
            let all = match all.join(", ") {
                none if none.is_empty() => "none".to_string(),
                all => all,
            };
            return Err(Error::permanent(format!(
                "{path} is not a snapshot of this host; available snapshots: {all}"
            )));
        };
        let mounted = self.mounted();
        let mut state = self.lock();
        match mounted {
            Some(other) if other != method => Err(Error::permanent(format!(
                "{} is mounted: unmount it first (GET /api/umount)",
                path_of(other)
            ))),
            _ => {
                state.mount = Some(Mounted {
                    method,
                    at: Instant::now(),
                });
                Ok(())
            }
        }
    }

    /// Releases what a seed holds on this host, its source. When it returns Ok nothing of it is at work.
    pub(crate) fn unmount(&self) -> Result<()> {
        let mut state = self.lock();
        if let Some(source) = &state.source {
            source.cancel.cancel("umount was called");
        }
        let until = Instant::now() + UNMOUNT_LIMIT;
        while state.source.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::transient(
                    "the seed on this host does not end; its log says why: call umount again",
                ));
            }
            state = unpoisoned(self.changed.wait_timeout(state, left)).0;
        }
        state.mount = None;
        Ok(())
    }

    /// Aborts a seed, on either host, and remembers its number: it can only end without success from now on. Returns at once.
    pub(crate) fn abort(&self, id: &str) -> Result<()> {
        let id = number(id)?;
        let mut state = self.lock();
        state.aborted.retain(|_, at| at.elapsed() < ABORTED_LIMIT);
        state.aborted.insert(id, Instant::now());
        self.changed.notify_all();
        let target = state.target.as_ref().map(|t| &t.seed);
        for seed in target.into_iter().chain(&state.source) {
            if seed.id == id {
                seed.cancel.cancel("aborted by request");
            }
        }
        log::info!("classic seed {id}: aborted by request");
        Ok(())
    }

    /// True between `delete-mysql-datadir` and the seed, where the old data may be deleted to make room: they count as free space.
    pub(crate) fn counts_old_data_as_free(&self) -> bool {
        self.lock().is_checked() && self.config.mysql.datadir_swap != DatadirSwap::Always
    }

    /// True from `mountlv` or `delete-mysql-datadir` on, and for a while after the end of a seed, in which orchestrator makes its last calls.
    pub(crate) fn is_busy(&self) -> bool {
        let mounted = self.mounted().is_some();
        let state = self.lock();
        let limit = self.config.common.seed_orphan_timeout;
        let recent = |target: &Target| target.is_active() || target.called.elapsed() < limit;
        let target = state.target.as_ref().is_some_and(recent);
        mounted || target || state.source.is_some() || state.is_checked()
    }

    /// What the disk use of a target is increased by, so that it changes as long as its seed makes progress, and only then.
    pub(crate) fn progress(&self) -> u64 {
        let id = match &self.lock().target {
            Some(target) if target.is_active() => target.seed.id,
            _ => return 0,
        };
        let current = self.engine.current().filter(|s| s.id == id);
        let stage = current.and_then(|s| self.engine.stage_state(id, s.stage).ok());
        stage.and_then(|s| s.2).map_or(0, |p| p.touched())
    }

    /// That MySQL may be started: no seed is in progress, or was just aborted.
    pub(crate) fn check_start(&self) -> Result<()> {
        let refused = self.start_refused();
        refused.map_or(Ok(()), |why| {
            let text = format!("MySQL is not started by request: {why}");
            Err(Error::permanent(text))
        })
    }

    fn start_refused(&self) -> Option<String> {
        let state = self.lock();
        let target = state.target.as_ref()?;
        let id = target.seed.id;
        if target.is_active() {
            return Some(format!(
                "seed {id} is in progress and starts MySQL itself; GET /api/abort-seed/{id} ends it"
            ));
        }
        let aborted = state.aborted.get(&id)?;
        (aborted.elapsed() < END_LIMIT).then(|| format!("seed {id} was aborted"))
    }

    /// Waits for the end of `stage`, while `watch` returns Ok. Returns its details.
    ///
    /// # Errors
    /// That of `watch`; the stage's.
    fn wait_for(
        &self,
        id: i64,
        stage: Stage,
        mut watch: impl FnMut() -> Result<()>,
    ) -> Result<String> {
        loop {
            let (_, record, _) = self.engine.stage_state(id, stage)?;
            match record.status {
                Status::Completed => return Ok(record.details),
                Status::Error => return Err(Error::permanent(record.details)),
                Status::Running => {}
            }
            watch()?;
            std::thread::sleep(POLL);
        }
    }

    /// Aborts what is at work for a seed, and removes what it has left on this host. Waits for that without limit, but for an error of
    /// `late`, which is called meanwhile.
    fn end_stages(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        side: Side,
        late: &dyn Fn() -> Result<()>,
    ) {
        let end = || self.end(id, method, side, late);
        match catch_unwind(AssertUnwindSafe(end)) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => log::warn!("classic seed {id}: cleaning up: {e}"),
            Err(_) => log::error!("internal error: cleaning up classic seed {id} panicked"),
        }
    }

    fn end(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        side: Side,
        late: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let is_current = |s: &Seed| (s.id, s.side) == (id, side) && s.classic;
        let Some(seed) = self.engine.current().filter(is_current) else {
            return Ok(()); // it was never prepared here, or another one has taken its place
        };
        if seed.status(seed.stage) == Some(Status::Running) {
            self.engine.abort(id)?;
        }
        while self.engine.is_at_work(id) {
            late()?;
            std::thread::sleep(POLL);
        }
        self.engine.cleanup(id, method, side)?;
        self.wait_for(id, Stage::Cleanup, late).map(drop)
    }
}
