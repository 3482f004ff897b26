//! The sending end.

use super::connection::{CANCEL_NOTICE_TIMEOUT, Connection, WHAT, is_timeout};
use super::frame::{Encoder, End};
use super::hello::{self, Answer, Greeting, Keys, MAGIC, OTHER_SECRET, Offer, Prover, VERSION};
use super::spool::{Next, Spool};
use super::{HANDSHAKE_TIMEOUT, PIPE_BYTES, Pollable, Settings, no_first_byte};
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::sys::net::wait_readable;
use crate::sys::pipe;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long connecting to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a cancellation and the timers are polled while the source is silent.
const SOURCE_POLL: Duration = Duration::from_millis(200);
/// How long the receiver may take to close the connection after it was sent a failure, and after the end of a raw stream.
const CLOSE_FAILED: Duration = Duration::from_secs(3);
const CLOSE_RAW: Duration = Duration::from_secs(3600);

/// The stream. Dropped before [`Outgoing::finish`], it is reset: the receiver sees a failure.
pub struct Outgoing {
    connection: Connection,
    settings: Settings,
    begin: Instant,
    bytes: u64,
    frames: u64,
    /// A frame has begun and its end is not written.
    in_frame: bool,
    /// `None`: a raw stream.
    session: Option<Session>,
}

struct Session {
    encoder: Encoder,
    keys: Keys,
    /// The longest time without a frame.
    alive: Duration,
}

impl Outgoing {
    /// Connects to the listener of `host` and exchanges hellos. `notes` is what the method there needs to know of this host.
    ///
    /// # Errors
    /// Cancelled; nothing listens, another seed or secret, TLS, or a listener of another kind, with the settings.
    pub fn connect(host: &str, settings: Settings, notes: &str, cancel: &Cancel) -> Result<Self> {
        if settings.tls.use_ssl {
            crate::tls::stream_client(&settings.tls)?;
        }
        let at = format!("target {host}, seed port {}", settings.port);
        let socket = dial(host, &settings).map_err(|e| e.context(&at))?;
        cancel.check()?;
        let mut connection = Connection::connected(&socket, host, &settings)?;
        connection.watch(cancel)?;
        match handshake(&mut connection, &settings, notes) {
            Ok(session) => Ok(Self {
                connection,
                settings,
                begin: Instant::now(),
                bytes: 0,
                frames: 0,
                in_frame: false,
                session,
            }),
            Err(_) if cancel.is_cancelled() => Err(Error::cancelled()),
            Err(e) => Err(e.context(&at)),
        }
    }

    /// True if the other end is a Go agent or socat: nothing confirms that the copy is complete.
    pub(crate) fn is_raw(&self) -> bool {
        self.session.is_none()
    }

    /// Lets the receiver know that this end works, before anything is sent; `last` is when it was sent the last frame.
    pub(crate) fn keep_alive(&mut self, last: &mut Instant) -> Result<()> {
        self.send_alive(last).on(WHAT)
    }

    fn send_alive(&mut self, last: &mut Instant) -> io::Result<()> {
        if let Some(session) = &self.session
            && last.elapsed() >= session.alive
        {
            session.encoder.alive(&mut self.connection)?;
            *last = Instant::now();
        }
        Ok(())
    }

    /// Sends everything of `source`. `progress` receives the bytes so far. Returns their number at the end of `source`.
    ///
    /// # Errors
    /// Cancelled; the first cause, which may be the receiver's.
    pub fn send(
        &mut self,
        source: impl Read + Pollable + Send + 'static,
        cancel: &Cancel,
        progress: impl FnMut(u64),
    ) -> Result<u64> {
        let spool = Spool::new(std::env::temp_dir());
        self.send_through(&spool, source, || {}, cancel, progress)
    }

