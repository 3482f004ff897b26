//! The source's Backup: the tool's stream to the target.

use super::messages::{Meaning, Phases};
use super::tools::Tools;
use super::{Xtrabackup, tools};
use crate::config::Config;
use crate::datadir::DatadirInfo;
use crate::error::{Error, Result};
use crate::methods::swap_in;
use crate::methods::tool_sessions::Sessions;
use crate::mysql::info::Schema;
use crate::mysql::{Endpoint, Flavour, Identity, Server, connect, grants, info, old_logins};
use crate::process::{
    Credentials, Exit, Job, Login, Running, SessionInit, program_name, run, set_priority,
    signal_group,
};
use crate::seed::source_lock::{LockMonitor, Seen, milliseconds};
use crate::seed::stage::Context;
use crate::seed::types::{ENGINES, Method, Side};
use crate::stream::{Outgoing, Spool};
use crate::sys::host::human_bytes;
use crate::sys::process::{Priority, Signal};
use crate::sys::thread::lock;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Deadline of queries to the source's own server.
const QUERY: Duration = Duration::from_secs(10);

/// The server that is copied.
struct Source {
    info: DatadirInfo,
    tools: Tools,
    is_replica: bool,
    identity: Identity,
}

impl Xtrabackup {
    /// Prepare of the source: what would fail later is known now. Changes nothing.
    pub(super) fn check_source(&self) -> Result<()> {
        let (info, tools) = self.inspect(Side::Source)?;
        let mut conn = connect(&Endpoint::local(&self.config.mysql), QUERY)?;
        if !info::is_on(&mut conn, "log_bin")? {
            return Err(Error::permanent(
                "the source writes no binary log, and a replica could not continue from the copy: set log_bin in its my.cnf and \
                 restart it",
            ));
        }
        let mut needed = grants::for_copy(info.server);
        needed.extend(grants::for_events_of_others(&mut conn, info.server)?);
        let copy = format!("a copy by {}", program_name(&tools.backup));
        let what = ("the source", copy.as_str());
        swap_in::check_privileges(&mut conn, info.server, &needed, what)?;
        engines(&info::schemas(&mut conn, info.server)?, info.server)
    }

    /// The complete stage. When it returns Ok the target has acknowledged that all of it is on its disk.
    pub(super) fn send(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        let peer = ctx.seed()?.peer;
        let peer = peer.ok_or_else(|| Error::permanent("backup was called without a target"))?;
        let this = self.clone();
        let source = ctx.interruptible(move || this.source())?;
        ctx.progress().expect(source.info.bytes);
        let notes =
            serde_json::to_string(&source.info).map_err(|e| Error::permanent(e.to_string()))?;
        let (mut command, credentials) = self.backup_command(&source)?;
        let name = program_name(&source.tools.backup);
        let sessions = Sessions::before(&source.identity)?;
        let phase = Arc::new(LastPhase::of(
            ctx.seed_id(),
            source.tools.version,
            &self.config,
        ));
        // The tool follows at once: the target expects data within its time limits from here on.
        ctx.report(&format!("Running backup. Connecting to {}", peer.host));
        let stream = self.stream(ctx.seed_id())?;
        let mut out = Outgoing::connect(&peer.host, stream, &notes, ctx.cancel())?;
        let listener = Arc::clone(&phase);
        let tool = Running::start_with(&mut command, &name, move |line| listener.line(line))?;
        lock(&phase.state).group = tool.group();
        set_priority(tool.group(), Priority::Low);
        ctx.adopt(&tool)?;
        ctx.report(&format!("Running backup to {}", peer.host));
        let mut alive = Instant::now();
        let reached =
            sessions.await_tool(&tool, &name, ctx.cancel(), || out.keep_alive(&mut alive));
        let reached = match reached {
            Ok(reached) => reached,
            Err(e) => {
                tool.end()?;
                return Err(reject(ctx, out, e));
            }
        };
        let (bytes, exit) = transfer(ctx, tool, &mut out, &phase)?;
        drop(credentials);
        let held = lock(&phase.state).phases.held();
        if let Some(held) = held {
            ctx.update(|seed| seed.source_lock_ms = Some(milliseconds(held)))?;
        }
        let checked = match tools::check(exit) {
            Err(e) => Err(phase.given_up().unwrap_or(e)),
            Ok(()) if !reached => Err(source.identity.ended_unseen(&name)),
            Ok(()) => Ok(()),
        };
        if let Err(e) = checked {
            return Err(reject(ctx, out, e));
        }
        ctx.report(&format!(
            "Running backup. All {bytes} bytes are sent, {} writes them",
            peer.host
        ));
        acknowledged(ctx, out, bytes, &phase.summary())
    }

