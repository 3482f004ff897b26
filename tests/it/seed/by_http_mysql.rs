//! Mysqldump seeds of MySQL 9.7 through HTTP alone, polled as orchestrator polls, while a writer inserts on the source.

use crate::support::agent::Changes;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::writer::Writer;

fn mysqldump_seed(gtid: bool, cnf: &str) {
    let (source_db, target_db) = servers::<MysqldKind>(cnf, cnf);
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    source_db.sql(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    );
    source_db.sql("CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n");
    source_db.sql("CREATE ROLE reader");
    source_db.sql("GRANT SELECT ON shop.* TO reader");
    source_db.sql("CREATE USER someone IDENTIFIED BY 'x' DEFAULT ROLE reader");
    source_db.sql("GRANT EXECUTE ON FUNCTION shop.twice TO someone");
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
    let settings = "SELECT CONCAT_WS(' ', @@event_scheduler, @@GLOBAL.innodb_flush_log_at_trx_commit, \
                    @@innodb_stats_auto_recalc, @@log_bin_trust_function_creators, @@automatic_sp_privileges, \
                    @@GLOBAL.max_allowed_packet)";
    let before = target_db.value(settings);
    player.prepare();
    player.backup();
    player.restore();
    assert_eq!(target_db.value(settings), before, "put back");
    let meta = player.metadata();
    let executed = meta["GtidExecuted"].as_str().expect("GtidExecuted");
    assert_eq!(executed.is_empty(), cnf.contains("gtid_mode=OFF"), "{meta}");
    assert_eq!(
        target_db.value("SELECT @@gtid_executed"),
        executed,
        "nothing of its own"
    );
    player.connect(gtid);
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);
    for thread in ["Replica_IO_Running", "Replica_SQL_Running"] {
        assert_eq!(target_db.replica_status(thread), "Yes");
    }
    assert_eq!(
        target_db.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'"),
        "REPLICA_SIDE_DISABLED"
    );
    let grants = "SHOW GRANTS FOR someone";
    assert_eq!(target_db.sql(grants), source_db.sql(grants));
    if !executed.is_empty() {
        let own = format!(
            "SELECT GTID_SUBTRACT(@@gtid_executed, '{}')",
            source_db.value("SELECT @@gtid_executed")
        );
        assert_eq!(target_db.value(&own), "", "errant transactions");
    }
}

#[test]
fn mysqldump_by_position() {
    mysqldump_seed(false, "");
}

#[test]
fn mysqldump_by_gtid() {
    mysqldump_seed(true, "");
}

#[test]
fn mysqldump_without_gtid() {
    mysqldump_seed(false, "gtid_mode=OFF\nenforce_gtid_consistency=OFF");
}
