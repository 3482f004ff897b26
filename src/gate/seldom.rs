//! Log lines that a flood of connections could repeat thousands of times: at most one in ten seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// One kind of log line.
pub(super) struct Seldom(Mutex<State>);

struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// A line that was never written yet.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            last: None,
            left_out: 0,
        }))
    }

    /// Logs a warning, with the number of those left out before it; or counts it as left out.
    pub(super) fn warn(&self, line: impl FnOnce() -> String) {
        match self.turn(Instant::now()) {
            Some(0) => log::warn!("{}", line()),
            Some(n) => log::warn!("{} (and {n} more like it before)", line()),
            None => {}
        }
    }

    fn turn(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.duration_since(last) < PAUSE)
        {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_with_the_number_left_out() {
        let seldom = Seldom::new();
        let start = Instant::now();
        assert_eq!(seldom.turn(start), Some(0));
        assert_eq!(seldom.turn(start + PAUSE / 2), None);
        assert_eq!(seldom.turn(start + PAUSE / 2), None);
        assert_eq!(seldom.turn(start + PAUSE), Some(2));
        assert_eq!(seldom.turn(start + PAUSE * 2), Some(0));
    }
}
