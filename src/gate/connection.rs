//! One client's connection, from its first byte to its end: reads a complete request, hands it to a door, passes the
//! response back.

use super::Shared;
use super::deadline::Deadline;
use super::doors::{self, Door};
use super::guard::{self, Head, Refusal};
use super::response::{ResponseHead, cut_short};
use super::seldom::Seldom;
use super::stream::Stream;
use log::debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes read from a client at a time: an idle connection owns no more than that.
const CHUNK: usize = 4096;
/// Bytes written to a client at a time: after each the client counts as alive.
const PIECE: usize = 64 << 10;
/// After each such part of a long response the client gets [`Limits::transfer`] anew.
const PART: usize = 1 << 20;
/// How long, and for how many bytes, a refused client is still listened to, so that it gets to read the refusal.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

/// How often a connection that is held back looks whether it was closed.
const PAUSE: Duration = Duration::from_millis(50);

static NO_HANDSHAKE: Seldom = Seldom::new();
static STRUCK: Seldom = Seldom::new();

/// Serves an accepted connection until it ends. `id` is its place in the registry, which the caller gives back.
pub(super) fn serve(socket: Arc<TcpStream>, peer: SocketAddr, id: u64, shared: &Shared) {
    let (stream, door) = match admit(&socket, shared) {
        Ok(admitted) => admitted,
        Err(e) => {
            NO_HANDSHAKE.warn(|| format!("gate: {peer} turned away: TLS: {e}"));
            return;
        }
    };
    let mut connection = Connection {
        stream,
        door,
        socket,
        peer,
        id,
        shared,
        gave_way: false,
        buf: Vec::new(),
    };
    match connection.run() {
        Ok(()) => connection.stream.finish(),
        Err(e) => debug!("gate: {peer}: {e}"),
    }
}

/// Decides how the client is spoken to and which door its requests go to: the TLS handshake, once for each connection.
fn admit(socket: &Arc<TcpStream>, shared: &Shared) -> io::Result<(Stream, Door)> {
    let limits = &shared.limits;
    let Some(tls) = shared.tls() else {
        return Ok((Stream::plain(socket.clone(), limits.idle), Door::All));
    };
    let first = Deadline::new(socket.clone(), limits.idle).peek()?;
    if first.is_some_and(|b| b.is_ascii_uppercase()) {
        // As the Go agent answers it.
        Stream::plain(socket.clone(), limits.head_time).write_all(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        )?;
        return Err(io::Error::other("the client speaks HTTP in clear"));
    }
    let stream = Stream::tls(socket.clone(), tls.config.clone(), limits.head_time)?;
    let door = match tls.is_valid(stream.certificates()) {
        true => Door::All,
        false => Door::StatusOnly,
    };
    Ok((stream, door))
}

