//! Seeds of MySQL by Percona's xtrabackup, for which a stand-in copies (tests/rig/percona.sh): what the agent asks it for, and
//! the whole way of the copy through the data directory of a real MySQL.

use super::xtrabackup::changes;
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mysqld::{Mysqld, MysqldKind};
use crate::support::pair::{Pair, servers};
use crate::support::player::Player;
use crate::support::server::REPL_PASSWORD;
use crate::support::writer::Writer;
use crate::support::{free_port, nothing_left, processes_with, wait_for};
use std::path::Path;
use std::time::Duration;

const CNF: &str = "plugin_load_add=mysql_clone.so\n";

fn fill(source: &Mysqld, target: &Mysqld) {
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id INT NOT NULL, t VARCHAR(300)) ENGINE=InnoDB",
        "INSERT INTO shop.items VALUES (0, SHA2(0, 512))",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
        "CREATE TABLE shop.`in``mind` (a INT PRIMARY KEY) ENGINE=MEMORY",
        "INSERT INTO shop.`in``mind` VALUES (1)",
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

/// kill -9 of the target's agent while the tool prepares the copy of seed 1: that copy is refused, and the old data are in place.
fn killed_preparing(pair: &mut Pair<MysqldKind>, arguments: &Path) {
    let hold = arguments.with_extension("hold");
    std::fs::write(&hold, "").expect("hold");
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let staging = pair.target_db.datadir().join(".orchestrator-agent");
    let tools = || {
        let all = processes_with(&staging.display().to_string());
        all.iter().filter(|p| p.1.contains("--prepare")).count()
    };
    wait_for("the copy is prepared", Duration::from_secs(30), || {
        (tools() > 0).then_some(())
    });
    pair.target.kill();
    pair.target.launch();
    pair.target.wait_ready();
    wait_for("the tool ends", Duration::from_secs(10), || {
        (tools() == 0).then_some(())
    });
    std::fs::remove_file(hold).expect("hold");
    let seed = pair.seed(1);
    for again in [false, true] {
        if again {
            seed.start_restore();
        }
        let state = seed.poll(&pair.target, "Restore");
        assert_eq!(state["Status"], "Error", "{state}");
        assert_eq!(state["TargetData"], "Unchanged", "{state}");
        let details = state["Details"].as_str().expect("Details");
        let refusal = "--prepare of this copy was interrupted, and a copy in that state cannot be relied on: run a new seed";
        assert_eq!(details.contains(refusal), again, "{details}");
        let mine = pair.target_db.value("SELECT v FROM precious.t");
        assert_eq!(mine, "mine");
    }
    std::fs::remove_file(arguments).expect("arguments");
}

/// `upstream`: the source replicates from there. `option`: one more for the tool.
fn whole(gtid: bool, upstream: Option<&Mysqld>, option: &str) {
    let (source_db, target_db) = servers::<MysqldKind>(CNF, CNF);
    if let Some(up) = upstream {
        source_db.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='{REPL_PASSWORD}', \
             GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1",
            up.host, up.port
        ));
        source_db.sql("START REPLICA");
    }
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
    let mut pair = Pair::beside(source_db, target_db, "Xtrabackup", &changes, &changes);
    let writer = Writer::start(&pair.source_db);
    if gtid {
        killed_preparing(&mut pair, &arguments);
    }
    let Pair {
        source,
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let player = pair.seed(2);
    player.prepare();
    player.backup();
    assert_eq!(target_db.value("SELECT v FROM precious.t"), "mine");
    player.start_restore();
    let state = player.must_complete(target, "Restore");
    println!("{}", state["Details"]);
    let removed = "1 replication channels of the source removed";
    let details = state["Details"].as_str().expect("Details");
    assert_eq!(details.contains(removed), upstream.is_some(), "{details}");
    assert!(
        details.ends_with(
            "1 events disabled. MEMORY tables are empty, as after a restart: shop.in`mind"
        ),
        "{details}"
    );
    assert!(target_db.sql("SHOW REPLICA STATUS").is_empty());
    player.connect(gtid);
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);

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
    // The first use of such a table after a start empties it, which is logged as a transaction of the server's own.
    let mind = "SELECT COUNT(*) FROM shop.`in``mind`";
    assert_eq!([source_db.value(mind), target_db.value(mind)], ["1", "0"]);
    let executed = target_db.value("SELECT @@gtid_executed");
    assert!(!executed.contains(&new), "errant: {executed}");
    nothing_left(&target_db.datadir(), |n| {
        n.contains("orchestrator") || n.starts_with("xtrabackup") || n.ends_with(".zst")
    });
    assert_called(
        &std::fs::read_to_string(arguments).expect("arguments"),
        upstream.is_some(),
        option.contains("compress"),
        [
            &source.dir.join("backup"),
            &target_db.datadir().join(".orchestrator-agent/2/work"),
        ],
    );
}

/// No password and no reserved option in an argument vector, the operator's own ones where they
/// belong.
/// `dirs`: where the two agents' tools have their temporary files.
fn assert_called(text: &str, of_replica: bool, compressed: bool, dirs: [&Path; 2]) {
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
    let prepare = one(&[
        "xtrabackup --no-defaults --prepare --target-dir=",
        "--use-memory=",
    ]);
    // Each has its temporary files where the agent may write, whatever TMPDIR is.
    for (line, dir) in [(&backup, dirs[0]), (&prepare, dirs[1])] {
        let option = format!(" --tmpdir={} ", dir.display());
        assert!(line.contains(&option), "{option}: {line}");
    }
    if compressed {
        one(&["xtrabackup --no-defaults --decompress --parallel=3 --target-dir="]);
    } else {
        assert!(!text.contains("--decompress"));
    }
}

/// A physical copy of a replica would start the source's channel by itself.
#[test]
fn by_position_from_a_replica() {
    let up = Mysqld::start("127.0.0.4", "");
    up.sql("RESET BINARY LOGS AND GTIDS");
    whole(false, Some(&up), "");
}

/// What `--compress` leaves is removed, whatever packed it.
#[test]
fn by_gtid_and_compressed_by_the_tool() {
    whole(true, None, ", \"--compress=zstd\"");
}

/// What the copy would fail for later is known at Prepare.
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
