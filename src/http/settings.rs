//! What a server is opened with, and what is decided for each request.

use super::request::{Limits, Request};
use super::response::Response;
use crate::tls;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Decides by a request's head, before its body is read, what is done with the request. Must be quick and must not
/// panic: the connection's own thread calls it.
pub(crate) type Router = Arc<dyn Fn(&Request) -> Plan + Send + Sync>;

/// Answers a request. Runs on a thread of its own; may take its time, and may panic, which costs only the request.
pub(crate) type Answer = Box<dyn FnOnce(Request) -> Response + Send>;

pub(crate) struct Plan {
    /// A status, health or information call: it may use the connections that are kept for these.
    pub(crate) reserved: bool,
    /// The body is spooled to a file in [`Settings::spool_dir`], up to so many bytes; `None`: it is read into memory,
    /// up to [`Limits::body`]. Only for requests that are authenticated by their head.
    pub(crate) spool: Option<u64>,
    /// Where the client is redirected while too many requests are at work; `None`: it gets status 500.
    pub(crate) busy: Option<&'static str>,
    pub(crate) answer: Answer,
}

impl Plan {
    /// An ordinary request with its body in memory.
    pub(crate) fn new(answer: impl FnOnce(Request) -> Response + Send + 'static) -> Self {
        Self {
            reserved: false,
            spool: None,
            busy: None,
            answer: Box::new(answer),
        }
    }
}

pub(crate) struct Settings {
    /// Addresses to listen on: `[::]:port` for all, IPv4 included, or one host address. Port 0 takes a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Largest number of connections at a time (`max-connections`); fewer if RLIMIT_NOFILE does not allow so many.
    pub(crate) max_connections: usize,
    /// Largest number of them from one address (`max-connections-per-address`).
    pub(crate) max_per_address: usize,
    /// Existing directory for the unix socket, to which no other user can write (`state-dir`).
    pub(crate) socket_dir: PathBuf,
    /// Directory for bodies of requests that are spooled (`backup-dir`).
    pub(crate) spool_dir: PathBuf,
    /// True for addresses that may connect (`allowed-clients`).
    pub(crate) allowed: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// HTTPS (`use-ssl`); `None`: HTTP in clear.
    pub(crate) tls: Option<tls::Server>,
    pub(crate) limits: Limits,
}
