//! Backup: the source's dump into a private file, its coordinates read at once.

use super::{Mysqldump, messages, options};
use crate::contents::left_out;
use crate::contents::row_mode::{self, Tables};
use crate::contents::target_server::QUERY_TIMEOUT;
use crate::coordinates::mysqldump::{DumpHeader, parse};
use crate::error::{Error, Result};
use crate::methods::logical;
use crate::methods::logical::definitions::kept::{self, Read as Definitions};
use crate::methods::logical::early::Early;
use crate::methods::state::LogicalState;
use crate::methods::tool_sessions::Sessions;
use crate::mysql::catalogue::Catalogue;
use crate::mysql::{Endpoint, Flavour, Identity, Server, connect, info};
use crate::process::{
    Credentials, Job, Launcher, Login, Running, SessionInit, save_to, version_text,
};
use crate::seed::stage::Context;
use crate::seed::{Method, sessions, source_lock};
use crate::sys::file::sync_dir;
use crate::sys::proc::group_tcp_ports;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The trailer that is looked at, in bytes.
const TAIL: u64 = 64 * 1024;
/// The beginning of a dump, in which its coordinates are.
const HEAD: u64 = 64 << 10;
/// How often a dump is searched for them.
const POLL: Duration = Duration::from_millis(100);
/// The dump is written to the disk after so many bytes each.
const SYNC_EVERY: u64 = 64 << 20;

impl Mysqldump {
    /// The whole stage. When it returns Ok the file is synced and its coordinates are recorded; else there is no file.
    pub(super) fn dump(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        logical::dump_or_remove(|| self.pull(ctx), || self.remove_dump())
    }

    fn pull(&self, ctx: &Context) -> Result<String> {
        let (source, mut facts, identity) = logical::source(&self.config, ctx)?;

        let exceptions = self.exceptions(ctx, &source, facts.server.flavour)?;
        let values = logical::values(&self.config, ctx, &source)?;
        facts.definitions.1.extend(values);
        let program = self.launcher.find(facts.server.dump_tools())?;
        let tool_version = self.tool_version(&program)?;
        // Its session begins with the profile and the proof of the server; or the source must have the values, and the session is
        // found there.
        let tool = program.clone();
        let (init, sessions) = if ctx.interruptible(move || takes_init_command(&tool))? {
            (logical::dump_sessions(ctx, &source, &identity)?, None)
        } else {
            logical::check_tool_without_init(ctx, &name_of(&program), &source)?;
            (SessionInit::default(), Some(Sessions::before(&identity)?))
        };
        let login = Login {
            host: &source.host,
            port: source.port,
            socket: "",
            user: &source.user,
            password: source.password.reveal(),
            public_key: facts.server.flavour == Flavour::MySql,
            plugin_dir: crate::mysql::old_logins(&program, facts.server),
            server: None,
        };
        let credentials =
            Credentials::create(&self.config.common.state_dir, &login, &self.launcher, &init)?;
        let (kept, dropped) = options::operators(&self.config.mysqldump.additional_opts);
        for option in dropped {
            log::error!(
                "mysqldump.addtional-opts: {option} is set by the agent itself and was dropped"
            );
        }
        let mut cmd = self.launcher.command(&program);
        cmd.args(options::dump_arguments(
            credentials.path(),
            tool_version,
            self.launcher.sudo(),
            &facts.directories,
            &kept,
        ));
        cmd.stdin(Stdio::null()).stdout(Stdio::piped());

        let path = self.dump_file();
        let cmd = RefCell::new(cmd);
        let name = name_of(&program);
        let reached = Cell::new(false);
        let limit = self.config.common.source_lock_timeout;
        let (begun, inexact) = facts.definitions;
        let before = RefCell::new(begun);
        let ((bytes, early), seen) = source_lock::with_lock_first(ctx, &source, limit, || {
            self.remove_dump()?;
            // Long queries were waited for meanwhile.
            let from = source.clone();
            before.replace(ctx.interruptible(move || kept::of_source(&from))?);
            let create = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            let file = create.map_err(|e| Error::io(path.display(), &e))?;
            let out = file
                .try_clone()
                .map_err(|e| Error::io(path.display(), &e))?;
            let tool = Running::start(&mut cmd.borrow_mut(), &name)?;
            ctx.adopt(&tool)?;
            ctx.report(&format!("Running backup of {}", source.name()));
            let ended = Arc::new(AtomicBool::new(false));
            let early = definitions_in(path.clone(), source.clone(), Arc::clone(&ended));
            early.start();
            let found = sessions.as_ref().map_or(Ok(true), |s| {
                s.await_tool(&tool, &name, ctx.cancel(), || Ok(()))
            });
            match found {
                Ok(found) => reached.set(found),
                Err(e) => {
                    let ports: Vec<u16> = group_tcp_ports(tool.group()).into_iter().collect();
                    ended.store(true, Ordering::Relaxed);
                    tool.end()?;
                    end_sessions(&source, &ports);
                    return Err(e);
                }
            }
            let bytes = self
                .receive(ctx, &source, tool, out)
                .map_err(|e| identity.explain(&name, e));
            ended.store(true, Ordering::Relaxed);
            let bytes = bytes?;
            file.sync_all().map_err(|e| Error::io(path.display(), &e))?;
            Ok((bytes, early))
        })?;
        sync_dir(&self.config.common.backup_dir)?;

        let schemas = self.schemas_after(ctx, &source, &identity, facts.schemas)?;
        let header = read_header(&path)?;
        check_dump(&header, &facts.server, bytes)?;
        if !reached.get() {
            return Err(identity.ended_unseen(&name));
        }
        let read = Definitions {
            before: before.into_inner(),
            early: Some(ctx.interruptible(move || early.get())?),
            inexact,
        };
        logical::keep_definitions(&self.config, ctx, &source, read)?;
        let c = header.coordinates;
        let text = format!(
            "Dumped {bytes} bytes. Coordinates {}:{}. {seen}",
            c.log_file, c.log_pos
        );
        ctx.update_state(|seed, state: &mut LogicalState| {
            seed.coordinates = Some(c);
            seed.source_lock_ms = Some(seen.milliseconds());
            state.dump_bytes = bytes;
            state.source_schemas = schemas;
            state.lenient_tables = exceptions;
        })?;
        Ok(text)
    }

