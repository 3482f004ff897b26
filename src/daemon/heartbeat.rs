//! The heartbeat of this agent's configuration.

use crate::api::{Api, Token};
use crate::config::{self, Config};
use crate::error::Result;
use crate::protocol::contact::Contacts;
use crate::protocol::heartbeat::{Heartbeat, Intervals};
use crate::protocol::orchestrator::Client;
use crate::protocol::wire::AgentInfo;
use crate::tls;
use std::sync::Arc;
use std::time::Duration;

/// The heartbeat begins once this host was examined completely, because orchestrator calls back during the registration and stores
/// what it then gets.
pub(super) fn start(
    config: &Config,
    hostname: &str,
    token: &Token,
    contacts: &Arc<Contacts>,
    api: &Arc<Api>,
) -> Result<Heartbeats> {
    let who = AgentInfo {
        hostname: hostname.to_string(),
        port: config.common.port,
        token: config::Secret::new(token.reveal()),
        mysql_port: config.mysql.port,
    };
    let api = Arc::clone(api);
    let first = move || api.monitor().probe_once(Duration::from_secs(20));
    let orchestrators = config.orchestrator.clone();
    let (clients, intervals) = settings(&orchestrators, config)?;
    let heartbeat = Heartbeat::start(clients, who, intervals, Arc::clone(contacts), first)?;
    Ok(Heartbeats {
        orchestrators,
        heartbeat,
    })
}

/// What a reload changes of the heartbeat; the orchestrators stay.
fn settings(
    orchestrators: &config::Orchestrator,
    config: &Config,
) -> Result<(Vec<Client>, Intervals)> {
    let c = &config.common;
    let intervals = Intervals {
        ping: c.poll_interval,
        register: c.resubmit_agent_interval,
    };
    let client = |url: &String| {
        let tls = if url.starts_with("https:") {
            Some(tls::outgoing(&tls::Files::of(c))?)
        } else {
            None
        };
        let port = orchestrators.agents_port;
        Ok(Client::new(url, port, c.http_timeout, tls))
    };
    let clients: Result<Vec<Client>> = orchestrators.urls.iter().map(client).collect();
    Ok((clients?, intervals))
}

/// The heartbeat and its orchestrators, which do not change while it runs.
pub(super) struct Heartbeats {
    orchestrators: config::Orchestrator,
    heartbeat: Heartbeat,
}

impl Heartbeats {
    pub(super) fn change(&self, config: &Config) {
        match settings(&self.orchestrators, config) {
            Ok((clients, intervals)) => self.heartbeat.change(clients, intervals),
            Err(e) => log::error!("SIGHUP: {e}; calls to orchestrator go on as before"),
        }
    }
}
