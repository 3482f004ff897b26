//! A response: written by a worker into tiny_http's connection, read by the front, passed on to the client.
//!
//! A body whose length is not known goes in chunks of our own, flushed one by one: tiny_http's encoder buffers 8 KiB,
//! and ends a body whose reader has failed as if it were complete. Here the last chunk is written at the end only, so
//! that a client can tell a complete body from one that was cut short.

use httparse::EMPTY_HEADER;
use log::error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use tiny_http::{HTTPVersion, Header, Method, StatusCode};

/// Bytes of a body that are moved at a time.
pub(super) const PIECE: usize = 64 << 10;
/// Bytes that are read from a worker's connection at a time.
const BUFFER: usize = 8 << 10;
/// Largest response head that is taken from a worker.
const LARGEST_HEAD: u64 = 64 << 10;
const HEADERS: usize = 64;
/// The header by which a worker names a response to a wrong token. The client does not get it.
const WRONG_TOKEN: &str = "Agent-Wrong-Token";

/// A response. Content-Length or Transfer-Encoding, Date, Server and Connection are added.
pub struct Response {
    /// 200 to 599.
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// More headers. Those that are not printable ASCII, and Content-Length, are left out with a line in the log.
    pub(crate) headers: Vec<(String, String)>,
    /// Not sent if the request was HEAD.
    pub body: Body,
    /// The request had a wrong token: the client gets the response after [`super::Limits::failed_token_delay`].
    pub(crate) wrong_token: bool,
}

/// The body of a response.
pub enum Body {
    /// In memory.
    Bytes(Vec<u8>),
    /// Sent as it is read. A reader that fails, or that ends before `length`, gives the client an unexpected end.
    Reader {
        /// Where the bytes come from.
        reader: Box<dyn Read + Send>,
        /// How many there are, if that is known.
        length: Option<u64>,
    },
}

impl Response {
    /// A response with a body in memory.
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: Body::Bytes(body.into()),
            wrong_token: false,
        }
    }

    /// Writes it as the answer to `request`. After an error of the reader its end is missing.
    pub(super) fn send(self, request: tiny_http::Request) -> io::Result<()> {
        let head_only = *request.method() == Method::Head;
        let mut out = request.into_writer();
        let length = match &self.body {
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Reader { length, .. } => *length,
        };
        let mut head = Vec::new();
        tiny_http::Response::new(
            StatusCode(self.status),
            self.tiny_headers(),
            io::empty(),
            length.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            None,
        )
        .with_chunked_threshold(usize::MAX)
        .raw_print(&mut head, HTTPVersion(1, 1), &[], true, None)?;
        match self.body {
            _ if head_only => {}
            // One write, so that the front can pass all of it on at once.
            Body::Bytes(bytes) if bytes.len() <= PIECE => head.extend(bytes),
            Body::Bytes(bytes) => {
                out.write_all(&head)?;
                head = bytes;
            }
            Body::Reader { reader, .. } => {
                out.write_all(&head)?;
                out.flush()?;
                return copy(reader, length, out);
            }
        }
        out.write_all(&head)?;
        out.flush()
    }

    fn tiny_headers(&self) -> Vec<Header> {
        let mut own = vec![("Content-Type".to_string(), self.content_type.to_string())];
        if self.wrong_token {
            own.push((WRONG_TOKEN.into(), "1".into()));
        }
        let tiny = |(name, value): &(String, String)| {
            // A line break would end the header; a Content-Length other than the body's would desynchronise the client.
            let safe = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            let header = Header::from_bytes(name.as_bytes(), value.as_bytes()).ok();
            let header = header.filter(|_| safe(name) && safe(value));
            let header = header.filter(|header| !header.field.equiv("Content-Length"));
            if header.is_none() {
                error!("http: response header {name:?} cannot be sent and is left out");
            }
            header
        };
        own.iter().chain(&self.headers).filter_map(tiny).collect()
    }
}

