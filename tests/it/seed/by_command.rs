//! Whole seeds by the `seed` command, without an orchestrator.

use crate::support::agent::{Agent, Changes};
use crate::support::certificates::Certificates;
use crate::support::mariadb::MariadbKind;
use crate::support::pair::servers;
use crate::support::server::{AGENT_PASSWORD, Kind, REPL_PASSWORD, Server};
use crate::support::writer::Writer;
use crate::support::{self, Scratch, binary, free_port};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Output};

/// A [`support::pair::Pair`], and the files that `seed` wants.
pub struct Pair<K: Kind> {
    pair: support::pair::Pair<K>,
    listen: String,
    scratch: Scratch,
}

impl<K: Kind> Deref for Pair<K> {
    type Target = support::pair::Pair<K>;

    fn deref(&self) -> &Self::Target {
        &self.pair
    }
}

impl<K: Kind> DerefMut for Pair<K> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.pair
    }
}

impl<K: Kind> Pair<K> {
    /// More lines for both my.cnf.
    pub fn start(cnf: &str) -> Self {
        Self::start_with(cnf, &[])
    }

    /// And more lines for both agents.
    pub fn start_with(cnf: &str, more: &[(&'static str, String)]) -> Self {
        Self::of(cnf, cnf, more)
    }

    /// The same with a my.cnf for each.
    pub fn of(source_cnf: &str, target_cnf: &str, more: &[(&'static str, String)]) -> Self {
        let changes = Changes {
            lines: more.to_vec(),
            ..Changes::default()
        };
        Self::start_changed(source_cnf, target_cnf, &changes)
    }

    /// And other changes for both agents.
    pub fn start_changed(source_cnf: &str, target_cnf: &str, more: &Changes) -> Self {
        let (source_db, target_db) = servers(source_cnf, target_cnf);
        let port = free_port("127.0.0.1");
        let changes = |db: &Server<K>| {
            // The name under which it registers is the name under which `seed` is told of it.
            let mut lines = vec![
                ("common", format!("hostname = {:?}", db.host)),
                ("common", "poll-interval = \"1s\"".into()), // to notice soon that a new `seed` listens
            ];
            lines.extend_from_slice(&more.lines);
            Changes {
                lines,
                agents_port: port,
                ..more.clone()
            }
        };
        let (of_source, of_target) = (changes(&source_db), changes(&target_db));
        let mut pair =
            support::pair::Pair::beside(source_db, target_db, "", &of_source, &of_target);
        pair.source.hostname.clone_from(&pair.source_db.host);
        pair.target.hostname.clone_from(&pair.target_db.host);
        let scratch = Scratch::new("seed");
        for (name, password) in [("agent", AGENT_PASSWORD), ("repl", REPL_PASSWORD)] {
            let mut options = std::fs::OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(scratch.0.join(name));
            std::io::Write::write_all(&mut file.expect("password file"), password.as_bytes())
                .expect("password file");
        }
        let listen = format!("127.0.0.1:{port}");
        Self {
            pair,
            listen,
            scratch,
        }
    }

    /// Runs `seed` with the replication account and more arguments.
    pub fn seed(&self, more: &[&str]) -> Output {
        let account = self.account();
        let account: Vec<&str> = account.iter().map(String::as_str).collect();
        self.run(&[&account, more].concat())
    }

    /// The arguments that name the replication account.
    pub fn account(&self) -> [String; 4] {
        let file = self.password_file("repl");
        let words = [
            "--replication-user",
            "repl",
            "--replication-password-file",
            &file,
        ];
        words.map(str::to_string)
    }

    pub fn password_file(&self, name: &str) -> String {
        self.scratch.0.join(name).display().to_string()
    }

    /// Runs `seed` with more arguments.
    pub fn run(&self, more: &[&str]) -> Output {
        self.ended(self.command(more).output().expect("seed runs"))
    }

    /// `seed` with more arguments.
    pub fn command(&self, more: &[&str]) -> Command {
        let of = |a: &Agent| format!("{}:{}", a.address, a.port);
        let mut cmd = Command::new(binary());
        cmd.args([
            "seed",
            "--source",
            &of(&self.source),
            "--target",
            &of(&self.target),
        ])
        .args([
            "--listen",
            &self.listen,
            "--poll",
            "200ms",
            "--mysql-user",
            "agent",
            "--mysql-password-file",
            &self.password_file("agent"),
        ]);
        cmd.args(more);
        cmd
    }

    /// Shows what `seed` has said, and proves that no secret is in it.
    pub fn ended(&self, out: Output) -> Output {
        println!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        for secret in [
            AGENT_PASSWORD.to_string(),
            REPL_PASSWORD.to_string(),
            self.source.token(),
            self.target.token(),
        ] {
            for text in [&out.stdout, &out.stderr] {
                assert!(
                    !String::from_utf8_lossy(text).contains(&secret),
                    "a secret was printed"
                );
            }
        }
        out
    }
}

fn whole(replication: &str, using_gtid: &str) {
    let pair = Pair::<MariadbKind>::start("");
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    pair.source_db.sql(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    );
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("Replication: IO thread Yes, SQL thread Yes"),
        "{text}"
    );
    writer.write_more();
    writer.stop_and_prove(&pair.target_db);
    assert_eq!(pair.target_db.replica_status("Using_Gtid"), using_gtid);
    assert_eq!(pair.target_db.replica_status("Slave_IO_Running"), "Yes");
    let own = pair.target_db.value("SELECT @@server_id");
    let log = pair.target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "errant transactions: {log}"
    );
    assert!(
        !pair
            .target
            .dir
            .join("backup/orchestrator_agent_backup.sql")
            .exists(),
        "cleaned up"
    );
}

/// Agents that serve HTTPS and want Basic credentials.
#[test]
fn by_https() {
    let files = Certificates::make("by-https");
    let file = |name: &str| files.0.join(name).display().to_string();
    let mut lines = vec![("common", "use-ssl = true".to_string())];
    for key in ["ssl-cert-file", "ssl-private-key-file"] {
        lines.push(("common", format!("{key} = {:?}", file("a.pem"))));
    }
    let pair = Pair::<MariadbKind>::start_with("", &lines);
    pair.source_db.sql("CREATE DATABASE shop");
    let out = pair.seed(&["--agent-wait", "3s"]);
    assert_eq!(out.status.code(), Some(1), "in clear");
    let out = pair.seed(&["--https", "--agent-wait", "15s"]);
    assert_eq!(out.status.code(), Some(1), "nobody vouches for them");
    let text =
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("invalid peer certificate"), "{text}");
    let out = pair.seed(&["--https", "--ca-file", &file("ca.pem")]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(pair.target_db.sql("SHOW DATABASES LIKE 'shop'"), ["shop"]);
}

#[test]
fn by_gtid() {
    whole("auto", "Slave_Pos");
}

#[test]
fn by_position() {
    whole("position", "No");
}

/// What cannot work is said before anything is touched, and nothing is lost; `--force` takes a replica.
#[test]
fn refusals_and_force() {
    let pair = Pair::<MariadbKind>::start("");
    pair.target_db.sql("CREATE DATABASE precious");
    pair.target_db
        .sql("CREATE TABLE precious.t ENGINE=InnoDB AS SELECT 42 AS n");
    let out = pair.seed(&["--dry-run"]);
    assert_eq!(
        out.status.code(),
        Some(0),
        "a dry run finds nothing to complain about"
    );
    assert_eq!(pair.target_db.value("SELECT n FROM precious.t"), "42");
    assert_eq!(pair.seed(&[]).status.code(), Some(0));
    let again = pair.seed(&[]);
    assert_eq!(again.status.code(), Some(1), "the target is a replica now");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&again.stdout),
        String::from_utf8_lossy(&again.stderr)
    );
    assert!(text.contains("--force"), "{text}");
    assert_eq!(
        pair.target_db.replica_status("Slave_SQL_Running"),
        "Yes",
        "its replication still runs"
    );
    assert_eq!(pair.seed(&["--force"]).status.code(), Some(0));
    assert_eq!(pair.target_db.replica_status("Slave_SQL_Running"), "Yes");
    assert_eq!(
        pair.target_db.value("SELECT n FROM precious.t"),
        "42",
        "a schema of its own stays"
    );
}

#[test]
fn bad_arguments() {
    for args in [
        vec!["seed"],
        vec!["seed", "--source", "a"],
        vec!["seed", "--nonsense"],
        vec!["seed", "--source", "a", "--target", "a"],
    ] {
        let out = Command::new(binary()).args(&args).output().expect("runs");
        assert_eq!(
            out.status.code(),
            Some(2),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!out.stderr.is_empty());
    }
    let help = Command::new(binary())
        .args(["seed", "--help"])
        .output()
        .expect("runs");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--replication-password-file"));
}
