//! The listening end: waits for the true sender, and turns everybody else away while it does.

use super::connection::Connection;
use super::hello::{self, Answer, From, Greeting, MAGIC, Offer, VERSION};
use super::incoming::{Incoming, Kind};
use super::{HELLO, Settings};
use crate::error::{Error, ListenError, ListenOption, PeerFault, Result};
use crate::process::Cancel;
use crate::sys::net::{listen, wait_readable};
use crate::sys::thread::spawn;
use crossbeam_channel::{Sender, unbounded};
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Newcomers that may be at their hello at a time; the oldest gives way.
pub(super) const NEWCOMERS: usize = 32;
/// How often the end of the wait is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// At most one line a time of this in the log about strangers.
const SELDOM: Duration = Duration::from_secs(1);
/// How long a listener that takes bare streams waits for a bare sender's first byte before it speaks itself.
const SILENCE: Duration = Duration::from_secs(3);
/// First bytes of what a Go agent or socat sends: an xbstream, or a tar that is packed by gzip.
const XBSTREAM: &[u8] = b"XBSTCK01";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The port, bound. Dropped, it is free again.
pub struct Listener {
    /// One, or two where the families do not share one.
    sockets: Vec<TcpListener>,
    settings: Arc<Settings>,
}

/// A connection that has not said its hello yet.
struct Newcomer {
    since: Instant,
    socket: TcpStream,
}

