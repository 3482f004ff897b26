//! How long an INSERT on the source waits while a copy is made: no longer than the bare tool makes it wait, however slow the network
//! or the target is; and a lock that must itself wait is given up.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::Mariadb;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::server::Database;
use crate::support::tmpfs::Tmpfs;
use crate::support::{Scratch, free_port, wait_for};
use mysql::prelude::Queryable;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the tool sends in its last phase: with [`LIMIT`] more than ten seconds' worth.
const LAST_PHASE: usize = 48 << 20;
const LIMIT: u64 = 4 << 20;
const FROZEN: Duration = Duration::from_secs(12);
/// What this machine may add when it is busy: far below what a tool that waits for the network would cause.
const BUSY: Duration = Duration::from_secs(5);

/// Inserts again and again; the longest time that one took.
struct Inserts {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Inserts {
    /// Into one table with transactions and one without.
    fn start(db: &Mariadb) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let insert = |table: &'static str| {
            let (mut conn, stop) = (db.root(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let done = conn.query_drop(format!("INSERT INTO shop.`{table}` VALUES (1)"));
                    if done.is_err() && stop.load(Ordering::Relaxed) {
                        break;
                    }
                    done.expect("INSERT");
                    longest = longest.max(begin.elapsed());
                    std::thread::sleep(Duration::from_millis(20));
                }
                longest
            })
        };
        let threads = vec![insert("with"), insert("without")];
        Self { stop, threads }
    }

    fn longest(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.threads.drain(..).map(|t| t.join().expect("inserts"));
        all.max().expect("two")
    }
}

struct Rig {
    source: Agent,
    target: Agent,
    fakes: Fakes,
    source_db: Mariadb,
    target_db: Mariadb,
    _disk: Tmpfs,
    _place: Scratch,
}

impl Rig {
    fn new() -> Self {
        let source_db = Mariadb::start("127.0.0.1", "");
        let target_db = Mariadb::start("127.0.0.2", "");
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.`with` (a INT) ENGINE=InnoDB",
            "CREATE TABLE shop.`without` (a INT) ENGINE=MyISAM",
            "CREATE TABLE shop.slow (a INT) ENGINE=MyISAM",
            "CREATE TABLE shop.held (a INT) ENGINE=InnoDB",
            // The log tables are copied while DDL and writes without transactions wait.
            "SET GLOBAL log_output = 'TABLE'",
            "SET GLOBAL general_log = ON",
        ] {
            source_db.sql(statement);
        }
        let text = "x".repeat(1 << 20);
        for _ in 0..LAST_PHASE >> 20 {
            source_db.sql(&format!("SELECT LENGTH('{text}')"));
        }
        source_db.sql("SET GLOBAL general_log = OFF");
        let fakes = Fakes::new();
        // Stops the process whose number is in the file `victim`, when the last phase begins.
        fakes.put(
            "mariadb-backup",
            "case \"$*\" in *--backup*) ;; *) exec \"$REAL\" \"$@\";; esac\n\
             d=$(dirname \"$0\"); rm -f \"$d/words\"; mkfifo \"$d/words\"\n\
             while IFS= read -r line; do\n\
               case \"$line\" in *'Started BACKUP STAGE BLOCK_DDL'*) [ -e \"$d/victim\" ] && kill -STOP \"$(cat \"$d/victim\")\";; esac\n\
               printf '%s\\n' \"$line\" >&2\n\
             done < \"$d/words\" & reader=$!\n\
             \"$REAL\" \"$@\" 2> \"$d/words\"; rc=$?; wait $reader; exit $rc",
        );
        let port = free_port("127.0.0.2");
        let changes = |limit: u64| Changes {
            lines: vec![
                ("common", format!("seed-port = {port}")),
                ("common", format!("seed-rate-limit = {limit}")),
                ("common", "source-lock-timeout = \"500ms\"".into()),
                ("xtrabackup", "enabled = true".into()),
                ("mydumper", "enabled = true".into()),
                // With --single-transaction mariadb-dump takes no lock.
                ("mysqldump", "addtional-opts = [\"--quick\"]".into()),
            ],
            path_first: Some(fakes.dir.clone()),
            ..Changes::default()
        };
        // So much must stay free that a full disk of this machine would matter.
        let mut at_source = changes(LIMIT);
        let place = Scratch::new("spill");
        let disk = Tmpfs::over(&place.0, 4096);
        at_source
            .lines
            .push(("common", format!("backup-dir = {:?}", place.0)));
        let source = Agent::start_with(&source_db, &at_source);
        let target = Agent::start_with(&target_db, &changes(0));
        Self {
            source,
            target,
            fakes,
            source_db,
            target_db,
            _disk: disk,
            _place: place,
        }
    }

    fn player(&self, id: i64, method: &'static str) -> Player<'_> {
        Player {
            id,
            method,
            target: &self.target,
            source: &self.source,
            target_db: &self.target_db,
            source_db: &self.source_db,
        }
    }

    /// The longest INSERT while the tool writes into nothing.
    fn bare(&self) -> Duration {
        let inserts = Inserts::start(&self.source_db);
        let dir = self.source.dir.join("bare");
        std::fs::create_dir_all(&dir).expect("directory");
        let done = Command::new(self.source_db.tool_dir().join("mariadb-backup"))
            .arg(format!(
                "--defaults-file={}",
                self.source_db.dir.join("my.cnf").display()
            ))
            .args(["--backup", "--stream=xbstream", "--user=root"])
            .arg(format!("--target-dir={}", dir.display()))
            .arg(format!("--socket={}", self.source_db.socket()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(done.expect("it runs").success());
        inserts.longest()
    }
}

/// SIGCONT also after a failed assertion.
struct Thaw(u32);

impl Drop for Inserts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed); // after a failed assertion the server goes
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-CONT", &self.0.to_string()])
            .status();
    }
}

fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") T "))
}

#[test]
fn an_insert_waits_for_no_network_and_no_target() {
    let rig = Rig::new();
    let bare = rig.bare();
    println!(
        "longest INSERT: {:.2} s with the bare tool",
        bare.as_secs_f32()
    );
    for (id, freeze) in [(1, false), (2, true)] {
        let player = rig.player(id, "Xtrabackup");
        let victim = rig.fakes.dir.join("victim");
        if freeze {
            std::fs::write(&victim, rig.target.pid().to_string()).expect("victim");
        }
        player.prepare();
        let inserts = Inserts::start(&rig.source_db);
        player.start_backup();
        if freeze {
            let thaw = Thaw(rig.target.pid());
            wait_for("the last phase", Duration::from_secs(120), || {
                is_stopped(thaw.0).then_some(())
            });
            std::thread::sleep(FROZEN);
            std::fs::remove_file(&victim).expect("victim");
        }
        let state = player.must_complete(&rig.source, "Backup");
        let longest = inserts.longest();
        println!(
            "longest INSERT: {:.2} s, frozen: {freeze}; {}",
            longest.as_secs_f32(),
            state["Details"]
        );
        assert!(longest < bare + BUSY, "{longest:?}, bare tool {bare:?}");
        let held = state["SourceLockMilliseconds"].as_u64().expect("known");
        assert!(Duration::from_millis(held) < bare + BUSY, "{held} ms");
        let spilled = state["Details"]
            .as_str()
            .expect("Details")
            .contains("file in backup-dir");
        assert!(spilled, "{LAST_PHASE} bytes at {LIMIT} a second: {state}");
        // What went through the file is right.
        player.restore();
        player.cleanup();
        let rows = "SELECT COUNT(*), SUM(LENGTH(argument)) FROM mysql.general_log";
        assert_eq!(rig.target_db.sql(rows), rig.source_db.sql(rows));
    }

    // A tool's lock that waits with others behind it ends the tool, after the copy: no second one is made.
    let player = rig.player(3, "Xtrabackup");
    player.prepare();
    let mut conn = rig.source_db.root();
    let id: u64 = conn
        .query_first("SELECT CONNECTION_ID()")
        .expect("id")
        .expect("id");
    let inserts = Inserts::start(&rig.source_db);
    player.start_backup();
    // Before its first lock the tool waits for such a query by itself (--ftwrl-wait-timeout).
    wait_for("bytes flow", Duration::from_secs(60), || {
        let state = rig.source.json("/api/seed-stage-state/3/Backup");
        assert_eq!(state["Status"], "Running", "{state}");
        (state["Progress"]["Bytes"].as_u64() > Some(1 << 20)).then_some(())
    });
    let long = std::thread::spawn(move || {
        // 60 s, unless it is killed.
        let _ = conn.query_drop("INSERT INTO shop.slow SELECT SLEEP(60) FROM DUAL");
    });
    let state = player.poll(&rig.source, "Backup");
    rig.source_db.sql(&format!("KILL {id}"));
    long.join().expect("thread");
    let longest = inserts.longest();
    let text = state["Details"].as_str().expect("Details");
    println!("given up: {:.2} s, {text}", longest.as_secs_f32());
    assert_eq!(state["Status"], "Error", "{state}");
    assert!(
        text.contains(&format!("query {id} of user root (INSERT)"))
            && text.contains("source-lock-timeout"),
        "{text}"
    );
    assert!(
        !text.contains("SLEEP"),
        "the statement may hold data: {text}"
    );
    assert!(longest < bare + BUSY, "not for the 60 s: {longest:?}");

    // A dump's read lock is given up and tried again until it can be had.
    let player = rig.player(4, "Mysqldump");
    player.prepare();
    let mut hold = rig.source_db.root();
    hold.query_drop("LOCK TABLES shop.held WRITE")
        .expect("lock");
    let inserts = Inserts::start(&rig.source_db);
    player.start_backup();
    wait_for("the fourth try", Duration::from_secs(60), || {
        let state = rig.target.json("/api/seed-stage-state/4/Backup");
        assert_eq!(state["Status"], "Running", "{state}");
        let details = state["Details"].as_str().expect("Details");
        details.contains("trying again in 8 s").then_some(())
    });
    let longest = inserts.longest();
    println!("dump: {:.2} s while it was tried", longest.as_secs_f32());
    assert!(longest < BUSY, "{longest:?}");
    hold.query_drop("UNLOCK TABLES").expect("unlock");
    let state = player.must_complete(&rig.target, "Backup");
    println!("{}", state["Details"]);
    player.restore();
    player.cleanup();

    // A query that the lock would have to wait for is waited for without the lock.
    let mut conn = rig.source_db.root();
    let id: u64 = conn
        .query_first("SELECT CONNECTION_ID()")
        .expect("id")
        .expect("id");
    let long = std::thread::spawn(move || {
        let _ = conn.query_drop("INSERT INTO shop.slow SELECT SLEEP(120) FROM DUAL");
    });
    wait_for("a long query", Duration::from_secs(30), || {
        let seconds = format!("SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = {id}");
        (rig.source_db.value(&seconds).parse::<u64>().ok()? >= 10).then_some(())
    });
    let inserts = Inserts::start(&rig.source_db);
    let waits = |player: &Player| {
        player.prepare();
        player.start_backup();
        wait_for("the query in Details", Duration::from_secs(30), || {
            let state = rig
                .target
                .json(&format!("/api/seed-stage-state/{}/Backup", player.id));
            assert_eq!(state["Status"], "Running", "{state}");
            let details = state["Details"].as_str().expect("Details");
            details
                .contains(&format!("Waiting for query {id} of user root (INSERT)"))
                .then_some(())
        });
    };
    waits(&rig.player(5, "Mysqldump"));
    for agent in [&rig.target, &rig.source] {
        agent.call("/api/abort-seed-stage/5/Backup");
    }
    let player = rig.player(6, "Mydumper");
    waits(&player);
    let longest = inserts.longest();
    assert!(longest < BUSY, "{longest:?}");
    rig.source_db.sql(&format!("KILL {id}"));
    long.join().expect("thread");
    player.must_complete(&rig.target, "Backup");
    player.restore();
    player.cleanup();

    // A tool that repeats its lock without end when its session has gone, as mydumper 1.0.1 does on MySQL, is ended.
    rig.fakes.put(
        "mydumper",
        "\"$(dirname \"$REAL\")/mariadb\" \"$1\" \"$2\" \"$3\" \"$4\" -e 'FLUSH TABLES WITH READ LOCK'\n\
         while :; do echo '** (mydumper:7): WARNING **: 10:11:12.000: Flush tables failed' >&2; done",
    );
    let mut hold = rig.source_db.root();
    hold.query_drop("LOCK TABLES shop.held WRITE")
        .expect("lock");
    let inserts = Inserts::start(&rig.source_db);
    let player = rig.player(7, "Mydumper");
    player.prepare();
    player.start_backup();
    let state = player.poll(&rig.target, "Backup");
    assert_eq!(state["Status"], "Error", "{state}");
    let text = state["Details"].as_str().expect("Details");
    assert!(text.contains("source-lock-timeout"), "{text}");
    let longest = inserts.longest();
    assert!(longest < BUSY, "{longest:?}");
    let warnings = rig.target.log().matches("Flush tables failed").count();
    assert_eq!(warnings, 1, "it is logged once");
}

