//! The MySQL service of this host, started and stopped by request.

use super::Api;
use super::monitor::HostMonitor;
use crate::config::Config;
use crate::datadir::{self, Journals, mysql_start_refused};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, answers};
use crate::process::{Cancel, Launcher, Output, run_operator_command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For the connection to a server that is just starting.
const CONNECT: Duration = Duration::from_secs(5);
/// How often that is tried.
const POLL: Duration = Duration::from_millis(200);
/// How long a service that was started may be down before it counts as dead.
const DEAD: Duration = Duration::from_secs(30);

/// What starting and stopping needs, for a thread of its own.
#[derive(Clone)]
pub(super) struct Service {
    config: Arc<Config>,
    launcher: Launcher,
    stopping: Cancel,
    monitor: HostMonitor,
}

impl Service {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            config: Arc::clone(&api.config),
            launcher: api.launcher.clone(),
            stopping: api.stopping.clone(),
            monitor: api.monitor.clone(),
        }
    }

    /// Runs the stop command.
    pub(super) fn stop(&self) -> Result<()> {
        log::info!("MySQL is to be stopped by request");
        // A seed while it is down must know of its replicas, also after a restart of the agent.
        self.monitor.probe_before_stop();
        if !self.config.mysql.user.is_empty()
            && let Err(e) = datadir::note_replicas(&self.config)
        {
            log::info!("the replicas of MySQL cannot be noted in common.state-dir: {e}");
        }
        let stopped = self.run(&self.config.mysql.service_stop_command, &self.stopping);
        self.monitor.service_changed();
        stopped
    }

    /// Runs the start command, unless a swap of the data directory is unfinished.
    pub(super) fn start(&self, cancel: &Cancel) -> Result<()> {
        let journals = Journals::new(&self.config.common.state_dir);
        if let Some(reason) = mysql_start_refused(&journals) {
            return Err(Error::permanent(format!("MySQL is not started: {reason}")));
        }
        log::info!("MySQL is to be started by request");
        self.run(&self.config.mysql.service_start_command, cancel)
    }

    /// Starts MySQL, unless it runs, and returns when it accepts connections; crash recovery takes its time, up to
    /// `mysql.boot-timeout`. A refused login is an answer of a live server.
    pub(super) fn start_and_wait(&self, cancel: &Cancel) -> Result<()> {
        let endpoint = Endpoint::local(&self.config.mysql);
        if answers(&endpoint, CONNECT).is_ok() {
            self.monitor.service_changed(); // a seed may have started it
            return Ok(());
        }
        let begin = Instant::now();
        self.start(cancel)
            .map_err(|e| e.context("mysql.service-start-command"))?;
        let (mut seen, limit) = (Instant::now(), self.config.mysql.boot_timeout);
        loop {
            let Err(silence) = answers(&endpoint, CONNECT) else {
                self.monitor.service_changed();
                return Ok(());
            };
            if self.monitor.is_running() {
                seen = Instant::now();
            }
            if seen.elapsed() > DEAD {
                return Err(Error::permanent(format!(
                    "MySQL was started and does not stay alive: see its error log ({silence})"
                )));
            }
            if !limit.is_zero() && begin.elapsed() > limit {
                return Err(Error::transient(format!(
                    "MySQL does not answer {}s after its start (mysql.boot-timeout): {silence}",
                    limit.as_secs()
                )));
            }
            cancel.pause(POLL)?;
        }
    }

    fn run(&self, line: &str, cancel: &Cancel) -> Result<()> {
        let limit = self.config.common.command_timeout;
        let done = run_operator_command(line, &self.launcher, limit, cancel);
        done.and_then(Output::success).map(drop)
    }
}
