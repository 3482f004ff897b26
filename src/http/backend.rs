//! The tiny_http server behind the front, on a unix socket that only this process uses, and the workers that answer.
//!
//! Each unix connection carries exactly one request that the front has checked, with `Connection: close`, so tiny_http
//! never sees pipelining, a slow client or a body that does not arrive. What belongs to a request and does not go
//! through the socket (its answer function, a body in a file) is looked up by the id that the front gives it: who else
//! connects to the socket has no id, and is not answered.

use super::log_limit::LogLimit;
use super::request::{Access, REQUEST_ID, Request, RequestBody};
use super::response::Response;
use super::settings::Answer;
use crate::error::{Error, Result};
use crate::sys::thread::{lock, spawn, unpoisoned};
use log::{debug, error, warn};
use std::any::Any;
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::Server;

/// A worker without a request ends after this time.
const WORKER_IDLE: Duration = Duration::from_secs(5);
/// How long a request waits for a server that is being replaced.
const REPLACE_WAIT: Duration = Duration::from_secs(2);
/// Pause between attempts to start or reach a server, and how long idle workers may take to end at the stop.
const PAUSE: Duration = Duration::from_millis(50);
const STOP_WAIT: Duration = Duration::from_secs(1);

/// Longest path of a unix socket on Linux: sun_path is 108 bytes with the NUL (unix(7)).
const SUN_PATH: usize = 107;
/// Names of the sockets begin and end so.
const SOCKET: (&str, &str) = ("http-", ".sock");

/// Requests that could not be answered.
pub(super) static FAILURES: LogLimit = LogLimit::new();

/// The server and its workers.
pub(super) struct Backend {
    state: Mutex<State>,
    /// A worker has ended.
    ended: Condvar,
    /// The directory of the socket.
    path: PathBuf,
    /// The same: a path through its descriptor is short enough for any directory. Last, because the socket is removed through it.
    dir: File,
}

#[derive(Default)]
struct State {
    /// Replaced when tiny_http's accept thread has died, which one accept error does to it; `None` once closed.
    socket: Option<Arc<Socket>>,
    /// Requests so far.
    count: u64,
    /// Makes ids of requests, which another process that could open the socket cannot guess.
    ids: RandomState,
    /// Requests that no worker has taken yet.
    pending: HashMap<u64, Pending>,
    /// Workers without a request.
    idle: usize,
}

/// What a worker needs in addition to the request itself.
struct Pending {
    access: Access,
    answer: Answer,
    body: Option<File>,
    wrong_token: Arc<AtomicBool>,
}

/// A tiny_http server and the path of its socket, which it removes at its end: so each needs a path of its own.
struct Socket {
    path: PathBuf,
    server: Server,
}

/// A request that was submitted. Dropping it before a worker has taken the request withdraws it.
pub(super) struct Ticket<'a> {
    backend: &'a Backend,
    pub(super) id: u64,
    wrong_token: Arc<AtomicBool>,
}

impl Ticket<'_> {
    /// True if the response, once it is there, is that to a wrong token.
    pub(super) fn wrong_token(&self) -> bool {
        self.wrong_token.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.backend.state().pending.remove(&self.id);
    }
}

