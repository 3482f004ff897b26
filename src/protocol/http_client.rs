//! The HTTP client of all calls to agents and orchestrators.

use crate::config::{Common, Secret};
use crate::tls::http_client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// Basic credentials: the value of the header `Authorization`.
#[derive(Debug, Clone)]
pub(crate) struct Basic(Secret);

impl Basic {
    /// `common.http-auth-user` and its password; `None` if no user is set.
    pub(crate) fn of(common: &Common) -> Option<Self> {
        if common.http_auth_user.is_empty() {
            return None;
        }
        let password = common.http_auth_password.reveal();
        Some(Self::new(&format!("{}:{password}", common.http_auth_user)))
    }

    pub(crate) fn new(pair: &str) -> Self {
        Self(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
    }

    fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// True if this is the value of an `Authorization` header.
    pub(crate) fn matches(&self, header: &str) -> bool {
        self.0.matches(header)
    }
}

/// How a peer is called: by HTTPS if there is a TLS configuration, and with credentials if there are any.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentTransport {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) basic: Option<Basic>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    /// With the connect.
    pub(crate) total: Duration,
}

/// A client. It follows no redirection, which would carry a token elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    agent: ureq::Agent,
    basic: Option<Basic>,
    largest_answer: u64,
    pub(crate) scheme: &'static str,
}

impl HttpClient {
    /// `use_proxy`: the proxy of the environment is used, if there is one.
    pub(crate) fn new(
        transport: &AgentTransport,
        limits: Limits,
        largest_answer: u64,
        use_proxy: bool,
    ) -> Self {
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.total))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("orchestrator-agent");
        if !use_proxy {
            config = config.proxy(None);
        }
        let is_https = transport.tls.is_some();
        Self {
            agent: http_client(config.build(), transport.tls.clone()),
            basic: transport.basic.clone(),
            largest_answer,
            scheme: if is_https { "https" } else { "http" },
        }
    }

    /// The same client for answers of at most so many bytes.
    pub(super) fn up_to(&self, largest_answer: u64) -> Self {
        Self {
            largest_answer,
            ..self.clone()
        }
    }

    /// Status and body, whatever they are.
    pub(crate) fn get(&self, url: &str) -> Result<(u16, String), ureq::Error> {
        let mut call = self.agent.get(url);
        if let Some(basic) = &self.basic {
            call = call.header("Authorization", basic.reveal());
        }
        self.read(call.call()?)
    }

    /// Sends JSON; status and body of the answer, whatever they are.
    pub(crate) fn post(&self, url: &str, json: &str) -> Result<(u16, String), ureq::Error> {
        let call = self.agent.post(url);
        self.read(call.header("Content-Type", "application/json").send(json)?)
    }

    fn read(
        &self,
        mut answer: ureq::http::Response<ureq::Body>,
    ) -> Result<(u16, String), ureq::Error> {
        let body = answer.body_mut().with_config().limit(self.largest_answer);
        let text = body.read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// `text` without this secret, in whichever spelling a request has it.
pub(super) fn without_token(text: &str, token: &Secret) -> String {
    if token.is_empty() {
        return text.to_string();
    }
    text.replace(&escape(token.reveal()), "(token)")
        .replace(token.reveal(), "(token)")
}

/// Percent-encoded, for one segment of a path or a value in a query.
pub(super) fn escape(text: &str) -> String {
    let encode = |b: u8| match b {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => char::from(b).into(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(encode).collect()
}
