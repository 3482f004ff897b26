//! What the work on a data directory needs from the outside: the MySQL service, a place for the tools that it starts, and a
//! way to be told to end.

use super::facts::Facts;
use super::owner;
use super::stopped;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, answers, connect};
use crate::process::{Cancel, Launcher, Running, run_operator_command, set_environment};
use crate::seed::stage::Context;
use crossbeam_channel::{bounded, never, select};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A service command without a deadline: crash recovery takes as long as it takes.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For each answer of a server that runs.
const ANSWER: Duration = Duration::from_secs(10);
/// How long nothing may be seen of a server whose start command has ended well.
const NOT_SEEN: Duration = Duration::from_secs(30);

/// The outside. Tests have one of their own that ends at any step.
pub trait Surroundings: Sync {
    /// Ends forward work; what goes back is never cancelled.
    fn cancel(&self) -> &Cancel;

    /// Says what is being done now.
    fn report(&self, text: &str);

    /// Records a tool, so that an agent that starts after being killed can end it.
    ///
    /// # Errors
    /// If the record cannot be written.
    fn adopt(&self, tool: &Running) -> Result<()>;

    /// Stops the MySQL service.
    ///
    /// # Errors
    /// The command's; cancelled.
    fn stop(&self, cancel: &Cancel) -> Result<()>;

    /// Starts the MySQL service. May return before it answers.
    ///
    /// # Errors
    /// The command's; cancelled.
    fn start(&self, cancel: &Cancel) -> Result<()>;

    /// Whether MySQL answers: Ok with the error of a refused login.
    ///
    /// # Errors
    /// Nobody answers.
    fn answers(&self) -> Result<Option<Error>>;

    /// That the server that answers is the one that works in the data directory.
    ///
    /// # Errors
    /// It is another one.
    fn serves(&self, _facts: &Facts) -> Result<()> {
        Ok(())
    }

    /// The server's program as the owner of its data directory.
    fn program(&self, facts: &Facts) -> Command;

    /// `mysql.boot-timeout`; zero: none.
    fn boot_timeout(&self) -> Duration;

    /// How long MySQL may take to be gone after its stop command has ended (`common.command-timeout`).
    fn patience(&self) -> Duration;

    /// How long MySQL must have been gone to count as stopped.
    fn quiet(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Called before each durable step.
    ///
    /// # Errors
    /// Ends the work there.
    fn at(&self, _step: &str) -> Result<()> {
        Ok(())
    }
}

/// The real outside: the service commands of the configuration; a stage's context, or none at the agent's start.
pub struct Host<'a> {
    config: Arc<Config>,
    launcher: Launcher,
    context: Option<&'a Context>,
    cancel: Cancel,
}

impl<'a> Host<'a> {
    /// For a stage.
    pub fn of_stage(config: &Arc<Config>, context: &'a Context) -> Self {
        Self {
            config: Arc::clone(config),
            launcher: Launcher::new(&config.common),
            context: Some(context),
            cancel: context.cancel().clone(),
        }
    }

    /// For the agent's start.
    pub fn at_start(config: &Arc<Config>) -> Self {
        Self {
            config: Arc::clone(config),
            launcher: Launcher::new(&config.common),
            context: None,
            cancel: Cancel::default(),
        }
    }

    fn run(&self, name: &str, line: &str, limit: Duration, cancel: &Cancel) -> Result<()> {
        let done = run_operator_command(line, &self.launcher, limit, cancel)
            .and_then(crate::process::Output::success);
        done.map(drop)
            .map_err(|e| e.context(format!("mysql.{name} = \"{line}\"")))
    }
}