    /// The source's tables that cannot be loaded in strict mode.
    fn exceptions(&self, ctx: &Context, source: &Endpoint, flavour: Flavour) -> Result<Tables> {
        // DDL that runs would hold up the search without a word in Details, as long as it takes.
        let deadline = Instant::now() + source_lock::LONG_QUERIES;
        source_lock::wait_for_long_queries(ctx, source, deadline)?;
        let left_out = left_out::tables(&self.config, Method::Mysqldump);
        let progress = Arc::clone(ctx.progress());
        let found = logical::scan(ctx, source, move |conn, _| {
            row_mode::exceptions(conn, &left_out, || progress.touch())
        })?;
        found.refuse_ambiguous(source, flavour)?;
        if let Some(reason) = found.reason() {
            log::info!(
                "some tables of {} are loaded without strict mode, and warnings are checked: {reason}",
                source.name()
            );
        }
        Ok(found.tables)
    }

    /// The dump tool's flavour and version, by its own words: it may be another one than the server's.
    pub(super) fn tool_version(&self, program: &Path) -> Result<Server> {
        options::tool_version(&version_text(program)?)
            .map_err(|e| e.context(format!("{} --version", program.display())))
    }

    /// A schema that was made while the dump ran is in it as well.
    fn schemas_after(
        &self,
        ctx: &Context,
        source: &Endpoint,
        identity: &Arc<Identity>,
        before: Vec<String>,
    ) -> Result<Vec<String>> {
        let (source, identity) = (source.clone(), Arc::clone(identity));
        let after = ctx.interruptible(move || {
            let mut conn = connect(&source, QUERY_TIMEOUT)?;
            identity.verify(&mut conn)?;
            info::schema_names(&mut conn)
        })?;
        Ok(before
            .into_iter()
            .chain(after)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect())
    }

