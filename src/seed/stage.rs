//! What a seed method implements, and what the thread of a stage holds: its cancellation, its progress, and its access to the record.

use super::record::Seed;
use super::sessions::Tool;
use super::types::{Method, Side, Stage};
use crate::datadir::Task;
use crate::error::{Error, Result};
use crate::process::{Cancel, Running};
use crate::sys::proc::{ProcessId, group_tcp_ports};
use crate::sys::thread::{spawn, spawn_with_stack};
use crossbeam_channel::{bounded, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long the connections of a tool are searched for.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// Progress of a stage, written by its threads and read by all others.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Wall clock at the start of the stage.
    pub(crate) started: SystemTime,
    base: Instant,
    touched_ms: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: SystemTime::now(),
            base: Instant::now(),
            touched_ms: zero(),
            done: zero(),
            total: zero(),
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
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Time since the last step forward.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.base.elapsed().saturating_sub(Duration::from_millis(
            self.touched_ms.load(Ordering::Relaxed),
        ))
    }

    /// The Timestamp to send while the stage runs: it does not move while work goes on, so that orchestrator's rule of
    /// staleness applies after exactly its time without progress.
    pub(crate) fn timestamp(&self) -> SystemTime {
        self.started + self.stalled_for()
    }
}

/// One run of one stage of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) seed_id: i64,
    pub(crate) stage: Stage,
    /// Counts the runs of all stages since the agent's start.
    pub(crate) number: u64,
}

/// The record, as a stage reads and changes it.
pub(crate) trait Recorder: Send + Sync {
    fn seed(&self, id: i64) -> Option<Seed>;

    /// Changes the record durably.
    ///
    /// # Errors
    /// If it cannot be written; the change is then in memory only. Cancelled if another run has taken this one's place; nothing is
    /// changed then.
    fn update(&self, run: Run, change: &mut dyn FnMut(&mut Seed)) -> Result<()>;

    /// Replaces the details of a running stage, in memory only.
    fn report(&self, run: Run, text: &str);
}

/// Given to a method for one run of one stage.
pub struct Context {
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) run: Run,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<Progress>,
}

impl Context {
    pub(crate) fn seed_id(&self) -> i64 {
        self.run.seed_id
    }

    /// Ends the stage when it is cancelled.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Where bytes are counted.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Reports what is being done now. Counts as progress. Kept in memory, written with the next durable change.
    pub(crate) fn report(&self, text: &str) {
        log::info!("seed {} {}: {text}", self.run.seed_id, self.run.stage);
        self.progress.touch();
        self.recorder.report(self.run, text);
    }

    /// The seed as recorded.
    ///
    /// # Errors
    /// If it has left the record, which only a newer seed can cause.
    pub(crate) fn seed(&self) -> Result<Seed> {
        let id = self.run.seed_id;
        self.recorder
            .seed(id)
            .ok_or_else(|| Error::permanent(format!("seed {id} is not in the record")))
    }

    /// What the method remembers of the seed.
    ///
    /// # Errors
    /// As [`Context::seed`] and [`Seed::method_state`].
    pub(crate) fn state<T: DeserializeOwned>(&self) -> Result<T> {
        self.seed()?.method_state()
    }

    /// As [`Context::update`], with what the method remembers.
    ///
    /// # Errors
    /// As there, and as [`Context::state`].
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

    /// Changes the record, durably: when this returns Ok it is on disk.
    ///
    /// # Errors
    /// If the record cannot be written; the change is then in memory only. Cancelled if another run has taken this one's
    /// place; nothing is changed then.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Seed)) -> Result<()> {
        update(self.recorder.as_ref(), self.run, change)
    }

    /// Does `work`, which only looks and changes nothing, in a thread of its own, and leaves it to itself when the stage is
    /// cancelled: a server that does not answer must not delay an abort.
    ///
    /// # Errors
    /// Cancelled, or the work's own.
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
    ///
    /// # Errors
    /// If the record cannot be written.
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
                    let written = update(recorder.as_ref(), run, |s| {
                        if let Some(tool) = s.tools.iter_mut().find(|t| t.id == id) {
                            tool.ports.clone_from(&known);
                        }
                    });
                    match written {
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

fn update(recorder: &dyn Recorder, run: Run, change: impl FnOnce(&mut Seed)) -> Result<()> {
    let mut change = Some(change);
    recorder.update(run, &mut |seed| {
        if let Some(change) = change.take() {
            change(seed);
        }
    })
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
pub struct Prepared {
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

/// One method. Every stage function may be called again for the same seed after it failed, was aborted, or (Prepare,
/// Cleanup) completed; the text of an Ok becomes the stage's Details. Errors of kind Permanent will not go away by
/// repeating the call.
pub trait SeedMethod: Send + Sync {
    fn method(&self) -> Method;

    /// Ok if it can be used on this host now. Checks the tools and, if it answers within a second, the server.
    ///
    /// # Errors
    /// The reason and the remedy.
    fn available(&self) -> Result<()>;

    /// Ok if sudo, where it is used, runs what this method needs. Called by Prepare and `check-config` only: sudo logs each check.
    ///
    /// # Errors
    /// Permanent, with the command and sudo's message.
    fn permitted(&self) -> Result<()> {
        Ok(())
    }

    /// Checks all that this host can know, and removes what an earlier attempt left. Touches no data of the server.
    ///
    /// # Errors
    /// What is not as it must be, with the remedy.
    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared>;

    /// Copies; called on the method's [`Method::backup_side`]. When it returns Ok the copy is complete and durable on this host, or acknowledged by the other one, and its
    /// coordinates are in the record.
    ///
    /// # Errors
    /// The first cause of the failure. Nothing of the target's own data has changed.
    fn backup(&self, ctx: &Context) -> Result<String>;

    /// Makes the copy a running server. When it returns Ok the data are complete and the server is as it must be for its
    /// replication to be connected.
    ///
    /// # Errors
    /// The first cause. The record says whether data are partial.
    fn restore(&self, ctx: &Context) -> Result<String>;

    /// Removes what the seed left on this host.
    ///
    /// # Errors
    /// What could not be removed.
    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String>;

    /// Restores the server's settings that an interrupted Restore of `seed` changed. May be repeated.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses; it is tried again later.
    fn restore_settings(&self, seed: &Seed) -> Result<()>;
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
