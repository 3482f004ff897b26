//! Mysqldump seeds through HTTP alone, polled as orchestrator polls, while a writer inserts on the source.

use crate::support::agent::Changes;
use crate::support::mariadb::MariadbKind;
use crate::support::pair::{Pair, servers};
use crate::support::writer::Writer;

fn mysqldump_seed(gtid: bool) {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    for db in [&source_db, &target_db] {
        db.revoke(&["read_only", "init_connect"]);
    }
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    source_db.sql("CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))");
    source_db.sql("CREATE TABLE shop.filler ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM shop.seq_1_to_50000");
    let pair = Pair::beside(
        source_db,
        target_db,
        "Mysqldump",
        &Changes::default(),
        &Changes::default(),
    );
    let Pair {
        source_db,
        target_db,
        ..
    } = &pair;
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    player.whole_seed(gtid);
    let before = writer.written();
    writer.write_more();
    let n = writer.stop_and_prove(target_db);
    assert!(n > before, "rows written after the seed arrived as well");
    assert_eq!(target_db.replica_status("Slave_SQL_Running"), "Yes");
    assert_eq!(target_db.replica_status("Slave_IO_Running"), "Yes");
    // No transaction of the target's own: every GTID in its binary log is the source's.
    let own = target_db.value("SELECT @@server_id");
    let log = target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "errant transactions: {log}"
    );
    assert_eq!(
        target_db.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'"),
        "SLAVESIDE_DISABLED"
    );
    assert_eq!(
        target_db.value("SELECT @@event_scheduler"),
        "ON",
        "put back"
    );
}

#[test]
fn mysqldump_by_position() {
    mysqldump_seed(false);
}

#[test]
fn mysqldump_by_gtid() {
    mysqldump_seed(true);
}
