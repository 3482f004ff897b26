//! The forms of an answer (agent-api-v2 0.1, 0.2).

use crate::gate::{Response, STRIKE};
use crate::protocol::wire::{Envelope, INVALID_TOKEN};
use serde::Serialize;

/// 200 with JSON, escaped as Go escapes it.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => with(200, "application/json; charset=UTF-8", go_escape(text)),
        Err(e) => error(&format!("cannot encode the answer: {e}")),
    }
}

/// 500 with the uniform envelope (8.1: nothing else is a failure for orchestrator).
pub fn error(message: &str) -> Response {
    let mut response = json(&Envelope::new("ERROR", message));
    response.status = 500;
    response
}

/// 200 with the envelope that says OK and carries a text.
pub fn ok_message(message: &str) -> Response {
    json(&Envelope::new("OK", message))
}

/// Plain text.
pub fn text(status: u16, body: &str) -> Response {
    with(status, "text/plain; charset=UTF-8", body.to_string())
}

/// 401 as the Go agent asks for Basic credentials (0.1).
pub fn unauthorized() -> Response {
    let mut response = text(401, "Not Authorized\n");
    let ask = "Basic realm=\"Authorization Required\"";
    response
        .headers
        .push(("WWW-Authenticate".into(), ask.into()));
    response
}

/// The answer to a wrong token; the gate lets clients wait that send several.
pub fn invalid_token() -> Response {
    let mut response = error(INVALID_TOKEN);
    response.headers.push((STRIKE.into(), "token".into()));
    response
}

/// 404 as Go's HTTP library writes it.
pub fn not_found() -> Response {
    with(
        404,
        "text/plain; charset=utf-8",
        "404 page not found\n".to_string(),
    )
}

fn with(status: u16, content_type: &'static str, body: String) -> Response {
    Response {
        status,
        content_type,
        body: body.into_bytes(),
        headers: Vec::new(),
    }
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

    #[test]
    fn envelope_and_escapes_are_gos() {
        let r = error("a<b> & \"c\"");
        assert_eq!(r.status, 500);
        assert_eq!(
            String::from_utf8(r.body).unwrap(),
            "{\"Code\":\"ERROR\",\"Message\":\"a\\u003cb\\u003e \\u0026 \\\"c\\\"\",\"Details\":null}"
        );
        assert_eq!(r.content_type, "application/json; charset=UTF-8");
        assert_eq!(not_found().body, b"404 page not found\n");
        assert_eq!(json(&"OK").body, b"\"OK\"");
    }
}
