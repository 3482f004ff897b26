//! Backup: the source's dump into a private file, and its coordinates.

use super::{Mysqldump, messages, options};
use crate::contents::row_mode::{self, Tables};
use crate::coordinates::mysqldump::{DumpHeader, parse};
use crate::error::{Error, OnPath, Result};
use crate::methods::logical::definitions::kept::{self, Read};
use crate::methods::logical::target_server::QUERY_TIMEOUT;
use crate::methods::logical::{self, DumpSource, Dumped, Early};
use crate::methods::operators::left_out;
use crate::methods::tool_sessions::{self, Sessions};
use crate::mysql::catalogue::Catalogue;
use crate::mysql::{Endpoint, Server, connect, info, settings};
use crate::process::{Credentials, Job, Launcher, Running, SessionInit, program_name, save_to};
use crate::seed::stage::Context;
use crate::seed::{Method, sessions, source_lock};
use crate::sys::file::sync_dir;
use crate::sys::proc::group_tcp_ports;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The end of a dump that is searched for its trailer.
const TAIL: u64 = 64 << 10;
/// The beginning of a dump, in which its coordinates are.
const HEAD: u64 = 64 << 10;
/// How often a dump is searched for them.
const POLL: Duration = Duration::from_millis(100);
/// The dump is synced each time that so many bytes were written.
const SYNC_EVERY: u64 = 64 << 20;

/// The tool with all that its runs have in common.
struct Dumper<'a> {
    program: PathBuf,
    name: String,
    /// The file that is one of the arguments, as long as this exists.
    _credentials: Credentials,
    arguments: Vec<OsString>,
    /// Where its session cannot begin with the check of the server: it is looked for in the server's process list.
    sessions: Option<Sessions<'a>>,
}

/// A run that has written the dump.
struct Run {
    bytes: u64,
    before: Catalogue,
    early: Arc<Early<Catalogue>>,
    /// Whether the tool was seen in the source.
    reached: bool,
}

impl Mysqldump {
    /// A dump as [`logical::backup`] wants it.
    pub(super) fn dump(
        &self,
        ctx: &Context,
        source: &DumpSource,
        read: &mut Read,
    ) -> Result<Dumped> {
        let endpoint = &source.endpoint;
        let lenient = self.lenient(ctx, source)?;
        read.inexact
            .extend(logical::values(&self.config, ctx, endpoint)?);
        let tool = self.dumper(ctx, source)?;
        let limit = self.config.common.source_lock_timeout;
        let run = || self.run(ctx, source, &tool);
        let (run, lock) = source_lock::with_lock_first(ctx, endpoint, limit, run)?;
        sync_dir(&self.config.common.backup_dir)?;
        let (from, identity) = (endpoint.clone(), Arc::clone(&source.identity));
        let schemas = ctx.interruptible(move || {
            let mut conn = connect(&from, QUERY_TIMEOUT)?;
            identity.verify(&mut conn)?;
            info::schema_names(&mut conn)
        })?;
        let header = read_header(&self.dump_file())?;
        check_dump(&header, source.server, run.bytes)?;
        if !run.reached {
            return Err(source.identity.ended_unseen(&tool.name));
        }
        read.before = run.before;
        read.early = Some(ctx.interruptible(move || run.early.get())?);
        Ok(Dumped {
            coordinates: header.coordinates,
            bytes: run.bytes,
            files: None,
            lock,
            schemas,
            lenient,
        })
    }

    /// The source's tables that cannot be loaded in strict mode.
    fn lenient(&self, ctx: &Context, source: &DumpSource) -> Result<Tables> {
        let endpoint = &source.endpoint;
        // DDL that runs would hold up the search without a word in Details, as long as it takes.
        let deadline = Instant::now() + source_lock::LONG_QUERIES;
        source_lock::wait_for_long_queries(ctx, endpoint, deadline)?;
        let left_out = left_out(&self.config, Method::Mysqldump);
        let progress = Arc::clone(ctx.progress());
        let found = logical::scan(ctx, endpoint, move |conn, _| {
            row_mode::exceptions(conn, &left_out, || progress.touch())
        })?;
        found.refuse_ambiguous(endpoint, source.server.flavour)?;
        if let Some(reason) = found.reason() {
            log::info!(
                "some tables of {} are loaded without strict mode, and warnings are checked: {reason}",
                endpoint.name()
            );
        }
        Ok(found.tables)
    }

