//! What a seed method implements, and what the thread of a stage holds: its cancellation, its progress, and its access to the record.

use super::record::Seed;
use super::sessions::Tool;
use super::types::{Method, Run, Side, Stage};
use crate::datadir::Task;
use crate::error::{Error, Result};
use crate::process::{Cancel, Running};
use crate::sys::proc::{ProcessId, group_tcp_ports};
use crate::sys::thread::{spawn, spawn_with_stack};
use crossbeam_channel::{Receiver, bounded, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long the connections of a tool are searched for.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// Progress of a stage, written by its threads and read by all others.
#[derive(Debug)]
pub(crate) struct Progress {
    started: SystemTime,
    base: Instant,
    touched_ms: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            base: Instant::now(),
            touched_ms: AtomicU64::default(),
            done: AtomicU64::default(),
            total: AtomicU64::default(),
        }
    }
}

impl Progress {
    pub(crate) fn touch(&self) {
        let ms = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched_ms.store(ms, Ordering::Relaxed);
    }

    /// `done` bytes are through.
    pub(crate) fn bytes(&self, done: u64) {
        if self.done.swap(done, Ordering::Relaxed) != done {
            self.touch();
        }
    }

    /// How many bytes there will be; 0 = unknown.
    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Bytes done and bytes expected (0 = unknown).
    pub(crate) fn get(&self) -> (u64, u64) {
        let [done, total] = [&self.done, &self.total].map(|n| n.load(Ordering::Relaxed));
        (done, total)
    }

    /// Changes with every step forward: milliseconds.
    pub(crate) fn touched(&self) -> u64 {
        self.touched_ms.load(Ordering::Relaxed)
    }

    /// Time since the last step forward.
    pub(crate) fn stalled_for(&self) -> Duration {
        let touched = Duration::from_millis(self.touched_ms.load(Ordering::Relaxed));
        self.base.elapsed().saturating_sub(touched)
    }

    /// The Timestamp to send while the stage runs: it does not move while work goes on, so that orchestrator's rule of
    /// staleness applies after exactly its time without progress.
    pub(crate) fn timestamp(&self) -> SystemTime {
        self.started + self.stalled_for()
    }
}

/// The record, as a stage reads and changes it.
pub(crate) trait Recorder: Send + Sync {
    fn seed(&self, id: i64) -> Option<Seed>;

    /// Changes the record durably: when this returns Ok it is on disk, after an error in memory only. Cancelled if another run has taken
    /// this one's place; nothing is changed then.
    fn update(&self, run: Run, change: Box<dyn FnOnce(&mut Seed) + '_>) -> Result<()>;

    /// Replaces the details of a running stage, in memory only.
    fn report(&self, run: Run, text: &str);
}

/// Given to a method for one run of one stage.
#[derive(Clone)]
pub(crate) struct Context {
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) run: Run,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<Progress>,
    pub(super) held: Held,
    pub(super) before_load: Option<BeforeLoad>,
}

/// What is done on the host before the first statement of a load.
pub(super) type BeforeLoad = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// The end of a pause before the swap of a classic seed.
#[derive(Clone)]
pub(super) struct Held {
    /// True while the stage waits.
    pub(super) waits: Arc<AtomicBool>,
    /// Disconnected when it may go on.
    pub(super) released: Receiver<()>,
}

