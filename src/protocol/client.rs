//! The two calls to one orchestrator.

use crate::error::{Error, Result};
use crate::tls::http_client;
use rustls::ClientConfig;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// What the agent says of itself (1.1).
#[derive(Debug, Clone)]
pub struct Registration {
    /// The name under which orchestrator knows the MySQL instance.
    pub hostname: String,
    /// The agent's own port.
    pub port: u16,
    /// The secret.
    pub token: crate::config::Secret,
    /// Port of MySQL.
    pub mysql_port: u16,
}

const UNTRUSTED: &str = "common.ssl-ca-file, which must hold the authority of orchestrator's certificate, or this itself, or \
     set common.ssl-skip-verify = true";

/// The body of the registration, keys in the order of 1.1.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    hostname: &'a str,
    port: u16,
    token: &'a str,
    #[serde(rename = "MySQLPort")]
    mysql_port: u16,
}

/// Why a registration has failed.
#[derive(Debug)]
pub enum Unregistered {
    /// There was no answer: orchestrator may know this agent from before.
    Unanswered(Error),
    /// It was answered, and this agent is not known there.
    Refused(Error),
}

/// HTTP client for one orchestrator.
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    /// For `url`, at `agents_port` where it has no port of its own. The registration's answer comes only after orchestrator has called this agent back, so the
    /// whole call may take `timeout` for the connection and as long again, three times over, for the answer.
    pub fn new(
        url: &str,
        agents_port: u16,
        timeout: Duration,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(timeout))
            .timeout_global(Some(timeout * 3))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("orchestrator-agent")
            .build();
        Self {
            agent: http_client(config, tls),
            base: base(url, agents_port),
        }
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.base
    }

    /// Registers. Success is a JSON string; an object is a refusal, whatever the HTTP status (1.2, 8.18).
    ///
    /// # Errors
    /// Transient: no answer, or a refusal with its text. Permanent: this is no orchestrator of this protocol.
    pub fn register(&self, who: &Registration) -> std::result::Result<(), Unregistered> {
        let body = Body {
            hostname: &who.hostname,
            port: who.port,
            token: who.token.reveal(),
            mysql_port: who.mysql_port,
        };
        let body = serde_json::to_string(&body)
            .map_err(|e| Unregistered::Unanswered(Error::permanent(e.to_string())))?;
        let url = format!("{}/api/register-agent", self.base);
        let sent = self
            .agent
            .post(&url)
            .header("Content-Type", "application/json")
            .send(body);
        let (status, text) = self.read(sent).map_err(Unregistered::Unanswered)?;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if value.is_string() && status == 200 {
            return Ok(());
        }
        let why = value
            .get("Message")
            .and_then(|m| m.as_str())
            .map_or_else(|| first_words(&text), str::to_string);
        Err(Unregistered::Refused(refusal(
            &self.base,
            status,
            &why,
            value.is_null(),
        )))
    }

    /// A success status counts; anything else means that nobody there knows this agent.
    ///
    /// # Errors
    /// Transient: no answer.
    pub fn ping(&self) -> Result<()> {
        let (status, _) = self.read(
            self.agent
                .get(format!("{}/api/agent-ping", self.base))
                .call(),
        )?;
        match status {
            200..=299 => Ok(()),
            other => Err(Error::transient(format!(
                "{}: status {other} for a ping",
                self.base
            ))),
        }
    }

    fn read(
        &self,
        answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, String)> {
        let fail = |e: ureq::Error| {
            Error::transient(format!(
                "{}: {e}; check {}",
                self.base,
                match &e {
                    ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => UNTRUSTED,
                    _ => "orchestrator.url and agents-port",
                }
            ))
        };
        let mut answer = answer.map_err(fail)?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 10)
            .read_to_string()
            .map_err(fail)?;
        Ok((answer.status().as_u16(), text))
    }
}

/// What a refused registration means. `foreign`: the answer was no JSON, so it is not orchestrator's.
fn refusal(base: &str, status: u16, why: &str, foreign: bool) -> Error {
    const PORT: &str =
        "orchestrator.url and agents-port lead to another port than its AgentsServerPort";
    let because = match status {
        404 | 405 => Some(format!(
            "this orchestrator uses the classic agent protocol, which this version of the agent does not have, or {PORT}"
        )),
        401 | 403 => Some(format!("it wants a login, which agents do not have: {PORT}, or to a proxy")),
        300..=399 => Some(
            "it redirects, and the registration, which holds this agent's token, is not sent elsewhere: set orchestrator.url to the \
             final address"
                .into(),
        ),
        502..=504 => Some("a proxy before orchestrator answers: see whether orchestrator runs".into()),
        _ if foreign => Some(format!("the answer is not orchestrator's: {PORT}")),
        _ => None,
    };
    let shown = match (foreign, why) {
        (true, _) | (false, "") => String::new(),
        (false, why) => format!(": {why}"),
    };
    match because {
        Some(because) => Error::permanent(format!(
            "{base}/api/register-agent answers with status {status}{shown}: {because}"
        )),
        None => Error::transient(format!(
            "{base} refused the registration (status {status}): {why}"
        )),
    }
}

/// `url` with `port` put in where it has none.
pub fn base(url: &str, port: u16) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let behind_address = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    match behind_address.contains(':') {
        true => url.to_string(),
        false => format!("{scheme}://{authority}:{port}{prefix}"),
    }
}

fn first_words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_means() {
        let of = |status, why: &str, foreign| {
            refusal("http://orc:3001", status, why, foreign).to_string()
        };
        for (status, foreign, wanted) in [
            (404, true, "classic agent protocol"),
            (401, true, "wants a login"),
            (302, true, "set orchestrator.url to the final address"),
            (502, true, "see whether orchestrator runs"),
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
            "http://orc:3001 refused the registration (status 200): Unable to get agent data: x"
        );
    }
}
