//! The tiny_http server behind the front, on a unix socket that only this process uses, and the workers that answer.
//!
//! Each unix connection carries the head of exactly one request that the front has checked, with `Connection: close`, so tiny_http
//! never sees pipelining, a slow client or a body. One thread receives the requests and passes each to its worker, by the
//! id that the front gives it: who else connects to the socket has no id, and is not answered.

use super::log_limit::LogLimit;
use super::request::{Head, REQUEST_ID};
use super::response::{Incoming, Response};
use super::settings::Answer;
use crate::error::{OnPath, Result};
use crate::sys::thread::{Pool, lock, spawn};
use crossbeam_channel::{SendError, Sender, bounded};
use log::{debug, error, warn};
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tiny_http::Server;

/// How long a request waits for a server that is being replaced, and the pause between its attempts to reach one.
const REPLACE_WAIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Longest path of a unix socket on Linux: sun_path is 108 bytes with the NUL (unix(7)).
const SUN_PATH: usize = 107;
/// Names of the sockets begin and end so.
const SOCKET: (&str, &str) = ("http-", ".sock");

/// Requests that could not be answered.
pub(super) static FAILURES: LogLimit = LogLimit::new();

pub(super) struct Backend {
    state: Mutex<State>,
    workers: Pool,
    /// The directory of the socket.
    path: PathBuf,
    /// The same: a path through its descriptor is short enough for any directory. Last, because the socket is removed through it.
    dir: File,
}

#[derive(Default)]
struct State {
    /// Replaced when tiny_http's accept thread has died, which one accept error does to it; `None` once closed.
    socket: Option<Arc<Socket>>,
    dispatcher: Option<JoinHandle<()>>,
    count: u64,
    /// Makes ids of requests, which another process that could open the socket cannot guess.
    ids: RandomState,
    /// Requests on their way through tiny_http, by id, with the way to the worker.
    pending: HashMap<u64, Sender<tiny_http::Request>>,
}

/// A tiny_http server and the path of its socket, which it removes at its end: so each needs a path of its own.
struct Socket {
    path: PathBuf,
    server: Server,
}

impl Backend {
    /// Starts the server in `dir`, which no other user can write to, and removes sockets of a process that was killed.
    pub(super) fn open(dir: &Path) -> Result<Arc<Self>> {
        let opened = Self::listening(dir);
        let opened = opened.on(format!("cannot open a unix socket in {}", dir.display()))?;
        let backend = Arc::new(opened);
        let dispatching = backend.clone();
        let dispatcher = spawn("http-dispatch", move || dispatching.dispatch())?;
        backend.state().dispatcher = Some(dispatcher);
        Ok(backend)
    }

    fn listening(dir: &Path) -> io::Result<Self> {
        let backend = Self {
            dir: File::open(dir)?,
            path: dir.to_path_buf(),
            state: Mutex::default(),
            workers: Pool::new("http-worker", 2 << 20),
        };
        for entry in fs::read_dir(dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(SOCKET.0) && name.ends_with(SOCKET.1) {
                fs::remove_file(entry.path())?;
            }
        }
        let socket = backend.listen()?;
        backend.state().socket = Some(Arc::new(socket));
        Ok(backend)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn socket(&self) -> Option<Arc<Socket>> {
        self.state().socket.clone()
    }

    fn listen(&self) -> io::Result<Socket> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{n}{}", SOCKET.0, SOCKET.1);
        let mut path = self.path.join(&name);
        if path.as_os_str().len() > SUN_PATH {
            let dir = Path::new("/proc/self/fd").join(self.dir.as_raw_fd().to_string());
            path = dir.join(name);
        }
        // tiny_http panics where a thread cannot be started.
        let server = caught(|| {
            Server::http_unix(&path).map_err(|e| e.downcast().map_or_else(io::Error::other, |e| *e))
        })?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Socket { path, server })
    }

    /// Sends a request through tiny_http to a worker, and reads the head of the response.
    pub(super) fn exchange(
        &self,
        head: Head,
        name: String,
        answer: Answer,
    ) -> io::Result<Incoming> {
        let id = self.next_id();
        let (forwarded, head_only, http10) = (head.forward(id), head.head_only, head.http10);
        self.submit(id, move |tiny| serve(tiny, &name, || answer(head.request)))?;
        let response = self.connect().and_then(|mut worker| {
            worker.write_all(&forwarded)?;
            // There is no second request. The one error is ENOTCONN, and then the read below reports more.
            let _ = worker.shutdown(Shutdown::Write);
            Incoming::read(worker, head_only, http10)
        });
        // One that did not arrive is withdrawn, which ends its worker.
        self.state().pending.remove(&id);
        response
    }

    fn next_id(&self) -> u64 {
        let mut state = self.state();
        state.count += 1;
        state.ids.hash_one(state.count)
    }

    /// Gives a worker the request that arrives with this id.
    fn submit(
        &self,
        id: u64,
        work: impl FnOnce(tiny_http::Request) + Send + 'static,
    ) -> io::Result<()> {
        let (to_worker, arrived) = bounded(1);
        let worker = move || {
            if let Ok(request) = arrived.recv() {
                work(request);
            }
        };
        self.workers.run(worker).map_err(io::Error::other)?;
        self.state().pending.insert(id, to_worker);
        Ok(())
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let until = Instant::now() + REPLACE_WAIT;
        loop {
            let socket = self.socket();
            let socket = socket.ok_or_else(|| io::Error::other("the server has stopped"))?;
            match UnixStream::connect(&socket.path) {
                Err(e) if Instant::now() < until => {
                    // No one listens.
                    if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) {
                        self.replace(&socket, &e);
                    }
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Passes each request to its worker, until the server is closed.
    fn dispatch(&self) {
        while let Some(socket) = self.socket() {
            let request = match socket.server.recv() {
                Ok(request) => request,
                Err(why) => {
                    self.replace(&socket, &why); // unless this thread was only woken
                    continue;
                }
            };
            let id = request.headers().iter().find(|h| h.field.equiv(REQUEST_ID));
            let id = id.and_then(|h| h.value.as_str().parse().ok());
            let worker = id.and_then(|id: u64| self.state().pending.remove(&id));
            let unknown = match worker {
                Some(worker) => worker.send(request).err().map(SendError::into_inner),
                None => Some(request),
            };
            if let Some(request) = unknown {
                FAILURES.warn(|| "http: a request of another process was rejected".into());
                // tiny_http then answers, and reads the body that was announced, for as long as that takes.
                let _ = self.workers.run(move || drop(request));
            }
        }
    }

    /// Starts another server in place of `dead`, unless that was done already or the backend is closed.
    fn replace(&self, dead: &Arc<Socket>, why: &io::Error) {
        let mut state = self.state();
        let current = state.socket.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, dead)) {
            return;
        }
        match self.listen() {
            Ok(socket) => {
                warn!("http: the agent's HTTP server had died ({why}) and was restarted");
                state.socket = Some(Arc::new(socket));
                dead.server.unblock();
            }
            Err(e) => FAILURES.warn(|| {
                format!(
                    "http: the agent's HTTP server has died ({why}) and cannot be restarted: {e}"
                )
            }),
        }
    }

    /// Ends the server and removes its socket. Workers end after their request.
    pub(super) fn close(&self) {
        let mut state = self.state();
        let (socket, dispatcher) = (state.socket.take(), state.dispatcher.take());
        drop(state);
        if let Some(socket) = socket {
            socket.server.unblock();
        }
        if dispatcher.is_some_and(|thread| thread.join().is_err()) {
            error!("http: the dispatching thread had panicked");
        }
    }
}

