//! How long an INSERT on the source waits while a copy is made: no longer than the bare tool makes it wait, however slow the network
//! or the target is; and a lock that must itself wait is given up.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::mariadb::Mariadb;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::player::Player;
use crate::support::server::Database;
use crate::support::tmpfs::Tmpfs;
use crate::support::{Scratch, free_port, processes_with, wait_for};
use mysql::prelude::Queryable;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the tool sends in its last phase: with [`LIMIT`] more than ten seconds' worth.
const LAST_PHASE: usize = 48 << 20;
const LIMIT: u64 = 4 << 20;
const FROZEN: Duration = Duration::from_secs(12);
/// What this machine may add when it is busy: far below what a tool that waits for the network would cause.
const BUSY: Duration = Duration::from_secs(5);

/// The file system of the source's `backup-dir`, in MiB.
const DISK: u32 = 4096;
/// The same with 8 MiB more than what must stay free.
const SMALL_DISK: u32 = 1032;
/// How long an INSERT may take after the tool was ended.
const UNLOCKED: Duration = Duration::from_millis(500);

/// Inserts again and again; the longest time that one took.
struct Inserts {
    stop: Arc<AtomicBool>,
    /// What comes before does not count.
    since: Arc<Mutex<Instant>>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Inserts {
    /// Into one table with transactions and one without.
    fn start(db: &Mariadb) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let since = Arc::new(Mutex::new(Instant::now()));
        let insert = |table: &'static str| {
            let (mut conn, stop) = (db.root(), Arc::clone(&stop));
            let since = Arc::clone(&since);
            std::thread::spawn(move || {
                let (mut longest, mut counted) = (Duration::ZERO, Instant::now());
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let done = conn.query_drop(format!("INSERT INTO shop.`{table}` VALUES (1)"));
                    if done.is_err() && stop.load(Ordering::Relaxed) {
                        break;
                    }
                    done.expect("INSERT");
                    let since = *since.lock().expect("since");
                    if since > counted {
                        (longest, counted) = (Duration::ZERO, since);
                    }
                    longest = longest.max(begin.max(since).elapsed());
                    std::thread::sleep(Duration::from_millis(20));
                }
                longest
            })
        };
        let threads = vec![insert("with"), insert("without")];
        Self {
            stop,
            since,
            threads,
        }
    }

    /// Only what an INSERT takes from now on counts, of those that wait now as well.
    fn count_from_now(&self) {
        *self.since.lock().expect("since") = Instant::now();
    }

    fn longest(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.threads.drain(..).map(|t| t.join().expect("inserts"));
        all.max().expect("two")
    }
}

struct Rig {
    pair: Pair,
    fakes: Fakes,
    disk: Tmpfs,
    place: Scratch,
}

impl Rig {
    fn new() -> Self {
        let (source_db, target_db) = servers("", "");
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.`with` (a INT) ENGINE=InnoDB",
            "CREATE TABLE shop.`without` (a INT) ENGINE=MyISAM",
            "CREATE TABLE shop.slow (a INT) ENGINE=MyISAM",
            "CREATE TABLE shop.held (a INT) ENGINE=InnoDB",
            // The disk is not what is measured.
            "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
            "SET GLOBAL sync_binlog = 0",
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
        let disk = Tmpfs::over(&place.0, DISK);
        at_source
            .lines
            .push(("common", format!("backup-dir = {:?}", place.0)));
        Self {
            pair: Pair::beside(source_db, target_db, "Xtrabackup", &at_source, &changes(0)),
            fakes,
            disk,
            place,
        }
    }

