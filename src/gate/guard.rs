//! The request guard: reads one request head out of untrusted bytes, or says why it is refused. Pure functions.
//!
//! tiny_http 0.12 must never see what it cannot stand (platform-notes section 2: bodies announced with absurd lengths
//! abort the process, HTTP/2.0 leaks descriptors, chunked bodies desynchronise the connection, heads have no limit).
//! So the guard is strict where RFC 9112 allows it, and what passes is written anew by [`Head::forward`].

use super::Limits;

/// A refused request: status and a line of text for the client, after which the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

type Checked<T> = std::result::Result<T, Refusal>;

/// A checked request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    /// Origin form: begins with `/`, printable ASCII, still percent-encoded, with the query.
    pub(super) target: String,
    /// HTTP/1.0 if true, else HTTP/1.1.
    pub(super) http10: bool,
    /// Names as sent; values without surrounding blanks, printable ASCII and tabs.
    pub(super) headers: Vec<(String, String)>,
    /// Bytes of body that follow the head.
    pub(super) content_length: usize,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The client allows another request on this connection.
    pub(super) keep_alive: bool,
    /// Bytes that the head takes in the buffer, the empty line included.
    pub(super) length: usize,
}

/// Headers that concern only the connection to the client, or that the gate has dealt with. `TE` is one of them
/// because tiny_http would answer in chunks.
const NOT_FORWARDED: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
];

impl Head {
    /// The path, for the log: never the query, which carries the token (agent-api-v2 1.5), nor a token whose `?` was
    /// forgotten, and never more than 200 characters.
    pub(super) fn path_for_log(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        let path = path.split("token=").next().unwrap_or_default();
        path.get(..200).unwrap_or(path)
    }

    /// The head as it is passed on to a door: one request, no more to come.
    pub(super) fn forward(&self) -> Vec<u8> {
        let version = if self.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut out = format!("{} {} {version}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            if !NOT_FORWARDED.iter().any(|n| name.eq_ignore_ascii_case(n)) {
                out.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        out.push_str(&format!(
            "Connection: close\r\nContent-Length: {}\r\n\r\n",
            self.content_length
        ));
        out.into_bytes()
    }
}

/// Looks for a whole head at the start of `buf`. `None`: more bytes are needed. `scanned` is the caller's memory of
/// how far earlier calls on the same growing buffer have looked; it starts at 0 with each request.
pub(super) fn parse(buf: &[u8], scanned: &mut usize, limits: &Limits) -> Checked<Option<Head>> {
    // RFC 9112 2.2: empty lines before the request line are ignored.
    let mut start = 0;
    while buf[start..].starts_with(b"\r\n") {
        start += 2;
    }
    match buf.get(start) {
        Some(0x16) => {
            return Err(Refusal(
                400,
                "This port speaks plain HTTP, not TLS (use-ssl is off)",
            ));
        }
        Some(b) if !is_token_byte(*b) && *b != b'\r' => {
            return Err(Refusal(400, "Request does not begin with a method"));
        }
        _ => {}
    }
    let Some(end) = find_end(buf, start, scanned)? else {
        return if buf.len() >= limits.head {
            Err(TOO_LARGE)
        } else {
            Ok(None)
        };
    };
    if end > limits.head {
        return Err(TOO_LARGE);
    }
    // Without the last line's CRLF and the empty line.
    parse_head(&buf[start..end - 4], end, limits).map(Some)
}

const TOO_LARGE: Refusal = Refusal(431, "Request head is too large");

/// Index behind the empty line that ends the head. A line feed without carriage return is refused at once: the client
/// would wait for an answer that never comes.
fn find_end(buf: &[u8], start: usize, scanned: &mut usize) -> Checked<Option<usize>> {
    for i in (*scanned).max(start)..buf.len() {
        if buf[i] != b'\n' {
            continue;
        }
        if i == 0 || buf[i - 1] != b'\r' {
            return Err(Refusal(400, "Lines must end in CR LF"));
        }
        if i >= start + 3 && &buf[i - 3..i] == b"\r\n\r" {
            return Ok(Some(i + 1));
        }
    }
    *scanned = buf.len();
    Ok(None)
}

fn parse_head(head: &[u8], length: usize, limits: &Limits) -> Checked<Head> {
    if let Some(b) = head
        .iter()
        .find(|b| !matches!(b, b'\t' | b'\r' | b'\n' | 0x20..=0x7e))
    {
        let text = if b.is_ascii() {
            "Control character in request"
        } else {
            "Request is not ASCII"
        };
        return Err(Refusal(400, text));
    }
    let text = str::from_utf8(head).map_err(|_| Refusal(400, "Request is not ASCII"))?;
    let mut lines = text.split("\r\n");
    let (method, target, http10) = request_line(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == limits.headers {
            return Err(Refusal(431, "Too many request headers"));
        }
        headers.push(header(line)?);
    }
    let all = |name: &str| {
        let name = name.to_string();
        headers
            .iter()
            .filter(move |(n, _): &&(String, String)| n.eq_ignore_ascii_case(&name))
            .map(|(_, value)| value.as_str())
    };

    if all("Transfer-Encoding").next().is_some() {
        return Err(Refusal(
            501,
            "Transfer-Encoding is not supported; send Content-Length",
        ));
    }
    let hosts = all("Host").count();
    if hosts > 1 || (hosts == 0 && !http10) {
        return Err(Refusal(400, "Exactly one Host header is needed"));
    }
    let content_length = content_length(all("Content-Length"), limits)?;
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
        method,
        target,
        http10,
        content_length,
        expects_continue,
        keep_alive,
        length,
        headers,
    })
}

fn request_line(line: &str) -> Checked<(String, String, bool)> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(Refusal(400, "Request line is not METHOD TARGET VERSION"));
    };
    let http10 = match version.as_bytes() {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are supported"));
        }
        _ => return Err(Refusal(400, "Request line has no HTTP version")),
    };
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        return Err(Refusal(400, "Method is not a token"));
    }
    let target = origin_form(target).ok_or(Refusal(400, "Request target is not a path"))?;
    Ok((method.to_string(), target, http10))
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
    Some(if path.starts_with('/') {
        path.to_string()
    } else {
        format!("/{path}")
    })
}

fn header(line: &str) -> Checked<(String, String)> {
    if line.starts_with([' ', '\t']) {
        return Err(Refusal(400, "Folded header lines are not supported"));
    }
    let (name, value) = line
        .split_once(':')
        .ok_or(Refusal(400, "Header without a colon"))?;
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(Refusal(400, "Header name is not a token"));
    }
    if value.contains(['\r', '\n']) {
        return Err(Refusal(400, "Lines must end in CR LF"));
    }
    Ok((
        name.to_string(),
        value.trim_matches([' ', '\t']).to_string(),
    ))
}

fn content_length<'a>(
    mut values: impl Iterator<Item = &'a str>,
    limits: &Limits,
) -> Checked<usize> {
    let Some(value) = values.next() else {
        return Ok(0);
    };
    if values.next().is_some() {
        return Err(Refusal(400, "More than one Content-Length"));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal(400, "Content-Length is not a number"));
    }
    // Digits only, so what does not parse is too large for a usize.
    value
        .parse()
        .ok()
        .filter(|n| *n <= limits.body)
        .ok_or(Refusal(413, "Request body is too large"))
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
