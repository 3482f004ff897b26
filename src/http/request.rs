//! A request: its head is read strictly from untrusted bytes, and written again for tiny_http. Pure functions.
//!
//! tiny_http 0.12 must not see bodies announced with absurd lengths (they abort the process), HTTP/2.0 (leaks
//! descriptors), chunked bodies (they desynchronise the connection) or heads without a limit. So the parser is strict
//! where RFC 9112 allows it, and [`Head::forward`] writes what passes as one request with `Connection: close`.

use httparse::{EMPTY_HEADER, Error, Status};
use std::fmt;
use std::fs::File;
use std::time::Duration;

/// The header that names a request within the process. One that a client sends is left out.
pub(super) const REQUEST_ID: &str = "Agent-Request-Id";

/// Bounds of what a client may send and of the time it may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of a request head, the empty line included: 16 KiB.
    pub(crate) head: usize,
    /// Headers of a request: 100.
    pub(crate) headers: usize,
    /// Bytes of a request body in memory: 1 MiB.
    pub(crate) body: usize,
    /// From the first byte of a head, or of a TLS handshake, to its end: 10 s.
    pub(crate) head_time: Duration,
    /// Without the first byte of a (next) request: 60 s.
    pub(crate) idle: Duration,
    /// For the client to send a body, and again to take a response: 60 s, and as long again for each further MiB. Does
    /// not count while the handler works.
    pub(crate) transfer: Duration,
    /// How long the response to a wrong token is held back (`failed-token-delay`).
    pub(crate) failed_token_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 << 10,
            headers: 100,
            body: 1 << 20,
            head_time: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            transfer: Duration::from_secs(60),
            failed_token_delay: Duration::ZERO,
        }
    }
}

/// Which endpoints a connection may reach. Decided once for each connection, from the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    All,
    /// The status endpoint only: the client has shown no valid certificate where one is required.
    StatusOnly,
}

/// A request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// In memory; empty if there is none.
    Bytes(Vec<u8>),
    /// In a file without a name, to be read from its start.
    File(File),
}

/// A request as the handler sees it.
pub(crate) struct Request {
    /// `GET`, `POST` and so on. HEAD arrives as `GET`; the body of its response is not sent.
    pub(crate) method: String,
    /// Begins with `/`; percent-encoded as the client sent it.
    pub(crate) path: String,
    /// What follows the first `?`, unchanged; empty if there is none.
    pub(crate) query: String,
    /// Names as sent, values without surrounding blanks.
    pub(crate) headers: Vec<(String, String)>,
    /// Empty while the request is routed by its head.
    pub(crate) body: RequestBody,
    /// What the client may reach: the router must reject all but the status endpoint for [`Access::StatusOnly`].
    pub(crate) access: Access,
}

impl Request {
    /// A request without a body. `target` is in origin form.
    pub(crate) fn new(
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        access: Access,
    ) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: if method == "HEAD" { "GET" } else { method }.to_string(),
            path: path.to_string(),
            query: query.to_string(),
            headers,
            body: RequestBody::Bytes(Vec::new()),
            access,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Shows method and path only: query and headers may carry the token.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({:?})", self.method, self.path, self.access)
    }
}

/// A request that is not accepted: status and a line of text for the client, with 302 the Location, after which the connection is
/// closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

pub(super) type Checked<T> = std::result::Result<T, Refusal>;

#[derive(Debug)]
pub(super) struct Head {
    /// The request without its body. Its target is in origin form: printable ASCII, still percent-encoded.
    pub(super) request: Request,
    pub(super) head_only: bool,
    pub(super) http10: bool,
    /// Bytes of body that follow the head.
    pub(super) content_length: u64,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The client allows another request on this connection.
    pub(super) keep_alive: bool,
    /// Bytes that the head takes in the buffer, the empty line included.
    pub(super) length: usize,
}

/// Headers that concern only the connection to the client, or that the front has dealt with. `TE` is one of them
/// because tiny_http would answer in chunks.
const NOT_FORWARDED: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
    REQUEST_ID,
];

impl Head {
    /// At most 200 characters of the path: never the query, which carries the token, nor a token whose `?` was forgotten.
    pub(super) fn path_for_log(&self) -> &str {
        let path = self.request.path.split("token=").next().unwrap_or_default();
        path.get(..200).unwrap_or(path)
    }

    /// The length of the body, at most `limit` bytes.
    pub(super) fn body_within(&self, limit: u64) -> Checked<u64> {
        let fits = self.content_length <= limit;
        fits.then_some(self.content_length).ok_or(BODY_TOO_LARGE)
    }

