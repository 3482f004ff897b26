//! Two hosts under an orchestrator: a source, a target with old data of its own, and an agent at each.

use super::orchestrator::{AgentPage, Orchestrator};
use super::seed::Seed;
use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::servers;
use crate::support::server::{Kind, REPL_PASSWORD, Server};
use crate::support::{Scratch, free_port, nothing_left, processes_with, wait_for};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The registered names; orchestrator, agents and replicas resolve them.
pub const SOURCE: &str = "127.0.0.1";
pub const TARGET: &str = "127.0.0.2";

/// What differs between the families.
pub trait Family: Kind {
    /// Lines for my.cnf of both servers.
    const CNF: &str;
    /// The staging directory in the data directory.
    const STAGING: &str;
    /// Tables of the source.
    fn fill(source: &Server<Self>)
    where
        Self: Sized;
    /// Makes an untouched server out of a replica.
    const NO_REPLICA: &[&str];
    /// Gives the channel its user, and starts it.
    fn connect(replica: &Server<Self>)
    where
        Self: Sized;
    /// The column of the replica's status for the source's host.
    const HOST: &str;
    /// The column that says how GTIDs are used, and its value.
    const GTID: (&str, &str);
}

impl Family for MariadbKind {
    const CNF: &str = "";
    const STAGING: &str = "#sql-orchestrator-agent";
    const NO_REPLICA: &[&str] = &["STOP SLAVE", "RESET SLAVE ALL"];
    const HOST: &str = "Master_Host";
    const GTID: (&str, &str) = ("Using_Gtid", "Slave_Pos");

    fn fill(source: &Server<Self>) {
        source.sql("CREATE DATABASE shop");
        source.sql(
            "CREATE TABLE shop.items ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_60000",
        );
    }

    fn connect(replica: &Server<Self>) {
        replica.sql(&format!(
            "CHANGE MASTER TO MASTER_USER = 'repl', MASTER_PASSWORD = '{REPL_PASSWORD}'"
        ));
        replica.sql("START SLAVE");
    }
}

impl Family for MysqldKind {
    const CNF: &str = "plugin_load_add=mysql_clone.so\n";
    const STAGING: &str = ".orchestrator-agent";
    const NO_REPLICA: &[&str] = &["STOP REPLICA", "RESET REPLICA ALL"];
    const HOST: &str = "Source_Host";
    const GTID: (&str, &str) = ("Auto_Position", "1");

    fn fill(source: &Server<Self>) {
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.items (id INT NOT NULL, t VARCHAR(300)) ENGINE=InnoDB",
            "INSERT INTO shop.items VALUES (0, SHA2(0, 512))",
        ] {
            source.sql(statement);
        }
        for doubling in 0..13 {
            source.sql(&format!(
                "INSERT INTO shop.items SELECT id + {n}, SHA2(id + {n}, 512) FROM shop.items",
                n = 1 << doubling
            ));
        }
    }

    fn connect(replica: &Server<Self>) {
        replica.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'repl', SOURCE_PASSWORD = '{REPL_PASSWORD}', GET_SOURCE_PUBLIC_KEY = 1"
        ));
        replica.sql("START REPLICA");
    }
}

/// Dropped in this order.
pub struct Hosts<K: Family> {
    pub source: Agent,
    pub target: Agent,
    pub source_db: Server<K>,
    pub target_db: Server<K>,
    pub orchestrator: Orchestrator,
    pub seed_port: u16,
    _secrets: Scratch,
}

/// How the agents are set up.
#[derive(Default, Clone)]
pub struct Setup {
    pub method: &'static str,
    /// `[classic] replication-user` is set.
    pub replicates: bool,
    pub of_source: Changes,
    pub of_target: Changes,
}

impl Setup {
    /// A seed by this method, which ends with a replica that runs.
    pub fn by(method: &'static str) -> Self {
        Self {
            method,
            replicates: true,
            ..Self::default()
        }
    }

