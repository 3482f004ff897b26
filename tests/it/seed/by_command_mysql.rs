//! Whole seeds between MySQL 9.7 servers by the `seed` command.

use super::by_command::Pair;
use crate::support::mysqld::MysqldKind;
use crate::support::wait_for;
use crate::support::writer::Writer;
use std::process::Output;
use std::time::Duration;

const WITHOUT_GTID: &str = "gtid_mode=OFF\nenforce_gtid_consistency=OFF\n";

fn pair(cnf: &str) -> Pair<MysqldKind> {
    let pair = Pair::start(cnf);
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.ticks (id INT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(6) NOT NULL)",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks (at) VALUES (NOW(6))",
    ] {
        pair.source_db.sql(statement);
    }
    pair
}

fn text(out: &Output) -> String {
    [&out.stdout, &out.stderr]
        .map(|t| String::from_utf8_lossy(t).into_owned())
        .concat()
}

/// The target replicates as asked, runs no event of the source, and has written nothing by itself.
fn assert_replica(pair: &Pair<MysqldKind>, auto_position: &str) {
    let (source, target) = (&pair.source_db, &pair.target_db);
    let status = ["Replica_IO_Running", "Replica_SQL_Running", "Auto_Position"]
        .map(|c| target.replica_status(c));
    assert_eq!(status, ["Yes", "Yes", auto_position]);
    assert_eq!(
        target.sql("SELECT STATUS FROM information_schema.EVENTS"),
        ["REPLICA_SIDE_DISABLED"]
    );
    assert_eq!(
        target.value("SELECT CONCAT(@@read_only, @@super_read_only)"),
        "11",
        "as before"
    );
    let set = target.value("SELECT @@gtid_executed");
    assert!(
        !set.contains(&target.value("SELECT @@server_uuid")),
        "errant transactions: {set}"
    );
    let own = format!("SELECT GTID_SUBTRACT('{set}', @@gtid_executed)");
    assert_eq!(source.value(&own), "", "errant transactions: {set}");
    assert!(
        !pair
            .target
            .dir
            .join("backup/orchestrator_agent_backup.sql")
            .exists(),
        "cleaned up"
    );
}

fn whole(cnf: &str, replication: &str, auto_position: &str) {
    let pair = pair(cnf);
    pair.target_db.sql("SET GLOBAL super_read_only = ON");
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let printed = text(&out);
    assert!(
        printed.contains("Replication: IO thread Yes, SQL thread Yes"),
        "{printed}"
    );
    assert!(!printed.contains("warning"), "{printed}");
    writer.write_more();
    writer.stop_and_prove(&pair.target_db);
    assert_replica(&pair, auto_position);
}

#[test]
fn by_gtid() {
    whole("", "auto", "1");
}

#[test]
fn by_position() {
    whole("", "position", "0");
}

#[test]
fn servers_without_gtid() {
    whole(WITHOUT_GTID, "auto", "0");
}

/// A wrong replication password is found out at the end where the target could not try it; `--force` repairs it, also with the
/// account that is there.
#[test]
fn wrong_password_and_force() {
    let pair = pair("");
    let wrong = pair.password_file("wrong");
    std::fs::write(&wrong, "wr0ng-s3cret").expect("password file");
    let account = ["--replication-user", "repl", "--replication-password-file"];
    let seed = || pair.run(&[&account[..], &[&wrong]].concat());
    assert_eq!(seed().status.code(), Some(1), "tried by the target");
    // The load brings the source's account, which may.
    pair.target_db
        .unlogged("REVOKE REPLICATION_SLAVE_ADMIN ON *.* FROM 'agent'@'%'");
    pair.target_db.sql("SET GLOBAL super_read_only = ON");
    let out = seed();
    assert_eq!(out.status.code(), Some(3));
    let printed = text(&out);
    for part in [
        "as repl was not tested: --mysql-user agent lacks REPLICATION_SLAVE_ADMIN or RELOAD on the target",
        "ConnectSlave failed",
        "Last_IO_Error 1045",
        "data are complete, but its replication is not connected. Coordinates: binlog.",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains("wr0ng-s3cret"));
    let again = pair.seed(&[]);
    assert_eq!(again.status.code(), Some(1), "the target is a replica now");
    assert!(text(&again).contains("--force"));
    assert_eq!(pair.seed(&["--force"]).status.code(), Some(0));
    assert_replica(&pair, "1");
    let kept = pair.run(&["--force"]);
    assert_eq!(kept.status.code(), Some(0), "with the account that it has");
    assert_replica(&pair, "1");
    let old = pair.run(&["--force", "--replication", "position"]);
    assert_eq!(old.status.code(), Some(0));
    assert_replica(&pair, "0");
}

/// Somebody writes to the target between the load and the end.
#[test]
fn transactions_of_its_own_are_found() {
    let pair = pair("");
    let out = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("replication", Duration::from_secs(60), || {
                let connected = pair.target_db.replica_status("Source_Host") == "127.0.0.1";
                // The channel by which the target tries the account has none.
                let by_gtid = pair.target_db.replica_status("Auto_Position") == "1";
                (connected && by_gtid).then_some(())
            });
            pair.target_db.sql("CREATE DATABASE own");
        });
        pair.seed(&[])
    });
    assert_eq!(out.status.code(), Some(3));
    let own = pair.target_db.value("SELECT @@server_uuid");
    let printed = text(&out);
    assert!(
        printed.contains(&format!("the target has errant transactions ({own}:1)")),
        "{printed}"
    );
}

/// What GTID modes do not allow is said before anything is touched.
#[test]
fn refusals() {
    let pair = pair(WITHOUT_GTID);
    let out = pair.seed(&["--replication", "gtid", "--dry-run"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out).contains("--replication gtid needs gtid_mode = ON on both: the source has OFF"),
    );
    for mode in ["OFF_PERMISSIVE", "ON_PERMISSIVE"] {
        pair.source_db
            .sql(&format!("SET GLOBAL gtid_mode = {mode}"));
    }
    let out = pair.seed(&["--dry-run"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("gtid_mode is ON_PERMISSIVE on the source and OFF on the target"));
    assert_eq!(
        pair.target_db
            .value("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'"),
        "0"
    );
}