    fn source(&self) -> Result<Source> {
        let (info, tools) = self.inspect(Side::Source)?;
        let local = Endpoint::local(&self.config.mysql);
        let mut conn = connect(&local, QUERY)?;
        let role = info::role(&mut conn, info.server)?;
        let identity = Identity::hold(&local)?;
        identity.verify(&mut conn)?;
        Ok(Source {
            info,
            tools,
            is_replica: role.source.is_some(),
            identity,
        })
    }

    /// The backup tool with its login, which must be kept as long as the tool runs.
    fn backup_command(&self, source: &Source) -> Result<(Command, Credentials)> {
        let (mysql, common) = (&self.config.mysql, &self.config.common);
        let Source { info, tools, .. } = source;
        let local = Endpoint::local(mysql);
        let login = Login {
            host: &local.host,
            port: local.port,
            socket: &mysql.socket,
            user: &mysql.user,
            password: mysql.password.reveal(),
            public_key: info.server.flavour == Flavour::MySql,
            plugin_dir: old_logins(&tools.backup, info.server),
            server: Some((mysql.defaults_file.clone(), info.datadir.clone())),
        };
        let launcher = self.launcher.on_files_of(info.uid);
        let init = SessionInit::default();
        let credentials = Credentials::create(&common.state_dir, &login, &launcher, &init)?;
        let mut command = launcher.command(&tools.backup);
        command
            .args(tools::backup(
                credentials.path(),
                &common.backup_dir,
                source.is_replica,
                &self.options(),
            ))
            .current_dir(&common.backup_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok((command, credentials))
    }
}

/// The tool's last phase, in which it holds locks on the source: its output is taken as fast as it comes, it runs with normal priority,
/// and a second session monitors who waits behind the locks.
struct LastPhase {
    seed: i64,
    spool: Spool,
    local: Endpoint,
    /// `common.source-lock-timeout`
    limit: Duration,
    state: Mutex<State>,
}

struct State {
    phases: Phases,
    /// The tool's process group.
    group: u32,
    monitor: Option<LockMonitor>,
    seen: Seen,
}

impl LastPhase {
    fn of(seed: i64, tool: Server, config: &Config) -> Self {
        Self {
            seed,
            spool: Spool::new(config.common.backup_dir.clone()),
            local: Endpoint::local(&config.mysql),
            limit: config.common.source_lock_timeout,
            state: Mutex::new(State {
                phases: Phases::of(tool),
                group: 0,
                monitor: None,
                seen: Seen::default(),
            }),
        }
    }

    /// A line of the tool's standard error.
    fn line(&self, line: &str) {
        let mut state = lock(&self.state);
        match state.phases.line(line) {
            Some(Meaning::Locks) => self.begin(&mut state),
            Some(_) => state.end(),
            None => {}
        }
    }

    fn begin(&self, state: &mut State) {
        self.spool.release();
        log::info!(
            "seed {} Backup: the backup tool takes its locks on the source",
            self.seed
        );
        // A slow tool would hold its locks longer. Only root may do that.
        set_priority(state.group, Priority::Normal);
        match LockMonitor::start(&self.local, self.limit, |_| {}) {
            Ok(monitor) => state.monitor = Some(monitor),
            Err(e) => log::error!("common.source-lock-timeout cannot be enforced: {e}"),
        }
    }

    /// Why the tool's lock was given up, and with it the tool.
    fn given_up(&self) -> Option<Error> {
        let state = lock(&self.state);
        state.seen.given_up.as_ref().map(Error::permanent)
    }