impl Surroundings for Host<'_> {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn report(&self, text: &str) {
        match self.context {
            Some(context) => context.report(text),
            None => log::info!("{text}"),
        }
    }

    fn adopt(&self, tool: &Running) -> Result<()> {
        self.context.map_or(Ok(()), |c| c.adopt(tool))
    }

    fn stop(&self, cancel: &Cancel) -> Result<()> {
        let line = &self.config.mysql.service_stop_command;
        let limit = self.config.common.command_timeout;
        self.run("service-stop-command", line, limit, cancel)
    }

    fn start(&self, cancel: &Cancel) -> Result<()> {
        let line = &self.config.mysql.service_start_command;
        self.run("service-start-command", line, NO_DEADLINE, cancel)
    }

    fn answers(&self) -> Result<Option<Error>> {
        answers(&Endpoint::local(&self.config.mysql), Duration::from_secs(3))
    }

    fn serves(&self, facts: &Facts) -> Result<()> {
        let endpoint = Endpoint::local(&self.config.mysql);
        match connect(&endpoint, ANSWER) {
            Ok(mut conn) => owner::check_datadir(&mut conn, &endpoint, &facts.datadir),
            Err(_) if stopped::is_in_use(facts)? => Ok(()), // it answers, but rejects the login
            Err(e) => Err(e.context(format!(
                "no server works in {}, but one answers at {}",
                facts.datadir.display(),
                endpoint.name()
            ))),
        }
    }

    fn program(&self, facts: &Facts) -> Command {
        let mut command = Command::new(&facts.program);
        set_environment(&mut command);
        if facts.uid != crate::sys::process::effective_uid() {
            command.uid(facts.uid).gid(facts.gid); // std drops the other groups as well
        }
        command
    }

    fn boot_timeout(&self) -> Duration {
        self.config.mysql.boot_timeout
    }

    fn patience(&self) -> Duration {
        self.config.common.command_timeout
    }
}

/// Starts MySQL and waits until it answers, as long as it is alive: no limit on crash recovery but `mysql.boot-timeout`.
/// Ok with the error of a refused login, which a live server gives.
///
/// # Errors
/// The start command's; a server that ends, or does not come; the timeout; cancelled.
pub fn start_and_wait(
    outside: &dyn Surroundings,
    facts: &Facts,
    cancel: &Cancel,
) -> Result<Option<Error>> {
    let ended = Cancel::default();
    std::thread::scope(|scope| {
        let (tx, mut command) = bounded(1);
        let end = ended.clone();
        scope.spawn(move || {
            let _ = tx.send(outside.start(&end)); // its receiver lives as long as the scope
        });
        let begin = Instant::now();
        let (mut seen, mut alive, mut deaths) = (Instant::now(), false, 0);
        let mut started = false;
        let result = loop {
            let silence = match outside.answers() {
                Ok(login) => break Ok(login),
                Err(e) => e,
            };
            let used = match stopped::is_in_use(facts) {
                Ok(used) => used,
                Err(e) => break Err(e),
            };
            deaths += u32::from(alive && !used);
            alive = used;
            if used {
                seen = Instant::now();
            }
            if started && (deaths > 2 || seen.elapsed() > NOT_SEEN) {
                break Err(Error::permanent(format!(
                    "MySQL was started and does not stay alive: see its error log ({silence})"
                )));
            }
            let limit = outside.boot_timeout();
            if !limit.is_zero() && begin.elapsed() > limit {
                break Err(Error::transient(format!(
                    "MySQL does not answer {}s after its start (mysql.boot-timeout): {silence}",
                    limit.as_secs()
                )));
            }
            select! {
                recv(command) -> done => {
                    if let Ok(Err(e)) = done {
                        if e.is_cancelled() || !stopped::is_in_use(facts).unwrap_or(false) {
                            break Err(e);
                        }
                        // Whoever starts it has lost patience, perhaps with its crash recovery. We have not.
                        log::warn!("{e}; but the server is alive: waiting for it");
                    }
                    (started, seen, command) = (true, Instant::now(), never()); // it says no more
                }
                recv(cancel.signal()) -> _ => break Err(Error::cancelled()),
                default(Duration::from_millis(200)) => {}
            }
        };
        if result.is_err() {
            ended.cancel("MySQL does not start");
        }
        result
    })
}
