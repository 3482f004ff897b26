//! The source's Backup: the tool's stream to the target.

use super::phases::{Phases, Step};
use super::{Xtrabackup, options, tools};
use crate::error::{Error, Result};
use crate::methods::tool_sessions::Sessions;
use crate::mysql::info::Schema;
use crate::mysql::{Endpoint, Identity, Server, connect, grants, info};
use crate::process::{
    Credentials, Job, Login, Running, SessionInit, run, set_priority, signal_group,
};
use crate::seed::source_lock::{LockMonitor, Seen};
use crate::seed::stage::Context;
use crate::seed::types::{ENGINES, Method, Side};
use crate::stream::{Outgoing, Spool};
use crate::sys::process::{Priority, Signal};
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, bounded};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

impl Xtrabackup {
    /// Prepare of the source: what would fail later is known now. Changes nothing.
    pub(super) fn check_source(&self) -> Result<()> {
        let (facts, tools) = self.look(Side::Source)?;
        let mut conn = connect(
            &Endpoint::local(&self.config.mysql),
            Duration::from_secs(10),
        )?;
        if !info::is_on(&mut conn, "log_bin")? {
            return Err(Error::permanent(
                "the source writes no binary log, and a replica could not go on from the copy: set log_bin in its my.cnf and \
                 restart it",
            ));
        }
        let (account, held) = grants::held(&mut conn, facts.server)?;
        let mut needed = grants::for_copy(facts.server);
        needed.extend(grants::for_events_of_others(&mut conn, facts.server)?);
        let missing = grants::missing(facts.server, &needed, &held);
        if !missing.is_empty() {
            let names = missing.join(", ");
            return Err(Error::permanent(format!(
                "mysql.user {account} lacks {names} on the source, which a copy by {} needs, or the target's agent after it: GRANT \
                 {names} ON *.* TO {account}",
                tools::name(&tools.backup)
            )));
        }
        engines(&info::schemas(&mut conn, facts.server)?, facts.server)
    }

