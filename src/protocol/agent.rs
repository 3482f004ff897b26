//! A client for one agent: its calls, with the token.

use super::http_client::{AgentTransport, HttpClient, Limits, authority, escape, without_token};
use super::wire::{
    ActiveSeed, AgentData, AgentInfo, Envelope, INVALID_TOKEN, Metadata, StageState,
};
use crate::config::Secret;
use crate::error::{Error, OnPath, Result, shortened};
use crate::seed::{Method, Stage};
use crate::sys::thread::lock;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[cfg(test)]
mod tests;

pub(crate) const DEFAULT_PORT: u16 = 3002;

/// Bytes of an answer that are read: a server may have very many schemas.
const LARGEST_ANSWER: u64 = 64 << 20;

/// The last registration of one agent: an agent that restarts has a new token.
pub(crate) type Slot = Arc<Mutex<Option<AgentInfo>>>;

#[derive(Debug, Clone)]
pub(crate) enum Access {
    Registered(Slot),
    /// A token file, read for each call, because an agent that restarts writes a new token into it. With the option or setting that
    /// names it.
    File {
        setting: String,
        path: PathBuf,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct AgentClient {
    /// For messages: `target agent`, or `agent`.
    role: &'static str,
    /// Name or address, without brackets.
    pub(crate) host: String,
    port: Option<u16>,
    access: Access,
    http: HttpClient,
}

impl AgentClient {
    /// Sends nothing. Agents are called directly, whatever proxy the environment names.
    pub(crate) fn new(
        role: &'static str,
        (host, port): (&str, Option<u16>),
        access: Access,
        transport: &AgentTransport,
        limits: Limits,
    ) -> Self {
        Self {
            role,
            host: host.into(),
            port,
            access,
            http: HttpClient::new(transport, limits, LARGEST_ANSWER, false),
        }
    }

    pub(crate) fn address(&self) -> String {
        let registered = self.registration().map(|r| r.port);
        authority(&self.host, registered.or(self.port).unwrap_or(DEFAULT_PORT))
    }

    /// For messages: `target agent db2:3002`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.role, self.address())
    }

    fn registration(&self) -> Option<AgentInfo> {
        match &self.access {
            Access::Registered(slot) => lock(slot).clone(),
            Access::File { .. } => None,
        }
    }

    fn token(&self) -> Result<Secret> {
        match &self.access {
            Access::Registered(_) => Ok(self.registration().map(|r| r.token).unwrap_or_default()),
            Access::File { setting, path } => std::fs::read_to_string(path)
                .map(|token| Secret::new(token.trim()))
                .on(format!("{setting} {}", path.display())),
        }
    }

    /// The port of its MySQL; the agent is called for it if it has not registered.
    pub(crate) fn mysql_port(&self) -> Result<u16> {
        match self.registration() {
            Some(r) => Ok(r.mysql_port),
            None => self.info().map(|i| i.mysql_port),
        }
    }

    /// `get-agent-info`, which needs no token. Errors of all calls: transient if the agent cannot be reached or has another token (it
    /// has just restarted), permanent with its own message if it refuses.
    pub(crate) fn info(&self) -> Result<AgentInfo> {
        let call = "get-agent-info";
        let (status, body) = self.get(&format!("/api/{call}"), &Secret::default())?;
        self.parse(call, &self.decode(call, status, body)?)
    }

    pub(crate) fn data(&self) -> Result<AgentData> {
        self.json("get-agent-data")
    }

    pub(crate) fn active_seed(&self) -> Result<ActiveSeed> {
        self.json("active-seed")
    }

    pub(crate) fn stage_state(&self, id: i64, stage: Stage) -> Result<StageState> {
        self.json(&format!("seed-stage-state/{id}/{stage}"))
    }

    /// `get-metadata`. Coordinates without a file or a position are an error.
    pub(crate) fn metadata(&self, id: i64, method: Method) -> Result<Metadata> {
        let m: Metadata = self.json(&format!("get-metadata/{id}/{method}"))?;
        if m.log_file.is_empty() || m.log_pos == 0 {
            let (name, file, position) = (self.name(), m.log_file, m.log_pos);
            let text = format!("{name}: get-metadata has no coordinates: \"{file}\":{position}");
            return Err(Error::permanent(text));
        }
        Ok(m)
    }

    /// A call by its path below `/api/` whose answer is JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parse(path, &self.call(path)?)
    }

    /// Any other call by its path below `/api/`; returns the body, whatever it is.
    pub(crate) fn call(&self, path: &str) -> Result<String> {
        let token = self.token().map_err(|e| e.context(self.name()))?;
        let url = format!("/api/{path}?token={}", escape(token.reveal()));
        let (status, body) = self.get(&url, &token)?;
        self.decode(path, status, body)
    }

    /// Status and body of a call by its complete path, whatever they are; the token is removed from them.
    pub(crate) fn get(&self, path: &str, token: &Secret) -> Result<(u16, String)> {
        let url = format!("{}://{}{path}", self.http.scheme, self.address());
        match self.http.get(&url) {
            Ok((status @ 200..=299, body)) => Ok((status, body)),
            Ok((status, body)) => Ok((status, without_token(&body, token))),
            Err(e) => {
                let text = without_token(&e.to_string(), token);
                Err(Error::transient(text).context(self.name()))
            }
        }
    }

    /// A handled failure is a 500 with the envelope; any other status than 2xx is a failure as well.
    fn decode(&self, path: &str, status: u16, body: String) -> Result<String> {
        decode(status, body).map_err(|e| {
            let at = self.at(path);
            match &self.access {
                // An agent that registers does so again after a restart, with its new token.
                Access::File { setting, path } if e.is_transient() => {
                    let file = path.display();
                    e.context(format!(
                        "{at}: the token in {setting} {file} is not this agent's"
                    ))
                }
                _ => e.context(at),
            }
        })
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T> {
        serde_json::from_slice(body.as_bytes()).map_err(|e| {
            let at = self.at(path);
            Error::permanent(format!("{at}: cannot understand the answer: {e}"))
        })
    }

    /// For messages: `target agent db2:3002 get-metadata`.
    fn at(&self, path: &str) -> String {
        let call = path.split('/').next().unwrap_or(path);
        format!("{} {call}", self.name())
    }
}

fn decode(status: u16, body: String) -> Result<String> {
    if (200..=299).contains(&status) {
        return Ok(body);
    }
    match serde_json::from_slice::<Envelope>(body.as_bytes()) {
        // The agent has restarted since it registered: it registers again.
        Ok(e) if status == 500 && e.message == INVALID_TOKEN => Err(Error::transient(e.message)),
        Ok(e) if status == 500 => Err(Error::permanent(match e.details {
            Some(details) if !details.is_empty() => format!("{} ({details})", e.message),
            _ => e.message,
        })),
        _ => {
            let text = format!("status {status}: {}", shortened(&body));
            Err(Error::permanent(text))
        }
    }
}
