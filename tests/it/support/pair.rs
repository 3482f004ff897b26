//! A source and a target with an agent each, with a little data on both.

use super::agent::{Agent, Changes};
use super::mariadb::MariadbKind;
use super::player::Player;
use super::server::{Kind, Server};
use super::{processes_with, wait_for};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::path::PathBuf;
use std::time::Duration;

pub struct Pair<K: Kind = MariadbKind> {
    pub source: Agent,
    pub target: Agent,
    pub source_db: Server<K>,
    pub target_db: Server<K>,
    method: &'static str,
}

impl Pair {
    pub fn start() -> Self {
        Self::start_with("", "", &Changes::default())
    }

    /// More lines for the two my.cnf; `changes` are for the target's agent. The source has two tables and an event in schema
    /// `shop`; the target has data of its own in `precious.t`, and another `shop.held`.
    pub fn start_with(source_cnf: &str, target_cnf: &str, changes: &Changes) -> Self {
        Self::of(source_cnf, target_cnf, changes)
    }

    /// The same, with seeds by Mydumper.
    pub fn mydumper(source_cnf: &str, target_cnf: &str, changes: &Changes) -> Self {
        Self::by_mydumper(source_cnf, target_cnf, changes)
    }
}

impl<K: Kind> Pair<K> {
    /// The same, with seeds by Mydumper.
    pub fn by_mydumper(source_cnf: &str, target_cnf: &str, changes: &Changes) -> Self {
        let enabled = ("mydumper", "enabled = true".to_string());
        let mut of_target = changes.clone();
        of_target.lines.push(enabled.clone());
        let of_source = Changes {
            lines: vec![enabled],
            path_first: changes.path_first.clone(),
            ..Changes::default()
        };
        Self {
            method: "Mydumper",
            ..Self::with(source_cnf, target_cnf, &of_source, &of_target)
        }
    }

    /// The same with servers of either family.
    pub fn of(source_cnf: &str, target_cnf: &str, changes: &Changes) -> Self {
        Self::with(source_cnf, target_cnf, &Changes::default(), changes)
    }

    /// The same with changes for the source's agent too.
    pub fn with(
        source_cnf: &str,
        target_cnf: &str,
        of_source: &Changes,
        of_target: &Changes,
    ) -> Self {
        let (source_db, target_db) = servers(source_cnf, target_cnf);
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.held (id INT PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO shop.held VALUES (1), (2)",
            "CREATE TABLE shop.items (id INT NOT NULL, t VARCHAR(64) NOT NULL) ENGINE=InnoDB",
            "INSERT INTO shop.items VALUES (0, SHA2(0, 256))",
            "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
            "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
        ] {
            source_db.sql(statement);
        }
        for doubling in 0..11 {
            source_db.sql(&format!(
                "INSERT INTO shop.items SELECT id + {n}, SHA2(id + {n}, 256) FROM shop.items",
                n = 1 << doubling
            ));
        }
        for statement in [
            "CREATE DATABASE precious",
            "CREATE TABLE precious.t (v VARCHAR(4) NOT NULL) ENGINE=InnoDB",
            "INSERT INTO precious.t VALUES ('mine')",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.held (old_column INT) ENGINE=InnoDB",
        ] {
            target_db.sql(statement);
        }
        Self::beside(source_db, target_db, "Mysqldump", of_source, of_target)
    }

    /// An agent beside each of two servers; [`Pair::seed`] will use this method.
    pub fn beside(
        source_db: Server<K>,
        target_db: Server<K>,
        method: &'static str,
        of_source: &Changes,
        of_target: &Changes,
    ) -> Self {
        Self {
            source: Agent::start_with(&source_db, of_source),
            target: Agent::start_with(&target_db, of_target),
            source_db,
            target_db,
            method,
        }
    }

