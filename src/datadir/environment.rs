//! What the work on a data directory needs from outside: the MySQL service, a record of the tools that it starts, and
//! cancellation.

use super::info::DatadirInfo;
use super::owner;
use super::stopped;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, answers, connect};
use crate::process::{Cancel, Launcher, Running, run_operator_command, set_environment};
use crossbeam_channel::{Receiver, bounded, never, select};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A service command without a deadline: crash recovery takes as long as it takes.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For a connection to a server that may be starting.
const CONNECT: Duration = Duration::from_secs(3);
/// For each answer of a server that runs.
const QUERY: Duration = Duration::from_secs(10);
/// How long nothing may be seen of a server whose start command has ended well.
const NOT_SEEN: Duration = Duration::from_secs(30);

/// What the work is done for: a stage of a seed.
pub trait Task: Sync {
    /// Ends forward work; a rollback is never cancelled.
    fn cancel(&self) -> &Cancel;

    /// Reports what is being done now.
    fn report(&self, text: &str);

    /// Records a tool, so that an agent that starts after being killed can end it.
    fn adopt(&self, tool: &Running) -> Result<()>;
}

/// The task and the MySQL service. Tests have one of their own that fails at any step.
pub trait Environment: Task {
    /// Stops the MySQL service.
    fn stop(&self, cancel: &Cancel) -> Result<()>;

    /// Starts the MySQL service. May return before it answers.
    fn start(&self, cancel: &Cancel) -> Result<()>;

    /// Whether MySQL answers: Ok with the error of a refused login.
    fn answers(&self) -> Result<Option<Error>>;

    /// That the server that answers is the one that works in the data directory.
    fn serves(&self, _info: &DatadirInfo) -> Result<()> {
        Ok(())
    }

    /// The server's program as the owner of its data directory.
    fn program(&self, info: &DatadirInfo) -> Command;

    /// `mysql.boot-timeout`; zero: none.
    fn boot_timeout(&self) -> Duration;

    /// How long MySQL may take to be gone after its stop command has ended (`common.command-timeout`).
    fn stop_timeout(&self) -> Duration;

    /// How long MySQL must have been gone to count as stopped.
    fn quiet(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Called before each durable step; an error ends the work there.
    fn at(&self, _step: &str) -> Result<()> {
        Ok(())
    }
}

/// The real environment: the service commands of the configuration.
pub struct Host<'a> {
    config: Arc<Config>,
    launcher: Launcher,
    /// None at the agent's start.
    task: Option<&'a dyn Task>,
    cancel: Cancel,
}

impl<'a> Host<'a> {
    pub(crate) fn of_stage(config: &Arc<Config>, task: &'a dyn Task) -> Self {
        Self {
            task: Some(task),
            cancel: task.cancel().clone(),
            ..Self::at_start(config)
        }
    }

    /// For the agent's start.
    pub fn at_start(config: &Arc<Config>) -> Self {
        Self {
            config: Arc::clone(config),
            launcher: Launcher::new(&config.common),
            task: None,
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

impl Task for Host<'_> {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn report(&self, text: &str) {
        match self.task {
            Some(task) => task.report(text),
            None => log::info!("{text}"),
        }
    }

    fn adopt(&self, tool: &Running) -> Result<()> {
        self.task.map_or(Ok(()), |t| t.adopt(tool))
    }
}

impl Environment for Host<'_> {
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
        answers(&Endpoint::local(&self.config.mysql), CONNECT)
    }

    fn serves(&self, info: &DatadirInfo) -> Result<()> {
        let endpoint = Endpoint::local(&self.config.mysql);
        match connect(&endpoint, QUERY) {
            Ok(mut conn) => owner::check_datadir(&mut conn, &endpoint, &info.datadir),
            Err(_) if stopped::is_in_use(info)? => Ok(()), // it answers, but rejects the login
            Err(e) => Err(e.context(format!(
                "no server works in {}, but one answers at {}",
                info.datadir.display(),
                endpoint.name()
            ))),
        }
    }

    fn program(&self, info: &DatadirInfo) -> Command {
        let mut command = Command::new(&info.program);
        set_environment(&mut command);
        if info.uid != crate::sys::process::effective_uid() {
            command.uid(info.uid).gid(info.gid); // std drops the other groups as well
        }
        command
    }

    fn boot_timeout(&self) -> Duration {
        self.config.mysql.boot_timeout
    }

    fn stop_timeout(&self) -> Duration {
        self.config.common.command_timeout
    }
}

/// Starts MySQL and waits until it answers, as long as it is alive: no limit on crash recovery but `mysql.boot-timeout`.
/// Ok with the error of a refused login, which a live server gives.
pub(crate) fn start_and_wait(
    env: &dyn Environment,
    info: &DatadirInfo,
    cancel: &Cancel,
) -> Result<Option<Error>> {
    let ended = Cancel::default();
    std::thread::scope(|scope| {
        let (tx, command) = bounded(1);
        let end = ended.clone();
        scope.spawn(move || {
            let _ = tx.send(env.start(&end)); // not received once MySQL answers, or after an error
        });
        let result = wait_until_up(env, info, cancel, command);
        if result.is_err() {
            ended.cancel("MySQL does not start");
        }
        result
    })
}

/// `command`: the result of the start command.
fn wait_until_up(
    env: &dyn Environment,
    info: &DatadirInfo,
    cancel: &Cancel,
    mut command: Receiver<Result<()>>,
) -> Result<Option<Error>> {
    let begin = Instant::now();
    let (mut seen, mut alive, mut deaths) = (Instant::now(), false, 0);
    let mut started = false;
    loop {
        let silence = match env.answers() {
            Ok(login) => return Ok(login),
            Err(e) => e,
        };
        let used = stopped::is_in_use(info)?;
        deaths += u32::from(alive && !used);
        alive = used;
        if used {
            seen = Instant::now();
        }
        if started && (deaths > 2 || seen.elapsed() > NOT_SEEN) {
            return Err(Error::permanent(format!(
                "MySQL was started and does not stay alive: see its error log ({silence})"
            )));
        }
        let limit = env.boot_timeout();
        if !limit.is_zero() && begin.elapsed() > limit {
            return Err(Error::transient(format!(
                "MySQL does not answer {}s after its start (mysql.boot-timeout): {silence}",
                limit.as_secs()
            )));
        }
        select! {
            recv(command) -> done => {
                if let Ok(Err(e)) = done {
                    if e.is_cancelled() || !stopped::is_in_use(info).unwrap_or(false) {
                        return Err(e);
                    }
                    // The service manager has given up, perhaps during crash recovery.
                    log::warn!("{e}; but the server is alive: waiting for it");
                }
                (started, seen, command) = (true, Instant::now(), never());
            }
            recv(cancel.signal()) -> _ => return Err(Error::cancelled()),
            default(Duration::from_millis(200)) => {}
        }
    }
}
