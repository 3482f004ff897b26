//! The network door: accepts connections, bounds them in number, time and size, and hands complete, checked requests
//! to a handler.
//!
//! ```text
//! client -- accept -- connection (thread) -- guard -- unix socket -- tiny_http -- worker -- handler
//!           cap,       deadlines, TLS        one      0700           parses it    catch_unwind,
//!           allow list                       request                 again        slow ones apart
//! ```
//! tiny_http is never reachable from the network: see `doors` for why and how. No request, however malformed, slow
//! or numerous, stops the daemon, grows its memory without bound, or delays other requests beyond a second.

mod accept;
mod connection;
mod deadline;
mod doors;
mod guard;
mod message;
mod registry;
mod response;
mod seldom;
mod socket_dir;
mod stream;
mod strikes;
#[cfg(test)]
mod tests;
mod worker;

pub use doors::Door;
pub use message::{Handler, Request, Response, STRIKE};

use crate::config::AllowList;
use crate::error::{Error, Result};
use crate::sys::limits;
use crate::tls;
use doors::Doors;
use log::{error, warn};
use registry::Registry;
use socket_dir::SocketDir;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use strikes::Strikes;

/// What a gate is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on: `[::]:port` for all, IPv4 included, or one host address. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Largest number of connections at a time (`max-connections`); fewer if RLIMIT_NOFILE does not allow so many.
    pub max_connections: usize,
    /// Largest number of them from one address (`max-connections-per-address`).
    pub max_per_address: usize,
    /// Responses marked by [`STRIKE`] that an address gets in a row without delay; 0: all (`max-failed-tokens`).
    pub free_strikes: u32,
    /// Existing directory in which the gate makes a directory of mode 0700 for its unix sockets (`state-dir`).
    pub socket_dir: PathBuf,
    /// Addresses and networks that may connect (`allowed-clients`); empty: everybody.
    pub allowed: Vec<String>,
    /// HTTPS (`use-ssl`); `None`: HTTP in clear.
    pub tls: Option<tls::Server>,
    /// Bounds of a request and a response.
    pub limits: Limits,
}

/// Bounds of what a client may send and of the time it may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request head, the empty line included: 16 KiB.
    pub head: usize,
    /// Headers of a request: 100.
    pub headers: usize,
    /// Bytes of a request body: 1 MiB.
    pub body: usize,
    /// From the first byte of a head, or of a TLS handshake, to its end: 10 s.
    pub head_time: Duration,
    /// Without the first byte of a (next) request: 60 s.
    pub idle: Duration,
    /// For the client to send a body, and again to take a response: 60 s, anew for each MiB of response. Does not
    /// count while the handler works.
    pub transfer: Duration,
    /// Bytes of response body that are taken into memory before the client gets its first byte: 4 MiB. A longer
    /// response is passed on at the client's pace.
    pub response_buffer: usize,
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
            response_buffer: 4 << 20,
        }
    }
}

/// What all connections share.
struct Shared {
    limits: Limits,
    max_connections: usize,
    max_per_address: usize,
    free_strikes: u32,
    strikes: Strikes,
    allowed: AllowList,
    registry: Registry,
    doors: Doors,
    tls: RwLock<Option<Arc<tls::Server>>>,
}

impl Shared {
    fn tls(&self) -> Option<Arc<tls::Server>> {
        self.tls
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What the network may send, for `make fuzz`: a head that is taken must be one again when it is passed on.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(head)) = guard::parse(bytes, &mut 0, &limits) else {
        return;
    };
    assert!(head.length <= bytes.len() && head.content_length <= limits.body);
    let passed_on = head.forward();
    // Two headers of the gate's own come to it.
    let wider = Limits {
        head: limits.head + 100,
        headers: limits.headers + 2,
        ..limits
    };
    let again = guard::parse(&passed_on, &mut 0, &wider);
    let Ok(Some(again)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(
        (&again.method, &again.target, again.content_length),
        (&head.method, &head.target, head.content_length)
    );
    assert_eq!(again.length, passed_on.len());
    let _ = head.path_for_log();
}

/// An open gate. Dropping it closes it without grace.
pub struct Gate {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    wake: UnixStream,
    accept: Option<JoinHandle<()>>,
}

impl Gate {
    /// Listens, and from then on answers each request with `handler`, on one of four workers. Requests for which
    /// `is_slow` says true may take minutes: they get a thread of their own.
    ///
    /// # Errors
    /// A bad entry in `allowed`, an address that cannot be listened on, a `socket_dir` that cannot be used; each text
    /// names the setting.
    pub fn open(
        settings: Settings,
        handler: Handler,
        is_slow: fn(&Request) -> bool,
    ) -> Result<Self> {
        let limit = limits::open_files().map_err(|e| Error::io("RLIMIT_NOFILE", &e))?;
        let descriptors = usize::try_from(limit.soft).unwrap_or(usize::MAX);
        let allowed = AllowList::parse(&settings.allowed)?;
        let listeners = accept::listen(&settings.listen)?;
        let addresses = listeners
            .iter()
            .map(|l| {
                l.local_addr()
                    .map_err(|e| Error::io("listening socket", &e))
            })
            .collect::<Result<Vec<_>>>()?;
        let dir = SocketDir::create(&settings.socket_dir)?;
        let buffer = settings.limits.response_buffer;
        let status_only = settings
            .tls
            .as_ref()
            .is_some_and(|t| t.valid_units.is_some());
        let doors: &[Door] = match status_only {
            true => &[Door::All, Door::StatusOnly],
            false => &[Door::All],
        };
        let doors = Doors::open(doors, dir, handler, is_slow, buffer)?;
        let shared = Arc::new(Shared {
            limits: settings.limits,
            max_connections: accept::cap(settings.max_connections, descriptors),
            max_per_address: settings.max_per_address,
            free_strikes: settings.free_strikes,
            strikes: Strikes::default(),
            allowed,
            registry: Registry::default(),
            doors,
            tls: RwLock::new(settings.tls.map(Arc::new)),
        });
        let (wake, woken) =
            UnixStream::pair().map_err(|e| Error::io("wake pipe of the gate", &e))?;
        let accepting = shared.clone();
        let accept = thread::Builder::new()
            .name("gate-accept".into())
            .spawn(move || accept::run(&listeners, &woken, &accepting))
            .map_err(|e| Error::io("cannot start thread gate-accept", &e))?;
        Ok(Self {
            addresses,
            shared,
            wake,
            accept: Some(accept),
        })
    }

    /// The addresses listened on, with the real port where 0 was asked for.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// New connections get this certificate; those that are open keep theirs.
    pub fn renew(&self, tls: tls::Server) {
        *self
            .shared
            .tls
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(tls));
    }

    /// Stops accepting, ends idle connections at once, lets requests in work finish for up to `grace`, and removes the
    /// unix sockets. A handler that still works then is left to itself; its client's connection is closed.
    pub fn close(mut self, grace: Duration) {
        self.shut(grace);
    }

    fn shut(&mut self, grace: Duration) {
        let Some(accept) = self.accept.take() else {
            return;
        };
        if let Err(e) = (&self.wake).write_all(b"x") {
            // Cannot happen while the thread lives, since it holds the other end; if it has died, so much the better.
            error!("gate: cannot wake the accept thread: {e}");
        }
        if accept.join().is_err() {
            error!("gate: the accept thread had panicked");
        }
        let remaining = self.shared.registry.stop(grace);
        if remaining > 0 {
            warn!("gate: {remaining} connections closed that were still at work after {grace:?}");
        }
        self.shared.doors.close(remaining == 0);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}
