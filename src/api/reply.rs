//! The forms of an answer, as the Go agent and orchestrator have them.

use super::call::Call;
use crate::error::{Error, Result};
use crate::http::{Body, Response};
use crate::protocol::wire::{Envelope, INVALID_TOKEN};
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, bounded};
use serde::Serialize;
use std::io::{self, Cursor, Read};
use std::time::Duration;

/// The Location of [`signal`] for a call for which the agent has no place.
pub(super) const BUSY: &str =
    "agent-error:too many requests are at work; see common.max-connections";
const JSON: &str = "application/json; charset=UTF-8";
/// Longest text that a redirect carries.
const SIGNAL_LIMIT: usize = 150;
/// The same percent-encoded: with the words of orchestrator's own client it must fit into 255 characters.
const ENCODED_LIMIT: usize = 190;
/// How long a slow action may decide the complete answer.
const HEAD_LIMIT: Duration = Duration::from_secs(40);
/// How often a space is sent after that.
const PULSE: Duration = Duration::from_secs(10);

/// 200 with JSON, escaped as Go escapes it.
pub(super) fn json(value: &impl Serialize) -> Response {
    match encoded(value) {
        Ok(text) => Response::new(200, JSON, text),
        Err(e) => error(&e.to_string()),
    }
}

fn encoded(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map(go_escape);
    text.map_err(|e| Error::permanent(format!("cannot encode the answer: {e}")))
}

/// 500 with the uniform envelope: orchestrator takes any other status for a success.
pub(super) fn error(message: &str) -> Response {
    Response {
        status: 500,
        ..json(&Envelope::new("ERROR", message))
    }
}

/// The answer of an action that may take long. Up to 40 s it is decided by the result. Then its head is sent, because orchestrator's
/// client waits 60 s for it, but for ever for the body: a space now and then, and the JSON at the end. A failure cuts that short, so that
/// the client sees an unexpected end. The action goes on when the client has gone. By protocol v2 there is no limit.
pub(super) fn slow<T: Serialize>(
    call: &Call,
    action: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Response> {
    if call.is_classic() {
        slow_within(HEAD_LIMIT, PULSE, &call.request.path, action)
    } else {
        action().map(|value| json(&value))
    }
}

fn slow_within<T: Serialize>(
    limit: Duration,
    pulse: Duration,
    path: &str,
    action: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Response> {
    let (tx, result) = bounded(1);
    let name = path.to_string();
    spawn("slow-action", move || {
        let result = action().and_then(|value| encoded(&value));
        if let Err(SendError(Err(e))) = tx.send(result) {
            log::warn!("{name}: {e}; its client has gone");
        }
    })?;
    match result.recv_timeout(limit) {
        Ok(result) => result.map(|text| Response::new(200, JSON, text)),
        Err(RecvTimeoutError::Disconnected) => Err(panicked()),
        Err(RecvTimeoutError::Timeout) => {
            let reader = Box::new(Pending {
                name: path.into(),
                result,
                pulse,
                rest: None,
            });
            let mut response = Response::new(200, JSON, "");
            response.body = Body::Reader {
                reader,
                length: None,
            };
            Ok(response)
        }
    }
}

fn panicked() -> Error {
    Error::permanent("internal error: the action panicked; see the agent's standard error")
}

/// The body of an answer whose action is still at work.
struct Pending {
    /// In the log: its client cannot be sent why the action failed.
    name: String,
    result: Receiver<Result<String>>,
    /// A space is sent so often.
    pulse: Duration,
    /// What is left to be read of the result.
    rest: Option<Cursor<String>>,
}

impl Read for Pending {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(rest) = &mut self.rest {
            return rest.read(into);
        }
        let e = match self.result.recv_timeout(self.pulse) {
            Ok(Ok(text)) => return self.rest.insert(Cursor::new(text)).read(into),
            Err(RecvTimeoutError::Timeout) => return b" ".as_slice().read(into),
            Ok(Err(e)) => e,
            Err(RecvTimeoutError::Disconnected) => panicked(),
        };
        log::warn!("{}: {e}", self.name);
        Err(io::Error::other(e.to_string()))
    }
}

/// An error as the caller can understand it: by a redirect that orchestrator's client cannot follow, or by 500 with the envelope.
pub(super) fn failure(call: &Call, e: &Error) -> Response {
    if call.signals() {
        log::warn!("{}: {e}", call.request.path); // orchestrator is sent the two ends of a long text
        signal(&e.to_string())
    } else {
        error(&e.to_string())
    }
}

/// 302 to an address whose scheme no client knows: `Get "agent-error:<text>": unsupported protocol scheme "agent-error"` (net/http of
/// Go). That is what orchestrator shows, up to 255 characters of it.
fn signal(text: &str) -> Response {
    let location = format!("agent-error:{}", opaque(text));
    Response {
        headers: vec![("Location".into(), location)],
        ..self::text(302, "")
    }
}

/// `text` as the opaque part of a URL, at most [`SIGNAL_LIMIT`] characters of it and [`ENCODED_LIMIT`] encoded.
fn opaque(text: &str) -> String {
    // Go quotes what it shows: a quotation mark would come with a backslash.
    let text = text.trim().replace('"', "'");
    let shorter = (1..=SIGNAL_LIMIT).rev();
    let encoded = shorter.map(|limit| percent_encoded(&without_middle(&text, limit)));
    let mut fitting = encoded.filter(|encoded| encoded.len() <= ENCODED_LIMIT);
    fitting.next().unwrap_or_default()
}

/// At most `limit` characters: the beginning says what failed, the end why, or what corrects it.
fn without_middle(text: &str, limit: usize) -> String {
    const GAP: &str = " ... ";
    let all: Vec<char> = text.chars().collect();
    if all.len() <= limit {
        return text.to_string();
    }
    let kept = limit.saturating_sub(GAP.len());
    let (head, tail) = (kept * 2 / 5, kept - kept * 2 / 5);
    let head: String = all[..head].iter().collect();
    let tail: String = all[all.len() - tail..].iter().collect();
    let head = head
        .rsplit_once(' ')
        .map_or(head.as_str(), |(words, _)| words);
    let tail = tail
        .split_once(' ')
        .map_or(tail.as_str(), |(_, words)| words);
    format!("{head}{GAP}{tail}")
}

/// What an opaque part may have stays readable (RFC 3986, 3.3), without what a web page or a client could take for its own; so does a
/// blank, which Go's URLs accept there and show as it is (net/url from Go 1.12 to 1.26). One that began with a slash would be a path.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for (n, b) in text.bytes().enumerate() {
        let literal = b.is_ascii_alphanumeric() || b" -._~!$'()*+,;=:@/".contains(&b);
        if literal && (n > 0 || b != b'/') {
            out.push(char::from(b));
        } else {
            out += &format!("%{b:02X}");
        }
    }
    out
}

