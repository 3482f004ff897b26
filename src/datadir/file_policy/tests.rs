use super::*;
use Flavour::{MariaDb, MySql};

/// A name for each row of the table, in its order, with what is expected on MySQL and on MariaDB.
const EXPECTED: &[(&str, &str, FilePolicy, FilePolicy)] = &[
    (
        ".orchestrator-agent*",
        ".orchestrator-agent",
        KeepOld,
        KeepOld,
    ),
    (
        "#sql-orchestrator-agent*",
        "#sql-orchestrator-agent",
        KeepOld,
        KeepOld,
    ),
    ("lost+found", "lost+found", KeepOld, KeepOld),
    ("mysqld-auto.cnf", "mysqld-auto.cnf", KeepOld, TakeNew),
    ("*.pem", "server-key.pem", KeepOld, KeepOld),
    ("mysqld.my", "mysqld.my", KeepOld, TakeNew),
    (
        "component_*",
        "component_keyring_file.cnf",
        KeepOld,
        KeepOld,
    ),
    ("keyring*", "keyring", KeepOld, KeepOld),
    ("debian-*.flag", "debian-10.11.flag", KeepOld, KeepOld),
    ("*.err", "db1.err", KeepOld, KeepOld),
    ("auto.cnf", "auto.cnf", Drop, Drop),
    ("*.pid", "db1.pid", Drop, Drop),
    ("*.sock", "mysql.sock", Drop, Drop),
    ("*.sock.lock", "mysql.sock.lock", Drop, Drop),
    ("*.index", "binlog.index", Drop, Drop),
    ("*.~rec~", "binlog.~rec~", Drop, Drop),
    ("*relay-bin*", "db1-relay-bin.000007", Drop, Drop),
    ("*.idx", "binlog.000001.idx", TakeNew, Drop),
    ("*.state", "binlog.state", TakeNew, Drop),
    ("master.info", "master.info", Drop, Drop),
    ("master-*.info", "master-eu.info", Drop, Drop),
    ("relay-log.info", "relay-log.info", Drop, Drop),
    ("relay-log-*.info", "relay-log-eu.info", Drop, Drop),
    ("multi-master.info", "multi-master.info", TakeNew, Drop),
    ("grastate.dat", "grastate.dat", Drop, Drop),
    ("gvwstate.dat", "gvwstate.dat", Drop, Drop),
    ("galera.cache", "galera.cache", Drop, Drop),
    ("gcache.page.*", "gcache.page.000000", Drop, Drop),
    ("sst_in_progress", "sst_in_progress", Drop, Drop),
    ("xtrabackup_*", "xtrabackup_binlog_info", Drop, Drop),
    ("mariadb_backup_*", "mariadb_backup_binlog_info", Drop, Drop),
    ("backup-my.cnf", "backup-my.cnf", Drop, Drop),
    ("innodb_status.*", "innodb_status.4711", Drop, Drop),
    (
        "orchestrator-agent.lock",
        "orchestrator-agent.lock",
        Drop,
        Drop,
    ),
    (".rocksdb", ".rocksdb", TakeNew, TakeNew),
    (".*", ".ssh", KeepOld, KeepOld),
    ("*", "shop", TakeNew, TakeNew),
];

#[test]
fn every_row_decides_for_its_name_in_both_families() {
    let patterns: Vec<&str> = RULES.iter().flat_map(|r| r.0.split(' ')).collect();
    assert_eq!(EXPECTED.len(), patterns.len(), "a pattern without its test");
    for (row, (pattern, name, mysql, mariadb)) in patterns.iter().zip(EXPECTED) {
        assert_eq!(row, pattern);
        assert!(matches(pattern, name), "{pattern} {name}");
        assert_eq!(by_name(MySql, name, false), *mysql, "MySQL: {name}");
        assert_eq!(by_name(MariaDb, name, false), *mariadb, "MariaDB: {name}");
    }
}

#[test]
fn the_servers_own_files_come_from_the_copy() {
    for name in [
        "ibdata1",
        "ib_logfile0",
        "#innodb_redo",
        "#ib_16384_0.dblwr",
        "undo_001",
        "undo001",
        "mysql.ibd",
        "mysql",
        "sys",
        "performance_schema",
        "aria_log_control",
        "aria_log.00000001",
        "ib_buffer_pool",
        "tc.log",
        "ddl_recovery.log",
        "mysql_upgrade_info",
        "my@002ddb",
        "#mysql50#x",
        "ibtmp1",
        "RELAY",
        "index",
        "pem",
        "general.ibd",
        "#rocksdb",
    ] {
        for flavour in [MySql, MariaDb] {
            assert_eq!(by_name(flavour, name, false), TakeNew, "{name}");
        }
    }
}

#[test]
fn a_schema_of_any_name_comes_from_the_copy() {
    for flavour in [MySql, MariaDb] {
        for name in [
            "keyring_app",
            "component_store",
            "xtrabackup_info",
            "my_relay@002dbin",
            "sst_in_progress",
            "shop",
        ] {
            assert_eq!(by_name(flavour, name, true), TakeNew, "{name}");
        }
        for name in [
            ".orchestrator-agent",
            "#sql-orchestrator-agent",
            "lost+found",
            ".ssh",
        ] {
            assert_eq!(by_name(flavour, name, true), KeepOld, "{name}");
        }
    }
}

#[test]
fn logs_are_known_by_content_and_by_the_settings() {
    let dir = std::env::temp_dir().join(format!("oa-policy-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("db")).unwrap();
    std::fs::write(dir.join("anything.000001"), b"\xfebin rest").unwrap();
    std::fs::write(dir.join("secret.000001"), b"\xfdbin rest").unwrap();
    std::fs::write(dir.join("short"), b"\xfe").unwrap();
    std::fs::write(dir.join("db1.log"), b"text").unwrap();
    std::fs::write(dir.join("my.socket"), b"").unwrap();
    let info = DatadirInfo {
        keep: vec!["db1.log".into()],
        drop: vec!["my.socket".into()],
        ..DatadirInfo::for_test()
    };
    let of = |name: &str| policy_of(&info, &dir, name).unwrap();
    assert_eq!(of("anything.000001"), Drop);
    assert_eq!(of("secret.000001"), Drop);
    assert_eq!(of("short"), TakeNew);
    assert_eq!(of("db"), TakeNew);
    assert_eq!(of("db1.log"), KeepOld);
    assert_eq!(of("my.socket"), Drop);
    assert!(policy_of(&info, &dir, "gone").is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}
