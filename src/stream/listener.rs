//! The listening end: waits for the seed's sender, and rejects every other peer while it does.

use super::connection::{Connection, is_timeout};
use super::hello::{
    self, Answer, Greeting, Keys, MAGIC, MAX_NOTES, OTHER_SECRET, Offer, Prover, VERSION,
};
use super::incoming::{Incoming, Kind};
use super::{HANDSHAKE_TIMEOUT, Settings};
use crate::config::Compression;
use crate::error::{Error, ListenOption, OnPath, Result};
use crate::process::Cancel;
use crate::sys::net::{listen, wait_readable};
use crate::sys::thread::spawn;
use crossbeam_channel::{Sender, unbounded};
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Peers in a handshake at a time; the oldest is evicted.
pub(super) const MAX_HANDSHAKES: usize = 32;
/// How often a listener that waits polls for a cancellation and for ended handshakes.
const ACCEPT_POLL: Duration = Duration::from_millis(50);
/// At most one warning a time of this about rejected peers.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a listener that accepts raw streams waits for a raw sender's first byte before it sends its own hello.
const RAW_FIRST_BYTE: Duration = Duration::from_secs(3);
/// How long a rejected sender may take to read why.
const CLOSE_REJECTED: Duration = Duration::from_secs(1);
/// First bytes of what a Go agent or socat sends: an xbstream, or a tar that is packed by gzip.
const XBSTREAM: &[u8] = b"XBSTCK01";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The port, bound. Dropped, it is free again.
pub struct Listener {
    /// One, or two where the families do not share one.
    sockets: Vec<TcpListener>,
    settings: Arc<Settings>,
}

struct Handshake {
    since: Instant,
    socket: TcpStream,
}

impl Listener {
    /// Binds the port, and checks the TLS files.
    ///
    /// # Errors
    /// With the settings: a port in use, an address that is not here, a bad certificate.
    pub fn bind(settings: Settings) -> Result<Self> {
        if settings.tls.use_ssl {
            crate::tls::stream_server(&settings.tls)?;
        }
        let port = settings.port;
        let sockets = listen(SocketAddr::new(settings.listen, port))
            .map_err(|e| Error::listen(format!("seed port {port}"), &e, ListenOption::SeedPort))?;
        let settings = Arc::new(settings);
        Ok(Self { sockets, settings })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.sockets[0].local_addr().on("seed port")
    }

    /// Waits for the seed's sender, without limit. Other peers are rejected with a line in the log; one that is silent or slow delays
    /// no other.
    ///
    /// # Errors
    /// Cancelled; the socket's own.
    pub fn accept(&self, cancel: &Cancel) -> Result<Incoming> {
        let mut handshakes = Vec::new();
        let accepted = self.accept_among(&mut handshakes, cancel);
        close(&handshakes, accepted.as_ref().ok().map(Incoming::peer));
        accepted
    }

    fn accept_among(&self, handshakes: &mut Vec<Handshake>, cancel: &Cancel) -> Result<Incoming> {
        let (ended, outcomes) = unbounded();
        let mut warned: Option<Instant> = None;
        // A raw sender sends nothing before its tool does.
        let limit = if self.settings.accept_raw {
            HANDSHAKE_TIMEOUT.max(self.settings.first_byte)
        } else {
            HANDSHAKE_TIMEOUT
        };
        loop {
            cancel.check()?;
            for outcome in outcomes.try_iter().collect::<Vec<Result<Incoming>>>() {
                match outcome {
                    Ok(incoming) => return Ok(incoming),
                    Err(e) if warned.is_none_or(|t| t.elapsed() >= WARNING_INTERVAL) => {
                        warned = Some(Instant::now());
                        log::warn!("seed port: rejected: {e}");
                    }
                    Err(e) => log::debug!("seed port: rejected: {e}"),
                }
            }
            let is_late = |h: &&Handshake| h.since.elapsed() > limit;
            let late = handshakes.iter().take_while(is_late).count();
            let evicted = late.max(handshakes.len().saturating_sub(MAX_HANDSHAKES));
            close(&handshakes[..evicted], None);
            handshakes.drain(..evicted);
            let all: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
            let ready = wait_readable(&all, Some(ACCEPT_POLL)).on("seed port")?;
            for (listener, _) in self.sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
                match listener.accept() {
                    Ok((socket, peer)) => match self.start_handshake(socket, peer, limit, &ended) {
                        Ok(handshake) => handshakes.push(handshake),
                        Err(e) => log::warn!("seed port: {peer}: {e}"),
                    },
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => {
                        log::debug!("seed port: {e}"); // the peer has gone, or descriptors are short for a moment
                        cancel.sleep(ACCEPT_POLL);
                    }
                }
            }
        }
    }

    /// In a thread of its own. Returns a handle by which it can be ended.
    fn start_handshake(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        limit: Duration,
        ended: &Sender<Result<Incoming>>,
    ) -> Result<Handshake> {
        if !self.settings.allowed.contains(peer.ip()) {
            return Err(Error::permanent("not in common.allowed-clients"));
        }
        socket.set_nonblocking(false).on("handshake")?;
        let handle = socket.try_clone().on("handshake")?;
        let (settings, ended) = (Arc::clone(&self.settings), ended.clone());
        spawn("stream-hello", move || {
            let outcome = handshake(&socket, &settings, limit).map_err(|e| e.context(peer));
            if outcome.is_err() {
                // At once: the handle that is kept would hold it open until its time is up.
                let _ = socket.shutdown(Shutdown::Both); // closed already: fine
            }
            let _ = ended.send(outcome); // no one waits any more: its connection is reset
        })?;
        Ok(Handshake {
            since: Instant::now(),
            socket: handle,
        })
    }
}

