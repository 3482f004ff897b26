//! Servers in odd situations, seeded by the `seed` command: other SQL modes, names folded to lower case, a source that is itself a
//! replica, binary logs that are purged too early, no redo log, thousands of tables.

use super::by_command::Pair;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::server::{Kind, REPL_PASSWORD, Server};
use crate::support::wait_for;
use crate::support::writer::Writer;
use std::process::Output;
use std::time::Duration;

fn text(out: &Output) -> String {
    [&out.stdout, &out.stderr]
        .map(|t| String::from_utf8_lossy(t).into_owned())
        .concat()
}

fn must_seed<K: Kind>(pair: &Pair<K>, more: &[&str]) -> String {
    let out = pair.seed(more);
    let printed = text(&out);
    assert_eq!(out.status.code(), Some(0), "{printed}");
    assert_eq!(pair.target_db.checksums(), pair.source_db.checksums());
    printed
}

/// `name`: of the schema, quoted.
fn modes<K: Kind>(name: &str) {
    let pair = Pair::<K>::start(
        "sql_mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES\n",
    );
    for statement in [
        r#"CREATE DATABASE NAME"#,
        r#"CREATE TABLE NAME."t`1" ("a b" INT PRIMARY KEY, s VARCHAR(50))"#,
        r#"INSERT INTO NAME."t`1" VALUES (1, 'a\b' || '''c'), (2, NULL)"#,
        r#"CREATE FUNCTION NAME."f 1"(x INT) RETURNS VARCHAR(50) DETERMINISTIC RETURN '\' || x"#,
        r#"CREATE VIEW NAME.v AS SELECT "a b" || 'x' AS y FROM NAME."t`1""#,
        r#"CREATE TRIGGER NAME.g BEFORE INSERT ON NAME."t`1" FOR EACH ROW SET NEW.s = 'q' || '\'"#,
        r#"CREATE EVENT NAME."e v" ON SCHEDULE EVERY 1 DAY DO SET @x = 'a' || 'b'"#,
    ] {
        pair.source_db.sql(&statement.replace("NAME", name));
    }
    must_seed(&pair, &[]);
    for query in [
        r#"SELECT NAME."f 1"(7)"#,
        r#"SELECT GROUP_CONCAT(y ORDER BY y) FROM NAME.v"#,
    ] {
        let query = query.replace("NAME", name);
        let (wanted, found) = (pair.source_db.value(&query), pair.target_db.value(&query));
        assert!(
            !wanted.is_empty() && found == wanted,
            "{query}: {found}, not {wanted}"
        );
    }
    let event = "SELECT CONCAT(STATUS, ' ', SQL_MODE) FROM information_schema.EVENTS";
    let found = pair.target_db.value(event);
    assert!(
        found.contains("SIDE_DISABLED") && found.contains("ANSI_QUOTES"),
        "{found}"
    );
}

#[test]
fn sql_modes_on_mariadb() {
    // mariadb-dump 10.11 itself cannot select a schema with a double quote in its name on such a server (1049).
    modes::<MariadbKind>("\"sh op`\"");
}

#[test]
fn sql_modes_on_mysql() {
    modes::<MysqldKind>("\"sh\"\"op\"");
}

/// MySQL takes this setting at the initialization of a data directory only.
#[test]
fn names_in_lower_case_on_both() {
    let pair = Pair::<MariadbKind>::start("lower_case_table_names=1\n");
    pair.source_db.sql("CREATE DATABASE ShOp");
    pair.source_db
        .sql("CREATE TABLE ShOp.MixedCase AS SELECT 1 AS a");
    must_seed(&pair, &[]);
    assert_eq!(pair.target_db.value("SELECT a FROM SHOP.MIXEDCASE"), "1");
}

