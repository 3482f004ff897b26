//! One run of mydumper or myloader, from start to the end of its sessions in the server.

use super::Mydumper;
use super::log::{Log, is_of_freed_memory};
use super::strict;
use super::version::{self, Tool, ToolVersion};
use crate::contents::row_mode::STRICT;
use crate::error::{Error, OnPath, Result, ToolError, ToolFault};
use crate::methods::logical::login;
use crate::mysql::{Endpoint, Server, connect, control};
use crate::process::{Cancel, Credentials, Exit, Job, Running, SessionInit, run};
use crate::seed::sessions;
use crate::seed::stage::Context;
use crate::sys::proc::{ProcessId, group_tcp_ports};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{Receiver, bounded, select};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often progress is measured.
const TICK: Duration = Duration::from_secs(1);

/// A call of a tool that is a client of `server`.
pub(super) struct Call<'a> {
    pub tool: Tool,
    pub arguments: &'a [OsString],
    pub server: &'a Endpoint,
    /// Ends the tool; its reason is the error.
    pub stop: &'a Cancel,
}

impl Mydumper {
    pub(super) fn version(&self, tool: Tool) -> Result<ToolVersion> {
        let program = self.launcher.find(&[tool.name()])?;
        tool.version(&crate::process::version_text(&program)?)
            .map_err(|e| e.context(format!("{} --version", program.display())))
    }

    /// The file with the login to `endpoint`; each session begins with `init` and what `tool` needs as well.
    pub(super) fn credentials(
        &self,
        endpoint: &Endpoint,
        server: Server,
        tool: Tool,
        version: ToolVersion,
        init: SessionInit,
    ) -> Result<Credentials> {
        let init = match tool {
            Tool::Mydumper => init,
            Tool::Myloader => init
                .assign(format!("sql_mode = '{STRICT}'"))
                .assign(format!("{} = '{STRICT}'", strict::VARIABLE)),
        };
        let login = login(endpoint, server, None);
        let state_dir = &self.config.common.state_dir;
        let credentials = Credentials::create(state_dir, &login, &self.launcher, &init)?;
        // What mydumper has as sql_mode it also writes into the dump, and myloader sets it after the session's first statement.
        if tool == Tool::Mydumper && version >= version::SESSION_SECTION {
            let section = format!("[mydumper_session_variables]\nSQL_MODE='{STRICT}'\n");
            let file = OpenOptions::new().append(true).open(credentials.path());
            file.and_then(|mut f| f.write_all(section.as_bytes()))
                .on(credentials.path())?;
        }
        Ok(credentials)
    }

    /// Runs a tool. `line` gets what it prints, `tick` is called each second. After [`End::Well`] the tool has ended with 0 and
    /// reported no failure. In each case its sessions in the server have ended, also those that wait for a lock: a server does not
    /// see that their client has gone.
    pub(super) fn run(
        &self,
        ctx: &Context,
        call: &Call,
        line: impl FnMut(&str) + Send + 'static,
        tick: impl Fn() + Sync,
    ) -> Result<End> {
        let &Call {
            tool, server, stop, ..
        } = call;
        let program = self.launcher.find(&[tool.name()])?;
        let mut cmd = self.launcher.command(&program);
        cmd.args(call.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let known = known_sessions(server)?;
        ctx.progress().touch();
        let log = Arc::new(Mutex::new(Log::default()));
        let (running, stdout_ends) = start(&mut cmd, call, &log, line)?;
        ctx.adopt(&running)?;
        let id = running.id();
        let ports: RefCell<Vec<u16>> = RefCell::default();
        let before_kill =
            |group: u32| *ports.borrow_mut() = group_tcp_ports(group).into_iter().collect();
        let job = Job {
            cancel: stop,
            before_kill: &before_kill,
        };
        let limit = self.config.common.seed_idle_timeout;
        let stuck = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            let (over, finished) = bounded::<()>(0);
            let (tick, stuck) = (&tick, &stuck);
            let is_at_rest = || is_at_rest(server, id.as_ref(), &known);
            scope.spawn(move || watch(ctx, call, limit, stuck, &finished, tick, is_at_rest));
            let result = run(running, &job);
            drop(over);
            result
        });
        // A process that has left the group may hold it open.
        let _ = stdout_ends.recv_timeout(Duration::from_millis(500));
        if !matches!(&result, Ok(exit) if exit.status.success())
            && let Err(e) = end_sessions(server, &all_ports(ctx, id.as_ref(), ports.take()), &known)
        {
            log::warn!("cannot end left-over connections on {}: {e}", server.name());
        }
        ctx.cancel().check()?;
        let log = lock(&log);
        match log.cause() {
            Some(failure) => reported(tool, failure),
            None => ended(result, stop, stuck.into_inner()),
        }
    }
}

