//! The calls to one orchestrator: the registration, by one of two protocols, and the ping.

use super::http_client::{AgentTransport, HttpClient, Limits, escape, without_token};
use super::wire::{AgentInfo, Wire};
use crate::config::{Common, Secret};
use crate::error::{Error, Result, shortened};
use crate::tls;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

const UNTRUSTED: &str = "common.ssl-ca-file, which must hold the authority of orchestrator's certificate, or this itself, or \
     set common.ssl-skip-verify = true";

/// A remedy.
pub(super) const PORT: &str = "orchestrator.url and agents-port must point to its AgentsServerPort";

/// Bytes of an answer to a registration or a ping.
const LARGEST_ANSWER: u64 = 64 << 10;
/// Bytes of the list of all hosts.
const LARGEST_LIST: u64 = 8 << 20;

/// To a registration.
#[derive(Debug)]
pub(crate) enum Answer {
    Registered,
    /// Permanent if this is not an orchestrator of this protocol.
    Refused(Error),
    /// Status 403: orchestrator refuses, or a proxy answers so for a path that it does not know.
    Forbidden(Error),
    /// Status 404 or 405: it does not have this protocol.
    NotFound,
}

/// The path of the registration; in the classic protocol, name, port and token follow.
pub(super) fn registration(wire: Wire) -> &'static str {
    match wire {
        Wire::V2 => "/api/register-agent",
        Wire::Classic => "/api/submit-agent",
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    http: HttpClient,
    base: String,
}

impl Client {
    /// For `url`, at `agents_port` if it has no port of its own. The registration is answered only after orchestrator has called
    /// this agent back, so the connection may take `timeout`, and the whole call three times as long.
    pub(crate) fn new(
        url: &str,
        agents_port: u16,
        timeout: Duration,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let transport = AgentTransport { tls, basic: None };
        let limits = Limits {
            connect: timeout,
            total: timeout * 3,
        };
        Self {
            http: HttpClient::new(&transport, limits, LARGEST_ANSWER, true),
            base: base(url, agents_port),
        }
    }

    /// The same with the settings of `common`.
    pub(crate) fn configured(url: &str, agents_port: u16, common: &Common) -> Result<Self> {
        let tls = if url.starts_with("https:") {
            Some(tls::outgoing(&tls::Files::of(common))?)
        } else {
            None
        };
        Ok(Self::new(url, agents_port, common.http_timeout, tls))
    }

    /// Registers. Success is a JSON string; an object is a refusal, whatever the HTTP status. Fails without an answer, so that
    /// orchestrator may know this agent from before.
    pub(crate) fn register(&self, wire: Wire, who: &AgentInfo) -> Result<Answer> {
        let url = format!("{}{}", self.base, registration(wire));
        let answer = match wire {
            Wire::V2 => {
                let body = serde_json::to_string(who);
                let body = body.map_err(|e| Error::permanent(e.to_string()))?;
                self.http.post(&url, &body)
            }
            Wire::Classic => {
                let (host, token) = (escape(&who.hostname), escape(who.token.reveal()));
                self.http.get(&format!("{url}/{host}/{}/{token}", who.port))
            }
        };
        let (status, text) = self.checked(answer, &who.token)?;
        if matches!(status, 404 | 405) {
            return Ok(Answer::NotFound);
        }
        let value: serde_json::Value = serde_json::from_slice(text.as_bytes()).unwrap_or_default();
        if value.is_string() && status == 200 {
            return Ok(Answer::Registered);
        }
        let why = without_token(value["Message"].as_str().unwrap_or(&text), &who.token);
        let refused = refusal(&url, status, &shortened(&why), value.is_null());
        Ok(if status == 403 {
            Answer::Forbidden(refused)
        } else {
            Answer::Refused(refused)
        })
    }

    /// Any status but a success means that orchestrator does not know this agent.
    pub(crate) fn ping(&self) -> Result<()> {
        let answer = self.http.get(&format!("{}/api/agent-ping", self.base));
        match self.checked(answer, &Secret::default())?.0 {
            200..=299 => Ok(()),
            other => {
                let text = format!("{}: status {other} for a ping", self.base);
                Err(Error::transient(text))
            }
        }
    }

