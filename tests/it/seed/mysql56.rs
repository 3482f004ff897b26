//! Seeds between MySQL 5.6 servers, with the clients of MySQL 9.7, which have not built in its way of login.

use super::by_command::Pair;
use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::mysqld::{Mysql56, Mysql56Kind};
use crate::support::pair::{self, servers};
use crate::support::player::Player;
use crate::support::writer::Writer;
use mysql::prelude::Queryable;

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
    let mut root = db.root();
    for statement in OBJECTS {
        root.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// Each was created under settings of its own, which neither mydumper nor a plain CREATE keeps.
const OBJECTS: [&str; 14] = [
    "CREATE TABLE shop.log (n INT PRIMARY KEY AUTO_INCREMENT, w VARCHAR(9)) ENGINE=InnoDB",
    "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'",
    "CREATE PROCEDURE shop.ansi() SELECT 'x\\' || \"w\" FROM shop.\"log\"",
    "CREATE TRIGGER shop.before_log BEFORE INSERT ON shop.log FOR EACH ROW SET NEW.w = 'a' || \"new\".\"w\"",
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES', NAMES latin1 COLLATE latin1_general_cs",
    "CREATE FUNCTION shop.latin(a CHAR(9)) RETURNS CHAR(9) DETERMINISTIC RETURN CONCAT(a, 'caf\u{e9}')",
    "SET SESSION sql_mode = DEFAULT, NAMES utf8mb4, time_zone = '+05:30'",
    "CREATE EVENT shop.later ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO SET @x = 1",
    "SET SESSION time_zone = DEFAULT",
    // A view over a view of an account that the target does not have.
    "CREATE USER owner@localhost",
    "GRANT SELECT, EXECUTE ON *.* TO owner@localhost",
    "CREATE DEFINER=owner@localhost VIEW shop.z_base AS SELECT n, w FROM shop.log",
    "CREATE DEFINER=owner@localhost VIEW shop.a_top AS SELECT n FROM shop.z_base WHERE shop.twice(n) > 0",
    "INSERT INTO shop.log (w) VALUES ('row')",
];

/// What SHOW CREATE and the columns say of [`OBJECTS`], as bytes.
fn objects(db: &Mysql56) -> Vec<String> {
    let mut conn = db.root();
    conn.query_drop("SET character_set_results = 'binary'")
        .expect("bytes");
    let mut out = Vec::new();
    for query in [
        "SHOW CREATE PROCEDURE shop.ansi",
        "SHOW CREATE FUNCTION shop.latin",
        "SHOW CREATE FUNCTION shop.twice",
        "SELECT ACTION_STATEMENT, SQL_MODE, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA = 'shop'",
        "SELECT name, starts, time_zone, sql_mode, body, definer FROM mysql.event WHERE db = 'shop' AND name = 'later'",
        "SHOW CREATE VIEW shop.z_base",
        "SHOW CREATE VIEW shop.a_top",
        "SELECT n, w FROM shop.log",
        "SELECT n FROM shop.a_top",
    ] {
        let rows: Vec<mysql::Row> = conn.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert!(!rows.is_empty(), "{query}");
        out.extend(
            rows.into_iter()
                .map(|r| format!("{query}: {:?}", r.unwrap())),
        );
    }
    out
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
        ["SLAVESIDE_DISABLED", "SLAVESIDE_DISABLED"]
    );
    assert_eq!(objects(target), objects(source));
    let grants = "SHOW GRANTS FOR someone";
    assert_eq!(target.sql(grants), source.sql(grants));
    assert_eq!(target.value("SELECT shop.twice(4)"), "8");
    let own = target.value("SELECT @@server_uuid");
    assert!(
        !target.value("SELECT @@GLOBAL.gtid_executed").contains(&own),
        "errant transactions"
    );
}

/// mysqldump would stop at it; the name is the directory's own.
fn refused_directory(player: &Player<'_, Mysql56Kind>) {
    let directory = player.source_db.datadir().join("lost+found");
    std::fs::create_dir(&directory).expect("directory");
    player.start_prepare();
    player.must_complete(player.target, "Prepare");
    let state = player.poll(player.source, "Prepare");
    assert_eq!(state["Status"], "Error", "{state}");
    let details = state["Details"].as_str().expect("Details");
    assert!(
        details.contains("that are not schemas lost+found: ")
            && details.contains("set ignore_db_dir for each"),
        "{details}"
    );
    std::fs::remove_dir(directory).expect("directory");
}

fn by_http(gtid: bool, method: &'static str, changes: &Changes) {
    let (source_db, target_db) = servers::<Mysql56Kind>("", "");
    fill(&source_db);
    let pair = pair::Pair::beside(source_db, target_db, method, changes, changes);
    let pair::Pair {
        source_db,
        target_db,
        ..
    } = &pair;
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    if method == "Mysqldump" {
        refused_directory(&player);
    }
    player.prepare();
    player.backup();
    player.restore();
    player.connect(gtid);
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);
    assert_replica(source_db, target_db, if gtid { "1" } else { "0" });
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
    writer.write_more();
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
