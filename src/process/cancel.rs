//! A request to end, seen by any number of threads.

use crate::error::{Error, Result};
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::{Arc, Mutex};

/// All clones are about the same work.
#[derive(Clone)]
pub struct Cancel {
    shared: Arc<Mutex<State>>,
    signal: Receiver<()>,
}

struct State {
    /// Dropping it closes the channel, which wakes every receiver.
    open: Option<Sender<()>>,
    reason: String,
}

impl Default for Cancel {
    fn default() -> Self {
        let (open, signal) = bounded(0);
        Self {
            shared: Arc::new(Mutex::new(State {
                open: Some(open),
                reason: String::new(),
            })),
            signal,
        }
    }
}

impl Cancel {
    /// Asks the work to end. The first reason stays.
    pub(crate) fn cancel(&self, reason: &str) {
        let mut state = lock(&self.shared);
        if state.open.take().is_some() {
            state.reason = reason.to_string();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        lock(&self.shared).open.is_none()
    }

    pub(crate) fn reason(&self) -> String {
        lock(&self.shared).reason.clone()
    }

    /// A channel that becomes ready (disconnected) when the work is to end; for `select!`.
    pub(crate) fn signal(&self) -> &Receiver<()> {
        &self.signal
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::cancelled())
        } else {
            Ok(())
        }
    }

    /// Sleeps; an error once cancelled.
    pub(crate) fn pause(&self, time: std::time::Duration) -> Result<()> {
        self.sleep(time);
        self.check()
    }

    /// Sleeps, but not beyond a cancellation. False if cancelled.
    pub(crate) fn sleep(&self, time: std::time::Duration) -> bool {
        self.signal.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn wakes_sleepers_and_keeps_the_first_reason() {
        let c = Cancel::default();
        assert!(c.sleep(Duration::from_millis(1)) && c.check().is_ok());
        let other = c.clone();
        let t = std::thread::spawn(move || {
            let begin = Instant::now();
            (other.sleep(Duration::from_secs(30)), begin.elapsed())
        });
        std::thread::sleep(Duration::from_millis(20));
        c.cancel("first");
        c.cancel("second");
        let (slept, took) = t.join().unwrap();
        assert!(!slept && took < Duration::from_secs(5));
        assert_eq!(c.reason(), "first");
        assert!(c.check().unwrap_err().is_cancelled());
    }
}