    /// The hosts whose agents have registered with it (`/api/agents-hosts` of orchestrator 3.2.6).
    pub(crate) fn hosts(&self) -> Result<Vec<String>> {
        let url = format!("{}/api/agents-hosts", self.base);
        let answer = self.http.up_to(LARGEST_LIST).get(&url);
        let (status, text) = self.checked(answer, &Secret::default())?;
        serde_json::from_slice(text.as_bytes()).map_err(|e| {
            let text = format!("{url} answers with status {status} and no list of hosts: {e}");
            Error::transient(text)
        })
    }

    fn checked<T>(&self, answer: std::result::Result<T, ureq::Error>, token: &Secret) -> Result<T> {
        answer.map_err(|e| {
            let check = match &e {
                ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => UNTRUSTED,
                _ => "orchestrator.url and agents-port",
            };
            let why = without_token(&e.to_string(), token);
            Error::transient(format!("{}: {why}; check {check}", self.base))
        })
    }
}

/// What a refused registration at `url` means. `foreign`: the answer was no JSON, so it is not orchestrator's.
fn refusal(url: &str, status: u16, why: &str, foreign: bool) -> Error {
    let because = match status {
        401 | 403 => Some(format!("it wants a login, which agents do not have: {PORT}, not to a proxy")),
        300..=399 => Some(
            "it redirects, and the registration, which holds this agent's token, is not sent elsewhere: set orchestrator.url to the \
             final address"
                .into(),
        ),
        502..=504 => Some("a proxy in front of orchestrator answers: check that orchestrator runs".into()),
        _ if foreign => Some(format!("the answer is not orchestrator's: {PORT}")),
        _ => None,
    };
    let shown = match (foreign, why) {
        (true, _) | (false, "") => String::new(),
        (false, why) => format!(": {why}"),
    };
    match because {
        Some(because) => Error::permanent(format!(
            "{url} answers with status {status}{shown}: {because}"
        )),
        None => Error::transient(format!(
            "{url} refused the registration (status {status}): {why}"
        )),
    }
}

/// `url`, with `port` if it has none.
pub(crate) fn base(url: &str, port: u16) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_address = authority.rsplit(']').next().unwrap_or(authority);
    if after_address.contains(':') {
        url.to_string()
    } else {
        format!("{scheme}://{authority}:{port}{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list may be longer than any other answer.
    #[test]
    fn hosts_of_a_large_orchestrator() {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        let host = |n| format!("db-{n}.mysql.example.com");
        let hosts: Vec<String> = (0..20_000).map(host).collect();
        let list = serde_json::to_string(&hosts).unwrap();
        assert!(list.len() > 8 * LARGEST_ANSWER as usize);
        let thread = std::thread::spawn(move || {
            for _ in 0..2 {
                let request = server.recv().unwrap();
                // The ping is cut short by the client.
                let _ = request.respond(tiny_http::Response::from_string(&list));
            }
        });
        let client = Client::new("http://127.0.0.1", port, Duration::from_secs(10), None);
        assert_eq!(client.hosts().unwrap(), hosts);
        let e = client.ping().unwrap_err().to_string();
        assert!(e.contains("limit"), "{e}");
        thread.join().unwrap();
    }

    #[test]
    fn a_refusal_says_what_it_means() {
        let of = |status, why: &str, foreign| {
            refusal("http://orc:3001/api/x", status, why, foreign).to_string()
        };
        for (status, foreign, wanted) in [
            (401, true, "wants a login"),
            (302, true, "set orchestrator.url to the final address"),
            (502, true, "check that orchestrator runs"),
            (200, true, "is not orchestrator's"),
            (500, true, "is not orchestrator's"),
        ] {
            let text = of(status, "<html>", foreign);
            assert!(
                text.contains(wanted) && text.contains(&format!("status {status}")),
                "{text}"
            );
            assert!(!text.contains("<html>"), "{text}");
        }
        assert_eq!(
            of(200, "Unable to get agent data: x", false),
            "http://orc:3001/api/x refused the registration (status 200): Unable to get agent data: x"
        );
    }
}
