//! One client's connection, from its first byte to its end: reads a complete request, submits it to a worker, passes
//! the response on.

use super::backend::{self, Backend};
use super::log_limit::LogLimit;
use super::registry::{Phase, Registry};
use super::request::{self, Access, Head, Limits, Refusal, RequestBody};
use super::response::{Incoming, PIECE};
use super::settings::{Plan, Router};
use super::socket::Stream;
use crate::sys::disk;
use crate::sys::file::nameless;
use crate::sys::net;
use crate::sys::thread::{Pool, unpoisoned};
use crate::tls;
use log::debug;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// Bytes read from a client at a time: an idle connection owns no more than that.
const CHUNK: usize = 4096;
/// After so many bytes of a body the client gets [`super::Limits::transfer`] again.
const PART: u64 = 1 << 20;
/// How long, and for how many bytes, a refused client is still read from, so that it can read the refusal.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 4 << 20);
/// How often a delayed connection checks whether it was evicted.
const PAUSE: Duration = Duration::from_millis(50);

static NO_HANDSHAKE: LogLimit = LogLimit::new();
static NO_PLACE: LogLimit = LogLimit::new();
static WRONG_TOKEN: LogLimit = LogLimit::new();

pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) spool_dir: PathBuf,
    pub(super) allowed: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    pub(super) router: Router,
    pub(super) registry: Registry,
    pub(super) backend: Arc<Backend>,
    pub(super) tls: RwLock<Option<Arc<tls::Server>>>,
    pub(super) threads: Pool,
    /// Connections that have arrived, those that were rejected included.
    pub(super) arrived: AtomicU64,
    pub(super) answered: AtomicU64,
}

/// Serves an accepted connection until it ends. `id` is its place in the registry, which the caller gives back.
pub(super) fn serve(socket: Arc<TcpStream>, peer: SocketAddr, id: u64, shared: &Shared) {
    let mut connection = Connection {
        stream: Stream::new(socket, shared.limits.idle),
        access: Access::All,
        peer,
        id,
        shared,
        evicted: false,
        writing: Duration::ZERO,
        written: 0,
        buf: Vec::new(),
    };
    if let Err(e) = connection.start_tls() {
        NO_HANDSHAKE.warn(|| format!("http: {peer} rejected: TLS: {e}"));
        return;
    }
    match connection.run() {
        Ok(()) => connection.stream.finish(),
        Err(e) => debug!("http: {peer}: {e}"),
    }
}

struct Connection<'a> {
    stream: Stream,
    access: Access,
    peer: SocketAddr,
    id: u64,
    shared: &'a Shared,
    /// It has no place in the registry any more, and may send its last response.
    evicted: bool,
    /// Time that the client has taken for the current part of the response, and the bytes of that part.
    writing: Duration,
    written: u64,
    /// Bytes read from the client that belong to no request yet: at most a head, or pipelined requests.
    buf: Vec<u8>,
}

/// Why there is no request to work on; `None`: the client closed, went idle for too long, or the connection broke.
type End = Option<Refusal>;

