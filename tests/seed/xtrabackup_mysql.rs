//! Seeds of MySQL by Percona's xtrabackup, for which a stand-in copies (tests/rig/percona.sh): what the agent asks it for, and
//! the whole way of the copy through the data directory of a real MySQL.

use super::xtrabackup::changes;
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mysqld::{Mysqld, MysqldKind};
use crate::support::player::Player;
use crate::support::server::REPL_PASSWORD;
use crate::support::writer::Writer;
use crate::support::{free_port, nothing_left};
use std::time::Duration;

const CNF: &str = "plugin_load_add=mysql_clone.so\n";

fn fill(source: &Mysqld, target: &Mysqld) {
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id INT NOT NULL, t VARCHAR(300)) ENGINE=InnoDB",
        "INSERT INTO shop.items VALUES (0, SHA2(0, 512))",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
        "GRANT BACKUP_ADMIN ON *.* TO 'agent'@'%'",
    ] {
        source.sql(statement);
    }
    for doubling in 0..12 {
        source.sql(&format!(
            "INSERT INTO shop.items SELECT id + {n}, SHA2(id + {n}, 512) FROM shop.items",
            n = 1 << doubling
        ));
    }
    target.sql("CREATE DATABASE precious");
    target.sql("CREATE TABLE precious.t ENGINE=InnoDB AS SELECT 'mine' AS v");
    target.sql("SET PERSIST max_connections = 77");
    target.sql("SET GLOBAL super_read_only = ON");
}

/// `upstream`: the source replicates from there. `option`: one more for the tool.
fn whole(gtid: bool, upstream: Option<&Mysqld>, option: &str) {
    let source_db = Mysqld::start("127.0.0.1", CNF);
    if let Some(up) = upstream {
        source_db.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='{REPL_PASSWORD}', \
             GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1",
            up.host, up.port
        ));
        source_db.sql("START REPLICA");
    }
    let target_db = Mysqld::start("127.0.0.2", CNF);
    for db in [&source_db, &target_db] {
        db.revoke(&["logical"]);
    }
    fill(&source_db, &target_db);
    let uuid = target_db.value("SELECT @@server_uuid");
    let fakes = Fakes::of::<MysqldKind>();
    let arguments = fakes.put_percona();
    let mut changes = changes(free_port("127.0.0.2"));
    changes.path_first = Some(fakes.dir.clone());
    changes.lines.push((
        "xtrabackup",
        format!("xtrabackup-addtional-opts = [\"--parallel=3\", \"--password=hunter2\"{option}]"),
    ));
    changes
        .lines
        .push(("xtrabackup", "stream-compression = \"lz4\"".into()));
    let source = Agent::start_with(&source_db, &changes);
    let target = Agent::start_with(&target_db, &changes);
    let writer = Writer::start(&source_db);
    let player = Player {
        id: 1,
        method: "Xtrabackup",
        target: &target,
        source: &source,
        target_db: &target_db,
        source_db: &source_db,
    };
    player.prepare();
    player.backup();
    assert_eq!(target_db.value("SELECT v FROM precious.t"), "mine");
    player.start_restore();
    let state = player.must_complete(&target, "Restore");
    println!("{}", state["Details"]);
    let forgotten = "1 replication channels of the source forgotten";
    let details = state["Details"].as_str().expect("Details");
    assert_eq!(details.contains(forgotten), upstream.is_some(), "{details}");
    assert!(target_db.sql("SHOW REPLICA STATUS").is_empty());
    player.connect(gtid);
    player.cleanup();
    std::thread::sleep(Duration::from_secs(2));
    writer.stop_and_prove(&target_db);

    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
    assert_eq!(target_db.value(rows), source_db.value(rows));
    assert!(target_db.sql("SHOW DATABASES LIKE 'precious'").is_empty());
    assert_eq!(
        target_db.sql("SELECT STATUS FROM information_schema.EVENTS"),
        ["REPLICA_SIDE_DISABLED"]
    );
    assert_eq!(
        target_db.value("SELECT @@super_read_only"),
        "1",
        "as before"
    );
    assert_eq!(target_db.value("SELECT @@max_connections"), "77", "its own");
    let new = target_db.value("SELECT @@server_uuid");
    assert!(new != uuid && new != source_db.value("SELECT @@server_uuid"));
    let executed = target_db.value("SELECT @@gtid_executed");
    assert!(!executed.contains(&new), "errant: {executed}");
    nothing_left(&target_db.datadir(), |n| {
        n.contains("orchestrator") || n.starts_with("xtrabackup") || n.ends_with(".zst")
    });
    assert_called(
        &std::fs::read_to_string(arguments).expect("arguments"),
        upstream.is_some(),
        option.contains("compress"),
    );
}

/// D34, D38, agent-api-v2 4.3: no password and no reserved option in an argument vector, the operator's own ones where they
/// belong.
fn assert_called(text: &str, of_replica: bool, compressed: bool) {
    println!("{text}");
    assert!(!text.contains("hunter2") && !text.contains("--password"));
    let one = |words: &[&str]| {
        let found: Vec<&str> = text
            .lines()
            .filter(|l| words.iter().all(|w| l.contains(w)))
            .collect();
        assert_eq!(found.len(), 1, "{words:?}: {text}");
        found[0].to_string()
    };
    let backup = one(&[
        "xtrabackup --defaults-file=",
        "--backup --stream=xbstream --target-dir=",
    ]);
    assert!(backup.contains("--parallel=3"), "{backup}");
    assert_eq!(backup.contains(" --slave-info "), of_replica, "{backup}");
    one(&["xbstream -x --parallel=3 -C "]);
    one(&[
        "xtrabackup --no-defaults --prepare --target-dir=",
        "--use-memory=",
    ]);
    if compressed {
        one(&["xtrabackup --no-defaults --decompress --parallel=3 --target-dir="]);
    } else {
        assert!(!text.contains("--decompress"));
    }
}

/// DESIGN 4.4: a physical copy of a replica would start the source's channel by itself.
#[test]
fn by_position_from_a_replica() {
    let up = Mysqld::start("127.0.0.4", "");
    up.sql("RESET BINARY LOGS AND GTIDS");
    whole(false, Some(&up), "");
}

/// D38: what `--compress` leaves is removed, whatever packed it.
#[test]
fn by_gtid_and_compressed_by_the_tool() {
    whole(true, None, ", \"--compress=zstd\"");
}

/// P1: what the copy would fail for later is known at Prepare.
#[test]
fn a_source_that_cannot_be_copied_is_refused() {
    let db = Mysqld::start("127.0.0.1", "");
    let fakes = Fakes::of::<MysqldKind>();
    fakes.put_percona();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..changes(free_port("127.0.0.1"))
    };
    let agent = Agent::start_with(&db, &changes);
    Player::start(&agent, "/api/prepare/1/Xtrabackup/Source");
    let (status, details) =
        crate::support::wait_for("Prepare ends", Duration::from_secs(30), || {
            let state = crate::support::pair::state_of(&agent, 1, "Prepare");
            (state.0 != "Running").then_some(state)
        });
    assert_eq!(status, "Error");
    assert!(
        details.contains("`agent`@`%` lacks BACKUP_ADMIN on the source")
            && details.contains("GRANT BACKUP_ADMIN ON *.*"),
        "{details}"
    );
}
