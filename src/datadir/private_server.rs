//! Private servers: the server's own program on a copy (the trial start, before anything of the target is changed), or on an empty
//! data directory, for a copy by CLONE or the load of a dump; without network, binary log, replication and events.

use super::cleanup::remove_tree;
use super::environment::Environment;
use super::info::DatadirInfo;
use super::staging::{Staged, make_dir};
use crate::config;
use crate::coordinates::Coordinates;
use crate::error::{Error, OnPath, Result};
use crate::mysql::messages::last_errors;
use crate::mysql::{Endpoint, Flavour, applier, connect, control, failure};
use crate::process::{Cancel, Exit, Running, signal_group};
use crate::sys::Inserted;
use crate::sys::file::sync_dir;
use crate::sys::proc;
use crate::sys::process::Signal;
use ::mysql::Conn;
use ::mysql::prelude::Queryable;
use crossbeam_channel::select;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// For each of the first answers of a server that makes a copy.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// For each statement to the private server: RESET REPLICA ALL deletes relay logs.
const STATEMENT: Duration = Duration::from_secs(600);
/// How often a server that starts is tried.
const POLL: Duration = Duration::from_millis(100);
/// How long leftover processes may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// The path of the socket, which is at most 107 bytes long, is relative to the data directory.
const OPTIONS: &str = "--no-defaults --socket=../work/sock --skip-networking --skip-log-bin --event-scheduler=OFF \
     --innodb-buffer-pool-size=128M --innodb-buffer-pool-load-at-startup=OFF --innodb-buffer-pool-dump-at-shutdown=OFF \
     --max-connections=10";
const MARIADB_OPTIONS: &str = "--loose-wsrep-on=OFF";
const MYSQL_OPTIONS: &str = "--gtid-mode=OFF --secure-file-priv=NULL --loose-mysqlx=OFF --loose-persisted-globals-load=OFF \
     --loose-auto-generate-certs=OFF --loose-caching-sha2-password-auto-generate-rsa-keys=OFF \
     --loose-sha256-password-auto-generate-rsa-keys=OFF --loose-mysql-native-password=ON";

pub(super) struct PrivateServer<'a> {
    pub(super) info: &'a DatadirInfo,
    pub(super) data: PathBuf,
    /// Socket, pid, log, temporary files; next to `data`.
    pub(super) work: PathBuf,
    /// What failed when it does not start.
    pub(super) failure: &'static str,
}

