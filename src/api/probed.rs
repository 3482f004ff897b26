//! A value that is found by a probe in a thread of its own: one probe at a time, however many calls wait for it.

use crate::sys::thread::{lock, spawn_with_stack, unpoisoned};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Before a probe that panicked is repeated.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);
/// The usual [`Wait::known`]: orchestrator polls every 30 s during a seed.
const KNOWN: Duration = Duration::from_secs(45);
/// How long an answer waits for a newer result than the one that is known.
const MOMENT: Duration = Duration::from_millis(50);
/// A long probe takes at most one part in so many of the time, and is repeated after the pause at the latest.
const SHARE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(25);

/// How long an answer waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// A result that is not older than that is good enough: a newer one is waited for only for a [`MOMENT`].
    pub(super) known: Duration,
    /// For a newer result than the one that there is.
    pub(super) if_old: Duration,
    /// For the first result.
    pub(super) if_none: Duration,
}

impl Wait {
    pub(super) const fn up_to(limit: Duration) -> Self {
        Self {
            known: KNOWN,
            if_old: limit,
            if_none: limit,
        }
    }
}

/// The value, and its probe.
pub(super) struct Probed<T> {
    thread: &'static str,
    latest: Mutex<Latest<T>>,
    changed: Condvar,
    probe: Mutex<Probe<T>>,
}

/// Gets the last value.
type Probe<T> = Box<dyn FnMut(Option<&T>) -> T + Send>;

struct Latest<T> {
    /// With the time at which its probe began.
    value: Option<(Instant, T)>,
    /// How long that probe took.
    took: Duration,
    is_probing: bool,
}

impl<T: Clone + Send + 'static> Probed<T> {
    pub(super) fn new(
        thread: &'static str,
        probe: impl FnMut(Option<&T>) -> T + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            thread,
            latest: Mutex::new(Latest {
                value: None,
                took: Duration::ZERO,
                is_probing: false,
            }),
            changed: Condvar::new(),
            probe: Mutex::new(Box::new(probe)),
        })
    }

    fn start(self: &Arc<Self>, latest: &mut Latest<T>) {
        if latest.is_probing {
            return;
        }
        let this = Arc::clone(self);
        let body = move || {
            let last = lock(&this.latest).value.as_ref().map(|v| v.1.clone());
            let begun = Instant::now();
            let probed = catch_unwind(AssertUnwindSafe(|| lock(&this.probe)(last.as_ref())));
            if probed.is_err() {
                log::error!("internal error: a probe of this host panicked");
                std::thread::sleep(PAUSE_AFTER_PANIC);
            }
            let mut latest = lock(&this.latest);
            latest.is_probing = false;
            if let Ok(value) = probed {
                latest.took = begun.elapsed();
                latest.value = Some((begun, value));
            }
            this.changed.notify_all();
        };
        match spawn_with_stack(self.thread, 512 << 10, body) {
            Ok(_) => latest.is_probing = true,
            Err(e) => log::error!("{e}"),
        }
    }

    /// The result of a probe that began at most `age` ago, for which is waited until `until` at most; else the last one.
    pub(super) fn get(self: &Arc<Self>, age: Duration, until: Instant) -> Option<T> {
        let oldest = Instant::now().checked_sub(age);
        let fresh = |(at, _): &(Instant, T)| oldest.is_none_or(|oldest| *at >= oldest);
        let mut latest = lock(&self.latest);
        while !latest.value.as_ref().is_some_and(fresh) {
            self.start(&mut latest);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            latest = unpoisoned(self.changed.wait_timeout(latest, left)).0;
        }
        latest.value.as_ref().map(|(_, v)| v.clone())
    }

    /// The result of a probe that began at most `age` before, or what `wait` allows, for an answer that began at `begin`.
    pub(super) fn soon(self: &Arc<Self>, age: Duration, begin: Instant, wait: Wait) -> Option<T> {
        let begun = lock(&self.latest).value.as_ref().map(|v| v.0);
        match begun.map(|at| at.elapsed() <= wait.known) {
            Some(true) => self.get(age, begin + MOMENT),
            Some(false) => self.get(wait.known, begin + wait.if_old),
            None => self.get(wait.known, begin + wait.if_none),
        }
    }

    /// How old a result may be, `least` at least, so that probes which take long do not keep the disks busy.
    pub(super) fn age(&self, least: Duration) -> Duration {
        (lock(&self.latest).took * SHARE)
            .min(LONGEST_PAUSE)
            .max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_slow_probe_delays_no_answer_beyond_its_limit() {
        let n = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n);
        let s = Probed::new("test", move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            if n == 2 {
                std::thread::sleep(Duration::from_secs(3));
            }
            n
        });
        let within = |ms| Instant::now() + Duration::from_millis(ms);
        assert_eq!(s.get(Duration::ZERO, within(5000)), Some(1));
        assert_eq!(
            s.get(Duration::from_secs(60), within(0)),
            Some(1),
            "fresh enough"
        );
        let begin = Instant::now();
        assert_eq!(
            s.get(Duration::ZERO, within(100)),
            Some(1),
            "the last known"
        );
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert!(s.get(Duration::ZERO, within(20_000)).unwrap() >= 2);
    }
    /// As a server that repeats a slow poll does it.
    #[test]
    fn many_calls_at_a_time_share_one_probe_and_later_ones_wait_for_none() {
        let n = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n);
        let s = Probed::new("test", move |_| {
            std::thread::sleep(Duration::from_millis(700));
            count.fetch_add(1, Ordering::Relaxed) + 1
        });
        let ask = || {
            let age = s.age(Duration::from_millis(500));
            s.soon(age, Instant::now(), Wait::up_to(Duration::from_secs(20)))
        };
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..60).map(|_| scope.spawn(ask)).collect();
            for call in calls {
                assert_eq!(call.join().unwrap(), Some(1));
            }
        });
        std::thread::sleep(Duration::from_millis(600));
        let begin = Instant::now();
        assert_eq!(ask(), Some(1));
        assert!(begin.elapsed() < Duration::from_millis(400));
        assert_eq!(n.load(Ordering::Relaxed), 1, "seven seconds between probes");
    }
}
