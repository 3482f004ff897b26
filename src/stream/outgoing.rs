//! The sending end.

use super::connection::{Connection, LAST_WORDS, is_timeout};
use super::frame::{Encoder, End};
use super::hello::{self, Answer, From, Greeting, MAGIC, Offer, VERSION};
use super::incoming::no_first_byte;
use super::spool::{Next, Spool};
use super::{HELLO, PIPE, Settings};
use crate::error::{Error, PeerFault, Result};
use crate::process::Cancel;
use crate::sys::net::wait_readable;
use crate::sys::pipe;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a cancellation and the timers are looked at while the tool is silent.
const LOOK: Duration = Duration::from_millis(200);

/// The stream. Dropped before [`Outgoing::finish`], it is reset: the receiver sees a failure.
pub struct Outgoing {
    connection: Connection,
    settings: Settings,
    begin: Instant,
    sent: (u64, u64),
    /// A frame has begun and its end is not written.
    in_frame: bool,
    /// `None`: a bare stream.
    session: Option<Session>,
}

struct Session {
    encoder: Encoder,
    /// Ours and the listener's nonce.
    nonces: (String, String),
    /// The listener wants to hear of us this often.
    alive: Duration,
}

impl Outgoing {
    /// Connects to the listener of `host` and says hello. `notes` is what the method there wants to know of this host.
    ///
    /// # Errors
    /// Cancelled; nobody listens, another seed or secret, TLS, or a listener of another kind, with the settings.
    pub fn connect(host: &str, settings: Settings, notes: &str, cancel: &Cancel) -> Result<Self> {
        if settings.tls.use_ssl {
            crate::tls::stream_client(&settings.tls)?;
        }
        let at = format!("target {host}, seed port {}", settings.port);
        let socket = dial(host, &settings).map_err(|e| e.context(&at))?;
        cancel.check()?;
        let mut connection = Connection::connected(&socket, host, &settings)?;
        connection.watch(cancel)?;
        let outcome = greet(connection, settings, notes);
        outcome.map_err(|e| match cancel.is_cancelled() {
            true => Error::cancelled(),
            false => e.context(&at),
        })
    }

    /// True if the other end is a Go agent or socat: nobody will say that the copy is whole.
    pub fn is_raw(&self) -> bool {
        self.session.is_none()
    }

    /// Tells the receiver that this end is alive, before anything is sent; `last` is when it was told so last.
    ///
    /// # Errors
    /// The connection's.
    pub fn keep_alive(&mut self, last: &mut Instant) -> Result<()> {
        if let Some(session) = &self.session
            && last.elapsed() >= session.alive
        {
            let told = session.encoder.alive(&mut self.connection);
            told.map_err(|e| Error::io("seed stream", &e))?;
            *last = Instant::now();
        }
        Ok(())
    }

