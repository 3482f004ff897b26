//! A consistent snapshot of the source with its coordinates, without blocking the source.
//!
//! * MariaDB: `START TRANSACTION WITH CONSISTENT SNAPSHOT` sets the session's status variables `binlog_snapshot_file` and
//!   `binlog_snapshot_position`; no lock.
//! * MySQL with GTIDs: the executed set is read before and after the snapshot is taken. A transaction has a GTID of its own
//!   (`gtid_owned`) from before its commit in the engine until it is in `gtid_executed`; if nothing is owned afterwards and both
//!   sets are equal, then what the snapshot shows is exactly that set. No lock. On a source that never pauses this may not succeed.
//! * Then, and without GTIDs: `FLUSH TABLES WITH READ LOCK` in a session of its own. It is ended by KILL QUERY after
//!   [`LOCK_WAIT`]. A statement that has read a table for long before would make even a lock that was ended hold up all later
//!   users of that table (measured with MySQL 9.7.4), so there must be none when it begins.

use crate::commands::seed::sql::Db;
use crate::error::{Error, Result};
use crate::mysql::applier::Point;
use crate::mysql::{Endpoint, Flavour, connect, quote_text};
use crate::process::Cancel;
use crate::protocol::http_client::shortened;
use crate::sys::thread::lock;
use crossbeam_channel::{RecvTimeoutError, bounded};
use mysql::prelude::Queryable;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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

pub(crate) struct Snapshot {
    pub(crate) point: Point,
    /// The longest time that one attempt has blocked writers of the source; zero without a lock.
    pub(crate) locked: Duration,
}

/// Takes a snapshot in `session`, in place of one that it has. `by_gtid`: its point is to be a GTID position.
pub(crate) fn take(session: &mut Db, by_gtid: bool, cancel: &Cancel) -> Result<Snapshot> {
    if session.server.flavour == Flavour::MariaDb {
        return mariadb(session, by_gtid).map(|point| Snapshot {
            point,
            locked: Duration::ZERO,
        });
    }
    if by_gtid && let Some(set) = without_lock(session, cancel)? {
        return Ok(Snapshot {
            point: Point::Gtid(set),
            locked: Duration::ZERO,
        });
    }
    with_lock(session, by_gtid, cancel)
}

pub(crate) const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

fn mariadb(session: &mut Db, by_gtid: bool) -> Result<Point> {
    session.run(BEGIN)?;
    let (mut file, mut position) = (String::new(), 0);
    for row in session.rows("SHOW STATUS LIKE 'binlog_snapshot_%'")? {
        match row.as_slice() {
            [name, value] if name.eq_ignore_ascii_case("binlog_snapshot_file") => {
                file.clone_from(value);
            }
            [name, value] if name.eq_ignore_ascii_case("binlog_snapshot_position") => {
                position = value.parse().unwrap_or(0);
            }
            _ => {}
        }
    }
    if file.is_empty() || position == 0 {
        return Err(Error::permanent(
            "the source gives no binlog_snapshot_file: its binary log is off (log_bin)",
        ));
    }
    if !by_gtid {
        return Ok(Point::Position(file, position));
    }
    let list = session.value(&format!(
        "SELECT BINLOG_GTID_POS({}, {position})",
        quote_text(&file)
    ))?;
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
        cancel.check()?;
        let before = session.gtid_executed()?;
        session.run(BEGIN)?;
        let owned = session.value("SELECT @@GLOBAL.gtid_owned")?;
        if owned.trim().is_empty() && session.gtid_executed()? == before {
            return Ok(Some(before.to_string()));
        }
        if !cancel.sleep(Duration::from_millis(2)) {
            return Err(Error::cancelled());
        }
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
        if !cancel.sleep(pause) {
            return Err(Error::cancelled());
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
    // Not to be tried once more in another round: the target's applier waits, and writers wait at each attempt.
    Err(Error::permanent(format!(
        "the source's read lock was not granted within {} ms in {LOCK_TRIES} attempts; try again when fewer long \
         transactions run ({last})",
        LOCK_WAIT.as_millis()
    )))
}

/// How far an attempt has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Waiting,
    Granted,
    Ended,
}

/// One attempt. The lock's session is closed on every path; the server closes it as well after one idle second, should this
/// program or the network stop in between.
fn under_lock(session: &mut Db, by_gtid: bool) -> Result<Point> {
    let mut holder = session.another()?;
    holder.run("SET SESSION wait_timeout = 1, lock_wait_timeout = 1")?;
    let (at, id) = holder.handle();
    let mut killer = connect(&at, Duration::from_secs(3))?;
    let state = Mutex::new(Lock::Waiting);
    let (done, finished) = bounded::<()>(0);
    std::thread::scope(|scope| {
        let state = &state;
        scope.spawn(move || {
            if finished.recv_timeout(LOCK_WAIT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            {
                let mut state = lock(state);
                if *state == Lock::Waiting {
                    *state = Lock::Ended;
                    end(&mut killer, &at, &format!("KILL QUERY {id}"));
                }
            }
            if finished.recv_timeout(LOCK_HOLD) == Err(RecvTimeoutError::Timeout) {
                end(&mut killer, &at, &format!("KILL {id}"));
            }
        });
        let result = lock_and_begin(session, &mut holder, by_gtid, state);
        drop(holder);
        drop(done);
        result
    })
}

fn lock_and_begin(
    session: &mut Db,
    holder: &mut Db,
    by_gtid: bool,
    state: &Mutex<Lock>,
) -> Result<Point> {
    let locked = holder.run("FLUSH TABLES WITH READ LOCK");
    {
        let mut state = lock(state);
        if *state == Lock::Waiting {
            *state = Lock::Granted;
        }
        if locked.is_ok() && *state == Lock::Ended {
            return Err(Error::transient(
                "the read lock was ended after it was granted",
            ));
        }
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
        match (row.first(), row.get(1).and_then(|p| p.parse().ok())) {
            (Some(file), Some(position)) => Point::Position(file.clone(), position),
            _ => {
                let text = "the source writes no binary log (log_bin)";
                return Err(Error::permanent(text));
            }
        }
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
pub(crate) fn wait_for_long_statements(session: &mut Db, cancel: &Cancel) -> Result<()> {
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
        if !cancel.sleep(Duration::from_millis(300)) {
            return Err(Error::cancelled());
        }
    }
}