    /// The same through a queue that may be released meanwhile: from then on `source` is read as fast as it comes. `end_source` is
    /// called if there is no room for that.
    pub(crate) fn send_through(
        &mut self,
        spool: &Spool,
        source: impl Read + Pollable + Send + 'static,
        end_source: impl FnOnce() + Send + 'static,
        cancel: &Cancel,
        progress: impl FnMut(u64),
    ) -> Result<u64> {
        if let Some(fd) = source.pollable() {
            let _ = pipe::enlarge(fd, PIPE_BYTES); // not a pipe, or not permitted: it works as it is
        }
        self.connection.write_within(self.settings.idle)?;
        let break_connection = self.connection.breaker()?;
        let full = move || {
            end_source();
            // A receiver that takes nothing would hide the cause until its timer ends.
            std::thread::sleep(CANCEL_NOTICE_TIMEOUT);
            break_connection();
        };
        spool.fill_from(source, full)?;
        let sent = self.drain(spool, cancel, progress);
        spool.abandon();
        if sent.is_err() && cancel.is_cancelled() {
            self.send_failure(&cancel.reason(), true);
        } else if sent.is_err()
            && let Some(text) = spool.full()
        {
            self.send_failure(&text, false);
            return Err(Error::permanent(text));
        }
        sent
    }

    fn end(&self, error: Option<&str>, aborted: bool) -> End {
        End {
            bytes: self.bytes,
            frames: self.frames,
            ok: error.is_none(),
            error: error.unwrap_or_default().to_string(),
            aborted,
        }
    }

    /// Lets the receiver know why there is no more, unless a frame is half sent. `aborted`: by the user.
    fn send_failure(&mut self, reason: &str, aborted: bool) {
        let end = self.end(Some(reason), aborted);
        let Some(session) = self.session.as_ref().filter(|_| !self.in_frame) else {
            return; // it sees the reset
        };
        let connection = &mut self.connection;
        let sent = connection.write_within(CANCEL_NOTICE_TIMEOUT);
        let sent = sent.and_then(|()| session.encoder.end(connection, &end).on(WHAT));
        if let Err(e) = sent.and_then(|()| connection.drain_writes(CANCEL_NOTICE_TIMEOUT)) {
            log::debug!("{e}");
        }
    }

    fn drain(
        &mut self,
        spool: &Spool,
        cancel: &Cancel,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        let begin = Instant::now();
        let mut last = begin;
        loop {
            cancel.check()?;
            if !self.is_raw() {
                let polled = wait_readable(&[self.connection.fd()], Some(Duration::ZERO));
                if polled.on(WHAT)?[0] {
                    return Err(self.broken(cancel, None));
                }
            }
            let block = match spool.next(SOURCE_POLL)? {
                Next::Block(block) => block,
                Next::End => return Ok(self.bytes),
                Next::Nothing => {
                    if self.bytes == 0 && self.begin.elapsed() >= self.settings.first_byte {
                        return Err(no_first_byte("the tool", self.settings.first_byte));
                    }
                    self.send_alive(&mut last)
                        .map_err(|e| self.broken(cancel, Some(&e)))?;
                    continue;
                }
            };
            self.in_frame = true;
            let sent = match &mut self.session {
                Some(session) => session.encoder.data(&mut self.connection, &block),
                None => self.connection.write_all(&block),
            };
            sent.map_err(|e| self.broken(cancel, Some(&e)))?;
            self.in_frame = false;
            self.bytes += block.len() as u64;
            self.frames += 1;
            last = Instant::now();
            progress(self.bytes);
            self.slow_down(begin, cancel);
        }
    }

    /// `seed-rate-limit`: as much time as the bytes so far should have taken.
    fn slow_down(&self, begin: Instant, cancel: &Cancel) {
        if self.settings.rate_limit == 0 {
            return;
        }
        let due = Duration::from_secs_f64(self.bytes as f64 / self.settings.rate_limit as f64);
        // A tool that was slow for a while must not make a burst of the rest: what was not used is lost.
        if let Some(early) = due.checked_sub(begin.elapsed()) {
            cancel.sleep(early.min(self.settings.idle / 3));
        }
    }

