//! The receiving tool's standard input: a write into it ends with a cancellation even while the tool takes no byte.

use crate::process::Cancel;
use crate::sys::net::wait_writable;
use crate::sys::pipe;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// How often a write that waits for the tool polls for a cancellation.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct Sink<'a, W> {
    to: W,
    cancel: &'a Cancel,
}

impl<'a, W: Write + AsFd> Sink<'a, W> {
    /// Of a pipe, a file or anything else that can be written to.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(to: W, cancel: &'a Cancel) -> io::Result<Self> {
        // The end that the tool reads is a file description of its own and stays blocking.
        pipe::set_nonblocking(to.as_fd())?;
        Ok(Self { to, cancel })
    }

    /// Waits until the tool takes bytes.
    fn wait(&self) -> io::Result<()> {
        while !wait_writable(self.to.as_fd(), POLL)? {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
        }
        Ok(())
    }

    /// Moves at most `bytes` from a socket into a pipe without a copy through this process. Zero means the socket's end.
    ///
    /// # Errors
    /// Those of splice(2): EINVAL if this is not a pipe, EAGAIN after the socket's timeout.
    pub fn splice(&mut self, from: &TcpStream, bytes: usize) -> io::Result<usize> {
        // From here on there is room: no one else writes. So only the socket is waited for.
        self.wait()?;
        pipe::splice(from.as_fd(), self.to.as_fd(), bytes)
    }
}

impl<W: Write + AsFd> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.to.write(bytes) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait()?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