    pub fn on_source(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.of_source.lines.push((section, line.into()));
        self
    }

    pub fn on_target(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.of_target.lines.push((section, line.into()));
        self
    }

    pub fn on_both(self, section: &'static str, line: &str) -> Self {
        self.on_source(section, line).on_target(section, line)
    }

    fn changes(
        &self,
        own: &Changes,
        host: &str,
        port: u16,
        orchestrator: u16,
        secrets: &Scratch,
    ) -> Changes {
        let mut lines = vec![
            ("common", format!("hostname = {host:?}")),
            ("common", format!("seed-port = {port}")),
            ("common", "seed-secret = \"shared s3cret\"".into()),
            ("classic", format!("seed-method = [{:?}]", self.method)),
        ];
        lines.extend(match self.method {
            "Xtrabackup" => Some(("xtrabackup", "enabled = true".to_string())),
            "Mydumper" => Some(("mydumper", "enabled = true".to_string())),
            "ClonePlugin" => Some(("clone_plugin", "enabled = true".to_string())),
            _ => None,
        });
        if self.replicates {
            let file = secrets.0.join("replication-password");
            lines.push(("classic", "replication-user = \"repl\"".into()));
            lines.push(("classic", format!("replication-password-file = {file:?}")));
        }
        lines.extend(own.lines.iter().cloned());
        Changes {
            lines,
            agents_port: orchestrator,
            ..own.clone()
        }
    }
}

impl Hosts<MariadbKind> {
    /// A reader of the target's binary log, as a replica is; it has begun.
    pub fn replica_of_target(&self) -> Child {
        let db = &self.target_db;
        let tool = crate::support::rig().join("mdb/bin/mariadb-binlog");
        let log = db.sql("SHOW BINARY LOGS").remove(0);
        let reader = Command::new(tool)
            .args([
                "--no-defaults",
                "--read-from-remote-server",
                "--stop-never",
                "--user=repl",
            ])
            .arg(format!("--password={REPL_PASSWORD}"))
            .arg(format!("--host={TARGET}"))
            .arg(format!("--port={}", db.port))
            .arg(log)
            .stdout(Stdio::null())
            .spawn();
        wait_for("the reader", Duration::from_secs(10), || {
            (!db.connections_of("repl").is_empty()).then_some(())
        });
        reader.expect("mariadb-binlog")
    }
}

impl<K: Family> Hosts<K> {
    /// Both are registered, and the source offers the method.
    pub fn start(setup: &Setup) -> Self {
        Self::between(setup, servers::<K>(K::CNF, K::CNF))
    }

