//! The proof start (DESIGN 4.4): a private server on the staged copy, before anything of the target is touched.

use super::facts::Facts;
use super::leftover;
use super::service::Surroundings;
use super::staging::{Staged, make_dir};
use super::tidy;
use crate::config;
use crate::coordinates;
use crate::coordinates::Coordinates;
use crate::error::{Error, Result};
use crate::mysql::messages::last_errors;
use crate::mysql::{Endpoint, Flavour, Version, connect, control, failure, quote_text};
use crate::process::{Cancel, Exit, Running, signal_group};
use crate::sys::process::Signal;
use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Row};
use crossbeam_channel::select;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// For each statement to the private server: RESET REPLICA ALL deletes relay logs.
const STATEMENT: Duration = Duration::from_secs(600);

/// What is said of a copy on which no server starts.
const NO_START: &str = "the copy does not start";

/// A copy that has been seen to start, to let the agent in, and to stop in good order. Only this can be swapped in.
#[derive(Debug)]
pub struct Proven {
    seed: i64,
    /// What was done to the copy, for Details.
    pub notes: String,
}

impl Proven {
    /// Whose copy.
    pub fn seed(&self) -> i64 {
        self.seed
    }

    #[cfg(test)]
    pub(super) fn for_test(seed: i64) -> Self {
        let notes = String::new();
        Self { seed, notes }
    }
}

/// Starts the server's own program on the staged copy: without network, binary log, replication and events, with a small
/// buffer pool; lets crash recovery finish, forgets the source's replication channels, disables events, proves the agent's
/// account, and shuts down in good order. No deadline; a cancellation ends it within seconds. May be repeated. Before it, what
/// does not come from the copy is taken out of it ([`Staged::settle`]): its metadata file must have been read.
///
/// # Errors
/// With the end of the server's error log. Nothing of the target's own data was touched.
pub fn proof_start(
    facts: &Facts,
    staged: &Staged,
    account: &config::Mysql,
    outside: &dyn Surroundings,
) -> Result<Proven> {
    start(
        facts,
        staged,
        account,
        outside,
        &mut |_| Ok(()),
        &["--performance-schema=OFF"],
    )
}

/// The same of a copy that a server has made by CLONE: it says where it stands in its source's binary log only when a server with
/// the clone plugin has started on it (MySQL 9.7; performance_schema.clone_status is the plugin's table).
///
/// # Errors
/// The same; no coordinates.
pub fn proof_start_of_clone(
    facts: &Facts,
    staged: &Staged,
    account: &config::Mysql,
    outside: &dyn Surroundings,
) -> Result<(Proven, Coordinates)> {
    let mut found = None;
    let mut ask = |conn: &mut Conn| {
        found = Some(clone_status(conn)?);
        Ok(())
    };
    let more = ["--plugin-load-add=mysql_clone.so"];
    let proven = start(facts, staged, account, outside, &mut ask, &more)?;
    let found = found.ok_or_else(|| Error::permanent("internal: nobody was asked"))?;
    Ok((proven, found))
}

/// `ask` is asked before anything is changed.
fn start(
    facts: &Facts,
    staged: &Staged,
    account: &config::Mysql,
    outside: &dyn Surroundings,
    ask: &mut dyn FnMut(&mut Conn) -> Result<()>,
    more: &[&str],
) -> Result<Proven> {
    leftover::end(&facts.staging)?;
    staged.settle(facts)?;
    let work = staged.work_dir();
    tidy::remove_tree(&work)?;
    make_dir(&work, facts)?;
    make_dir(&work.join("tmp"), facts)?;
    outside.report("Starting a private server on the copy");
    outside.at("proof start")?;
    let mut command = outside.program(facts);
    command
        .args(arguments(facts, &staged.new_dir(), &work))
        .args(more)
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let server = Running::start(&mut command, "the private server")?;
    outside.adopt(&server)?;
    let notes = match use_it(
        facts,
        (&staged.new_dir(), &work),
        account,
        &server,
        outside,
        ask,
    ) {
        Ok(notes) => notes,
        Err(e) => {
            // A cancelled start may be in the middle of crash recovery: InnoDB takes no harm from SIGKILL.
            server.end()?;
            return Err(e);
        }
    };
    let exit = shut_down(server, outside.cancel())?;
    exit.check().map_err(|e| with_log(&work, NO_START, &e))?;
    tidy::remove_tree(&work)?;
    super::journal::sync_dir(&staged.new_dir())?;
    Ok(Proven {
        seed: staged.seed,
        notes,
    })
}

/// Of a private server on `data`; its socket is `work/sock` beside that.
pub(super) fn arguments(facts: &Facts, data: &Path, work: &Path) -> Vec<String> {
    let maria = facts.server.flavour == Flavour::MariaDb;
    let from = |a, b, c| !maria && facts.server.version >= Version(a, b, c);
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
    let more: &[&str] = match facts.server.flavour {
        Flavour::MariaDb => &["--skip-slave-start", "--loose-wsrep-on=OFF"],
        Flavour::MySql => &[
            "--gtid-mode=OFF",
            "--secure-file-priv=NULL",
            "--loose-mysqlx=OFF",
            "--loose-persisted-globals-load=OFF",
            "--loose-auto-generate-certs=OFF",
            "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
            "--loose-sha256-password-auto-generate-rsa-keys=OFF",
        ],
    };
    all.extend(more.iter().map(|o| (*o).to_string()));
    if !maria {
        let start = if from(8, 0, 26) { "replica" } else { "slave" };
        all.push(format!("--skip-{start}-start"));
    }
    if facts.uid == 0 {
        all.push("--user=root".into()); // refused otherwise
    }
    all.push(format!("--datadir={}", data.display()));
    all.push(format!("--tmpdir={}", work.join("tmp").display()));
    all.push(format!("--pid-file={}", work.join("pid").display()));
    all.push(format!("--log-error={}", work.join("error.log").display()));
    for (name, value) in &facts.options {
        all.push(format!("--{}={value}", name.replace('_', "-")));
    }
    all
}

