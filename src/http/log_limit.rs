//! Log lines that a flood of connections could repeat thousands of times: at most one in ten seconds.

use crate::sys::thread::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// One kind of log line: when the last one was written, and how many were omitted since.
pub(super) struct LogLimit(Mutex<(Option<Instant>, u64)>);

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Logs a warning, with the number of those omitted before it; or counts it as omitted.
    pub(super) fn warn(&self, line: impl FnOnce() -> String) {
        match self.turn(Instant::now()) {
            Some(0) => log::warn!("{}", line()),
            Some(n) => log::warn!("{} (and {n} more like it before)", line()),
            None => {}
        }
    }

    fn turn(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.0);
        let (last, omitted) = &mut *state;
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            *omitted += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_with_the_number_omitted() {
        let limit = LogLimit::new();
        let start = Instant::now();
        assert_eq!(limit.turn(start), Some(0));
        assert_eq!(limit.turn(start + PAUSE / 2), None);
        assert_eq!(limit.turn(start + PAUSE / 2), None);
        assert_eq!(limit.turn(start + PAUSE), Some(2));
        assert_eq!(limit.turn(start + PAUSE * 2), Some(0));
    }
}
