//! The head of tiny_http's response, on its way back to the client.

use super::STRIKE;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// Bytes read from a door at a time.
const CHUNK: usize = 4096;
/// Largest response head that is taken from a door.
const LARGEST: usize = 64 << 10;

/// What tiny_http answered: its own head, always with a Content-Length, and the first bytes of the body.
pub(super) struct ResponseHead {
    /// The head up to and with the last header's CRLF, without the empty line.
    head: Vec<u8>,
    /// The bytes of the body that were read along with the head.
    pub(super) rest: Vec<u8>,
    pub(super) status: u16,
    /// The handler has marked it by [`STRIKE`].
    pub(super) strike: bool,
    /// Bytes of body that follow the head; 0 for HEAD, 204 and 304, whatever Content-Length says.
    pub(super) body: usize,
}

impl ResponseHead {
    /// Reads the head of the response to a request, which was HEAD if `to_head`.
    pub(super) fn read(door: &mut UnixStream, to_head: bool) -> io::Result<Self> {
        let mut head = Vec::new();
        let end = loop {
            if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; CHUNK];
            let n = door.read(&mut chunk)?;
            if n == 0 || head.len() > LARGEST {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "no response from the worker",
                ));
            }
            head.extend_from_slice(&chunk[..n]);
        };
        let rest = head.split_off(end);
        head.truncate(end - 2);
        let text = String::from_utf8_lossy(&head);
        let status = text.get(9..12).and_then(|s| s.parse().ok());
        let length = text
            .lines()
            .find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the worker's response has no length",
            ));
        };
        let mut kept = String::with_capacity(text.len());
        let marked = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name == STRIKE);
        kept.extend(text.split_inclusive("\r\n").filter(|line| !marked(line)));
        let strike = kept.len() < text.len();
        let head = kept.into_bytes();
        let body = if to_head || matches!(status, 204 | 304) {
            0
        } else {
            length
        };
        Ok(Self {
            head,
            rest,
            status,
            strike,
            body,
        })
    }

    /// The head with one more header line and the empty line.
    pub(super) fn with_line(&self, line: &str) -> Vec<u8> {
        [&self.head, line.as_bytes(), b"\r\n"].concat()
    }
}

/// The door closed before the whole body had come.
pub(super) fn cut_short() -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        "the response ended before its Content-Length",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(response: &[u8], to_head: bool) -> io::Result<ResponseHead> {
        let (mut door, mut server) = UnixStream::pair()?;
        server.write_all(response)?;
        drop(server);
        ResponseHead::read(&mut door, to_head)
    }

    #[test]
    fn a_header_line_goes_before_the_empty_line() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let head = read(response, false).unwrap();
        assert_eq!(
            (head.status, head.body, head.rest.as_slice()),
            (200, 2, &b"ok"[..])
        );
        let out = head.with_line("Connection: close\r\n");
        assert_eq!(
            out,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_mark_is_taken_out() {
        let response = b"HTTP/1.1 500 No\r\nGate-Strike: token\r\nContent-Length: 2\r\n\r\nok";
        let head = read(response, false).unwrap();
        assert!(head.strike && head.status == 500);
        assert_eq!(
            head.with_line(""),
            b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n"
        );
    }

    #[test]
    fn responses_without_body() {
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true)
                .unwrap()
                .body,
            0
        );
        assert_eq!(
            read(b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", false)
                .unwrap()
                .body,
            0
        );
    }

    #[test]
    fn no_response_or_half_a_head_is_an_error() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
        ] {
            assert!(read(bytes.as_bytes(), false).is_err(), "{bytes:?}");
        }
        let endless = [
            b"HTTP/1.1 200 OK\r\nX: ".as_slice(),
            &vec![b'y'; LARGEST + CHUNK + 1],
        ]
        .concat();
        let (mut door, mut server) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || server.write_all(&endless));
        assert!(ResponseHead::read(&mut door, false).is_err());
        drop(door);
        let _ = writer.join().unwrap(); // may or may not have got rid of all its bytes
    }
}
