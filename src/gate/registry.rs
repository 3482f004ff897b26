//! The list of live connections: the cap, who gives way at the cap, and the orderly end.

use crate::sys::net::wait_readable;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A client that has taken no byte of its response for this long may be closed at the cap: otherwise clients that
/// never read could fill it.
const STALLED: Duration = Duration::from_secs(1);

/// How long a newcomer waits for a place while all connections are being worked on.
const MOMENT: Duration = Duration::from_millis(200);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No complete request yet: handshake, idle, head or body under way.
    Waiting,
    /// A handler has its request.
    Working,
    /// The response is ready and held back.
    Delayed,
    /// The response is on its way; `since` is the last time that bytes were taken.
    Sending,
}

struct Entry {
    socket: Arc<TcpStream>,
    address: IpAddr,
    phase: Phase,
    since: Instant,
}

#[derive(Default)]
struct Live {
    last_id: u64,
    connections: HashMap<u64, Entry>,
    stopping: bool,
}

/// All live connections, by id. A connection that is closed from here is no longer on the list, and learns it from
/// the `false` of the next call that it makes.
#[derive(Default)]
pub(super) struct Registry {
    live: Mutex<Live>,
    /// A connection has left, or may now be evicted.
    changed: Condvar,
}

impl Registry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a newcomer in and returns its id. At `cap` the connection that has waited longest for a complete request
    /// and has sent nothing that is still to be read gives way, or one whose client has stopped reading. If all are being worked on, most are done in a moment:
    /// [`MOMENT`] is waited for that, then the answer is `None`. `per_address` is the cap on those of the newcomer's address,
    /// among which one gives way then.
    pub(super) fn enter(
        &self,
        socket: Arc<TcpStream>,
        address: IpAddr,
        cap: usize,
        per_address: usize,
    ) -> Option<u64> {
        let full = |live: &mut Live| {
            let same = live
                .connections
                .values()
                .filter(|e| e.address == address)
                .count();
            (same >= per_address.max(1) && !live.evict(Some(address)))
                || (live.connections.len() >= cap.max(1) && !live.evict(None))
        };
        let (mut live, waited) = self
            .changed
            .wait_timeout_while(self.live(), MOMENT, full)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        live.last_id += 1;
        let id = live.last_id;
        let entry = Entry {
            socket,
            address,
            phase: Phase::Waiting,
            since: Instant::now(),
        };
        live.connections.insert(id, entry);
        Some(id)
    }

    /// Closes the connection that would give way at the cap, if there is one.
    pub(super) fn evict(&self) -> bool {
        self.live().evict(None)
    }

    /// False once the connection has lost its place, or the gate closes.
    pub(super) fn is_live(&self, id: u64) -> bool {
        let live = self.live();
        !live.stopping && live.connections.contains_key(&id)
    }

    /// The connection waits for its next request. False: it must end, because the gate closes or it was evicted.
    pub(super) fn waiting(&self, id: u64) -> bool {
        self.phase(id, Phase::Waiting) && !self.stopping()
    }

    /// The connection's request is complete and goes to a handler. False: the connection was evicted, and the request
    /// must not be executed, since its client has seen the connection closed.
    pub(super) fn working(&self, id: u64) -> bool {
        self.phase(id, Phase::Working)
    }

    /// The response is held back. At the cap the connection gives its place away, and is not closed but left to send at once.
    pub(super) fn delayed(&self, id: u64) -> bool {
        self.phase(id, Phase::Delayed)
    }

    /// Bytes of the response are sent, or have just been sent. False: the connection was evicted.
    pub(super) fn sending(&self, id: u64) -> bool {
        self.phase(id, Phase::Sending)
    }

    fn phase(&self, id: u64, phase: Phase) -> bool {
        match self.live().connections.get_mut(&id) {
            Some(entry) => {
                entry.phase = phase;
                entry.since = Instant::now();
                if matches!(phase, Phase::Waiting | Phase::Delayed) {
                    self.changed.notify_all();
                }
                true
            }
            None => false,
        }
    }

    /// The connection has ended.
    pub(super) fn leave(&self, id: u64) {
        self.live().connections.remove(&id);
        self.changed.notify_all();
    }

    /// True once [`Registry::stop`] was called: each response closes its connection.
    pub(super) fn stopping(&self) -> bool {
        self.live().stopping
    }

    /// Ends what waits, lets what is in work finish for up to `grace`, and closes what then remains. Returns how many
    /// that were.
    pub(super) fn stop(&self, grace: Duration) -> usize {
        let mut live = self.live();
        live.stopping = true;
        for entry in live.connections.values() {
            if entry.phase == Phase::Waiting {
                close(&entry.socket, Shutdown::Read);
            }
        }
        let (mut live, _) = self
            .changed
            .wait_timeout_while(live, grace, |live| !live.connections.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let remaining = live.connections.len();
        for (_, entry) in live.connections.drain() {
            close(&entry.socket, Shutdown::Both);
        }
        remaining
    }
}

impl Live {
    /// One of those `of` an address, or of all.
    fn evict(&mut self, of: Option<IpAddr>) -> bool {
        let Some(entry) = self.victim(of).and_then(|id| self.connections.remove(&id)) else {
            return false;
        };
        if entry.phase != Phase::Delayed {
            close(&entry.socket, Shutdown::Both);
        }
        true
    }

