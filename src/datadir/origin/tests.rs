use super::*;

/// A name for each row of the table, in its order, with what is expected on MySQL and on MariaDB.
const EXPECTED: &[(&str, &str, Origin, Origin)] = &[
    (".orchestrator-agent*", ".orchestrator-agent", Old, Old),
    (
        "#sql-orchestrator-agent*",
        "#sql-orchestrator-agent",
        Old,
        Old,
    ),
    ("lost+found", "lost+found", Old, Old),
    ("mysqld-auto.cnf", "mysqld-auto.cnf", Old, New),
    ("*.pem", "server-key.pem", Old, Old),
    ("mysqld.my", "mysqld.my", Old, New),
    ("component_*", "component_keyring_file.cnf", Old, Old),
    ("keyring*", "keyring", Old, Old),
    ("debian-*.flag", "debian-10.11.flag", Old, Old),
    ("*.err", "db1.err", Old, Old),
    ("auto.cnf", "auto.cnf", Neither, Neither),
    ("*.pid", "db1.pid", Neither, Neither),
    ("*.sock", "mysql.sock", Neither, Neither),
    ("*.sock.lock", "mysql.sock.lock", Neither, Neither),
    ("*.index", "binlog.index", Neither, Neither),
    ("*.~rec~", "binlog.~rec~", Neither, Neither),
    ("*relay-bin*", "db1-relay-bin.000007", Neither, Neither),
    ("*.idx", "binlog.000001.idx", New, Neither),
    ("*.state", "binlog.state", New, Neither),
    ("master.info", "master.info", Neither, Neither),
    ("master-*.info", "master-eu.info", Neither, Neither),
    ("relay-log.info", "relay-log.info", Neither, Neither),
    ("relay-log-*.info", "relay-log-eu.info", Neither, Neither),
    ("multi-master.info", "multi-master.info", New, Neither),
    ("grastate.dat", "grastate.dat", Neither, Neither),
    ("gvwstate.dat", "gvwstate.dat", Neither, Neither),
    ("galera.cache", "galera.cache", Neither, Neither),
    ("gcache.page.*", "gcache.page.000000", Neither, Neither),
    ("sst_in_progress", "sst_in_progress", Neither, Neither),
    ("xtrabackup_*", "xtrabackup_binlog_info", Neither, Neither),
    (
        "mariadb_backup_*",
        "mariadb_backup_binlog_info",
        Neither,
        Neither,
    ),
    ("backup-my.cnf", "backup-my.cnf", Neither, Neither),
    ("innodb_status.*", "innodb_status.4711", Neither, Neither),
    (
        "orchestrator-agent.lock",
        "orchestrator-agent.lock",
        Neither,
        Neither,
    ),
    (".rocksdb", ".rocksdb", New, New),
    (".*", ".ssh", Old, Old),
    ("*", "shop", New, New),
];

#[test]
fn every_row_decides_for_its_name_in_both_families() {
    assert_eq!(EXPECTED.len(), RULES.len(), "a row without its test");
    for (row, (pattern, name, mysql, mariadb)) in RULES.iter().zip(EXPECTED) {
        assert_eq!(row.name, *pattern);
        assert!(row.why.len() > 3);
        assert!(fits(row.name, name), "{pattern} {name}");
        assert_eq!(rule(MySql, name, false).origin, *mysql, "MySQL: {name}");
        assert_eq!(
            rule(MariaDb, name, false).origin,
            *mariadb,
            "MariaDB: {name}"
        );
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
            assert_eq!(rule(flavour, name, false).origin, New, "{name}");
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
            assert_eq!(rule(flavour, name, true).origin, New, "{name}");
        }
        for name in [
            ".orchestrator-agent",
            "#sql-orchestrator-agent",
            "lost+found",
            ".ssh",
        ] {
            assert_eq!(rule(flavour, name, true).origin, Old, "{name}");
        }
    }
}

#[test]
fn logs_are_known_by_content_and_by_the_settings() {
    let dir = std::env::temp_dir().join(format!("oa-origin-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("db")).unwrap();
    std::fs::write(dir.join("anything.000001"), b"\xfebin rest").unwrap();
    std::fs::write(dir.join("secret.000001"), b"\xfdbin rest").unwrap();
    std::fs::write(dir.join("short"), b"\xfe").unwrap();
    std::fs::write(dir.join("db1.log"), b"text").unwrap();
    std::fs::write(dir.join("my.socket"), b"").unwrap();
    let (keep, drop) = (["db1.log".to_string()], ["my.socket".to_string()]);
    let table = Table {
        flavour: MySql,
        keep: &keep,
        drop: &drop,
    };
    let of = |name: &str| table.origin(&dir, name).unwrap();
    assert_eq!(of("anything.000001"), Neither);
    assert_eq!(of("secret.000001"), Neither);
    assert_eq!(of("short"), New);
    assert_eq!(of("db"), New);
    assert_eq!(of("db1.log"), Old);
    assert_eq!(of("my.socket"), Neither);
    assert!(table.origin(&dir, "gone").is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}
