//! Where the bytes of a copy come from and where they go to: a pipe, a file, a socket, or anything else that can be read or written.

use crate::process::Cancel;
use crate::sys::net::wait_writable;
use crate::sys::pipe;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How often a write that waits for the sink polls for a cancellation.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Where bytes come from.
pub trait Source: Read + Send + 'static {
    /// What poll(2) can wait for before a read. `None`: a read may wait, and must end by itself when the stream does.
    fn pollable(&self) -> Option<BorrowedFd<'_>>;
}

impl<T: Read + AsFd + Send + 'static> Source for T {
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Where bytes go to.
pub trait Sink: Write {
    /// What poll(2) can wait for before a write, and splice(2) can write to. `None`: a write may wait, and a cancellation must end it.
    fn pollable(&self) -> Option<BorrowedFd<'_>>;
}

impl<T: Write + AsFd> Sink for T {
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// A sink in which a write ends with a cancellation even while the other end takes no byte.
pub(super) struct Cancellable<'a, W> {
    to: W,
    cancel: &'a Cancel,
}

impl<'a, W: Sink> Cancellable<'a, W> {
    pub(crate) fn new(to: W, cancel: &'a Cancel) -> io::Result<Self> {
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
    pub(crate) fn splice(&mut self, from: &TcpStream, bytes: usize) -> io::Result<usize> {
        let to = self.to.pollable().ok_or(ErrorKind::InvalidInput)?;
        // From here on there is room: no one else writes. So only the socket is waited for.
        self.wait(to)?;
        pipe::splice(from.as_fd(), to, bytes)
    }
}

impl<W: Sink> Write for Cancellable<'_, W> {
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