/// Its lock would close the tables that the query reads, and writes to them would wait for the query even if the lock is given up.
#[test]
fn a_query_of_a_second_is_waited_for_on_mysql() {
    let pair = Pair::<MysqldKind>::of("", "", &Changes::default());
    pair.source_db
        .sql("CREATE TABLE shop.read_for_long (a INT); INSERT INTO shop.read_for_long VALUES (1)");
    let mut conn = pair.source_db.root();
    let id = conn.connection_id();
    let long = std::thread::spawn(move || {
        let query = "SELECT SLEEP(60) FROM shop.read_for_long";
        let _ = conn.query_drop(query); // it is killed
    });
    wait_for("the query", Duration::from_secs(30), || {
        let seconds = format!("SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = {id}");
        (pair.source_db.value(&seconds).parse::<u64>().ok()? >= 1).then_some(())
    });
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    wait_for("the query in Details", Duration::from_secs(30), || {
        let details = pair.state(1, "Backup").1;
        details
            .contains(&format!("Waiting for query {id} of user root (SELECT)"))
            .then_some(())
    });
    let begin = Instant::now();
    pair.source_db
        .sql("INSERT INTO shop.read_for_long VALUES (2)");
    assert!(begin.elapsed() < BUSY, "{:?}", begin.elapsed());
    pair.source_db.sql(&format!("KILL {id}"));
    long.join().expect("thread");
    seed.must_complete(&pair.target, "Backup");
}
