//! Restore: one client of the target's server executes the dump.

use super::Mysqldump;
use super::backup::{name_of, read_header};
use super::mode::{self, Sections, with_mode};
use super::{messages, options};
use crate::config::Config;
use crate::contents::row_mode::{STRICT, Tables};
use crate::contents::target_server::TargetServer;
use crate::error::{Error, OnPath, Result};
use crate::methods::logical::{self, Loading, backup::login};
use crate::methods::state::LogicalState;
use crate::mysql::{Endpoint, Identity, Server, connect, control};
use crate::process::{Credentials, Job, Launcher, Running, feed_from};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Precedes the dump: the first line of the client's output is the number of its connection. Warnings are in English, and no later one
/// hides behind many of the same statement.
const PROLOGUE: &str =
    "SELECT CONNECTION_ID(); SET SESSION lc_messages = 'en_US', max_error_count = 65535;\n";

impl Mysqldump {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let state: LogicalState = seed.method_state()?;
        let path = self.dump_file();
        let header = read_header(&path)?;
        let size = std::fs::metadata(&path).on(&path)?.len();
        if size != state.dump_bytes || Some(&header.coordinates) != seed.coordinates.as_ref() {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({size} bytes, not {}): call prepare again",
                path.display(),
                state.dump_bytes
            )));
        }
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        ctx.cancel().check()?;

        let what = Loading {
            bytes: size,
            coordinates: &header.coordinates,
        };
        let identity = target.identity(state.target_server.as_ref())?;
        let load = Load::new(ctx, &self.config, &self.launcher, target.server, identity)?;
        load.check()?;
        logical::restore(&self.config, ctx, target, &what, |_| {
            load.run(&path, header.load_from, &state.lenient_tables)?;
            Ok(String::new())
        })
    }
}

/// Loads a dump into the local server.
pub(in crate::methods) struct Load<'a> {
    ctx: &'a Context,
    config: &'a Config,
    launcher: &'a Launcher,
    program: PathBuf,
    tool: Server,
    credentials: Credentials,
    identity: Arc<Identity>,
}

impl<'a> Load<'a> {
    /// Writes the client's credentials, which exist as long as the returned value. The client refuses to load into another server
    /// than that of `identity`.
    pub(in crate::methods) fn new(
        ctx: &'a Context,
        config: &'a Config,
        launcher: &'a Launcher,
        server: Server,
        identity: Arc<Identity>,
    ) -> Result<Self> {
        let program = launcher.find(server.client_tools())?;
        let local = Endpoint::local(&config.mysql);
        let login = login(&local, server, crate::mysql::old_logins(&program, server));
        let mut tool = server;
        if launcher.sudo() {
            let out = Launcher::default()
                .command(&program)
                .arg("--version")
                .output();
            let out = out.on(&program)?;
            tool = options::tool_version(&String::from_utf8_lossy(&out.stdout))
                .map_err(|e| e.context(format!("{} --version", program.display())))?;
        }
        let init = logical::load_sessions(config, ctx, &identity)?;
        let credentials = Credentials::create(&config.common.state_dir, &login, launcher, &init)?;
        Ok(Self {
            ctx,
            config,
            launcher,
            program,
            tool,
            credentials,
            identity,
        })
    }

    /// That the client reaches the server of `identity`. Executes nothing there.
    fn check(&self) -> Result<()> {
        self.execute(io::empty(), &Tables::new(), |_| {}).map(drop)
    }

    /// Loads the dump in `path` from its byte `from` on, in strict mode but for the tables in `lenient`, where a value may be changed in
    /// their columns only. When it returns Ok every statement has been executed and committed. May be called again after an error: a
    /// dump drops each table before it creates it.
    ///
    /// # Errors
    /// Cancelled, or the client's failure; it has ended then, and so has its session in the server. Permanent: a value was changed.
    fn run(&self, path: &Path, from: u64, lenient: &Tables) -> Result<()> {
        let fail = |e: io::Error| Error::io(path.display(), &e);
        let mut dump = File::open(path).map_err(fail)?;
        dump.seek(SeekFrom::Start(from)).map_err(fail)?;
        let dump = Sections::new(with_mode(dump, STRICT).map_err(fail)?, lenient.clone());
        let progress = Arc::clone(self.ctx.progress());
        let changed = self.execute(dump, lenient, move |n| progress.bytes(n))?;
        changed.map_or(Ok(()), |warning| {
            Err(Error::permanent(format!(
                "loading the dump has changed a value: {warning}"
            )))
        })
    }

