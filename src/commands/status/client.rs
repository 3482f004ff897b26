//! A client for the agent on this host.

use crate::config::Config;
use crate::error::Result;
use crate::protocol::agent::{Access, AgentClient};
use crate::protocol::http_client::{AgentTransport, Basic, Limits};
use crate::tls::{self, Files};
use std::net::Ipv4Addr;
use std::time::Duration;

/// For the address on which the daemon listens. Over HTTPS its certificate is not verified, because it is issued for the host's
/// name; the agent's own certificate is sent, for `use-mutual-tls`.
///
/// # Errors
/// If the address or the TLS files cannot be used.
pub(crate) fn local(config: &Config, limit: Duration) -> Result<AgentClient> {
    let common = &config.common;
    let ip = match common.listen_ip()? {
        all if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut transport = AgentTransport {
        tls: None,
        basic: Basic::of(common),
    };
    if common.use_ssl {
        let files = Files {
            skip_verify: true,
            ..Files::of(common)
        };
        transport.tls = Some(tls::outgoing(&files)?);
    }
    let access = Access::File {
        setting: "common.token-hint-file".into(),
        path: common.token_hint_file.clone().into(),
    };
    let limits = Limits {
        connect: limit,
        total: limit,
    };
    let at = (ip.to_string(), common.port);
    Ok(AgentClient::new(
        "agent",
        (&at.0, Some(at.1)),
        access,
        &transport,
        limits,
    ))
}
