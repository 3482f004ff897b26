//! Locks that a tool takes on the source, seen from a second session: who waits behind them, and for how long. A lock that must
//! itself wait blocks all sessions that come after it; it is given up after `common.source-lock-timeout`.

use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, connect, control, query};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use mysql::{Conn, Row};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long queries are waited for before a lock is asked for, and how long a lock is asked for again and again.
pub(crate) const LONG_QUERIES: Duration = Duration::from_secs(300);
/// A query is waited for if it has run for so many seconds; a shorter one ends while the lock is tried again. On MySQL that is only so
/// later: see [`wait_for_long_queries`].
const LONG: u64 = 10;
/// Between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For each query.
const QUERY: Duration = Duration::from_secs(5);
/// How often the source is polled, in the beginning and while sessions wait, and later.
const NEAR: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);
/// How long the beginning is: tools take their locks at once.
const BEGINNING: Duration = Duration::from_secs(10);

/// Statements by which tools take locks, as the server shows them.
const LOCKS: [&str; 5] = [
    "FLUSH ",
    "BACKUP STAGE ",
    "LOCK INSTANCE FOR BACKUP",
    "LOCK TABLES FOR BACKUP",
    "LOCK BINLOG FOR BACKUP",
];
/// What the server shows of a session that waits for such a lock, or behind it (MariaDB 10.11, MySQL 5.6 to 9.7).
const WAITS: [&str; 6] = [
    "Waiting for backup lock",
    "Waiting for global read lock",
    "Waiting for commit lock",
    "Waiting for table flush",
    "Waiting for backup",
    "Waiting for release of readlock",
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    id: u64,
    user: String,
    command: String,
    seconds: u64,
    state: String,
    /// The beginning of its statement, which is never shown: it may hold data.
    statement: String,
}

impl Session {
    fn waits(&self) -> bool {
        WAITS.iter().any(|w| self.state.starts_with(w))
    }

    fn locks(&self, account: &str) -> bool {
        let text = self.statement.trim_start().to_ascii_uppercase();
        self.user == account && LOCKS.iter().any(|l| text.starts_with(l))
    }

    fn works(&self) -> bool {
        matches!(self.command.as_str(), "Query" | "Execute") && !self.statement.is_empty()
    }

    /// `query 17 of user app, an UPDATE, which has run for 312 s`
    fn name(&self) -> String {
        let text = self.statement.trim_start();
        let word = text.split(|c: char| !c.is_ascii_alphabetic()).next();
        let kind = word.unwrap_or_default().to_ascii_uppercase();
        format!(
            "query {} of user {} ({kind}), which has run for {} s",
            self.id, self.user, self.seconds
        )
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The longest time in which a session was seen waiting behind the tool's lock, known to a tenth of a second.
    pub(crate) longest: Duration,
    /// Why the tool's lock was given up, and with it the tool.
    pub(crate) given_up: Option<String>,
}

/// As the record has the time for which writes waited.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.longest.as_secs_f64();
        if seconds > 0.0 {
            write!(
                f,
                "A write on the source was seen blocked by the tool's lock for {seconds:.1} s"
            )
        } else {
            f.write_str("No write on the source was seen blocked by the tool's lock")
        }
    }
}

/// Polls the source in a thread, as long as it lives.
pub(crate) struct LockMonitor {
    stop: Sender<()>,
    thread: JoinHandle<Seen>,
}

