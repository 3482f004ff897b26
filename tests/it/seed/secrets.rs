//! Secrets in a complete seed of each kind but MariaDB's by HTTP, which tests/security has: the passwords and tokens are in no command line,
//! no environment, no log, no record, no file that a stranger can read, and no answer.

use super::by_command::Pair;
use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{self, servers};
use crate::support::server::{AGENT_PASSWORD, Kind, REPL_PASSWORD, Server};
use crate::support::witness::{Seen, Witness};

struct Watch<'a> {
    agents: [&'a Agent; 2],
    secrets: Vec<String>,
    witness: Witness,
}

impl<'a> Watch<'a> {
    /// Of the replication account only the `seed` command knows anything; the test itself connects by it otherwise.
    fn start(source: &'a Agent, target: &'a Agent) -> Self {
        let secrets = vec![
            AGENT_PASSWORD.to_string(),
            REPL_PASSWORD.to_string(),
            source.token(),
            target.token(),
        ];
        let dirs = vec![source.dir.clone(), target.dir.clone()];
        Self {
            agents: [source, target],
            witness: Witness::start(secrets.clone(), dirs),
            secrets,
        }
    }

    fn end(self, tools: [&str; 2]) {
        let seen: Seen = self.witness.stop();
        assert!(
            seen.leaks.is_empty() && seen.bad_files.is_empty(),
            "{seen:?}"
        );
        for tool in tools {
            let known = |line: &String| line.contains(tool) && line.contains(".cnf");
            assert!(
                seen.tools.iter().any(known),
                "{tool} was not seen: {:?}",
                seen.tools
            );
        }
        assert!(
            !seen.option_files.is_empty() && !seen.dumps.is_empty(),
            "{seen:?}"
        );
        for (file, bits, above) in &seen.option_files {
            assert_eq!((*bits, *above), (0o600, 0o700), "{}", file.display());
            assert!(!file.exists(), "gone with its tool");
        }
        assert!(
            seen.dumps.iter().all(|(_, bits)| bits & 0o077 == 0),
            "{:?}",
            seen.dumps
        );
        for agent in self.agents {
            let mut told = vec![agent.log()];
            told.push(
                std::fs::read_to_string(agent.dir.join("state/seeds.json")).expect("the record"),
            );
            for path in [
                "/api/active-seed",
                "/api/get-agent-data",
                "/api/get-agent-info",
                "/api/seed-stage-state/1/Restore",
            ] {
                told.push(agent.call(path).1);
            }
            for secret in &self.secrets {
                assert!(
                    told.iter().all(|t| !t.contains(secret.as_str())),
                    "{secret}"
                );
            }
        }
    }
}

/// Enough for the witness to look at the tools many times.
fn data<K: Kind>(db: &Server<K>) {
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.filler (id INT PRIMARY KEY, t VARCHAR(300))");
    db.sql("INSERT INTO shop.filler VALUES (1, REPEAT('x', 128))");
    for doubling in 0..17 {
        db.sql(&format!(
            "INSERT INTO shop.filler SELECT id + {}, SHA2(id, 512) FROM shop.filler",
            1 << doubling
        ));
    }
}

#[test]
fn of_a_mysql_seed_by_http() {
    let (source_db, target_db) = servers::<MysqldKind>("", "");
    data(&source_db);
    let pair = pair::Pair::beside(
        source_db,
        target_db,
        "Mysqldump",
        &Changes::default(),
        &Changes::default(),
    );
    let pair::Pair {
        source,
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let watch = Watch::start(source, target);
    let player = pair.seed(1);
    player.prepare();
    player.backup();
    player.restore();
    player.connect(true);
    player.cleanup();
    watch.end(["mysqldump", "mysql "]);
    assert_eq!(target_db.checksums(), source_db.checksums());
}

#[test]
fn of_a_mydumper_seed_by_http() {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    data(&source_db);
    let changes = Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        ..Changes::default()
    };
    let pair = pair::Pair::beside(source_db, target_db, "Mydumper", &changes, &changes);
    let pair::Pair {
        source,
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let watch = Watch::start(source, target);
    let player = pair.seed(1);
    player.whole_seed(true);
    watch.end(["mydumper", "myloader"]);
    assert_eq!(target_db.checksums(), source_db.checksums());
}

/// What the command itself prints is looked at by [`Pair::run`].
fn by_command<K: Kind>(tools: [&str; 2]) {
    let pair = Pair::<K>::start("");
    data(&pair.source_db);
    let watch = Watch::start(&pair.source, &pair.target);
    let out = pair.seed(&[]);
    assert_eq!(out.status.code(), Some(0));
    watch.end(tools);
    assert_eq!(pair.target_db.checksums(), pair.source_db.checksums());
}

#[test]
fn of_a_mariadb_seed_by_command() {
    by_command::<MariadbKind>(["mariadb-dump", "mariadb "]);
}

#[test]
fn of_a_mysql_seed_by_command() {
    by_command::<MysqldKind>(["mysqldump", "mysql "]);
}
