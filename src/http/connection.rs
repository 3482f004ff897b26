//! One client's connection, from its first byte to its end: reads a complete request, submits it to a worker, passes
//! the response on.

use super::backend::{self, Backend};
use super::deadline::Deadline;
use super::limits::Limits;
use super::log_limit::LogLimit;
use super::registry::Registry;
use super::request::{self, Access, Head, Refusal, RequestBody};
use super::response::{Incoming, PIECE};
use super::settings::{Plan, Router};
use super::tls_stream::Stream;
use crate::sys::file::nameless;
use crate::sys::net;
use crate::sys::thread::unpoisoned;
use crate::tls;
use log::debug;
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

/// What all connections share.
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) spool_dir: PathBuf,
    pub(super) allowed: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    pub(super) router: Router,
    pub(super) registry: Registry,
    pub(super) backend: Arc<Backend>,
    pub(super) tls: RwLock<Option<Arc<tls::Server>>>,
    /// Connections that have arrived, those that were rejected included.
    pub(super) arrived: AtomicU64,
    /// Requests that a handler has answered.
    pub(super) answered: AtomicU64,
}

impl Shared {
    fn tls(&self) -> Option<Arc<tls::Server>> {
        unpoisoned(self.tls.read()).clone()
    }
}

/// Serves an accepted connection until it ends. `id` is its place in the registry, which the caller gives back.
pub(super) fn serve(socket: Arc<TcpStream>, peer: SocketAddr, id: u64, shared: &Shared) {
    let (stream, access) = match admit(&socket, shared) {
        Ok(admitted) => admitted,
        Err(e) => {
            NO_HANDSHAKE.warn(|| format!("http: {peer} rejected: TLS: {e}"));
            return;
        }
    };
    let mut connection = Connection {
        stream,
        access,
        socket,
        peer,
        id,
        shared,
        evicted: false,
        writing: Duration::ZERO,
        written: 0,
        buf: Vec::new(),
    };
    match connection.run() {
        Ok(()) => connection.stream.finish(),
        Err(e) => debug!("http: {peer}: {e}"),
    }
}

/// Clear text or TLS, with the handshake, and what the client may reach.
fn admit(socket: &Arc<TcpStream>, shared: &Shared) -> io::Result<(Stream, Access)> {
    let limits = &shared.limits;
    let clear = Deadline::new(socket.clone(), limits.idle);
    let Some(tls) = shared.tls() else {
        return Ok((Stream::Plain(clear), Access::All));
    };
    if clear.peek()?.is_some_and(|b| b.is_ascii_uppercase()) {
        // As the Go agent answers it.
        Deadline::new(socket.clone(), limits.head_time).write_all(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        )?;
        return Err(io::Error::other("the client uses HTTP without TLS"));
    }
    let stream = Stream::tls(socket.clone(), tls.config.clone(), limits.head_time)?;
    let access = if tls.is_valid(stream.certificates()) {
        Access::All
    } else {
        Access::StatusOnly
    };
    Ok((stream, access))
}

struct Connection<'a> {
    stream: Stream,
    access: Access,
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    id: u64,
    shared: &'a Shared,
    /// It has no place in the registry any more, and may send its last response.
    evicted: bool,
    /// Time that the client has taken for the current part of the response.
    writing: Duration,
    /// Bytes of that part.
    written: u64,
    /// Bytes read from the client that belong to no request yet: at most a head, or pipelined requests.
    buf: Vec<u8>,
}

/// Why there is no request to work on.
enum End {
    /// The client closed, went idle for too long, or the connection broke.
    Quiet,
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Connection<'_> {
    fn run(&mut self) -> io::Result<()> {
        while self.shared.registry.waiting(self.id) {
            match self.request() {
                Ok((head, plan, body)) => {
                    if !self.exchange(&head, plan, body)? {
                        break;
                    }
                }
                Err(End::Quiet) => break,
                Err(End::Refused(refusal)) => return self.refuse(refusal),
            }
        }
        Ok(())
    }

    /// The next request, complete and with a place among those at work.
    fn request(&mut self) -> Result<(Head, Plan, RequestBody), End> {
        let head = self.head()?;
        let plan = (self.shared.router)(&head.request);
        let limits = &self.shared.limits;
        let length = head.body_within(plan.spool.unwrap_or(limits.body as u64))?;
        let body = if plan.spool.is_some() {
            self.begin(&plan)?; // a long upload is work
            let file = nameless(&self.shared.spool_dir).map_err(|e| not_stored(&e))?;
            self.body(&head, length, &mut &file)?;
            (&file).rewind().map_err(|e| not_stored(&e))?;
            RequestBody::File(file)
        } else {
            let mut bytes = Vec::new();
            self.body(&head, length, &mut bytes)?;
            self.begin(&plan)?;
            RequestBody::Bytes(bytes)
        };
        Ok((head, plan, body))
    }

