//! One TCP connection, in clear or in TLS, with timers that name their settings and an end by cancellation at any moment.

use super::Settings;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::net;
use crate::sys::thread::spawn;
use crate::tls;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded, select};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long this end may take to say that it was told to end.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection. Dropped, it is reset, unless it was closed in good order before.
pub(super) struct Connection {
    wire: Wire,
    /// A second handle of the same socket.
    socket: TcpStream,
    pub peer: SocketAddr,
    /// Ends the thread that waits for a cancellation.
    _watch: Option<Sender<()>>,
}

enum Wire {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn new(socket: &TcpStream, wire: impl FnOnce(TcpStream) -> Result<Wire>) -> Result<Self> {
        let fail = |e: io::Error| Error::io("seed stream", &e);
        let peer = socket.peer_addr().map_err(fail)?;
        socket.set_nodelay(true).map_err(fail)?;
        // Where no timer runs, a dead host is found by this: after about two minutes.
        net::set_keepalive(socket, Duration::from_secs(60), Duration::from_secs(10), 6)
            .map_err(fail)?;
        net::reset_on_close(socket).map_err(fail)?;
        Ok(Self {
            wire: wire(socket.try_clone().map_err(fail)?)?,
            socket: socket.try_clone().map_err(fail)?,
            peer,
            _watch: None,
        })
    }

    /// The listener's end of an accepted socket. The handshake comes with the first read or write.
    pub fn accepted(socket: &TcpStream, settings: &Settings) -> Result<Self> {
        Self::new(socket, |socket| {
            if !settings.tls.use_ssl {
                return Ok(Wire::Plain(socket));
            }
            let session = ServerConnection::new(tls::stream_server(&settings.tls)?);
            let session = session.map_err(|e| Error::permanent(e.to_string()))?;
            Ok(Wire::Server(Box::new(StreamOwned::new(session, socket))))
        })
    }

    /// The sender's end of a socket that is connected to `host`.
    pub fn connected(socket: &TcpStream, host: &str, settings: &Settings) -> Result<Self> {
        Self::new(socket, |socket| {
            if !settings.tls.use_ssl {
                return Ok(Wire::Plain(socket));
            }
            let name = ServerName::try_from(host.to_string())
                .map_err(|e| Error::permanent(format!("{host}: {e}")))?;
            let session = ClientConnection::new(tls::stream_client(&settings.tls)?, name);
            let session = session.map_err(|e| Error::permanent(e.to_string()))?;
            Ok(Wire::Client(Box::new(StreamOwned::new(session, socket))))
        })
    }

    /// From now on a cancellation ends every read that waits at once, so that this end can still say why it goes, and what is
    /// left after [`LAST_WORDS`].
    pub fn watch(&mut self, cancel: &Cancel) -> Result<()> {
        let (end, ended) = bounded::<()>(0);
        let (cancel, socket) = (cancel.clone(), self.socket.try_clone());
        let socket = socket.map_err(|e| Error::io("seed stream", &e))?;
        let wait = move || {
            select! {
                recv(cancel.signal()) -> _ => {
                    let _ = socket.shutdown(Shutdown::Read); // gone already: fine
                    if ended.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
                        let _ = socket.shutdown(Shutdown::Both); // a write waits for a peer that takes nothing
                    }
                }
                recv(ended) -> _ => {}
            }
        };
        spawn("stream-end", wait)?;
        self._watch = Some(end);
        Ok(())
    }

    /// How long a read may wait; `None`: for ever.
    pub fn read_within(&self, time: Option<Duration>) -> io::Result<()> {
        self.socket
            .set_read_timeout(time.map(|t| t.max(Duration::from_millis(1))))
    }

    /// How long a write may wait until the peer takes a byte.
    pub fn write_within(&self, time: Duration) -> io::Result<()> {
        self.socket
            .set_write_timeout(Some(time.max(Duration::from_millis(1))))
    }

    /// What ends the connection from another thread.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn breaker(&self) -> io::Result<impl FnOnce() + Send + 'static> {
        let socket = self.socket.try_clone()?;
        Ok(move || {
            let _ = socket.shutdown(Shutdown::Both); // gone already: fine
        })
    }

    /// For poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket itself, if nothing is done to its bytes.
    pub fn bare(&mut self) -> Option<&mut TcpStream> {
        match &mut self.wire {
            Wire::Plain(socket) => Some(socket),
            _ => None,
        }
    }

    /// True if TLS looks after every byte.
    pub fn sealed(&self) -> bool {
        !matches!(self.wire, Wire::Plain(_))
    }

    /// Says that nothing comes after what was written.
    pub fn close_write(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(_) => {}
            Wire::Server(s) => {
                s.conn.send_close_notify();
                s.flush()?;
            }
            Wire::Client(s) => {
                s.conn.send_close_notify();
                s.flush()?;
            }
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Says that nothing comes after what was written, and waits until the peer has it all, or `time` is over: a reset would
    /// take back what the peer has not read.
    ///
    /// # Errors
    /// The connection's.
    pub fn drain_writes(&mut self, time: Duration) -> io::Result<()> {
        self.close_write()?;
        let begin = std::time::Instant::now();
        while net::unsent(&self.socket)? > 0 && begin.elapsed() < time {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends in good order: what was written arrives, however long the peer takes for it. Waits at most `time` for the peer's
    /// own end.
    pub fn close(mut self, time: Duration) {
        let mut rest = [0; 16 << 10];
        // What fails here has no other remedy than the reset that follows.
        let _ = self.close_write();
        let begin = std::time::Instant::now();
        while let Some(left) = time.checked_sub(begin.elapsed()) {
            if self.read_within(Some(left)).is_err()
                || !matches!(self.socket.read(&mut rest), Ok(n) if n > 0)
            {
                break;
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match &mut self.wire {
            Wire::Plain(s) => s.read(to),
            Wire::Server(s) => s.read(to),
            Wire::Client(s) => s.read(to),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.wire {
            Wire::Plain(s) => s.write(from),
            Wire::Server(s) => s.write(from),
            Wire::Client(s) => s.write(from),
        }
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.wire {
            Wire::Plain(s) => s.write_vectored(from),
            Wire::Server(s) => s.write_vectored(from),
            Wire::Client(s) => s.write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(s) => s.flush(),
            Wire::Server(s) => s.flush(),
            Wire::Client(s) => s.flush(),
        }
    }
}

/// True for an error that means a timer.
pub(super) fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
