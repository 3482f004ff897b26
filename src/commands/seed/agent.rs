//! One agent as the conductor sees it: the calls of agent-api-v2 section 2, with the token and with errors in words.

use super::options::{HostPort, Way, secret};
use crate::api::Basic;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::seed::{Method, Side, Stage};
use crate::tls::http_client;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod answers;
#[cfg(test)]
mod tests;

pub use answers::{AgentData, Bytes, Metadata, StageState};
use answers::{Envelope, Info};

/// The agents' port where none is given (agent-api-v2 0.1).
pub const DEFAULT_PORT: u16 = 3002;
/// Bytes of an answer that are taken: a server may have very many schemas.
const LARGEST: u64 = 64 << 20;

/// What an agent says of itself when it registers (agent-api-v2 1.1) or in `get-agent-info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name of its host.
    pub hostname: String,
    /// Where it listens.
    pub port: u16,
    /// Its secret.
    pub token: Secret,
    /// Where its MySQL listens.
    pub mysql_port: u16,
}

/// A place for the last registration of one agent: an agent that restarts has a new token.
pub type Slot = Arc<Mutex<Option<Registration>>>;

/// How port and token are known.
#[derive(Debug, Clone)]
pub enum Access {
    /// The agent registers.
    Registered(Slot),
    /// A token file, read anew for each call, because an agent that restarts writes a new token into it.
    File {
        /// Option that named it, for messages.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// A client for one agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its part in the seed.
    pub side: Side,
    /// As typed.
    pub at: HostPort,
    access: Access,
    http: ureq::Agent,
    scheme: &'static str,
    basic: Option<Basic>,
}

impl Agent {
    /// A client, which speaks in this `way`; nothing is sent.
    pub fn new(side: Side, at: HostPort, access: Access, way: &Way) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .max_redirects(0) // a redirection would carry the token elsewhere
            .proxy(None) // agents are called directly, whatever the environment says
            .build();
        Self {
            side,
            at,
            access,
            http: http_client(config, way.tls.clone()),
            scheme: if way.tls.is_some() { "https" } else { "http" },
            basic: way.basic.clone(),
        }
    }

    /// For messages: `target agent db2:3002`.
    pub fn name(&self) -> String {
        let side = if self.side == Side::Source {
            "source"
        } else {
            "target"
        };
        format!("{side} agent {}", authority(&self.at.host, self.port()))
    }

    fn registration(&self) -> Option<Registration> {
        match &self.access {
            Access::Registered(slot) => slot.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Access::File { .. } => None,
        }
    }

    fn port(&self) -> u16 {
        self.registration()
            .map(|r| r.port)
            .or(self.at.port)
            .unwrap_or(DEFAULT_PORT)
    }

    fn token(&self) -> Result<Secret> {
        match &self.access {
            Access::Registered(_) => Ok(self.registration().map(|r| r.token).unwrap_or_default()),
            Access::File { option, path } => secret(option, path, &mut Vec::new()),
        }
    }

    /// The port of its MySQL.
    ///
    /// # Errors
    /// If the agent must be asked and does not answer.
    pub fn mysql_port(&self) -> Result<u16> {
        match self.registration() {
            Some(r) => Ok(r.mysql_port),
            None => self.json::<Info>("get-agent-info").map(|i| i.mysql_port),
        }
    }

    /// `get-agent-data`
    ///
    /// # Errors
    /// As all calls: transient if the agent cannot be reached or knows another token (it has just restarted), permanent
    /// with its own words if it refuses.
    pub fn data(&self) -> Result<AgentData> {
        self.json("get-agent-data")
    }

    /// `seed-stage-state`
    ///
    /// # Errors
    /// As [`Agent::data`].
    pub fn stage_state(&self, id: i64, stage: Stage) -> Result<StageState> {
        self.json(&format!("seed-stage-state/{id}/{stage}"))
    }

    /// `get-metadata`. Coordinates without a file or a position are an error.
    ///
    /// # Errors
    /// As [`Agent::data`].
    pub fn metadata(&self, id: i64, method: Method) -> Result<Metadata> {
        let m: Metadata = self.json(&format!("get-metadata/{id}/{method}"))?;
        if m.log_file.is_empty() || m.log_pos == 0 {
            let text = format!(
                "{}: coordinates \"{}\":{} are none",
                self.name(),
                m.log_file,
                m.log_pos
            );
            return Err(Error::permanent(text));
        }
        Ok(m)
    }

    /// Any other call by its path below `/api/`; returns the body, whatever it is.
    ///
    /// # Errors
    /// As [`Agent::data`].
    pub fn call(&self, path: &str) -> Result<String> {
        let token = self.token().map_err(|e| e.context(self.name()))?;
        let url = format!(
            "{}://{}/api/{path}?token={}",
            self.scheme,
            authority(&self.at.host, self.port()),
            escape(token.reveal())
        );
        let fail =
            |e: &ureq::Error| Error::transient(scrub(&e.to_string(), &token)).context(self.name());
        let mut call = self.http.get(&url);
        if let Some(basic) = &self.basic {
            call = call.header("Authorization", basic.reveal());
        }
        let mut response = call.call().map_err(|e| fail(&e))?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_string()
            .map_err(|e| fail(&e))?;
        decode(status, body)
            .map_err(|e| scrubbed(e, &token).context(format!("{} {}", self.name(), first(path))))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.call(path)?;
        serde_json::from_str(&body).map_err(|e| {
            Error::permanent(format!(
                "{} {}: cannot understand the answer: {e}",
                self.name(),
                first(path)
            ))
        })
    }
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// `host:port`, an IPv6 address in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A handled failure is a 500 with the envelope (agent-api-v2 0.2); any other status than 2xx is one as well.
fn decode(status: u16, body: String) -> Result<String> {
    match status {
        200..=299 => Ok(body),
        500 => match serde_json::from_str::<Envelope>(&body) {
            // 1.5: what an agent says that has restarted since it registered; it registers again.
            Ok(e) if e.message == "Invalid token" => Err(Error::transient("Invalid token")),
            Ok(e) => Err(Error::permanent(
                match e.details.filter(|d| !d.is_empty()) {
                    Some(details) => format!("{} ({details})", e.message),
                    None => e.message,
                },
            )),
            Err(_) => Err(Error::permanent(format!(
                "status 500: {}",
                shortened(&body)
            ))),
        },
        other => Err(Error::permanent(format!(
            "status {other}: {}",
            shortened(&body)
        ))),
    }
}

/// A text of a peer, for a terminal: one line, no control characters, not endless.
pub fn shortened(text: &str) -> String {
    text.trim()
        .chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn scrub(text: &str, token: &Secret) -> String {
    if token.is_empty() {
        return text.to_string();
    }
    text.replace(&escape(token.reveal()), "(token)")
        .replace(token.reveal(), "(token)")
}

fn scrubbed(e: Error, token: &Secret) -> Error {
    let text = scrub(&e.to_string(), token);
    if e.kind() == crate::error::Kind::Transient {
        Error::transient(text)
    } else {
        Error::permanent(text)
    }
}

/// Percent-encodes a query value.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
