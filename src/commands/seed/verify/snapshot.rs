//! Sessions for comparing data: the same settings on both servers, statements that can be ended from another session. And a consistent
//! snapshot of the source with its coordinates, without blocking the source:
//! * MariaDB: `START TRANSACTION WITH CONSISTENT SNAPSHOT` sets the session's status variables `binlog_snapshot_file` and
//!   `binlog_snapshot_position`; no lock.
//! * MySQL with GTIDs: the executed set is read before and after the snapshot is taken. A transaction has a GTID of its own
//!   (`gtid_owned`) from before its commit in the engine until it is in `gtid_executed`; if nothing is owned afterwards and both
//!   sets are equal, then what the snapshot shows is exactly that set. No lock. On a source that never pauses this may not succeed.
//! * Then, and without GTIDs: `FLUSH TABLES WITH READ LOCK` in a session of its own. It is ended by KILL QUERY after
//!   [`LOCK_WAIT`]. A statement that has read a table for long before would make even a lock that was ended hold up all later
//!   users of that table (measured with MySQL 9.7.4), so there must be none when it begins.

use crate::commands::seed::options::Options;
use crate::commands::seed::sql::Db;
use crate::error::{Error, Result, shortened};
use crate::mysql::applier::{self, Channel, Point};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, quote_text};
use crate::process::Cancel;
use crate::sys::thread::lock;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use mysql::prelude::Queryable;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a statement that was ended by KILL may take to end.
const ENDING: Duration = Duration::from_secs(30);
/// How long the snapshot without a lock is tried.
const WITHOUT_LOCK: Duration = Duration::from_secs(10);
/// How long the read lock may wait to be granted; writers wait meanwhile.
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// How long it may be held once it is granted.
const LOCK_HOLD: Duration = Duration::from_millis(400);
/// How often it is tried.
const LOCK_TRIES: u32 = 20;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long statements that run for long already are waited for.
const LONG_STATEMENTS: Duration = Duration::from_secs(300);

/// A session whose answers may take as long as `--verify-max-time`. `side` is `source` or `target`.
pub(super) fn open(side: &str, host: &str, port: u16, o: &Options) -> Result<Db> {
    let mut db = Db::open_for(side, host, port, &o.mysql, o.verify_max_time + ENDING)?;
    prepare(&mut db)?;
    Ok(db)
}

/// Gives a session the settings on which the text of values, and so checksums, depend, and those that would end it or its
/// statements early.
pub(super) fn prepare(db: &mut Db) -> Result<()> {
    db.run("SET NAMES utf8mb4")?;
    db.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    settings(db.server)
        .into_iter()
        .try_for_each(|setting| db.run(&format!("SET SESSION {setting}")))
}

