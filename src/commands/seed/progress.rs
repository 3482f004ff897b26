//! Rate and remaining time of a stage that runs.

use crate::protocol::wire::Progress;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is that of this time.
const WINDOW: Duration = Duration::from_secs(30);
/// A longer time is not an estimate any more: a thousand hours.
const LONGEST: f64 = 3_600_000.0;

pub(crate) struct Meter {
    begin: Instant,
    samples: VecDeque<(Duration, u64)>,
    /// The largest number of bytes seen.
    pub(crate) most: u64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            samples: VecDeque::new(),
            most: 0,
        }
    }

    /// Takes what an agent reports now; returns the time since the beginning.
    pub(crate) fn add(&mut self, done: Progress) -> Duration {
        let now = self.begin.elapsed();
        self.sample(now, done);
        now
    }

    fn sample(&mut self, now: Duration, done: Progress) {
        self.most = self.most.max(done.bytes);
        self.samples.push_back((now, done.bytes));
        while self.samples.len() > 2 && now.saturating_sub(self.samples[0].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window; `None` while it is too short.
    pub(crate) fn rate(&self) -> Option<f64> {
        let ((t0, b0), (t1, b1)) = (self.samples.front()?, self.samples.back()?);
        rate(b1.saturating_sub(*b0), t1.saturating_sub(*t0))
    }
}

fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && time >= Duration::from_millis(500)).then(|| bytes as f64 / time.as_secs_f64())
}

/// Time to the end; `None` if the total is unknown, or was passed: it is an estimate.
pub(crate) fn eta(done: Progress, rate: f64) -> Option<Duration> {
    let left = done.total.checked_sub(done.bytes).filter(|n| *n > 0)?;
    Some(Duration::from_secs_f64((left as f64 / rate).min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn rate_and_eta() {
        assert_eq!(rate(100, secs(10)), Some(10.0));
        assert_eq!(rate(0, secs(10)), None);
        assert_eq!(rate(100, Duration::from_millis(100)), None, "too short");
        let at = |bytes, total| Progress { bytes, total };
        assert_eq!(eta(at(100, 400), 10.0), Some(secs(30)));
        assert_eq!(eta(at(100, 0), 10.0), None);
        assert_eq!(
            eta(at(500, 400), 10.0),
            None,
            "the total is an estimate and may be passed"
        );
        assert_eq!(eta(at(0, u64::MAX), 0.001), Some(secs(3_600_000)));
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let mut meter = Meter::new();
        for (t, bytes) in [(0, 0), (10, 1000), (50, 1000), (60, 1600), (70, 2200)] {
            meter.sample(secs(t), Progress { bytes, total: 0 });
        }
        assert_eq!(meter.rate(), Some(60.0));
        meter.sample(secs(71), Progress::default());
        assert_eq!(meter.most, 2200, "the last answer may carry none");
    }
}
