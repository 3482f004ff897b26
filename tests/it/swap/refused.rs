//! What Prepare refuses on a real server, by its name; what cannot be set up here is in the unit tests.

use super::rig::{Rig, source};
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::mysqld::MysqldKind;
use crate::support::server::REPL_PASSWORD;
use crate::support::wait_for;
use orchestrator_agent::datadir::{self, DatadirInfo, Role};
use std::time::Duration;

#[track_caller]
fn refused(found: orchestrator_agent::error::Result<DatadirInfo>, words: &[&str]) {
    let e = found.expect_err(words[0]).to_string();
    for word in words {
        assert!(e.contains(word), "{word}: {e}");
    }
}

#[test]
fn its_part_in_replication() {
    let rig = Rig::<MariadbKind>::new("", "", "");
    let other = Mariadb::start("127.0.0.1", "");
    let connect = |replica: &Mariadb, source: (&str, u16)| {
        replica.sql(&format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'repl', MASTER_PASSWORD = '{REPL_PASSWORD}', \
             MASTER_USE_GTID = no, MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4",
            source.0, source.1
        ));
        replica.sql("START SLAVE");
        wait_for("the IO thread runs", Duration::from_secs(30), || {
            (replica.replica_status("Slave_IO_Running") == "Yes").then_some(())
        });
    };
    connect(&other, (&rig.db.host, rig.db.port));
    refused(rig.inspect(), &["has replicas"]);
    datadir::examine(&rig.config, Role::Source).expect("a source may have replicas");
    other.sql("STOP SLAVE");
    other.sql("RESET SLAVE ALL");
    wait_for("the dump thread ends", Duration::from_secs(60), || {
        rig.db.sql("FLUSH BINARY LOGS"); // or it would not see that its client has gone
        rig.inspect().ok()
    });
    connect(&rig.db, (&other.host, other.port));
    refused(rig.inspect(), &["replicates from", "STOP"]);
}

#[test]
fn places_and_tablespaces_elsewhere() {
    let rig = Rig::<MariadbKind>::new("", "", "");
    let elsewhere = rig.db.dir.join("tmp");
    rig.db.sql(&format!(
        "CREATE TABLE precious.far (id INT) ENGINE=InnoDB DATA DIRECTORY='{}'",
        elsewhere.display()
    ));
    refused(
        rig.inspect(),
        &[
            "precious/far.isl",
            "outside the data directory",
            "Mysqldump",
        ],
    );
    rig.db.sql("DROP TABLE precious.far");
    rig.db.sql(&format!(
        "CREATE TABLE precious.far (id INT) ENGINE=MyISAM DATA DIRECTORY='{}'",
        elsewhere.display()
    ));
    refused(rig.inspect(), &["precious/far.MYD", "symbolic link"]);
    rig.db.sql("DROP TABLE precious.far");
    rig.inspect().expect("fit again");

    rig.down();
    std::fs::rename(
        rig.db.datadir().join("ib_logfile0"),
        elsewhere.join("ib_logfile0"),
    )
    .expect("redo log");
    let cnf = rig.db.dir.join("my.cnf");
    let mut text = std::fs::read_to_string(&cnf).expect("my.cnf");
    text += "innodb_log_group_home_dir=../tmp\n";
    std::fs::write(&cnf, text).expect("my.cnf");
    rig.db.up();
    refused(rig.inspect(), &["innodb_log_group_home_dir", "../tmp"]);
    // Also while it is down, by its option file.
    rig.down();
    let mut rig = rig;
    rig.configure(&format!("defaults-file = {cnf:?}"), "");
    refused(rig.inspect(), &["innodb_log_group_home_dir"]);
}

#[test]
fn mysqls_own_places() {
    let rig = Rig::<MysqldKind>::new("innodb_directories=../tmp\n", "", "");
    refused(rig.inspect(), &["innodb_directories", "../tmp"]);
}

/// A copy that does not start is found out before anything is changed, and so is one that rejects the agent's login.
#[test]
fn a_copy_that_is_not_complete() {
    let source = source::<MariadbKind>("");
    let rig = Rig::<MariadbKind>::new("", "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let table = staged.new_dir().join("ibdata1");
    let whole = std::fs::read(&table).expect("system tablespace");
    std::fs::write(&table, &whole[..whole.len() / 2]).expect("cut short");
    let trial = || datadir::trial_start(&info, &staged, &rig.config.mysql, &rig.host());
    let e = trial().expect_err("half a tablespace").to_string();
    assert!(
        e.contains("the copy does not start") && e.contains("ERROR"),
        "{e}"
    );
    rig.assert_old();

    let staged = rig.stage(&info, &source.datadir());
    source.up();
    source.sql("DROP USER 'agent'@'%'");
    source.down();
    let staged_again = rig.stage(&info, &source.datadir());
    assert_eq!(staged, staged_again);
    let e = trial().expect_err("no account").to_string();
    assert!(
        e.contains("mysql.user = \"agent\"") && e.contains("create this account on the source"),
        "{e}"
    );
    rig.assert_old();
}
