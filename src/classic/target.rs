//! The target of a classic seed.

use super::announcement::{Announcement, settings};
use super::{Active, Classic, END_LIMIT, POLL, Phase, Target, number};
use crate::datadir::{self, LastRole, Role};
use crate::error::{Error, Result};
use crate::methods::replica::{self, connect_replica};
use crate::methods::staged;
use crate::mysql::{Endpoint, answers};
use crate::process::Cancel;
use crate::seed::Method;
use crate::seed::record::Peer;
use crate::seed::types::{Side, Stage};
use crate::stream::{Incoming, Listener, Pollable};
use crate::sys::thread::{spawn, unpoisoned};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the source may take to connect, its Prepare included; orchestrator calls it two seconds later, or after
/// SeedWaitSecondsBeforeSend. It fails a seed without progress after 302 s, without a reason.
const SOURCE_LIMIT: Duration = Duration::from_secs(270);
/// The same at least, where `common.seed-orphan-timeout` is short.
const SOURCE_LIMIT_LEAST: Duration = Duration::from_secs(30);
/// How long a MySQL that is to be down may take to answer.
const DOWN_LIMIT: Duration = Duration::from_secs(3);
/// How long the source may take to report the end of its part once this host has all.
const VERDICT_LIMIT: Duration = Duration::from_secs(120);

impl Classic {
    /// `delete-mysql-datadir`: that this host can be the target of a seed. Deletes nothing: that is done when the new data are complete, or
    /// by `mysql.datadir-swap`, where two copies do not fit. `replicas`: those that the server had when it was last up, if this process
    /// has seen it; else those that were noted count.
    pub(crate) fn check_target(&self, replicas: Option<Vec<String>>) -> Result<()> {
        self.lock().refuse_second()?;
        if answers(&Endpoint::local(&self.config.mysql), DOWN_LIMIT).is_ok() {
            return Err(Error::permanent(
                "MySQL is running on this host, and a seed replaces its data: stop it first",
            ));
        }
        let noted = datadir::last_role(&self.config);
        refuse_role(LastRole {
            replicas: replicas.unwrap_or(noted.replicas),
            ..noted
        })?;
        replica::check_settings(&self.config.classic)?;
        datadir::inspect(&self.config, Role::Target)?;
        let mut state = self.lock();
        state.checked = Some(Instant::now());
        Ok(())
    }

    /// Listens for the source of seed `id`. Returns at once; what fails later is the reason that `post-copy` gives.
    pub(crate) fn receive(self: &Arc<Self>, id: &str) -> Result<()> {
        let id = number(id)?;
        if let Some(repeated) = self.repeated(id) {
            return repeated;
        }
        self.lock().refuse_second()?;
        // Without the lock: it reads files.
        let listener = settings(&self.config, id).and_then(Listener::bind);
        let cancel = Cancel::default();
        let mut state = self.lock();
        state.refuse_second()?;
        let began = state.checked;
        state.forget_earlier_abort(id, began);
        let listener = if state.is_aborted(id) {
            Err(Error::permanent(format!("seed {id} was aborted")))
        } else if state.is_checked() {
            listener
        } else {
            Err(Error::permanent(
                "delete-mysql-datadir was not called on this host before, or has failed",
            ))
        };
        (state.checked, state.polled) = (None, None);
        let failed = listener
            .as_ref()
            .err()
            .map(|e| Phase::Failed(e.to_string()));
        state.target = Some(Target {
            seed: Active {
                id,
                cancel: cancel.clone(),
            },
            phase: failed.unwrap_or(Phase::Copying),
            called: Instant::now(),
        });
        drop(state);
        let listener = listener?;
        let this = Arc::clone(self);
        let body = move || this.run_target(id, listener, &cancel);
        spawn("classic-target", body).map(drop).inspect_err(|e| {
            self.set_phase(id, Phase::Failed(e.to_string()));
        })
    }

    /// The result of a call that Go's client repeats, because the connection of the first one was closed.
    fn repeated(&self, id: i64) -> Option<Result<()>> {
        let state = self.lock();
        let target = state.target.as_ref().filter(|t| t.seed.id == id)?;
        match &target.phase {
            _ if target.is_active() => Some(Ok(())),
            _ if state.is_checked() => None, // a new seed with an old number
            Phase::Failed(reason) => Some(Err(Error::permanent(reason.clone()))),
            _ => None,
        }
    }

