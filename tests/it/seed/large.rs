//! Large tables by Mysqldump: the copy is the same, nothing is left behind when the load fails or is aborted.

use crate::support::agent::Changes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers, state_of};
use crate::support::player::Player;
use crate::support::server::{Kind, Server};
use crate::support::wait_for;
use mysql::prelude::Queryable;
use std::time::Duration;

/// Tables of about 12 MB in a dump each, with what may go wrong when rows, triggers and keys are not in the order of the dump.
fn fill<K: Kind>(db: &Server<K>) {
    for statement in [
        "CREATE DATABASE `big one`",
        "CREATE TABLE `big one`.a (id INT PRIMARY KEY, b_id INT, at TIMESTAMP NOT NULL, s VARCHAR(2000), n INT AS (id + 1) STORED)",
        "CREATE TABLE `big one`.b (id INT PRIMARY KEY, a_id INT, s VARCHAR(2000), FOREIGN KEY (a_id) REFERENCES `big one`.a (id))",
        "ALTER TABLE `big one`.a ADD FOREIGN KEY (b_id) REFERENCES `big one`.b (id)",
        "CREATE TABLE `big one`.c (id INT PRIMARY KEY, s BLOB, u TEXT CHARACTER SET utf8mb4, KEY (u(20))) ENGINE=MyISAM",
        "CREATE TABLE `big one`.`d ``UNLOCK TABLES;` (s VARCHAR(2000))",
        "CREATE TABLE `big one`.small (id INT PRIMARY KEY, s VARCHAR(20))",
        "CREATE TABLE `big one`.parent (id INT PRIMARY KEY, s VARCHAR(2000))",
        "CREATE TABLE `big one`.parents_child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES `big one`.parent (id))",
        "CREATE DATABASE second",
        "CREATE TABLE second.e (id INT PRIMARY KEY, s VARCHAR(2000), FULLTEXT (s))",
        "INSERT INTO `big one`.a (id, at, s) VALUES (1, '2026-03-29 01:30:00', REPEAT('a\\n', 900))",
    ] {
        db.sql(statement);
    }
    for doubling in 0..13 {
        db.sql(&format!(
            "INSERT INTO `big one`.a (id, at, s) SELECT id + {0}, at + INTERVAL id MINUTE, CONCAT(id, '\\nUNLOCK TABLES;\\n', SUBSTR(s, 20)) FROM `big one`.a",
            1 << doubling
        ));
    }
    for statement in [
        "INSERT INTO `big one`.b SELECT id, id, s FROM `big one`.a",
        "INSERT INTO `big one`.b SELECT id + 100000, id, s FROM `big one`.a",
        "UPDATE `big one`.a SET b_id = id WHERE id % 7 = 0",
        "INSERT INTO `big one`.c SELECT id, s, CONCAT('-- ', id, ' \u{1F600}') FROM `big one`.a",
        "INSERT INTO `big one`.`d ``UNLOCK TABLES;` SELECT s FROM `big one`.a",
        "INSERT INTO `big one`.parent SELECT id, s FROM `big one`.a",
        "INSERT INTO `big one`.parents_child SELECT id FROM `big one`.a",
        "INSERT INTO `big one`.small VALUES (1, 'x')",
        "INSERT INTO second.e SELECT id, s FROM `big one`.a",
        // If it were there before the rows, they would not be the source's.
        "CREATE TRIGGER `big one`.ta BEFORE INSERT ON `big one`.a FOR EACH ROW SET NEW.s = CONCAT('trigger ', NEW.s)",
        "CREATE TRIGGER second.te AFTER INSERT ON second.e FOR EACH ROW INSERT INTO `big one`.small VALUES (NEW.id + 1, 'te')",
        "CREATE VIEW second.v AS SELECT COUNT(*) AS n FROM `big one`.a JOIN `big one`.b USING (id)",
        "CREATE EVENT second.ev ON SCHEDULE EVERY 1 SECOND DO INSERT INTO `big one`.small VALUES (UNIX_TIMESTAMP() + 1000000, 'ev')",
    ] {
        db.sql(statement);
    }
    db.sql("SET GLOBAL event_scheduler = OFF"); // the copies are compared
}

struct Two<K: Kind>(Pair<K>);

impl<K: Kind> Two<K> {
    fn start_with(lines: Vec<(&'static str, String)>) -> Self {
        // The server's time zone is not the dump's.
        let cnf = "default_time_zone = '+05:30'\ninnodb_buffer_pool_size = 128M\n";
        let (source_db, target_db) = servers(cnf, cnf);
        fill(&source_db);
        let changes = Changes {
            lines,
            ..Changes::default()
        };
        let unchanged = Changes::default();
        Self(Pair::beside(
            source_db,
            target_db,
            "Mysqldump",
            &unchanged,
            &changes,
        ))
    }

    fn player(&self, id: i64) -> Player<'_, K> {
        self.0.seed(id)
    }

