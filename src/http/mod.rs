//! The network front: accepts connections, bounds them in number, time and size, and passes complete, checked requests
//! to a handler.
//!
//! ```text
//! client -- listen -- connection (thread) -- unix socket -- tiny_http -- worker (thread) -- handler
//!           caps,      deadlines, TLS,        0600           parses       catch_unwind
//!           allow list request limits         one request    again
//! ```
//! tiny_http is never reachable from the network: see `backend` for why and how. No request, however malformed, slow
//! or numerous, stops the daemon, grows its memory without bound, or delays other requests beyond a second.

mod backend;
mod connection;
#[cfg(fuzzing)]
#[path = "../../tests/fuzz/head.rs"]
pub(crate) mod fuzz;
mod listen;
mod log_limit;
mod registry;
mod request;
mod response;
mod settings;
mod socket;
#[cfg(test)]
mod tests;

pub use request::RequestBody;
pub(crate) use request::{Access, Limits, Request};
pub use response::{Body, Response};
pub(crate) use settings::{Plan, Router, Settings};

use crate::error::{OnPath, Result};
use crate::sys::thread::{Pool, spawn, unpoisoned};
use crate::tls;
use backend::Backend;
use connection::Shared;
use log::{error, info, warn};
use registry::Registry;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Stack of a connection's thread in bytes.
const STACK: usize = 256 << 10;

/// An open server. Dropping it closes it without grace.
pub(crate) struct Server {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    wake: UnixStream,
    accept: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and from then on answers each request as `router` has planned it.
    pub(crate) fn open(settings: Settings, router: Router) -> Result<Self> {
        let limit = crate::sys::limits::open_files().on("RLIMIT_NOFILE")?;
        let descriptors = usize::try_from(limit.soft).unwrap_or(usize::MAX);
        let listeners = listen::listen(&settings.listen)?;
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses
            .collect::<io::Result<_>>()
            .on("listening socket")?;
        let (wake, woken) = UnixStream::pair().on("wake pipe of the server")?;
        let cap = listen::cap(settings.max_connections, descriptors);
        let shared = Arc::new(Shared {
            limits: settings.limits,
            spool_dir: settings.spool_dir,
            allowed: settings.allowed,
            router,
            registry: Registry::new(cap, settings.max_per_address),
            backend: Backend::open(&settings.socket_dir)?,
            tls: RwLock::new(settings.tls.map(Arc::new)),
            threads: Pool::new("http-connection", STACK),
            arrived: AtomicU64::default(),
            answered: AtomicU64::default(),
        });
        let accepting = shared.clone();
        let accept = spawn("http-accept", move || {
            listen::run(&listeners, &woken, &accepting);
        })?;
        Ok(Self {
            addresses,
            shared,
            wake,
            accept: Some(accept),
        })
    }

    /// The addresses listened on, with the real port where 0 was asked for.
    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// New connections get this certificate; those that are open keep theirs.
    pub(crate) fn renew(&self, tls: tls::Server) {
        let mut current = unpoisoned(self.shared.tls.write());
        *current = Some(Arc::new(tls));
    }

    /// Stops accepting, ends idle connections at once, lets requests in work finish for up to `grace`, and removes the
    /// unix socket. A handler that still works then is left to itself; its client's connection is closed.
    pub(crate) fn close(mut self, grace: Duration) {
        self.shut(grace);
    }

    fn shut(&mut self, grace: Duration) {
        let Some(accept) = self.accept.take() else {
            return;
        };
        if let Err(e) = (&self.wake).write_all(b"x") {
            // Cannot happen while the thread lives, since it holds the other end; if it has ended, so much the better.
            error!("http: cannot wake the accept thread: {e}");
        }
        if accept.join().is_err() {
            error!("http: the accept thread had panicked");
        }
        let remaining = self.shared.registry.stop(grace);
        if remaining > 0 {
            warn!("http: {remaining} connections closed that were still at work after {grace:?}");
        }
        self.shared.backend.close();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (arrived, answered) = (count(&self.shared.arrived), count(&self.shared.answered));
        info!("http: closed after {arrived} connections and {answered} requests");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}