    fn dumper<'a>(&self, ctx: &Context, source: &'a DumpSource) -> Result<Dumper<'a>> {
        let (endpoint, identity) = (&source.endpoint, &source.identity);
        let program = self.launcher.find(source.server.flavour.dump_tools())?;
        let name = program_name(&program);
        let version = options::version_of(&program)?;
        let tool = program.clone();
        let (init, sessions) = if ctx.interruptible(move || takes_init_command(&tool))? {
            (logical::dump_sessions(ctx, source)?, None)
        } else {
            // The source must have the values itself.
            let (tool, from) = (name.clone(), endpoint.clone());
            ctx.interruptible(move || settings::check_tool_without_init(&tool, &from))?;
            (SessionInit::default(), Some(Sessions::before(identity)?))
        };
        let plugins = crate::mysql::old_logins(&program, source.server);
        let login = logical::login(endpoint, source.server, plugins);
        let state_dir = &self.config.common.state_dir;
        let credentials = Credentials::create(state_dir, &login, &self.launcher, &init)?;
        let (kept, dropped) = options::operators(&self.config.mysqldump.additional_opts);
        for option in dropped {
            log::error!(
                "mysqldump.mysqldump-addtional-opts: {option} is set by the agent itself and was dropped"
            );
        }
        let (sudo, left_out) = (self.launcher.sudo(), &source.directories);
        Ok(Dumper {
            arguments: options::dump_arguments(credentials.path(), version, sudo, left_out, &kept),
            program,
            name,
            _credentials: credentials,
            sessions,
        })
    }

    /// Dumps once. The source's definitions are read right before, and again when the coordinates are in the dump.
    fn run(&self, ctx: &Context, source: &DumpSource, tool: &Dumper) -> Result<Run> {
        self.remove_dump()?;
        // Long queries were waited for meanwhile.
        let from = source.endpoint.clone();
        let before = ctx.interruptible(move || kept::of_source(&from))?;
        let path = self.dump_file();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).on(&path)?;
        let out = file.try_clone().on(&path)?;
        let mut cmd = self.launcher.command(&tool.program);
        cmd.args(&tool.arguments);
        cmd.stdin(Stdio::null()).stdout(Stdio::piped());
        let running = Running::start(&mut cmd, &tool.name)?;
        ctx.adopt(&running)?;
        ctx.report(&format!("Running backup of {}", source.endpoint.name()));
        let ended = Arc::new(AtomicBool::new(false));
        let early = definitions_in(path.clone(), source.endpoint.clone(), Arc::clone(&ended));
        early.start();
        let found = tool.sessions.as_ref().map_or(Ok(true), |s| {
            s.await_tool(&running, &tool.name, ctx.cancel(), || Ok(()))
        });
        if let Err(e) = found {
            let ports: Vec<u16> = group_tcp_ports(running.group()).into_iter().collect();
            ended.store(true, Ordering::Relaxed);
            let reported = tool_sessions::give_up(running, e)?;
            end_sessions(&source.endpoint, &ports);
            return Err(source.identity.explain(&tool.name, reported));
        }
        let bytes = self.receive(ctx, &source.endpoint, running, out);
        ended.store(true, Ordering::Relaxed);
        let bytes = bytes.map_err(|e| source.identity.explain(&tool.name, e))?;
        file.sync_all().on(&path)?;
        Ok(Run {
            bytes,
            before,
            early,
            reached: found?,
        })
    }

    /// Runs the tool; on a cancellation or a full disk its connections on the source are ended as well, because a server
    /// that waits for a lock does not see that its client has gone.
    fn receive(&self, ctx: &Context, source: &Endpoint, tool: Running, out: File) -> Result<u64> {
        let ports: RefCell<Vec<u16>> = RefCell::default();
        let before_kill =
            |group: u32| *ports.borrow_mut() = group_tcp_ports(group).into_iter().collect();
        let progress = Arc::clone(ctx.progress());
        let job = Job {
            cancel: ctx.cancel(),
            before_kill: &before_kill,
        };
        let synced = out.try_clone().on("dump file")?;
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
        if result.is_err() {
            end_sessions(source, &ports.take());
        }
        let (exit, bytes) = result.map_err(|e| logical::context(e, self.dump_file().display()))?;
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
fn definitions_in(
    dump: PathBuf,
    source: Endpoint,
    ended: Arc<AtomicBool>,
) -> Arc<Early<Catalogue>> {
    Early::new(move || {
        while !ended.load(Ordering::Relaxed) && !has_coordinates(&dump).on(&dump)? {
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
    let mut help = Launcher::default().command(program);
    let out = help
        .args(["--no-defaults", "--help"])
        .output()
        .on(program)?;
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(options::takes_init_command(&text))
}

/// Coordinates and kind of the dump in `path`.
pub(super) fn read_header(path: &Path) -> Result<DumpHeader> {
    let mut file = File::open(path).on(path)?;
    let size = file.metadata().on(path)?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))
        .on(path)?;
    file.read_to_end(&mut tail).on(path)?;
    file.rewind().on(path)?;
    parse(&mut BufReader::new(file), &tail).map_err(|e| e.context(path.display()))
}

fn check_dump(header: &DumpHeader, source: Server, bytes: u64) -> Result<()> {
    header.coordinates.validate()?;
    if !header.complete {
        return Err(Error::permanent(
            "the dump has no line \"-- Dump completed\" at its end: it is cut short, or an option such as --skip-comments or \
             --compact in mysqldump.mysqldump-addtional-opts left the line out",
        ));
    }
    if header.flavour == source.flavour {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the dump ({bytes} bytes) was written by a tool of {}, the source is {}: put the right tools first in the agent's PATH",
        header.flavour, source.flavour
    )))
}
