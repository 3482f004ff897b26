//! Restore: one client of the target's server executes the dump.

use super::backup::read_header;
use super::mode::{self, Sections, with_mode};
use super::{Mysqldump, messages, options};
use crate::config::Config;
use crate::contents::row_mode::{STRICT, Tables};
use crate::error::{Error, OnPath, Result};
use crate::methods::logical;
use crate::mysql::{Endpoint, Identity, Server};
use crate::process::{Credentials, Job, Launcher, Running, feed_from, program_name};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Precedes the dump: the first line of the client's output is the number of its connection. Warnings are in English, and no later one
/// hides behind many of the same statement.
const PROLOGUE: &str =
    "SELECT CONNECTION_ID(); SET SESSION lc_messages = 'en_US', max_error_count = 65535;\n";

impl Mysqldump {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let path = self.dump_file();
        let header = read_header(&path)?;
        let size = std::fs::metadata(&path).on(&path)?.len();
        let loading =
            logical::loading(&self.config, ctx, &path, size, |c| *c == header.coordinates)?;
        let (server, identity) = (loading.target.server, Arc::clone(&loading.identity));
        let load = Load::new(ctx, &self.config, &self.launcher, server, identity)?;
        load.check()?;
        logical::restore(&self.config, ctx, loading, |l| {
            load.run(&path, header.load_from, &l.lenient)
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
        let program = launcher.find(server.flavour.client_tools())?;
        let local = Endpoint::local(&config.mysql);
        let plugins = crate::mysql::old_logins(&program, server);
        let login = logical::login(&local, server, plugins);
        let tool = if launcher.sudo() {
            options::version_of(&program)?
        } else {
            server
        };
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
        let mut dump = File::open(path).on(path)?;
        dump.seek(SeekFrom::Start(from)).on(path)?;
        let dump = Sections::new(with_mode(dump, STRICT).on(path)?, lenient.clone());
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
        let (login, sudo) = (self.credentials.path(), self.launcher.sudo());
        cmd.args(options::client_arguments(login, self.tool, sudo));
        cmd.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = program_name(&self.program);
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
            logical::end_connection(&Endpoint::local(&self.config.mysql), id);
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

/// The first line of the client's output is the number of its connection. All of it is read, so that the client never blocks. Returns
/// the first warning of a value that was changed, but not in a column of `lenient`.
fn read_output(out: ChildStdout, connection: &AtomicU64, lenient: &Tables) -> Option<String> {
    let (mut changed, mut columns) = (None, BTreeSet::new());
    let mut lines = BufReader::new(out).split(b'\n').map_while(io::Result::ok);
    let first = lines.next().unwrap_or_default();
    if let Ok(id) = String::from_utf8_lossy(&first).trim().parse() {
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
