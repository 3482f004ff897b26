//! Mydumper seeds between real servers, with the mydumper 0.10.1 of Debian 12.

use super::by_command;
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::mysqld::MysqldKind;
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::writer::Writer;
use mysql::prelude::Queryable;

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

/// Without an orchestrator; Mydumper is chosen because it is faster than Mysqldump.
fn by_command(replication: &str, using_gtid: &str) {
    let enabled = [("mydumper", "enabled = true".to_string())];
    let pair = by_command::Pair::<MariadbKind>::start_with("", &enabled);
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    pair.source_db.sql(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    );
    pair.target_db.sql("SET GLOBAL read_only = ON");
    let dry = pair.seed(&["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("Mydumper") && text.contains("Replication: IO thread Yes, SQL thread Yes"),
        "{text}"
    );
    writer.stop_and_prove(&pair.target_db);
    assert_eq!(pair.target_db.replica_status("Using_Gtid"), using_gtid);
    assert_eq!(pair.target_db.replica_status("Slave_IO_Running"), "Yes");
    assert_eq!(pair.target_db.value("SELECT @@read_only"), "1", "as before");
    let own = pair.target_db.value("SELECT @@server_id");
    let log = pair.target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "transactions of its own: {log}"
    );
}

#[test]
fn mydumper_by_command_and_gtid() {
    by_command("auto", "Slave_Pos");
}

#[test]
fn mydumper_by_command_and_position() {
    by_command("position", "No");
}

/// mydumper 0.10 ends with 0 against MySQL 9.7 and writes no coordinates: said before anything is dumped or loaded.
#[test]
fn mysql_that_is_too_new_for_the_tool() {
    let fakes = Fakes::new();
    for tool in ["mydumper", "myloader"] {
        fakes.put(tool, "exec \"$REAL\" \"$@\"");
    }
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::<MysqldKind>::by_mydumper("", "", &changes);
    let text = pair.backup_fails(1);
    assert!(
        text.contains("no binlog coordinates") && text.contains("install mydumper 0.16.3"),
        "{text}"
    );
    assert!(
        std::fs::read_dir(pair.target.dir.join("backup"))
            .expect("backup-dir")
            .next()
            .is_none()
    );
}

/// Rows that a server changes as they come in, unless its session says otherwise; a table that the target has in another form;
/// a view of a function; and all of it through the target's socket.
#[test]
fn zeros_views_and_a_socket() {
    let mut pair = Pair::mydumper("", "", &Changes::default());
    let socket = pair.target_db.datadir().join("../run/mysql.sock");
    let conf = pair.target.dir.join("agent.conf");
    let text = std::fs::read_to_string(&conf).expect("configuration");
    let text = text.replace("[mysql]\n", &format!("[mysql]\nsocket = {socket:?}\n"));
    std::fs::write(&conf, text).expect("configuration");
    pair.target.terminate();
    pair.target.launch();
    pair.target.wait_ready();
    let mut root = pair.source_db.root();
    for statement in [
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        "CREATE TABLE shop.zero (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, d DATE, t DATETIME NOT NULL) ENGINE=InnoDB",
        "INSERT INTO shop.zero VALUES (0, '0000-00-00', '0000-00-00 00:00:00'), (7, '2024-00-01', '2024-02-03 04:05:06')",
        "SET SESSION sql_mode = DEFAULT",
        "SET GLOBAL log_bin_trust_function_creators = ON",
        "CREATE FUNCTION shop.twice(x INT) RETURNS INT RETURN 2 * x",
        "CREATE VIEW shop.a_view AS SELECT id, shop.twice(id) AS two FROM shop.zero",
    ] {
        root.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    pair.target_db
        .sql("CREATE VIEW shop.zero AS SELECT 1 AS one");
    let modes = "SELECT CONCAT(@@global.sql_mode, ' ', @@global.log_bin_trust_function_creators)";
    let before = pair.target_db.value(modes);
    pair.must_seed(1);
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, d, t) ORDER BY id) FROM shop.zero";
    assert_eq!(
        pair.target_db.value(rows),
        "0 0000-00-00 0000-00-00 00:00:00,7 2024-00-01 2024-02-03 04:05:06"
    );
    let view = "SELECT GROUP_CONCAT(two ORDER BY two) FROM shop.a_view";
    assert_eq!(pair.target_db.value(view), "0,14");
    assert_eq!(pair.target_db.value(modes), before, "D11");
    // An abort finds the sessions of a tool that has no port.
    let hold = pair.held_load(2);
    let answer = pair.target.call("/api/abort-seed-stage/2/Restore");
    assert_eq!(answer, (200, "killed".to_string()), "8.5");
    pair.assert_nothing_left();
    drop(hold);
    pair.must_seed(3);
}
