//! A request and a response as the handler sees them.

use super::Door;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Answers requests. Called by several threads at a time; may panic, which costs only the request.
pub type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// A header of a response, with any value: the gate takes it out, and lets the client wait who has had several of them.
pub const STRIKE: &str = "Gate-Strike";

/// A complete request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` and so on. HEAD arrives as `GET`; the gate drops the body of its response.
    pub method: String,
    /// Begins with `/`; percent-encoded as the client sent it.
    pub path: String,
    /// What follows the first `?`, unchanged; empty if there is none.
    pub query: String,
    /// Names as sent, values without surrounding blanks; headers that concern only the connection are left out.
    pub headers: Vec<(String, String)>,
    /// Empty if there is none.
    pub body: Vec<u8>,
    /// What the client may reach. The gate opens the door; it is the handler that must answer 401 for all but the
    /// status endpoint behind [`Door::StatusOnly`].
    pub door: Door,
}

impl Request {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// Takes over a request, body included, from a door.
    pub(super) fn from_door(job: &mut tiny_http::Request, door: Door) -> io::Result<Self> {
        let mut body = Vec::new();
        job.as_reader().read_to_end(&mut body)?;
        if job
            .body_length()
            .is_some_and(|announced| announced != body.len())
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (path, query) = job.url().split_once('?').unwrap_or((job.url(), ""));
        let own = ["connection", "content-length"];
        let headers = job
            .headers()
            .iter()
            .map(|h| (h.field.to_string(), h.value.to_string()));
        Ok(Self {
            method: match job.method().as_str() {
                "HEAD" => "GET".to_string(),
                method => method.to_string(),
            },
            path: path.to_string(),
            query: query.to_string(),
            headers: headers
                .filter(|(n, _)| !own.iter().any(|o| n.eq_ignore_ascii_case(o)))
                .collect(),
            body,
            door,
        })
    }
}

/// Shows method and path only: query and headers may carry the token.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({} bytes, {:?})",
            self.method,
            self.path,
            self.body.len(),
            self.door
        )
    }
}

/// A complete response. The gate adds Content-Length, Date, Server and Connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: &'static str,
    /// Dropped by the gate if the request was HEAD.
    pub body: Vec<u8>,
    /// More headers. Those that are not printable ASCII, and Content-Length, are left out with a line in the log.
    pub headers: Vec<(String, String)>,
}

impl Response {
    /// What a crashed handler answers (agent-api-v2 0, "Handler crash").
    pub(super) fn internal_error() -> Self {
        Self {
            status: 500,
            content_type: "text/plain",
            body: b"500 Internal Server Error".to_vec(),
            headers: Vec::new(),
        }
    }
}
