//! The doors: tiny_http servers on unix sockets that nobody but the gate can reach, and the workers behind them.
//!
//! Each unix connection carries exactly one request that the guard has checked, with `Connection: close`, so tiny_http
//! never sees pipelining, a slow client or a body that does not arrive (platform-notes section 2).

use super::seldom::Seldom;
use super::socket_dir::SocketDir;
use super::worker::{Job, Work, panic_text};
use super::{Handler, Request};
use crate::error::{Error, Result};
use crossbeam_channel::Sender;
use log::{error, warn};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tiny_http::Server;

/// Threads that answer quick requests.
const WORKERS: usize = 4;
/// How long a request waits for a door that is being opened anew.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between attempts to open or reach a door.
const PAUSE: Duration = Duration::from_millis(50);

/// Requests that could not be answered.
pub(super) static FAILURES: Seldom = Seldom::new();

/// Which endpoints a connection may reach. Decided once per connection, from the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// All endpoints.
    All,
    /// The status endpoint only: the client has shown no valid certificate where one is required.
    StatusOnly,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::StatusOnly => "status",
        }
    }
}

/// The open doors and their workers.
pub(super) struct Doors {
    open: Vec<Arc<OpenDoor>>,
    threads: Mutex<Threads>,
}

/// What is left to end when the doors close.
struct Threads {
    dispatchers: Vec<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    dir: Option<SocketDir>,
}

struct OpenDoor {
    door: Door,
    dir: PathBuf,
    /// Replaced when tiny_http's accept thread has died, which one accept error does to it; `None` once closed.
    socket: Mutex<Option<Arc<Socket>>>,
}

/// A tiny_http server and the path of its socket, which it removes at its end: so each needs a path of its own.
struct Socket {
    path: PathBuf,
    server: Server,
}

impl Doors {
    /// Opens the doors named, in `dir`, and starts the workers.
    pub(super) fn open(
        doors: &[Door],
        dir: SocketDir,
        handler: Handler,
        is_slow: fn(&Request) -> bool,
        response_buffer: usize,
    ) -> Result<Self> {
        let work = Arc::new(Work {
            handler,
            is_slow,
            response_buffer,
        });
        // Never longer than the connection cap: each connection has one request at a time.
        let (sender, receiver) = crossbeam_channel::unbounded();
        let path = dir.path().to_path_buf();
        let threads = Threads {
            dispatchers: Vec::new(),
            workers: Vec::new(),
            dir: Some(dir),
        };
        // From here on an error drops, and so closes, what is open.
        let mut all = Self {
            open: Vec::new(),
            threads: Mutex::new(threads),
        };
        for n in 0..WORKERS {
            let (work, receiver) = (work.clone(), receiver.clone());
            let worker = start(&format!("gate-worker-{n}"), move || work.run(&receiver))?;
            all.threads().workers.push(worker);
        }
        for &door in doors {
            let socket = Socket::open(&path, door).map_err(|e| {
                Error::io(
                    format!("cannot open a unix socket in {}", path.display()),
                    &e,
                )
            })?;
            let socket = Mutex::new(Some(Arc::new(socket)));
            let open = Arc::new(OpenDoor {
                door,
                dir: path.clone(),
                socket,
            });
            all.open.push(open.clone());
            let sender = sender.clone();
            let dispatcher = start("gate-door", move || open.dispatch(&sender))?;
            all.threads().dispatchers.push(dispatcher);
        }
        Ok(all)
    }

    /// A connection to a door, for one request.
    pub(super) fn connect(&self, door: Door) -> io::Result<UnixStream> {
        let open = self.open.iter().find(|o| o.door == door);
        let not_open =
            || io::Error::other(format!("the inner door \"{}\" is not open", door.name()));
        let open = open.ok_or_else(not_open)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let socket = open.socket().ok_or_else(not_open)?;
            match UnixStream::connect(&socket.path) {
                Err(e) if Instant::now() < until => {
                    if is_dead(&e) {
                        socket.server.unblock();
                    }
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Ends the doors and removes their directory. Workers end after the request that they have at hand; they are
    /// waited for if `idle`.
    pub(super) fn close(&self, idle: bool) {
        for door in &self.open {
            if let Some(socket) = door.lock().take() {
                socket.server.unblock();
            }
        }
        let mut threads = self.threads();
        threads.dispatchers.drain(..).for_each(join);
        // The last dispatcher took the last sender along: workers without a request end now.
        if idle {
            threads.workers.drain(..).for_each(join);
        }
        threads.dir = None;
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.close(false);
    }
}

impl OpenDoor {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Socket>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> Option<Arc<Socket>> {
        self.lock().clone()
    }

    /// Passes requests to the workers until the door is closed; opens it anew when it has died.
    fn dispatch(&self, queue: &Sender<Job>) {
        while let Some(socket) = self.socket() {
            match socket.server.recv() {
                Ok(request) => {
                    if queue.send((request, self.door)).is_err() {
                        return; // no worker is left: the gate has closed
                    }
                }
                // Woken up, by close() or by a connection that found the door dead; or an accept error.
                Err(_) => self.revive(&socket.path),
            }
        }
    }

    /// Opens the door anew if it is dead, and neither closed nor replaced meanwhile.
    fn revive(&self, path: &Path) {
        while self.socket().is_some() {
            match UnixStream::connect(path) {
                Ok(_) => return, // alive: an earlier call has been answered already
                Err(e) if is_dead(&e) => match Socket::open(&self.dir, self.door) {
                    Ok(socket) => {
                        let name = self.door.name();
                        warn!("gate: the inner door \"{name}\" had died and was opened anew");
                        if let Some(current) = &mut *self.lock() {
                            *current = Arc::new(socket);
                        }
                        return;
                    }
                    Err(e) => FAILURES.warn(|| format!("gate: cannot reopen an inner door: {e}")),
                },
                Err(e) => FAILURES.warn(|| format!("gate: cannot reach an inner door: {e}")),
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Socket {
    fn open(dir: &Path, door: Door) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{}-{n}.sock", door.name()));
        // tiny_http panics where a thread cannot be started.
        match catch_unwind(|| Server::http_unix(&path)) {
            Ok(Ok(server)) => Ok(Self { path, server }),
            Ok(Err(e)) => Err(e
                .downcast::<io::Error>()
                .map_or_else(io::Error::other, |e| *e)),
            Err(panic) => Err(io::Error::other(panic_text(&*panic))),
        }
    }
}

/// Nobody listens on the socket.
fn is_dead(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = thread::Builder::new().name(name.into()).spawn(work);
    started.map_err(|e| Error::io(format!("cannot start thread {name}"), &e))
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        error!("gate: a thread had panicked: {}", panic_text(&*panic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Response;
    use std::io::{Read, Write};

    #[test]
    fn the_handler_learns_which_door_was_used_and_a_closed_door_is_an_error() {
        let dir = SocketDir::create(&std::env::temp_dir()).unwrap();
        let handler: Handler = Arc::new(|r: &Request| Response {
            status: 200,
            content_type: "text/plain",
            body: format!("{:?} {:?}", r.door, r.headers).into_bytes(),
            headers: Vec::new(),
        });
        let doors = Doors::open(&[Door::StatusOnly], dir, handler, |_| false, 100).unwrap();
        assert!(
            doors.connect(Door::All).is_err(),
            "only the doors that are needed are open"
        );
        let mut door = doors.connect(Door::StatusOnly).unwrap();
        door.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        door.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nStatusOnly []"), "{answer}");
        doors.close(true);
        assert!(doors.connect(Door::StatusOnly).is_err());
    }
}
