//! SIGHUP: the configuration is read again, and what can change while the agent runs does. Nothing else is touched: a
//! running seed, requests and connections go on.

use crate::api::Api;
use crate::config::{Config, Logging, Values, is_reloaded};
use crate::daemon::logging::Log;
use crate::daemon::options::Options;
use crate::error::Result;
use crate::http::Server;
use crate::protocol::heartbeat::{Heartbeat, Intervals, Registrant};
use crate::protocol::orchestrator::Client;
use crate::sys::thread::unpoisoned;
use crate::tls;
use std::sync::Arc;
use std::time::Duration;

/// What a reload can change, and what it compares with.
pub(super) struct Live<'a> {
    pub(super) options: Options,
    pub(super) log: Log,
    /// With the configuration of the start, which names the files of TLS, whose content may have changed, and the orchestrators.
    pub(super) api: Arc<Api>,
    pub(super) heartbeat: Heartbeat,
    /// The settings of the log that are in force.
    pub(super) logging: Logging,
    /// All keys as they were at the start.
    pub(super) started: Values,
    pub(super) server: &'a Server,
}

/// The heartbeat begins once this host was examined completely, because orchestrator calls back during the registration and stores
/// what it then gets.
pub(super) fn start_heartbeat(api: &Arc<Api>) -> Result<Heartbeat> {
    let config = &api.config;
    let (engine, classic) = (Arc::clone(&api.engine), Arc::clone(&api.classic));
    let who = Registrant {
        hostname: api.hostname.clone(),
        port: config.common.port,
        mysql_port: config.mysql.port,
        is_seeding: Box::new(move || classic.is_busy() || engine.is_attended()),
    };
    let clients = config.orchestrator.urls.iter();
    let clients: Result<Vec<Client>> = clients.map(|url| client(api, url, config)).collect();
    let monitored = Arc::clone(api);
    let first = move || monitored.monitor.probe_once(Duration::from_secs(20));
    Heartbeat::start(clients?, who, intervals(config), &api.contacts, first)
}

fn intervals(config: &Config) -> Intervals {
    Intervals {
        ping: config.common.poll_interval,
        register: config.common.resubmit_agent_interval,
    }
}

/// For one of the orchestrators, which stay; a reload changes how they are called.
fn client(api: &Api, url: &str, config: &Config) -> Result<Client> {
    let port = api.config.orchestrator.agents_port;
    Client::configured(url, port, &config.common)
}

impl Live<'_> {
    /// Reads the files of TLS again. Those that cannot be used change nothing.
    fn renew_certificate(&self) {
        match tls::Server::new(&self.api.config.common) {
            Ok(None) => {}
            Ok(Some(tls)) => self.server.renew(tls),
            Err(e) => log::error!("SIGHUP: {e}; the certificate in use stays"),
        }
    }

    fn change_clients(&self, config: &Config) {
        let usable = |url: &String| {
            client(&self.api, url, config)
                .inspect_err(|e| log::error!("SIGHUP: {e}; calls to {url} go on as before"))
                .ok()
        };
        let urls = self.api.config.orchestrator.urls.iter();
        let clients: Vec<Option<Client>> = urls.map(usable).collect();
        self.api.volumes.change(&clients);
        self.heartbeat.change(clients, intervals(config));
    }

    /// Reads the file. One that cannot be used changes nothing, but the log file is opened again all the same.
    pub(super) fn reload(&mut self) {
        log::info!("SIGHUP: reading the configuration again");
        self.renew_certificate();
        let loaded = match self.options.load() {
            Ok(loaded) => loaded,
            Err(faults) => {
                for fault in faults.to_string().lines() {
                    log::error!("SIGHUP: {fault}");
                }
                log::error!("SIGHUP: all settings stay as they are");
                // logrotate has moved the file all the same.
                self.open_log(&self.logging);
                return;
            }
        };
        log::info!("SIGHUP: read {}", loaded.file);
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        // In the old file stands where it ends, in the new one where it begins.
        if self.open_log(&loaded.config.logging) {
            self.logging = loaded.config.logging.clone();
        }
        let changed = self.started.changed(&loaded.values);
        let stale = changed.iter().map(String::as_str);
        let stale: Vec<&str> = stale.filter(|k| !is_reloaded(k)).collect();
        if !stale.is_empty() {
            log::warn!(
                "SIGHUP: changed settings that need a restart of the agent: {}",
                stale.join(", ")
            );
        }
        let config = &loaded.config;
        // Commands that run go on.
        *unpoisoned(self.api.custom_commands.write()) = config.custom_commands.clone();
        self.change_clients(config);
        log::info!("SIGHUP: done");
    }

    /// True if the settings are in force now.
    fn open_log(&self, settings: &Logging) -> bool {
        let set = self.log.set(settings);
        match &set {
            Ok(()) => log::info!("SIGHUP: the log file was opened again"),
            Err(e) => log::error!("{e}; the old one stays in use"),
        }
        set.is_ok()
    }
}
