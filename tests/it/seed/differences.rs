//! Source and target that are not alike: refused where the copy would be wrong, carried over where it can be right.

use crate::support::agent::Changes;
use crate::support::pair::Pair;
use mysql::prelude::Queryable;

fn refused(source_cnf: &str, target_cnf: &str, prepare: impl FnOnce(&Pair), words: &[&str]) {
    let pair = Pair::start_with(source_cnf, target_cnf, &Changes::default());
    prepare(&pair);
    let text = pair.backup_fails(1);
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    pair.assert_unchanged();
}

/// `T` and `t` of the source would be one table on the target, and the rows of the first lost.
#[test]
fn names_in_two_cases() {
    refused(
        "",
        "lower_case_table_names=1",
        |_| {},
        &["lower_case_table_names is 0 on the source and 1 on the target"],
    );
}

/// Without the engine a table would silently become an InnoDB one.
#[test]
fn an_engine_that_the_target_lacks() {
    refused(
        "plugin_load_add=ha_blackhole",
        "",
        |pair| {
            drop(
                pair.source_db
                    .sql("CREATE TABLE shop.hole (n INT) ENGINE=BLACKHOLE"),
            )
        },
        &["engines that this server lacks: BLACKHOLE"],
    );
}

#[test]
fn a_target_without_a_binary_log() {
    let pair = Pair::start_with(
        "",
        "skip_log_bin\nskip_log_slave_updates",
        &Changes::default(),
    );
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.restore();
    assert_eq!(
        pair.target_db.value("SELECT COUNT(*) FROM shop.items"),
        "2048"
    );
    let at = seed.metadata();
    assert_eq!(
        pair.target_db.value("SELECT @@gtid_slave_pos"),
        at["GtidSlavePos"].as_str().expect("GtidSlavePos")
    );
}

/// In hex a row is twice as long as the server allows a statement to be.
#[test]
fn a_row_nearly_as_long_as_a_packet() {
    let pair = Pair::start();
    let mut conn = pair.source_db.root();
    conn.query_drop("CREATE TABLE shop.blobs (b LONGBLOB) ENGINE=InnoDB")
        .expect("table");
    conn.query_drop("INSERT INTO shop.blobs VALUES (REPEAT(x'00FF27', 4000000))")
        .expect("row");
    let settings =
        "SELECT CONCAT(@@GLOBAL.max_allowed_packet, @@GLOBAL.innodb_flush_log_at_trx_commit)";
    let before = pair.target_db.value(settings);
    pair.must_seed(1);
    assert_eq!(
        pair.target_db.value("SELECT LENGTH(b) FROM shop.blobs"),
        "12000000"
    );
    assert_eq!(pair.target_db.value(settings), before, "put back");
}

/// A table that only the target has would stop replication when the source makes one of that name.
#[test]
fn tables_that_only_the_target_has_are_named() {
    let pair = Pair::start();
    pair.target_db.sql("CREATE DATABASE IF NOT EXISTS shop");
    pair.target_db
        .sql("CREATE TABLE shop.gone (n INT) ENGINE=InnoDB");
    std::thread::sleep(std::time::Duration::from_millis(1100)); // a server knows the age of a table in seconds
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    assert!(
        text.contains("1 tables that the source does not have were kept: shop.gone"),
        "{text}"
    );
    assert!(!text.contains("shop.items"), "{text}");
}

/// lost+found, where the data directory is a mount point, is no schema.
#[test]
fn a_data_directory_with_lost_and_found() {
    let lines = vec![("mysql", "drop-extra-schemas = true".to_string())];
    let pair = Pair::start_with(
        "",
        "",
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    std::fs::create_dir(pair.target_db.datadir().join("lost+found")).expect("lost+found");
    let data = pair.target.json("/api/get-agent-data");
    assert!(
        !data["MySQLDatabases"].to_string().contains("lost"),
        "{data}"
    );
    pair.target_db.sql("DROP DATABASE precious"); // it would be dropped, and must_seed looks for it
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.restore();
    assert!(pair.target_db.datadir().join("lost+found").exists());
}

/// A client repeats the statement that failed: rows must not travel into the state, the log or orchestrator's tables.
#[test]
fn an_error_in_the_load_shows_no_rows() {
    let pair = Pair::start();
    pair.source_db
        .sql("CREATE TABLE shop.secret (t VARCHAR(64)) ENGINE=InnoDB");
    pair.source_db
        .sql("INSERT INTO shop.secret VALUES ('row-that-nobody-may-see')");
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    // The last statement of the table's rows is made wrong, in place.
    let dump = std::fs::read(pair.dump_file()).expect("dump");
    let needle = b"INSERT INTO `secret`";
    let at = dump
        .windows(needle.len())
        .position(|w| w == needle)
        .expect("the rows");
    let mut wrong = dump.clone();
    wrong[at..at + needle.len()].copy_from_slice(b"INSERT INTO `secrex`");
    std::fs::write(pair.dump_file(), wrong).expect("dump");
    seed.start_restore();
    let text = pair.must_fail(1, "Restore");
    assert!(
        text.contains("ERROR 1146") && text.contains("partial"),
        "{text}"
    );
    assert!(
        !text.contains("nobody-may-see") && !pair.target.log().contains("nobody-may-see"),
        "{text}"
    );
}