    pub fn between(setup: &Setup, (source_db, target_db): (Server<K>, Server<K>)) -> Self {
        if setup.method == "ClonePlugin" {
            for db in [&source_db, &target_db] {
                db.unlogged("GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%'");
                db.unlogged("GRANT INSERT ON mysql.plugin TO 'agent'@'%'");
            }
        }
        K::fill(&source_db);
        let secrets = Scratch::new("secrets");
        let file = secrets.0.join("replication-password");
        std::fs::write(&file, REPL_PASSWORD).expect("password file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).expect("mode");
        let orchestrator = Orchestrator::start();
        let seed_port = free_port(TARGET);
        let agent = |own: &Changes, db: &Server<K>| {
            let changes = setup.changes(own, &db.host, seed_port, orchestrator.port(), &secrets);
            let mut agent = Agent::start_with(db, &changes);
            agent.hostname.clone_from(&db.host);
            agent
        };
        let hosts = Self {
            source: agent(&setup.of_source, &source_db),
            target: agent(&setup.of_target, &target_db),
            source_db,
            target_db,
            orchestrator,
            seed_port,
            _secrets: secrets,
        };
        hosts.wait_registered(SOURCE, 1);
        hosts.wait_registered(TARGET, 1);
        wait_for(
            "the source offers the method",
            Duration::from_secs(30),
            || {
                let page = hosts.page(SOURCE);
                let path = format!("/orchestrator-agent/{}", setup.method);
                let first = page.paths().first().is_some_and(|p| *p == path);
                (first && page.mysql_disk_usage > 0).then_some(())
            },
        );
        wait_for("the target is known", Duration::from_secs(30), || {
            let page = hosts.page(TARGET);
            // MySQL may be stopped at once, and then this is what is known of it.
            let noted = hosts.target.dir.join("state/datadir.json").exists();
            (page.mysql_running && page.mysql_disk_usage > 0 && noted).then_some(())
        });
        hosts
    }

    /// Until the host has registered so often.
    pub fn wait_registered(&self, host: &str, times: usize) {
        wait_for("a registration", Duration::from_secs(30), || {
            (self.orchestrator.registrations(host) >= times).then_some(())
        });
    }

    pub fn page(&self, host: &str) -> AgentPage {
        self.orchestrator.page(host)
    }

    /// The target gets data of its own, and its MySQL is stopped from the page of its agent.
    pub fn old_data(&self, mark: &str) {
        for statement in [
            "CREATE DATABASE IF NOT EXISTS precious",
            "DROP TABLE IF EXISTS precious.t",
            "CREATE TABLE precious.t (v VARCHAR(80) NOT NULL) ENGINE=InnoDB",
            &format!("INSERT INTO precious.t VALUES ('{mark}')"),
        ] {
            self.target_db.unlogged(statement);
        }
        self.stop_target();
    }

    pub fn stop_target(&self) {
        let stopped = self.orchestrator.json::<bool>(TARGET, "mysql-stop");
        assert_eq!(stopped, Ok(true));
        assert!(!self.page(TARGET).mysql_running);
    }

    /// A seed that has not begun.
    pub fn new_seed(&self, id: i64) -> Seed {
        Seed::new(self.orchestrator.clone(), id, TARGET, SOURCE)
    }

    /// A seed that runs.
    pub fn seed(&self, id: i64) -> Arc<Seed> {
        self.orchestrator.seed(id, TARGET, SOURCE)
    }

    /// What the agents hold of a seed; empty after at most 60 s.
    fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for host in [SOURCE, TARGET] {
            if self.page(host).is_mounted() {
                held.push(format!("{host}: mounted"));
            }
        }
        if TcpListener::bind((TARGET, self.seed_port)).is_err() {
            held.push(format!("port {} is open", self.seed_port));
        }
        held.extend(self.tools());
        for db in [&self.source_db, &self.target_db] {
            if self.is_up(db) {
                held.extend(db.connections_of("agent"));
            }
        }
        held
    }

    pub fn is_up(&self, db: &Server<K>) -> bool {
        self.orchestrator.discover(&db.host, db.port.into())
    }

    /// Tools of both agents, and private servers on a copy.
    pub fn tools(&self) -> Vec<String> {
        let mut found = Vec::new();
        for agent in [&self.source, &self.target] {
            let password_file = format!("{}/state/", agent.dir.display());
            found.extend(processes_with(&password_file));
        }
        let datadir = self.target_db.datadir().display().to_string();
        for staging in ["/#sql-orchestrator-agent", "/.orchestrator-agent"] {
            found.extend(processes_with(&format!("{datadir}{staging}")));
        }
        found
            .into_iter()
            .map(|p| format!("{}: {}", p.0, p.1))
            .collect()
    }

    /// Until a process runs whose command line has these words; its id.
    pub fn wait_tool(&self, words: [&str; 2]) -> u32 {
        wait_for(words[0], Duration::from_secs(60), || {
            let found = processes_with(words[0]);
            let mut found = found.into_iter().filter(|p| p.1.contains(words[1]));
            found.next().map(|p| p.0)
        })
    }

