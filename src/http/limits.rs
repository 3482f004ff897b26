//! Bounds of requests and connections.

use std::time::Duration;

/// Bounds of what a client may send and of the time it may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of a request head, the empty line included: 16 KiB.
    pub(crate) head: usize,
    /// Headers of a request: 100.
    pub(crate) headers: usize,
    /// Bytes of a request body in memory: 1 MiB.
    pub(crate) body: usize,
    /// From the first byte of a head, or of a TLS handshake, to its end: 10 s.
    pub(crate) head_time: Duration,
    /// Without the first byte of a (next) request: 60 s.
    pub(crate) idle: Duration,
    /// For the client to send a body, and again to take a response: 60 s, and as long again for each further MiB. Does
    /// not count while the handler works.
    pub(crate) transfer: Duration,
    /// How long the response to a wrong token is held back (`failed-token-delay`).
    pub(crate) failed_token_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 << 10,
            headers: 100,
            body: 1 << 20,
            head_time: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            transfer: Duration::from_secs(60),
            failed_token_delay: Duration::ZERO,
        }
    }
}