/// The same for a wrong token, with a fixed text, and delayed by the front.
pub(super) fn signalled_invalid_token() -> Response {
    Response {
        wrong_token: true,
        ..signal("invalid token")
    }
}

/// 200 with the envelope whose code is OK, and a text.
pub(super) fn ok_message(message: &str) -> Response {
    json(&Envelope::new("OK", message))
}

pub(super) fn text(status: u16, body: &str) -> Response {
    Response::new(status, "text/plain; charset=UTF-8", body)
}

/// 401 as the Go agent asks for Basic credentials.
pub(super) fn unauthorized() -> Response {
    let ask = "Basic realm=\"Authorization Required\"";
    Response {
        headers: vec![("WWW-Authenticate".into(), ask.into())],
        ..text(401, "Not Authorized\n")
    }
}

/// The answer to a wrong token, which the front delays.
pub(super) fn invalid_token() -> Response {
    Response {
        wrong_token: true,
        ..error(INVALID_TOKEN)
    }
}

/// 404 as Go's HTTP library writes it.
pub(super) fn not_found() -> Response {
    Response::new(404, "text/plain; charset=utf-8", "404 page not found\n")
}

/// `<`, `>`, `&` and the two line separators appear in JSON only inside strings, so they may be replaced everywhere.
fn go_escape(text: String) -> String {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Access, Request};
    use crate::protocol::wire::Wire;
    use crossbeam_channel::unbounded;
    use std::time::Instant;

    fn body(response: Response) -> String {
        match response.body {
            Body::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            Body::Reader { .. } => panic!("in memory"),
        }
    }

    #[test]
    fn envelope_and_escapes_are_gos() {
        let r = error("a<b> & \"c\"");
        assert_eq!(r.status, 500);
        assert_eq!(r.content_type, "application/json; charset=UTF-8");
        assert_eq!(
            body(r),
            "{\"Code\":\"ERROR\",\"Message\":\"a\\u003cb\\u003e \\u0026 \\\"c\\\"\",\"Details\":null}"
        );
        assert_eq!(body(not_found()), "404 page not found\n");
        assert_eq!(body(json(&"OK")), "\"OK\"");
    }

    fn location(text: &str) -> String {
        let response = signal(text);
        assert_eq!((response.status, response.headers.len()), (302, 1));
        let (name, value) = response.headers.into_iter().next().unwrap();
        assert_eq!(name, "Location");
        value.strip_prefix("agent-error:").unwrap().to_string()
    }

    #[test]
    fn a_reason_fits_into_a_location() {
        assert_eq!(
            location("error: command \"echo\": exit status 4, stderr: Access denied\n"),
            "error: command 'echo': exit status 4, stderr: Access denied"
        );
        assert_eq!(location("a\r\nLocation: b"), "a%0D%0ALocation: b");
        assert_eq!(
            location("/data/x: 100% <b>&#?\\"),
            "%2Fdata/x: 100%25 %3Cb%3E%26%23%3F%5C"
        );
        assert_eq!(location("\u{e9}\u{1f600}"), "%C3%A9%F0%9F%98%80");
        assert_eq!(location(" "), "");
        let (begin, end) = (
            "the directory /var/lib/mysql",
            "set mysql.datadir-swap = never",
        );
        let long = format!("{begin} {}; {end}", "is not usable".repeat(80));
        for text in [
            &long,
            &"x".repeat(500),
            &"\u{1f600}".repeat(300),
            &"a b ".repeat(99),
        ] {
            let found = location(text);
            assert!(found.len() <= ENCODED_LIMIT && found.len() > 100, "{found}");
            assert!(found.is_ascii() && !found.contains('"'), "{found}");
        }
        let found = location(&long);
        assert!(found.starts_with(begin) && found.ends_with(end), "{found}");
    }

    fn call(wire: Wire, client: &str) -> Call {
        let headers = vec![("User-Agent".to_string(), client.to_string())];
        Call {
            parameters: Vec::new(),
            request: Request::new("GET", "/api/x?token=t", headers, Access::All),
            wire,
            signal_errors: true,
        }
    }

    #[test]
    fn only_the_client_of_a_classic_orchestrator_gets_a_redirect() {
        let failed = |wire, client| failure(&call(wire, client), &Error::permanent("no")).status;
        assert_eq!(failed(Wire::Classic, "Go-http-client/1.1"), 302);
        assert_eq!(failed(Wire::Classic, "curl/8.5.0"), 500);
        assert_eq!(failed(Wire::V2, "Go-http-client/1.1"), 500);
        let mut silent = call(Wire::Classic, "Go-http-client/2.0");
        silent.signal_errors = false;
        assert_eq!(failure(&silent, &Error::permanent("no")).status, 500);
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// What a client would read, and how the body ends.
    fn read(response: Response) -> (String, io::Result<()>) {
        let Body::Reader { mut reader, length } = response.body else {
            panic!("it was not slow");
        };
        assert_eq!((response.status, length), (200, None));
        let mut text = Vec::new();
        let end = reader.read_to_end(&mut text).map(drop);
        (String::from_utf8(text).unwrap(), end)
    }

    #[test]
    fn an_action_that_ends_in_time_decides_the_answer() {
        let quick = slow_within(ms(20_000), ms(1), "/x", || Ok(true)).unwrap();
        assert_eq!((quick.status, body(quick)), (200, "true".into()));
        let failed = slow_within(ms(20_000), ms(1), "/x", || {
            Err::<bool, _>(Error::permanent("no"))
        });
        assert_eq!(failed.err().unwrap().to_string(), "no");
        let panicked = slow_within(ms(20_000), ms(1), "/x", || -> Result<bool> {
            panic!("test")
        });
        assert!(panicked.err().unwrap().to_string().contains("panicked"));
        let v2 = slow(&call(Wire::V2, "Go-http-client/1.1"), || Ok("x")).unwrap();
        assert_eq!(body(v2), "\"x\"");
    }

    #[test]
    fn a_slow_action_sends_spaces_and_its_failure_cuts_the_body_short() {
        let after = |n| std::thread::sleep(ms(n));
        let slow = |action: fn() -> Result<Vec<u8>>| {
            let action = move || {
                after(600);
                action()
            };
            read(slow_within(ms(10), ms(100), "/x", action).unwrap())
        };
        let (text, end) = slow(|| Ok(vec![7]));
        assert!(
            end.is_ok() && text.trim() == "[7]" && text.starts_with("   "),
            "{text:?}"
        );
        let (text, end) = slow(|| Err(Error::permanent("no disk")));
        assert!(text.trim().is_empty() && !text.is_empty(), "{text:?}");
        assert_eq!(end.unwrap_err().to_string(), "no disk");
        let (_, end) = slow(|| panic!("test"));
        assert!(end.unwrap_err().to_string().contains("panicked"));
    }

    #[test]
    fn an_action_goes_on_without_its_client() {
        let (tx, done) = unbounded();
        let begin = Instant::now();
        let response = slow_within(ms(10), ms(100), "/x", move || {
            std::thread::sleep(ms(400));
            tx.send(()).map_err(|_| Error::permanent("not received"))
        });
        drop(response.unwrap());
        assert!(done.recv_timeout(ms(20_000)).is_ok() && begin.elapsed() >= ms(400));
    }
}