/// The state of the default channel.
pub(super) fn applier(target: &mut Db) -> Result<Channel> {
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
pub(super) fn interruptible<T>(
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

pub(super) struct Snapshot {
    pub(super) point: Point,
    /// The longest time that one attempt has blocked writers of the source; zero without a lock.
    pub(super) locked: Duration,
}

/// Takes a snapshot in `session`, in place of one that it has. `by_gtid`: its point is to be a GTID position.
pub(super) fn take(session: &mut Db, by_gtid: bool, cancel: &Cancel) -> Result<Snapshot> {
    let point = if session.server.flavour == Flavour::MariaDb {
        Some(mariadb(session, by_gtid)?)
    } else if by_gtid {
        without_lock(session, cancel)?.map(Point::Gtid)
    } else {
        None
    };
    let locked = Duration::ZERO;
    match point {
        Some(point) => Ok(Snapshot { point, locked }),
        None => with_lock(session, by_gtid, cancel),
    }
}

pub(super) const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

fn mariadb(session: &mut Db, by_gtid: bool) -> Result<Point> {
    session.run(BEGIN)?;
    let mut status = |name: &str| {
        let row = session.row(&format!("SHOW STATUS LIKE 'binlog_snapshot_{name}'"));
        row.map(|row| row.into_iter().nth(1).unwrap_or_default())
    };
    let (file, position) = (status("file")?, status("position")?);
    let position = position.parse().unwrap_or(0);
    if file.is_empty() || position == 0 {
        return Err(Error::permanent(
            "the source gives no binlog_snapshot_file: its binary log is off (log_bin)",
        ));
    }
    if !by_gtid {
        return Ok(Point::Position(file, position));
    }
    let name = quote_text(&file);
    let list = session.value(&format!("SELECT BINLOG_GTID_POS({name}, {position})"))?;
    if list.is_empty() {
        return Err(Error::permanent(format!(
            "the source gives no GTID position for {file}:{position}"
        )));
    }
    Ok(Point::Gtid(list))
}

fn without_lock(session: &mut Db, cancel: &Cancel) -> Result<Option<String>> {
    let begin = Instant::now();
    while begin.elapsed() < WITHOUT_LOCK {
        let before = session.gtid_executed()?;
        session.run(BEGIN)?;
        let owned = session.value("SELECT @@GLOBAL.gtid_owned")?;
        if owned.trim().is_empty() && session.gtid_executed()? == before {
            return Ok(Some(before.to_string()));
        }
        cancel.pause(Duration::from_millis(2))?;
    }
    Ok(None)
}

fn with_lock(session: &mut Db, by_gtid: bool, cancel: &Cancel) -> Result<Snapshot> {
    let mut pause = Duration::from_millis(100);
    let mut locked = Duration::ZERO;
    let mut last = String::new();
    for _ in 0..LOCK_TRIES {
        wait_for_long_statements(session, cancel)?;
        let begin = Instant::now();
        let tried = under_lock(session, by_gtid);
        locked = locked.max(begin.elapsed());
        match tried {
            Ok(point) => return Ok(Snapshot { point, locked }),
            Err(e) if e.is_transient() => last = e.to_string(),
            Err(e) => return Err(e),
        }
        cancel.pause(pause)?;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
    // Not to be tried once more in another round: the target's applier waits, and writers wait at each attempt.
    Err(Error::permanent(format!(
        "the source's read lock was not granted within {} ms in {LOCK_TRIES} attempts; try again when fewer long \
         transactions run ({last})",
        LOCK_WAIT.as_millis()
    )))
}

/// One attempt. The lock's session is closed on every path; the server closes it as well after one idle second, should this
/// program or the network stop in between.
fn under_lock(session: &mut Db, by_gtid: bool) -> Result<Point> {
    let mut holder = session.another()?;
    holder.run("SET SESSION wait_timeout = 1, lock_wait_timeout = 1")?;
    let (at, id) = holder.handle();
    let mut killer = connect(&at, Duration::from_secs(3))?;
    // Set when the lock is granted, or when its statement is ended.
    let decided = Mutex::new(false);
    let (done, finished) = bounded::<()>(0);
    std::thread::scope(|scope| {
        let decided = &decided;
        scope.spawn(move || {
            if finished.recv_timeout(LOCK_WAIT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            {
                let mut decided = lock(decided);
                if !std::mem::replace(&mut *decided, true) {
                    end(&mut killer, &at, &format!("KILL QUERY {id}"));
                }
            }
            if finished.recv_timeout(LOCK_HOLD) == Err(RecvTimeoutError::Timeout) {
                end(&mut killer, &at, &format!("KILL {id}"));
            }
        });
        let result = lock_and_begin(session, &mut holder, by_gtid, decided);
        drop(holder);
        drop(done);
        result
    })
}

fn lock_and_begin(
    session: &mut Db,
    holder: &mut Db,
    by_gtid: bool,
    decided: &Mutex<bool>,
) -> Result<Point> {
    let locked = holder.run("FLUSH TABLES WITH READ LOCK");
    let ended = std::mem::replace(&mut *lock(decided), true);
    if locked.is_ok() && ended {
        return Err(Error::transient(
            "the read lock was ended after it was granted",
        ));
    }
    locked.map_err(|e| match e.mysql_code() {
        // Ended by KILL, or waited for longer than lock_wait_timeout.
        Some(1317 | 1205) | None => e.passing(),
        Some(_) => e,
    })?;
    session.run(BEGIN)?;
    let point = if by_gtid {
        Point::Gtid(holder.gtid_executed()?.to_string())
    } else {
        let row = holder.row(holder.server.binlog_status())?;
        let point = row.first().zip(row.get(1).and_then(|p| p.parse().ok()));
        let point = point.map(|(file, position)| Point::Position(file.clone(), position));
        point.ok_or_else(|| Error::permanent("the source writes no binary log (log_bin)"))?
    };
    // Only a lock that is still there has kept writers out all the time.
    holder.run("UNLOCK TABLES").map_err(Error::passing)?;
    Ok(point)
}

/// Ends a statement or a session; by a new connection if the one that was made before is gone.
fn end(killer: &mut mysql::Conn, at: &Endpoint, statement: &str) {
    // 1094: it has ended by itself.
    if let Err(mysql::Error::MySqlError(_)) | Ok(()) = killer.query_drop(statement) {
        return;
    }
    if let Ok(mut conn) = connect(at, Duration::from_secs(3)) {
        let _ = conn.query_drop(statement);
    }
}

/// Statements of others that have run for 200 ms or more, the longest first: number of the connection, account, seconds, text.
/// The list of connections counts whole seconds only, and serves where performance_schema is off.
const LONG: [&str; 2] = [
    "SELECT t.PROCESSLIST_ID, t.PROCESSLIST_USER, ROUND(e.TIMER_WAIT / 1e12, 1), LEFT(e.SQL_TEXT, 100) \
     FROM performance_schema.threads t JOIN performance_schema.events_statements_current e USING (THREAD_ID) \
     WHERE t.TYPE = 'FOREGROUND' AND t.PROCESSLIST_COMMAND IN ('Query', 'Execute') AND t.PROCESSLIST_ID <> CONNECTION_ID() \
     AND e.END_EVENT_ID IS NULL AND e.TIMER_WAIT >= 2e11 ORDER BY e.TIMER_WAIT DESC LIMIT 1",
    "SELECT ID, USER, TIME, LEFT(INFO, 100) FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute') \
     AND TIME >= 1 AND ID <> CONNECTION_ID() AND USER <> 'system user' ORDER BY TIME DESC LIMIT 1",
];

/// Waits, without a lock, until no statement has run for long; the error names one that does not end.
pub(super) fn wait_for_long_statements(session: &mut Db, cancel: &Cancel) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut found = Vec::new();
        for query in LONG {
            if found.is_empty() {
                found = session.row(query)?;
            }
        }
        let [id, user, time, statement] = found.as_slice() else {
            return Ok(());
        };
        if begin.elapsed() >= LONG_STATEMENTS {
            return Err(Error::permanent(format!(
                "a statement has run on the source for {time} s (connection {id} of {user}: {}); with a read lock it would block \
                 all others that use its tables",
                shortened(statement)
            )));
        }
        cancel.pause(Duration::from_millis(300))?;
    }
}