    /// The whole stage. When it returns Ok the target has said that all of it is there and on its disk.
    pub(super) fn send(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        let seed = ctx.seed()?;
        let peer = seed
            .peer
            .ok_or_else(|| Error::permanent("backup was called without a target"))?;
        let this = self.clone();
        let (facts, tools, is_replica, identity) = ctx.interruptible(move || {
            let (facts, tools) = this.look(Side::Source)?;
            let mut conn = connect(
                &Endpoint::local(&this.config.mysql),
                Duration::from_secs(10),
            )?;
            let role = info::role(&mut conn, facts.server)?;
            let identity = Identity::hold(&Endpoint::local(&this.config.mysql))?;
            identity.verify(&mut conn)?;
            Ok((facts, tools, role.source.is_some(), identity))
        })?;
        ctx.progress().expect(facts.bytes);
        let notes = serde_json::to_string(&facts).map_err(|e| Error::permanent(e.to_string()))?;
        let mysql = &self.config.mysql;
        let local = Endpoint::local(mysql);
        let login = Login {
            host: &local.host,
            port: local.port,
            socket: &mysql.socket,
            user: &mysql.user,
            password: mysql.password.reveal(),
            public_key: facts.server.flavour == crate::mysql::Flavour::MySql,
            plugin_dir: crate::mysql::old_logins(&tools.backup, facts.server),
            server: Some((mysql.defaults_file.clone(), facts.datadir.clone())),
        };
        let launcher = self.launcher.on_files_of(facts.uid);
        let credentials = Credentials::create(
            &self.config.common.state_dir,
            &login,
            &launcher,
            &SessionInit::default(),
        )?;
        let mut command = launcher.command(&tools.backup);
        command
            .args(options::backup(
                credentials.path(),
                &self.config.common.backup_dir,
                is_replica,
                &self.options(),
            ))
            .current_dir(&self.config.common.backup_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let name = tools::name(&tools.backup);
        let sessions = Sessions::before(&identity)?;
        let phases = Phases::of(tools.version);
        let id = seed.id;
        let spool = Spool::new(self.config.common.backup_dir.clone());
        let (heard, released, group) = (phases.clone(), spool.clone(), Arc::new(AtomicU32::new(0)));
        let of_tool = Arc::clone(&group);
        let (watch, watched) = bounded(1);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let stop_watch = {
            let (watched, seen) = (watched, Arc::clone(&seen));
            move || {
                if let Ok(watch) = Receiver::<LockMonitor>::try_recv(&watched) {
                    *lock(&seen) = watch.stop();
                }
            }
        };
        let unlocked = stop_watch.clone();
        let limit = self.config.common.source_lock_timeout;
        let hear = move |line: &str| match heard.hear(line) {
            Some(Step::Locks) => {
                released.release();
                log::info!("seed {id} Backup: the backup tool takes its locks on the source");
                // A slow tool would hold its locks longer. Only root may do that.
                set_priority(of_tool.load(Ordering::Acquire), Priority::Normal);
                match LockMonitor::start(&local, limit, |_| {}) {
                    Ok(started) => {
                        let _ = watch.send(started); // the stage is over: fine
                    }
                    Err(e) => log::error!("common.source-lock-timeout cannot be enforced: {e}"),
                }
            }
            Some(Step::Released) => unlocked(),
            None => {}
        };
        // The tool follows at once: the target expects data within its time limits from here on.
        ctx.report(&format!("Running backup. Connecting to {}", peer.host));
        let mut out = Outgoing::connect(&peer.host, self.stream(seed.id)?, &notes, ctx.cancel())?;
        let mut tool = Running::start_with(&mut command, &name, hear)?;
        group.store(tool.group(), Ordering::Release);
        tool.prioritise(Priority::Low);
        ctx.adopt(&tool)?;
        ctx.report(&format!("Running backup to {}", peer.host));
        let mut alive = Instant::now();
        let waited = sessions.await_tool(&tool, &name, ctx.cancel(), || out.keep_alive(&mut alive));
        let reached = match waited {
            Ok(reached) => reached,
            Err(e) => {
                tool.end()?;
                if let Err(answer) = out.finish(Err(&e.to_string()), ctx.cancel()) {
                    log::debug!("seed {}: {answer}", seed.id);
                }
                return Err(e);
            }
        };
        let stdout = tool.take_stdout().ok_or_else(|| {
            Error::permanent("internal: the tool's standard output is not a pipe")
        })?;
        let progress = Arc::clone(ctx.progress());
        let leader = tool.group();
        let end_tool = move || {
            let ended = i32::try_from(leader)
                .map_err(std::io::Error::other)
                .and_then(|g| signal_group(g, Signal::Kill));
            if let Err(e) = ended {
                log::error!("cannot end the backup tool: {e}");
            }
        };
        let sent = out.send_through(&spool, stdout, end_tool, ctx.cancel(), |n| {
            progress.bytes(n)
        });
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(e) => {
                tool.end()?;
                stop_watch();
                if let Some(why) = &lock(&seen).given_up {
                    return Err(Error::permanent(why));
                }
                return Err(e);
            }
        };
        let job = Job {
            cancel: ctx.cancel(),
            before_kill: &|_| {},
        };
        let exit = run(tool, &job);
        stop_watch();
        let exit = exit?;
        let seen = lock(&seen).clone();
        drop(credentials);
        let held = phases.held();
        if let Some(held) = held {
            let ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            ctx.update(|seed| seed.source_lock_ms = Some(ms))?;
        }
        let checked = tools::check(exit).map_err(|e| match &seen.given_up {
            Some(why) => Error::permanent(why),
            None => e,
        });
        let checked = checked.and_then(|()| {
            if reached {
                Ok(())
            } else {
                Err(identity.ended_unseen(&name))
            }
        });
        if let Err(e) = checked {
            // The target is told as well; its answer is this text again, and if there is none this is still the cause.
            if let Err(answer) = out.finish(Err(&e.to_string()), ctx.cancel()) {
                log::debug!("seed {}: {answer}", seed.id);
            }
            return Err(e);
        }
        ctx.report(&format!(
            "Running backup. All {bytes} bytes are sent, {} writes them",
            peer.host
        ));
        if out.is_raw() {
            out.finish(Ok(()), ctx.cancel())?;
            return Ok(format!(
                "{bytes} bytes sent as a bare stream: nothing confirms that they are complete. {}",
                told(held, &seen, &spool)
            ));
        }
        match out.finish(Ok(()), ctx.cancel()) {
            Ok(()) => Ok(format!(
                "Sent {bytes} bytes, which are on the target's disk. {}",
                told(held, &seen, &spool)
            )),
            Err(e) if e.is_transient() => Err(e.context("all was sent")),
            Err(e) => Err(e),
        }
    }
}

/// How long the tool's last phase was, for Details.
fn told(held: Option<Duration>, seen: &Seen, spool: &Spool) -> String {
    let Some(held) = held else {
        return "The tool has announced no lock on the source".into();
    };
    let mut text = format!(
        "The tool held its locks on the source for {:.2} s",
        held.as_secs_f64()
    );
    if !seen.longest.is_zero() {
        text += &format!(
            ", a write was seen waiting for {:.1} s",
            seen.longest.as_secs_f64()
        );
    }
    if spool.spilled() > 0 {
        text += &format!(
            ", {} of its output went through a file in backup-dir",
            crate::sys::host::human_bytes(spool.spilled())
        );
    }
    text
}

/// Refuses tables of engines that the tools leave out (agent-api-v2 3.2). What a MEMORY table holds is in no file.
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