impl Context {
    pub(crate) fn seed_id(&self) -> i64 {
        self.run.seed_id
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Reports what is being done now. Counts as progress. Kept in memory, written with the next durable change.
    pub(crate) fn report(&self, text: &str) {
        log::info!("seed {} {}: {text}", self.run.seed_id, self.run.stage);
        self.progress.touch();
        self.recorder.report(self.run, text);
    }

    /// In a classic seed, waits before the target's data are replaced until orchestrator calls `post-copy`.
    pub(crate) fn hold_before_swap(&self) -> Result<()> {
        if !self.seed()?.classic {
            return Ok(());
        }
        self.report("The copy is complete and has started. Waiting for post-copy");
        self.held.waits.store(true, Ordering::Release);
        select! {
            recv(self.held.released) -> _ => {}
            recv(self.cancel.signal()) -> _ => {}
        }
        self.held.waits.store(false, Ordering::Release);
        self.cancel.check()
    }

    /// Called by a load once its checks have passed, before its first statement. After an error nothing is loaded.
    pub(crate) fn begin_load(&self) -> Result<()> {
        self.before_load.as_ref().map_or(Ok(()), |work| work())
    }

    /// The seed as recorded; an error if it has left the record, which only newer seeds can cause.
    pub(crate) fn seed(&self) -> Result<Seed> {
        let id = self.run.seed_id;
        self.recorder
            .seed(id)
            .ok_or_else(|| Error::permanent(format!("seed {id} is not in the record")))
    }

    /// What the method remembers of the seed.
    pub(crate) fn state<T: DeserializeOwned>(&self) -> Result<T> {
        self.seed()?.method_state()
    }

    /// As [`Context::update`], with what the method remembers.
    pub(crate) fn update_state<T: DeserializeOwned + Serialize>(
        &self,
        change: impl FnOnce(&mut Seed, &mut T),
    ) -> Result<()> {
        let mut state: T = self.state()?;
        let mut set = Ok(());
        self.update(|seed| {
            change(seed, &mut state);
            set = seed.set_method_state(&state);
        })?;
        set
    }

    /// As [`Recorder::update`].
    pub(crate) fn update(&self, change: impl FnOnce(&mut Seed)) -> Result<()> {
        self.recorder.update(self.run, Box::new(change))
    }

    /// Does `work`, which only looks and changes nothing, in a thread of its own, and leaves it to itself when the stage is
    /// cancelled: a server that does not answer must not delay an abort.
    pub(crate) fn interruptible<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tx, done) = bounded(1);
        let body = move || {
            let _ = tx.send(work()); // after a cancellation the result is not needed
        };
        spawn("check", body)?;
        select! {
            recv(done) -> result => {
                result.unwrap_or_else(|_| Err(Error::permanent("internal error: a check panicked")))
            }
            recv(self.cancel.signal()) -> _ => Err(Error::cancelled()),
        }
    }

    /// Records a tool, so that an agent that starts after being killed can end it, and what it has left in its server.
    pub(crate) fn adopt(&self, tool: &Running) -> Result<()> {
        let Some(id) = tool.id() else {
            return Ok(()); // it has ended already
        };
        self.update(|s| {
            // A load starts many, one after the other.
            s.tools.retain(|t| !t.id.group_alive().is_empty());
            let remote = s.side == Side::Target && self.run.stage == Stage::Backup;
            s.tools.push(Tool {
                id: id.clone(),
                server: s.peer.clone().filter(|_| remote),
                ports: BTreeSet::new(),
            });
        })?;
        self.watch_ports(id)
    }

    /// Records the ports as soon as the tool has them: when agent and tool are killed together, nothing else shows which
    /// sessions were theirs.
    fn watch_ports(&self, id: ProcessId) -> Result<()> {
        let (recorder, run) = (Arc::clone(&self.recorder), self.run);
        let body = move || {
            let begin = Instant::now();
            let mut known = BTreeSet::new();
            let mut pause = Duration::from_millis(20);
            while begin.elapsed() < CONNECT_LIMIT && !id.group_alive().is_empty() {
                let ports: BTreeSet<u16> = group_tcp_ports(id.pid).into_iter().collect();
                if !ports.is_subset(&known) {
                    known.extend(ports);
                    let set = |s: &mut Seed| {
                        if let Some(tool) = s.tools.iter_mut().find(|t| t.id == id) {
                            tool.ports.clone_from(&known);
                        }
                    };
                    match recorder.update(run, Box::new(set)) {
                        Err(e) if e.is_cancelled() => return,
                        Err(e) => log::warn!("{e}"),
                        Ok(()) => {}
                    }
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        };
        spawn_with_stack("ports", 256 << 10, body).map(drop)
    }
}

impl Task for Context {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn report(&self, text: &str) {
        self.report(text);
    }

    fn adopt(&self, tool: &Running) -> Result<()> {
        self.adopt(tool)
    }
}

/// What follows a Prepare that is completed: the work of a target that is sent its copy. It is this host's Backup.
pub(crate) type Reception = Box<dyn FnOnce(&Context) -> Result<String> + Send>;

/// A Prepare that is completed.
pub(crate) struct Prepared {
    pub(crate) text: String,
    /// Begins at once, in a thread of its own. Dropped, it gives back what it holds.
    pub(crate) reception: Option<Reception>,
}

impl<T: Into<String>> From<T> for Prepared {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            reception: None,
        }
    }
}

/// One method. Every stage function may be called again for the same seed after it failed, was aborted, or (Prepare, Cleanup) completed;
/// the text of an Ok becomes the stage's Details. Errors say what is not as it must be, with the remedy; permanent ones will not go away
/// by repeating the call.
pub(crate) trait SeedMethod: Send + Sync {
    fn method(&self) -> Method;

    /// Ok if it can be used on this host now. Checks the tools and, if it answers within a second, the server.
    fn available(&self) -> Result<()>;

    /// Ok if sudo, where it is used, runs what this method needs; else the command and sudo's message. Called by Prepare and
    /// `check-config` only: sudo logs each check.
    fn permitted(&self) -> Result<()> {
        Ok(())
    }

    /// Checks all that this host can know, and removes what an earlier attempt left. Touches no data of the server.
    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared>;

    /// Copies; called on the method's [`Method::backup_side`]. When it returns Ok the copy is complete and durable on this host, or
    /// acknowledged by the other one, and its coordinates are in the record. After an error nothing of the target's own data has changed.
    fn backup(&self, ctx: &Context) -> Result<String>;

    /// Makes the copy a running server. When it returns Ok the data are complete and the server is as it must be for its replication to be
    /// connected. After an error the record says whether data are partial.
    fn restore(&self, ctx: &Context) -> Result<String>;

    /// Removes what the seed left on this host.
    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String>;

    /// Restores the server's settings that an interrupted Restore of `seed` changed. May be repeated: it is tried again after an error.
    fn restore_settings(&self, _seed: &Seed) -> Result<()> {
        Ok(()) // of a method that changes none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_stands_still_while_work_goes_on() {
        let p = Progress::default();
        for n in 1..4 {
            std::thread::sleep(Duration::from_millis(300));
            p.bytes(n);
        }
        let drift = p.timestamp().duration_since(p.started).unwrap();
        assert!(drift < Duration::from_millis(250), "{drift:?}");
        std::thread::sleep(Duration::from_millis(60));
        p.bytes(3); // no growth
        assert!(p.timestamp().duration_since(p.started).unwrap() >= Duration::from_millis(55));
        assert_eq!(p.get(), (3, 0));
    }
}
