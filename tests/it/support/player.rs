//! Drives a seed over HTTP as orchestrator does, with a tick of a fraction of a second.

use super::agent::Agent;
use super::mariadb::{MariadbKind, REPL_PASSWORD};
use super::mysqld::{Mysql56Kind, MysqldKind};
use super::server::{Kind, Server};
use mysql::prelude::Queryable;
use serde_json::Value;
use std::time::{Duration, Instant};

pub struct Player<'a, K: Kind = MariadbKind> {
    pub id: i64,
    pub method: &'static str,
    pub target: &'a Agent,
    pub source: &'a Agent,
    pub target_db: &'a Server<K>,
    pub source_db: &'a Server<K>,
}

pub const TICK: Duration = Duration::from_millis(100);

impl Player<'_> {
    /// A start call: 202 for the server, whatever the text.
    pub fn start(agent: &Agent, path: &str) {
        let (status, body) = agent.call(path);
        assert_eq!(status, 202, "{path}: {body}");
        assert_eq!(body, "Started", "{path}");
    }
}

impl<K: Kind> Player<'_, K> {
    /// Polls `seed-stage-state` until it is not Running; during Backup and Restore get-agent-data of both, as the server
    /// does. The last state.
    pub fn poll(&self, agent: &Agent, stage: &str) -> Value {
        let begin = Instant::now();
        loop {
            if stage == "Backup" || stage == "Restore" {
                for a in [self.target, self.source] {
                    let data = a.json("/api/get-agent-data");
                    assert!(
                        data["AvailiableSeedMethods"][self.method].is_object(),
                        "{data}"
                    );
                    assert!(data["MountPoint"].is_object(), "8.4");
                }
            }
            let state = agent.json(&format!("/api/seed-stage-state/{}/{stage}", self.id));
            assert_eq!(state["Hostname"], agent.hostname.as_str(), "8.13");
            if state["Status"] != "Running" {
                return state;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(300),
                "{stage} does not end: {state}"
            );
            std::thread::sleep(TICK);
        }
    }

    pub fn must_complete(&self, agent: &Agent, stage: &str) -> Value {
        let state = self.poll(agent, stage);
        assert_eq!(state["Status"], "Completed", "{stage}: {state}");
        state
    }

    pub fn start_prepare(&self) {
        Player::start(
            self.target,
            &format!("/api/prepare/{}/{}/Target", self.id, self.method),
        );
        Player::start(
            self.source,
            &format!("/api/prepare/{}/{}/Source", self.id, self.method),
        );
    }

    pub fn prepare(&self) {
        self.start_prepare();
        self.must_complete(self.target, "Prepare");
        self.must_complete(self.source, "Prepare");
    }

    /// The agent that copies.
    pub fn backup_side(&self) -> &Agent {
        match self.method {
            "Xtrabackup" | "LVM" => self.source,
            _ => self.target,
        }
    }

    pub fn start_backup(&self) {
        // The other host, and always the source's port.
        let host = match self.method {
            "Xtrabackup" | "LVM" => &self.target_db.host,
            _ => &self.source_db.host,
        };
        let (id, method, port) = (self.id, self.method, self.source_db.port);
        Player::start(
            self.backup_side(),
            &format!("/api/backup/{id}/{method}/{host}/{port}"),
        );
    }

    pub fn backup(&self) {
        self.start_backup();
        self.must_complete(self.backup_side(), "Backup");
    }

    pub fn start_restore(&self) {
        Player::start(
            self.target,
            &format!("/api/restore/{}/{}", self.id, self.method),
        );
    }

    pub fn restore(&self) {
        self.start_restore();
        self.must_complete(self.target, "Restore");
    }

    pub fn metadata(&self) -> Value {
        self.target
            .json(&format!("/api/get-metadata/{}/{}", self.id, self.method))
    }

    pub fn cleanup(&self) {
        Player::start(
            self.target,
            &format!("/api/cleanup/{}/{}/Target", self.id, self.method),
        );
        Player::start(
            self.source,
            &format!("/api/cleanup/{}/{}/Source", self.id, self.method),
        );
        self.must_complete(self.target, "Cleanup");
        self.must_complete(self.source, "Cleanup");
        for agent in [self.target, self.source] {
            agent.json(&format!("/api/post-seed-cmd/{}", self.id));
        }
    }
}