/// Writes what `reader` gives, each piece flushed: `length` bytes, or all in chunks.
fn copy(reader: impl Read, length: Option<u64>, mut out: impl Write) -> io::Result<()> {
    let mut reader = reader.take(length.unwrap_or(u64::MAX));
    let mut piece = vec![0; PIECE];
    loop {
        let n = match reader.read(&mut piece) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            n => n?,
        };
        match length {
            Some(_) if n == 0 && reader.limit() > 0 => return Err(cut_short()),
            Some(_) => out.write_all(&piece[..n])?,
            // A chunk without bytes is the last one.
            None => out.write_all(&chunk(&piece[..n]))?,
        }
        out.flush()?;
        if n == 0 {
            return Ok(());
        }
    }
}

/// A chunk of a body (RFC 9112 7.1). Without bytes it is the last one.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A worker's response on its way through the front.
pub(super) struct Incoming {
    pub(super) status: u16,
    pub(super) wrong_token: bool,
    /// Status and headers, without the version and without what concerns only the worker's connection.
    head: Vec<u8>,
    /// The client uses HTTP/1.0, which has no chunks.
    pub(super) http10: bool,
    /// The length of the body is not known before its end.
    chunked: bool,
    /// Bytes that follow, of the current chunk if the body is chunked.
    left: u64,
    /// No part of the body follows.
    pub(super) is_complete: bool,
    socket: BufReader<UnixStream>,
}

