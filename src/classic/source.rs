//! The source of a classic seed.

use super::announcement::{Announcement, check_host, settings};
use super::{Active, Classic, number};
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::seed::Method;
use crate::seed::record::Peer;
use crate::seed::types::{Side, Stage};
use crate::stream::Outgoing;
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl Classic {
    /// Begins to send seed `id`, by the method of the mounted snapshot, of a server with `size` bytes to the agent of `target`. Returns at
    /// once. orchestrator ignores an error: the target is sent it, too.
    pub(crate) fn send(self: &Arc<Self>, target: &str, id: &str, size: u64) -> Result<()> {
        let id = number(id)?;
        check_host(target)?;
        if self.lock().source.as_ref().is_some_and(|s| s.id == id) {
            return Ok(()); // Go's client repeats a GET whose connection was closed
        }
        self.start_sending(target, id, size).inspect_err(|e| {
            let (this, target, error) = (Arc::clone(self), target.to_string(), e.to_string());
            let body = move || match this.announce(id, "", &target, 0, error, &Cancel::default()) {
                Ok(_) => log::error!("classic seed {id}: {target} has accepted an error"),
                Err(e) => log::debug!("classic seed {id}: {e}"), // with the same error
            };
            if let Err(e) = spawn("classic-source", body) {
                log::error!("{e}");
            }
        })
    }

    fn start_sending(self: &Arc<Self>, target: &str, id: i64, size: u64) -> Result<()> {
        let mounted = self.mounted();
        let mut state = self.lock();
        let began = state.mount.as_ref().map(|m| m.at);
        state.forget_earlier_abort(id, began);
        if state.is_aborted(id) {
            return Err(Error::permanent(format!("seed {id} was aborted")));
        }
        state.refuse_second()?;
        let method = mounted.ok_or_else(|| {
            Error::permanent(format!(
                "no snapshot is mounted on this host: mountlv was not called, or more than {}s ago",
                self.mount_limit().as_secs()
            ))
        })?;
        let cancel = Cancel::default();
        let seed = Active {
            id,
            cancel: cancel.clone(),
        };
        state.source = Some(seed);
        let (this, target) = (Arc::clone(self), target.to_string());
        let body = move || {
            let sent = catch_unwind(AssertUnwindSafe(|| {
                this.conduct_source(id, method, &target, size, &cancel)
            }));
            match sent {
                Ok(Ok(())) => log::info!("classic seed {id}: sent to {target} by {method}"),
                Ok(Err(e)) => log::error!("classic seed {id}: not sent to {target}: {e}"),
                Err(_) => log::error!("internal error: sending classic seed {id} panicked"),
            }
            this.end_stages(id, method, Side::Source, &|| Ok(()));
            let mut state = this.lock();
            (state.source, state.mount) = (None, None);
            this.changed.notify_all();
        };
        if let Err(e) = spawn("classic-source", body) {
            state.source = None;
            return Err(e);
        }
        Ok(())
    }

    /// When it returns Ok the target has the complete copy.
    fn conduct_source(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        target: &str,
        size: u64,
        cancel: &Cancel,
    ) -> Result<()> {
        let prepared = self
            .engine
            .prepare_classic(id, method, Side::Source)
            .and_then(|_| self.wait_for(id, Stage::Prepare, || cancel.check()));
        let error = prepared.err().map_or(String::new(), |e| e.to_string());
        let link = self.announce(id, method.as_str(), target, size, error, cancel)?;
        let link = Link::open(link, cancel)?;
        // Where the target makes the copy, it only watches this connection.
        let verdict = match method.backup_side() {
            Side::Source => self.run_backup(id, method, target, &link, cancel),
            Side::Target => Ok(()),
        };
        link.finish(verdict)
    }

    /// Returns when the target is ready for the copy.
    fn announce(
        &self,
        id: i64,
        method: &str,
        target: &str,
        size: u64,
        error: String,
        cancel: &Cancel,
    ) -> Result<Outgoing> {
        let announcement = Announcement {
            method: method.into(),
            host: self.hostname.clone(),
            mysql_port: self.config.mysql.port,
            size,
            error,
        };
        let notes = serde_json::to_string(&announcement);
        let notes = notes.map_err(|e| Error::permanent(e.to_string()))?;
        Outgoing::connect(target, settings(&self.config, id)?, &notes, cancel)
    }

    fn run_backup(
        self: &Arc<Self>,
        id: i64,
        method: Method,
        target: &str,
        link: &Link,
        cancel: &Cancel,
    ) -> Result<()> {
        let peer = Peer {
            host: target.into(),
            mysql_port: self.config.mysql.port,
        };
        self.engine.backup(id, method, peer)?;
        let watch = || cancel.check().and_then(|()| link.is_open());
        self.wait_for(id, Stage::Backup, watch).map(drop)
    }
}

/// The open connection to the target.
struct Link {
    /// Dropped, it ends the stream.
    hold: UnixStream,
    verdict: Sender<std::result::Result<(), String>>,
    /// The target's answer to the verdict, or why the connection has ended before.
    ended: Receiver<Result<()>>,
}

impl Link {
    fn open(mut link: Outgoing, cancel: &Cancel) -> Result<Self> {
        let (mut hold, feed) = UnixStream::pair().on("pipe to the target")?;
        hold.write_all(b".").on("pipe to the target")?; // the stream has a time limit for its first byte
        let (verdict, verdicts) = bounded::<std::result::Result<(), String>>(1);
        let (ends, ended) = bounded(1);
        let cancel = cancel.clone();
        let body = move || {
            let result = link.send(feed, &cancel, |_| {}).and_then(|_| {
                let verdict = verdicts.recv();
                let verdict = verdict.unwrap_or_else(|_| Err("it was given up".into()));
                link.finish(
                    verdict
                        .as_ref()
                        .map_or_else(|e| Err(e.as_str()), |()| Ok(())),
                    &cancel,
                )
            });
            let _ = ends.send(result); // no one waits after a cancellation
        };
        spawn("classic-link", body)?;
        Ok(Self {
            hold,
            verdict,
            ended,
        })
    }

    /// An error once the target has ended the connection.
    fn is_open(&self) -> Result<()> {
        match self.ended.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Ok(Err(e)) => Err(e),
            _ => Err(Error::transient("the target has ended the connection")),
        }
    }

    /// Lets the target know how this end has done its part, and waits for its answer without limit.
    fn finish(self, verdict: Result<()>) -> Result<()> {
        let text = verdict.as_ref().map(|_| ()).map_err(Error::to_string);
        let _ = self.verdict.send(text); // the connection has ended: its error follows
        drop(self.hold);
        let answer = self.ended.recv();
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::permanent(
                "internal error: the connection's thread panicked",
            ))
        });
        verdict.and(answer)
    }
}
