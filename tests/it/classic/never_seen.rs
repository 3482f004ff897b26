//! A target of which the agent has seen nothing but the option file, because MySQL was never up while it ran.

use crate::support::classic::hosts::{Family, Hosts, Setup};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::servers;
use crate::support::server::REPL_PASSWORD;
use crate::support::writer::Writer;

/// `swap`: `mysql.datadir-swap` of the target.
fn to_a_replica<K: Family>(method: &'static str, swap: &str) -> Hosts<K> {
    let (source_db, target_db) = servers::<K>(K::CNF, K::CNF);
    let file = target_db.dir.join("my.cnf");
    let setup = Setup::by(method)
        .on_target("mysql", format!("defaults-file = {file:?}"))
        .on_target("mysql", format!("datadir-swap = {swap:?}"));
    let hosts = Hosts::between(&setup, (source_db, target_db));
    hosts.old_data("mine");
    let note = hosts.target.dir.join("state/datadir.json");
    std::fs::remove_file(&note).expect("it was noted when MySQL was up");
    let writer = Writer::start(&hosts.source_db);
    hosts.seed(1).must_succeed();
    writer.write_more();
    writer.stop_and_prove(&hosts.target_db);
    hosts.assert_replica("Yes");
    hosts.assert_copied();
    hosts.assert_released(method);
    for file in [note, hosts.target.dir.join("state/seeds.json")] {
        let text = std::fs::read_to_string(&file).expect("state");
        assert!(!text.contains(REPL_PASSWORD), "{}", file.display());
    }
    assert!(!hosts.target.log().contains(REPL_PASSWORD));
    hosts
}

/// The old data are deleted before, but not before the source has agreed.
#[test]
fn mysql_by_clone_without_room_for_two_copies() {
    let hosts = to_a_replica::<MysqldKind>("ClonePlugin", "never");
    let log = hosts.target.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    let tried = at("Trying the CLONE before the old data are deleted");
    assert!(tried < at("Deleting the old data"));
}

#[test]
fn mariadb_by_xtrabackup() {
    to_a_replica::<MariadbKind>("Xtrabackup", "always");
}