    fn player(&self, id: i64, method: &'static str) -> Player<'_> {
        Player {
            method,
            ..self.pair.seed(id)
        }
    }

    /// Processes of the source's backup tool.
    fn backups(&self) -> Vec<(u32, String)> {
        let mut all = processes_with(&self.place.0.display().to_string());
        all.retain(|(_, line)| line.contains("--backup"));
        all
    }

    /// A seed whose last phase the target does not take, and `backup-dir` neither. `freeze`: the target's agent hangs; else it is
    /// only slow.
    fn no_room(&self, id: i64, freeze: bool) {
        let player = self.player(id, "Xtrabackup");
        let victim = self.fakes.dir.join("victim");
        self.pair.target_db.sql("CREATE DATABASE IF NOT EXISTS old");
        self.pair
            .target_db
            .sql("CREATE OR REPLACE TABLE old.kept AS SELECT 42 AS n");
        if freeze {
            std::fs::write(&victim, self.pair.target.pid().to_string()).expect("victim");
        }
        self.disk.resize(SMALL_DISK);
        player.prepare();
        let inserts = Inserts::start(&self.pair.source_db);
        player.start_backup();
        wait_for("the tool runs", Duration::from_secs(60), || {
            (!self.backups().is_empty()).then_some(())
        });
        wait_for("the tool is ended", Duration::from_secs(60), || {
            self.backups().is_empty().then_some(())
        });
        inserts.count_from_now();
        let ended = Instant::now();
        let state = wait_for("the seed fails", Duration::from_secs(10), || {
            let state = self
                .pair
                .source
                .json(&format!("/api/seed-stage-state/{id}/Backup"));
            (state["Status"] != "Running").then_some(state)
        });
        let text = state["Details"].as_str().expect("Details").to_string();
        println!(
            "no room, frozen: {freeze}: failed {:.2} s after the tool: {text}",
            ended.elapsed().as_secs_f32()
        );
        assert_eq!(state["Status"], "Error", "{state}");
        let place = self.place.0.display().to_string();
        for wanted in [
            place.as_str(),
            "common.backup-dir",
            "1.0 GiB must stay free",
            "Make room there, or raise common.seed-rate-limit",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        std::thread::sleep(UNLOCKED * 3);
        let longest = inserts.longest();
        println!("longest INSERT after that: {:.2} s", longest.as_secs_f32());
        assert!(longest < UNLOCKED, "{longest:?}");
        if freeze {
            std::fs::remove_file(&victim).expect("victim");
            drop(Thaw(self.pair.target.pid()));
        }
        let state = player.poll(&self.pair.target, "Backup");
        println!("target: {}", state["Details"]);
        assert_eq!(state["Status"], "Error", "{state}");
        let told = state["Details"].as_str().expect("Details");
        // A sender that hangs in the middle of a frame can only reset the connection.
        assert!(freeze || told.contains("must stay free"), "{state}");
        assert_eq!(self.pair.target_db.value("SELECT n FROM old.kept"), "42");
        wait_for("no process and no session", Duration::from_secs(10), || {
            let mut left = self.backups();
            left.extend(processes_with(
                &self.pair.target_db.dir.display().to_string(),
            ));
            left.retain(|(_, line)| line.contains("backup") || line.contains("mbstream"));
            let sessions = self
                .pair
                .source_db
                .sql("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'agent'");
            (left.is_empty() && sessions.is_empty()).then_some(())
        });
        assert!(
            std::fs::read_dir(&self.place.0)
                .expect("backup-dir")
                .next()
                .is_none(),
            "nothing stays in backup-dir"
        );
        assert_eq!(
            self.disk.free() >> 20,
            u64::from(SMALL_DISK),
            "the file without a name is gone"
        );
        self.disk.resize(DISK);
        player.cleanup();
    }

    /// The longest INSERT while the tool writes into nothing.
    fn bare(&self) -> Duration {
        let inserts = Inserts::start(&self.pair.source_db);
        let dir = self.pair.source.dir.join("bare");
        std::fs::create_dir_all(&dir).expect("directory");
        let done = Command::new(self.pair.source_db.tool_dir().join("mariadb-backup"))
            .arg(format!(
                "--defaults-file={}",
                self.pair.source_db.dir.join("my.cnf").display()
            ))
            .args(["--backup", "--stream=xbstream", "--user=root"])
            .arg(format!("--target-dir={}", dir.display()))
            .arg(format!("--socket={}", self.pair.source_db.socket()))
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
            std::fs::write(&victim, rig.pair.target.pid().to_string()).expect("victim");
        }
        player.prepare();
        let inserts = Inserts::start(&rig.pair.source_db);
        player.start_backup();
        if freeze {
            let thaw = Thaw(rig.pair.target.pid());
            wait_for("the last phase", Duration::from_secs(120), || {
                is_stopped(thaw.0).then_some(())
            });
            std::thread::sleep(FROZEN);
            std::fs::remove_file(&victim).expect("victim");
        }
        let state = player.must_complete(&rig.pair.source, "Backup");
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
        assert_eq!(rig.pair.target_db.sql(rows), rig.pair.source_db.sql(rows));
    }

    // The target takes too little, and the disk is too small for the rest.
    rig.no_room(3, false);
    rig.no_room(4, true);

    // A tool's lock that waits with others behind it ends the tool, after the copy: no second one is made.
    let player = rig.player(5, "Xtrabackup");
    player.prepare();
    let mut conn = rig.pair.source_db.root();
    let id: u64 = conn
        .query_first("SELECT CONNECTION_ID()")
        .expect("id")
        .expect("id");
    let inserts = Inserts::start(&rig.pair.source_db);
    player.start_backup();
    // Before its first lock the tool waits for such a query by itself (--ftwrl-wait-timeout).
    wait_for("bytes flow", Duration::from_secs(60), || {
        let state = rig.pair.source.json("/api/seed-stage-state/5/Backup");
        assert_eq!(state["Status"], "Running", "{state}");
        (state["Progress"]["Bytes"].as_u64() > Some(1 << 20)).then_some(())
    });
    let long = std::thread::spawn(move || {
        // 60 s, unless it is killed.
        let _ = conn.query_drop("INSERT INTO shop.slow SELECT SLEEP(60) FROM DUAL");
    });
    let state = player.poll(&rig.pair.source, "Backup");
    rig.pair.source_db.sql(&format!("KILL {id}"));
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
    let player = rig.player(6, "Mysqldump");
    player.prepare();
    let mut hold = rig.pair.source_db.root();
    hold.query_drop("LOCK TABLES shop.held WRITE")
        .expect("lock");
    let inserts = Inserts::start(&rig.pair.source_db);
    player.start_backup();
    wait_for("the fourth try", Duration::from_secs(60), || {
        let state = rig.pair.target.json("/api/seed-stage-state/6/Backup");
        assert_eq!(state["Status"], "Running", "{state}");
        let details = state["Details"].as_str().expect("Details");
        details.contains("trying again in 8 s").then_some(())
    });
    let longest = inserts.longest();
    println!("dump: {:.2} s while it was tried", longest.as_secs_f32());
    assert!(longest < BUSY, "{longest:?}");
    hold.query_drop("UNLOCK TABLES").expect("unlock");
    let state = player.must_complete(&rig.pair.target, "Backup");
    println!("{}", state["Details"]);
    player.restore();
    player.cleanup();

    // A query that the lock would have to wait for is waited for without the lock.
    let mut conn = rig.pair.source_db.root();
    let id: u64 = conn
        .query_first("SELECT CONNECTION_ID()")
        .expect("id")
        .expect("id");
    let long = std::thread::spawn(move || {
        let _ = conn.query_drop("INSERT INTO shop.slow SELECT SLEEP(120) FROM DUAL");
    });
    wait_for("a long query", Duration::from_secs(30), || {
        let seconds = format!("SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = {id}");
        (rig.pair.source_db.value(&seconds).parse::<u64>().ok()? >= 10).then_some(())
    });
    let inserts = Inserts::start(&rig.pair.source_db);
    let waits = |player: &Player| {
        player.prepare();
        player.start_backup();
        wait_for("the query in Details", Duration::from_secs(30), || {
            let state = rig
                .pair
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
    for agent in [&rig.pair.target, &rig.pair.source] {
        agent.call("/api/abort-seed-stage/5/Backup");
    }
    let player = rig.player(6, "Mydumper");
    waits(&player);
    let longest = inserts.longest();
    assert!(longest < BUSY, "{longest:?}");
    rig.pair.source_db.sql(&format!("KILL {id}"));
    long.join().expect("thread");
    player.must_complete(&rig.pair.target, "Backup");
    player.restore();
    player.cleanup();

    // A tool that repeats its lock without end when its session has gone, as mydumper 1.0.1 does on MySQL, is ended.
    rig.fakes.put(
        "mydumper",
        "\"$(dirname \"$REAL\")/mariadb\" \"$1\" \"$2\" \"$3\" \"$4\" -e 'FLUSH TABLES WITH READ LOCK'\n\
         while :; do echo '** (mydumper:7): WARNING **: 10:11:12.000: Flush tables failed' >&2; done",
    );
    let mut hold = rig.pair.source_db.root();
    hold.query_drop("LOCK TABLES shop.held WRITE")
        .expect("lock");
    let inserts = Inserts::start(&rig.pair.source_db);
    let player = rig.player(7, "Mydumper");
    player.prepare();
    player.start_backup();
    let state = player.poll(&rig.pair.target, "Backup");
    assert_eq!(state["Status"], "Error", "{state}");
    let text = state["Details"].as_str().expect("Details");
    assert!(text.contains("source-lock-timeout"), "{text}");
    let longest = inserts.longest();
    assert!(longest < BUSY, "{longest:?}");
    let warnings = rig.pair.target.log().matches("Flush tables failed").count();
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