impl Player<'_, MariadbKind> {
    /// By position as the v2 server does, or by MariaDB GTID as the conductor does.
    pub fn connect(&self, gtid: bool) {
        let meta = self.metadata();
        let mut conn = self.target_db.root();
        let mut run = |s: &str| conn.query_drop(s).unwrap_or_else(|e| panic!("{s}: {e}"));
        run("STOP ALL SLAVES");
        run("RESET SLAVE ALL");
        run("RESET MASTER");
        assert_eq!(
            meta["GtidExecuted"], "",
            "MariaDB: the server would issue gtid_purged"
        );
        let place = if gtid {
            run(&format!(
                "SET GLOBAL gtid_slave_pos = '{}'",
                meta["GtidSlavePos"].as_str().expect("GtidSlavePos")
            ));
            "MASTER_USE_GTID = slave_pos".to_string()
        } else {
            format!(
                "MASTER_LOG_FILE = '{}', MASTER_LOG_POS = {}",
                meta["LogFile"].as_str().expect("LogFile"),
                meta["LogPos"]
            )
        };
        let db = self.source_db;
        run(&format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'repl', MASTER_PASSWORD = '{REPL_PASSWORD}', {place}",
            db.host, db.port
        ));
        run("START SLAVE");
    }

    /// All of it.
    pub fn whole_seed(&self, gtid: bool) {
        self.prepare();
        self.backup();
        self.restore();
        self.connect(gtid);
        self.cleanup();
    }
}

impl Player<'_, MysqldKind> {
    /// 3.6 with the statements of today: the v2 server's own are gone from MySQL 8.4 on.
    pub fn connect(&self, gtid: bool) {
        let meta = self.metadata();
        let mut conn = self.target_db.root();
        let mut run = |s: &str| conn.query_drop(s).unwrap_or_else(|e| panic!("{s}: {e}"));
        run("STOP REPLICA");
        run("RESET REPLICA ALL");
        run("RESET BINARY LOGS AND GTIDS");
        let executed = meta["GtidExecuted"].as_str().expect("GtidExecuted");
        if !executed.is_empty() {
            run(&format!("SET GLOBAL gtid_purged = '{executed}'"));
        }
        let place = if gtid {
            "SOURCE_AUTO_POSITION = 1".to_string()
        } else {
            format!(
                "SOURCE_LOG_FILE = '{}', SOURCE_LOG_POS = {}, SOURCE_AUTO_POSITION = 0",
                meta["LogFile"].as_str().expect("LogFile"),
                meta["LogPos"]
            )
        };
        let db = self.source_db;
        run(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = 'repl', \
             SOURCE_PASSWORD = '{REPL_PASSWORD}', GET_SOURCE_PUBLIC_KEY = 1, {place}",
            db.host, db.port
        ));
        run("START REPLICA");
    }
}

impl Player<'_, Mysql56Kind> {
    /// 3.6 with the v2 server's own statements.
    pub fn connect(&self, gtid: bool) {
        let meta = self.metadata();
        let mut conn = self.target_db.root();
        let mut run = |s: &str| conn.query_drop(s).unwrap_or_else(|e| panic!("{s}: {e}"));
        run("CHANGE MASTER TO MASTER_HOST = '_'");
        run("RESET SLAVE ALL");
        run("RESET MASTER");
        let executed = meta["GtidExecuted"].as_str().expect("GtidExecuted");
        if !executed.is_empty() {
            run(&format!("SET GLOBAL gtid_purged = '{executed}'"));
        }
        let place = if gtid {
            "MASTER_AUTO_POSITION = 1".to_string()
        } else {
            format!(
                "MASTER_LOG_FILE = '{}', MASTER_LOG_POS = {}, MASTER_AUTO_POSITION = 0",
                meta["LogFile"].as_str().expect("LogFile"),
                meta["LogPos"]
            )
        };
        let db = self.source_db;
        run(&format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, {place}",
            db.host, db.port
        ));
        run(&format!(
            "CHANGE MASTER TO MASTER_USER = 'repl', MASTER_PASSWORD = '{REPL_PASSWORD}'"
        ));
        run("START SLAVE");
    }
}
