//! SIGHUP: the configuration is read again, and what can change while the agent runs does (DESIGN 9). Nothing else is touched: a
//! running seed, requests and connections go on.

use super::{Beats, Stopper};
use crate::config::{self, Config, Document};
use crate::logging::Log;
use std::path::PathBuf;
use std::sync::Arc;

/// What a reload can change, and what it compares with.
pub(super) struct Live {
    pub(super) file: PathBuf,
    pub(super) log: Log,
    pub(super) heartbeats: Vec<Stopper>,
    /// As at the start, but for what reloads have changed.
    pub(super) config: Arc<Config>,
    /// The file as it was at the start.
    pub(super) document: Document,
}

/// Keys that a reload obeys, as `section.key`; all of `[custom-commands]` besides.
const RELOADED: [&str; 5] = [
    "common.poll-interval",
    "common.resubmit-agent-interval",
    "common.http-timeout",
    "logging.level",
    "logging.file",
];

impl Live {
    /// Reads the file. One that cannot be used changes nothing, but the log file is opened anew all the same.
    pub(super) fn reload(&mut self, beats: &Beats) {
        log::info!("SIGHUP: reading {} again", self.file.display());
        let loaded = match config::load(&self.file) {
            Ok(loaded) => loaded,
            Err(e) => {
                log::error!("SIGHUP: {e}; all settings stay as they are");
                return self.open_log(&self.config.logging);
            }
        };
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        // In the old file stands where it ends, in the new one where it begins.
        self.open_log(&loaded.config.logging);
        let changed = self.document.differences(&loaded.document);
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
        beats
            .api
            .set_custom_commands(loaded.config.custom_commands.clone());
        let (new, old) = (&loaded.config.common, &self.config.common);
        let same = (
            new.poll_interval,
            new.resubmit_agent_interval,
            new.http_timeout,
        ) == (
            old.poll_interval,
            old.resubmit_agent_interval,
            old.http_timeout,
        );
        let mut config = Config::clone(&self.config);
        config.logging = loaded.config.logging;
        config.custom_commands = loaded.config.custom_commands;
        if !same {
            config.common.poll_interval = new.poll_interval;
            config.common.resubmit_agent_interval = new.resubmit_agent_interval;
            config.common.http_timeout = new.http_timeout;
            match beats.start(&config) {
                Ok(fresh) => self.heartbeats = fresh, // the old ones end
                Err(e) => log::error!("SIGHUP: {e}; the old intervals stay"),
            }
        }
        self.config = Arc::new(config);
        log::info!("SIGHUP: done");
    }

    fn open_log(&self, settings: &config::Logging) {
        match self.log.set(settings) {
            Ok(()) => log::info!("SIGHUP: the log file was opened anew"),
            Err(e) => log::error!("{e}; the old one stays in use"),
        }
    }
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.contains(&key) || key.starts_with("custom-commands")
}