    /// Passes everything of `source` on. `progress` is told the bytes so far. Returns their number at the end of `source`.
    ///
    /// # Errors
    /// Cancelled; the first cause, which may be the receiver's own words.
    pub fn send<R: Read + AsFd + Send + 'static>(
        &mut self,
        source: R,
        cancel: &Cancel,
        progress: impl FnMut(u64),
    ) -> Result<u64> {
        let spool = Spool::new(std::env::temp_dir());
        self.send_through(&spool, source, || {}, cancel, progress)
    }

    /// The same through a queue that may be released meanwhile: from then on `source` is read as fast as it comes. `end_tool` is
    /// called if there is no room for that.
    ///
    /// # Errors
    /// Those of [`Outgoing::send`], and that there is no room.
    pub fn send_through<R: Read + AsFd + Send + 'static>(
        &mut self,
        spool: &Spool,
        source: R,
        end_tool: impl FnOnce() + Send + 'static,
        cancel: &Cancel,
        progress: impl FnMut(u64),
    ) -> Result<u64> {
        // No pipe, or none of this size for this user: it goes on as it is.
        let _ = pipe::enlarge(source.as_fd(), PIPE);
        let set = self.connection.write_within(self.settings.idle);
        set.map_err(|e| Error::io("seed stream", &e))?;
        let cut = self.connection.breaker();
        let cut = cut.map_err(|e| Error::io("seed stream", &e))?;
        let full = move || {
            end_tool();
            // A receiver that takes nothing would hide the cause until its timer ends.
            std::thread::sleep(LAST_WORDS);
            cut();
        };
        spool.fill_from(source, full)?;
        let sent = self.drain(spool, cancel, progress);
        spool.abandon();
        if sent.is_err() && cancel.is_cancelled() {
            self.say_failed(&cancel.reason(), true);
        } else if sent.is_err()
            && let Some(text) = spool.full()
        {
            self.say_failed(&text, false);
            return Err(Error::permanent(text));
        }
        sent
    }

    /// Tells the receiver why there is no more, unless a frame is half sent. `aborted`: by the user.
    fn say_failed(&mut self, reason: &str, aborted: bool) {
        let Some(session) = self.session.as_ref().filter(|_| !self.in_frame) else {
            return; // the reset says that there is no more
        };
        let end = End {
            bytes: self.sent.0,
            frames: self.sent.1,
            ok: false,
            error: reason.into(),
            aborted,
        };
        let told = self
            .connection
            .write_within(LAST_WORDS)
            .and_then(|()| session.encoder.end(&mut self.connection, &end))
            .and_then(|()| self.connection.drain_writes(LAST_WORDS));
        if let Err(e) = told {
            log::debug!("seed stream: {e}");
        }
    }

    fn drain(
        &mut self,
        spool: &Spool,
        cancel: &Cancel,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        let begin = Instant::now();
        let mut heard = Instant::now();
        loop {
            cancel.check()?;
            if !self.is_raw() {
                let polled = wait_readable(&[self.connection.fd()], Some(Duration::ZERO));
                let ready = polled.map_err(|e| Error::io("seed stream", &e))?;
                if ready[0] {
                    return Err(self.cut_short(cancel, None));
                }
            }
            let block = match spool.next(LOOK)? {
                Next::Block(block) => block,
                Next::End => return Ok(self.sent.0),
                Next::Nothing => {
                    if self.sent.0 == 0 && self.begin.elapsed() >= self.settings.first_byte {
                        return Err(no_first_byte("the tool", self.settings.first_byte));
                    }
                    if let Some(session) = &self.session
                        && heard.elapsed() >= session.alive
                    {
                        let told = session.encoder.alive(&mut self.connection);
                        told.map_err(|e| self.cut_short(cancel, Some(&e)))?;
                        heard = Instant::now();
                    }
                    continue;
                }
            };
            self.in_frame = true;
            let sent = match &mut self.session {
                Some(session) => session.encoder.data(&mut self.connection, &block),
                None => self.connection.write_all(&block),
            };
            sent.map_err(|e| self.cut_short(cancel, Some(&e)))?;
            self.in_frame = false;
            self.sent = (self.sent.0 + block.len() as u64, self.sent.1 + 1);
            heard = Instant::now();
            progress(self.sent.0);
            self.slow_down(begin, cancel);
        }
    }

    /// `seed-rate-limit`: as much time as the bytes so far should have taken.
    fn slow_down(&self, begin: Instant, cancel: &Cancel) {
        if self.settings.rate_limit == 0 {
            return;
        }
        let due = Duration::from_secs_f64(self.sent.0 as f64 / self.settings.rate_limit as f64);
        // A tool that was slow for a while must not make a burst of the rest: what was not used is lost.
        if let Some(early) = due.checked_sub(begin.elapsed()) {
            cancel.sleep(early.min(self.settings.idle / 3));
        }
    }

    /// Says how the tool ended. With a good verdict Ok means: the receiver has said that the copy is whole and on disk. There
    /// is no limit on its work after the last byte. With a bad one the receiver is told why, and the same is returned.
    ///
    /// # Errors
    /// Cancelled; the verdict; the receiver's own words.
    pub fn finish(mut self, verdict: std::result::Result<(), &str>, cancel: &Cancel) -> Result<()> {
        let Some(session) = &self.session else {
            return match verdict {
                Ok(()) => {
                    let closed = self.connection.close_write();
                    closed.map_err(|e| Error::io("seed stream", &e))?;
                    self.connection.close(Duration::from_secs(3600));
                    Ok(())
                }
                Err(text) => Err(Error::permanent(text)), // and a reset
            };
        };
        let end = End {
            bytes: self.sent.0,
            frames: self.sent.1,
            ok: verdict.is_ok(),
            error: verdict.err().unwrap_or_default().to_string(),
            aborted: false,
        };
        let told = session.encoder.end(&mut self.connection, &end);
        if let Err(text) = verdict {
            if told.is_ok() {
                self.connection.close(Duration::from_secs(3));
            }
            return Err(Error::permanent(text));
        }
        told.map_err(|e| self.cut_short(cancel, Some(&e)))?;
        let answer = self
            .connection
            .read_within(None)
            .map_err(Unread::from)
            .and_then(|()| self.answer());
        match answer {
            Ok(a) if a.ok => Ok(()),
            Ok(a) => Err(of_target(&a)),
            Err(_) if cancel.is_cancelled() => Err(Error::cancelled()),
            Err(e) => Err(Error::peer(
                PeerFault::Closed,
                format!("the target has not acknowledged the copy: {e}"),
            )),
        }
    }

    fn answer(&mut self) -> std::result::Result<Answer, Unread> {
        let Some(session) = &self.session else {
            return Err(io::Error::other("a bare stream has no answer").into());
        };
        let (own, theirs) = &session.nonces;
        let answer = read_answer(&mut self.connection, &self.settings, own, theirs)?;
        match answer.last {
            true => Ok(answer),
            false => Err(hello::invalid("an answer at the wrong time".into()).into()),
        }
    }

    /// Why no more can be sent. A receiver that fails says why before it ends the connection.
    fn cut_short(&mut self, cancel: &Cancel, e: Option<&io::Error>) -> Error {
        if cancel.is_cancelled() {
            return Error::cancelled();
        }
        if let Some(e) = e.filter(|e| is_timeout(e)) {
            log::debug!("seed stream: {e}");
            let text = format!(
                "{} took no byte for {} s after {} bytes: the target or the network is dead (common.seed-idle-timeout)",
                self.connection.peer,
                self.settings.idle.as_secs_f32(),
                self.sent.0
            );
            return Error::peer(PeerFault::Timeout, text);
        }
        let answer = self
            .connection
            .read_within(Some(HELLO))
            .map_err(Unread::from)
            .and_then(|()| self.answer());
        let answer = match answer {
            Ok(a) if !a.ok => return of_target(&a),
            Ok(_) => {
                let text = "the target acknowledged the copy before its end";
                return Error::peer(PeerFault::Corrupt, text);
            }
            Err(answer) => answer,
        };
        let cause = e.map_or_else(|| answer.to_string(), io::Error::to_string);
        let text = format!(
            "the connection to {} broke after {} bytes: {cause}",
            self.connection.peer, self.sent.0
        );
        Error::peer(PeerFault::Closed, text)
    }
}