    /// Executes a script that is not a dump: its statements set what they need themselves.
    pub(in crate::methods) fn run_script(&self, path: &Path) -> Result<()> {
        let script = File::open(path).on(path)?;
        self.execute(script, &Tables::new(), |_| {}).map(drop)
    }

    /// `count` is given the bytes of `input` so far. Returns the first warning of a value that was changed in a table of `lenient`, but not
    /// in one of its columns.
    fn execute(
        &self,
        input: impl Read + Send + 'static,
        lenient: &Tables,
        count: impl Fn(u64) + Send + 'static,
    ) -> Result<Option<String>> {
        let mut cmd = self.launcher.command(&self.program);
        let sudo = self.launcher.sudo();
        cmd.args(options::client_arguments(
            self.credentials.path(),
            self.tool,
            sudo,
        ));
        cmd.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = name_of(&self.program);
        let mut tool = Running::start(&mut cmd, &name)?;
        self.ctx.adopt(&tool)?;
        let connection = Arc::new(AtomicU64::new(0));
        let reader = tool.take_stdout().map(|out| {
            let connection = Arc::clone(&connection);
            let lenient = lenient.clone();
            spawn("tool-output", move || {
                read_output(out, &connection, &lenient)
            })
        });
        let reader = reader.transpose()?;
        let job = Job {
            cancel: self.ctx.cancel(),
            before_kill: &|_| {},
        };
        let count = move |n: u64| {
            count(n.saturating_sub(PROLOGUE.len() as u64));
            Ok(())
        };
        let result = feed_from(tool, Cursor::new(PROLOGUE).chain(input), count, &job);
        let failed = !matches!(&result, Ok((exit, _)) if exit.status.success());
        let id = connection.load(Ordering::Relaxed);
        if failed && id != 0 {
            // A statement continues in the server when its client has been killed.
            end_connection(&Endpoint::local(&self.config.mysql), id);
        }
        let (mut exit, _) = result?;
        exit.stderr = messages::errors_only(&exit.stderr);
        exit.check()
            .map_err(|e| self.identity.explain(&name, e.context("loading the dump")))?;
        reader.map_or(Ok(None), |thread| {
            thread.join().map_err(|_| {
                Error::permanent("internal error: reading the client's output panicked")
            })
        })
    }
}

/// A new connection: the one that is open may itself be waiting.
fn end_connection(target: &Endpoint, id: u64) {
    let ended = connect(target, Duration::from_secs(3)).and_then(|mut conn| {
        control::wait_until_gone(|| control::kill_connection(&mut conn, &target.user, id))
    });
    if let Err(e) = ended {
        log::warn!("cannot end a left-over connection on the target: {e}");
    }
}

/// The first line of the client's output is the number of its connection. All of it is read, so that the client never blocks. Returns
/// the first warning of a value that was changed, but not in a column of `lenient`.
fn read_output(out: ChildStdout, connection: &AtomicU64, lenient: &Tables) -> Option<String> {
    let (mut changed, mut columns) = (None, BTreeSet::new());
    let mut lines = BufReader::new(out).split(b'\n').map_while(io::Result::ok);
    if let Some(Ok(id)) = lines
        .next()
        .map(|l| String::from_utf8_lossy(&l).trim().parse())
    {
        connection.store(id, Ordering::Relaxed);
    }
    for line in lines {
        let text = String::from_utf8_lossy(&line);
        if let Some((schema, table)) = mode::begun(&text) {
            let of_table = lenient.get(&schema).and_then(|tables| tables.get(&table));
            columns = of_table.map(|t| t.columns.clone()).unwrap_or_default();
        } else if changed.is_none() && messages::is_change(&text, &columns) {
            changed = Some(text.into_owned());
        }
    }
    changed
}
