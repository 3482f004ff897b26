//! A client's socket with an absolute deadline: a client that sends or takes one byte at a time cannot stretch it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads and writes that fail with `TimedOut` once the deadline has passed, however many bytes still trickle.
#[derive(Debug)]
pub(super) struct Deadline {
    socket: Arc<TcpStream>,
    until: Instant,
}

impl Deadline {
    /// Everything must be done within `limit` from now until the next [`Deadline::within`].
    pub(super) fn new(socket: Arc<TcpStream>, limit: Duration) -> Self {
        let until = Instant::now() + limit;
        Self { socket, until }
    }

    /// Sets a new deadline, `limit` from now.
    pub(super) fn within(&mut self, limit: Duration) {
        self.until = Instant::now() + limit;
    }

    /// The first byte that is to be read, which stays where it is; `None` at the end.
    pub(super) fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            self.socket.set_read_timeout(Some(self.remaining()?))?;
            match self.socket.peek(&mut byte) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                done => return Ok((done? > 0).then_some(byte[0])),
            }
        }
    }

    fn remaining(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(ErrorKind::TimedOut.into())
        } else {
            Ok(left)
        }
    }
}

impl Read for Deadline {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.remaining()?))?;
            match (&*self.socket).read(buf) {
                // WouldBlock is how Linux reports SO_RCVTIMEO.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                done => return done,
            }
        }
    }
}

impl Write for Deadline {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            self.socket.set_write_timeout(Some(self.remaining()?))?;
            match (&*self.socket).write(buf) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a TcpStream has no buffer of its own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn dripped_bytes_do_not_stretch_the_deadline() {
        let (server, mut client) = pair();
        let dripper = thread::spawn(move || {
            while client.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut stream = Deadline::new(server.clone(), Duration::from_millis(150));
        let start = Instant::now();
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!all.is_empty());
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(140) && took < Duration::from_secs(5),
            "{took:?}"
        );
        drop((stream, server));
        dripper.join().unwrap();
    }

    #[test]
    fn a_client_that_does_not_read_ends_the_write() {
        let (server, _client) = pair();
        let mut stream = Deadline::new(server, Duration::from_millis(100));
        let error = stream.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_new_deadline_counts_from_now() {
        let (server, mut client) = pair();
        let mut stream = Deadline::new(server, Duration::ZERO);
        client.write_all(b"ab").unwrap();
        assert_eq!(
            stream.read(&mut [0; 2]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        stream.within(Duration::from_secs(5));
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 2);
    }
}
