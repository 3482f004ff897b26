//! Seeds by mariadb-backup through HTTP and by the `seed` command, while a writer inserts on the source.

use super::{by_command, situations};
use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::pair::{Pair, servers};
use crate::support::player::Player;
use crate::support::writer::Writer;
use crate::support::{free_port, nothing_left, wait_for};
use std::time::Duration;

/// The method on, with a seed port that both agents have.
pub fn changes(seed_port: u16) -> Changes {
    Changes {
        lines: vec![
            ("common", format!("seed-port = {seed_port}")),
            ("common", "seed-secret = \"shared s3cret\"".into()),
            ("xtrabackup", "enabled = true".into()),
        ],
        ..Changes::default()
    }
}

fn fill(source: &Mariadb, target: &Mariadb) {
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id INT PRIMARY KEY, t VARCHAR(300)) ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_20000",
        "CREATE TABLE shop.aria (id INT PRIMARY KEY) ENGINE=Aria AS SELECT seq AS id FROM mysql.seq_1_to_1000",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    ] {
        source.sql(statement);
    }
    target.sql("CREATE DATABASE precious");
    target.sql("CREATE TABLE precious.t ENGINE=InnoDB AS SELECT 'mine' AS v");
    target.sql("SET GLOBAL read_only = ON");
}

/// The target is a replica of its own: the source's data and accounts, its own settings and identity, no event at work.
fn assert_replica(source: &Mariadb, target: &Mariadb) {
    for thread in ["Slave_IO_Running", "Slave_SQL_Running"] {
        assert_eq!(target.replica_status(thread), "Yes");
    }
    assert_eq!(
        target.sql("SELECT STATUS FROM information_schema.EVENTS"),
        ["SLAVESIDE_DISABLED"]
    );
    assert_eq!(target.value("SELECT @@read_only"), "1", "as before");
    assert_ne!(
        target.value("SELECT @@server_id"),
        source.value("SELECT @@server_id")
    );
    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
    assert_eq!(target.value(rows), source.value(rows));
    assert_eq!(target.value("SELECT COUNT(*) FROM shop.aria"), "1000");
    assert!(target.sql("SHOW DATABASES LIKE 'precious'").is_empty());
    nothing_left(&target.datadir(), |n| {
        n.contains("orchestrator") || n.starts_with("xtrabackup")
    });
}

fn by_http(gtid: bool) {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    fill(&source_db, &target_db);
    for db in [&source_db, &target_db] {
        db.revoke(&["logical", "init_connect"]);
    }
    let port = free_port("127.0.0.2");
    let pair = Pair::beside(
        source_db,
        target_db,
        "Xtrabackup",
        &changes(port),
        &changes(port),
    );
    let Pair {
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let used = || {
        let data = target.json("/api/get-agent-data");
        data["MySQLDatadirDiskUsed"].as_u64().expect("bytes")
    };
    let before = used();
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    player.prepare();
    player.backup();
    assert_eq!(
        target_db.value("SELECT v FROM precious.t"),
        "mine",
        "until Restore"
    );
    let mut last = wait_for("what is staged counts", Duration::from_secs(10), || {
        Some(used()).filter(|u| *u > before + (10 << 20))
    });
    let mut grows = || {
        let now = used();
        assert!(now >= last, "it falls from {last} to {now}");
        last = now;
    };
    player.start_restore();
    grows();
    let state = player.must_complete(target, "Restore");
    println!("{}", state["Details"]);
    assert!(
        state["Details"]
            .as_str()
            .expect("Details")
            .contains("MySQL was down for")
    );
    player.connect(gtid);
    std::thread::sleep(Duration::from_secs(1)); // a look of the agent's
    grows();
    grows();
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);
    assert_replica(source_db, target_db);
}

#[test]
fn by_http_and_position() {
    by_http(false);
}

#[test]
fn by_http_and_gtid() {
    by_http(true);
}

fn by_command(replication: &str) {
    let port = free_port("127.0.0.2");
    let pair = by_command::Pair::<MariadbKind>::start_with("", &changes(port).lines);
    fill(&pair.source_db, &pair.target_db);
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--verify", "--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8_lossy(&out.stdout);
    for part in [
        "Xtrabackup from",
        "MySQL was down for",
        "Verification: the data are equal in ",
        "Replication: IO thread Yes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    writer.write_more();
    writer.stop_and_prove(&pair.target_db);
    assert_replica(&pair.source_db, &pair.target_db);
}

#[test]
fn by_command_and_position() {
    by_command("position");
}

#[test]
fn by_command_and_gtid() {
    by_command("gtid");
}

/// The copy holds the source's own channel, which must not start on the target; `--slave-info` is accepted.
#[test]
fn a_source_that_is_a_replica() {
    for replication in ["gtid", "position"] {
        let lines = changes(free_port("127.0.0.2")).lines;
        situations::chain::<MariadbKind>(situations::MARIADB, replication, &lines);
    }
}

/// `mysql.keep-old-data`: when the old data go, and that those that are kept outlive the next seed.
#[test]
fn what_becomes_of_the_old_data() {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    source_db.sql("CREATE DATABASE shop");
    let port = free_port("127.0.0.2");
    let source = Agent::start_with(&source_db, &changes(port));
    let staging = target_db.datadir().join("#sql-orchestrator-agent");
    let kept_first = staging.join("kept-1/precious/t.ibd");
    for (seed, keep) in [(1, "forever"), (2, "until-cleanup"), (3, "no")] {
        target_db.sql("CREATE DATABASE precious");
        target_db.sql("CREATE TABLE precious.t (v INT) ENGINE=InnoDB");
        let mut changes = changes(port);
        let line = format!("keep-old-data = {keep:?}");
        changes.lines.push(("mysql", line));
        let target = Agent::start_with(&target_db, &changes);
        let player = Player {
            id: seed,
            method: "Xtrabackup",
            target: &target,
            source: &source,
            target_db: &target_db,
            source_db: &source_db,
        };
        let old = staging.join(format!("{seed}/old/precious/t.ibd"));
        player.prepare();
        player.backup();
        player.restore();
        if keep == "no" {
            wait_for("the old data go", Duration::from_secs(60), || {
                (!old.exists()).then_some(())
            });
        } else {
            assert!(old.exists(), "{keep}: until Cleanup");
        }
        player.cleanup();
        wait_for(keep, Duration::from_secs(60), || {
            (!old.exists()).then_some(())
        });
        let kept = staging.join(format!("kept-{seed}"));
        assert_eq!(kept.exists(), keep == "forever", "{keep}");
        assert!(kept_first.exists(), "{keep}");
        assert!(target_db.sql("SHOW DATABASES LIKE 'precious'").is_empty());
    }
    // Neither lists them as a schema, nor does a server that starts again mind them.
    target_db.down();
    target_db.up();
    let databases = target_db.sql("SHOW DATABASES").join(" ");
    assert!(
        databases.contains("shop") && !databases.contains("orchestrator"),
        "{databases}"
    );
}
