//! The listening sockets and the thread that accepts on them. No accept error ends it.

use super::connection::{self, Shared};
use super::log_limit::LogLimit;
use crate::error::{Error, ListenOption, Result};
use crate::sys::net;
use log::{debug, warn};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Pause after an accept error, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections accepted in a row before the stop signal is checked.
const BURST: usize = 64;

/// Descriptors that a connection with a request in work takes: its own, and three for its way to a worker.
const DESCRIPTORS: usize = 4;
/// Descriptors that are left to the rest of the agent.
const RESERVED: usize = 128;
/// Connections that are served however few descriptors there are.
const FEWEST: usize = 4;

static NOT_ALLOWED: LogLimit = LogLimit::new();
static FULL: LogLimit = LogLimit::new();
static ACCEPT_FAILED: LogLimit = LogLimit::new();
static NO_THREAD: LogLimit = LogLimit::new();

pub(super) fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = net::listen(*address);
        listeners.extend(bound.map_err(|e| Error::listen(address, &e, ListenOption::Port))?);
    }
    Ok(listeners)
}

/// The cap on connections: `wanted`, or what a process with `limit` descriptors can serve. Where descriptors run out
/// tiny_http's accept thread dies (see `backend`), and seeds fail for want of a pipe.
pub(super) fn cap(wanted: usize, limit: usize) -> usize {
    let most = (limit.saturating_sub(RESERVED) / DESCRIPTORS).max(FEWEST);
    if wanted > most {
        warn!(
            "http: max-connections in [common] is {wanted}, but with {limit} open files allowed only {most} can be \
             served: raise LimitNOFILE in the unit file (or ulimit -n) to {}",
            wanted.saturating_mul(DESCRIPTORS).saturating_add(RESERVED)
        );
    }
    wanted.clamp(1, most)
}

/// Accepts until a byte arrives on `wake` or its other end is closed.
pub(super) fn run(listeners: &[TcpListener], wake: &UnixStream, shared: &Arc<Shared>) {
    let mut fds: Vec<_> = vec![wake.as_fd()];
    fds.extend(listeners.iter().map(AsFd::as_fd));
    loop {
        match net::wait_readable(&fds, None) {
            Ok(ready) if ready[0] => return,
            Ok(ready) => {
                let ready = listeners
                    .iter()
                    .zip(&ready[1..])
                    .filter(|(_, ready)| **ready);
                for (listener, _) in ready {
                    if !accept(listener, shared) {
                        let _ = net::wait_readable(&fds[..1], Some(PAUSE)); // seen again above
                    }
                }
            }
            Err(e) => {
                ACCEPT_FAILED.warn(|| format!("http: cannot wait for connections: {e}"));
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Takes what is in the queue. False: the system is short of something, and a pause is due.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> bool {
    for _ in 0..BURST {
        match listener.accept() {
            Ok((socket, peer)) => {
                if !start(socket, peer, shared) {
                    return false;
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
            Err(e) => {
                ACCEPT_FAILED.warn(|| format!("http: cannot accept a connection: {e}"));
                // Too many open files is the usual reason: closing an idle connection frees one.
                shared.registry.evict();
                return false;
            }
        }
    }
    true
}

/// Starts a connection's thread, or rejects the connection. False: no thread could be started.
fn start(socket: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) -> bool {
    shared.arrived.fetch_add(1, Ordering::Relaxed);
    if !(shared.allowed)(peer.ip()) {
        NOT_ALLOWED.warn(|| format!("http: {peer} rejected: not in allowed-clients in [common]"));
        return true;
    }
    let options = socket.set_nodelay(true);
    if let Err(e) = options.and_then(|()| net::set_keepalive(&socket)) {
        debug!("http: {peer}: {e}"); // the client is gone already; its thread will find out
    }
    let socket = Arc::new(socket);
    let Some(id) = shared.registry.enter(socket.clone(), peer.ip()) else {
        FULL.warn(|| {
            let (cap, own) = shared.registry.caps();
            format!(
                "http: {peer} rejected: all {cap} connections (max-connections in [common]), or {own} of this address \
                 (max-connections-per-address), are at work"
            )
        });
        return true;
    };
    let place = Place {
        id,
        shared: shared.clone(),
    };
    let started = shared.threads.run(move || {
        connection::serve(socket, peer, place.id, &place.shared);
    });
    if let Err(e) = &started {
        NO_THREAD.warn(|| format!("http: {peer} rejected: {e}"));
    }
    started.is_ok()
}

/// A connection's place in the registry, given back however its thread ends, or if it cannot start.
struct Place {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.registry.leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_leaves_descriptors_for_the_rest_of_the_agent() {
        assert_eq!(cap(64, 1024), 64);
        assert_eq!(cap(1000, 1024), 224);
        assert_eq!(cap(64, 64), FEWEST);
        assert_eq!(cap(0, 1024), 1);
        assert_eq!(
            cap(usize::MAX, usize::MAX),
            (usize::MAX - RESERVED) / DESCRIPTORS
        );
    }

    #[test]
    fn bind_errors_name_the_address_and_the_remedy() {
        let refused = |address: &str| listen(&[address.parse().unwrap()]).unwrap_err().to_string();
        let text = refused("192.0.2.1:3002");
        assert!(
            text.contains("192.0.2.1:3002") && text.contains("listen-address"),
            "{text}"
        );
    }
}
