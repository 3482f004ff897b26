//! Seeds between MySQL 5.6 servers, with the clients of MySQL 9.7, which have not built in its way of login.

use super::by_command::Pair;
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mysqld::{Mysql56, Mysql56Kind};
use crate::support::player::Player;
use crate::support::writer::Writer;
use std::time::Duration;

fn fill(db: &Mysql56) {
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
        "CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n",
        "CREATE USER someone IDENTIFIED BY 'x'",
        "GRANT SELECT ON shop.* TO someone",
    ] {
        db.sql(statement);
    }
}

/// The target replicates as asked, has the source's accounts, and runs no event of it.
fn assert_replica(source: &Mysql56, target: &Mysql56, auto_position: &str) {
    for (column, wanted) in [
        ("Slave_IO_Running", "Yes"),
        ("Slave_SQL_Running", "Yes"),
        ("Auto_Position", auto_position),
    ] {
        assert_eq!(target.replica_status(column), wanted, "{column}");
    }
    assert_eq!(
        target.sql("SELECT STATUS FROM information_schema.EVENTS"),
        ["SLAVESIDE_DISABLED"]
    );
    let grants = "SHOW GRANTS FOR someone";
    assert_eq!(target.sql(grants), source.sql(grants));
    assert_eq!(target.value("SELECT shop.twice(4)"), "8");
    let own = target.value("SELECT @@server_uuid");
    assert!(
        !target.value("SELECT @@GLOBAL.gtid_executed").contains(&own),
        "transactions of its own"
    );
}

fn by_http(gtid: bool, method: &'static str, changes: &Changes) {
    let source_db = Mysql56::start("127.0.0.1", "");
    let target_db = Mysql56::start("127.0.0.2", "");
    fill(&source_db);
    let source = Agent::start_with(&source_db, changes);
    let target = Agent::start_with(&target_db, changes);
    let writer = Writer::start(&source_db);
    let player = Player {
        id: 1,
        method,
        target: &target,
        source: &source,
        target_db: &target_db,
        source_db: &source_db,
    };
    player.prepare();
    player.backup();
    player.restore();
    player.connect(gtid);
    player.cleanup();
    std::thread::sleep(Duration::from_secs(2));
    writer.stop_and_prove(&target_db);
    assert_replica(&source_db, &target_db, if gtid { "1" } else { "0" });
}

#[test]
fn by_http_and_position() {
    by_http(false, "Mysqldump", &Changes::default());
}

#[test]
fn by_http_and_gtid() {
    by_http(true, "Mysqldump", &Changes::default());
}

/// The mydumper 0.10.1 of Debian 12, which knows this server.
fn by_mydumper(gtid: bool) {
    let fakes = Fakes::new();
    for tool in ["mydumper", "myloader"] {
        fakes.put(tool, "exec \"$REAL\" \"$@\"");
    }
    let changes = Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    by_http(gtid, "Mydumper", &changes);
}

#[test]
fn mydumper_by_http_and_position() {
    by_mydumper(false);
}

#[test]
fn mydumper_by_http_and_gtid() {
    by_mydumper(true);
}

fn by_command(replication: &str, auto_position: &str) {
    let pair = Pair::<Mysql56Kind>::start("");
    fill(&pair.source_db);
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    std::thread::sleep(Duration::from_secs(2));
    writer.stop_and_prove(&pair.target_db);
    assert_replica(&pair.source_db, &pair.target_db, auto_position);
}

#[test]
fn by_command_and_position() {
    by_command("position", "0");
}

#[test]
fn by_command_and_gtid() {
    by_command("gtid", "1");
}