impl PrivateServer<'_> {
    pub(super) fn make_work_dir(&self) -> Result<()> {
        remove_tree(&self.work)?;
        make_dir(&self.work, self.info)?;
        make_dir(&self.work.join("tmp"), self.info)
    }

    pub(super) fn start(&self, more: &[String], env: &dyn Environment) -> Result<Running> {
        let mut command = env.program(self.info);
        command.args(OPTIONS.split_whitespace());
        command.args(match self.info.server.flavour {
            Flavour::MariaDb => MARIADB_OPTIONS.split_whitespace(),
            Flavour::MySql => MYSQL_OPTIONS.split_whitespace(),
        });
        let skip = self.info.server.skip_replica_start();
        command.arg(format!("--{}", skip.replace('_', "-")));
        if self.info.uid == 0 {
            command.arg("--user=root"); // refused otherwise
        }
        for (name, path) in [
            ("datadir", &self.data),
            ("tmpdir", &self.work.join("tmp")),
            ("pid-file", &self.work.join("pid")),
            ("log-error", &self.work.join("error.log")),
        ] {
            command.arg(format!("--{name}={}", path.display()));
        }
        for (name, value) in &self.info.options {
            command.arg(format!("--{}={value}", name.replace('_', "-")));
        }
        command.args(more).current_dir(&self.work);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let server = Running::start(&mut command, "the private server")?;
        env.adopt(&server)?;
        Ok(server)
    }

    /// Options for the plugins of the real server with which accounts log in and, with `engines`, tables are read: those that its plugin
    /// directory has.
    pub(super) fn load_plugins(&self, engines: bool) -> Vec<String> {
        let Some(dir) = self.info.option("plugin_dir") else {
            return Vec::new();
        };
        let plugins = &self.info.plugins;
        let wanted = plugins.iter().filter(|p| engines || !p.is_engine);
        let wanted = wanted.map(|p| p.library.as_str());
        let wanted: BTreeSet<&str> = wanted
            .filter(|l| Path::new(dir).join(l).is_file())
            .inserted();
        let option = |library| format!("--plugin-load-add={library}");
        wanted.into_iter().map(option).collect()
    }

    /// Waits until `server` answers, and checks that it is the one on this data directory. `account`: with which login. `refused`: the
    /// error to return for one that occurs meanwhile, if it is not to be waited for. The endpoint is valid as long as the file is open.
    pub(super) fn connect(
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

    pub(super) fn with_log(&self, e: &Error) -> Error {
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

/// A copy on which a server has started, accepted the agent's login, and shut down cleanly. Only this can be swapped in.
#[derive(Debug)]
pub struct VerifiedCopy {
    pub(super) seed: i64,
    /// What was done to the copy, for Details.
    pub notes: String,
}

/// Starts the server's own program on the staged copy, with a small buffer pool; lets crash recovery finish, removes the source's
/// replication channels, disables events, checks the agent's login, and shuts down cleanly. No deadline; a cancellation ends it
/// within seconds. May be repeated. Before it, what does not come from the copy is taken out of it ([`Staged::adapt`]): its metadata
/// file must have been read. An error has the end of the server's error log; nothing of the target's own data was changed.
pub fn trial_start(
    info: &DatadirInfo,
    staged: &Staged,
    account: &config::Mysql,
    env: &dyn Environment,
) -> Result<VerifiedCopy> {
    let option = "--performance-schema=OFF";
    start(info, staged, account, env, option, |_| Ok(())).map(|(copy, ())| copy)
}

/// The same of a copy made by CLONE: its coordinates in its source's binary log can be queried only once a server with the clone
/// plugin has started on it (MySQL 9.7; performance_schema.clone_status is the plugin's table).
pub(crate) fn trial_start_of_clone(
    info: &DatadirInfo,
    staged: &Staged,
    account: &config::Mysql,
    env: &dyn Environment,
) -> Result<(VerifiedCopy, Coordinates)> {
    let option = "--plugin-load-add=mysql_clone.so";
    start(info, staged, account, env, option, clone_status)
}

/// `query` is made before anything is changed.
fn start<T>(
    info: &DatadirInfo,
    staged: &Staged,
    account: &config::Mysql,
    env: &dyn Environment,
    option: &str,
    query: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<(VerifiedCopy, T)> {
    let private = PrivateServer {
        info,
        data: staged.new_dir(),
        work: staged.work_dir(),
        failure: "the copy does not start",
    };
    end_leftovers(&info.staging)?;
    staged.adapt(info)?;
    private.make_work_dir()?;
    env.report("Starting a private server on the copy");
    env.at("trial start")?;
    let mut options = private.load_plugins(false);
    options.push(option.into());
    let server = private.start(&options, env)?;
    let (notes, found) = match prepare_copy(&private, account, &server, env, query) {
        Ok(done) => done,
        Err(e) => {
            // A cancelled start may be in the middle of crash recovery: InnoDB takes no harm from SIGKILL.
            server.end()?;
            return Err(e);
        }
    };
    let exit = shut_down(server, env.cancel())?;
    exit.check().map_err(|e| private.with_log(&e))?;
    remove_tree(&private.work)?;
    sync_dir(&private.data)?;
    let seed = staged.seed;
    Ok((VerifiedCopy { seed, notes }, found))
}

/// All that is done while it runs. Notes, and the result of `query`.
fn prepare_copy<T>(
    private: &PrivateServer,
    account: &config::Mysql,
    server: &Running,
    env: &dyn Environment,
    query: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<(String, T)> {
    let refused = |e: &Error| {
        e.is_permanent().then(|| {
            Error::permanent(format!(
                "the copy brings the source's accounts, and mysql.user = \"{}\" with mysql.password cannot log in to it through a \
                 socket ({e}): create this account on the source, valid for localhost too ('{}'@'%' is)",
                account.user, account.user
            ))
        })
    };
    let login = Endpoint::local(account);
    let (mut conn, _, _work) = private.connect(server, login, STATEMENT, env.cancel(), &refused)?;
    env.report("Preparing the copy for its new place");
    env.cancel().check()?;
    let found = query(&mut conn)?;
    let channels = remove_channels(&mut conn, private.info)?;
    env.cancel().check()?;
    let mut notes = Vec::new();
    if channels > 0 {
        notes.push(format!(
            "{channels} replication channels of the source removed"
        ));
    }
    if account.disable_events_on_target {
        let n = control::disable_events(&mut conn, private.info.server)?;
        notes.push(format!("{n} events disabled"));
    }
    Ok((notes.join(", "), found))
}

fn clone_status(conn: &mut Conn) -> Result<Coordinates> {
    let row: Option<(String, u64, String)> = conn
        .query_first(
            "SELECT BINLOG_FILE, BINLOG_POSITION, GTID_EXECUTED FROM performance_schema.clone_status WHERE STATE = 'Completed'",
        )
        .map_err(|e| failure("the private server", "", &e))?;
    let Some((file, position, gtid)) = row else {
        const NONE: &str = "the copy has no completed CLONE in performance_schema.clone_status";
        return Err(Error::permanent(NONE));
    };
    Coordinates::of_clone_status(&file, position, &gtid)
}

/// A physical copy of a replica starts the source's channels by itself. How many there were.
fn remove_channels(conn: &mut Conn, info: &DatadirInfo) -> Result<usize> {
    let channels = applier::channels(conn, info.server)?;
    if info.server.flavour == Flavour::MySql {
        // Without FOR CHANNEL: all of them.
        control::execute(conn, &format!("RESET {} ALL", info.server.replica()))?;
    } else {
        for channel in &channels {
            control::execute(conn, &info.server.reset_replica_all(&channel.name))?;
        }
    }
    Ok(channels.len())
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
        let load = libraries.iter().map(|l| format!("--plugin-load-add={l}"));
        let server = private.start(&load.collect::<Vec<_>>(), env)?;
        let root = Endpoint {
            user: "root".into(),
            ..Endpoint::default()
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
    matches!(part, Some(Component::Normal(name)) if name == "new" || name == "helper")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadir::info::Plugin;

    #[test]
    fn plugins_that_are_there() {
        let dir = std::env::temp_dir().join(format!("oa-plugin-dir-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut info = DatadirInfo::for_test();
        for (library, is_engine) in [("auth.so", false), ("engine.so", true), ("gone.so", true)] {
            info.plugins.push(Plugin {
                library: library.into(),
                is_engine,
            });
        }
        for library in ["auth.so", "engine.so"] {
            std::fs::write(dir.join(library), "").unwrap();
        }
        let load = |info: &DatadirInfo, engines| {
            let private = PrivateServer {
                info,
                data: PathBuf::new(),
                work: PathBuf::new(),
                failure: "",
            };
            private.load_plugins(engines)
        };
        assert_eq!(load(&info, true), [""; 0], "their directory is not known");
        info.options = vec![("plugin_dir".into(), dir.display().to_string())];
        let auth = "--plugin-load-add=auth.so";
        assert_eq!(load(&info, false), [auth]);
        assert_eq!(load(&info, true), [auth, "--plugin-load-add=engine.so"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

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
