//! `seed --verify`: the data of source and target are compared while the source is written to.

use super::by_command::Pair;
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::mysqld::{Mysql56Kind, MysqldKind};
use crate::support::schema::Schema;
use crate::support::server::{Kind, Server};
use crate::support::{binary, wait_for};
use mysql::prelude::Queryable;
use orchestrator_agent::sys::host::rfc3339;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Inserts all the time into a table of the source and measures how long each waits.
struct Ticks {
    stop: Arc<AtomicBool>,
    longest_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Ticks {
    fn start<K: Kind>(db: &Server<K>) -> Self {
        db.sql("CREATE DATABASE IF NOT EXISTS running");
        db.sql("CREATE TABLE running.numbers (n BIGINT NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT NOW(6)) ENGINE=InnoDB");
        db.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
        db.sql("SET GLOBAL sync_binlog = 0");
        let mut conn = db.root();
        let (stop, longest_ms) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (s, l) = (Arc::clone(&stop), Arc::clone(&longest_ms));
        let thread = std::thread::spawn(move || {
            let mut n = 0;
            while !s.load(Ordering::Relaxed) {
                n += 1;
                let begin = Instant::now();
                conn.query_drop(format!("INSERT INTO running.numbers (n) VALUES ({n})"))
                    .expect("the writer writes");
                let took = u64::try_from(begin.elapsed().as_millis()).expect("short");
                l.fetch_max(took, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        Self {
            stop,
            longest_ms,
            thread: Some(thread),
        }
    }

    fn reset(&self) {
        self.longest_ms.store(0, Ordering::Relaxed);
    }

    fn assert_no_wait(&self, what: &str) {
        let longest = self.longest_ms.load(Ordering::Relaxed);
        println!("{what}: longest INSERT on the source {longest} ms");
        assert!(longest <= 1000, "{what}: an INSERT waited {longest} ms");
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.expect("kill").success());
}

/// A `seed --json` under way.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    schema: Schema,
    seen: Vec<Value>,
}

impl Running {
    fn start<K: Kind>(pair: &Pair<K>, more: &[&str]) -> Self {
        let account = pair.account();
        let tokens =
            [&pair.source, &pair.target].map(|a| a.dir.join("token").display().to_string());
        let mut words: Vec<&str> = account.iter().map(String::as_str).collect();
        words.extend(["--json", "--force", "--source-token-file", &tokens[0]]);
        words.extend(["--target-token-file", &tokens[1]]);
        words.extend_from_slice(more);
        let mut child = pair
            .command(&words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("seed runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self {
            child,
            lines,
            schema: Schema::load(),
            seen: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("a line");
        println!("{line}");
        let v = self.schema.check(&line);
        self.seen.push(v.clone());
        Some(v)
    }

    fn until(&mut self, wanted: impl Fn(&Value) -> bool) {
        loop {
            let v = self.next().expect("the event comes before the end");
            if wanted(&v) {
                return;
            }
        }
    }

    /// Does `work` right after replication was connected and checked, before anything is compared.
    fn before_verification(&mut self, work: impl FnOnce()) {
        self.until(|v| v["event"] == "stage_completed" && v["stage"] == "ConnectSlave");
        signal(&self.child, "-STOP");
        work();
        let now = rfc3339(SystemTime::now());
        signal(&self.child, "-CONT");
        self.until(|v| v["event"] == "compare_started");
        let at = self.seen.last().expect("just seen")["time"].to_string();
        assert!(at.trim_matches('"') >= now.as_str(), "{at} {now}");
    }

    /// Exit code, what came of the comparison, and the result.
    fn end(mut self) -> (Option<i32>, Value, Value) {
        while self.next().is_some() {}
        let code = self.child.wait().expect("it ends").code();
        let of = |event: &str| self.seen.iter().find(|v| v["event"] == event).cloned();
        let result = of("result").expect("result");
        assert_eq!(result["exit_code"].as_i64(), code.map(i64::from));
        (code, of("compare_completed").unwrap_or_default(), result)
    }
}

fn names(v: &Value) -> Vec<String> {
    let list = v.as_array().expect("an array");
    list.iter()
        .map(|n| n.as_str().expect("a name").to_string())
        .collect()
}

/// A table, its columns, its rows, what damages it on the target, and what the reason must say.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const CASES: [Case; 24] = [
    (
        "changed",
        "id INT PRIMARY KEY, v INT",
        "(1, 1), (2, 2)",
        "UPDATE dam.changed SET v = 3 WHERE id = 2",
        "other values",
    ),
    (
        "missing",
        "id INT PRIMARY KEY, v INT",
        "(1, 1), (2, 2)",
        "DELETE FROM dam.missing WHERE id = 2",
        "2 rows on the source, 1 on",
    ),
    (
        "added",
        "id INT PRIMARY KEY, v INT",
        "(1, 1), (2, 2)",
        "INSERT INTO dam.added VALUES (-7, 1)",
        "2 rows on the source, 3 on",
    ),
    (
        "float_bit",
        "id INT PRIMARY KEY, v FLOAT",
        "(1, 0.1)",
        "UPDATE dam.float_bit SET v = 0.10000000894069672",
        "other values",
    ),
    (
        "double_bit",
        "id INT PRIMARY KEY, v DOUBLE",
        "(1, 0.1)",
        "UPDATE dam.double_bit SET v = 0.10000000000000002",
        "other values",
    ),
    (
        "double_shown",
        "id INT PRIMARY KEY, v DOUBLE(10,2)",
        "(1, 0.25)",
        "UPDATE dam.double_shown SET v = -0.25",
        "other values",
    ),
    (
        "letter_case",
        "id INT PRIMARY KEY, v VARCHAR(20)",
        "(1, 'Text')",
        "UPDATE dam.letter_case SET v = 'text'",
        "other values",
    ),
    (
        "trailing",
        "id INT PRIMARY KEY, v VARCHAR(20)",
        "(1, 'a')",
        "UPDATE dam.trailing SET v = 'a '",
        "other values",
    ),
    (
        "null_empty",
        "id INT PRIMARY KEY, v VARCHAR(20)",
        "(1, NULL)",
        "UPDATE dam.null_empty SET v = ''",
        "other values",
    ),
    (
        "null_dash",
        "id INT PRIMARY KEY, v TEXT",
        "(1, NULL)",
        "UPDATE dam.null_dash SET v = '-'",
        "other values",
    ),
    (
        "twice",
        "v INT",
        "(1), (2), (2)",
        "INSERT INTO dam.twice VALUES (1), (1)",
        "3 rows on the source, 5 on",
    ),
    (
        "other_twice",
        "v INT",
        "(1), (2), (2)",
        "UPDATE dam.other_twice SET v = IF(v = 1, 2, 1)",
        "other values",
    ),
    (
        "moved",
        "id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9)",
        "(1, 'x,1:', 'y')",
        "UPDATE dam.moved SET a = 'x', b = '1:,y'",
        "other values",
    ),
    (
        "blob_end",
        "id INT PRIMARY KEY, v LONGBLOB",
        "(1, REPEAT('x', 100000))",
        "UPDATE dam.blob_end SET v = CONCAT(LEFT(v, 99999), 'y')",
        "other values",
    ),
    (
        "microsecond",
        "id INT PRIMARY KEY, v DATETIME(6)",
        "(1, '2024-01-02 03:04:05.123456')",
        "UPDATE dam.microsecond SET v = '2024-01-02 03:04:05.123457'",
        "other values",
    ),
    (
        "stamp",
        "id INT PRIMARY KEY, v TIMESTAMP NULL",
        "(1, '2024-01-02 03:04:05')",
        "UPDATE dam.stamp SET v = '2024-01-02 03:04:06'",
        "other values",
    ),
    (
        "bits",
        "id INT PRIMARY KEY, v BIT(64)",
        "(1, b'1')",
        "UPDATE dam.bits SET v = b'1000000000000000000000000000000000000000000000000000000000000001'",
        "other values",
    ),
    (
        "one_of",
        "id INT PRIMARY KEY, v ENUM('a', 'A', '')COLLATE utf8mb4_bin",
        "(1, 'a')",
        "UPDATE dam.one_of SET v = 'A'",
        "other values",
    ),
    (
        "digits",
        "id INT PRIMARY KEY, v DECIMAL(65,30)",
        "(1, 0.000000000000000000000000000001)",
        "UPDATE dam.digits SET v = 0.000000000000000000000000000002",
        "other values",
    ),
    (
        "place",
        "id INT PRIMARY KEY, v POINT",
        "(1, ST_GeomFromText('POINT(1 2)'))",
        "UPDATE dam.place SET v = ST_GeomFromText('POINT(1 2)', 3857)",
        "other values",
    ),
    (
        "form",
        "id INT PRIMARY KEY, v JSON",
        "(1, '{\"a\": 1}')",
        "REPLACE INTO dam.form VALUES (1, '{\"a\": 1.0}')",
        "other values",
    ),
    (
        "accent",
        "id INT PRIMARY KEY, v CHAR(9) CHARACTER SET latin1",
        "(1, 'e')",
        "UPDATE dam.accent SET v = CONVERT(X'E9' USING latin1)",
        "other values",
    ),
    (
        "altered",
        "id INT PRIMARY KEY, v INT",
        "(1, 1)",
        "ALTER TABLE dam.altered MODIFY v BIGINT",
        "definition: column v int on the source, v bigint",
    ),
    (
        "dropped",
        "id INT PRIMARY KEY, v INT",
        "(1, 1)",
        "DROP TABLE dam.dropped",
        "missing on the target",
    ),
];

fn fill<K: Kind>(db: &Server<K>) {
    fill_with(db, &CASES);
    db.sql(
        "CREATE TABLE dam.zero (a FLOAT, b DOUBLE(8,1), c INT AS (1) VIRTUAL, d INT AS (2) STORED)",
    );
    db.sql("INSERT INTO dam.zero (a, b) VALUES (0e0, 0e0), (NULL, NULL)");
}

fn fill_with<K: Kind>(db: &Server<K>, cases: &[Case]) {
    db.sql("CREATE DATABASE dam");
    for (name, columns, rows, ..) in cases {
        db.sql(&format!(
            "CREATE TABLE dam.{name} ({columns}) ENGINE=InnoDB"
        ));
        db.sql(&format!("INSERT INTO dam.{name} VALUES {rows}"));
    }
    db.sql("CREATE TABLE dam.old_engine (id INT PRIMARY KEY) ENGINE=MyISAM");
    db.sql("CREATE VIEW dam.view AS SELECT 1 AS n");
}

/// Global values, which a session begins with, that would hide differences.
const HOSTILE: [&str; 6] = [
    "sql_select_limit = 3",
    "group_concat_max_len = 4",
    "sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
    "time_zone = '+05:30'",
    "div_precision_increment = 0",
    "lc_time_names = 'de_DE'",
];

/// Each damage is found and named, and nothing else is, with [`HOSTILE`] and `more` settings on both servers.
fn damages<K: Kind>(pair: &Pair<K>, special: &[(&str, &str)], more: &[&str]) {
    damages_of(pair, "auto", &CASES, special, more);
}

fn damages_of<K: Kind>(
    pair: &Pair<K>,
    method: &str,
    cases: &[Case],
    special: &[(&str, &str)],
    more: &[&str],
) {
    let hostile = || HOSTILE.iter().chain(more);
    let mut running = Running::start(pair, &["--verify", "--method", method]);
    running.before_verification(|| {
        for (name, .., damage, _) in cases {
            println!("{name}");
            pair.target_db.unlogged(damage);
        }
        for (_, damage) in special {
            pair.target_db.unlogged(damage);
        }
        for db in [&pair.source_db, &pair.target_db] {
            hostile().for_each(|setting| db.unlogged(&format!("SET GLOBAL {setting}")));
        }
    });
    let (code, compared, result) = running.end();
    for db in [&pair.source_db, &pair.target_db] {
        let mut conn = db.root();
        conn.query_drop(
            "SET SESSION sql_log_bin = 0, sql_big_selects = 1, sql_select_limit = 1000",
        )
        .expect("session");
        for setting in hostile() {
            let (variable, _) = setting.split_once(" = ").expect("a value");
            conn.query_drop(format!("SET GLOBAL {variable} = DEFAULT"))
                .expect(variable);
        }
    }
    assert_eq!(code, Some(4));
    let mut wanted: Vec<String> = cases
        .iter()
        .map(|c| format!("dam.{}", c.0))
        .chain(special.iter().map(|s| s.0.to_string()))
        .collect();
    wanted.sort();
    assert_eq!(names(&compared["differing"]), wanted);
    assert_eq!(names(&compared["left_out"]), ["dam.old_engine"]);
    assert_eq!(compared["not_compared"], json!([]));
    let reasons = names(&compared["reasons"]);
    for (name, .., reason) in cases {
        let of = |r: &&String| r.starts_with(&format!("dam.{name}: "));
        let found = reasons.iter().find(of).expect(name);
        assert!(found.contains(reason), "{found}");
    }
    let text = result["error"].as_str().expect("text");
    assert!(text.contains(&format!("DIFFER: {} (", wanted[0])), "{text}");
    let more = format!("and {} more", wanted.len().saturating_sub(10));
    assert_eq!(text.contains(&more), wanted.len() > 10, "{text}");
    assert_eq!(
        (
            &result["status"],
            &result["verified"],
            &result["target_state"]
        ),
        (&json!("differs"), &json!("differs"), &json!("replicating"))
    );
}

/// Nothing was damaged, and the applier is as it was. Returns the points.
fn equal<K: Kind>(pair: &Pair<K>, more: &[&str], before: impl FnOnce()) -> Vec<Value> {
    let mut running = Running::start(pair, &[&["--verify"], more].concat());
    running.before_verification(before);
    running.until(|v| v["event"] == "compare_completed");
    let points = running
        .seen
        .iter()
        .filter(|v| v["event"] == "compare_point");
    let points = points.cloned().collect();
    let (code, compared, result) = running.end();
    assert_eq!(code, Some(0), "{compared}");
    assert_eq!(
        (
            &compared["verdict"],
            &compared["differing"],
            &compared["not_compared"]
        ),
        (&json!("equal"), &json!([]), &json!([]))
    );
    assert_eq!(names(&compared["left_out"]), ["dam.old_engine"]);
    assert!(compared["equal"].as_u64() > Some(CASES.len() as u64));
    assert_eq!(result["verified"], "equal");
    points
}

/// The target's own transaction: nothing can be said.
fn own_transaction<K: Kind>(pair: &Pair<K>) {
    let mut running = Running::start(pair, &["--verify"]);
    running.before_verification(|| {
        pair.target_db.sql("CREATE DATABASE own");
    });
    let (code, compared, result) = running.end();
    assert_eq!(code, Some(5));
    assert_eq!(
        (
            &compared["verdict"],
            &compared["differing"],
            &result["status"]
        ),
        (&json!("not_compared"), &json!([]), &json!("not_compared"))
    );
    let text = result["error"].as_str().expect("text");
    assert!(text.contains("errant transactions"), "{text}");
    pair.target_db.unlogged("DROP DATABASE own");
}

/// The conductor ends while the target's applier runs to the point, held up by a lock: everything is restored.
fn ended<K: Kind>(
    pair: &mut Pair<K>,
    how: &str,
    agent_too: bool,
    delay: &[&str],
    within: Duration,
) {
    let mut lock = pair.target_db.root();
    let mut running = Running::start(pair, &["--verify"]);
    running.before_verification(|| {
        delay.iter().for_each(|s| drop(pair.target_db.sql(s)));
        lock.query_drop("LOCK TABLES running.numbers READ")
            .expect("locked");
    });
    wait_for(
        "the applier runs to the point",
        Duration::from_secs(30),
        || {
            let until = pair.target_db.replica_status("Until_Condition");
            (!["", "None"].contains(&until.as_str())).then_some(())
        },
    );
    assert_eq!(pair.target_db.replica_status("SQL_Delay"), "0", "meanwhile");
    signal(&running.child, how);
    let begin = Instant::now();
    if agent_too {
        pair.target.kill();
        pair.target.launch();
    }
    lock.query_drop("UNLOCK TABLES").expect("unlocked");
    assert_restored(&pair.target_db, "60", within);
    println!(
        "{how}: restored after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    assert_forgotten(&pair.target);
    if how == "-INT" {
        let (code, _, result) = running.end();
        assert_eq!(code, Some(130));
        assert_eq!(
            (&result["status"], &result["target_state"]),
            (&json!("interrupted"), &json!("replicating"))
        );
    } else {
        running.child.wait().expect("killed");
    }
}

fn assert_restored<K: Kind>(db: &Server<K>, delay: &str, within: Duration) {
    wait_for("the applier is as before", within, || {
        let mut columns = vec!["Slave_IO_Running", "Slave_SQL_Running"];
        if K::REPLICA_STATUS.contains("REPLICA") {
            columns = vec!["Replica_IO_Running", "Replica_SQL_Running"];
        }
        columns.extend(["Until_Condition", "SQL_Delay"]);
        let now: Vec<String> = columns.iter().map(|c| db.replica_status(c)).collect();
        (now[..2] == ["Yes", "Yes"] && ["", "None"].contains(&now[2].as_str()) && now[3] == delay)
            .then_some(())
    });
}

/// The record is gone as soon as the agent has seen that the applier stays as it was.
fn assert_forgotten(target: &Agent) {
    let record = target.dir.join("state/applier.json");
    wait_for("the record is gone", Duration::from_secs(5), || {
        (!record.exists()).then_some(())
    });
}

/// The conductor is killed while its STOP waits for a long transaction of the applier, and the agent starts again: to it the applier
/// seems to run as before.
fn ended_in_a_stop(pair: &mut Pair<MariadbKind>) {
    // A replica's threads have the source's server_id.
    let port = pair.source_db.port;
    let at_work = |pair: &Pair<MariadbKind>, what: &str| {
        let rows = pair.target_db.sql(&format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE {what} AND ID <> CONNECTION_ID()"
        ));
        !rows.is_empty()
    };
    let stop = "INFO LIKE 'STOP SLAVE%'";
    let mut running = Running::start(pair, &["--verify"]);
    running.before_verification(|| {
        for statement in [
            "STOP SLAVE",
            "CHANGE MASTER TO MASTER_DELAY = 0",
            "START SLAVE",
        ] {
            pair.target_db.sql(statement);
        }
        let mut conn = pair.source_db.root();
        for statement in [
            "CREATE TABLE running.slow (a INT)",
            "SET SESSION binlog_format = 'STATEMENT'",
        ] {
            conn.query_drop(statement).expect(statement);
        }
        conn.query_drop(format!(
            "INSERT INTO running.slow SELECT SLEEP(IF(@@port = {port}, 0, 10))"
        ))
        .expect("quick on the source");
        wait_for("the applier is busy", Duration::from_secs(20), || {
            at_work(pair, "STATE = 'User sleep'").then_some(())
        });
    });
    wait_for("STOP waits", Duration::from_secs(20), || {
        at_work(pair, stop).then_some(())
    });
    signal(&running.child, "-KILL");
    running.child.wait().expect("killed");
    assert!(at_work(pair, stop), "the server has not noticed");
    pair.target.kill();
    pair.target.launch();
    wait_for("the STOP ends", Duration::from_secs(30), || {
        (!at_work(pair, stop)).then_some(())
    });
    assert_restored(&pair.target_db, "0", Duration::from_secs(10));
    let last = pair.source_db.value("SELECT MAX(n) FROM running.numbers");
    wait_for("its rows arrive", Duration::from_secs(20), || {
        let rows = "SELECT COUNT(*) FROM running.numbers WHERE n = ";
        (pair.target_db.value(&format!("{rows}{last}")) == "1").then_some(())
    });
    assert_forgotten(&pair.target);
}

/// Why the agent starts both threads by one statement: an I/O thread that is started alone after UNTIL master_gtid_pos was reached
/// ends there again, without an error.
fn until_is_kept_for_the_io_thread(db: &Mariadb) {
    let position = db.value("SELECT @@GLOBAL.gtid_slave_pos");
    db.sql("STOP SLAVE");
    db.sql(&format!("START SLAVE UNTIL master_gtid_pos = '{position}'"));
    let stopped = |column: &str| {
        wait_for(column, Duration::from_secs(10), || {
            (db.replica_status(column) == "No").then_some(())
        });
    };
    stopped("Slave_SQL_Running");
    db.sql("STOP SLAVE");
    db.sql("START SLAVE IO_THREAD");
    stopped("Slave_IO_Running");
    assert_eq!(db.replica_status("Last_IO_Errno"), "0");
    db.sql("STOP SLAVE");
    db.sql("START SLAVE");
    let until = db.replica_status("Until_Condition");
    assert_eq!(until, "None");
}

const MARIADB_DELAY: [&str; 4] = [
    "STOP SLAVE",
    "CHANGE MASTER TO MASTER_DELAY = 60",
    "SET GLOBAL slave_parallel_threads = 4",
    "START SLAVE",
];
const MYSQL_DELAY: [&str; 3] = [
    "STOP REPLICA SQL_THREAD",
    "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 60",
    "START REPLICA SQL_THREAD",
];

#[test]
fn mariadb() {
    let mut pair = Pair::<MariadbKind>::start("");
    let (source, target) = (&pair.source_db, &pair.target_db);
    fill(source);
    for statement in [
        "CREATE TABLE dam.ids (u UUID, six INET6, hidden INT INVISIBLE DEFAULT 5)",
        "INSERT INTO dam.ids (u, six, hidden) VALUES ('6e9f7c65-ea1e-11f1-a3da-02fc00000001', '::1', 7)",
        "CREATE TABLE dam.history (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
        "INSERT INTO dam.history VALUES (1, 1)",
        "UPDATE dam.history SET v = 2",
        "CREATE TABLE dam.periods (id INT PRIMARY KEY, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, \
         till TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME(since, till)) WITH SYSTEM VERSIONING",
        "INSERT INTO dam.periods (id) VALUES (1)",
        "UPDATE dam.periods SET id = 2",
    ] {
        source.sql(statement);
    }
    let ticks = Ticks::start(source);
    ticks.reset();
    // The versioned table goes on being written to.
    let points = equal(&pair, &[], || {
        MARIADB_DELAY.iter().for_each(|s| drop(target.sql(s)));
        source.sql("UPDATE dam.history SET v = 3");
    });
    assert!(
        points.iter().all(|p| p["source_locked_seconds"] == 0.0),
        "{points:?}"
    );
    assert_restored(target, "60", Duration::from_secs(1));
    assert_eq!(target.value("SELECT @@slave_parallel_threads"), "4");
    ticks.assert_no_wait("MariaDB by GTID");
    equal(&pair, &["--replication", "position"], || {});
    ticks.assert_no_wait("MariaDB by position");
    damages(
        &pair,
        &[
            ("dam.history", "DELETE HISTORY FROM dam.history"),
            ("dam.ids", "UPDATE dam.ids SET hidden = 6"),
            ("dam.periods", "UPDATE dam.periods SET id = 3"),
        ],
        &["system_versioning_asof = '2020-01-01 00:00:00'"],
    );
    own_transaction(&pair);
    ended(
        &mut pair,
        "-KILL",
        false,
        &MARIADB_DELAY,
        Duration::from_secs(35),
    );
    ended_in_a_stop(&mut pair);
    until_is_kept_for_the_io_thread(&pair.target_db);
}

/// Tables that are summed by ranges of the key, and more than one snapshot.
#[test]
fn mariadb_large() {
    let pair = Pair::<MariadbKind>::start("");
    let (source, target) = (&pair.source_db, &pair.target_db);
    fill(source);
    source.sql("CREATE TABLE dam.large (id BIGINT PRIMARY KEY, v VARCHAR(1000) CHARACTER SET latin1) ENGINE=InnoDB");
    source.sql(
        "INSERT INTO dam.large SELECT seq * 1000 - 7, REPEAT(MD5(seq), 31) FROM dam.seq_1_to_65000",
    );
    source.sql("ANALYZE TABLE dam.large");
    let _ticks = Ticks::start(source);
    let mut running = Running::start(&pair, &["--verify=sample"]);
    running.before_verification(|| {});
    let (code, compared, _) = running.end();
    assert_eq!((code, &compared["verdict"]), (Some(0), &json!("equal")));
    // A lock holds up the checksum until the first snapshot is given up.
    let mut lock = target.root();
    let mut running = Running::start(&pair, &["--verify", "--verify-max-time", "2s"]);
    running.before_verification(|| {
        target.unlogged("UPDATE dam.large SET v = CONCAT(v, ' ') WHERE id = 64999993");
        lock.query_drop("LOCK TABLES dam.large WRITE")
            .expect("locked");
    });
    running.until(|v| v["event"] == "compare_point" && v["round"] == 2);
    lock.query_drop("UNLOCK TABLES").expect("unlocked");
    let (code, compared, _) = running.end();
    assert_eq!(code, Some(4));
    assert_eq!(names(&compared["differing"]), ["dam.large"]);
    let reasons = names(&compared["reasons"]);
    assert!(
        reasons.iter().any(|r| r.contains("rows where id is ")),
        "{reasons:?}"
    );
}

#[test]
fn mysql() {
    let mut pair = Pair::<MysqldKind>::start("");
    let (source, target) = (&pair.source_db, &pair.target_db);
    fill(source);
    for statement in [
        "CREATE TABLE dam.vectors (v VECTOR(3), hidden INT DEFAULT 5 INVISIBLE)",
        "INSERT INTO dam.vectors (v, hidden) VALUES (STRING_TO_VECTOR('[1,2,3]'), 7)",
        // As text they are like what they become.
        "CREATE TABLE dam.typed (id INT PRIMARY KEY, v JSON)",
        "INSERT INTO dam.typed VALUES (1, '[1.5]')",
        "CREATE TABLE dam.typed_date (id INT PRIMARY KEY, v JSON)",
        "INSERT INTO dam.typed_date VALUES (1, '{\"a\": [\"2021-01-02\"]}')",
        "SET GLOBAL sql_generate_invisible_primary_key = 1",
        "CREATE TABLE dam.unseen (v INT)",
        "INSERT INTO dam.unseen VALUES (1)",
        "SET GLOBAL sql_generate_invisible_primary_key = 0",
    ] {
        source.sql(statement);
    }
    let ticks = Ticks::start(source);
    ticks.reset();
    equal(&pair, &[], || {
        MYSQL_DELAY.iter().for_each(|s| drop(target.sql(s)));
    });
    assert_restored(target, "60", Duration::from_secs(1));
    assert_eq!(target.value("SELECT @@replica_parallel_workers"), "4");
    ticks.assert_no_wait("MySQL by GTID");
    damages(
        &pair,
        &[
            (
                "dam.vectors",
                "UPDATE dam.vectors SET v = STRING_TO_VECTOR('[1,2,4]')",
            ),
            ("dam.zero", "UPDATE dam.zero SET a = -0e0 WHERE a = 0"),
            (
                "dam.typed",
                "REPLACE INTO dam.typed VALUES (1, JSON_ARRAY(1.5))",
            ),
            (
                "dam.typed_date",
                "UPDATE dam.typed_date SET v = JSON_OBJECT('a', JSON_ARRAY(CAST('2021-01-02' AS DATE)))",
            ),
            (
                "dam.unseen",
                "UPDATE dam.unseen SET my_row_id = my_row_id + 1",
            ),
        ],
        &["show_gipk_in_create_table_and_information_schema = 0"],
    );
    fallback_behind_a_long_statement(&pair, &ticks);
    fallback_that_is_given_up(&pair, &ticks);
    own_transaction(&pair);
    ended(
        &mut pair,
        "-INT",
        false,
        &MYSQL_DELAY,
        Duration::from_secs(10),
    );
    ended(
        &mut pair,
        "-KILL",
        true,
        &MYSQL_DELAY,
        Duration::from_secs(12),
    );
}

/// A transaction that has its GTID and is not committed keeps the snapshot from being taken without a lock.
fn own_gtid(source: &Server<MysqldKind>) -> mysql::Conn {
    let mut conn = source.root();
    conn.query_drop("SET SESSION gtid_next = 'c0ffee00-0000-4000-8000-000000000001:1'")
        .expect("a GTID of its own");
    assert!(
        source
            .value("SELECT @@GLOBAL.gtid_owned")
            .contains("c0ffee00")
    );
    conn
}

/// How many statements of a kind the server has executed: `flush`, `kill`.
fn executed(db: &Server<MysqldKind>, kind: &str) -> u64 {
    let query = format!("SHOW GLOBAL STATUS LIKE 'Com_{kind}'");
    let row: Option<(String, u64)> = db.root().query_first(query).expect("status");
    row.expect("a counter").1
}

/// With GTIDs, where no snapshot can be had without a lock: a long statement is waited for, and the comparison is right.
fn fallback_behind_a_long_statement(pair: &Pair<MysqldKind>, ticks: &Ticks) {
    let source = &pair.source_db;
    let (mut reader, mut long, mut owner) = (source.root(), None, None);
    let mut flushes = 0;
    let mut running = Running::start(pair, &["--verify"]);
    running.before_verification(|| {
        pair.target_db
            .unlogged("UPDATE dam.changed SET v = 3 WHERE id = 2");
        owner = Some(own_gtid(source));
        long = Some(std::thread::spawn(move || {
            let begin = Instant::now();
            reader
                .query_drop("SELECT SLEEP(14) FROM running.numbers LIMIT 1")
                .expect("a long statement");
            (begin.elapsed(), Instant::now())
        }));
        flushes = executed(source, "flush");
        ticks.reset();
    });
    running.until(|v| v["event"] == "compare_point");
    let reached = Instant::now();
    let point = running.seen.last().expect("just seen").clone();
    let (code, compared, _) = running.end();
    ticks.assert_no_wait("MySQL by GTID with a read lock");
    let (took, ended) = long.expect("started").join().expect("it ends");
    assert!(
        took >= Duration::from_secs(13),
        "nothing has ended it: {took:?}"
    );
    assert!(ended < reached, "no lock was taken before it had ended");
    assert_eq!(executed(source, "flush"), flushes + 1);
    let locked = point["source_locked_seconds"].as_f64();
    assert!(locked > Some(0.0) && locked < Some(0.5), "{point}");
    assert_eq!(
        (code, names(&compared["differing"])),
        (Some(4), vec!["dam.changed".to_string()])
    );
    assert_eq!(compared["not_compared"], json!([]));
}

/// The same behind LOCK TABLES, which has no end: it is given up, and writers of the source do not wait for long.
fn fallback_that_is_given_up(pair: &Pair<MysqldKind>, ticks: &Ticks) {
    let source = &pair.source_db;
    let mut hold = source.root();
    let (mut owner, mut before) = (None, (0, 0));
    let counts = || (executed(source, "flush"), executed(source, "kill"));
    let mut running = Running::start(pair, &["--verify"]);
    running.before_verification(|| {
        owner = Some(own_gtid(source));
        hold.query_drop("LOCK TABLES dam.changed WRITE")
            .expect("lock");
        before = counts();
        ticks.reset();
    });
    let (code, compared, result) = running.end();
    ticks.assert_no_wait("MySQL by GTID with a read lock that is not granted");
    let after = counts();
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (20, 20),
        "attempts, all ended"
    );
    assert_eq!((code, &result["status"]), (Some(5), &json!("not_compared")));
    assert_eq!(
        (&compared["verdict"], &compared["differing"]),
        (&json!("not_compared"), &json!([]))
    );
    let text = result["error"].as_str().expect("text");
    assert!(
        text.contains("not granted within 100 ms in 20 attempts"),
        "{text}"
    );
    hold.query_drop("UNLOCK TABLES").expect("unlock");
    assert_restored(&pair.target_db, "60", Duration::from_secs(5));
}

/// Without GTIDs a read lock is needed, which must not make others wait behind a long statement.
#[test]
fn mysql_without_gtid() {
    let pair = Pair::<MysqldKind>::start("gtid_mode=OFF\nenforce_gtid_consistency=OFF\n");
    let source = &pair.source_db;
    fill(source);
    let ticks = Ticks::start(source);
    ticks.reset();
    let mut reader = source.root();
    let mut long = None;
    let points = equal(&pair, &[], || {
        long = Some(std::thread::spawn(move || {
            let begin = Instant::now();
            reader
                .query_drop("SELECT SLEEP(8) FROM running.numbers LIMIT 1")
                .expect("a long statement");
            begin.elapsed()
        }));
        wait_for("the statement runs", Duration::from_secs(10), || {
            let running = source.sql(
                "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep' AND TIME >= 1",
            );
            (!running.is_empty()).then_some(())
        });
    });
    let took = long.expect("started").join().expect("it ends");
    assert!(
        took >= Duration::from_secs(7),
        "nothing has ended it: {took:?}"
    );
    let number = |field: &str| points[0][field].as_f64().expect("a number");
    assert!(number("source_locked_seconds") > 0.0, "{points:?}");
    assert!(number("applier_stopped_seconds") < 5.0, "{points:?}");
    ticks.assert_no_wait("MySQL without GTID");
    damages(&pair, &[], &[]);
    ticks.assert_no_wait("MySQL without GTID");
}

/// Some of [`CASES`], of types that every server has and Mydumper copies.
const BY_MYDUMPER: [&str; 7] = [
    "added", "altered", "blob_end", "changed", "dropped", "missing", "twice",
];

/// The same after a load by Mydumper 0.10.1; and a load that fails the same way each time it is repeated, by a `client` that drops
/// one of the tables at its end.
fn by_mydumper<K: Kind>(client: &str) {
    let fakes = Fakes::new();
    for tool in ["mydumper", "myloader"] {
        fakes.put(tool, "exec \"$REAL\" \"$@\"");
    }
    let changes = Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::<K>::start_changed("", "", &changes);
    let cases = CASES.into_iter().filter(|c| BY_MYDUMPER.contains(&c.0));
    let cases: Vec<Case> = cases.collect();
    fill_with(&pair.source_db, &cases);
    let ticks = Ticks::start(&pair.source_db);
    damages_of(&pair, "Mydumper", &cases, &[], &[]);
    drop(ticks);
    let script = format!(
        "\"$REAL\" \"$@\" || exit\n'{}' --no-defaults -uroot -S '{}' -e 'SET sql_log_bin = 0; DROP TABLE IF EXISTS dam.changed'",
        MariadbKind::rig().join("mdb/bin/mariadb").display(),
        pair.target_db.socket(),
    );
    fakes.put_of::<K>(client, &script);
    let out = pair.seed(&["--force", "--method", "Mydumper"]);
    assert_eq!(out.status.code(), Some(3));
    let text = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t).into_owned());
    let text = text.concat();
    for word in [
        "table dam.changed: it is missing",
        "do not use them; correct the cause of this error, then run a new seed",
        "do not use it; correct the cause of the error, then run a new seed",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert!(!text.contains("; run a new seed"));
}

#[test]
fn mariadb_by_mydumper() {
    by_mydumper::<MariadbKind>("mariadb");
}

#[test]
fn mysql56_by_mydumper() {
    by_mydumper::<Mysql56Kind>("mysql");
}

#[test]
fn options_that_cannot_go_together() {
    for (words, wanted) in [
        (&["--verify", "--no-connect"][..], "--no-connect"),
        (&["--verify=some"], "--verify=sample"),
        (
            &["--verify-max-time", "5m"],
            "--verify-max-time needs --verify",
        ),
        (
            &["--verify", "--verify-max-time", "5"],
            "--verify-max-time 5",
        ),
        (&["--verify", "--verify-max-time", "10ms"], "at least 1s"),
        (
            &["--verify", "--connect-to", "c", "--replication", "position"],
            "--connect-to needs GTID",
        ),
        (&["--verify", "--verify=sample"], "given twice"),
    ] {
        let out = Command::new(binary())
            .args([
                "seed",
                "--source",
                "a",
                "--target",
                "b",
                "--mysql-user",
                "u",
            ])
            .args(["--mysql-password-file", "/none"])
            .args(words)
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{words:?}: {text}");
        assert!(text.contains(wanted), "{words:?}: {text}");
    }
}
