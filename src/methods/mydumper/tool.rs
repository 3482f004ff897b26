//! One run of mydumper or myloader, from start to the end of its sessions in the server.

use super::Mydumper;
use super::log::{Log, is_of_freed_memory};
use super::options::Tool;
use super::strict;
use super::version::{self, ToolVersion};
use crate::contents::row_mode::STRICT;
use crate::error::{Error, Result, ToolError, ToolFault};
use crate::mysql::{Endpoint, Flavour, Server, connect, control};
use crate::process::{Cancel, Credentials, Job, Login, Running, SessionInit, run};
use crate::seed::sessions;
use crate::seed::stage::Context;
use crate::sys::proc::{ProcessId, group_tcp_ports};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{bounded, select};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often progress is looked for.
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
    /// The version of a tool, by its own words.
    pub(super) fn version(&self, tool: Tool) -> Result<ToolVersion> {
        let program = self.launcher.find(&[tool.name()])?;
        tool.version(&crate::process::version_text(&program)?)
            .map_err(|e| e.context(format!("{} --version", program.display())))
    }

    /// The file with the login to `server`, a [`Server`] of this kind; each session begins with
    /// `init` and what `tool` needs besides.
    pub(super) fn credentials(
        &self,
        endpoint: &Endpoint,
        server: Server,
        tool: Tool,
        version: ToolVersion,
        init: SessionInit,
    ) -> Result<Credentials> {
        let login = Login {
            host: &endpoint.host,
            port: endpoint.port,
            socket: &endpoint.socket,
            user: &endpoint.user,
            password: endpoint.password.reveal(),
            public_key: server.flavour == Flavour::MySql,
            plugin_dir: None,
            server: None,
        };
        let state_dir = &self.config.common.state_dir;
        let init = session(tool, init);
        let credentials = Credentials::create(state_dir, &login, &self.launcher, &init)?;
        let more = own_section(tool, version);
        let file = OpenOptions::new().append(true).open(credentials.path());
        let written = file.and_then(|mut f| f.write_all(more.as_bytes()));
        written.map_err(|e| Error::io(credentials.path().display(), &e))?;
        Ok(credentials)
    }

    /// Runs a tool. `line` gets what it prints, `tick` is called each second. After [`End::Well`] the tool has ended with 0 and
    /// reported no failure. In each case its sessions in the server have ended, also those that wait for a lock: a server does not
    /// see that their client has gone.
    pub(super) fn run(
        &self,
        ctx: &Context,
        call: &Call,
        mut line: impl FnMut(&str) + Send + 'static,
        tick: impl Fn() + Sync,
    ) -> Result<End> {
        let &Call {
            tool,
            arguments,
            server,
            stop,
        } = call;
        let program = self.launcher.find(&[tool.name()])?;
        let mut cmd = self.launcher.command(&program);
        cmd.args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let known = known_sessions(server)?;
        let limit = self.config.common.seed_idle_timeout;
        let stuck = AtomicBool::new(false);
        ctx.progress().touch();
        let said = Arc::new(Mutex::new(Log::default()));
        let (heard, failed) = (Arc::clone(&said), stop.clone());
        let hear = Arc::new(Mutex::new(move |text: &str| {
            line(text);
            let mut log = lock(&heard);
            log.take(tool.name(), text);
            if log.is_failed() {
                failed.cancel("it has failed"); // the others go on for hours otherwise (P6)
            }
        }));
        let told = Arc::clone(&hear);
        let hear_stderr = move |text: &str| lock(&told)(text);
        let mut running = Running::start_with(&mut cmd, tool.name(), hear_stderr)?;
        // What it does not like in its arguments it says there.
        let (last, stdout_ends) = bounded::<()>(0);
        if let Some(out) = running.take_stdout() {
            spawn("tool-output", move || {
                for text in BufReader::new(out)
                    .split(b'\n')
                    .map_while(std::io::Result::ok)
                {
                    lock(&hear)(&String::from_utf8_lossy(&text));
                }
                drop(last);
            })?;
        }
        ctx.adopt(&running)?;
        let id = running.id();
        let ports: RefCell<Vec<u16>> = RefCell::default();
        let before_kill = |group: u32| {
            ports.replace(group_tcp_ports(group).into_iter().collect());
        };
        let job = Job {
            cancel: stop,
            before_kill: &before_kill,
        };
        let result = std::thread::scope(|scope| {
            let (over, finished) = bounded::<()>(0);
            let (tick, id, known, stuck) = (&tick, id.as_ref(), &known, &stuck);
            scope.spawn(move || {
                loop {
                    select! {
                        recv(finished) -> _ => return,
                        recv(ctx.cancel().signal()) -> _ => {
                            stop.cancel(&ctx.cancel().reason());
                            return;
                        }
                        default(TICK) => tick(),
                    }
                    if ctx.progress().stalled_for() >= limit && is_at_rest(server, id, known) {
                        stuck.store(true, Ordering::Relaxed);
                        stop.cancel(&format!(
                            "{} has made no progress for {} s (common.seed-idle-timeout), and none of its sessions on {} runs a statement",
                            tool.name(),
                            limit.as_secs(),
                            server.name()
                        ));
                        return;
                    }
                }
            });
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
        if let Some(failure) = lock(&said).cause() {
            let e = Error::Tool(Box::new(ToolError {
                name: tool.name().into(),
                fault: ToolFault::Reported,
                stderr: failure.into(),
            }));
            if is_of_freed_memory(failure) {
                return Ok(End::Crashed(e));
            }
            return Err(e);
        }
        let mut exit = match result {
            Err(_) if stuck.load(Ordering::Relaxed) => {
                return Ok(End::Crashed(Error::permanent(stop.reason())));
            }
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
}

/// How a tool has ended by itself.
pub(super) enum End {
    /// With exit status 0, and without a message of a failure.
    Well,
    /// By a signal that its own fault has raised, or by an error of freed memory, or it stood still and was ended.
    Crashed(Error),
}

impl End {
    /// # Errors
    /// It has crashed.
    pub(super) fn well(self) -> Result<()> {
        match self {
            Self::Well => Ok(()),
            Self::Crashed(e) => Err(e),
        }
    }
}

/// SIGILL, SIGABRT, SIGBUS, SIGFPE and SIGSEGV, whose numbers are the same on all Linux platforms that MySQL has packages for.
const CRASHES: [i32; 5] = [4, 6, 7, 8, 11];

fn session(tool: Tool, init: SessionInit) -> SessionInit {
    match tool {
        Tool::Mydumper => init,
        Tool::Myloader => init
            .assign(format!("sql_mode = '{STRICT}'"))
            .assign(format!("{} = '{STRICT}'", strict::VARIABLE)),
    }
}

/// The tools' own section of the option file. What mydumper has as sql_mode it also writes into the dump, and myloader sets it
/// after the session's first statement.
fn own_section(tool: Tool, version: ToolVersion) -> String {
    match tool {
        Tool::Mydumper if version::has_session_section(version) => {
            format!("[mydumper_session_variables]\nSQL_MODE='{STRICT}'\n")
        }
        _ => String::new(),
    }
}

/// The last messages of a tool that ends without a message of the cause, as text for people.
fn last_messages(stderr: &str) -> String {
    let lines: Vec<String> = stderr
        .lines()
        .map(super::log::message)
        .filter(|l| !l.is_empty())
        .collect();
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
    control::connections(&mut conn, &server.user)
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
        return match ports {
            [] => Ok(()),
            ports => sessions::end(server, ports),
        };
    }
    let mut conn = connect(server, Duration::from_secs(3))?;
    control::wait_until_gone(|| control::kill_socket_connections(&mut conn, &server.user, known))
}

/// Bytes of the files in a directory, and their number. Nothing if there is none yet.
pub(super) fn size(directory: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|f| f.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .fold((0, 0), |(bytes, n), m| (bytes + m.len(), n + 1))
}
