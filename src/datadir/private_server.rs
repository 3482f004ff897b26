//! Private servers: the server's own program on a copy, or on an empty data directory that makes a copy by CLONE, without network,
//! binary log, replication and events.

use super::cleanup::remove_tree;
use super::environment::Environment;
use super::info::DatadirInfo;
use super::staging::{Staged, make_dir};
use crate::config::Secret;
use crate::error::{Error, OnPath, Result};
use crate::mysql::messages::last_errors;
use crate::mysql::{Endpoint, Flavour, Version, connect, failure};
use crate::process::{Cancel, Exit, Running, signal_group};
use crate::sys::proc;
use crate::sys::process::Signal;
use ::mysql::Conn;
use ::mysql::prelude::Queryable;
use crossbeam_channel::select;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// For each of the first answers of a server that makes a copy.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How often a server that starts is tried.
const POLL: Duration = Duration::from_millis(100);
/// How long leftover processes may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Where a private server works.
pub(super) struct PrivateServer<'a> {
    pub(crate) info: &'a DatadirInfo,
    pub(crate) data: PathBuf,
    /// Socket, pid, log, temporary files; next to `data`.
    pub(crate) work: PathBuf,
    /// For messages: what failed when it does not start.
    pub(crate) failure: &'static str,
}

impl PrivateServer<'_> {
    pub(crate) fn make_work_dir(&self) -> Result<()> {
        remove_tree(&self.work)?;
        make_dir(&self.work, self.info)?;
        make_dir(&self.work.join("tmp"), self.info)
    }

    /// With more arguments.
    pub(crate) fn start(&self, more: &[String], env: &dyn Environment) -> Result<Running> {
        let mut command = env.program(self.info);
        command
            .args(self.arguments())
            .args(more)
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let server = Running::start(&mut command, "the private server")?;
        env.adopt(&server)?;
        Ok(server)
    }

    fn arguments(&self) -> Vec<String> {
        let (info, version) = (self.info, self.info.server.version);
        let mut all: Vec<String> = [
            "--no-defaults",
            "--socket=../work/sock", // relative to the data directory: the path of a socket is at most 107 bytes long
            "--skip-networking",
            "--skip-log-bin",
            "--event-scheduler=OFF",
            "--innodb-buffer-pool-size=128M",
            "--innodb-buffer-pool-load-at-startup=OFF",
            "--innodb-buffer-pool-dump-at-shutdown=OFF",
            "--max-connections=10",
        ]
        .map(String::from)
        .into();
        let more: &[&str] = match info.server.flavour {
            Flavour::MariaDb => &["--skip-slave-start", "--loose-wsrep-on=OFF"],
            Flavour::MySql => &[
                "--gtid-mode=OFF",
                "--secure-file-priv=NULL",
                "--loose-mysqlx=OFF",
                "--loose-persisted-globals-load=OFF",
                "--loose-auto-generate-certs=OFF",
                "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
                "--loose-sha256-password-auto-generate-rsa-keys=OFF",
                if version >= Version(8, 0, 26) {
                    "--skip-replica-start"
                } else {
                    "--skip-slave-start"
                },
            ],
        };
        all.extend(more.iter().map(|o| (*o).to_string()));
        if info.uid == 0 {
            all.push("--user=root".into()); // refused otherwise
        }
        for (name, path) in [
            ("datadir", &self.data),
            ("tmpdir", &self.work.join("tmp")),
            ("pid-file", &self.work.join("pid")),
            ("log-error", &self.work.join("error.log")),
        ] {
            all.push(format!("--{name}={}", path.display()));
        }
        for (name, value) in &info.options {
            all.push(format!("--{}={value}", name.replace('_', "-")));
        }
        all
    }

    /// Waits until `server` answers, and checks that it is the one on this data directory. `account`: with which login. `refused`: the
    /// error to return for one that occurs meanwhile, if it is not to be waited for. The endpoint is valid as long as the file is open.
    pub(crate) fn connect(
        &self,
        server: &Running,
        account: Endpoint,
        timeout: Duration,
        cancel: &Cancel,
        refused: &dyn Fn(&Error) -> Option<Error>,
    ) -> Result<(Conn, Endpoint, File)> {
        // Keeps the path of the socket short.
        let work = File::open(&self.work).on(&self.work)?;
        let endpoint = Endpoint {
            socket: format!("/proc/self/fd/{}/sock", work.as_raw_fd()),
            ..account
        };
        let mut conn = loop {
            match connect(&endpoint, timeout) {
                Ok(conn) => break conn,
                Err(e) => {
                    if let Some(e) = refused(&e) {
                        return Err(e);
                    }
                }
            }
            select! {
                recv(server.exited()) -> _ => {
                    return Err(self.with_log(&Error::permanent("the private server ended before it answered")));
                }
                recv(cancel.signal()) -> _ => return Err(Error::cancelled()),
                default(POLL) => {}
            }
        };
        let reported: Option<String> = conn
            .query_first("SELECT @@datadir")
            .map_err(|e| failure("the private server", "", &e))?;
        let reported = reported.unwrap_or_default();
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(Path::new(&reported)).is_some_and(|r| Some(r) == real(&self.data)) {
            return Ok((conn, endpoint, work));
        }
        Err(Error::permanent(format!(
            "the server that answers on the private server's socket has the data directory {reported}, not {}",
            self.data.display()
        )))
    }

    /// With the last errors of its log.
    pub(crate) fn with_log(&self, e: &Error) -> Error {
        let log = std::fs::read(self.work.join("error.log")).unwrap_or_default();
        let last = last_errors(&String::from_utf8_lossy(&log));
        Error::permanent(format!("{}: {e}; its error log: {last}", self.failure))
    }
}

