//! What a connection reads from and writes to, below HTTP and above the deadline.

use super::deadline::Deadline;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// The client's side of a connection.
pub(super) enum Stream {
    Plain(Deadline),
    Tls(Box<StreamOwned<ServerConnection, Deadline>>),
}

impl Stream {
    /// A connection in TLS; the whole handshake must be done within `limit`.
    ///
    /// # Errors
    /// As rustls reports it; the client has got an alert then.
    pub(super) fn tls(
        socket: Arc<TcpStream>,
        config: Arc<ServerConfig>,
        limit: Duration,
    ) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, Deadline::new(socket, limit));
        stream.conn.complete_io(&mut stream.sock)?;
        if stream.conn.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The certificates that the client has shown and that were verified, its own first.
    pub(super) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.conn.peer_certificates(),
        }
    }

    /// Everything that follows must be done `limit` from now.
    pub(super) fn within(&mut self, limit: Duration) {
        match self {
            Self::Plain(stream) => stream.within(limit),
            Self::Tls(stream) => stream.sock.within(limit),
        }
    }

    /// No bytes follow: in TLS the close is announced, so that a response that was cut short is not taken for a complete one.
    pub(super) fn finish(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            while stream.conn.wants_write() {
                if stream.conn.write_tls(&mut stream.sock).is_err() {
                    return; // the client has gone
                }
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
