//! What the work on a data directory needs from outside: the MySQL service, a record of the tools that it starts, and
//! cancellation. The service is started until it answers, and stopped until no server runs in the data directory: by the lock that
//! every InnoDB server holds on its system tablespace file, and the working directories of processes.

use super::info::DatadirInfo;
use super::owner;
use super::service_command::CommandNote;
use super::staging::if_there;
use crate::config::Config;
use crate::error::{Error, OnPath, Result};
use crate::mysql::{Endpoint, answers, connect};
use crate::process::{Cancel, Launcher, Output, Running, run_known_command, set_environment};
use crate::sys::file;
use crate::sys::proc::servers_in;
use crossbeam_channel::{Receiver, bounded, never, select};
use std::fs::File;
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
/// How often the lock is tried.
const POLL: Duration = Duration::from_millis(100);
/// How long a server that was started in mid-swap may take to find out that it cannot start.
const REFUSAL: Duration = Duration::from_secs(20);
/// How long a server that is just starting is waited for before it is stopped.
const START: Duration = Duration::from_secs(30);
/// How often a server that was started since is stopped again.
const AGAIN: u32 = 5;

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
        let note = CommandNote::of(&self.config.common);
        let started = |command: &Running| note.write(command);
        let done = run_known_command(line, &self.launcher, limit, cancel, started);
        note.remove();
        let done = done.and_then(Output::success).map(drop);
        done.map_err(|e| e.context(format!("mysql.{name} = \"{line}\"")))
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
            Err(_) if is_in_use(info)? => Ok(()), // it answers, but rejects the login
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
        let used = is_in_use(info)?;
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
                    if e.is_cancelled() || !is_in_use(info).unwrap_or(false) {
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

/// The lock, held while data are renamed: a server started meanwhile does not get it. `None` inside: there is no such file.
pub(super) struct Lock(#[allow(dead_code)] Option<File>);

/// The system tablespace, if there is one: our guard is a directory.
fn open_tablespace(info: &DatadirInfo) -> Result<Option<File>> {
    let path = info.tablespace();
    match if_there(std::fs::symlink_metadata(&path)).on(&path)? {
        Some(meta) if meta.is_file() => {}
        _ => return Ok(None),
    }
    let file = File::options().read(true).write(true).open(&path);
    file.map(Some).on(path)
}

fn lock_of(info: &DatadirInfo) -> String {
    format!("lock of {}", info.tablespace().display())
}

/// True if a server runs in the data directory. Takes no lock: a server that starts at this moment is not disturbed.
pub(crate) fn is_in_use(info: &DatadirInfo) -> Result<bool> {
    let locked = match open_tablespace(info)? {
        Some(file) => file::is_locked(&file).on(lock_of(info))?,
        None => false,
    };
    Ok(locked || !servers_in(&info.datadir).is_empty())
}

/// Stops the server. One that is just starting is waited for before: MariaDB 10.11 that is stopped at that moment may hang for
/// ever, and with it its service manager's stop command.
fn stop(env: &dyn Environment, info: &DatadirInfo, cancel: &Cancel) -> Result<()> {
    let begin = Instant::now();
    let starts = || !servers_in(&info.datadir).is_empty() && env.answers().is_err();
    while begin.elapsed() < START && starts() {
        cancel.check()?;
        cancel.sleep(POLL);
    }
    match env.stop(cancel) {
        Err(e) if e.is_cancelled() || is_in_use(info)? => return Err(e),
        Err(e) => log::warn!("{e}; no server uses {}", info.datadir.display()),
        Ok(()) => {}
    }
    Ok(())
}

/// Stops the server and waits until none has used the data directory for [`Environment::quiet`] without a break (a service manager
/// may start a stopped server again at once), then takes the lock. A server that comes after that is stopped too, some times: a
/// start command that a killed agent has left behind may be at work. Transient after [`Environment::stop_timeout`].
pub(super) fn stop_and_lock(
    env: &dyn Environment,
    info: &DatadirInfo,
    cancel: &Cancel,
) -> Result<Lock> {
    let (quiet, patience) = (env.quiet(), env.stop_timeout());
    let mut stopped = servers_in(&info.datadir);
    stop(env, info, cancel)?;
    let (mut begin, mut again) = (Instant::now(), 0);
    let (mut free_since, mut was_free) = (None, false);
    loop {
        cancel.check()?;
        if is_in_use(info)? {
            free_since = None;
            let there = servers_in(&info.datadir);
            let new = was_free || there.iter().any(|pid| !stopped.contains(pid));
            if new && again < AGAIN {
                log::warn!("MySQL was started again: stopping it");
                (again, was_free, stopped) = (again + 1, false, there);
                stop(env, info, cancel)?;
                begin = Instant::now();
                continue;
            }
        } else {
            was_free = true;
            if free_since.get_or_insert_with(Instant::now).elapsed() >= quiet {
                let Some(file) = open_tablespace(info)? else {
                    return Ok(Lock(None));
                };
                if file::try_lock(&file).on(lock_of(info))? {
                    return Ok(Lock(Some(file)));
                }
                free_since = None;
            }
        }
        if begin.elapsed() > patience + quiet {
            return Err(Error::transient(format!(
                "MySQL does not stay stopped: {} was in use again and again for {}s; check that mysql.service-stop-command stops \
                 the server of this data directory for good",
                info.tablespace().display(),
                patience.as_secs()
            )));
        }
        cancel.sleep(POLL);
    }
}

/// Waits until no server's process works in the data directory. With the guard in place one that was started ends by itself;
/// one that had opened the system tablespace before waits for its lock, and must not be left alone with moved files.
pub(super) fn wait_until_unused(info: &DatadirInfo, cancel: &Cancel) -> Result<()> {
    let begin = Instant::now();
    while let Some(pid) = servers_in(&info.datadir).first() {
        cancel.check()?;
        if begin.elapsed() > REFUSAL {
            return Err(Error::transient(format!(
                "a database server (process {pid}) was started in {} while its content was being swapped; keep MySQL stopped \
                 until the seed is done",
                info.datadir.display()
            )));
        }
        cancel.sleep(POLL);
    }
    Ok(())
}