    fn run_target(self: &Arc<Self>, id: i64, listener: Listener, cancel: &Cancel) {
        let conduct = || self.conduct_target(id, listener, cancel);
        let result = catch_unwind(AssertUnwindSafe(conduct));
        let result = result.unwrap_or_else(|_| {
            Err(Error::permanent(
                "internal error: the seed's thread panicked",
            ))
        });
        let end = match result {
            Ok(()) => Phase::Done,
            Err(_) if cancel.is_cancelled() => Phase::Failed(cancel.reason()),
            Err(e) => Phase::Failed(e.to_string()),
        };
        if let Phase::Failed(reason) = &end {
            log::error!("classic seed {id}: {reason}");
        } else {
            self.set_phase(id, end.clone());
        }
        if let Some(seed) = self.engine.current().filter(|s| s.id == id && s.classic) {
            // A rollback may take longer than orchestrator is to wait for the reason.
            let begin = Instant::now();
            let late = || {
                if begin.elapsed() > END_LIMIT && self.phase(id).as_ref() != Some(&end) {
                    self.set_phase(id, end.clone());
                }
                Ok(())
            };
            self.end_stages(id, seed.method, Side::Target, &late);
        }
        self.set_phase(id, end);
    }

    /// A seed that was aborted is never done.
    fn set_phase(&self, id: i64, mut phase: Phase) {
        let mut state = self.lock();
        if phase == Phase::Done && state.is_aborted(id) {
            phase = Phase::Failed("aborted by request; MySQL runs on the new data".into());
        }
        let target = state.target.as_mut().filter(|t| t.seed.id == id);
        if let Some(target) = target.filter(|t| t.phase != phase) {
            log::info!("classic seed {id}: {phase:?}");
            target.phase = phase;
        }
        self.changed.notify_all();
    }

    /// When it returns Ok MySQL runs on the new data, and its replication is as `classic.connect-replication` has it.
    fn conduct_target(
        self: &Arc<Self>,
        id: i64,
        listener: Listener,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut link = self.accept(id, listener, cancel)?;
        let received = self.copy(id, &mut link, cancel);
        let (method, source) = match received {
            Ok(done) => done,
            Err(e) => {
                let (reason, aborted) = if cancel.is_cancelled() {
                    (cancel.reason(), true)
                } else {
                    (e.to_string(), false)
                };
                link.reject(&reason, aborted);
                return Err(e);
            }
        };
        link.acknowledge();
        self.engine.restore(id, method)?;
        let watch = || self.watch(id, cancel);
        while !self.engine.waits_for_swap(id) {
            let (_, record, _) = self.engine.stage_state(id, Stage::Restore)?;
            if record.status != crate::seed::Status::Running {
                return Err(Error::permanent(record.details));
            }
            watch()?;
            std::thread::sleep(POLL);
        }
        self.set_phase(id, Phase::Complete);
        while self.phase(id) == Some(Phase::Complete) {
            watch()?;
            std::thread::sleep(POLL);
        }
        self.engine.release_swap(id);
        self.wait_for(id, Stage::Restore, || cancel.check())?;
        cancel.check()?;
        self.connect_replication(id, &source, cancel)
    }

    fn connect_replication(&self, id: i64, source: &Peer, cancel: &Cancel) -> Result<()> {
        let (seed, _, _) = self.engine.stage_state(id, Stage::Restore)?;
        let coordinates = seed.coordinates;
        let coordinates = coordinates
            .ok_or_else(|| Error::permanent("the seed has no coordinates: run a new seed"))?;
        let connected = connect_replica(&self.config, source, &coordinates, cancel);
        let text = connected.map_err(|e| {
            e.context(
                "the data are complete and MySQL runs on them, but replication is not connected",
            )
        })?;
        log::info!("classic seed {id}: {text}");
        Ok(())
    }

    fn phase(&self, id: i64) -> Option<Phase> {
        let state = self.lock();
        let target = state.target.as_ref().filter(|t| t.seed.id == id);
        target.map(|t| t.phase.clone())
    }

    /// An error once the seed was aborted, or orchestrator does not call for it any more.
    fn watch(&self, id: i64, cancel: &Cancel) -> Result<()> {
        cancel.check()?;
        let limit = self.config.common.seed_orphan_timeout;
        let state = self.lock();
        match &state.target {
            Some(t) if t.seed.id == id && t.called.elapsed() <= limit => Ok(()),
            _ => Err(Error::permanent(format!(
                "orchestrator has not called for seed {id} for {}s (common.seed-orphan-timeout): it was restarted, or has given it up",
                limit.as_secs()
            ))),
        }
    }