    /// A whole seed; what Restore said.
    fn must_seed(&self, id: i64) -> String {
        let player = self.player(id);
        player.prepare();
        player.backup();
        player.restore();
        let (_, text) = state_of(&self.0.target, id, "Restore");
        player.cleanup();
        // CHECKSUM TABLE of MariaDB 10.11 may differ for equal rows with NULLs.
        for (table, columns) in [
            ("`big one`.a", "id, IFNULL(b_id, 'NULL'), at, s, n"),
            ("`big one`.b", "id, a_id, s"),
            ("`big one`.c", "id, HEX(s), u"),
            ("`big one`.`d ``UNLOCK TABLES;`", "s"),
            ("`big one`.small", "id, s"),
            ("`big one`.parent", "id, s"),
            ("`big one`.parents_child", "id"),
            ("second.e", "id, s"),
        ] {
            let sum = format!(
                "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT_WS('|', {columns})))) FROM {table}"
            );
            assert_eq!(
                self.0.target_db.value(&sum),
                self.0.source_db.value(&sum),
                "{table}"
            );
        }
        assert_eq!(self.0.target_db.value("SELECT n FROM second.v"), "8192");
        let triggers = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ('big one', 'second')";
        assert_eq!(self.0.target_db.value(triggers), "2");
        text
    }

    /// Until the load inserts rows; the number of its session.
    fn session_that_loads(&self) -> String {
        wait_for("rows are loaded", Duration::from_secs(60), || {
            let (status, text) = state_of(&self.0.target, 1, "Restore");
            assert_eq!(status, "Running", "{text}");
            let id = self.0.target_db.value(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'agent' AND INFO LIKE 'INSERT INTO%'",
            );
            (!id.is_empty()).then_some(id)
        })
    }

    fn assert_nothing_left(&self) {
        wait_for("no session is left", Duration::from_secs(10), || {
            self.0
                .target_db
                .connections_of("agent")
                .is_empty()
                .then_some(())
        });
        let tools = format!(
            "--defaults-file={}",
            self.0.target.dir.join("state").display()
        );
        assert!(crate::support::processes_with(&tools).is_empty());
    }
}

#[test]
fn the_copy_is_the_same_on_mysql() {
    Two::<MysqldKind>::start_with(Vec::new()).must_seed(1);
}

#[test]
fn a_load_that_fails_or_is_aborted_leaves_nothing_and_can_be_repeated() {
    let two = Two::<MariadbKind>::start_with(Vec::new());
    let player = two.player(1);
    player.prepare();
    player.backup();
    player.start_restore();
    let kill = |victim: String| two.0.target_db.root().query_drop(format!("KILL {victim}"));
    while kill(two.session_that_loads()).is_err() {} // it has ended meanwhile
    let state = player.poll(&two.0.target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    assert_eq!(state["Status"], "Error");
    assert!(
        text.contains("loading the dump") && text.contains("partial"),
        "{text}"
    );
    two.assert_nothing_left();

    player.start_restore();
    two.session_that_loads();
    assert_eq!(
        two.0.target.call("/api/abort-seed-stage/1/Restore"),
        (200, "killed".to_string())
    );
    two.assert_nothing_left();
    let (status, text) = state_of(&two.0.target, 1, "Restore");
    assert!(status == "Error" && text.contains("partial"), "{text}");
    two.must_seed(2);
}

const REDO: &str = "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Innodb_redo_log_enabled'";

impl Two<MysqldKind> {
    fn grant_redo(&self) {
        for db in [&self.0.source_db, &self.0.target_db] {
            db.unlogged("GRANT INNODB_REDO_LOG_ENABLE ON *.* TO agent");
        }
    }

    fn wait_for_redo(&self, value: &str) {
        wait_for(
            &format!("the redo log is {value}"),
            Duration::from_secs(60),
            || (self.0.target_db.value(REDO) == value).then_some(()),
        );
    }
}

/// `load-without-redo-log`: off while it loads, on afterwards, also when the agent is killed meanwhile.
#[test]
fn without_a_redo_log() {
    let mut two =
        Two::<MysqldKind>::start_with(vec![("mysql", "load-without-redo-log = true".into())]);
    let refused = {
        let player = two.player(1);
        player.prepare();
        player.backup();
        player.start_restore();
        player.poll(&two.0.target, "Restore")["Details"].to_string()
    };
    assert!(
        refused.contains("mysql.load-without-redo-log")
            && refused.contains("INNODB_REDO_LOG_ENABLE"),
        "{refused}"
    );
    assert!(
        !refused.contains("partial"),
        "nothing was touched: {refused}"
    );
    two.grant_redo();
    two.player(1).start_restore();
    two.wait_for_redo("OFF");
    two.0.target.kill();
    two.0.target.launch();
    two.0.target.wait_ready();
    two.wait_for_redo("ON");
    two.assert_nothing_left();

    std::thread::scope(|scope| {
        let seed = scope.spawn(|| two.must_seed(2));
        two.wait_for_redo("OFF");
        seed.join().expect("it succeeds");
    });
    assert_eq!(two.0.target_db.value(REDO), "ON");
}