    /// Runs the tool; on a cancellation or a full disk its connections on the source are ended as well, because a server
    /// that waits for a lock does not see that its client has gone.
    fn receive(&self, ctx: &Context, source: &Endpoint, tool: Running, out: File) -> Result<u64> {
        let ports: RefCell<Vec<u16>> = RefCell::default();
        let before_kill = |group: u32| {
            ports
                .replace(group_tcp_ports(group).into_iter().collect())
                .clear()
        };
        let progress = Arc::clone(ctx.progress());
        let job = Job {
            cancel: ctx.cancel(),
            before_kill: &before_kill,
        };
        let synced = out.try_clone().map_err(|e| Error::io("dump file", &e))?;
        let mut next = SYNC_EVERY;
        let count = move |n| {
            if n >= next {
                synced.sync_data()?; // or the end would hang on gigabytes of dirty pages, where nothing can cancel it
                next = n + SYNC_EVERY;
            }
            progress.bytes(n);
            Ok(())
        };
        let result = save_to(tool, out, count, &job);
        let ports = ports.take();
        if result.is_err() {
            end_sessions(source, &ports);
        }
        let (exit, bytes) = result.map_err(|e| {
            if e.is_cancelled() {
                e
            } else {
                e.context(self.dump_file().display())
            }
        })?;
        exit.check()?;
        if let Some(line) = messages::left_out(&exit.stderr) {
            return Err(Error::permanent(format!(
                "the dump of {} is not complete: {line}",
                source.name()
            )));
        }
        if !exit.stderr.trim().is_empty() {
            log::warn!("dump of {}: {}", source.name(), exit.stderr.trim());
        }
        Ok(bytes)
    }
}

/// The source's definitions once the coordinates are in the dump that is being written, or its tool has `ended`.
fn definitions_in(dump: PathBuf, source: Endpoint, ended: Arc<AtomicBool>) -> Early<Catalogue> {
    Early::new(move || {
        while !ended.load(Ordering::Relaxed) {
            let written = has_coordinates(&dump);
            if written.map_err(|e| Error::io(dump.display(), &e))? {
                break;
            }
            std::thread::sleep(POLL);
        }
        kept::of_source(&source)
    })
}

/// Whether the beginning of a dump has its coordinates, which the tool writes when it has read them.
fn has_coordinates(dump: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    File::open(dump)?.take(HEAD).read_to_end(&mut head)?;
    let is_there = |word: &str| head.windows(word.len()).any(|w| w == word.as_bytes());
    Ok(is_there("MASTER_LOG_FILE=") || is_there("SOURCE_LOG_FILE="))
}

fn end_sessions(source: &Endpoint, ports: &[u16]) {
    if !ports.is_empty()
        && let Err(e) = sessions::end(source, ports)
    {
        log::warn!("cannot end left-over connections on the source: {e}");
    }
}

/// Whether the dump tool begins its session with the `init-command` of its option file: 9.7.4 does, mariadb-dump 10.11.19 does not.
/// It is run without sudo, which need not permit it.
fn takes_init_command(program: &Path) -> Result<bool> {
    let out = Launcher::default()
        .command(program)
        .args(["--no-defaults", "--help"])
        .output();
    let out = out.map_err(|e| Error::io(program.display(), &e))?;
    Ok(options::takes_init_command(&String::from_utf8_lossy(
        &out.stdout,
    )))
}

/// The program's own name, for messages.
pub(super) fn name_of(program: &Path) -> String {
    program
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Coordinates and kind of the dump in `path`.
pub(super) fn read_header(path: &Path) -> Result<DumpHeader> {
    let fail = |e: &std::io::Error| Error::io(path.display(), e);
    let mut file = File::open(path).map_err(|e| fail(&e))?;
    let size = file.metadata().map_err(|e| fail(&e))?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))
        .map_err(|e| fail(&e))?;
    file.read_to_end(&mut tail).map_err(|e| fail(&e))?;
    file.rewind().map_err(|e| fail(&e))?;
    parse(&mut BufReader::new(file), &tail).map_err(|e| e.context(path.display()))
}

fn check_dump(header: &DumpHeader, source: &crate::mysql::Server, bytes: u64) -> Result<()> {
    header.coordinates.validate()?;
    if !header.complete {
        return Err(Error::permanent(
            "the dump has no line \"-- Dump completed\" at its end: it is cut short, or an option such as --skip-comments or \
             --compact in mysqldump.addtional-opts left the line out",
        ));
    }
    let same = matches!(
        (header.flavour, source.flavour),
        (
            crate::coordinates::mysqldump::DumpFlavour::MariaDb,
            crate::mysql::Flavour::MariaDb
        ) | (
            crate::coordinates::mysqldump::DumpFlavour::MySql,
            crate::mysql::Flavour::MySql
        )
    );
    if same {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the dump ({bytes} bytes) was written by a {:?} tool, the source is {}: put the right tools first in the agent's PATH",
        header.flavour, source.flavour
    )))
}