/// The receiver's own words.
fn of_target(answer: &Answer) -> Error {
    let reason = &answer.reason;
    if answer.aborted {
        Error::peer(
            PeerFault::Aborted,
            format!("aborted on the target: {reason}"),
        )
    } else {
        Error::peer(PeerFault::Rejected, format!("the target: {reason}"))
    }
}

fn dial(host: &str, settings: &Settings) -> Result<TcpStream> {
    let found = (host, settings.port).to_socket_addrs();
    let found = found.map_err(|e| Error::io("cannot resolve the name", &e))?;
    let mut last = Error::peer(PeerFault::Closed, "the name has no address");
    for address in found {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(e) => {
                let text = format!(
                    "{address}: {e}; is Prepare of the target done, is common.seed-port the same there, and does a firewall let it \
                     through?"
                );
                last = Error::peer(PeerFault::Closed, text);
            }
        }
    }
    Err(last)
}

/// Why the listener's answer cannot be used.
enum Unread {
    /// The connection; InvalidData for what is malformed.
    Io(io::Error),
    Secret,
}

impl std::convert::From<io::Error> for Unread {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Secret => f.write_str(hello::OTHER_SECRET),
        }
    }
}

fn read_answer(
    connection: &mut Connection,
    settings: &Settings,
    own: &str,
    theirs: &str,
) -> std::result::Result<Answer, Unread> {
    let mut magic = [0; MAGIC.len()];
    connection.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(hello::invalid("the target uses another protocol".into()).into());
    }
    let (body, proof) = hello::read(connection)?;
    if !hello::proven(&settings.secret, From::Listener, own, theirs, &body, &proof) {
        return Err(Unread::Secret);
    }
    Ok(hello::parse(&body)?)
}

