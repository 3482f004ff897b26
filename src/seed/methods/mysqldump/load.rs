//! The load itself: one client gets the dump, and the rows of large tables go in beside it, each by a client of its own.
//! How many sessions, `mysqldump.load-threads` says; what waits for what, [`super::script`].

use super::backup::name_of;
use super::options;
use super::script::{Step, scan};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, connect, control};
use crate::process::{Cancel, Credentials, Job, Launcher, Login, Running, feed_from};
use crate::seed::context::{Context, Progress};
use crate::seed::methods::target_server::until_none;
use crossbeam_channel::{Receiver, bounded, select, unbounded};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use text::{MARK, PROLOGUE, Pending, Rows, Text};

mod text;

/// Rows of fewer bytes are not worth a client of their own.
const LARGE: u64 = 8 << 20;
/// More sessions than this wait for each other in the server.
const MOST: usize = 8;

/// Loads a dump into the local server.
pub struct Load<'a> {
    ctx: &'a Context,
    config: &'a Config,
    launcher: &'a Launcher,
    flavour: Flavour,
    program: PathBuf,
    credentials: Credentials,
    /// Ends all clients: with the stage, or with the first of them that fails.
    stop: Cancel,
    fed: Arc<Mutex<u64>>,
    first: Mutex<Option<Error>>,
}

impl<'a> Load<'a> {
    /// Writes the credentials for the clients, which live as long as the returned value.
    ///
    /// # Errors
    /// If the client program is missing or the credentials cannot be written.
    pub fn new(
        ctx: &'a Context,
        config: &'a Config,
        launcher: &'a Launcher,
        server: Server,
    ) -> Result<Self> {
        let mysql = &config.mysql;
        let program = launcher.find(server.client_tools())?;
        let login = Login {
            host: &mysql.host,
            port: mysql.port,
            socket: &mysql.socket,
            user: &mysql.user,
            password: mysql.password.reveal(),
            public_key: server.flavour == Flavour::MySql,
            plugin_dir: crate::mysql::old_logins(&program, server),
            server: None,
        };
        Ok(Self {
            ctx,
            config,
            launcher,
            flavour: server.flavour,
            program,
            credentials: Credentials::create(&config.common.state_dir, &login, launcher)?,
            stop: Cancel::default(),
            fed: Arc::default(),
            first: Mutex::default(),
        })
    }

    /// Loads the dump in `path` from its byte `from` on. When it returns Ok every statement has been executed and committed.
    /// Returns how many parts of large tables were loaded beside the rest.
    ///
    /// # Errors
    /// Cancelled, or the first failure of a client; all of them have ended then, and so have their sessions.
    pub fn run(&self, path: &Path, from: u64) -> Result<usize> {
        let fail = |e: io::Error| Error::io(path.display(), &e);
        let sessions = sessions(self.config.mysqldump.load_threads);
        let large = if sessions == 1 { u64::MAX } else { LARGE };
        let mut dump = File::open(path).map_err(fail)?;
        dump.seek(SeekFrom::Start(from)).map_err(fail)?;
        let whole = Whole {
            file: &dump,
            stop: self.ctx.cancel(),
        };
        let script = scan(&mut BufReader::with_capacity(1 << 20, whole), from, large);
        self.ctx.cancel().check()?;
        let script = script.map_err(fail)?;
        let dump = Arc::new(dump);
        let (give, jobs) = unbounded();
        let pending = Pending::default();
        let text = Text::new(
            &script,
            Arc::clone(&dump),
            Arc::clone(&pending),
            self.stop.clone(),
            self.flavour,
        );
        let release = move |line: &str| {
            if line == MARK
                && let Some(rows) = lock(&pending).pop_front()
            {
                let _ = give.send(rows); // nobody takes it any more after a failure: fine
            }
        };
        std::thread::scope(|scope| {
            let (over, finished) = bounded::<()>(0);
            scope.spawn(move || select! {
                recv(finished) -> _ => {}
                recv(self.ctx.cancel().signal()) -> _ => self.stop.cancel(&self.ctx.cancel().reason()),
            });
            let workers: Vec<_> = (1..sessions)
                .map(|_| (jobs.clone(), Arc::clone(&dump)))
                .map(|(jobs, dump)| scope.spawn(move || self.work(&jobs, &dump)))
                .collect();
            let result = self.client(
                Cursor::new(PROLOGUE).chain(text),
                PROLOGUE.len() as u64,
                release,
            );
            self.keep(result);
            // Its output has ended, and with it the way to give more: the workers end when they have done what was given.
            for worker in workers {
                if worker.join().is_err() {
                    self.keep(Err(Error::permanent(
                        "internal error: a loading thread panicked",
                    )));
                }
            }
            drop(over);
        });
        self.ctx.cancel().check()?;
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let beside = |step: &&Step| matches!(step, Step::Rows { .. });
        let beside = script.steps.iter().filter(beside).count();
        first.map_or(Ok(beside), Err)
    }

