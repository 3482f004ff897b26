//! Seeds that succeed, each to a replica of a source that is written to meanwhile.

use crate::support::classic::hosts::{Family, Hosts, SOURCE, Setup, TARGET};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::writer::Writer;

/// To a replica that runs; without `replication-user` to one that an operator starts.
fn to_a_replica<K: Family>(setup: &Setup) {
    let hosts = Hosts::<K>::start(setup);
    hosts.old_data("mine");
    let writer = Writer::start(&hosts.source_db);
    let seed = hosts.seed(1);
    seed.must_succeed();
    assert!(!hosts.page(SOURCE).is_mounted());
    let page = hosts.page(TARGET);
    assert!(page.mysql_running);
    assert_eq!(page.mysql_port, i64::from(hosts.target_db.port));
    assert_eq!(page.errors, [""; 0]);
    assert_eq!(
        hosts.orchestrator.resent(),
        [""; 0],
        "each call is made once"
    );
    if !setup.replicates {
        hosts.assert_replica("No");
        K::connect(&hosts.target_db);
    }
    let before = writer.written();
    writer.write_more();
    let n = writer.stop_and_prove(&hosts.target_db);
    assert!(n > before, "rows written after the seed arrived as well");
    hosts.assert_replica("Yes");
    hosts.assert_copied();
    hosts.assert_released(setup.method);
}

#[test]
fn mariadb_by_xtrabackup() {
    to_a_replica::<MariadbKind>(&Setup::by("Xtrabackup"));
}

#[test]
fn mariadb_by_mysqldump() {
    to_a_replica::<MariadbKind>(&Setup::by("Mysqldump"));
}

#[test]
fn mysql_by_clone() {
    to_a_replica::<MysqldKind>(&Setup::by("ClonePlugin"));
}

#[test]
fn mysql_by_mysqldump() {
    to_a_replica::<MysqldKind>(&Setup::by("Mysqldump"));
}

/// The metadata are set from the source's coordinates, and an operator's user and START are what is missing.
#[test]
fn mariadb_without_a_replication_user() {
    let mut setup = Setup::by("Xtrabackup");
    setup.replicates = false;
    to_a_replica::<MariadbKind>(&setup);
}

#[test]
fn mysql_without_a_replication_user() {
    let mut setup = Setup::by("ClonePlugin");
    setup.replicates = false;
    to_a_replica::<MysqldKind>(&setup);
}