    /// Reports how the tool ended. With a good verdict Ok means: the receiver has acknowledged that the copy is complete and on disk.
    /// There is no limit on its work after the last byte. With a bad one the receiver is sent the reason, and the same is returned.
    ///
    /// # Errors
    /// Cancelled; the verdict; the receiver's reason.
    pub fn finish(mut self, verdict: std::result::Result<(), &str>, cancel: &Cancel) -> Result<()> {
        let end = self.end(verdict.err(), false);
        let sent = match (&self.session, verdict) {
            (Some(session), _) => session.encoder.end(&mut self.connection, &end),
            (None, Ok(())) => {
                self.connection.close_write()?;
                self.connection.close(CLOSE_RAW);
                return Ok(());
            }
            (None, Err(text)) => return Err(Error::permanent(text)), // and a reset
        };
        if let Err(text) = verdict {
            if sent.is_ok() {
                self.connection.close(CLOSE_FAILED);
            }
            return Err(Error::permanent(text));
        }
        sent.map_err(|e| self.broken(cancel, Some(&e)))?;
        match self.last_answer(None) {
            Ok(answer) if answer.ok => Ok(()),
            Ok(answer) => Err(of_target(&answer)),
            Err(_) if cancel.is_cancelled() => Err(Error::cancelled()),
            Err(e) => Err(e.context("the target has not acknowledged the copy")),
        }
    }

    fn last_answer(&mut self, limit: Option<Duration>) -> Result<Answer> {
        let Some(session) = &self.session else {
            return Err(Error::transient("a raw stream has no answer"));
        };
        let answer = read_answer(&mut self.connection, &session.keys, limit)?;
        if !answer.last {
            return Err(Error::transient("an answer at the wrong time"));
        }
        Ok(answer)
    }

    /// Why no more can be sent. A receiver that fails sends the reason before it ends the connection.
    fn broken(&mut self, cancel: &Cancel, e: Option<&io::Error>) -> Error {
        if cancel.is_cancelled() {
            return Error::cancelled();
        }
        let (peer, bytes) = (self.connection.peer, self.bytes);
        if let Some(e) = e.filter(|e| is_timeout(e)) {
            log::debug!("seed stream: {e}");
            let idle = self.settings.idle.as_secs_f32();
            return Error::transient(format!(
                "{peer} accepted no data for {idle} s after {bytes} bytes: the target or the network hangs or is down (common.seed-idle-timeout)"
            ));
        }
        let cause = match self.last_answer(Some(HANDSHAKE_TIMEOUT)) {
            Ok(answer) if !answer.ok => return of_target(&answer),
            Ok(_) => return Error::transient("the target acknowledged the copy before its end"),
            Err(answer) => e.map_or_else(|| answer.to_string(), io::Error::to_string),
        };
        Error::transient(format!(
            "the connection to {peer} broke after {bytes} bytes: {cause}"
        ))
    }
}

fn of_target(answer: &Answer) -> Error {
    let reason = &answer.reason;
    if answer.aborted {
        Error::transient(format!("aborted on the target: {reason}"))
    } else {
        Error::permanent(format!("the target: {reason}"))
    }
}

fn dial(host: &str, settings: &Settings) -> Result<TcpStream> {
    let found = (host, settings.port).to_socket_addrs();
    let mut last = Error::transient("the name has no address");
    for address in found.on("cannot resolve the name")? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(e) => {
                last = Error::transient(format!(
                    "{address}: {e}; check that the target listens (Prepare is completed there, or receive-mysql-seed-data was \
                     called), common.seed-port is the same there, and no firewall blocks it"
                ));
            }
        }
    }
    Err(last)
}

fn failed(e: io::Error) -> Error {
    let of_tls = e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_timeout(&e) {
        Error::transient("no answer to the handshake within 5 s")
    } else if of_tls {
        // Certificates, and peers without TLS.
        Error::permanent(format!("TLS: {e} (socat-ssl-cert-file, socat-ssl-ca-file)"))
    } else {
        Error::transient(format!("handshake: {e}"))
    }
}

/// The listener's answer, its proof checked. `limit` of its time; `None`: without limit.
fn read_answer(
    connection: &mut Connection,
    keys: &Keys,
    limit: Option<Duration>,
) -> Result<Answer> {
    connection.read_within(limit)?;
    let mut magic = [0; MAGIC.len()];
    connection.read_exact(&mut magic).map_err(failed)?;
    if magic != MAGIC {
        return Err(Error::permanent("the target uses another protocol"));
    }
    let (body, proof) = hello::read(connection).map_err(failed)?;
    if !keys.is_proven(Prover::Listener, &body, &proof) {
        return Err(Error::permanent(OTHER_SECRET));
    }
    hello::parse(&body).map_err(failed)
}