    /// How long it was, for Details.
    fn summary(&self) -> String {
        let state = lock(&self.state);
        let Some(held) = state.phases.held() else {
            return "The tool has announced no lock on the source".into();
        };
        let mut text = format!(
            "The tool held its locks on the source for {:.2} s",
            held.as_secs_f64()
        );
        let longest = state.seen.longest.as_secs_f64();
        if longest > 0.0 {
            text += &format!(", a write was seen blocked for {longest:.1} s");
        }
        let spilled = self.spool.spilled();
        if spilled > 0 {
            let spilled = human_bytes(spilled);
            text += &format!(", {spilled} of its output went through a file in backup-dir");
        }
        text
    }
}

impl State {
    /// The locks are released, or the tool has ended. May be repeated.
    fn end(&mut self) {
        if let Some(monitor) = self.monitor.take() {
            self.seen = monitor.stop();
        }
    }
}

/// Sends what the tool writes until it has ended. After an error the tool is ended.
fn transfer(
    ctx: &Context,
    mut tool: Running,
    out: &mut Outgoing,
    phase: &LastPhase,
) -> Result<(u64, Exit)> {
    let stdout = tool
        .take_stdout()
        .ok_or_else(|| Error::permanent("internal: the tool's standard output is not a pipe"))?;
    let leader = tool.group();
    let end_tool = move || {
        let ended = i32::try_from(leader)
            .map_err(std::io::Error::other)
            .and_then(|g| signal_group(g, Signal::Kill));
        if let Err(e) = ended {
            log::error!("cannot end the backup tool: {e}");
        }
    };
    let progress = Arc::clone(ctx.progress());
    let count = |n| progress.bytes(n);
    let bytes = match out.send_through(&phase.spool, stdout, end_tool, ctx.cancel(), count) {
        Ok(bytes) => bytes,
        Err(e) => {
            tool.end()?;
            lock(&phase.state).end();
            return Err(phase.given_up().unwrap_or(e));
        }
    };
    let job = Job {
        cancel: ctx.cancel(),
        before_kill: &|_| {},
    };
    let exit = run(tool, &job);
    lock(&phase.state).end();
    Ok((bytes, exit?))
}

/// Sends the cause of a failure to the target. Its answer is this text again, and if there is none this is still the cause.
fn reject(ctx: &Context, out: Outgoing, cause: Error) -> Error {
    if let Err(answer) = out.finish(Err(&cause.to_string()), ctx.cancel()) {
        log::debug!("seed {}: {answer}", ctx.seed_id());
    }
    cause
}

/// Waits for the target's acknowledgement; the text is for Details.
fn acknowledged(ctx: &Context, out: Outgoing, bytes: u64, summary: &str) -> Result<String> {
    let is_raw = out.is_raw();
    match out.finish(Ok(()), ctx.cancel()) {
        Ok(()) if is_raw => Ok(format!(
            "{bytes} bytes sent as a raw stream: nothing confirms that they are complete. {summary}"
        )),
        Ok(()) => Ok(format!(
            "Sent {bytes} bytes, which are on the target's disk. {summary}"
        )),
        Err(e) if !is_raw && e.is_transient() => Err(e.context("all was sent")),
        Err(e) => Err(e),
    }
}

/// Refuses tables of engines that the tools leave out. What a MEMORY table holds is in no file.
fn engines(schemas: &BTreeMap<String, Schema>, server: Server) -> Result<()> {
    let copied = Method::Xtrabackup.supported_engines(server.version.0);
    for (schema, found) in schemas {
        for engine in found.engines.iter().map(String::as_str) {
            if ENGINES.contains(&engine) && !copied.contains(&engine) {
                return Err(Error::permanent(format!(
                    "schema {schema} has {engine} tables, which the backup tool does not copy: convert them, or use the method \
                     Mysqldump"
                )));
            }
            if engine == "MEMORY" {
                log::warn!("the MEMORY tables of schema {schema} arrive empty");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_are_left_out_are_refused() {
        let with = |engine: &str, version: &str| {
            let schema = Schema {
                engines: vec!["InnoDB".into(), engine.into()],
                ..Schema::default()
            };
            let server = Server::parse(version, "").unwrap();
            engines(&BTreeMap::from([("shop".to_string(), schema)]), server)
        };
        assert!(with("Aria", "10.11.19-MariaDB").is_ok() && with("MEMORY", "8.4.0").is_ok());
        assert!(with("ROCKSDB", "8.0.36").is_ok());
        for (engine, version) in [("ROCKSDB", "5.7.44"), ("TokuDB", "10.4.8-MariaDB")] {
            let e = with(engine, version).unwrap_err().to_string();
            assert!(e.contains("shop") && e.contains(engine), "{e}");
        }
    }
}