impl Backend {
    /// Starts the server in `dir`, which no other user can write to. Sockets that a killed process has left there are
    /// removed.
    pub(super) fn open(dir: &Path) -> Result<Arc<Self>> {
        let failed = |e: &io::Error| {
            let dir = dir.display();
            Error::io(format!("cannot open a unix socket in {dir}"), e)
        };
        let backend = Self {
            dir: File::open(dir).map_err(|e| failed(&e))?,
            path: dir.to_path_buf(),
            state: Mutex::default(),
            ended: Condvar::new(),
        };
        for entry in fs::read_dir(dir).map_err(|e| failed(&e))?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(SOCKET.0) && name.ends_with(SOCKET.1) {
                fs::remove_file(entry.path()).map_err(|e| failed(&e))?;
            }
        }
        let socket = backend.listen().map_err(|e| failed(&e))?;
        backend.state().socket = Some(Arc::new(socket));
        Ok(Arc::new(backend))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A new server on a socket of its own.
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
        let server = match catch_unwind(|| Server::http_unix(&path)) {
            Ok(Ok(server)) => server,
            Ok(Err(e)) => {
                let e = e.downcast::<io::Error>();
                return Err(e.map_or_else(io::Error::other, |e| *e));
            }
            Err(panic) => return Err(io::Error::other(panic_text(&*panic).to_string())),
        };
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Socket { path, server })
    }

    /// Announces a request whose head is to be sent with this ticket's id, and sees to it that a worker waits for it.
    pub(super) fn submit(
        self: &Arc<Self>,
        access: Access,
        answer: Answer,
        body: Option<File>,
    ) -> io::Result<Ticket<'_>> {
        let mut state = self.state();
        state.count += 1;
        let id = state.ids.hash_one(state.count);
        let ticket = Ticket {
            backend: self,
            id,
            wrong_token: Arc::default(),
        };
        let pending = Pending {
            access,
            answer,
            body,
            wrong_token: ticket.wrong_token.clone(),
        };
        state.pending.insert(ticket.id, pending);
        if state.idle < state.pending.len() {
            state.idle += 1;
            drop(state);
            let worker = self.clone();
            if let Err(e) = spawn("http-worker", move || worker.work()) {
                self.state().idle -= 1;
                return Err(io::Error::other(e));
            }
        }
        Ok(ticket)
    }

    /// A connection to the server, for one request.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let until = Instant::now() + REPLACE_WAIT;
        loop {
            let socket = self.state().socket.clone();
            let socket = socket.ok_or_else(|| io::Error::other("the server has stopped"))?;
            match UnixStream::connect(&socket.path) {
                Err(e) if Instant::now() < until => {
                    // No one listens.
                    if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) {
                        self.replace(&socket);
                    }
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Starts another server in place of `dead`, unless that was done already. Requests that it still holds are
    /// answered with status 500 when the last worker has left it.
    fn replace(&self, dead: &Arc<Socket>) {
        let mut state = self.state();
        let current = state.socket.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, dead)) {
            return;
        }
        match self.listen() {
            Ok(socket) => {
                warn!("http: the server behind the front had died and was replaced");
                state.socket = Some(Arc::new(socket));
                (0..state.idle).for_each(|_| dead.server.unblock());
            }
            Err(e) => FAILURES.warn(|| format!("http: the server cannot be replaced: {e}")),
        }
    }

    /// A worker's life: ends after some time without a request, or when the server is closed.
    fn work(&self) {
        loop {
            let Some(socket) = self.state().socket.clone() else {
                break;
            };
            let received = socket.server.recv_timeout(WORKER_IDLE);
            match received {
                Ok(Some(request)) => {
                    drop(socket);
                    self.serve(request);
                }
                // Idle for long enough, or woken.
                Ok(None) => {
                    let mut state = self.state();
                    let current = state.socket.as_ref();
                    let same = current.is_some_and(|current| Arc::ptr_eq(current, &socket));
                    // tiny_http's wait may end with nothing although it has consumed the notification of a request.
                    if same && state.pending.is_empty() {
                        state.idle -= 1;
                        return;
                    }
                }
                Err(e) => {
                    FAILURES.warn(|| format!("http: the server has failed: {e}"));
                    self.replace(&socket);
                    thread::sleep(PAUSE);
                }
            }
        }
        self.state().idle -= 1;
        self.ended.notify_all();
    }

    /// Answers one request. A panic costs this request only.
    fn serve(&self, mut request: tiny_http::Request) {
        let Some(pending) = self.take(&request) else {
            FAILURES.warn(|| "http: a request that the front does not know was rejected".into());
            return;
        };
        let name = format!("{} {:.200}", request.method(), path(request.url()));
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let response = match from_tiny(&mut request, pending.access, pending.body) {
                Ok(request) => answer(pending.answer, request, &name),
                Err(e) => {
                    FAILURES.warn(|| format!("http: {name}: the body did not arrive: {e}"));
                    internal_error()
                }
            };
            let wrong = response.wrong_token;
            pending.wrong_token.store(wrong, Ordering::Relaxed);
            response.send(request)
        }));
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(e))
                if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                debug!("http: {name}: the client has gone");
            }
            Ok(Err(e)) => {
                FAILURES.warn(|| format!("http: {name}: the response was cut short: {e}"))
            }
            Err(panic) => error!("http: {name} panicked: {}", panic_text(&*panic)),
        }
        self.state().idle += 1;
    }

    /// What belongs to the request. The worker is no longer idle then.
    fn take(&self, request: &tiny_http::Request) -> Option<Pending> {
        let mut headers = request.headers().iter();
        let id = headers.find(|h| h.field.as_str().as_str().eq_ignore_ascii_case(REQUEST_ID))?;
        let mut state = self.state();
        let pending = state.pending.remove(&id.value.as_str().parse().ok()?)?;
        state.idle -= 1;
        Some(pending)
    }

    /// Ends the server and the workers without a request, and removes the socket. Others end after their request.
    pub(super) fn close(&self) {
        let mut state = self.state();
        let Some(socket) = state.socket.take() else {
            return;
        };
        (0..state.idle).for_each(|_| socket.server.unblock());
        let waited = self
            .ended
            .wait_timeout_while(state, STOP_WAIT, |s| s.idle > 0);
        drop(unpoisoned(waited));
    }
}