    /// Takes a place among the requests at work.
    fn begin(&self, plan: &Plan) -> Result<(), End> {
        let registry = &self.shared.registry;
        if registry.begin(self.id, plan.reserved) {
            return Ok(());
        }
        if registry.is_live(self.id) {
            NO_PLACE.warn(|| {
                let (peer, (cap, _)) = (self.peer, registry.caps());
                format!("http: {peer}: a request was rejected: too many of the {cap} connections (max-connections in [common]) are at work")
            });
        }
        // Closed without a response: orchestrator takes any status but 500 for a success.
        Err(End::Quiet)
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
                Ok(0) => return Err(End::Quiet),
                Ok(n) => self.buf.extend_from_slice(&chunk[..n]),
                Err(e) if begun && e.kind() == ErrorKind::TimedOut => {
                    return Err(Refusal(408, "Request head took too long").into());
                }
                Err(_) => return Err(End::Quiet),
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
        let here = self
            .buf
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut left = length - here as u64;
        sink.write_all(&self.buf[..here])
            .map_err(|e| not_stored(&e))?;
        self.buf.drain(..here);
        self.buf.shrink_to(CHUNK);
        self.stream.within(self.shared.limits.transfer);
        if head.expects_continue && left > 0 {
            let sent = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            sent.and_then(|()| self.stream.flush())
                .map_err(|_| End::Quiet)?;
        }
        let mut part = 0;
        while left > 0 {
            let mut chunk = [0; CHUNK];
            let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let n = match self.stream.read(&mut chunk[..most]) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == ErrorKind::TimedOut => {
                    return Err(Refusal(408, "Request body took too long").into());
                }
                _ => return Err(End::Quiet),
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

    /// One request to a worker and its response to the client. True: the connection goes on. There is no deadline
    /// while the handler works.
    fn exchange(&mut self, head: &Head, plan: Plan, body: RequestBody) -> io::Result<bool> {
        let started = Instant::now();
        let (bytes, file) = match body {
            RequestBody::Bytes(bytes) => (bytes, None),
            RequestBody::File(file) => (Vec::new(), Some(file)),
        };
        let backend = &self.shared.backend;
        let response = backend
            .submit(self.access, plan.answer, file)
            .and_then(|ticket| {
                let mut worker = backend.connect()?;
                worker.write_all(&head.forward(ticket.id, bytes.len()))?;
                worker.write_all(&bytes)?;
                // There is no second request. The one error is ENOTCONN, and then the read below reports more.
                let _ = worker.shutdown(Shutdown::Write);
                let response = Incoming::read(worker, head.head_only)?;
                Ok((response, ticket.wrong_token()))
            });
        let (response, wrong_token) = match response {
            Ok(response) => response,
            Err(e) => {
                backend::FAILURES.warn(|| format!("http: a request got no response: {e}"));
                self.refuse(Refusal(503, "The agent cannot answer now; try again"))?;
                return Ok(false);
            }
        };
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        debug!(
            "http: {} {} {} -> {}, {} ms",
            self.peer,
            head.request.method,
            head.path_for_log(),
            response.status,
            started.elapsed().as_millis()
        );
        if wrong_token {
            self.delay();
        }
        self.pass_on(head, response)
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
        self.shared.registry.delayed(self.id);
        let until = Instant::now() + delay;
        while Instant::now() < until && self.shared.registry.is_live(self.id) {
            std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
        }
        self.evicted = !self.shared.registry.is_live(self.id);
    }

    /// Sends a response as it comes from the worker. True: the connection goes on. An error leaves the end missing.
    fn pass_on(&mut self, head: &Head, mut response: Incoming) -> io::Result<bool> {
        // Without chunks the end of the connection is the end of the body.
        let until_close = head.http10 && response.is_chunked();
        let keep =
            head.keep_alive && !until_close && !self.evicted && !self.shared.registry.stopping();
        let line = match (keep, head.http10) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        (self.writing, self.written) = (Duration::ZERO, 0);
        let passed = response.start(head.http10, line).and_then(|mut out| {
            self.send(&out)?;
            while !response.is_complete() {
                self.shared.registry.working(self.id);
                out.clear();
                response.append(&mut out, head.http10)?;
                self.send(&out)?;
            }
            Ok(keep)
        });
        if passed.is_err() && until_close {
            net::reset_on_close(&self.socket)?;
        }
        passed
    }

    /// Sends a piece of the response. Only the time in which the client takes bytes counts against its deadline.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.evicted && !self.shared.registry.sending(self.id) {
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
        let response = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{text}\n",
            text.len() + 1
        );
        self.stream.within(LINGER.0);
        self.stream.write_all(response.as_bytes())?;
        self.stream.flush()?;
        self.stream.finish();
        self.socket.shutdown(Shutdown::Write)?;
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
    Refusal(
        500,
        "The request body cannot be stored; see the agent's log",
    )
}
