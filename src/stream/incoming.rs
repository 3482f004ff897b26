//! The receiving end of a stream whose sender has been accepted.

use super::connection::{Connection, WHAT, is_timeout};
use super::frame::{Decoder, Frame};
use super::hello::{Answer, Keys, MAGIC, Prover};
use super::{HANDSHAKE_TIMEOUT, PIPE_BYTES, Pollable, Settings, no_first_byte};
use crate::config::Compression;
use crate::error::{Error, OnPath, Result, ToolFault};
use crate::process::Cancel;
use crate::sys::net::{wait_readable, wait_writable};
use crate::sys::pipe;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a connection that ends in the middle of a copy means.
const LOST: &str = "the source's agent or host has ended, or the network has cut the connection; the log of the source's agent says \
     which";
/// Bytes of a raw stream that are passed on at a time.
const RAW_CHUNK: usize = 256 << 10;
/// How long the sender may take to close the connection after an acknowledgement, and after a rejection.
const CLOSE_ACKNOWLEDGED: Duration = Duration::from_secs(10);
const CLOSE_REJECTED: Duration = Duration::from_secs(3);
/// How often a write that waits for the sink polls for a cancellation.
const CANCEL_POLL: Duration = Duration::from_millis(100);

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
        keys: Keys,
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

    /// True once the sender, which has sent all and waits for the answer, has ended the connection.
    pub(crate) fn is_closed(&self) -> Result<bool> {
        let ready = wait_readable(&[self.connection.fd()], Some(Duration::ZERO)).on(WHAT)?;
        Ok(ready[0])
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
    pub fn receive<W: Write + Pollable>(
        &mut self,
        sink: W,
        cancel: &Cancel,
        mut progress: impl FnMut(u64),
    ) -> Result<u64> {
        self.connection.watch(cancel)?;
        self.answer(&Answer::yes(false))?;
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
        let mut decoder = Decoder::new(compression, checked).on(WHAT)?;
        let (mut bytes, mut frames) = (0, 0);
        loop {
            self.connection
                .read_within(Some(self.frame_limit(bytes)?))?;
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
            return if end.aborted {
                let text = format!("aborted on the source: {}", end.error);
                Err(Error::transient(text))
            } else if !end.ok {
                let text = format!("the source failed: {}", end.error);
                Err(Error::permanent(text))
            } else if (end.bytes, end.frames) != (bytes, frames) {
                Err(Error::permanent(format!(
                    "{bytes} bytes in {frames} frames arrived, the source has sent {} in {}",
                    end.bytes, end.frames
                )))
            } else {
                sink.flush().map(|()| bytes).map_err(|e| refused(&e))
            };
        }
    }

    fn receive_raw<W: Write + Pollable>(
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
        self.connection.read_within(Some(self.settings.idle))?;
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

    fn broken(&self, e: &io::Error, bytes: u64) -> Error {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let peer = self.connection.peer;
        if is_timeout(e) {
            if bytes == 0 && self.begin.elapsed() >= self.settings.first_byte {
                return no_first_byte("the source", self.settings.first_byte);
            }
            let idle = self.settings.idle.as_secs_f32();
            return Error::transient(format!(
                "no byte from {peer} for {idle} s after {bytes} bytes: the source or the network hangs or is down \
                 (common.seed-idle-timeout)"
            ));
        }
        Error::transient(match e.kind() {
            UnexpectedEof => {
                format!(
                    "the connection from {peer} ended after {bytes} bytes without the end mark: {LOST}"
                )
            }
            ConnectionReset | ConnectionAborted | BrokenPipe => {
                format!("after {bytes} bytes from {peer}: {e}: {LOST}")
            }
            _ => format!("after {bytes} bytes from {peer}: {e}"),
        })
    }

    /// Acknowledges that the copy is complete and on disk. To be called when the tool has succeeded and its files are synced.
    ///
    /// # Errors
    /// If the answer cannot be sent: the sender then counts this as a failure.
    pub fn acknowledge(mut self) -> Result<()> {
        self.answer(&Answer::yes(true))?;
        self.connection.close(CLOSE_ACKNOWLEDGED);
        Ok(())
    }

    /// Answers why not, at any moment: the sender stops and reports it. `aborted`: this host was cancelled. Where no answer can be
    /// sent, the sender sees a reset.
    pub(crate) fn reject(mut self, reason: &str, aborted: bool) {
        match self.answer(&Answer::no(true, reason, aborted)) {
            Ok(()) => self.connection.close(CLOSE_REJECTED),
            Err(e) => log::debug!("{e}"),
        }
    }

    fn answer(&mut self, answer: &Answer) -> Result<()> {
        let Kind::Framed { keys, .. } = &self.kind else {
            return Ok(()); // a raw sender reads nothing
        };
        self.connection.write_within(HANDSHAKE_TIMEOUT)?;
        let sent = keys.write(&mut self.connection, &MAGIC, Prover::Listener, answer);
        sent.on(format!("answer to {}", self.connection.peer))
    }
}

fn refused(e: &io::Error) -> Error {
    Error::tool(
        "the receiving tool",
        ToolFault::Input(e.kind()),
        e.to_string(),
    )
}

/// A sink in which a write ends with a cancellation even while the other end takes no byte.
struct Cancellable<'a, W> {
    to: W,
    cancel: &'a Cancel,
}

impl<'a, W: Write + Pollable> Cancellable<'a, W> {
    fn new(to: W, cancel: &'a Cancel) -> io::Result<Self> {
        if let Some(fd) = to.pollable() {
            // The end that a tool reads is a file description of its own and stays blocking.
            pipe::set_nonblocking(fd)?;
        }
        Ok(Self { to, cancel })
    }

    fn wait(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        while !wait_writable(fd, CANCEL_POLL)? {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
        }
        Ok(())
    }

    /// Moves at most `bytes` from a socket into a pipe without a copy through this process. Zero means the socket's end. Fails with
    /// InvalidInput where the sink is not a pipe, with WouldBlock after the socket's timeout.
    fn splice(&mut self, from: &TcpStream, bytes: usize) -> io::Result<usize> {
        let to = self.to.pollable().ok_or(ErrorKind::InvalidInput)?;
        // From here on there is room: no one else writes. So only the socket is waited for.
        self.wait(to)?;
        pipe::splice(from.as_fd(), to, bytes)
    }
}

impl<W: Write + Pollable> Write for Cancellable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let error = match self.to.write(bytes) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => e,
                done => return done,
            };
            self.wait(self.to.pollable().ok_or(error)?)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
