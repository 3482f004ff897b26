//! The list of live connections: the caps, which connection is evicted at a cap, and the orderly end.

use crate::sys::net::wait_readable;
use crate::sys::thread::{lock, unpoisoned};
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A client that has taken no byte of its response for this long may be evicted: clients that never read must not fill the cap.
const STALLED: Duration = Duration::from_secs(1);

/// How long a connection, or a request, waits for a place while all are taken.
const WAIT: Duration = Duration::from_millis(200);

/// Connections that are kept for status, health and information calls, of a cap that is at least four times as high.
const RESERVED: usize = 8;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No complete request yet: handshake, idle, head or body under way.
    Waiting,
    /// A handler has its request.
    Working,
    /// The response is ready and held back. An eviction does not close the connection now: it sends its response at once.
    Delayed,
    /// The response is on its way; `since` is the last time that bytes were taken.
    Sending,
}

struct Entry {
    socket: Arc<TcpStream>,
    address: IpAddr,
    phase: Phase,
    since: Instant,
    /// Its request may not use a reserved connection.
    ordinary: bool,
}

#[derive(Default)]
struct Live {
    last_id: u64,
    connections: HashMap<u64, Entry>,
    stopping: bool,
}

/// All live connections, by id. A connection that is evicted is no longer on the list, and learns it from the `false`
/// of the next call that it makes.
pub(super) struct Registry {
    cap: usize,
    per_address: usize,
    live: Mutex<Live>,
    /// A connection has left, or may now be evicted.
    changed: Condvar,
}