/// The answer, or that to a panic.
fn answer(answer: Answer, request: Request, name: &str) -> Response {
    catch_unwind(AssertUnwindSafe(|| answer(request))).unwrap_or_else(|panic| {
        error!("http: {name} panicked: {}", panic_text(&*panic));
        internal_error()
    })
}

/// As the Go agent answers when a handler has crashed.
fn internal_error() -> Response {
    Response::new(500, "text/plain", "500 Internal Server Error")
}

/// The request that tiny_http has parsed, with its body.
fn from_tiny(
    tiny: &mut tiny_http::Request,
    access: Access,
    file: Option<File>,
) -> io::Result<Request> {
    let own = ["Connection", "Content-Length", REQUEST_ID];
    let headers = tiny.headers().iter();
    let headers = headers
        .map(|h| (h.field.to_string(), h.value.to_string()))
        .filter(|(name, _)| !own.iter().any(|own| name.eq_ignore_ascii_case(own)))
        .collect();
    let mut request = Request::new(tiny.method().as_str(), tiny.url(), headers, access);
    request.body = match file {
        Some(file) => RequestBody::File(file),
        None => {
            let mut bytes = Vec::new();
            tiny.as_reader().read_to_end(&mut bytes)?;
            if tiny.body_length().is_some_and(|n| n != bytes.len()) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            RequestBody::Bytes(bytes)
        }
    };
    Ok(request)
}

/// The target without the query, which may carry the token, and without a token whose `?` was forgotten.
fn path(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    path.split("token=").next().unwrap_or_default()
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

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

    fn shown() -> Answer {
        Box::new(|r| {
            let text = format!("{:?} {:?}", r.access, r.headers);
            Response::new(200, "text/plain", text)
        })
    }

    #[test]
    fn the_handler_gets_the_access_class_and_a_closed_backend_is_an_error() {
        let (dir, entries) = dir("access");
        let backend = Backend::open(&dir).unwrap();
        let ticket = backend.submit(Access::StatusOnly, shown(), None).unwrap();
        let answer = exchange(&backend, ticket.id);
        assert!(
            answer.ends_with("\r\n\r\nStatusOnly [(\"X-A\", \"b\")]"),
            "{answer}"
        );
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
        let ticket = backend.submit(Access::All, shown(), None).unwrap();
        let unknown = exchange(&backend, ticket.id + 1);
        assert!(unknown.starts_with("HTTP/1.1 500 "), "{unknown}");
        assert!(exchange(&backend, ticket.id).starts_with("HTTP/1.1 200 "));
        let late = backend.submit(Access::All, shown(), None).unwrap();
        assert!(exchange(&backend, ticket.id).starts_with("HTTP/1.1 500 "));
        drop(late);
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
