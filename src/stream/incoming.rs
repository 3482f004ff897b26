//! The receiving end of a stream whose sender has been accepted.

use super::connection::{Connection, is_timeout};
use super::ends::{Cancellable, Sink};
use super::frame::{Decoder, Frame};
use super::hello::{self, Answer, MAGIC, Nonces, Prover};
use super::{HANDSHAKE_TIMEOUT, PIPE_BYTES, Settings, no_first_byte};
use crate::config::Compression;
use crate::error::{Error, OnPath, PeerFault, Result, ToolError, ToolFault};
use crate::process::Cancel;
use crate::sys::pipe;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a connection that ends in the middle of a copy means.
const LOST: &str = "the source's agent or host has ended, or the network has cut the connection; the log of the source's agent says \
     which";
/// Bytes of a raw stream that are passed on at a time.
const RAW_CHUNK: usize = 256 << 10;
/// How long the sender may take to close the connection after an acknowledgement, and after a rejection.
const CLOSE_ACKNOWLEDGED: Duration = Duration::from_secs(10);
const CLOSE_REJECTED: Duration = Duration::from_secs(3);

/// The stream. Dropped without an answer, it is reset: the sender sees a failure.
pub struct Incoming {
    connection: Connection,
    settings: Settings,
    kind: Kind,
    begin: Instant,
}

pub(super) enum Kind {
    /// Our own frames.
    Framed {
        compression: Compression,
        notes: Vec<u8>,
        nonces: Nonces,
    },
    /// What a Go agent or socat sends; its first bytes, which have been read.
    Raw(Vec<u8>),
}