/// Starts the tool. What it prints goes to `line` and `log`; a failure in it ends the tool. The receiver ends with standard output.
fn start(
    cmd: &mut Command,
    call: &Call,
    log: &Arc<Mutex<Log>>,
    mut line: impl FnMut(&str) + Send + 'static,
) -> Result<(Running, Receiver<()>)> {
    let (tool, stop, log) = (call.tool, call.stop.clone(), Arc::clone(log));
    let on_line = Arc::new(Mutex::new(move |text: &str| {
        line(text);
        let mut log = lock(&log);
        log.take(tool.name(), text);
        if log.is_failed() {
            stop.cancel("it has failed"); // its other threads continue for hours otherwise
        }
    }));
    let of_stderr = Arc::clone(&on_line);
    let on_stderr = move |text: &str| lock(&of_stderr)(text);
    let mut running = Running::start_with(cmd, tool.name(), on_stderr)?;
    // What it does not like in its arguments it writes there.
    let (last, stdout_ends) = bounded::<()>(0);
    if let Some(out) = running.take_stdout() {
        spawn("tool-output", move || {
            let lines = BufReader::new(out).split(b'\n');
            for text in lines.map_while(std::io::Result::ok) {
                lock(&on_line)(&String::from_utf8_lossy(&text));
            }
            drop(last);
        })?;
    }
    Ok((running, stdout_ends))
}

/// Calls `tick` each second until `finished`. Stops the tool when the stage is cancelled, and when there was no progress for `limit` and
/// `is_at_rest`: it is `stuck` then.
fn watch(
    ctx: &Context,
    call: &Call,
    limit: Duration,
    stuck: &AtomicBool,
    finished: &Receiver<()>,
    tick: impl Fn(),
    is_at_rest: impl Fn() -> bool,
) {
    loop {
        select! {
            recv(finished) -> _ => return,
            recv(ctx.cancel().signal()) -> _ => {
                call.stop.cancel(&ctx.cancel().reason());
                return;
            }
            default(TICK) => tick(),
        }
        if ctx.progress().stalled_for() >= limit && is_at_rest() {
            stuck.store(true, Ordering::Relaxed);
            call.stop.cancel(&format!(
                "{} has made no progress for {} s (common.seed-idle-timeout), and none of its sessions on {} runs a statement",
                call.tool.name(),
                limit.as_secs(),
                call.server.name()
            ));
            return;
        }
    }
}

/// A failure in what the tool has printed, at any exit status.
fn reported(tool: Tool, failure: &str) -> Result<End> {
    let e = Error::Tool(Box::new(ToolError {
        name: tool.name().into(),
        fault: ToolFault::Reported,
        stderr: failure.into(),
    }));
    if is_of_freed_memory(failure) {
        Ok(End::Crashed(e))
    } else {
        Err(e)
    }
}

