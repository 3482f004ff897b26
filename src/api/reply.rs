//! The forms of an answer, as the Go agent and orchestrator have them.

use super::call::Call;
use crate::error::Error;
use crate::http::Response;
use crate::protocol::wire::{Envelope, INVALID_TOKEN};
use serde::Serialize;

/// 200 with JSON, escaped as Go escapes it.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => Response::new(200, "application/json; charset=UTF-8", go_escape(text)),
        Err(e) => error(&format!("cannot encode the answer: {e}")),
    }
}

/// 500 with the uniform envelope: orchestrator takes any other status for a success.
pub(super) fn error(message: &str) -> Response {
    Response {
        status: 500,
        ..json(&Envelope::new("ERROR", message))
    }
}

/// An error as the caller can understand it: by a redirect that orchestrator's client cannot follow, or by 500 with the envelope.
pub(super) fn failure(call: &Call, e: &Error) -> Response {
    if call.signals() {
        signal(&e.to_string())
    } else {
        error(&e.to_string())
    }
}

/// Longest text that a redirect carries: orchestrator keeps 255 characters, with those of its own client.
const SIGNAL_LIMIT: usize = 150;

/// 302 to an address whose scheme no client knows: `Get "agent-error:<text>": unsupported protocol scheme` (orchestrator 3.2.6).
fn signal(text: &str) -> Response {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_.,:;=()/".contains(c);
    let mut location = "agent-error:".to_string();
    for c in text.chars().take(SIGNAL_LIMIT) {
        if safe(c) {
            location.push(c);
        } else {
            let mut bytes = [0; 4];
            for b in c.encode_utf8(&mut bytes).bytes() {
                location += &format!("%{b:02X}");
            }
        }
    }
    Response {
        headers: vec![("Location".into(), location)],
        ..self::text(302, "")
    }
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
    use crate::http::Body;

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
}