/// A new replica of a replica that passes on what it gets; with more lines for the agents. It replicates from the server that it
/// is a copy of, and from no other.
pub fn chain<K: Kind>(
    [reset, connect, start]: [&str; 3],
    replication: &str,
    agents: &[(&'static str, String)],
) {
    let top = Server::<K>::start("127.0.0.4", "");
    let pair = Pair::<K>::start_with("", agents);
    for db in [&top, &pair.source_db] {
        db.sql(reset);
    }
    pair.source_db.sql(
        &connect
            .replace("=HOST", &format!("='{}'", top.host))
            .replace("=PORT", &format!("={}", top.port))
            .replace("=PASS", &format!("='{REPL_PASSWORD}'")),
    );
    pair.source_db.sql(start);
    let writer = Writer::start(&top);
    wait_for("rows arrive at the source", Duration::from_secs(30), || {
        let there = pair.source_db.value(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'running' AND TABLE_NAME = 'numbers'",
        );
        (there == "1").then_some(())
    });
    let out = pair.seed(&["--replication", replication]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    writer.write_more();
    writer.stop_and_prove(&pair.target_db);
    let all = K::REPLICA_STATUS.replace("SLAVE STATUS", "ALL SLAVES STATUS");
    assert_eq!(pair.target_db.sql(&all).len(), 1, "one channel");
    let port = ["Master_Port", "Source_Port"].map(|c| pair.target_db.replica_status(c));
    assert_eq!(port.concat(), pair.source_db.port.to_string());
}

pub const MARIADB: [&str; 3] = ["RESET MASTER", MARIADB_CONNECT, "START SLAVE"];
const MARIADB_CONNECT: &str = "CHANGE MASTER TO MASTER_HOST=HOST, MASTER_PORT=PORT, MASTER_USER='repl', MASTER_PASSWORD=PASS, MASTER_USE_GTID=slave_pos";
const MYSQL_CONNECT: &str = "CHANGE REPLICATION SOURCE TO SOURCE_HOST=HOST, SOURCE_PORT=PORT, SOURCE_USER='repl', SOURCE_PASSWORD=PASS, \
     GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1";

#[test]
fn a_mariadb_source_that_replicates_by_gtid() {
    chain::<MariadbKind>(MARIADB, "gtid", &[]);
}

#[test]
fn a_mariadb_source_that_replicates_by_position() {
    chain::<MariadbKind>(MARIADB, "position", &[]);
}

#[test]
fn a_mysql_source_that_replicates() {
    chain::<MysqldKind>(
        [
            "RESET BINARY LOGS AND GTIDS",
            MYSQL_CONNECT,
            "START REPLICA",
        ],
        "gtid",
        &[],
    );
}

/// The binary logs from which the copy goes on are gone when it is to be connected.
fn purged<K: Kind + Sync>(replication: &str) {
    let pair = Pair::<K>::start("");
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.t (id INT PRIMARY KEY, s VARCHAR(300))");
    pair.source_db
        .sql("INSERT INTO shop.t VALUES (1, REPEAT('x', 128))");
    for doubling in 0..16 {
        pair.source_db.sql(&format!(
            "INSERT INTO shop.t SELECT id + {}, SHA2(id, 512) FROM shop.t",
            1 << doubling
        ));
    }
    // The load waits for this session.
    pair.target_db.unlogged("CREATE DATABASE shop");
    pair.target_db
        .unlogged("CREATE TABLE shop.t (old_column INT) ENGINE=InnoDB");
    let hold = pair.target_db.hold("shop.t");
    let out = std::thread::scope(|scope| {
        let seed = scope.spawn(|| pair.seed(&["--replication", replication]));
        wait_for("the dump is loaded", Duration::from_secs(60), || {
            let (_, active) = pair.target.call("/api/active-seed");
            active.contains("\"Restore\"").then_some(())
        });
        // The copy lacks this row, and its log goes.
        pair.source_db
            .sql("INSERT INTO shop.t VALUES (-1, 'missing')");
        pair.source_db.sql("FLUSH BINARY LOGS");
        // MariaDB keeps a log a moment longer, until InnoDB has written what is in it.
        wait_for("the old logs are gone", Duration::from_secs(20), || {
            let logs = pair.source_db.sql("SHOW BINARY LOGS");
            let last = logs.last().expect("a log");
            pair.source_db
                .sql(&format!("PURGE BINARY LOGS TO '{last}'"));
            (logs.len() == 1).then_some(())
        });
        drop(hold);
        seed.join().expect("seed ends")
    });
    let printed = text(&out);
    assert_eq!(out.status.code(), Some(3), "{printed}");
    assert!(
        printed.contains("raise binlog_expire_logs_seconds"),
        "{printed}"
    );
    assert!(
        printed.contains("the target's data are complete, but its replication is not connected"),
        "{printed}"
    );
}

#[test]
fn purged_logs_on_mariadb() {
    purged::<MariadbKind>("gtid");
}

#[test]
fn purged_logs_on_mariadb_by_position() {
    purged::<MariadbKind>("position");
}

#[test]
fn purged_logs_on_mysql() {
    purged::<MysqldKind>("gtid");
}

fn thousands<K: Kind>(tables: usize) {
    let pair = Pair::<K>::start("innodb_flush_log_at_trx_commit=0\nsync_binlog=0\n");
    pair.source_db.sql("CREATE DATABASE many");
    for n in 0..tables {
        pair.source_db.unlogged(&format!(
            "CREATE TABLE many.t{n} (id INT PRIMARY KEY) ENGINE=MyISAM"
        ));
    }
    pair.source_db.unlogged("INSERT INTO many.t7 VALUES (7)");
    let out = pair.seed(&[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let count = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'many'";
    assert_eq!(pair.target_db.value(count), tables.to_string());
    assert_eq!(pair.target_db.value("SELECT id FROM many.t7"), "7");
}

#[test]
fn five_thousand_tables_on_mariadb() {
    thousands::<MariadbKind>(5000);
}

#[test]
fn five_thousand_tables_on_mysql() {
    thousands::<MysqldKind>(5000);
}