impl Incoming {
    /// Reads the head of the response to a request, which was HEAD if `to_head`.
    pub(super) fn read(socket: UnixStream, to_head: bool, http10: bool) -> io::Result<Self> {
        let mut socket = BufReader::with_capacity(BUFFER, socket);
        let mut bytes = Vec::new();
        let mut limited = (&mut socket).take(LARGEST_HEAD);
        while !bytes.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut bytes)? == 0 {
                return Err(invalid("the worker sent no response"));
            }
        }
        let mut fields = [EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Response::new(&mut fields);
        let complete = parsed
            .parse(&bytes)
            .is_ok_and(|status| status.is_complete());
        let status = parsed.code.filter(|_| complete);
        let status = status.ok_or_else(|| invalid("the worker sent a malformed response"))?;
        let reason = parsed.reason.unwrap_or_default();
        let mut head = format!("{status} {reason}\r\n").into_bytes();
        let (mut wrong_token, mut chunked, mut length) = (false, false, None);
        for field in parsed.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is(WRONG_TOKEN) {
                wrong_token = true;
                continue;
            } else if is("Transfer-Encoding") {
                chunked = true; // to the client it depends on its version
                continue;
            } else if is("Content-Length") {
                let value = str::from_utf8(field.value).ok();
                length = value.and_then(|v| v.parse().ok());
            }
            head.extend([field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
        }
        let left = length.or(chunked.then_some(0));
        let left = left.ok_or_else(|| invalid("the worker's response has no length"))?;
        let has_body = !to_head && !matches!(status, 204 | 304);
        Ok(Self {
            status,
            wrong_token,
            head,
            http10,
            chunked,
            left,
            is_complete: !has_body || (left == 0 && !chunked),
            socket,
        })
    }

    /// True if the end of the client's connection is the end of the body.
    pub(super) fn ends_connection(&self) -> bool {
        self.chunked && self.http10
    }

    /// The head for the client, with one more header line, and as much of the body as has already come.
    pub(super) fn start(&mut self, line: &str) -> io::Result<Vec<u8>> {
        let (version, chunked): (&[u8], &[u8]) = match (self.http10, self.chunked) {
            (true, _) => (b"HTTP/1.0 ", b""),
            (false, true) => (b"HTTP/1.1 ", b"Transfer-Encoding: chunked\r\n"),
            (false, false) => (b"HTTP/1.1 ", b""),
        };
        let mut out = [version, &self.head, line.as_bytes(), chunked, b"\r\n"].concat();
        if !self.is_complete && !self.socket.buffer().is_empty() {
            self.append(&mut out)?;
        }
        Ok(out)
    }

    /// Appends the next piece of the body, which is waited for; in chunks, unless the length is known or the client
    /// uses HTTP/1.0. It is an error if the worker has ended before the end of the body.
    pub(super) fn append(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.chunked && self.left == 0 {
            self.left = self.next_chunk()?;
        }
        let begin = out.len();
        // One call of read: what is there must not wait for more.
        out.resize(begin + self.left.min(PIECE as u64) as usize, 0);
        let n = self.socket.read(&mut out[begin..])?;
        out.truncate(begin + n);
        if n == 0 && self.left > 0 {
            return Err(cut_short());
        }
        self.left -= n as u64;
        if !self.chunked {
            self.is_complete = self.left == 0;
            return Ok(());
        }
        if !self.http10 {
            let framed = chunk(&out[begin..]);
            out.truncate(begin);
            out.extend(framed);
        }
        if self.left == 0 {
            let mut end = [0; 2];
            self.socket.read_exact(&mut end).map_err(|_| cut_short())?;
        }
        self.is_complete = n == 0;
        Ok(())
    }

    fn next_chunk(&mut self) -> io::Result<u64> {
        let mut line = Vec::new();
        (&mut self.socket).take(20).read_until(b'\n', &mut line)?;
        let size = line.strip_suffix(b"\r\n").ok_or_else(cut_short)?;
        let size = str::from_utf8(size).ok();
        size.and_then(|s| u64::from_str_radix(s, 16).ok())
            .ok_or_else(|| invalid("the worker sent a malformed chunk"))
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

fn cut_short() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the response was cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(response: &[u8], to_head: bool, http10: bool) -> io::Result<Incoming> {
        let (front, mut worker) = UnixStream::pair()?;
        worker.write_all(response)?;
        drop(worker);
        Incoming::read(front, to_head, http10)
    }

    /// All that the client gets.
    fn passed_on(response: &[u8], http10: bool, line: &str) -> io::Result<String> {
        let mut incoming = read(response, false, http10)?;
        let mut out = incoming.start(line)?;
        while !incoming.is_complete {
            incoming.append(&mut out)?;
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_header_line_goes_before_the_empty_line() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(read(response, false, false).unwrap().status, 200);
        assert_eq!(
            passed_on(response, false, "Connection: close\r\n").unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        );
    }

    #[test]
    fn chunks_are_passed_on_to_http11_and_taken_apart_for_http10() {
        let response =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(
            passed_on(response, false, "").unwrap(),
            String::from_utf8_lossy(response)
        );
        assert_eq!(
            passed_on(response, true, "").unwrap(),
            "HTTP/1.0 200 OK\r\n\r\nabcd"
        );
    }

    #[test]
    fn a_missing_end_is_an_error() {
        for bytes in [
            "Content-Length: 5\r\n\r\n1234",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\n1234",
            "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0",
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            let response = format!("HTTP/1.1 200 OK\r\n{bytes}");
            for http10 in [false, true] {
                assert!(
                    passed_on(response.as_bytes(), http10, "").is_err(),
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn responses_without_body() {
        for (response, to_head) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", false),
        ] {
            let incoming = read(response.as_bytes(), to_head, false).unwrap();
            assert!(incoming.is_complete, "{response:?}");
        }
    }

    #[test]
    fn no_response_or_half_a_head_is_an_error() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
        ] {
            assert!(read(bytes.as_bytes(), false, false).is_err(), "{bytes:?}");
        }
        let endless = [
            b"HTTP/1.1 200 OK\r\nX: ".as_slice(),
            &vec![b'y'; LARGEST_HEAD as usize + BUFFER + 1],
        ]
        .concat();
        let (front, mut worker) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || worker.write_all(&endless));
        assert!(Incoming::read(front, false, false).is_err());
        let _ = writer.join().unwrap(); // may or may not have got rid of all its bytes
    }
}