    /// Waits for the source. When it returns the port is free again.
    fn accept(&self, id: i64, listener: Listener, cancel: &Cancel) -> Result<Link> {
        let (tx, accepted) = bounded(1);
        let end = Cancel::default();
        let until = end.clone();
        let body = move || {
            let incoming = listener.accept(&until);
            drop(listener);
            let _ = tx.send(incoming); // given up meanwhile: the connection is reset
        };
        spawn("classic-accept", body)?;
        let limit = self.config.common.seed_orphan_timeout * 3 / 2;
        let limit = limit.clamp(SOURCE_LIMIT_LEAST, SOURCE_LIMIT);
        let begin = Instant::now();
        loop {
            match accepted.recv_timeout(POLL) {
                Ok(incoming) => return incoming.map(|i| Link::Accepted(Box::new(i))),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::permanent("internal error: listening panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let late = begin.elapsed() > limit;
            let error = if late {
                Some(Error::transient(format!(
                    "no source has connected to the seed port {} for {}s: the log of the source's agent says why (a firewall, another \
                     common.seed-port, common.seed-secret or TLS setting)",
                    self.config.common.seed_port,
                    limit.as_secs()
                )))
            } else {
                self.watch(id, cancel).err()
            };
            if let Some(e) = error {
                end.cancel("given up");
                let _ = accepted.recv(); // the port is free then
                return Err(e);
            }
        }
    }

    /// Prepare and Backup. When it returns Ok the copy is complete on this host.
    fn copy(self: &Arc<Self>, id: i64, link: &mut Link, cancel: &Cancel) -> Result<(Method, Peer)> {
        let source = Announcement::parse(link.notes())?;
        let method = source.method()?;
        if let Some(peer) = link.peer() {
            let tls = &self.config.xtrabackup.socat;
            source.check_peer(peer, &self.config.common, tls)?;
        }
        log::info!(
            "classic seed {id}: {} sends {} bytes by {method}",
            source.host,
            source.size
        );
        let peer = Peer {
            host: source.host,
            mysql_port: source.mysql_port,
        };
        let watch = || self.watch(id, cancel);
        self.engine.prepare_classic(id, method, Side::Target)?;
        self.wait_for(id, Stage::Prepare, || {
            watch()?;
            link.check()
        })?;
        let (seed, _, _) = self.engine.stage_state(id, Stage::Prepare)?;
        let (replaced, _) = staged(&seed)?;
        replica::check_source(&self.config, &peer, &replaced)?;
        link.start()?;
        if method.backup_side() == Side::Target {
            self.engine.backup(id, method, peer.clone())?;
        }
        self.wait_for(id, Stage::Backup, || {
            watch()?;
            link.check()
        })?;
        link.wait(watch)?;
        Ok((method, peer))
    }

    /// `post-copy`: swaps the data directories, starts MySQL, and connects replication. May be called again.
    pub(crate) fn post_copy(&self) -> Result<()> {
        let mut state = self.lock();
        loop {
            let polled = state.polled;
            let current = state.target.as_ref().map(|t| t.seed.id);
            let aborted = current.is_some_and(|id| state.is_aborted(id));
            let Some(target) = &mut state.target else {
                return Err(Error::permanent(
                    "no seed is complete on this host: receive-mysql-seed-data was not called, or the agent was restarted since",
                ));
            };
            let id = target.seed.id;
            if let Some(other) = polled.filter(|other| *other != id) {
                return Err(Error::permanent(format!(
                    "seed {other} is not known on this host: receive-mysql-seed-data was not called for it, or the agent was restarted since"
                )));
            }
            match &target.phase {
                Phase::Failed(reason) => return Err(Error::permanent(reason.clone())),
                _ if aborted => return Err(Error::permanent(format!("seed {id} was aborted"))),
                Phase::Copying => {
                    return Err(Error::permanent(format!("seed {id} is not complete yet")));
                }
                Phase::Complete => target.phase = Phase::Swapping,
                Phase::Swapping => state = unpoisoned(self.changed.wait(state)),
                Phase::Done => return Ok(()),
            }
        }
    }

    /// `seed-command-completed`. A seed that this agent does not know was lost in a restart.
    pub(crate) fn completed(&self, id: &str) -> bool {
        let mut state = self.lock();
        let polled = number(id).unwrap_or(0);
        // Another seed never gets as far as `post-copy` while one is in progress.
        let active = state.target.as_ref().filter(|t| t.is_active());
        if active.is_none_or(|t| t.seed.id == polled) {
            state.polled = Some(polled);
        }
        if state.is_aborted(polled) {
            return true;
        }
        match &mut state.target {
            Some(target) if number(id).is_ok_and(|id| id == target.seed.id) => {
                target.called = Instant::now();
                target.phase != Phase::Copying
            }
            _ => true,
        }
    }

    /// `seed-command-succeeded`. orchestrator shows no reason of a copy that has failed, but that of a failed `post-copy`: if it can be
    /// sent one (`signals`), it is led there. Never true for a seed that was aborted.
    pub(crate) fn succeeded(&self, id: &str, signals: bool) -> bool {
        let mut state = self.lock();
        let number = number(id).ok();
        if number.is_some_and(|id| state.is_aborted(id)) {
            return false;
        }
        match &mut state.target {
            Some(target) if number == Some(target.seed.id) => {
                target.called = Instant::now();
                match target.phase {
                    Phase::Copying => false,
                    Phase::Failed(_) => signals,
                    _ => true,
                }
            }
            // `post-copy` has no number: it would be that of the seed in progress.
            Some(target) if target.is_active() => false,
            _ => signals,
        }
    }
}

/// Refuses a stopped target that others replicate from, or a cluster of which it would be a member with other data.
pub(super) fn refuse_role(last: LastRole) -> Result<()> {
    if !last.replicas.is_empty() {
        return Err(Error::permanent(format!(
            "MySQL of this host had replicas when it was last up ({}): start it, repoint them, and stop it again",
            last.replicas.join(", ")
        )));
    }
    if !last.cluster.is_empty() {
        return Err(Error::permanent(format!(
            "MySQL of this host was a {} when it was last up: start it, take it out of the cluster, and stop it again",
            last.cluster
        )));
    }
    Ok(())
}

/// The connection of the source, which is open until it has done its part.
enum Link {
    /// The source waits.
    Accepted(Box<Incoming>),
    /// It works.
    Reading {
        ended: Receiver<(Box<Incoming>, Result<u64>)>,
        cancel: Cancel,
    },
    /// It has reported the end of its part, or is gone; it was not answered yet.
    Ended(Box<Incoming>),
    Lost,
}

impl Link {
    fn notes(&self) -> &[u8] {
        match self {
            Self::Accepted(incoming) => incoming.notes(),
            _ => &[],
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Accepted(incoming) => Some(incoming.peer().ip()),
            _ => None,
        }
    }

    /// Lets the source begin.
    fn start(&mut self) -> Result<()> {
        let Self::Accepted(mut incoming) = std::mem::replace(self, Self::Lost) else {
            let text = "internal error: the source has begun before";
            return Err(Error::permanent(text));
        };
        let (tx, ended) = bounded(1);
        let cancel = Cancel::default();
        let until = cancel.clone();
        let body = move || {
            let result = incoming.receive(Nowhere, &until, |_| {});
            let _ = tx.send((incoming, result)); // given up: the connection is reset
        };
        spawn("classic-link", body)?;
        *self = Self::Reading { ended, cancel };
        Ok(())
    }

    /// An error once the source has reported one, or is gone.
    fn check(&mut self) -> Result<()> {
        if let Self::Reading { ended, .. } = self
            && let Ok((incoming, result)) = ended.try_recv()
        {
            *self = Self::Ended(incoming);
            result?;
        }
        match self {
            // It sends nothing while it waits for an answer.
            Self::Accepted(incoming) | Self::Ended(incoming) if incoming.is_closed()? => {
                Err(Error::transient(
                    "the source has ended the connection: its agent or host has ended, or the seed was ended there (umount, abort-seed)",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the source has reported that its part is done.
    fn wait(&mut self, watch: impl Fn() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        while matches!(self, Self::Reading { .. }) {
            self.check()?;
            watch()?;
            if begin.elapsed() > VERDICT_LIMIT {
                let text = "the copy has arrived, but the source does not report that its backup is completed";
                return Err(Error::transient(text));
            }
            std::thread::sleep(POLL / 4);
        }
        Ok(())
    }

    fn into_incoming(self) -> Option<Box<Incoming>> {
        match self {
            Self::Accepted(incoming) | Self::Ended(incoming) => Some(incoming),
            Self::Reading { ended, cancel } => {
                cancel.cancel("the seed has failed on the target");
                ended.recv().ok().map(|(incoming, _)| incoming)
            }
            Self::Lost => None,
        }
    }

    /// Lets the source know that the copy is complete.
    fn acknowledge(self) {
        if let Some(incoming) = self.into_incoming()
            && let Err(e) = incoming.acknowledge()
        {
            log::warn!("classic seed: the source was not sent the end of the copy: {e}");
        }
    }

    /// Lets the source know why there is none.
    fn reject(self, reason: &str, aborted: bool) {
        if let Some(incoming) = self.into_incoming() {
            incoming.reject(reason, aborted);
        }
    }
}

/// Takes the byte of the source's stream.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pollable for Nowhere {
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