/// By its exit, if it has reported no failure.
fn ended(result: Result<Exit>, stop: &Cancel, stuck: bool) -> Result<End> {
    let mut exit = match result {
        Err(_) if stuck => return Ok(End::Crashed(Error::permanent(stop.reason()))),
        Err(_) if stop.is_cancelled() => return Err(Error::permanent(stop.reason())),
        result => result?,
    };
    exit.stderr = last_messages(&exit.stderr);
    let crashed = exit.status.signal().is_some_and(|s| CRASHES.contains(&s));
    match exit.check() {
        Err(e) if crashed => Ok(End::Crashed(e)),
        checked => checked.map(|()| End::Well),
    }
}

/// How a tool has ended by itself.
pub(super) enum End {
    /// With exit status 0, and without a message of a failure.
    Well,
    /// By a signal that its own fault has raised, or by an error of freed memory, or it stood still and was ended.
    Crashed(Error),
}

impl End {
    pub(super) fn well(self) -> Result<()> {
        match self {
            Self::Well => Ok(()),
            Self::Crashed(e) => Err(e),
        }
    }
}

/// SIGILL, SIGABRT, SIGBUS, SIGFPE and SIGSEGV, whose numbers are the same on all Linux platforms that MySQL has packages for.
const CRASHES: [i32; 5] = [4, 6, 7, 8, 11];

/// The last messages of a tool that ends without a message of the cause, as text for people.
fn last_messages(stderr: &str) -> String {
    let lines = stderr.lines().map(super::log::message);
    let lines: Vec<String> = lines.filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

/// With those that were seen earlier: of a tool that died by itself.
fn all_ports(ctx: &Context, id: Option<&ProcessId>, mut ports: Vec<u16>) -> Vec<u16> {
    let tools = ctx.seed().map(|s| s.tools).unwrap_or_default();
    let seen = tools.iter().filter(|t| Some(&t.id) == id);
    ports.extend(seen.flat_map(|t| &t.ports));
    ports
}

/// Sessions through a unix socket have no port to be found by: those that were there before are not the tool's.
fn known_sessions(server: &Endpoint) -> Result<BTreeSet<u64>> {
    if server.socket.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut conn = connect(server, Duration::from_secs(10))?;
    let all = control::connections_at_rest(&mut conn, &server.user)?;
    Ok(all.into_iter().map(|(id, ..)| id).collect())
}

/// Whether no session of a tool in `server` runs a statement: then the tool waits for nothing but itself. mydumper 0.10.1 frees a queue
/// while its threads still use it (`ready` in start_dump()), and a thread may wait for the queue's lock forever, or crash.
fn is_at_rest(server: &Endpoint, id: Option<&ProcessId>, known: &BTreeSet<u64>) -> bool {
    let sessions = connect(server, Duration::from_secs(3))
        .and_then(|mut conn| control::connections_at_rest(&mut conn, &server.user));
    let ports = id.map(|id| group_tcp_ports(id.pid)).unwrap_or_default();
    let of_tool = |(id, host, _): &&(u64, String, bool)| {
        if server.socket.is_empty() {
            let port = host.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
            port.is_some_and(|p: u16| ports.contains(&p))
        } else {
            !known.contains(id)
        }
    };
    sessions.is_ok_and(|all| all.iter().filter(of_tool).all(|(_, _, at_rest)| *at_rest))
}

fn end_sessions(server: &Endpoint, ports: &[u16], known: &BTreeSet<u64>) -> Result<()> {
    if server.socket.is_empty() {
        return if ports.is_empty() {
            Ok(())
        } else {
            sessions::end(server, ports)
        };
    }
    let mut conn = connect(server, Duration::from_secs(3))?;
    let is_tools = |id, client: &str| client == "localhost" && !known.contains(&id);
    control::wait_until_gone(|| control::kill(&mut conn, &server.user, is_tools))
}

/// Bytes and number of the files in a directory, which need not exist yet.
pub(super) fn size(directory: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|f| f.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .fold((0, 0), |(bytes, n), m| (bytes + m.len(), n + 1))
}
