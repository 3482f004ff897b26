//! Log lines that a flood of connections could repeat thousands of times: at most one in ten seconds.

use crate::sys::thread::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// One kind of log line.
pub(super) struct LogLimit(Mutex<State>);

struct State {
    last: Option<Instant>,
    omitted: u64,
}

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            last: None,
            omitted: 0,
        }))
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
        if state
            .last
            .is_some_and(|last| now.duration_since(last) < PAUSE)
        {
            state.omitted += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.omitted))
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