    fn victim(&self, of: Option<IpAddr>) -> Option<u64> {
        let oldest_first = |phase| {
            let mut found: Vec<(u64, &Entry)> = self
                .connections
                .iter()
                .filter(|(_, e)| e.phase == phase && of.is_none_or(|of| e.address == of))
                .map(|(id, e)| (*id, e))
                .collect();
            found.sort_by_key(|(_, e)| e.since);
            found
        };
        let waiting = oldest_first(Phase::Waiting);
        let fds: Vec<_> = waiting.iter().map(|(_, e)| e.socket.as_fd()).collect();
        // What has arrived and was not read yet, on a busy machine, may be a complete request. If it cannot be known, the
        // oldest one goes.
        let unread = wait_readable(&fds, Some(Duration::ZERO)).unwrap_or_default();
        let silent = unread.iter().position(|unread| !unread).unwrap_or(0);
        let stalled = || oldest_first(Phase::Sending).into_iter().next();
        let delayed = || oldest_first(Phase::Delayed).into_iter().next();
        waiting
            .get(silent)
            .copied()
            .or_else(delayed)
            .or_else(|| stalled().filter(|(_, e)| e.since.elapsed() > STALLED))
            .map(|(id, _)| id)
    }
}

fn close(socket: &TcpStream, how: Shutdown) {
    // The one error is ENOTCONN: the peer was faster.
    let _ = socket.shutdown(how);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// The server's and the client's end of a connection.
    fn pair(listener: &TcpListener) -> (Arc<TcpStream>, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn at_the_cap_the_one_that_waited_longest_gives_way() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, _c) = pair(&listener);
        let a = registry.enter(a, HERE, 2, 99).unwrap();
        let b = registry.enter(b, HERE, 2, 99).unwrap();
        assert!(registry.waiting(b), "still the younger one");
        let c = registry.enter(c, HERE, 2, 99).unwrap();
        assert!(!registry.working(a), "a was evicted and may not start work");
        assert!(registry.working(b) && registry.working(c));
        assert_eq!(a_client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn an_address_that_has_its_share_takes_no_place_of_others() {
        let (registry, listener) = (Registry::default(), listener());
        let there: IpAddr = "192.0.2.1".parse().unwrap();
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, _c) = pair(&listener);
        let (d, _d) = pair(&listener);
        let other = registry.enter(a, there, 9, 2).unwrap();
        let first = registry.enter(b, HERE, 9, 2).unwrap();
        let second = registry.enter(c.clone(), HERE, 9, 2).unwrap();
        let third = registry.enter(d, HERE, 9, 2).unwrap();
        assert!(
            registry.is_live(other) && !registry.is_live(first),
            "its own oldest gives way"
        );
        assert!(registry.working(second) && registry.working(third));
        assert_eq!(registry.enter(c, HERE, 9, 2), None);
        assert!(registry.is_live(other));
    }

    #[test]
    fn who_has_sent_what_was_not_read_yet_stays() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, mut c_client) = pair(&listener);
        let (d, _d) = pair(&listener);
        let a = registry.enter(a, HERE, 2, 99).unwrap();
        let b = registry.enter(b, HERE, 2, 99).unwrap();
        a_client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let c = registry.enter(c, HERE, 2, 99).unwrap();
        assert!(!registry.working(b) && registry.waiting(a));
        c_client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        registry.enter(d, HERE, 2, 99).unwrap();
        assert!(
            !registry.waiting(c) && registry.working(a),
            "both have: the older one, which is the one that waits longer"
        );
    }

    #[test]
    fn a_connection_in_work_is_never_evicted() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let a = registry.enter(a, HERE, 1, 99).unwrap();
        assert!(registry.working(a));
        let start = Instant::now();
        assert_eq!(registry.enter(b.clone(), HERE, 1, 99), None);
        assert!(start.elapsed() >= MOMENT);
        assert!(registry.sending(a));
        assert_eq!(
            registry.enter(b.clone(), HERE, 1, 99),
            None,
            "a response that flows is work"
        );
        thread::sleep(STALLED + Duration::from_millis(50));
        assert!(
            registry.enter(b, HERE, 1, 99).is_some(),
            "a client that does not read gives way"
        );
        assert!(!registry.sending(a));
    }

    #[test]
    fn who_is_held_back_gives_its_place_away_and_is_answered() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let answer = a.clone();
        let a = registry.enter(a, HERE, 1, 99).unwrap();
        assert!(registry.working(a) && registry.delayed(a) && registry.is_live(a));
        assert!(registry.enter(b, HERE, 1, 99).is_some());
        assert!(!registry.is_live(a));
        (&*answer).write_all(b"x").unwrap();
        assert_eq!(a_client.read(&mut [0]).unwrap(), 1, "the socket is open");
    }

    #[test]
    fn a_newcomer_waits_a_moment_for_work_to_end() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let a = registry.enter(a, HERE, 1, 99).unwrap();
        assert!(registry.working(a));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(MOMENT / 20);
                assert!(registry.waiting(a));
            });
            assert!(registry.enter(b, HERE, 1, 99).is_some());
        });
        assert!(!registry.working(a));
    }

    #[test]
    fn stop_ends_idle_ones_at_once_and_the_rest_after_the_grace() {
        let (registry, listener) = (Registry::default(), listener());
        let (a, _a) = pair(&listener);
        let (b, mut b_client) = pair(&listener);
        let idle = registry.enter(a.clone(), HERE, 9, 99).unwrap();
        let busy = registry.enter(b, HERE, 9, 99).unwrap();
        assert!(registry.working(busy));
        let grace = Duration::from_millis(200);
        let started = Instant::now();
        let remaining = thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!((&*a).read(&mut [0]).unwrap(), 0, "reading ended");
                assert!(!registry.waiting(idle));
                registry.leave(idle);
            });
            registry.stop(grace)
        });
        assert_eq!(remaining, 1);
        assert!(started.elapsed() >= grace);
        assert_eq!(b_client.read(&mut [0]).unwrap(), 0);
    }
}