impl Incoming {
    pub(super) fn new(connection: Connection, settings: Settings, kind: Kind) -> Self {
        Self {
            connection,
            settings,
            kind,
            begin: Instant::now(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// True for a raw stream: its end is only the end of the connection, whatever the cause.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.kind, Kind::Raw(_))
    }

    /// What the sender has sent of its host; empty of a raw stream.
    pub(crate) fn notes(&self) -> &[u8] {
        match &self.kind {
            Kind::Framed { notes, .. } => notes,
            Kind::Raw(_) => &[],
        }
    }

    /// Lets the sender begin, which waits for that without limit, passes everything to `sink` and closes that. `progress` receives
    /// the bytes so far. Ok with their number means: the end was seen, totals and checksums agree, and the sender's tool has
    /// succeeded; of a raw stream only that it ended.
    ///
    /// # Errors
    /// Cancelled; the first cause, with the setting of the timer. Nothing was answered yet.
    pub fn receive<W: Sink>(
        &mut self,
        sink: W,
        cancel: &Cancel,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        self.connection.watch(cancel)?;
        self.answer(&Answer::yes(false))
            .on(format!("answer to {}", self.connection.peer))?;
        self.begin = Instant::now();
        if let Some(fd) = sink.pollable() {
            let _ = pipe::enlarge(fd, PIPE_BYTES); // not a pipe, or not permitted: it works as it is
        }
        let mut sink = Cancellable::new(sink, cancel).map_err(|e| refused(&e))?;
        let result = match &self.kind {
            Kind::Raw(first) => self.receive_raw(&first.clone(), &mut sink, &mut progress),
            Kind::Framed { compression, .. } => {
                self.receive_frames(*compression, &mut sink, &mut progress)
            }
        };
        drop(sink);
        match result {
            Err(_) if cancel.is_cancelled() => Err(Error::cancelled()),
            other => other,
        }
    }

    fn receive_frames(
        &mut self,
        compression: Compression,
        sink: &mut impl Write,
        progress: &mut impl FnMut(u64),
    ) -> Result<u64> {
        let checked = !self.connection.has_tls();
        let mut decoder = Decoder::new(compression, checked).on("seed stream")?;
        let (mut bytes, mut frames) = (0, 0);
        loop {
            self.read_within(self.frame_limit(bytes)?)?;
            let end = match decoder.read(&mut self.connection) {
                Ok(Frame::Data(data)) => {
                    sink.write_all(data).map_err(|e| refused(&e))?;
                    bytes += data.len() as u64;
                    frames += 1;
                    progress(bytes);
                    continue;
                }
                Ok(Frame::Alive) => continue,
                Ok(Frame::End(end)) => end,
                Err(e) => return Err(self.broken(&e, bytes)),
            };
            let (fault, text) = if end.aborted {
                let text = format!("aborted on the source: {}", end.error);
                (PeerFault::Aborted, text)
            } else if !end.ok {
                let text = format!("the source failed: {}", end.error);
                (PeerFault::Rejected, text)
            } else if (end.bytes, end.frames) != (bytes, frames) {
                let text = format!(
                    "{bytes} bytes in {frames} frames arrived, the source has sent {} in {}",
                    end.bytes, end.frames
                );
                (PeerFault::Incomplete, text)
            } else {
                sink.flush().map_err(|e| refused(&e))?;
                return Ok(bytes);
            };
            return Err(Error::peer(fault, text));
        }
    }

    fn receive_raw<W: Sink>(
        &mut self,
        first: &[u8],
        sink: &mut Cancellable<'_, W>,
        progress: &mut impl FnMut(u64),
    ) -> Result<u64> {
        let begun = sink.write_all(first).and_then(|()| sink.flush());
        begun.map_err(|e| refused(&e))?;
        let mut bytes = first.len() as u64;
        // Only in clear, and only into a pipe.
        let mut splice = !self.connection.has_tls();
        let mut buffer = vec![0; RAW_CHUNK];
        self.read_within(self.settings.idle)?;
        loop {
            let passed = match self.connection.plain_socket().filter(|_| splice) {
                Some(socket) => sink.splice(socket, PIPE_BYTES),
                None => self.connection.read(&mut buffer),
            };
            match passed {
                Ok(0) => {
                    sink.flush().map_err(|e| refused(&e))?;
                    return Ok(bytes);
                }
                Ok(n) => {
                    if !splice {
                        sink.write_all(&buffer[..n]).map_err(|e| refused(&e))?;
                    }
                    bytes += n as u64;
                    progress(bytes);
                }
                Err(e) if e.kind() == ErrorKind::InvalidInput && splice => splice = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Err(refused(&e)),
                Err(e) => return Err(self.broken(&e, bytes)),
            }
        }
    }

    /// How long the next frame may take.
    fn frame_limit(&self, bytes: u64) -> Result<Duration> {
        if bytes > 0 {
            return Ok(self.settings.idle);
        }
        match self.settings.first_byte.checked_sub(self.begin.elapsed()) {
            // A sender that works sends a frame more often than that.
            Some(left) if !left.is_zero() => Ok(left.min(self.settings.idle)),
            _ => Err(no_first_byte("the source", self.settings.first_byte)),
        }
    }

    fn read_within(&self, time: Duration) -> Result<()> {
        let set = self.connection.read_within(Some(time));
        set.on("seed stream")
    }

    fn broken(&self, e: &io::Error, bytes: u64) -> Error {
        let peer = self.connection.peer;
        if is_timeout(e) {
            if bytes == 0 && self.begin.elapsed() >= self.settings.first_byte {
                return no_first_byte("the source", self.settings.first_byte);
            }
            let text = format!(
                "no byte from {peer} for {} s after {bytes} bytes: the source or the network is dead (common.seed-idle-timeout)",
                self.settings.idle.as_secs_f32()
            );
            return Error::peer(PeerFault::Timeout, text);
        }
        let after = format!("after {bytes} bytes from {peer}: {e}");
        let (fault, text) = match e.kind() {
            ErrorKind::UnexpectedEof => (
                PeerFault::Closed,
                format!(
                    "the connection from {peer} ended after {bytes} bytes without the end mark: {LOST}"
                ),
            ),
            ErrorKind::InvalidData => (PeerFault::Corrupt, after),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                (PeerFault::Closed, format!("{after}: {LOST}"))
            }
            _ => (PeerFault::Closed, after),
        };
        Error::peer(fault, text)
    }

    /// Acknowledges that the copy is complete and on disk. To be called when the tool has succeeded and its files are synced.
    ///
    /// # Errors
    /// If the answer cannot be sent: the sender then counts this as a failure.
    pub fn acknowledge(mut self) -> Result<()> {
        self.answer(&Answer::yes(true))
            .on(format!("answer to {}", self.connection.peer))?;
        self.connection.close(CLOSE_ACKNOWLEDGED);
        Ok(())
    }

    /// Answers why not, at any moment: the sender stops and reports it. `aborted`: this host was cancelled. Where no answer can be
    /// sent, the sender sees a reset.
    pub(crate) fn reject(mut self, reason: &str, aborted: bool) {
        match self.answer(&Answer::no(true, reason, aborted)) {
            Ok(()) => self.connection.close(CLOSE_REJECTED),
            Err(e) => log::debug!("answer to {}: {e}", self.connection.peer),
        }
    }

    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let Kind::Framed { nonces, .. } = &self.kind else {
            return Ok(()); // a raw sender reads nothing
        };
        let body = hello::body(answer).map_err(io::Error::other)?;
        let proof = hello::prove(&self.settings.secret, Prover::Listener, nonces, &body);
        self.connection.write_within(HANDSHAKE_TIMEOUT)?;
        hello::write(&mut self.connection, &MAGIC, &body, &proof)
    }
}

fn refused(e: &io::Error) -> Error {
    Error::Tool(Box::new(ToolError {
        name: "the receiving tool".into(),
        fault: ToolFault::Input(e.kind()),
        stderr: e.to_string(),
    }))
}