    /// Until rows of seed 1 are loaded; returns the process of the private server that loads them.
    pub fn wait_load(&self) -> u32 {
        let data = self.target_db.datadir();
        let table = data.join(K::STAGING).join("1/new/shop/items.ibd");
        wait_for("rows are loaded", Duration::from_secs(60), || {
            let written = std::fs::metadata(&table).ok()?.len();
            (written > 1 << 20).then_some(())
        });
        self.wait_tool(["--innodb-doublewrite=OFF", &data.display().to_string()])
    }

    /// Until mysql-du of the target shows that the copy has begun.
    pub fn wait_flow(&self, seed: &Seed) {
        let used = || self.page(TARGET).mysql_disk_usage;
        let before = used();
        wait_for("bytes arrive", Duration::from_secs(60), || {
            assert!(!seed.is_over(), "{:#?}", seed.states());
            (used() > before + (1 << 20)).then_some(())
        });
    }

    /// Within 60 s neither agent holds anything of a seed: no mount, port, process, session, lock or staged file.
    pub fn assert_released(&self, row: &str) {
        let begin = Instant::now();
        loop {
            let held = self.held();
            if held.is_empty() {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{row}: {held:#?}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        nothing_left(&self.target_db.datadir(), |n| n.contains("orchestrator"));
        println!(
            "{row}: released after {:.1} s",
            begin.elapsed().as_secs_f64()
        );
    }

    /// The old data, started from the page of the agent, once that has ended the Cleanup of the seed.
    pub fn assert_old_data(&self, mark: &str) {
        wait_for("the end of the seed", Duration::from_secs(30), || {
            let started = self.orchestrator.json::<bool>(TARGET, "mysql-start");
            let busy = |e: &String| e.contains("is in progress");
            if started.as_ref().is_err_and(busy) {
                return None;
            }
            assert_eq!(started, Ok(true), "{mark}");
            Some(())
        });
        self.assert_old_rows(mark);
    }

    /// The old data after an abort: for a minute the agent does not start MySQL, because the server goes on with its procedure.
    pub fn assert_old_data_after_abort(&self, mark: &str) {
        let text = self.orchestrator.call(TARGET, "mysql-start");
        let text = text.expect_err("right after an abort");
        assert!(
            text.contains("agent-error:") && text.contains("abort"),
            "{text}"
        );
        self.target_db.up();
        self.assert_old_rows(mark);
    }

    /// The same, once the agent does.
    pub fn wait_old_data(&self, mark: &str) {
        wait_for("mysql-start is accepted", Duration::from_secs(90), || {
            std::thread::sleep(Duration::from_secs(1));
            let started = self.orchestrator.says_true(TARGET, "mysql-start");
            started.then_some(())
        });
        self.assert_old_rows(mark);
    }

    fn assert_old_rows(&self, mark: &str) {
        assert_eq!(self.target_db.value("SELECT v FROM precious.t"), mark);
        assert!(self.target_db.sql("SHOW DATABASES LIKE 'shop'").is_empty());
    }

    /// The source's rows and nothing of the old ones; no transaction of its own.
    pub fn assert_copied(&self) {
        let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
        assert_eq!(self.target_db.value(rows), self.source_db.value(rows));
        assert!(
            self.target_db
                .sql("SHOW DATABASES LIKE 'precious'")
                .is_empty()
        );
        for own in ["@@server_id", "@@port"] {
            let of = |db: &Server<K>| db.value(&format!("SELECT {own}"));
            assert_ne!(of(&self.target_db), of(&self.source_db), "{own}");
        }
    }

    /// The threads' state, the source's host, and that GTIDs are used.
    pub fn assert_replica(&self, running: &str) {
        let status = |column| self.target_db.replica_status(column);
        assert_eq!(status(K::HOST), SOURCE);
        assert_eq!(status(K::GTID.0), K::GTID.1);
        assert_eq!([K::IO_RUNNING, K::SQL_RUNNING].map(status), [running; 2]);
    }
}