/// `None`: the listener is one of raw streams.
fn handshake(
    connection: &mut Connection,
    settings: &Settings,
    notes: &str,
) -> Result<Option<Session>> {
    // A listener that takes raw streams too must not send anything to a raw sender, which never reads and would reset the
    // connection at its end for that. So an end that cannot be one begins.
    let begins = why_not_raw(settings).is_some();
    if begins {
        connection.write_all(&MAGIC).map_err(failed)?;
        connection.flush().map_err(failed)?;
    }
    let Some(greeting) = read_greeting(connection, settings)? else {
        return Ok(None);
    };
    let keys = Keys {
        secret: settings.secret.clone(),
        sender: hello::nonce()?,
        listener: greeting.nonce,
    };
    let offer = Offer {
        version: VERSION,
        seed: settings.seed,
        method: settings.method.clone(),
        compression: hello::word(settings.compression).into(),
        nonce: keys.sender.clone(),
        notes: notes.into(),
    };
    let magic = if begins { &[][..] } else { &MAGIC };
    let sent = keys.write(connection, magic, Prover::Sender, &offer);
    sent.map_err(failed)?;
    let answer = read_answer(connection, &keys, Some(HANDSHAKE_TIMEOUT))?;
    if !answer.ok {
        return Err(Error::permanent(answer.reason));
    }
    // It may have to make room first, which takes as long as it takes.
    let ready = read_answer(connection, &keys, None);
    let ready = ready.map_err(|e| e.context("the target was not ready"))?;
    if !ready.ok {
        return Err(of_target(&ready));
    }
    let encoder = Encoder::new(settings.compression, !connection.has_tls());
    Ok(Some(Session {
        encoder: encoder.on(WHAT)?,
        keys,
        alive: Duration::from_millis(greeting.idle_ms).min(settings.idle) / 3,
    }))
}

/// The listener's hello; `None` if it sends none and this end may send a raw stream.
fn read_greeting(connection: &mut Connection, settings: &Settings) -> Result<Option<Greeting>> {
    let mut magic = [0; MAGIC.len()];
    match connection.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Ok(()) => return Err(Error::permanent("something else listens there")),
        // A Go agent or socat never sends anything.
        Err(e) if is_timeout(&e) => {
            if let Some(only) = why_not_raw(settings) {
                return Err(Error::permanent(format!(
                    "the target sent no handshake within 5 s: it is not an agent of this kind; a raw stream is sent only {only}"
                )));
            }
            log::warn!(
                "seed stream: raw, as the Go agents send it: no checksums, and nothing confirms that the copy is complete"
            );
            return Ok(None);
        }
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            return Err(Error::transient(
                "handshake: the target closed the connection: its log says why (does it have socat-use-ssl = true, and this host \
                 not?)",
            ));
        }
        Err(e) => return Err(failed(e)),
    }
    let (body, _) = hello::read(connection).map_err(failed)?;
    let greeting: Greeting = hello::parse(&body).map_err(failed)?;
    if greeting.version != VERSION {
        return Err(Error::permanent(format!(
            "the target uses version {} of the seed stream and this agent {VERSION}: use the same release on both hosts",
            greeting.version
        )));
    }
    if greeting.secret && settings.secret.is_empty() {
        let text = "the target requires common.seed-secret, and none is set here: set it here too";
        return Err(Error::permanent(text));
    }
    Ok(Some(greeting))
}

/// Why this end may not send a raw stream.
fn why_not_raw(settings: &Settings) -> Option<&'static str> {
    if !settings.accept_raw {
        Some("with common.accept-raw-streams = true")
    } else if !settings.secret.is_empty() {
        Some("without common.seed-secret, which a raw stream does not prove")
    } else if settings.tls.use_ssl {
        Some("without socat-use-ssl")
    } else {
        None
    }
}
