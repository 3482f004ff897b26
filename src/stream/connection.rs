//! One TCP connection, in clear or in TLS, with timers that name their settings and an end by cancellation at any moment.

use super::{HANDSHAKE_TIMEOUT, Settings};
use crate::error::{Error, OnPath, Result};
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

/// How long this end may take to tell the peer that it was cancelled.
pub(super) const CANCEL_NOTICE_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const WHAT: &str = "seed stream";

/// A connection. Dropped, it is reset, unless it was closed in good order before.
pub(super) struct Connection {
    session: Box<dyn Session>,
    has_tls: bool,
    /// A second handle of the same socket.
    socket: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Ends the thread that waits for a cancellation.
    _watch: Option<Sender<()>>,
}

trait Session: Read + Write + Send {
    fn send_close_notify(&mut self) {}
}

impl Session for TcpStream {}

impl Session for StreamOwned<ServerConnection, TcpStream> {
    fn send_close_notify(&mut self) {
        self.conn.send_close_notify();
    }
}

impl Session for StreamOwned<ClientConnection, TcpStream> {
    fn send_close_notify(&mut self) {
        self.conn.send_close_notify();
    }
}

impl Connection {
    /// With the timers of the handshake.
    fn new(
        socket: &TcpStream,
        settings: &Settings,
        with_tls: impl FnOnce(TcpStream) -> Result<Box<dyn Session>>,
    ) -> Result<Self> {
        let peer = socket.peer_addr().on(WHAT)?;
        socket.set_nodelay(true).on(WHAT)?;
        net::set_keepalive(socket).on(WHAT)?; // for a host that dies where no timer runs
        net::reset_on_close(socket).on(WHAT)?;
        let (has_tls, inner) = (settings.tls.use_ssl, socket.try_clone().on(WHAT)?);
        let this = Self {
            session: if has_tls {
                with_tls(inner)?
            } else {
                Box::new(inner)
            },
            has_tls,
            socket: socket.try_clone().on(WHAT)?,
            peer,
            _watch: None,
        };
        this.read_within(Some(HANDSHAKE_TIMEOUT))?;
        this.write_within(HANDSHAKE_TIMEOUT)?;
        Ok(this)
    }

    /// The listener's end of an accepted socket. The TLS handshake comes with the first read or write.
    pub(crate) fn accepted(socket: &TcpStream, settings: &Settings) -> Result<Self> {
        Self::new(socket, settings, |socket| {
            let session = ServerConnection::new(tls::stream_server(&settings.tls)?);
            let session = session.map_err(|e| Error::permanent(e.to_string()))?;
            Ok(Box::new(StreamOwned::new(session, socket)))
        })
    }

    /// The sender's end of a socket that is connected to `host`.
    pub(crate) fn connected(socket: &TcpStream, host: &str, settings: &Settings) -> Result<Self> {
        Self::new(socket, settings, |socket| {
            let name = ServerName::try_from(host.to_string())
                .map_err(|e| Error::permanent(format!("{host}: {e}")))?;
            let session = ClientConnection::new(tls::stream_client(&settings.tls)?, name);
            let session = session.map_err(|e| Error::permanent(e.to_string()))?;
            Ok(Box::new(StreamOwned::new(session, socket)))
        })
    }

    /// From now on a cancellation ends every read that waits at once, so that this end can still send the reason, and what is left
    /// after [`CANCEL_NOTICE_TIMEOUT`].
    pub(crate) fn watch(&mut self, cancel: &Cancel) -> Result<()> {
        let (end, ended) = bounded::<()>(0);
        let (cancel, socket) = (cancel.clone(), self.socket.try_clone().on(WHAT)?);
        spawn("stream-end", move || {
            select! {
                recv(cancel.signal()) -> _ => {
                    let _ = socket.shutdown(Shutdown::Read); // closed already: fine
                    if ended.recv_timeout(CANCEL_NOTICE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
                        let _ = socket.shutdown(Shutdown::Both); // a write waits for a peer that takes nothing
                    }
                }
                recv(ended) -> _ => {}
            }
        })?;
        self._watch = Some(end);
        Ok(())
    }

    /// How long a read may wait; `None`: without limit.
    pub(crate) fn read_within(&self, time: Option<Duration>) -> Result<()> {
        let time = time.map(|t| t.max(Duration::from_millis(1)));
        self.socket.set_read_timeout(time).on(WHAT)
    }

    /// How long a write may wait until the peer takes a byte.
    pub(crate) fn write_within(&self, time: Duration) -> Result<()> {
        let time = time.max(Duration::from_millis(1));
        self.socket.set_write_timeout(Some(time)).on(WHAT)
    }

    /// What ends the connection from another thread.
    pub(crate) fn breaker(&self) -> Result<impl FnOnce() + Send + 'static> {
        let socket = self.socket.try_clone().on(WHAT)?;
        Ok(move || {
            let _ = socket.shutdown(Shutdown::Both); // closed already: fine
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket, if its bytes are those of the stream: no TLS.
    pub(crate) fn plain_socket(&self) -> Option<&TcpStream> {
        (!self.has_tls).then_some(&self.socket)
    }

    /// True if TLS protects every byte.
    pub(crate) fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Tells the peer that nothing follows what was written.
    pub(crate) fn close_write(&mut self) -> Result<()> {
        self.session.send_close_notify();
        self.session.flush().on(WHAT)?;
        self.socket.shutdown(Shutdown::Write).on(WHAT)
    }

    /// The same, and waits until the peer has it all, or `time` is over: a reset would take back what the peer has not read.
    pub(crate) fn drain_writes(&mut self, time: Duration) -> Result<()> {
        self.close_write()?;
        let begin = std::time::Instant::now();
        while net::unsent(&self.socket).on(WHAT)? > 0 && begin.elapsed() < time {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends in good order: what was written arrives, however long the peer takes for it. Waits at most `time` for the peer's own end.
    pub(crate) fn close(mut self, time: Duration) {
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
        self.session.read(to)
    }
}

impl Write for Connection {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.session.write(from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write_vectored(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush()
    }
}

/// True for an error that means a timer.
pub(super) fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
