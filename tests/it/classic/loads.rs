//! Loads of dumps for a target that is down: what the private server has of the real one, and what is left when they end in the middle.

use crate::support::classic::hosts::{Hosts, Setup, TARGET};
use crate::support::fake::Fakes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::servers;

/// Words of two letters are in a full-text index if the server that builds it has them, an engine may come with a plugin, and a path
/// may be too long for a socket.
#[test]
fn mydumper_into_a_server_with_the_settings_of_the_real_one() {
    let cnf = "ft_min_word_len=2\ninnodb_ft_min_token_size=2\nserver_id=1\n";
    let archive = "plugin_load_add=ha_archive\n";
    let (source_db, target_db) = servers::<MariadbKind>(archive, &format!("{archive}{cnf}"));
    for statement in [
        "CREATE DATABASE texts",
        "CREATE TABLE texts.a (t TEXT) ENGINE=ARCHIVE",
        "INSERT INTO texts.a VALUES ('kept')",
        "CREATE TABLE texts.m (t TEXT, FULLTEXT (t)) ENGINE=MyISAM",
        "CREATE TABLE texts.i (t TEXT, FULLTEXT (t)) ENGINE=InnoDB",
        "INSERT INTO texts.m VALUES ('ab over there'), ('cd'), ('ef'), ('gh')",
        "INSERT INTO texts.i SELECT * FROM texts.m",
    ] {
        source_db.sql(statement);
    }
    let staging = target_db.dir.join("s".repeat(120)).display().to_string();
    let setup = Setup::by("Mydumper").on_target("mysql", format!("staging-dir = {staging:?}"));
    let hosts = Hosts::between(&setup, (source_db, target_db));
    hosts.old_data("mine");
    hosts.seed(1).must_succeed();
    hosts.assert_copied();
    hosts.assert_replica("Yes");
    assert_eq!(hosts.target_db.value("SELECT t FROM texts.a"), "kept");
    for table in ["texts.m", "texts.i"] {
        let found = format!("SELECT COUNT(*) FROM {table} WHERE MATCH(t) AGAINST('ab')");
        assert_eq!(hosts.target_db.value(&found), "1", "{table}");
    }
    hosts.assert_released("Mydumper");
}

/// In the middle of a load the source's accounts come into force, and the session of the load must be one of them.
#[test]
fn the_agents_account_of_the_source_is_for_another_host() {
    let (source_db, target_db) = servers::<MysqldKind>("", "");
    for statement in [
        "CREATE EVENT mysql.tick ON SCHEDULE EVERY 1 DAY DO DO 1",
        "CREATE USER 'agent'@'localhost' IDENTIFIED BY 'agent-s3cret-pw'",
        "GRANT ALL ON *.* TO 'agent'@'localhost' WITH GRANT OPTION",
        "CREATE USER 'agent'@'10.1.%' IDENTIFIED BY 'another'",
    ] {
        source_db.unlogged(statement);
    }
    let hosts = Hosts::between(&Setup::by("Mysqldump"), (source_db, target_db));
    hosts.old_data("mine");
    hosts.seed(1).must_succeed();
    hosts.assert_copied();
    let accounts = "SELECT GROUP_CONCAT(CONCAT(User, '@', Host) ORDER BY 1) FROM mysql.user";
    let of_source = hosts.source_db.value(accounts);
    assert_eq!(hosts.target_db.value(accounts), of_source);
}

/// The directories of the target's own tables must not be touched before the swap.
#[test]
fn a_table_elsewhere_is_refused() {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    let elsewhere = source_db.dir.join("tmp").display().to_string();
    source_db.sql("CREATE DATABASE far");
    source_db.sql(&format!(
        "CREATE TABLE far.t (i INT) ENGINE=InnoDB DATA DIRECTORY='{elsewhere}'"
    ));
    let hosts = Hosts::between(&Setup::by("Mysqldump"), (source_db, target_db));
    hosts.old_data("mine");
    let reason = hosts.seed(1).must_fail().reason();
    assert!(
        reason.contains("far.t") && reason.contains("DATA DIRECTORY"),
        "{reason}"
    );
    hosts.assert_released("a table elsewhere");
    hosts.assert_old_data("mine");
}

/// The private server dies: its log is in the reason. Where the old data were deleted before, a second seed brings new ones.
#[test]
fn a_private_server_that_dies_after_the_old_data_were_deleted() {
    let setup = Setup::by("Mysqldump").on_target("mysql", "datadir-swap = \"never\"");
    let hosts = Hosts::<MariadbKind>::start(&setup);
    hosts.old_data("mine");
    let seed = hosts.seed(1);
    let server = hosts.wait_load().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &server])
        .status();
    assert!(killed.expect("kill").success());
    let reason = seed.must_fail().reason();
    assert!(reason.contains("private server"), "{reason}");
    assert!(!hosts.target_db.try_up(), "there is nothing to start with");
    hosts.seed(2).must_succeed();
    hosts.assert_copied();
    hosts.assert_released("a second seed");
}

/// What is checked before the first statement costs no data.
#[test]
fn a_load_that_cannot_begin() {
    let fakes = Fakes::new();
    fakes.put("mariadb", "exit 7");
    let mut setup = Setup::by("Mysqldump").on_target("mysql", "datadir-swap = \"never\"");
    setup.of_target.path_first = Some(fakes.dir.clone());
    let hosts = Hosts::<MariadbKind>::start(&setup);
    hosts.old_data("mine");
    let reason = hosts.seed(1).must_fail().reason();
    assert!(reason.contains("exit status 7"), "{reason}");
    hosts.assert_released("a load that cannot begin");
    hosts.assert_old_data("mine");
    assert!(!hosts.target.log().contains("Deleting the old data"));
}

/// Both the agent and what it has started end; the old data serve.
#[test]
fn an_agent_that_is_killed_in_the_load() {
    let mut hosts = Hosts::<MariadbKind>::start(&Setup::by("Mysqldump"));
    hosts.old_data("mine");
    let seed = hosts.seed(1);
    hosts.wait_load();
    hosts.target.kill();
    hosts.target.launch();
    hosts.target.wait_ready();
    hosts.wait_registered(TARGET, 2);
    seed.must_fail();
    hosts.assert_old_data("mine");
    assert!(hosts.tools().is_empty(), "{:?}", hosts.tools());
    hosts.stop_target();
    hosts.seed(2).must_succeed();
    hosts.assert_copied();
    hosts.assert_released("a second seed");
}