    pub fn seed(&self, id: i64) -> Player<'_, K> {
        Player {
            id,
            method: self.method,
            target: &self.target,
            source: &self.source,
            target_db: &self.target_db,
            source_db: &self.source_db,
        }
    }

    /// Status and Details of a stage on the target.
    pub fn state(&self, id: i64, stage: &str) -> (String, String) {
        state_of(&self.target, id, stage)
    }

    /// Waits until a stage on the target is Error; its Details.
    pub fn must_fail(&self, id: i64, stage: &str) -> String {
        let state = self.seed(id).poll(&self.target, stage);
        assert_eq!(state["Status"], "Error", "{stage}: {state}");
        let details = state["Details"].as_str().expect("Details").to_string();
        assert!(details.is_ascii() && details.len() < 8192, "{details}");
        self.assert_alive();
        details
    }

    /// Prepare of both and Backup, which must fail; the target's own data are untouched. Details of the Backup.
    pub fn backup_fails(&self, id: i64) -> String {
        let seed = self.seed(id);
        seed.prepare();
        seed.start_backup();
        let details = self.must_fail(id, "Backup");
        self.assert_unchanged();
        details
    }

    /// Both daemons answer.
    pub fn assert_alive(&self) {
        for agent in [&self.source, &self.target] {
            agent.json("/api/get-agent-data");
        }
    }

    /// Nothing of the target's own data has changed.
    pub fn assert_unchanged(&self) {
        assert_eq!(
            self.target_db.value("SELECT v FROM precious.t"),
            "mine",
            "the target's own data"
        );
        self.target_db.sql("SELECT old_column FROM shop.held");
        assert_eq!(self.target_db.value("SELECT @@event_scheduler"), "ON");
    }

    /// A whole seed without replication, which must succeed and bring the source's rows.
    pub fn must_seed(&self, id: i64) {
        let seed = self.seed(id);
        seed.prepare();
        seed.backup();
        seed.restore();
        seed.cleanup();
        self.assert_seeded();
    }

    /// The source's rows are on the target, no event is enabled there, and its settings are as before.
    pub fn assert_seeded(&self) {
        for table in ["shop.held", "shop.items"] {
            let sum = |db: &Server<K>| {
                let row: Option<(String, Option<u64>)> = db
                    .root()
                    .query_first(format!("CHECKSUM TABLE {table}"))
                    .expect("sum");
                row.and_then(|r| r.1)
            };
            let wanted = sum(&self.source_db);
            assert!(wanted.is_some(), "{table} exists");
            assert_eq!(sum(&self.target_db), wanted, "{table}");
        }
        assert_eq!(self.enabled_events(), 0);
        let settings = self.target_db.value(
            "SELECT CONCAT(@@event_scheduler, ' ', IF(@@automatic_sp_privileges, 'ON', 'OFF'))",
        );
        assert_eq!(settings, "ON ON", "as before");
    }

    /// Events that the target would run.
    pub fn enabled_events(&self) -> usize {
        self.target_db
            .sql("SELECT 1 FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'")
            .len()
    }

    /// Command lines of tools of the target's agent: each has a password file in its state-dir.
    pub fn tools(&self) -> Vec<String> {
        let needle = format!(
            "--defaults-file={}",
            self.target.dir.join("state").display()
        );
        processes_with(&needle).into_iter().map(|p| p.1).collect()
    }

    pub fn wait_for_tool(&self) {
        wait_for("a tool runs", Duration::from_secs(20), || {
            (!self.tools().is_empty()).then_some(())
        });
    }

    /// Within 10 s: no tool, no password file, no connection of the agent's account on either server.
    pub fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        let begin = std::time::Instant::now();
        loop {
            left.clear();
            left.extend(self.tools());
            left.extend(files_in(&self.target.dir.join("state/tools")));
            for db in [&self.source_db, &self.target_db] {
                left.extend(db.connections_of("agent"));
            }
            if left.is_empty() {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "left after 10 s: {left:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn dump_file(&self) -> PathBuf {
        self.target.dir.join("backup/orchestrator_agent_backup.sql")
    }

    /// A running Backup of seed `id` whose dump waits for a lock in the source until the session that is returned ends.
    pub fn held_dump(&self, id: i64) -> Conn {
        let mut hold = self.source_db.root();
        hold.query_drop("LOCK TABLES shop.held WRITE")
            .expect("lock");
        let seed = self.seed(id);
        seed.prepare();
        seed.start_backup();
        self.wait_for_held_dump();
        hold
    }

    pub fn wait_for_held_dump(&self) {
        wait_for(
            "the dump waits in the source",
            Duration::from_secs(20),
            || {
                let waiting = self.source_db.connections_of("agent");
                // The agent itself reads the definition of each table before.
                let of_tool = |c: &&String| !c.contains("SHOW CREATE");
                waiting
                    .iter()
                    .filter(of_tool)
                    .any(|c| c.contains("`held`") || c.contains("FLUSH "))
                    .then_some(())
            },
        );
    }

    /// A running Restore of seed `id` whose load waits for a lock in the target until the session that is returned ends.
    pub fn held_load(&self, id: i64) -> Conn {
        let seed = self.seed(id);
        seed.prepare();
        seed.backup();
        let hold = self.hold_table();
        seed.start_restore();
        self.wait_for_held_load();
        hold
    }

    /// A session of the target that uses a table which the load drops.
    pub fn hold_table(&self) -> Conn {
        self.target_db.hold("shop.held")
    }

    pub fn wait_for_held_load(&self) {
        wait_for(
            "the load waits in the target",
            Duration::from_secs(30),
            || {
                let (status, details) = self.state(self.current(), "Restore");
                assert_eq!(status, "Running", "{details}");
                let waiting = self.target_db.connections_of("agent");
                waiting
                    .iter()
                    .any(|c| c.contains("metadata lock")) // MySQL: of the schema
                    .then_some(())
            },
        );
    }

    fn current(&self) -> i64 {
        self.target.json("/api/active-seed")["SeedID"]
            .as_i64()
            .expect("SeedID")
    }
}

/// The servers of a source and a target, with more lines for the my.cnf of each.
pub fn servers<K: Kind>(source_cnf: &str, target_cnf: &str) -> (Server<K>, Server<K>) {
    std::thread::scope(|scope| {
        let source = scope.spawn(|| Server::start("127.0.0.1", source_cnf));
        let target = Server::start("127.0.0.2", target_cnf);
        (source.join().expect("the source starts"), target)
    })
}

/// Status and Details of a stage.
pub fn state_of(agent: &Agent, id: i64, stage: &str) -> (String, String) {
    let state = agent.json(&format!("/api/seed-stage-state/{id}/{stage}"));
    let text = |key: &str| state[key].as_str().expect(key).to_string();
    (text("Status"), text("Details"))
}

/// Paths in a directory; none if it is missing.
pub fn files_in(dir: &std::path::Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().display().to_string())
        .collect()
}
