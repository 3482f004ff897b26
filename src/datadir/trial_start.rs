//! The trial start: a private server on the staged copy, before anything of the target is changed.

use super::cleanup::remove_tree;
use super::environment::Environment;
use super::info::DatadirInfo;
use super::private_server::{PrivateServer, end_leftovers, shut_down};
use super::staging::Staged;
use crate::config;
use crate::coordinates::{self, Coordinates};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, control, failure, quote_text};
use crate::process::Running;
use crate::sys::file::sync_dir;
use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Row};
use std::time::Duration;

/// For each statement to the private server: RESET REPLICA ALL deletes relay logs.
const STATEMENT: Duration = Duration::from_secs(600);

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
/// file must have been read.
///
/// # Errors
/// With the end of the server's error log. Nothing of the target's own data was changed.
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
    let server = private.start(&[option.into()], env)?;
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

/// The coordinates of a cloned copy in its source's binary log.
fn clone_status(conn: &mut Conn) -> Result<Coordinates> {
    let row: Option<(String, u64, String)> = conn
        .query_first(
            "SELECT BINLOG_FILE, BINLOG_POSITION, GTID_EXECUTED FROM performance_schema.clone_status WHERE STATE = 'Completed'",
        )
        .map_err(|e| failure("the private server", "", &e))?;
    let (file, position, gtid) = row.ok_or_else(|| {
        Error::permanent("the copy has no completed CLONE in performance_schema.clone_status")
    })?;
    coordinates::clone::parse(&file, position, &gtid)
}

/// A physical copy of a replica starts the source's channels by itself. How many there were.
fn remove_channels(conn: &mut Conn, info: &DatadirInfo) -> Result<usize> {
    let rows: Vec<Row> = conn
        .query(info.server.replica_status())
        .map_err(|e| failure("the private server", "", &e))?;
    match info.server.flavour {
        Flavour::MariaDb => {
            for row in &rows {
                let name: Option<String> = row.get("Connection_name");
                let name = quote_text(&name.unwrap_or_default());
                control::execute(conn, &format!("RESET SLAVE {name} ALL"))?;
            }
        }
        // Without FOR CHANNEL: all of them.
        Flavour::MySql => {
            control::execute(conn, &format!("RESET {} ALL", info.server.replica()))?;
        }
    }
    Ok(rows.len())
}
