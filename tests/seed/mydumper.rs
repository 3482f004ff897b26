//! Mydumper seeds between real servers, with the mydumper 0.10.1 of Debian 12.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::Mariadb;
use crate::support::player::Player;
use crate::support::writer::Writer;

fn enabled() -> Changes {
    Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        ..Changes::default()
    }
}

/// As orchestrator does it, while a writer inserts on the source.
fn by_http(gtid: bool) {
    let source_db = Mariadb::start("127.0.0.1", "");
    let target_db = Mariadb::start("127.0.0.2", "");
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    source_db.sql("CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))");
    source_db.sql("CREATE TABLE shop.filler ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM shop.seq_1_to_50000");
    let source = Agent::start_with(&source_db, &enabled());
    let target = Agent::start_with(&target_db, &enabled());
    let before = target_db.value("SELECT @@global.sql_mode");
    let writer = Writer::start(&source_db);
    let player = Player {
        id: 1,
        method: "Mydumper",
        target: &target,
        source: &source,
        target_db: &target_db,
        source_db: &source_db,
    };
    player.whole_seed(gtid);
    let written = writer.written();
    let n = writer.stop_and_prove(&target_db);
    assert!(n >= written);
    assert_eq!(target_db.replica_status("Slave_SQL_Running"), "Yes");
    assert_eq!(target_db.replica_status("Slave_IO_Running"), "Yes");
    // No transaction of the target's own: every GTID in its binary log is the source's.
    let own = target_db.value("SELECT @@server_id");
    let log = target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "transactions of its own: {log}"
    );
    assert_eq!(
        target_db.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'"),
        "SLAVESIDE_DISABLED"
    );
    assert_eq!(target_db.value("SELECT @@event_scheduler"), "ON");
    assert_eq!(target_db.value("SELECT @@global.sql_mode"), before, "D11");
    let left: Vec<_> = std::fs::read_dir(target.dir.join("backup"))
        .expect("backup-dir")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.is_empty(), "cleaned up: {left:?}");
}

#[test]
fn mydumper_by_position() {
    by_http(false);
}

#[test]
fn mydumper_by_gtid() {
    by_http(true);
}