    /// The head as it is passed on to tiny_http: one request without its body, no more to come.
    pub(super) fn forward(&self, id: u64) -> Vec<u8> {
        let r = &self.request;
        let method = if self.head_only { "HEAD" } else { &r.method };
        let mark = if r.query.is_empty() { "" } else { "?" };
        let version = if self.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut out = format!("{method} {}{mark}{} {version}\r\n", r.path, r.query);
        for (name, value) in &r.headers {
            if !NOT_FORWARDED.iter().any(|n| name.eq_ignore_ascii_case(n)) {
                out.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        out.push_str(&format!(
            "{REQUEST_ID}: {id}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        out.into_bytes()
    }
}

const BODY_TOO_LARGE: Refusal = Refusal(413, "Request body is too large");
const LINE_END: Refusal = Refusal(400, "Lines must end in CR LF");

/// Reads the head at the start of `buf`. `None`: more bytes are needed.
pub(super) fn parse(buf: &[u8], access: Access, limits: &Limits) -> Checked<Option<Head>> {
    let mut fields = vec![EMPTY_HEADER; limits.headers];
    let mut parsed = httparse::Request::new(&mut fields);
    let status = parsed.parse(buf).map_err(|e| refusal(e, buf))?;
    let head = match status {
        Status::Complete(length) => &buf[..length],
        Status::Partial => buf,
    };
    // httparse accepts a line feed by itself, tiny_http does not.
    let bare = |i: usize| head[i] == b'\n' && (i == 0 || head[i - 1] != b'\r');
    if (0..head.len()).any(bare) {
        return Err(LINE_END);
    }
    if head.len() + usize::from(status.is_partial()) > limits.head {
        return Err(Refusal(431, "Request head is too large"));
    }
    if status.is_partial() {
        return Ok(None);
    }
    checked(&parsed, head.len(), access).map(Some)
}

/// The complete head that httparse has read, `length` bytes long.
fn checked(parsed: &httparse::Request, length: usize, access: Access) -> Checked<Head> {
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal(400, "Request head is incomplete"));
    };
    let http10 = minor == 0;
    let target = origin_form(target).ok_or(Refusal(400, "Request target is not a path"))?;
    let mut headers = Vec::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let value = str::from_utf8(field.value).ok().filter(|v| v.is_ascii());
        let value = value.ok_or(Refusal(400, "Request is not ASCII"))?;
        let value = value.trim_matches([' ', '\t']);
        headers.push((field.name.to_string(), value.to_string()));
    }
    let all = |name: &'static str| {
        let all = headers.iter();
        all.filter_map(move |(n, value)| n.eq_ignore_ascii_case(name).then_some(value.as_str()))
    };

    if all("Transfer-Encoding").next().is_some() {
        let text = "Transfer-Encoding is not supported; send Content-Length";
        return Err(Refusal(501, text));
    }
    let hosts = all("Host").count();
    if hosts > 1 || (hosts == 0 && !http10) {
        return Err(Refusal(400, "Exactly one Host header is needed"));
    }
    let content_length = content_length(all("Content-Length"))?;
    let expects_continue = match all("Expect").next() {
        Some(value) if value.eq_ignore_ascii_case("100-continue") => !http10 && content_length > 0,
        Some(_) => return Err(Refusal(417, "Expect: only 100-continue is supported")),
        None => false,
    };
    let connection = |token: &str| {
        all("Connection").any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    };
    let keep_alive = !connection("close") && (!http10 || connection("keep-alive"));
    Ok(Head {
        head_only: method == "HEAD",
        http10,
        content_length,
        expects_continue,
        keep_alive,
        length,
        request: Request::new(method, &target, headers, access),
    })
}

/// What the client gets for a head that httparse rejects.
fn refusal(e: Error, head: &[u8]) -> Refusal {
    match e {
        Error::Token if head.first() == Some(&0x16) => {
            Refusal(400, "This port uses plain HTTP, not TLS (use-ssl is off)")
        }
        Error::TooManyHeaders => Refusal(431, "Too many request headers"),
        Error::HeaderName => Refusal(400, "Malformed or folded request header"),
        Error::HeaderValue => Refusal(400, "Control character in a request header"),
        Error::NewLine => LINE_END,
        Error::Version if is_other_version(head) => {
            Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are supported")
        }
        _ => Refusal(400, "Request line is not METHOD TARGET VERSION"),
    }
}

/// True for a well-formed request line of another version of HTTP.
fn is_other_version(head: &[u8]) -> bool {
    let mut lines = head.trim_ascii_start().split(|b| *b == b'\r');
    let parts = lines.next().unwrap_or_default().split(|b| *b == b' ');
    let parts: Vec<&[u8]> = parts.collect();
    let [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]] = parts[..] else {
        return false;
    };
    major.is_ascii_digit() && minor.is_ascii_digit()
}

/// The target as path and query. The absolute form `http://host/path` (RFC 9112 3.2.2) loses scheme and host.
fn origin_form(target: &str) -> Option<String> {
    if target.bytes().any(|b| !b.is_ascii_graphic()) {
        return None;
    }
    if target.starts_with('/') {
        return Some(target.to_string());
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(format!("{slash}{path}"))
}

fn content_length<'a>(mut values: impl Iterator<Item = &'a str>) -> Checked<u64> {
    let Some(value) = values.next() else {
        return Ok(0);
    };
    if values.next().is_some() {
        return Err(Refusal(400, "More than one Content-Length"));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal(400, "Content-Length is not a number"));
    }
    // Digits only, so what does not parse is too large for a u64.
    value.parse().map_err(|_| BODY_TOO_LARGE)
}

#[cfg(test)]
#[path = "tests/request.rs"]
mod tests;
