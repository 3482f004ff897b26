//! A client's socket, in clear or in TLS, with an absolute deadline: a client that sends or takes one byte at a time
//! cannot stretch it.

use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Its reads and writes fail with `TimedOut` once the deadline has passed, however many bytes still trickle.
pub(super) struct Stream {
    below: Deadline,
    tls: Option<Box<ServerConnection>>,
}

struct Deadline {
    socket: Arc<TcpStream>,
    until: Instant,
}

impl Stream {
    /// In clear; everything must be done within `limit` from now until the next [`Stream::within`].
    pub(super) fn new(socket: Arc<TcpStream>, limit: Duration) -> Self {
        let until = Instant::now() + limit;
        let below = Deadline { socket, until };
        Self { below, tls: None }
    }

    pub(super) fn within(&mut self, limit: Duration) {
        self.below.until = Instant::now() + limit;
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.below.socket
    }

    /// The first byte that is to be read, which stays where it is; `None` at the end.
    pub(super) fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let n = self
            .below
            .repeat(TcpStream::set_read_timeout, |socket| socket.peek(&mut byte))?;
        Ok((n > 0).then_some(byte[0]))
    }

    /// From now on in TLS, after the handshake. If that fails, the client has got an alert.
    pub(super) fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.complete_io(&mut self.below)?;
        if tls.is_handshaking() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// The certificates that the client has shown and that were verified, its own first.
    pub(super) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref()?.peer_certificates()
    }

    /// No bytes follow: in TLS the close is announced, so that a response that was cut short is not taken for a complete one.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                if tls.write_tls(&mut self.below).is_err() {
                    return; // the client has gone
                }
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.below).read(buf),
            None => self.below.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.below).write(buf),
            None => self.below.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.below).flush(),
            None => Ok(()), // a TcpStream has no buffer of its own
        }
    }
}

impl Deadline {
    /// A call that is repeated until it has a result or the deadline has passed. `limit` sets the socket's own timeout.
    fn repeat(
        &self,
        limit: impl Fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            limit(&self.socket, Some(left))?;
            match call(&self.socket) {
                // WouldBlock is how Linux reports SO_RCVTIMEO.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                done => return done,
            }
        }
    }
}

impl Read for Deadline {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.repeat(TcpStream::set_read_timeout, |mut socket| socket.read(buf))
    }
}

impl Write for Deadline {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.repeat(TcpStream::set_write_timeout, |mut socket| socket.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let mut stream = Stream::new(server.clone(), Duration::from_millis(150));
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
        let mut stream = Stream::new(server, Duration::from_millis(100));
        let error = stream.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_new_deadline_counts_from_now() {
        let (server, mut client) = pair();
        let mut stream = Stream::new(server, Duration::ZERO);
        client.write_all(b"ab").unwrap();
        assert_eq!(
            stream.read(&mut [0; 2]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        stream.within(Duration::from_secs(5));
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 2);
    }
}