struct Connection<'a> {
    stream: Stream,
    door: Door,
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    id: u64,
    shared: &'a Shared,
    /// It has no place in the registry any more, and may send its last response.
    gave_way: bool,
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
            let request = self.head().and_then(|head| Ok((self.body(&head)?, head)));
            let (body, head) = match request {
                Ok(request) => request,
                Err(End::Quiet) => break,
                Err(End::Refused(refusal)) => return self.refuse(refusal),
            };
            if !self.shared.registry.working(self.id) || !self.exchange(&head, &body)? {
                break;
            }
        }
        Ok(())
    }

    /// The next request's head. Its bytes leave the buffer.
    fn head(&mut self) -> Result<Head, End> {
        let limits = &self.shared.limits;
        let mut scanned = 0;
        let mut begun = !self.buf.is_empty();
        self.stream
            .within(if begun { limits.head_time } else { limits.idle });
        let head = loop {
            if let Some(head) = guard::parse(&self.buf, &mut scanned, limits)? {
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

    /// The whole body. Memory grows with what has arrived, not with what was announced.
    fn body(&mut self, head: &Head) -> Result<Vec<u8>, End> {
        let length = head.content_length;
        let mut body: Vec<u8> = self.buf.drain(..length.min(self.buf.len())).collect();
        self.buf.shrink_to(CHUNK);
        self.stream.within(self.shared.limits.transfer);
        if head.expects_continue && body.len() < length {
            let sent = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            sent.and_then(|()| self.stream.flush())
                .map_err(|_| End::Quiet)?;
        }
        while body.len() < length {
            let mut chunk = [0; CHUNK];
            let wanted = CHUNK.min(length - body.len());
            match self.stream.read(&mut chunk[..wanted]) {
                Ok(n) if n > 0 => body.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::TimedOut => {
                    return Err(Refusal(408, "Request body took too long").into());
                }
                _ => return Err(End::Quiet),
            }
        }
        Ok(body)
    }

    /// One request through the door and its response to the client. True: the connection goes on. There is no
    /// deadline while the handler works.
    fn exchange(&mut self, head: &Head, body: &[u8]) -> io::Result<bool> {
        let started = Instant::now();
        let response = self.shared.doors.connect(self.door).and_then(|mut door| {
            door.write_all(&head.forward())?;
            door.write_all(body)?;
            // There is no second request. The one error is ENOTCONN, and then the read below tells more.
            let _ = door.shutdown(Shutdown::Write);
            let response = ResponseHead::read(&mut door, head.method == "HEAD")?;
            Ok((door, response))
        });
        let (mut door, response) = match response {
            Ok(response) => response,
            Err(e) => {
                doors::FAILURES.warn(|| format!("gate: a request got no response: {e}"));
                self.refuse(Refusal(503, "The agent cannot answer now; try again"))?;
                return Ok(false);
            }
        };
        debug!(
            "gate: {} {} {} -> {}, {} bytes, {} ms",
            self.peer,
            head.method,
            head.path_for_log(),
            response.status,
            response.body,
            started.elapsed().as_millis()
        );
        if response.strike {
            self.wait_for_failure();
        }
        let keep = head.keep_alive && !self.shared.registry.stopping() && !self.gave_way;
        let line = match (keep, head.http10) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        let out = response.with_line(line);
        if response.body <= self.shared.limits.response_buffer {
            self.send_buffered(out, &response, &mut door)?;
        } else {
            self.send_streamed(out, &response, &mut door)?;
        }
        Ok(keep)
    }

    /// Holds back the answer to a failed token; at the cap it is sent sooner, and the connection ends with it.
    fn wait_for_failure(&mut self) {
        let strikes = &self.shared.strikes;
        let delay = strikes.strike(self.peer.ip(), self.shared.free_strikes);
        if delay.is_zero() {
            return;
        }
        STRUCK.warn(|| {
            let ip = self.peer.ip();
            format!("gate: {ip} has sent several wrong tokens; answers to such are delayed (max-failed-tokens in [common])")
        });
        self.shared.registry.delayed(self.id);
        let until = Instant::now() + delay;
        while Instant::now() < until && self.shared.registry.is_live(self.id) {
            std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
        }
        self.gave_way = !self.shared.registry.is_live(self.id);
    }

    /// Takes the whole body from the door before the client gets the first byte: a slow client holds no worker.
    fn send_buffered(
        &mut self,
        mut out: Vec<u8>,
        response: &ResponseHead,
        door: &mut UnixStream,
    ) -> io::Result<()> {
        let head = out.len();
        out.reserve_exact(response.body);
        out.extend_from_slice(&response.rest);
        door.read_to_end(&mut out)?;
        if out.len() - head != response.body {
            return Err(cut_short());
        }
        self.stream.within(self.shared.limits.transfer);
        self.send(&out)
    }

    /// Passes a long body on as the client takes it; it comes from a thread of its own (see `doors`).
    fn send_streamed(
        &mut self,
        out: Vec<u8>,
        response: &ResponseHead,
        door: &mut UnixStream,
    ) -> io::Result<()> {
        self.stream.within(self.shared.limits.transfer);
        self.send(&out)?;
        self.send(&response.rest)?;
        let mut piece = vec![0; PIECE];
        let (mut sent, mut part) = (response.rest.len(), 0);
        while sent < response.body {
            let n = door.read(&mut piece)?;
            if n == 0 {
                return Err(cut_short());
            }
            self.send(&piece[..n])?;
            sent += n;
            part += n;
            if part >= PART {
                part = 0;
                self.stream.within(self.shared.limits.transfer);
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            if !self.gave_way && !self.shared.registry.sending(self.id) {
                return Err(io::Error::other(
                    "closed: the client did not read and others needed the place",
                ));
            }
            if i > 0 && (i * PIECE).is_multiple_of(PART) {
                self.stream.within(self.shared.limits.transfer);
            }
            self.stream.write_all(piece)?;
            self.stream.flush()?;
        }
        Ok(())
    }

    /// Answers with an error of the gate's own and ends the connection so that the client can read it: what the
    /// client still sends is taken for a moment, because closing on unread bytes resets the connection.
    fn refuse(&mut self, Refusal(status, text): Refusal) -> io::Result<()> {
        debug!("gate: {} refused: {status} {text}", self.peer);
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