/// Closes the connections of these handshakes, except one.
fn close(handshakes: &[Handshake], except: Option<SocketAddr>) {
    for h in handshakes {
        if except.is_none() || h.socket.peer_addr().ok() != except {
            let _ = h.socket.shutdown(Shutdown::Both); // closed already: fine
        }
    }
}

fn failed(e: io::Error) -> Error {
    if is_timeout(&e) {
        Error::transient("no handshake in time")
    } else {
        Error::permanent(e.to_string())
    }
}

fn handshake(socket: &TcpStream, settings: &Settings, limit: Duration) -> Result<Incoming> {
    let mut connection = Connection::accepted(socket, settings)?;
    let own = hello::nonce()?;
    let first = greet(&mut connection, settings, &own, limit)?;
    if first != MAGIC {
        check_raw(&first, settings)?;
        let kind = Kind::Raw(first);
        return Ok(Incoming::new(connection, settings.clone(), kind));
    }
    connection.read_within(Some(HANDSHAKE_TIMEOUT))?;
    let (body, proof) = hello::read(&mut connection).map_err(failed)?;
    let offer: Offer = hello::parse(&body).map_err(failed)?;
    let keys = Keys {
        secret: settings.secret.clone(),
        sender: offer.nonce.clone(),
        listener: own,
    };
    let accepted = check(&offer, settings).and_then(|compression| {
        let is_proven = keys.is_proven(Prover::Sender, &body, &proof);
        let compression = is_proven.then_some(compression);
        compression.ok_or_else(|| OTHER_SECRET.to_string())
    });
    let answer = match &accepted {
        Ok(_) => Answer::yes(false),
        Err(reason) => Answer::no(false, reason, false),
    };
    let answered = keys.write(&mut connection, &MAGIC, Prover::Listener, &answer);
    answered.map_err(failed)?;
    match accepted {
        Ok(compression) => {
            let kind = Kind::Framed {
                compression,
                notes: offer.notes.into_bytes(),
                keys,
            };
            Ok(Incoming::new(connection, settings.clone(), kind))
        }
        Err(reason) => {
            connection.close(CLOSE_REJECTED);
            Err(Error::permanent(reason))
        }
    }
}

/// Sends this end's hello, unless a raw sender has begun, and returns the sender's first bytes.
fn greet(
    connection: &mut Connection,
    settings: &Settings,
    nonce: &str,
    limit: Duration,
) -> Result<Vec<u8>> {
    let mut first = Vec::new();
    if settings.accept_raw {
        // A raw sender would reset the connection at its end for any byte that it has not read.
        connection.read_within(Some(RAW_FIRST_BYTE))?;
        match read_first(connection, &mut first) {
            Err(e) if !is_timeout(&e) => return Err(failed(e)),
            _ => {}
        }
    }
    if first.is_empty() || first == MAGIC {
        let greeting = Greeting {
            version: VERSION,
            nonce: nonce.into(),
            secret: !settings.secret.is_empty(),
            idle_ms: u64::try_from(settings.idle.as_millis()).unwrap_or(u64::MAX),
        };
        hello::write_greeting(connection, &greeting).map_err(failed)?;
    }
    connection.read_within(Some(limit))?;
    read_first(connection, &mut first).map_err(failed)?;
    Ok(first)
}

/// Reads on until there are as many bytes as the magic word has.
fn read_first(connection: &mut Connection, first: &mut Vec<u8>) -> io::Result<()> {
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

/// Whether the sender of these bytes may send a raw stream.
fn check_raw(first: &[u8], settings: &Settings) -> Result<()> {
    let why = if !first.starts_with(GZIP) && first != XBSTREAM {
        "another protocol"
    } else if !settings.accept_raw {
        "sends a raw stream, as the Go agents do: it has no end mark and no checksums; it is accepted with \
         common.accept-raw-streams = true"
    } else if !settings.secret.is_empty() {
        "sends a raw stream, which cannot prove common.seed-secret"
    } else {
        return Ok(());
    };
    Err(Error::permanent(why))
}

/// The sender's compression, or why its offer is rejected.
fn check(offer: &Offer, settings: &Settings) -> std::result::Result<Compression, String> {
    if offer.version != VERSION {
        return Err(format!(
            "the sender uses version {} of the seed stream and the target {VERSION}: use the same release of the agent on both hosts",
            offer.version
        ));
    }
    if (offer.seed, &offer.method) != (settings.seed, &settings.method) {
        let method: String = offer.method.chars().take(20).collect();
        return Err(format!(
            "the target waits for seed {} by {}, not for seed {} by {}",
            settings.seed,
            settings.method,
            offer.seed,
            method.escape_default()
        ));
    }
    if offer.notes.len() > MAX_NOTES {
        return Err("the sender's notes are too long".into());
    }
    hello::compression(&offer.compression)
        .ok_or_else(|| "stream-compression of the sender is not known here".into())
}
