//! A client for the agent on this host.

use super::PATIENCE;
use crate::api::Basic;
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::tls::{self, Files};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};

/// The agent's own port.
pub struct Client {
    http: ureq::Agent,
    /// `http` or `https`
    scheme: &'static str,
    basic: Option<Basic>,
    /// `address:port`, for messages.
    pub at: String,
}

impl Client {
    /// For the address that the daemon listens on. Over HTTPS its certificate is not verified, because that is made for the host's
    /// name; the own one is shown, for `use-mutual-tls`.
    ///
    /// # Errors
    /// If the files of TLS cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let common = &config.common;
        let ip = match common.listen_ip()? {
            all if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0) // a redirection would carry the token elsewhere
            .proxy(None);
        let (scheme, tls) = match common.use_ssl {
            false => ("http", None),
            true => {
                let files = Files {
                    skip_verify: true,
                    ..Files::of(common)
                };
                ("https", Some(tls::outgoing(&files)?))
            }
        };
        Ok(Self {
            http: tls::http_client(http.build(), tls),
            scheme,
            basic: Basic::of(common),
            at: SocketAddr::new(ip, common.port).to_string(),
        })
    }

    /// Status and body, whatever they are.
    pub fn get(&self, path: &str, token: Option<&Secret>) -> Result<(u16, String)> {
        let mut call = self
            .http
            .get(format!("{}://{}{path}", self.scheme, self.at));
        if let Some(basic) = &self.basic {
            call = call.header("Authorization", basic.reveal());
        }
        if let Some(token) = token {
            call = call.query("token", token.reveal());
        }
        let fail = |e: &ureq::Error| {
            let text = token.map_or_else(
                || e.to_string(),
                |t| e.to_string().replace(t.reveal(), "(token)"),
            );
            Error::transient(format!(
                "no agent answers at {} (common.port): {text}",
                self.at
            ))
        };
        let mut answer = call.call().map_err(|e| fail(&e))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(64 << 20);
        Ok((status, body.read_to_string().map_err(|e| fail(&e))?))
    }

    /// The answer to a call with the token.
    pub fn json(&self, path: &str, token: &Secret) -> Result<Value> {
        let (status, body) = self.get(path, Some(token))?;
        let value: Value = serde_json::from_str(&body)
            .map_err(|e| Error::permanent(format!("{path}: cannot understand the answer: {e}")))?;
        if status == 200 {
            return Ok(value);
        }
        Err(Error::permanent(match value["Message"].as_str() {
            Some("Invalid token") => {
                "the token in common.token-hint-file is not this agent's".into()
            }
            Some(why) => format!("{path}: {why}"),
            None => format!("{path}: status {status}"),
        }))
    }
}
