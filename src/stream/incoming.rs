//! The receiving end of a stream whose sender has been accepted.

use super::connection::{Connection, is_timeout};
use super::frame::{Decoder, Frame};
use super::hello::{self, Answer, From};
use super::sink::Sink;
use super::{HELLO, PIPE, Settings};
use crate::config::Compression;
use crate::error::{Error, PeerFault, Result, ToolError, ToolFault};
use crate::process::Cancel;
use crate::sys::pipe;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What a connection that ends in the middle of a copy means.
const LOST: &str = "the source's agent or host has ended, or the network has cut the connection; the log of the source's agent says \
     which";

/// Bytes of a bare stream that are passed on at a time.
const CHUNK: usize = 256 << 10;

/// The stream. Dropped without an answer, it is reset: the sender sees a failure.
pub struct Incoming {
    connection: Connection,
    settings: Settings,
    kind: Kind,
    begin: Instant,
}

/// What comes.
pub(super) enum Kind {
    /// Our own frames.
    Framed {
        compression: Compression,
        notes: Vec<u8>,
        /// The sender's and ours.
        nonces: (String, String),
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

    /// The sender's address.
    pub fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// True for a bare stream: its end is only the end of the connection, whatever the cause.
    pub fn is_raw(&self) -> bool {
        matches!(self.kind, Kind::Raw(_))
    }

    /// What the sender has said of its host; empty if the stream is bare.
    pub fn notes(&self) -> &[u8] {
        match &self.kind {
            Kind::Framed { notes, .. } => notes,
            Kind::Raw(_) => &[],
        }
    }

    /// Tells the sender to begin, passes everything to `sink` and closes that. Until then the sender waits without limit. `progress` is told the bytes so far. Ok with their number means: the end
    /// was seen, totals and checksums agree, and the sender's tool has ended well; of a bare stream only that it ended.
    ///
    /// # Errors
    /// Cancelled; the first cause, with the setting of the timer. Nothing was answered yet.
    pub fn receive<W: Write + AsFd>(
        &mut self,
        sink: W,
        cancel: &Cancel,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        self.connection.watch(cancel)?;
        self.answer(false, true)
            .map_err(|e| Error::io(format!("answer to {}", self.connection.peer), &e))?;
        self.begin = Instant::now();
        // No pipe, or none of this size for this user: it goes on as it is.
        let _ = pipe::enlarge(sink.as_fd(), PIPE);
        let mut sink = Sink::new(sink, cancel).map_err(|e| refused(&e))?;
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
        let checked = !self.connection.sealed();
        let mut decoder =
            Decoder::new(compression, checked).map_err(|e| Error::io("seed stream", &e))?;
        let (mut bytes, mut frames) = (0, 0);
        loop {
            let wait = self.patience(bytes)?;
            self.set_patience(wait)?;
            let frame = decoder.read(&mut self.connection);
            match frame {
                Ok(Frame::Data(data)) => {
                    sink.write_all(data).map_err(|e| refused(&e))?;
                    bytes += data.len() as u64;
                    frames += 1;
                    progress(bytes);
                }
                Ok(Frame::Alive) => {}
                Ok(Frame::End(end)) if end.aborted => {
                    let text = format!("aborted on the source: {}", end.error);
                    return Err(Error::peer(PeerFault::Aborted, text));
                }
                Ok(Frame::End(end)) if !end.ok => {
                    let text = format!("the source failed: {}", end.error);
                    return Err(Error::peer(PeerFault::Rejected, text));
                }
                Ok(Frame::End(end)) if (end.bytes, end.frames) != (bytes, frames) => {
                    let text = format!(
                        "{bytes} bytes in {frames} frames arrived, the source has sent {} in {}",
                        end.bytes, end.frames
                    );
                    return Err(Error::peer(PeerFault::Incomplete, text));
                }
                Ok(Frame::End(_)) => {
                    sink.flush().map_err(|e| refused(&e))?;
                    return Ok(bytes);
                }
                Err(e) => return Err(self.broken(&e, bytes)),
            }
        }
    }

    fn receive_raw<W: Write + AsFd>(
        &mut self,
        first: &[u8],
        sink: &mut Sink<'_, W>,
        progress: &mut impl FnMut(u64),
    ) -> Result<u64> {
        let begun = sink.write_all(first).and_then(|()| sink.flush());
        begun.map_err(|e| refused(&e))?;
        let mut bytes = first.len() as u64;
        // Only in clear, and only into a pipe.
        let mut splice = !self.connection.sealed();
        let mut buffer = vec![0; CHUNK];
        self.set_patience(self.settings.idle)?;
        loop {
            let passed = match self.connection.bare().filter(|_| splice) {
                Some(socket) => sink.splice(socket, PIPE),
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
    fn patience(&self, bytes: u64) -> Result<Duration> {
        if bytes > 0 {
            return Ok(self.settings.idle);
        }
        match self.settings.first_byte.checked_sub(self.begin.elapsed()) {
            // An alive sender is heard of more often than that.
            Some(left) if !left.is_zero() => Ok(left.min(self.settings.idle)),
            _ => Err(no_first_byte("the source", self.settings.first_byte)),
        }
    }

    fn set_patience(&self, time: Duration) -> Result<()> {
        let set = self.connection.read_within(Some(time));
        set.map_err(|e| Error::io("seed stream", &e))
    }

    fn broken(&self, e: &io::Error, bytes: u64) -> Error {
        let peer = self.connection.peer;
        if is_timeout(e) {
            return if bytes == 0 && self.begin.elapsed() >= self.settings.first_byte {
                no_first_byte("the source", self.settings.first_byte)
            } else {
                let text = format!(
                    "no byte from {peer} for {} s after {bytes} bytes: the source or the network is dead \
                     (common.seed-idle-timeout)",
                    self.settings.idle.as_secs_f32()
                );
                Error::peer(PeerFault::Timeout, text)
            };
        }
        let after = format!("after {bytes} bytes from {peer}: {e}");
        match e.kind() {
            ErrorKind::UnexpectedEof => Error::peer(
                PeerFault::Closed,
                format!(
                    "the connection from {peer} ended after {bytes} bytes without the end mark: {LOST}"
                ),
            ),
            ErrorKind::InvalidData => Error::peer(PeerFault::Corrupt, after),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Error::peer(PeerFault::Closed, format!("{after}: {LOST}"))
            }
            _ => Error::peer(PeerFault::Closed, after),
        }
    }

    /// Answers that the copy is whole and on disk. To be called when the tool has exited well and its files are synced.
    ///
    /// # Errors
    /// If the answer cannot be sent: the sender then counts this as a failure.
    pub fn accept_all(mut self) -> Result<()> {
        self.answer(true, true)
            .map_err(|e| Error::io(format!("answer to {}", self.connection.peer), &e))?;
        self.connection.close(Duration::from_secs(10));
        Ok(())
    }

    /// Answers why not, at any moment: the sender stops and shows it. `aborted`: this host was told to end. What cannot be told is
    /// seen by the reset.
    pub fn refuse(mut self, reason: &str, aborted: bool) {
        match self.say(&Answer {
            last: true,
            ok: false,
            reason: reason.into(),
            aborted,
        }) {
            Ok(()) => self.connection.close(Duration::from_secs(3)),
            Err(e) => log::debug!("answer to {}: {e}", self.connection.peer),
        }
    }

    fn answer(&mut self, last: bool, ok: bool) -> io::Result<()> {
        self.say(&Answer {
            last,
            ok,
            reason: String::new(),
            aborted: false,
        })
    }

    fn say(&mut self, answer: &Answer) -> io::Result<()> {
        let Kind::Framed { nonces, .. } = &self.kind else {
            return Ok(()); // a bare sender reads nothing
        };
        let answer = Answer {
            reason: answer.reason.chars().take(2000).collect(),
            ..answer.clone()
        };
        let body = hello::body(&answer).map_err(io::Error::other)?;
        let (theirs, ours) = nonces;
        let proof = hello::prove(&self.settings.secret, From::Listener, theirs, ours, &body);
        self.connection.write_within(HELLO)?;
        hello::write(&mut self.connection, &body, &proof)
    }
}

fn refused(e: &io::Error) -> Error {
    Error::Tool(Box::new(ToolError {
        name: "the receiving tool".into(),
        fault: ToolFault::Input(e.kind()),
        stderr: e.to_string(),
    }))
}

/// `who`: an end of the stream, or its tool.
pub(super) fn no_first_byte(who: &str, limit: Duration) -> Error {
    let text = format!(
        "{who} gave no byte of the copy for {} s (common.seed-first-byte-timeout)",
        limit.as_secs_f32()
    );
    Error::peer(PeerFault::Timeout, text)
}
