//! The load itself: one client gets the dump, and the rows of large tables go in beside it, each by a client of its own.
//! How many sessions, `mysqldump.load-threads` says; what waits for what, [`super::script`].

use super::backup::name_of;
use super::options;
use super::script::{Script, Step, scan};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, connect, control};
use crate::process::{Cancel, Credentials, Job, Launcher, Login, Running, feed_from};
use crate::seed::context::{Context, Progress};
use crate::seed::methods::target_server::until_none;
use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Goes before everything else in each session: nothing of the load is written to the target's binary log, and the first line
/// of output is the connection's number.
const PROLOGUE: &str = "SET SESSION sql_log_bin = 0;\nSELECT CONNECTION_ID();\n";
/// Put out by the main client when it has executed everything before the rows of a large table.
const MARK: &str = "orchestrator-agent: rows";
/// Rows of fewer bytes are not worth a client of their own.
const LARGE: u64 = 8 << 20;
/// More sessions than this wait for each other in the server.
const MOST: usize = 8;

/// Loads a dump into the local server.
pub struct Load<'a> {
    ctx: &'a Context,
    config: &'a Config,
    launcher: &'a Launcher,
    program: PathBuf,
    credentials: Credentials,
    /// Ends all clients: with the stage, or with the first of them that fails.
    stop: Cancel,
    fed: Arc<Mutex<u64>>,
    first: Mutex<Option<Error>>,
}

/// Rows that a client of their own is to load.
struct Rows {
    range: Range<u64>,
    head: String,
    /// Dropped when they are in, or given up.
    _done: Sender<()>,
}

/// Rows that come next when the main client puts out [`MARK`].
type Pending = Arc<Mutex<VecDeque<Rows>>>;

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
            let head = Cursor::new(rows.head.clone().into_bytes());
            let own = rows.head.len() as u64;
            let part = Part {
                file: Arc::clone(dump),
                left: rows.range.clone(),
            };
            // The rows of a dump without autocommit are committed here.
            let tail: &[u8] = b"COMMIT;\n";
            self.keep(self.client(
                head.chain(part).chain(tail),
                own + tail.len() as u64,
                |_| {},
            ));
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

/// A part of a file.
struct Part {
    file: Arc<File>,
    left: Range<u64>,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.end - self.left.start)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let n = self.file.read_at(&mut buf[..most], self.left.start)?;
        if n == 0 && most > 0 {
            return Err(io::Error::other("the dump has become shorter"));
        }
        self.left.start += n as u64;
        Ok(n)
    }
}

/// What the main client reads: the text, after what it has to wait for. In the place of rows that others load it puts out
/// [`MARK`], because what it has read is not yet executed.
struct Text {
    file: Arc<File>,
    steps: std::vec::IntoIter<Step>,
    head: String,
    pending: Pending,
    stop: Cancel,
    current: Option<Box<dyn Read + Send>>,
    outstanding: Vec<Receiver<()>>,
}

impl Text {
    fn new(script: &Script, file: Arc<File>, pending: Pending, stop: Cancel) -> Self {
        Self {
            file,
            steps: script.steps.clone().into_iter(),
            head: format!("{PROLOGUE}{}", script.session),
            pending,
            stop,
            current: None,
            outstanding: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Text(left) => {
                self.current = Some(Box::new(Part {
                    file: Arc::clone(&self.file),
                    left,
                }))
            }
            Step::Rows { range, schema } => {
                let (done, wait) = bounded(0);
                let head = format!("{}{schema}\n", self.head);
                self.outstanding.push(wait);
                lock(&self.pending).push_back(Rows {
                    range,
                    head,
                    _done: done,
                });
                self.current = Some(Box::new(Cursor::new(format!("SELECT '{MARK}';\n"))));
            }
            Step::Say(statement) => {
                self.current = Some(Box::new(Cursor::new(format!("{statement}\n"))))
            }
            Step::Wait => self.wait_for_all()?,
        }
        Ok(())
    }

    fn wait_for_all(&mut self) -> io::Result<()> {
        for rows in std::mem::take(&mut self.outstanding) {
            self.wait(&rows)?;
        }
        Ok(())
    }

    fn wait(&self, rows: &Receiver<()>) -> io::Result<()> {
        select! {
            recv(rows) -> _ => {} // closed: they are in, or the load has failed
            recv(self.stop.signal()) -> _ => {}
        }
        match self.stop.is_cancelled() {
            true => Err(io::Error::other("the load was ended")),
            false => Ok(()),
        }
    }
}

impl Read for Text {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(part) = &mut self.current {
                let n = part.read(buf)?;
                if n > 0 || buf.is_empty() {
                    return Ok(n);
                }
                self.current = None;
            }
            match self.steps.next() {
                Some(step) => self.step(step)?,
                None => {
                    self.wait_for_all()?;
                    return Ok(0);
                }
            }
        }
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
