//! Talking to the orchestrator: registration, ping, and the thread that does both (agent-api-v2 section 1).

mod client;
mod heartbeat;

pub use client::{Client, Registration, base};
pub use heartbeat::{Heartbeat, Intervals};

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the orchestrator last answered.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// It answered now.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// True if it answered within `limit`.
    pub fn is_good(&self, limit: Duration) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at.elapsed() <= limit)
    }
}