impl Listener {
    /// Binds the port, and checks the TLS files.
    ///
    /// # Errors
    /// Permanent, with the settings: a port in use, an address that is not here, a bad certificate.
    pub fn bind(settings: Settings) -> Result<Self> {
        if settings.tls.use_ssl {
            crate::tls::stream_server(&settings.tls)?;
        }
        let port = settings.port;
        let fail = |e: io::Error| {
            Error::Listen(Box::new(ListenError {
                at: format!("seed port {port}"),
                kind: e.kind(),
                text: e.to_string(),
                set_by: ListenOption::SeedPort,
            }))
        };
        let sockets = listen(SocketAddr::new(settings.listen, port)).map_err(fail)?;
        Ok(Self {
            sockets,
            settings: Arc::new(settings),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.sockets[0].local_addr();
        address.map_err(|e| Error::io("seed port", &e))
    }

    /// Waits for the true sender, without limit. Everybody else is turned away with a line in the log, and nobody who is
    /// silent or slow is in anybody's way.
    ///
    /// # Errors
    /// Cancelled; the socket's own.
    pub fn accept(&self, cancel: &Cancel) -> Result<Incoming> {
        let (found, true_one) = unbounded();
        let mut newcomers: Vec<Newcomer> = Vec::new();
        let mut told: Option<Instant> = None;
        // A bare sender says nothing before its tool does.
        let limit = match self.settings.accept_raw {
            true => HELLO.max(self.settings.first_byte),
            false => HELLO,
        };
        let result = loop {
            if let Err(e) = cancel.check() {
                break Err(e);
            }
            for outcome in true_one.try_iter().collect::<Vec<Result<Incoming>>>() {
                match outcome {
                    Ok(incoming) => {
                        end(&newcomers, Some(incoming.peer()));
                        return Ok(incoming);
                    }
                    Err(e) if told.is_none_or(|t| t.elapsed() >= SELDOM) => {
                        told = Some(Instant::now());
                        log::warn!("seed port: turned away: {e}");
                    }
                    Err(e) => log::debug!("seed port: turned away: {e}"),
                }
            }
            let late = |n: &Newcomer| n.since.elapsed() > limit;
            let late_ones = newcomers.iter().take_while(|n| late(n)).count();
            let crowd = newcomers.len().saturating_sub(NEWCOMERS);
            end(&newcomers[..late_ones.max(crowd)], None);
            newcomers.drain(..late_ones.max(crowd));
            let all: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
            let ready = match wait_readable(&all, Some(LOOK)) {
                Ok(ready) => ready,
                Err(e) => break Err(Error::io("seed port", &e)),
            };
            for (listener, _) in self.sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
                match listener.accept() {
                    Ok((socket, peer)) => match self.greet(socket, peer, limit, &found) {
                        Ok(socket) => newcomers.push(Newcomer {
                            since: Instant::now(),
                            socket,
                        }),
                        Err(e) => log::warn!("seed port: {peer}: {e}"),
                    },
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => {
                        log::debug!("seed port: {e}"); // the peer has gone, or descriptors are short for a moment
                        cancel.sleep(LOOK);
                    }
                }
            }
        };
        end(&newcomers, None);
        result
    }

    /// A newcomer's hello, in a thread of its own. Returns a handle by which it can be ended.
    fn greet(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        limit: Duration,
        found: &Sender<Result<Incoming>>,
    ) -> Result<TcpStream> {
        if !self.settings.allowed.contains(peer.ip()) {
            return Err(Error::permanent("not in common.allowed-clients"));
        }
        let fail = |e: io::Error| Error::io("newcomer", &e);
        socket.set_nonblocking(false).map_err(fail)?;
        let handle = socket.try_clone().map_err(fail)?;
        let (settings, found) = (Arc::clone(&self.settings), found.clone());
        let hello = move || {
            let outcome = converse(&socket, &settings, limit).map_err(|e| e.context(peer));
            if outcome.is_err() {
                // At once: the handle that is kept would hold it open until its time is up.
                let _ = socket.shutdown(Shutdown::Both); // gone already: fine
            }
            let _ = found.send(outcome); // nobody waits any more: its connection is reset
        };
        spawn("stream-hello", hello)?;
        Ok(handle)
    }
}

/// Ends those who are still at their hello.
fn end(newcomers: &[Newcomer], but: Option<SocketAddr>) {
    for n in newcomers {
        if but.is_none() || n.socket.peer_addr().ok() != but {
            let _ = n.socket.shutdown(Shutdown::Both); // gone already: fine
        }
    }
}

fn converse(socket: &TcpStream, settings: &Settings, limit: Duration) -> Result<Incoming> {
    let said = |e: io::Error| {
        if super::connection::is_timeout(&e) {
            Error::peer(PeerFault::Timeout, "no handshake in time")
        } else {
            Error::peer(PeerFault::Handshake, e.to_string())
        }
    };
    let mut connection = Connection::accepted(socket, settings)?;
    connection.write_within(HELLO).map_err(said)?;
    let own = hello::nonce()?;
    let greeting = Greeting {
        version: VERSION,
        nonce: own.clone(),
        secret: !settings.secret.is_empty(),
        idle_ms: u64::try_from(settings.idle.as_millis()).unwrap_or(u64::MAX),
    };
    let mut first = Vec::new();
    if settings.accept_raw {
        // A bare sender would reset the connection at its end for any byte that it has not read.
        connection.read_within(Some(SILENCE)).map_err(said)?;
        begin(&mut connection, &mut first).or_else(|e| {
            match super::connection::is_timeout(&e) {
                true => Ok(()),
                false => Err(said(e)),
            }
        })?;
    }
    if first.is_empty() || first == MAGIC {
        hello::write(&mut connection, &hello::body(&greeting)?, &[0; 32]).map_err(said)?;
    }
    connection.read_within(Some(limit)).map_err(said)?;
    begin(&mut connection, &mut first).map_err(said)?;
    if first != MAGIC {
        if !first.starts_with(GZIP) && first != XBSTREAM {
            return Err(Error::peer(PeerFault::Handshake, "another protocol"));
        }
        if !settings.accept_raw {
            return Err(Error::peer(
                PeerFault::Handshake,
                "sends a bare stream, as the Go agents do: it has no end mark and no checksums; it is accepted with \
                 common.accept-raw-streams = true",
            ));
        }
        if !settings.secret.is_empty() {
            let text = "sends a bare stream, which cannot prove common.seed-secret";
            return Err(Error::peer(PeerFault::Secret, text));
        }
        return Ok(Incoming::new(
            connection,
            settings.clone(),
            Kind::Raw(first),
        ));
    }
    connection.read_within(Some(HELLO)).map_err(said)?;
    let (body, proof) = hello::read(&mut connection).map_err(said)?;
    let offer: Offer = hello::parse(&body).map_err(said)?;
    let wrong = wrong(&offer, settings).map(|text| (PeerFault::Handshake, text));
    let wrong = wrong.or_else(|| {
        let right = hello::proven(
            &settings.secret,
            From::Sender,
            &own,
            &offer.nonce,
            &body,
            &proof,
        );
        (!right).then(|| (PeerFault::Secret, hello::OTHER_SECRET.to_string()))
    });
    let answer = Answer {
        last: false,
        ok: wrong.is_none(),
        reason: wrong.as_ref().map_or_else(String::new, |w| w.1.clone()),
        aborted: false,
    };
    let body = hello::body(&answer)?;
    let proof = hello::prove(&settings.secret, From::Listener, &offer.nonce, &own, &body);
    hello::write(&mut connection, &body, &proof).map_err(said)?;
    if let Some((fault, reason)) = wrong {
        connection.close(Duration::from_secs(1));
        return Err(Error::peer(fault, reason));
    }
    let kind = Kind::Framed {
        compression: hello::compression(&offer.compression)
            .unwrap_or(crate::config::Compression::None),
        notes: offer.notes.into_bytes(),
        nonces: (offer.nonce, own),
    };
    Ok(Incoming::new(connection, settings.clone(), kind))
}

/// Reads on until there are as many bytes as the magic word has.
fn begin(connection: &mut Connection, first: &mut Vec<u8>) -> io::Result<()> {
    while first.len() < MAGIC.len() {
        let mut rest = [0; MAGIC.len()];
        let missing = MAGIC.len() - first.len();
        match connection.read(&mut rest[..missing])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => first.extend_from_slice(&rest[..n]),
        }
    }
    Ok(())
}

fn wrong(offer: &Offer, settings: &Settings) -> Option<String> {
    if offer.version != VERSION {
        return Some(format!(
            "the sender uses version {} of the seed stream and the target {VERSION}: use the same release of the agent on both \
             hosts",
            offer.version
        ));
    }
    if (offer.seed, offer.method.as_str()) != (settings.seed, settings.method.as_str()) {
        return Some(format!(
            "the target waits for seed {} by {}, not for seed {} by {}",
            settings.seed,
            settings.method,
            offer.seed,
            offer
                .method
                .chars()
                .take(20)
                .collect::<String>()
                .escape_default()
        ));
    }
    if hello::compression(&offer.compression).is_none() {
        return Some("stream-compression of the sender is not known here".into());
    }
    (offer.notes.len() > hello::NOTES).then(|| "the sender's notes are too long".into())
}