    /// The first failure ends the others (P6).
    fn keep(&self, result: Result<()>) {
        let Err(e) = result else { return };
        let mut first = lock(&self.first);
        if first.is_none() {
            *first = Some(e);
        }
        drop(first);
        self.stop.cancel("another part of the load failed");
    }

    fn work(&self, jobs: &Receiver<Rows>, dump: &Arc<File>) {
        for rows in jobs {
            if self.stop.is_cancelled() {
                continue;
            }
            let (input, own) = rows.input(dump);
            self.keep(self.client(input, own, |_| {}));
        }
    }

    /// Runs one client on `input`, of which `own` bytes are not of the dump; `line` is told what it puts out after the number
    /// of its connection.
    fn client(
        &self,
        input: impl Read + Send + 'static,
        own: u64,
        line: impl FnMut(&str) + Send + 'static,
    ) -> Result<()> {
        let mut cmd = self.launcher.command(&self.program);
        cmd.args(options::client_arguments(self.credentials.path()));
        cmd.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("LC_ALL", "C");
        let mut tool = Running::start(&mut cmd, &name_of(&self.program))?;
        self.ctx.adopt(&tool)?;
        let connection = Arc::new(AtomicU64::new(0));
        if let Some(out) = tool.take_stdout() {
            let connection = Arc::clone(&connection);
            std::thread::spawn(move || read_output(out, &connection, line));
        }
        let job = Job {
            cancel: &self.stop,
            before_kill: &|_| {},
        };
        let progress = count(Arc::clone(&self.fed), Arc::clone(self.ctx.progress()), own);
        let result = feed_from(tool, input, progress, &job);
        let failed = !matches!(&result, Ok((exit, _)) if exit.status.success());
        let id = connection.load(Ordering::Relaxed);
        if failed && id != 0 {
            // A statement goes on in the server when its client has been killed.
            end_connection(&Endpoint::local(&self.config.mysql), id);
        }
        let (mut exit, _) = result?;
        exit.stderr = errors_only(&exit.stderr);
        exit.check().map_err(|e| e.context("loading the dump"))
    }
}

/// How many clients load at once, the main one included.
fn sessions(setting: usize) -> usize {
    match setting {
        0 => std::thread::available_parallelism()
            .map_or(1, |n| n.get() + 1)
            .min(MOST),
        n => n,
    }
}

/// Adds what one client got to the sum of all.
fn count(
    fed: Arc<Mutex<u64>>,
    progress: Arc<Progress>,
    own: u64,
) -> impl FnMut(u64) -> io::Result<()> + Send + 'static {
    let mut before = 0;
    move |n: u64| {
        let n = n.saturating_sub(own);
        let mut sum = lock(&fed);
        *sum += n.saturating_sub(before);
        before = before.max(n);
        progress.bytes((*sum).min(progress.get().1)); // marks are counted as well
        Ok(())
    }
}

/// The whole file, read until the stage is cancelled.
struct Whole<'a> {
    file: &'a File,
    stop: &'a Cancel,
}

impl Read for Whole<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        self.file.read(buf)
    }
}

/// The client repeats the statement that failed, and with it rows, on its standard error: only its own words may go on.
fn errors_only(stderr: &str) -> String {
    let own: Vec<&str> = stderr.lines().filter(|l| l.starts_with("ERROR ")).collect();
    own.join("\n")
}

/// A new connection: the one that is open may itself be waiting.
fn end_connection(target: &Endpoint, id: u64) {
    let ended = connect(target, Duration::from_secs(3))
        .and_then(|mut conn| until_none(|| control::kill_connection(&mut conn, &target.user, id)));
    if let Err(e) = ended {
        log::warn!("cannot end a left-over connection on the target: {e}");
    }
}

/// The first line of the client's output is the number of its connection; `line` is told the others.
fn read_output(out: ChildStdout, connection: &AtomicU64, mut line: impl FnMut(&str)) {
    for (n, text) in BufReader::new(out)
        .lines()
        .map_while(io::Result::ok)
        .enumerate()
    {
        match text.trim().parse() {
            Ok(id) if n == 0 => connection.store(id, Ordering::Relaxed),
            _ => line(&text),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