impl Registry {
    /// At most `cap` connections, and at most `per_address` from one address.
    pub(super) fn new(cap: usize, per_address: usize) -> Self {
        Self {
            cap: cap.max(1),
            per_address: per_address.max(1),
            live: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn caps(&self) -> (usize, usize) {
        (self.cap, self.per_address)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// Waits up to [`WAIT`] while `full`, for most requests are done in a moment.
    fn place(&self, full: impl FnMut(&mut Live) -> bool) -> Option<MutexGuard<'_, Live>> {
        let waited = self.changed.wait_timeout_while(self.live(), WAIT, full);
        let (live, waited) = unpoisoned(waited);
        (!waited.timed_out()).then_some(live)
    }

    /// Adds a connection and returns its id. At the cap the connection that has waited longest for a complete request
    /// and has sent nothing that is still to be read is evicted, or one whose client has stopped reading; at the cap of
    /// the address, one of the same address. `None`: all are at work.
    pub(super) fn enter(&self, socket: Arc<TcpStream>, address: IpAddr) -> Option<u64> {
        let full = |live: &mut Live| {
            let same = live.connections.values().filter(|e| e.address == address);
            (same.count() >= self.per_address && !live.evict(Some(address)))
                || (live.connections.len() >= self.cap && !live.evict(None))
        };
        let mut live = self.place(full)?;
        live.last_id += 1;
        let id = live.last_id;
        let entry = Entry {
            socket,
            address,
            phase: Phase::Waiting,
            since: Instant::now(),
            ordinary: false,
        };
        live.connections.insert(id, entry);
        Some(id)
    }

    /// Closes the connection that would be evicted at the cap, if there is one.
    pub(super) fn evict(&self) -> bool {
        self.live().evict(None)
    }

    /// False once the connection was evicted, or the front closes.
    pub(super) fn is_live(&self, id: u64) -> bool {
        let live = self.live();
        !live.stopping && live.connections.contains_key(&id)
    }

    /// The connection waits for its next request. False: it must end, because the front closes or it was evicted.
    pub(super) fn waiting(&self, id: u64) -> bool {
        self.set(id, Phase::Waiting) && !self.stopping()
    }

    /// The connection's request goes to a handler; one that is not `reserved` must leave [`RESERVED`] connections
    /// free. False: it must not be executed, because the connection was evicted or there is no place for it.
    pub(super) fn begin(&self, id: u64, reserved: bool) -> bool {
        let most = self.cap - RESERVED.min(self.cap / 4);
        let full = |live: &mut Live| {
            !reserved && live.ordinary() >= most && {
                let stalled = live.stalled(None, true);
                !live.remove(stalled)
            }
        };
        let Some(mut live) = self.place(full) else {
            return false;
        };
        live.connections.get_mut(&id).is_some_and(|entry| {
            (entry.phase, entry.since) = (Phase::Working, Instant::now());
            entry.ordinary = !reserved;
            true
        })
    }

    /// What the connection does from now on. False: it was evicted.
    pub(super) fn set(&self, id: u64, phase: Phase) -> bool {
        let mut live = self.live();
        let Some(entry) = live.connections.get_mut(&id) else {
            return false;
        };
        entry.phase = phase;
        entry.since = Instant::now();
        if matches!(phase, Phase::Waiting | Phase::Delayed) {
            self.changed.notify_all();
        }
        true
    }

    pub(super) fn leave(&self, id: u64) {
        self.live().connections.remove(&id);
        self.changed.notify_all();
    }

    /// True once [`Registry::stop`] was called: each response closes its connection.
    pub(super) fn stopping(&self) -> bool {
        self.live().stopping
    }

    /// Ends what waits, lets what is in work finish for up to `grace`, and closes and counts what then remains.
    pub(super) fn stop(&self, grace: Duration) -> usize {
        let mut live = self.live();
        live.stopping = true;
        for entry in live.connections.values() {
            if entry.phase == Phase::Waiting {
                close(&entry.socket, Shutdown::Read);
            }
        }
        let busy = |live: &mut Live| !live.connections.is_empty();
        let (mut live, _) = unpoisoned(self.changed.wait_timeout_while(live, grace, busy));
        let remaining = live.connections.len();
        for (_, entry) in live.connections.drain() {
            close(&entry.socket, Shutdown::Both);
        }
        remaining
    }
}

impl Live {
    /// Requests at work, or whose response is on its way, that may not use a reserved connection.
    fn ordinary(&self) -> usize {
        let busy = |e: &&Entry| e.ordinary && matches!(e.phase, Phase::Working | Phase::Sending);
        self.connections.values().filter(busy).count()
    }

    /// Evicts one of those `of` an address, or of all.
    fn evict(&mut self, of: Option<IpAddr>) -> bool {
        let waiting = self.oldest_first(Phase::Waiting, of);
        let fds: Vec<_> = waiting.iter().map(|(_, e)| e.socket.as_fd()).collect();
        // What has arrived and was not read yet, on a busy machine, may be a complete request. If it cannot be known,
        // the oldest one is evicted.
        let unread = wait_readable(&fds, Some(Duration::ZERO)).unwrap_or_default();
        let silent = unread.iter().position(|unread| !unread).unwrap_or(0);
        let delayed = || self.oldest_first(Phase::Delayed, of).first().copied();
        let victim = waiting.get(silent).copied().or_else(delayed);
        let victim = victim.map(|(id, _)| id).or_else(|| self.stalled(of, false));
        self.remove(victim)
    }

    fn remove(&mut self, victim: Option<u64>) -> bool {
        let Some(entry) = victim.and_then(|id| self.connections.remove(&id)) else {
            return false;
        };
        if entry.phase != Phase::Delayed {
            close(&entry.socket, Shutdown::Both);
        }
        true
    }

    /// A connection whose client has stopped reading, an `ordinary` one if only those count.
    fn stalled(&self, of: Option<IpAddr>, ordinary: bool) -> Option<u64> {
        let sending = self.oldest_first(Phase::Sending, of).into_iter();
        let mut stalled = sending.filter(|(_, e)| e.since.elapsed() > STALLED);
        stalled
            .find(|(_, e)| e.ordinary || !ordinary)
            .map(|(id, _)| id)
    }

    fn oldest_first(&self, phase: Phase, of: Option<IpAddr>) -> Vec<(u64, &Entry)> {
        let wanted = |e: &Entry| e.phase == phase && of.is_none_or(|of| e.address == of);
        let all = self.connections.iter().filter(|(_, e)| wanted(e));
        let mut found: Vec<_> = all.map(|(id, e)| (*id, e)).collect();
        found.sort_by_key(|(_, e)| e.since);
        found
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
    fn at_the_cap_the_one_that_waited_longest_is_evicted() {
        let (registry, listener) = (Registry::new(2, 99), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, _c) = pair(&listener);
        let a = registry.enter(a, HERE).unwrap();
        let b = registry.enter(b, HERE).unwrap();
        assert!(registry.waiting(b), "still the younger one");
        let c = registry.enter(c, HERE).unwrap();
        assert!(
            !registry.set(a, Phase::Working),
            "a was evicted and may not start work"
        );
        assert!(registry.set(b, Phase::Working) && registry.set(c, Phase::Working));
        assert_eq!(a_client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn an_address_at_its_own_cap_takes_no_place_of_others() {
        let (registry, listener) = (Registry::new(9, 2), listener());
        let there: IpAddr = "192.0.2.1".parse().unwrap();
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, _c) = pair(&listener);
        let (d, _d) = pair(&listener);
        let other = registry.enter(a, there).unwrap();
        let first = registry.enter(b, HERE).unwrap();
        let second = registry.enter(c.clone(), HERE).unwrap();
        let third = registry.enter(d, HERE).unwrap();
        assert!(
            registry.is_live(other) && !registry.is_live(first),
            "its own oldest is evicted"
        );
        assert!(registry.set(second, Phase::Working) && registry.set(third, Phase::Working));
        assert_eq!(registry.enter(c, HERE), None);
        assert!(registry.is_live(other));
    }

    #[test]
    fn a_connection_with_unread_bytes_is_kept() {
        let (registry, listener) = (Registry::new(2, 99), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let (c, mut c_client) = pair(&listener);
        let (d, _d) = pair(&listener);
        let a = registry.enter(a, HERE).unwrap();
        let b = registry.enter(b, HERE).unwrap();
        a_client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let c = registry.enter(c, HERE).unwrap();
        assert!(!registry.set(b, Phase::Working) && registry.waiting(a));
        c_client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        registry.enter(d, HERE).unwrap();
        assert!(
            !registry.waiting(c) && registry.set(a, Phase::Working),
            "both have: the older one, which is the one that waits longer"
        );
    }

    #[test]
    fn a_connection_in_work_is_never_evicted() {
        let (registry, listener) = (Registry::new(1, 99), listener());
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let a = registry.enter(a, HERE).unwrap();
        assert!(registry.set(a, Phase::Working));
        let start = Instant::now();
        assert_eq!(registry.enter(b.clone(), HERE), None);
        assert!(start.elapsed() >= WAIT);
        assert!(registry.set(a, Phase::Sending));
        assert_eq!(
            registry.enter(b.clone(), HERE),
            None,
            "a response that flows is work"
        );
        thread::sleep(STALLED + Duration::from_millis(50));
        assert!(
            registry.enter(b, HERE).is_some(),
            "a client that does not read is evicted"
        );
        assert!(!registry.set(a, Phase::Sending));
    }

    #[test]
    fn a_delayed_connection_is_evicted_and_still_answered() {
        let (registry, listener) = (Registry::new(1, 99), listener());
        let (a, mut a_client) = pair(&listener);
        let (b, _b) = pair(&listener);
        let answer = a.clone();
        let a = registry.enter(a, HERE).unwrap();
        assert!(
            registry.set(a, Phase::Working)
                && registry.set(a, Phase::Delayed)
                && registry.is_live(a)
        );
        assert!(registry.enter(b, HERE).is_some());
        assert!(!registry.is_live(a));
        (&*answer).write_all(b"x").unwrap();
        assert_eq!(a_client.read(&mut [0]).unwrap(), 1, "the socket is open");
    }

    #[test]
    fn a_new_connection_waits_for_work_to_end() {
        let (registry, listener) = (Registry::new(1, 99), listener());
        let (a, _a) = pair(&listener);
        let (b, _b) = pair(&listener);
        let a = registry.enter(a, HERE).unwrap();
        assert!(registry.set(a, Phase::Working));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(WAIT / 20);
                assert!(registry.waiting(a));
            });
            assert!(registry.enter(b, HERE).is_some());
        });
        assert!(!registry.set(a, Phase::Working));
    }

    #[test]
    fn stop_ends_idle_ones_at_once_and_the_rest_after_the_grace() {
        let (registry, listener) = (Registry::new(9, 99), listener());
        let (a, _a) = pair(&listener);
        let (b, mut b_client) = pair(&listener);
        let idle = registry.enter(a.clone(), HERE).unwrap();
        let busy = registry.enter(b, HERE).unwrap();
        assert!(registry.set(busy, Phase::Working));
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

    #[test]
    fn eight_connections_are_kept_for_reserved_calls() {
        let (registry, listener) = (Registry::new(32, 99), listener());
        let all: Vec<_> = (0..33).map(|_| pair(&listener)).collect();
        let enter = |n: usize| registry.enter(all[n].0.clone(), HERE).unwrap();
        let ids: Vec<u64> = (0..32).map(enter).collect();
        assert!(ids[..24].iter().all(|id| registry.begin(*id, false)));
        assert!(
            !registry.begin(ids[24], false),
            "only reserved ones are left"
        );
        assert!(ids[24..].iter().all(|id| registry.begin(*id, true)));
        assert_eq!(registry.enter(all[32].0.clone(), HERE), None);
        registry.leave(ids[0]);
        let next = registry.enter(all[32].0.clone(), HERE).unwrap();
        assert!(registry.begin(next, false));
        assert!(registry.waiting(ids[1]), "its next request counts again");
        assert!(registry.begin(ids[1], false));
    }
}