/// Answers one request. A panic costs this request only.
fn serve(tiny: tiny_http::Request, name: &str, answer: impl FnOnce() -> Response) {
    let response = caught(|| Ok(answer())).unwrap_or_else(|e| {
        error!("http: {name}: {e}");
        // As the Go agent answers when a handler has crashed.
        Response::new(500, "text/plain", "500 Internal Server Error")
    });
    match caught(|| response.send(tiny)) {
        Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            debug!("http: {name}: the client has gone");
        }
        Err(e) => FAILURES.warn(|| format!("http: {name}: the response was cut short: {e}")),
        Ok(()) => {}
    }
}

fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("(no text)");
        Err(io::Error::other(format!("panicked: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A directory of its own, and the sockets in it.
    fn dir(name: &str) -> (PathBuf, impl Fn() -> usize) {
        let id = std::process::id();
        let dir = std::env::temp_dir().join(format!("http-backend-{name}-{id}"));
        fs::create_dir(&dir).unwrap();
        let of = dir.clone();
        (dir, move || fs::read_dir(&of).unwrap().count())
    }

    fn exchange(backend: &Backend, id: u64) -> String {
        let mut socket = backend.connect().unwrap();
        let request =
            format!("GET /x HTTP/1.1\r\nX-A: b\r\n{REQUEST_ID}: {id}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn submit(backend: &Backend) -> u64 {
        let id = backend.next_id();
        let answer = || Response::new(200, "text/plain", "answer");
        let work = move |request| serve(request, "GET /x", answer);
        backend.submit(id, work).unwrap();
        id
    }

    #[test]
    fn a_request_is_answered_and_a_closed_backend_is_an_error() {
        let (dir, entries) = dir("access");
        let backend = Backend::open(&dir).unwrap();
        let id = submit(&backend);
        let answer = exchange(&backend, id);
        assert!(answer.ends_with("\r\n\r\nanswer"), "{answer}");
        assert_eq!(entries(), 1);
        backend.close();
        assert_eq!(entries(), 0);
        assert!(backend.connect().is_err());
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn only_requests_of_the_front_are_answered_and_each_once() {
        let (dir, _) = dir("ids");
        let backend = Backend::open(&dir).unwrap();
        let id = submit(&backend);
        let unknown = exchange(&backend, id + 1);
        assert!(unknown.starts_with("HTTP/1.1 500 "), "{unknown}");
        assert!(exchange(&backend, id).starts_with("HTTP/1.1 200 "));
        submit(&backend);
        assert!(exchange(&backend, id).starts_with("HTTP/1.1 500 "));
        backend.close();
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn sockets_of_a_killed_process_are_removed_and_a_long_path_is_usable() {
        let (parent, _) = dir("stale");
        let dir = parent.join("x".repeat(120));
        fs::create_dir(&dir).unwrap();
        for name in ["http-7.sock", "seeds.json"] {
            fs::write(dir.join(name), "").unwrap();
        }
        let backend = Backend::open(&dir).unwrap();
        assert!(!dir.join("http-7.sock").exists() && dir.join("seeds.json").exists());
        let socket = fs::read_dir(&dir)
            .unwrap()
            .flatten()
            .find(|e| e.file_name() != "seeds.json");
        let mode = socket.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        backend.close();
        fs::remove_dir_all(parent).unwrap();
        let text = Backend::open(&dir).err().unwrap().to_string();
        assert!(text.contains(&dir.display().to_string()), "{text}");
    }
}
