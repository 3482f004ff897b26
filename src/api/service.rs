//! Actions on the host: the MySQL service, custom commands, the hook after a seed.

use super::{Api, reply, seed};
use crate::datadir::{Journals, mysql_start_refused};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::process::run_operator_command;

/// The custom command that orchestrator calls at the end of a seed.
pub(super) const POST_SEED: &str = "post-seed-command";

impl Api {
    /// Starts or stops MySQL. The answer is the host's data after it, because orchestrator stores it.
    pub(super) fn service(&self, start: bool) -> Result<Response> {
        if start
            && let Some(reason) = mysql_start_refused(&Journals::new(&self.config.common.state_dir))
        {
            return Err(Error::permanent(format!("MySQL is not started: {reason}")));
        }
        let mysql = &self.config.mysql;
        let line = if start {
            &mysql.service_start_command
        } else {
            &mysql.service_stop_command
        };
        log::info!(
            "MySQL is to be {} by request",
            if start { "started" } else { "stopped" }
        );
        self.run(line)?;
        Ok(self.agent_data_after_change())
    }

    pub(super) fn custom_command(&self, name: &str) -> Result<Response> {
        let line = self.command(name).filter(|_| name != POST_SEED);
        let line = line.ok_or_else(|| Error::permanent(format!("{name} : Command not found")))?;
        log::info!("custom command {name} runs by request");
        Ok(reply::ok_message(&self.run(&line)?))
    }

    fn command(&self, name: &str) -> Option<String> {
        self.custom_commands().get(name).cloned()
    }

    pub(super) fn post_seed(&self, id: &str) -> Result<Response> {
        self.engine
            .expect_current(seed::number(id)?, "execute post seed command")?;
        let Some(line) = self.command(POST_SEED) else {
            return Ok(reply::json(&true));
        };
        Ok(reply::ok_message(&self.run(&line)?))
    }

    fn run(&self, line: &str) -> Result<String> {
        run_operator_command(
            line,
            &self.launcher,
            self.config.common.command_timeout,
            &self.stopping,
        )?
        .success()
    }
}