/// SIGTERM without a deadline: a server that writes its pages must not be killed. It is when cancelled.
pub(super) fn shut_down(server: Running, cancel: &Cancel) -> Result<Exit> {
    let group = i32::try_from(server.group()).map_err(|e| Error::permanent(e.to_string()))?;
    signal_group(group, Signal::Term).on("the private server")?;
    select! {
        recv(server.exited()) -> _ => server.finish(),
        recv(cancel.signal()) -> _ => {
            server.end()?;
            Err(Error::cancelled())
        }
    }
}

/// A private server without data that makes a copy by CLONE. The target's own server refuses to CLONE into a directory inside its
/// data directory (error 3632; links are followed), which is where copies are staged; this one's is elsewhere. It is killed when
/// [`CloneServer::stop`] was not called, at the latest by the next agent.
pub(crate) struct CloneServer {
    server: Running,
    endpoint: Endpoint,
    dir: PathBuf,
    _work: File,
}

impl CloneServer {
    /// Makes an empty server in the staging directory, with `libraries` of plugins, and starts it. The copy may go to
    /// [`Staged::new_dir`], which is removed here. May be repeated.
    pub(crate) fn start(
        info: &DatadirInfo,
        staged: &Staged,
        libraries: &[String],
        env: &dyn Environment,
    ) -> Result<Self> {
        let dir = staged.dir.join("helper");
        let private = PrivateServer {
            info,
            data: dir.join("data"),
            work: dir.join("work"),
            failure: "a private server for the CLONE does not start",
        };
        end_leftovers(&info.staging)?;
        remove_tree(&dir)?;
        make_dir(&dir, info)?;
        private.make_work_dir()?;
        env.report("Making a private server that clones");
        let made = private.start(&["--initialize-insecure".into()], env)?;
        select! {
            recv(made.exited()) -> _ => made.finish()?.check().map_err(|e| private.with_log(&e))?,
            recv(env.cancel().signal()) -> _ => {
                made.end()?;
                return Err(Error::cancelled());
            }
        }
        remove_tree(&staged.new_dir())?;
        let load: Vec<String> = libraries
            .iter()
            .map(|l| format!("--plugin-load-add={l}"))
            .collect();
        let server = private.start(&load, env)?;
        let root = Endpoint {
            host: String::new(),
            port: 0,
            socket: String::new(),
            user: "root".into(),
            password: Secret::new(""),
        };
        match private.connect(&server, root, FIRST_ANSWER, env.cancel(), &|_| None) {
            Ok((_, endpoint, work)) => Ok(Self {
                server,
                endpoint,
                dir,
                _work: work,
            }),
            Err(e) => {
                server.end()?;
                Err(e)
            }
        }
    }

    /// Its account with all privileges.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Shuts it down, kills it when cancelled, and removes its directory.
    pub(crate) fn stop(self, cancel: &Cancel) -> Result<()> {
        match shut_down(self.server, cancel) {
            Err(e) if !e.is_cancelled() => return Err(e),
            _ => {} // its exit status does not matter
        }
        remove_tree(&self.dir)
    }
}

/// Kills all processes that still work on a copy below the staging directory `root`: an agent that is killed between the start of
/// a process and its record leaves one that no record names, a server that continues on a copy which the next run starts, or even
/// swaps in. InnoDB takes no harm from that, and an interrupted `--prepare` is in the record. No process of the present run may
/// work there.
pub(crate) fn end_leftovers(root: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        let there = proc::groups_with(|argument| works_below(argument, root));
        let Some(first) = there.first() else {
            return Ok(());
        };
        if begin.elapsed() > KILL_LIMIT {
            return Err(Error::transient(format!(
                "process group {first} still works on a copy in {} and does not end after SIGKILL",
                root.display()
            )));
        }
        for group in there {
            log::warn!(
                "killing process group {group}, which an agent that was killed had started on a copy in {}",
                root.display()
            );
            signal_group(group, Signal::Kill).map_err(|e| {
                Error::permanent(format!(
                    "process group {group} works on a copy in {} and cannot be killed ({e}): end it",
                    root.display()
                ))
            })?;
        }
        std::thread::sleep(POLL / 2);
    }
}

/// Whether an argument names a copy that comes in, or the private server that makes it: not old data that are kept.
fn works_below(argument: &[u8], root: &Path) -> bool {
    // Of a private server, and of `xtrabackup --prepare`.
    const OPTIONS: [&[u8]; 2] = [b"--datadir=", b"--target-dir="];
    let value = OPTIONS.iter().find_map(|o| argument.strip_prefix(*o));
    let below = value.and_then(|v| Path::new(OsStr::from_bytes(v)).strip_prefix(root).ok());
    let part = below.and_then(|b| b.components().nth(1));
    part.is_some_and(|p| {
        ["new", "helper"]
            .iter()
            .any(|n| p == Component::Normal(OsStr::new(n)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_that_come_in() {
        let root = Path::new("/d/.orchestrator-agent");
        for (argument, wanted) in [
            ("--datadir=/d/.orchestrator-agent/7/new", true),
            ("--datadir=/d/.orchestrator-agent/7/new/", true),
            ("--datadir=/d/.orchestrator-agent/7/helper/data", true),
            ("--target-dir=/d/.orchestrator-agent/7/new", true),
            ("--datadir=/d/.orchestrator-agent/7/old", false),
            ("--datadir=/d/.orchestrator-agent/7", false),
            ("--datadir=/e/.orchestrator-agent/7/new", false),
            ("--datadir=/d", false),
            ("--tmpdir=/d/.orchestrator-agent/7/new", false),
            ("/d/.orchestrator-agent/7/new", false),
        ] {
            assert_eq!(works_below(argument.as_bytes(), root), wanted, "{argument}");
        }
    }
}
