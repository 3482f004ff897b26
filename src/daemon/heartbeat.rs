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
    let clients: Result<Vec<Client>> = clients(&orchestrators, config).collect();
    let intervals = intervals(config);
    let heartbeat = Heartbeat::start(clients?, who, intervals, Arc::clone(contacts), first)?;
    Ok(Heartbeats {
        orchestrators,
        heartbeat,
    })
}

fn intervals(config: &Config) -> Intervals {
    Intervals {
        ping: config.common.poll_interval,
        register: config.common.resubmit_agent_interval,
    }
}

/// One for each orchestrator; a reload changes them, the orchestrators stay.
fn clients(
    orchestrators: &config::Orchestrator,
    config: &Config,
) -> impl Iterator<Item = Result<Client>> {
    let c = &config.common;
    orchestrators.urls.iter().map(move |url| {
        let tls = if url.starts_with("https:") {
            Some(tls::outgoing(&tls::Files::of(c))?)
        } else {
            None
        };
        let port = orchestrators.agents_port;
        Ok(Client::new(url, port, c.http_timeout, tls))
    })
}

/// The heartbeat and its orchestrators, which do not change while it runs.
pub(super) struct Heartbeats {
    orchestrators: config::Orchestrator,
    heartbeat: Heartbeat,
}

impl Heartbeats {
    pub(super) fn change(&self, config: &Config) {
        let clients = clients(&self.orchestrators, config).zip(&self.orchestrators.urls);
        let usable = |(client, url): (Result<Client>, &String)| {
            client
                .inspect_err(|e| log::error!("SIGHUP: {e}; calls to {url} go on as before"))
                .ok()
        };
        self.heartbeat
            .change(clients.map(usable).collect(), intervals(config));
    }
}