/// All that is done while it runs.
fn use_it(
    facts: &Facts,
    (data, work): (&Path, &Path),
    account: &config::Mysql,
    server: &Running,
    outside: &dyn Surroundings,
    ask: &mut dyn FnMut(&mut Conn) -> Result<()>,
) -> Result<String> {
    let place = File::open(work).map_err(|e| Error::io(work.display(), &e))?;
    let endpoint = Endpoint {
        socket: format!("/proc/self/fd/{}/sock", place.as_raw_fd()),
        ..Endpoint::local(account)
    };
    let mut conn = loop {
        match connect(&endpoint, STATEMENT) {
            Ok(conn) => break conn,
            Err(e) if e.is_permanent() => return Err(refused(account, &e)),
            Err(_) => {}
        }
        select! {
            recv(server.exited()) -> _ => {
                return Err(with_log(work, NO_START, &Error::permanent("the private server ended before it answered")));
            }
            recv(outside.cancel().signal()) -> _ => return Err(Error::cancelled()),
            default(Duration::from_millis(100)) => {}
        }
    };
    outside.report("Preparing the copy for its new place");
    outside.cancel().check()?;
    works_in(&mut conn, data)?;
    ask(&mut conn)?;
    let channels = forget_channels(&mut conn, facts)?;
    outside.cancel().check()?;
    let mut notes = Vec::new();
    if channels > 0 {
        notes.push(format!(
            "{channels} replication channels of the source forgotten"
        ));
    }
    if account.disable_events_on_target {
        let n = control::disable_events(&mut conn, facts.server)?;
        notes.push(format!("{n} events disabled"));
    }
    Ok(notes.join(", "))
}

/// That the private server is the one that was started on `data`.
pub(super) fn works_in(conn: &mut Conn, data: &Path) -> Result<()> {
    let said: Option<String> = conn
        .query_first("SELECT @@datadir")
        .map_err(|e| failure("the private server", "", &e))?;
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let said = said.unwrap_or_default();
    if real(Path::new(&said)).is_some_and(|r| Some(r) == real(data)) {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the server that answers on the private server's socket has the data directory {said}, not {}",
        data.display()
    )))
}

/// Where a cloned copy stands in its source's binary log.
fn clone_status(conn: &mut Conn) -> Result<Coordinates> {
    let row: Option<(String, u64, String)> = conn
        .query_first(
            "SELECT BINLOG_FILE, BINLOG_POSITION, GTID_EXECUTED FROM performance_schema.clone_status WHERE STATE = 'Completed'",
        )
        .map_err(|e| failure("the private server", "", &e))?;
    let (file, position, gtid) =
        row.ok_or_else(|| Error::permanent("the copy does not say that its CLONE was completed"))?;
    coordinates::clone::parse(&file, position, &gtid)
}

/// A physical copy of a replica starts the source's channel by itself. How many there were.
fn forget_channels(conn: &mut Conn, facts: &Facts) -> Result<usize> {
    let rows: Vec<Row> = conn
        .query(facts.server.replica_status())
        .map_err(|e| failure("the private server", "", &e))?;
    match facts.server.flavour {
        Flavour::MariaDb => {
            for row in &rows {
                let name: Option<String> = row.get("Connection_name");
                let name = quote_text(&name.unwrap_or_default());
                control::execute(conn, &format!("RESET SLAVE {name} ALL"))?;
            }
        }
        // Without FOR CHANNEL: all of them.
        Flavour::MySql => {
            control::execute(conn, &format!("RESET {} ALL", facts.server.replica()))?;
        }
    }
    Ok(rows.len())
}

fn refused(account: &config::Mysql, e: &Error) -> Error {
    Error::permanent(format!(
        "the copy brings the source's accounts, and mysql.user = \"{}\" with mysql.password cannot log in to it through a socket \
         ({e}): create this account on the source, valid for localhost too ('{}'@'%' is)",
        account.user, account.user
    ))
}

/// SIGTERM, and as long as it takes: a server that writes its pages must not be killed. Cancelled, it is.
pub(super) fn shut_down(server: Running, cancel: &Cancel) -> Result<Exit> {
    let group = i32::try_from(server.group()).map_err(|e| Error::permanent(e.to_string()))?;
    signal_group(group, Signal::Term).map_err(|e| Error::io("the private server", &e))?;
    select! {
        recv(server.exited()) -> _ => server.finish(),
        recv(cancel.signal()) -> _ => {
            server.end()?;
            Err(Error::cancelled())
        }
    }
}

/// With the last errors of its log.
pub(super) fn with_log(work: &Path, what: &str, e: &Error) -> Error {
    let log = std::fs::read(work.join("error.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    Error::permanent(format!("{what}: {e}; its error log: {}", last_errors(&log)))
}