impl LockMonitor {
    /// From now on a lock of `server`'s account that has waited for `limit`, with others waiting behind it, is ended together with its
    /// session; `given_up` gets the cause first.
    pub(crate) fn start(
        server: &Endpoint,
        limit: Duration,
        given_up: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let mut source = Polled {
            server: server.clone(),
            conn: None,
            behind: None,
            waiting: None,
            seen: Seen::default(),
        };
        let thread = spawn("source-locks", move || {
            let begin = Instant::now();
            loop {
                source.poll(limit, &given_up);
                let near = begin.elapsed() < BEGINNING || source.behind.is_some();
                let pause = if near { NEAR } else { LATER };
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return source.seen;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it, when the tool has ended.
    pub(crate) fn stop(self) -> Seen {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| {
            log::error!("internal error: the thread that monitors the source's locks panicked");
            Seen::default()
        })
    }
}

/// The source as the monitor's thread polls it.
struct Polled {
    server: Endpoint,
    conn: Option<Conn>,
    /// Since when others wait behind a lock.
    behind: Option<Instant>,
    /// Since when a tool's lock waits with others behind it.
    waiting: Option<Instant>,
    seen: Seen,
}

impl Polled {
    fn poll(&mut self, limit: Duration, given_up: &impl Fn(&str)) {
        let conn = self.conn.take();
        let conn = conn.map_or_else(|| connect(&self.server, QUERY), Ok);
        let polled = conn.and_then(|mut conn| Ok((sessions(&mut conn)?, conn)));
        let (sessions, mut conn) = match polled {
            Ok(polled) => polled,
            Err(e) => return log::debug!("locks on {}: {e}", self.server.name()),
        };
        let account = &self.server.user;
        step(&sessions, account, &mut self.behind, &mut self.waiting);
        let time = |since: Option<Instant>| since.map_or(Duration::ZERO, |s| s.elapsed());
        self.seen.longest = self.seen.longest.max(time(self.behind));
        if time(self.waiting) >= limit && self.seen.given_up.is_none() {
            let why = cause(&sessions, account, limit);
            given_up(&why);
            self.seen.given_up = Some(why);
            for lock in sessions.iter().filter(|s| s.waits() && s.locks(account)) {
                if let Err(e) = control::execute(&mut conn, &format!("KILL {}", lock.id)) {
                    log::warn!("{e}");
                }
            }
        }
        self.conn = Some(conn);
    }
}

fn sessions(conn: &mut Conn) -> Result<Vec<Session>> {
    let rows: Vec<Row> = query::rows(
        conn,
        "SELECT ID, USER, COMMAND, TIME, STATE, LEFT(INFO, 64) FROM information_schema.PROCESSLIST \
         WHERE COMMAND IN ('Query', 'Execute', 'Connect') AND ID <> CONNECTION_ID()",
    )?;
    let session = |row: Row| Session {
        id: query::text(&row, 0).parse().unwrap_or(0),
        user: query::text(&row, 1),
        command: query::text(&row, 2),
        seconds: query::text(&row, 3).parse().unwrap_or(0),
        state: query::text(&row, 4),
        statement: query::text(&row, 5),
    };
    Ok(rows.into_iter().map(session).collect())
}

/// Since when others wait behind a lock, and since when a tool's lock waits with others behind it.
fn step(
    sessions: &[Session],
    account: &str,
    behind: &mut Option<Instant>,
    waiting: &mut Option<Instant>,
) {
    let others = sessions.iter().any(|s| s.waits() && !s.locks(account));
    let lock = sessions.iter().any(|s| s.waits() && s.locks(account));
    let since = |what: bool, since: &mut Option<Instant>| {
        *since = what.then(|| since.unwrap_or_else(Instant::now));
    };
    since(others, behind);
    since(others && lock, waiting);
}

fn cause(sessions: &[Session], account: &str, limit: Duration) -> String {
    let oldest = sessions
        .iter()
        .filter(|s| s.works() && !s.waits() && !s.locks(account))
        .max_by_key(|s| s.seconds);
    let who = oldest.map_or(
        "a session that has locked tables (LOCK TABLES) or runs no statement now".to_string(),
        Session::name,
    );
    format!(
        "the tool's lock on the source had to wait for {:.1} s with writes waiting behind it, and was given up \
         (common.source-lock-timeout); it waited for {who}",
        limit.as_secs_f32()
    )
}

/// Runs a tool that takes its lock before it reads anything. Long queries are waited for without a lock; a lock that is given up is
/// tried again, with growing pauses, for [`LONG_QUERIES`] in all; then the error names the query that it waited for. What was seen of it
/// is returned with the tool's result.
pub(crate) fn with_lock_first<T>(
    ctx: &Context,
    server: &Endpoint,
    limit: Duration,
    run: impl Fn() -> Result<T>,
) -> Result<(T, Seen)> {
    let deadline = Instant::now() + LONG_QUERIES;
    let mut pause = Duration::from_secs(1);
    loop {
        wait_for_long_queries(ctx, server, deadline)?;
        let monitor = LockMonitor::start(server, limit, |_| {})?;
        let result = run();
        let seen = monitor.stop();
        let why = match (result, &seen.given_up) {
            (Ok(done), _) => return Ok((done, seen)),
            (Err(e), Some(why)) if !e.is_cancelled() => why,
            (Err(e), _) => return Err(e),
        };
        if Instant::now() + pause > deadline {
            return Err(Error::permanent(why));
        }
        ctx.report(&format!(
            "Running backup. {why}; trying again in {} s",
            pause.as_secs()
        ));
        if !ctx.cancel().sleep(pause) {
            return Err(Error::cancelled());
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits, without any lock, until no query runs that a global read lock would have to wait for. What is waited for is in the stage's
/// Details. If there is one at `deadline` the lock is tried all the same on MariaDB. On MySQL FLUSH TABLES has closed the tables of
/// such a query when it is killed: who opens them waits for the query (seen with 9.7.4: for 39 s of a query of 40 s). There the query is
/// the error.
pub(crate) fn wait_for_long_queries(
    ctx: &Context,
    server: &Endpoint,
    deadline: Instant,
) -> Result<()> {
    let begin = Instant::now();
    let mut conn = connect(server, QUERY)?;
    let kind = Server::ask(&mut conn)?;
    let mut reported = 0;
    loop {
        let now = Instant::now();
        // For half of the time no query of a second may run.
        let early = now < begin + deadline.saturating_duration_since(begin) / 2;
        let seconds = if early && kind.flavour == Flavour::MySql {
            1
        } else {
            LONG
        };
        let found = sessions(&mut conn)?;
        let Some(long) = found.iter().find(|s| is_long(s, kind, seconds)) else {
            return Ok(());
        };
        if now >= deadline && kind.flavour == Flavour::MariaDb {
            return Ok(());
        }
        if now >= deadline {
            return Err(Error::permanent(format!(
                "{} on the source: the dump's lock would wait for it, and writes to its tables would queue behind the lock; kill it, \
                 or run a new seed later",
                long.name()
            )));
        }
        if reported != long.id {
            reported = long.id;
            ctx.report(&format!(
                "Running backup. Waiting for {} on the source",
                long.name()
            ));
        }
        if !ctx.cancel().sleep(Duration::from_secs(1)) {
            return Err(Error::cancelled());
        }
    }
}

/// A query that has run for `seconds`. MariaDB's read lock does not wait for a SELECT (measured with 10.11.19: `SELECT SLEEP(4)` during
/// FLUSH TABLES WITH READ LOCK).
fn is_long(s: &Session, server: Server, seconds: u64) -> bool {
    let reads = ["SELECT", "SHOW", "WITH"];
    let text = s.statement.trim_start().to_ascii_uppercase();
    let harmless = server.flavour == Flavour::MariaDb && reads.iter().any(|r| text.starts_with(r));
    let own = ["system user", "event_scheduler"].contains(&s.user.as_str());
    s.works() && s.seconds >= seconds && !s.waits() && !harmless && !own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: u64, user: &str, seconds: u64, state: &str, statement: &str) -> Session {
        Session {
            id,
            user: user.into(),
            command: "Query".into(),
            seconds,
            state: state.into(),
            statement: statement.into(),
        }
    }

    #[test]
    fn a_lock_is_given_up_only_if_others_wait_behind_it() {
        let lock = of(
            9,
            "agent",
            3,
            "Waiting for backup lock",
            "FLUSH TABLES WITH READ LOCK",
        );
        let app = of(
            8,
            "app",
            2,
            "Waiting for backup lock",
            "insert into t values (1)",
        );
        let long = of(7, "app", 99, "updating", "update secret set card = 4711");
        let metadata = of(
            6,
            "app",
            2,
            "Waiting for table metadata lock",
            "alter table t",
        );
        // (sessions, others wait, the lock waits with others behind it)
        for (sessions, others, both) in [
            (vec![&long], false, false),
            (vec![&long, &lock], false, false),
            (vec![&long, &lock, &metadata], false, false),
            (vec![&app], true, false),
            (vec![&long, &lock, &app], true, true),
        ] {
            let sessions: Vec<Session> = sessions.into_iter().cloned().collect();
            let (mut behind, mut waiting) = (None, None);
            step(&sessions, "agent", &mut behind, &mut waiting);
            assert_eq!((behind.is_some(), waiting.is_some()), (others, both));
        }
        let text = cause(&[long, lock.clone(), app], "agent", Duration::from_secs(1));
        assert!(
            text.contains("query 7 of user app (UPDATE), which has run for 99 s"),
            "{text}"
        );
        assert!(!text.contains("card"), "{text}");
        let text = cause(&[lock], "agent", Duration::from_secs(1));
        assert!(text.contains("LOCK TABLES"), "{text}");
    }

    #[test]
    fn long_queries_that_a_read_lock_waits_for() {
        let maria = Server::parse("10.11.19-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        for (seconds, statement, server, long) in [
            (9, "UPDATE t SET a = 1", maria, false),
            (10, "UPDATE t SET a = 1", maria, true),
            (10, "select 1", maria, false),
            (10, "select 1", mysql, true),
            (10, "", mysql, false),
        ] {
            let s = of(1, "app", seconds, "executing", statement);
            assert_eq!(is_long(&s, server, LONG), long, "{statement}");
        }
        assert!(is_long(&of(1, "app", 1, "executing", "select 1"), mysql, 1));
        assert!(!is_long(
            &of(1, "system user", 99, "", "UPDATE t SET a = 1"),
            mysql,
            LONG
        ));
    }
}
