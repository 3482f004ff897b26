//! SIGHUP: the configuration is read again, and what can change while the agent runs does. Nothing else is touched: a
//! running seed, requests and connections go on.

use super::heartbeat::Heartbeats;
use crate::api::Api;
use crate::config::{self, Common, Logging, Values, is_reloaded};
use crate::daemon::logging::Log;
use crate::http::Server;
use crate::tls;
use std::path::PathBuf;
use std::sync::Arc;

/// What a reload can change, and what it compares with.
pub(super) struct Live<'a> {
    pub(super) file: PathBuf,
    pub(super) log: Log,
    pub(super) api: Arc<Api>,
    pub(super) heartbeats: Heartbeats,
    /// The settings of the log that are in force.
    pub(super) logging: Logging,
    /// All keys as they were at the start.
    pub(super) started: Values,
    pub(super) server: &'a Server,
    /// As it was at the start: it names the files of TLS, whose content may have changed.
    pub(super) common: Common,
}

impl Live<'_> {
    /// Reads the files of TLS again. Those that cannot be used change nothing.
    fn renew_certificate(&self) {
        match tls::Server::new(&self.common) {
            Ok(None) => {}
            Ok(Some(tls)) => self.server.renew(tls),
            Err(e) => log::error!("SIGHUP: {e}; the certificate in use stays"),
        }
    }

    /// Reads the file. One that cannot be used changes nothing, but the log file is opened again all the same.
    pub(super) fn reload(&mut self) {
        log::info!("SIGHUP: reading {} again", self.file.display());
        self.renew_certificate();
        let loaded = match config::load(&self.file) {
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
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        // In the old file stands where it ends, in the new one where it begins.
        if self.open_log(&loaded.config.logging) {
            self.logging = loaded.config.logging.clone();
        }
        let changed = self.started.changed(&loaded.values);
        let stale: Vec<&str> = changed
            .iter()
            .map(String::as_str)
            .filter(|k| !is_reloaded(k))
            .collect();
        if !stale.is_empty() {
            log::warn!(
                "SIGHUP: changed settings that need a restart of the agent: {}",
                stale.join(", ")
            );
        }
        let config = &loaded.config;
        self.api.set_custom_commands(config.custom_commands.clone());
        self.heartbeats.change(config);
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