fn greet(mut connection: Connection, settings: Settings, notes: &str) -> Result<Outgoing> {
    let settings_tls = settings.tls.use_ssl;
    let fail = |e: &io::Error| match e.kind() {
        _ if is_timeout(e) => {
            Error::peer(PeerFault::Timeout, "no answer to the handshake within 5 s")
        }
        // So rustls reports certificates, and peers without TLS.
        ErrorKind::InvalidData if settings_tls => {
            let text = format!("TLS: {e} (socat-ssl-cert-file, socat-ssl-ca-file)");
            Error::peer(PeerFault::Handshake, text)
        }
        ErrorKind::InvalidData => Error::peer(PeerFault::Corrupt, format!("handshake: {e}")),
        _ => Error::peer(PeerFault::Closed, format!("handshake: {e}")),
    };
    connection.read_within(Some(HELLO)).map_err(|e| fail(&e))?;
    connection.write_within(HELLO).map_err(|e| fail(&e))?;
    // A listener that takes bare streams too must not speak to a bare sender, which never reads and would reset the
    // connection at its end for that. So who cannot be one begins.
    let begins = why_not_bare(&settings).is_some();
    if begins {
        let begun = connection
            .write_all(&MAGIC)
            .and_then(|()| connection.flush());
        begun.map_err(|e| fail(&e))?;
    }
    let mut magic = [0; MAGIC.len()];
    match connection.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Ok(()) => {
            let text = "something else listens there";
            return Err(Error::peer(PeerFault::Handshake, text));
        }
        Err(e) if is_timeout(&e) => return bare(connection, settings),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            let text = "handshake: the target closed the connection: its log says why (does it have socat-use-ssl = true, and this \
                        host not?)";
            return Err(Error::peer(PeerFault::Closed, text));
        }
        Err(e) => return Err(fail(&e)),
    }
    let (body, _) = hello::read(&mut connection).map_err(|e| fail(&e))?;
    let greeting: Greeting = hello::parse(&body).map_err(|e| fail(&e))?;
    if greeting.version != VERSION {
        let text = format!(
            "the target uses version {} of the seed stream and this agent {VERSION}: use the same release on both hosts",
            greeting.version
        );
        return Err(Error::peer(PeerFault::Handshake, text));
    }
    if greeting.secret && settings.secret.is_empty() {
        let text = "the target wants a proof of common.seed-secret, and none is set here";
        return Err(Error::peer(PeerFault::Secret, text));
    }
    let own = hello::nonce()?;
    let offer = Offer {
        version: VERSION,
        seed: settings.seed,
        method: settings.method.clone(),
        compression: hello::word(settings.compression).into(),
        nonce: own.clone(),
        notes: notes.into(),
    };
    let body = hello::body(&offer)?;
    let proof = hello::prove(&settings.secret, From::Sender, &greeting.nonce, &own, &body);
    let written = match begins {
        true => hello::write_rest(&mut connection, &body, &proof),
        false => hello::write(&mut connection, &body, &proof),
    };
    written.map_err(|e| fail(&e))?;
    let answer = read_answer(&mut connection, &settings, &own, &greeting.nonce);
    let answer = answer.map_err(|e| match e {
        Unread::Secret => Error::peer(PeerFault::Secret, hello::OTHER_SECRET),
        Unread::Io(e) if e.kind() == ErrorKind::InvalidData => {
            Error::peer(PeerFault::Handshake, e.to_string())
        }
        Unread::Io(e) => fail(&e),
    })?;
    if !answer.ok {
        return Err(Error::peer(PeerFault::Rejected, answer.reason));
    }
    // It may have to make room first, which takes as long as it takes.
    let ready = connection
        .read_within(None)
        .map_err(Unread::from)
        .and_then(|()| read_answer(&mut connection, &settings, &own, &greeting.nonce));
    match ready {
        Ok(ready) if ready.ok => {}
        Ok(ready) => return Err(of_target(&ready)),
        Err(e) => {
            let text = format!("the target was not ready: {e}");
            return Err(Error::peer(PeerFault::Closed, text));
        }
    }
    let encoder = Encoder::new(settings.compression, !connection.sealed());
    let alive = Duration::from_millis(greeting.idle_ms).min(settings.idle) / 3;
    Ok(Outgoing {
        session: Some(Session {
            encoder: encoder.map_err(|e| Error::io("seed stream", &e))?,
            nonces: (own, greeting.nonce),
            alive,
        }),
        connection,
        settings,
        begin: Instant::now(),
        sent: (0, 0),
        in_frame: false,
    })
}

fn why_not_bare(settings: &Settings) -> Option<&'static str> {
    if !settings.accept_raw {
        Some("with common.accept-raw-streams = true")
    } else if !settings.secret.is_empty() {
        Some("without common.seed-secret, which nobody would look at")
    } else if settings.tls.use_ssl {
        Some("without socat-use-ssl")
    } else {
        None
    }
}

/// The listener is a Go agent or socat, which never speak.
fn bare(connection: Connection, settings: Settings) -> Result<Outgoing> {
    if let Some(only) = why_not_bare(&settings) {
        let text = format!(
            "the target sent no handshake within 5 s: it is not an agent of this kind; a bare stream is sent only {only}"
        );
        return Err(Error::peer(PeerFault::Handshake, text));
    }
    log::warn!(
        "seed stream: bare, as the Go agents do: no checksums, and nobody will say that the copy is whole"
    );
    Ok(Outgoing {
        connection,
        settings,
        begin: Instant::now(),
        sent: (0, 0),
        in_frame: false,
        session: None,
    })
}
