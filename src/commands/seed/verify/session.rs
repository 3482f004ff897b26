//! Sessions for comparing data: the same settings on both servers, statements that can be ended from another session.

use crate::commands::seed::options::Options;
use crate::commands::seed::sql::Db;
use crate::error::{Error, Result};
use crate::mysql::applier::{self, Channel};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect};
use crate::process::Cancel;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

/// How long a statement that was ended by KILL may take to end.
const ENDING: Duration = Duration::from_secs(30);

/// A session whose answers may take as long as `--verify-max-time`. `side` is `source` or `target`.
pub(crate) fn open(side: &str, host: &str, port: u16, o: &Options) -> Result<Db> {
    let mut db = Db::open_for(side, host, port, &o.mysql, o.verify_max_time + ENDING)?;
    prepare(&mut db)?;
    Ok(db)
}

/// Gives a session the settings on which the text of values, and so checksums, depend, and those that would end it or its
/// statements early.
pub(crate) fn prepare(db: &mut Db) -> Result<()> {
    db.run("SET NAMES utf8mb4")?;
    db.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    settings(db.server)
        .into_iter()
        .try_for_each(|setting| db.run(&format!("SET SESSION {setting}")))
}

/// The state of the default channel.
pub(crate) fn applier(target: &mut Db) -> Result<Channel> {
    let found = target.query(applier::applier)?;
    found.ok_or_else(|| Error::permanent("the target's replication channel is gone"))
}

fn settings(server: Server) -> Vec<&'static str> {
    let mut list = vec![
        "time_zone = '+00:00'",
        // DEFAULT is the global value, and a SELECT without a row, or with some, is no error.
        "sql_select_limit = 18446744073709551615",
        "max_join_size = 18446744073709551615",
        // After max_join_size, which resets it.
        "sql_big_selects = 1",
        "sql_safe_updates = 0",
        // The other server may take much longer for the same rows.
        "wait_timeout = 86400",
        // A statement that waits for a metadata lock is repeated later.
        "lock_wait_timeout = 5",
    ];
    match server.flavour {
        Flavour::MariaDb => list.extend([
            "max_statement_time = 0",
            "idle_transaction_timeout = 0",
            "idle_readonly_transaction_timeout = 0",
            "system_versioning_asof = DEFAULT",
            "old_mode = ''",
        ]),
        Flavour::MySql => {
            if server.version >= Version(5, 7, 8) {
                list.push("max_execution_time = 0");
            }
            if server.version >= Version(8, 0, 30) {
                // OFF hides generated primary keys from the list of columns.
                list.push("show_gipk_in_create_table_and_information_schema = 1");
            }
        }
    }
    list
}

/// Runs `work`, and ends the statements of `sessions` (endpoint and number) when the user cancels or `deadline` has come.
/// The statements then fail with error 1317 or another of the server's.
pub(crate) fn interruptible<T>(
    sessions: &[(&Endpoint, u32)],
    deadline: Instant,
    cancel: &Cancel,
    work: impl FnOnce() -> T,
) -> T {
    let (done, finished) = bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            select! {
                recv(finished) -> _ => return,
                recv(cancel.signal()) -> _ => {}
                default(deadline.saturating_duration_since(Instant::now())) => {}
            }
            // Again and again: between two statements the server forgets it.
            while let Err(RecvTimeoutError::Timeout) =
                finished.recv_timeout(Duration::from_millis(300))
            {
                for (at, id) in sessions {
                    // A server that cannot be reached ends the statement by its timeout.
                    if let Ok(mut conn) = connect(at, Duration::from_secs(3)) {
                        let _ = conn.query_drop(format!("KILL QUERY {id}"));
                    }
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}
