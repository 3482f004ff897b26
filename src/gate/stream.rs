//! What a connection reads from and writes to, below HTTP and above the deadline: TLS is a variant here.

use super::deadline::Deadline;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// The client's side of a connection.
pub(super) enum Stream {
    /// HTTP without TLS.
    Plain(Deadline),
}

impl Stream {
    /// A connection in clear, with `limit` until its first byte.
    pub(super) fn plain(socket: Arc<TcpStream>, limit: Duration) -> Self {
        Self::Plain(Deadline::new(socket, limit))
    }

    /// Everything that follows must be done `limit` from now.
    pub(super) fn within(&mut self, limit: Duration) {
        match self {
            Self::Plain(stream) => stream.within(limit),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
        }
    }
}