impl Connection<'_> {
    /// Where TLS is used.
    fn start_tls(&mut self) -> io::Result<()> {
        let Some(tls) = unpoisoned(self.shared.tls.read()).clone() else {
            return Ok(());
        };
        let first = self.stream.peek()?;
        self.stream.within(self.shared.limits.head_time);
        if first.is_some_and(|b| b.is_ascii_uppercase()) {
            // As the Go agent answers it.
            self.stream.write_all(
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
            )?;
            return Err(io::Error::other("the client uses HTTP without TLS"));
        }
        self.stream.start_tls(tls.config.clone())?;
        if !tls.is_valid(self.stream.certificates()) {
            self.access = Access::StatusOnly;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        while self.shared.registry.waiting(self.id) {
            match self.request() {
                Ok((head, plan)) => {
                    if !self.exchange(head, plan)? {
                        break;
                    }
                }
                Err(None) => break,
                Err(Some(refusal)) => return self.refuse(refusal),
            }
        }
        Ok(())
    }

    /// The next request, complete and with a place among those at work.
    fn request(&mut self) -> Result<(Head, Plan), End> {
        let mut head = self.head()?;
        let plan = (self.shared.router)(&head.request);
        let limits = &self.shared.limits;
        let length = head.body_within(plan.spool.unwrap_or(limits.body as u64))?;
        head.request.body = if plan.spool.is_some() {
            self.begin(&plan)?; // a long upload is work
            let file = self.spool_file(length).map_err(|e| not_stored(&e))?;
            let stored = self.body(&head, length, &mut &file);
            stored.map_err(|end| end.map(|Refusal(_, text)| Refusal(500, text)))?;
            (&file).rewind().map_err(|e| not_stored(&e))?;
            RequestBody::File(file)
        } else {
            let mut bytes = Vec::new();
            self.body(&head, length, &mut bytes)?;
            self.begin(&plan)?;
            RequestBody::Bytes(bytes)
        };
        Ok((head, plan))
    }

    /// A file for a body of this length. Its errors, and those of the upload, are answered by 500: orchestrator takes any other status for
    /// a success.
    fn spool_file(&self, length: u64) -> io::Result<File> {
        let dir = &self.shared.spool_dir;
        if length > disk::space(dir)?.available {
            return Err(ErrorKind::StorageFull.into());
        }
        nameless(dir)
    }

    fn begin(&self, plan: &Plan) -> Result<(), End> {
        let registry = &self.shared.registry;
        if registry.begin(self.id, plan.reserved) {
            return Ok(());
        }
        if !registry.is_live(self.id) {
            return Err(None);
        }
        NO_PLACE.warn(|| {
            let (peer, (cap, _)) = (self.peer, registry.caps());
            format!("http: {peer}: a request was rejected: too many of the {cap} connections (max-connections in [common]) are at work")
        });
        // Closing without a response would make Go's client, which orchestrator uses, send the request again.
        Err(Some(match plan.busy {
            Some(location) => Refusal(302, location),
            None => Refusal(
                500,
                "Too many requests are at work; see max-connections in [common]",
            ),
        }))
    }

    /// The next request's head. Its bytes leave the buffer.
    fn head(&mut self) -> Result<Head, End> {
        let limits = &self.shared.limits;
        let mut begun = !self.buf.is_empty();
        self.stream
            .within(if begun { limits.head_time } else { limits.idle });
        let head = loop {
            if let Some(head) = request::parse(&self.buf, self.access, limits)? {
                break head;
            }
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(None),
                Ok(n) => self.buf.extend_from_slice(&chunk[..n]),
                Err(e) if begun && e.kind() == ErrorKind::TimedOut => {
                    return Err(Some(Refusal(408, "Request head took too long")));
                }
                Err(_) => return Err(None),
            }
            if !begun {
                begun = true;
                self.stream.within(limits.head_time);
            }
        };
        self.buf.drain(..head.length);
        Ok(head)
    }

    /// Receives the body into `sink`. Memory grows with what has arrived, not with what was announced.
    fn body(&mut self, head: &Head, length: u64, sink: &mut impl Write) -> Result<(), End> {
        let here = length.min(self.buf.len() as u64) as usize;
        let mut left = length - here as u64;
        let stored = sink.write_all(&self.buf[..here]);
        stored.map_err(|e| not_stored(&e))?;
        self.buf.drain(..here);
        self.buf.shrink_to(CHUNK);
        self.stream.within(self.shared.limits.transfer);
        if head.expects_continue && left > 0 {
            let sent = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            sent.and_then(|()| self.stream.flush()).map_err(|_| None)?;
        }
        let mut part = 0;
        while left > 0 {
            let mut chunk = [0; CHUNK];
            let most = left.min(CHUNK as u64) as usize;
            let n = match self.stream.read(&mut chunk[..most]) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == ErrorKind::TimedOut => {
                    return Err(Some(Refusal(408, "Request body took too long")));
                }
                _ => return Err(None),
            };
            sink.write_all(&chunk[..n]).map_err(|e| not_stored(&e))?;
            left -= n as u64;
            part += n as u64;
            if part >= PART {
                part = 0;
                self.stream.within(self.shared.limits.transfer);
            }
        }
        Ok(())
    }

    /// One request to a worker, which has no deadline, and its response to the client. True: the connection goes on.
    fn exchange(&mut self, head: Head, plan: Plan) -> io::Result<bool> {
        let started = Instant::now();
        let name = format!("{} {}", head.request.method, head.path_for_log());
        let keep_alive = head.keep_alive;
        let backend = &self.shared.backend;
        let response = match backend.exchange(head, name.clone(), plan.answer) {
            Ok(response) => response,
            Err(e) => {
                backend::FAILURES.warn(|| format!("http: a request got no response: {e}"));
                self.refuse(Refusal(503, "The agent cannot answer now; try again"))?;
                return Ok(false);
            }
        };
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        debug!(
            "http: {} {name} -> {}, {} ms",
            self.peer,
            response.status,
            started.elapsed().as_millis()
        );
        if response.wrong_token {
            self.delay();
        }
        self.pass_on(keep_alive, response)
    }

    /// Holds the response to a wrong token back. An evicted connection sends it at once, and ends with it.
    fn delay(&mut self) {
        let delay = self.shared.limits.failed_token_delay;
        if delay.is_zero() {
            return;
        }
        WRONG_TOKEN.warn(|| {
            let ip = self.peer.ip();
            format!("http: {ip} has sent a wrong token; the response is delayed (failed-token-delay in [common])")
        });
        self.shared.registry.set(self.id, Phase::Delayed);
        let until = Instant::now() + delay;
        while Instant::now() < until && self.shared.registry.is_live(self.id) {
            std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
        }
        self.evicted = !self.shared.registry.is_live(self.id);
    }

    /// Sends a response as it comes from the worker. True: the connection goes on. An error leaves the end missing.
    fn pass_on(&mut self, keep_alive: bool, mut response: Incoming) -> io::Result<bool> {
        let keep = keep_alive
            && !response.ends_connection()
            && !self.evicted
            && !self.shared.registry.stopping();
        let line = match (keep, response.http10) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        (self.writing, self.written) = (Duration::ZERO, 0);
        let passed = response.start(line).and_then(|mut out| {
            self.send(&out)?;
            while !response.is_complete {
                self.shared.registry.set(self.id, Phase::Working);
                out.clear();
                response.append(&mut out)?;
                self.send(&out)?;
            }
            Ok(keep)
        });
        if passed.is_err() && response.ends_connection() {
            net::reset_on_close(self.stream.tcp())?;
        }
        passed
    }

    /// Sends a piece of the response. Only the time in which the client takes bytes counts against its deadline.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.evicted && !self.shared.registry.set(self.id, Phase::Sending) {
            return Err(io::Error::other("evicted: the client did not read"));
        }
        let begun = Instant::now();
        let left = self.shared.limits.transfer.saturating_sub(self.writing);
        self.stream.within(left);
        for piece in bytes.chunks(PIECE) {
            self.stream.write_all(piece)?;
        }
        self.stream.flush()?;
        self.writing += begun.elapsed();
        self.written += bytes.len() as u64;
        if self.written >= PART {
            (self.writing, self.written) = (Duration::ZERO, 0);
        }
        Ok(())
    }

    /// Answers with an error of the front's own and ends the connection so that the client can read it: what the
    /// client still sends is read for a moment, because closing on unread bytes resets the connection.
    fn refuse(&mut self, Refusal(status, text): Refusal) -> io::Result<()> {
        debug!("http: {} refused: {status} {text}", self.peer);
        // A refused client may be evicted at the cap, whatever it was doing before.
        if !self.shared.registry.waiting(self.id) && !self.shared.registry.stopping() {
            return Ok(());
        }
        let reason = tiny_http::StatusCode(status).default_reason_phrase();
        let location = if status == 302 {
            format!("Location: {text}\r\n")
        } else {
            String::new()
        };
        let response = format!(
            "HTTP/1.1 {status} {reason}\r\n{location}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{text}\n",
            text.len() + 1
        );
        self.stream.within(LINGER.0);
        self.stream.write_all(response.as_bytes())?;
        self.stream.flush()?;
        self.stream.finish();
        self.stream.tcp().shutdown(Shutdown::Write)?;
        let mut rest = LINGER.1;
        let mut chunk = [0; CHUNK];
        while rest > 0 {
            match self.stream.read(&mut chunk) {
                Ok(n) if n > 0 => rest = rest.saturating_sub(n),
                _ => break, // closed, or out of time: both end it
            }
        }
        Ok(())
    }
}

/// The body could not be written to its file.
fn not_stored(e: &io::Error) -> Refusal {
    backend::FAILURES.warn(|| format!("http: a request body cannot be stored: {e}"));
    let text = "The request body cannot be stored; see the agent's log";
    Refusal(500, text)
}
