//! What the target keeps through a seed: its own schemas, its settings, its place among seeds.

use crate::support::agent::{Agent, Changes};
use crate::support::pair::Pair;
use crate::support::wait_for;
use std::time::Duration;

fn restore_text(pair: &Pair, id: i64) -> String {
    let seed = pair.seed(id);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    seed.cleanup();
    state["Details"].as_str().expect("Details").to_string()
}

#[test]
fn schemas_that_only_the_target_has_are_kept_and_named() {
    let pair = Pair::start();
    pair.target_db.sql("CREATE DATABASE `own na``me`");
    let text = restore_text(&pair, 1);
    assert!(
        text.contains("kept") && text.contains("precious") && text.contains("own na`me"),
        "{text}"
    );
    assert_eq!(pair.target_db.value("SELECT v FROM precious.t"), "mine");
    assert_eq!(
        pair.target_db.value(
            "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'own na`me'"
        ),
        "1"
    );
    pair.assert_seeded();
}

#[test]
fn schemas_that_only_the_target_has_are_dropped_on_demand() {
    let lines = vec![("mysql", "drop-extra-schemas = true".to_string())];
    let pair = Pair::start_with(
        "",
        "",
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    pair.target_db.sql("CREATE DATABASE `own na``me`");
    let text = restore_text(&pair, 1);
    assert!(
        text.contains("dropped") && text.contains("precious") && text.contains("own na`me"),
        "{text}"
    );
    let left = pair
        .target_db
        .sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1");
    assert_eq!(
        left,
        [
            "information_schema",
            "mysql",
            "performance_schema",
            "shop",
            "sys"
        ]
    );
    // Not in the binary log: a replica of the new server must not repeat it.
    let (state, own) = (
        pair.target_db.value("SELECT @@gtid_binlog_state"),
        pair.target_db.value("SELECT @@server_id"),
    );
    assert!(!state.contains(&format!("-{own}-")), "{state}");
}

#[test]
fn read_only_and_the_scheduler_stay_as_they_were() {
    let pair = Pair::start_with("", "read_only=1\nevent_scheduler=OFF", &Changes::default());
    pair.seed(1).whole_seed(true);
    assert_eq!(
        pair.target_db
            .value("SELECT CONCAT(@@read_only, ' ', @@event_scheduler)"),
        "ON OFF"
    );
    assert_eq!(pair.enabled_events(), 0);
    wait_for("replication runs", Duration::from_secs(20), || {
        (pair.target_db.replica_status("Slave_SQL_Running") == "Yes").then_some(())
    });
    let pair = Pair::start_with("", "read_only=1", &Changes::default());
    pair.must_seed(1); // compares event_scheduler = ON
    assert_eq!(pair.target_db.value("SELECT @@read_only"), "1");
}

/// Such a server refuses every statement on events (error 1577), and a load must not find that out half-way.
#[test]
fn a_target_whose_scheduler_is_disabled_takes_no_events() {
    let pair = Pair::start_with("", "event_scheduler=DISABLED", &Changes::default());
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    let text = pair.must_fail(1, "Backup");
    assert!(
        text.contains("event_scheduler = DISABLED") && text.contains("my.cnf"),
        "{text}"
    );
    assert_eq!(pair.target_db.value("SELECT v FROM precious.t"), "mine");
    pair.source_db.sql("DROP EVENT shop.tick");
    pair.seed(2).whole_seed(true);
    assert_eq!(pair.target_db.value("SELECT @@event_scheduler"), "DISABLED");
    assert_eq!(
        pair.target_db.value("SELECT COUNT(*) FROM shop.items"),
        "2048"
    );
}

fn restart(agent: &mut Agent) {
    agent.terminate();
    agent.launch();
    agent.wait_ready();
}

#[test]
fn both_agents_may_be_restarted_between_stages() {
    let mut pair = Pair::start();
    pair.seed(1).prepare();
    restart(&mut pair.target);
    restart(&mut pair.source);
    pair.seed(1).backup();
    restart(&mut pair.target);
    pair.seed(1).restore();
    restart(&mut pair.target);
    pair.seed(1).connect(true);
    pair.seed(1).cleanup();
    pair.assert_seeded();
}

/// Transactions of its own, and a place as replica of somebody else, must not shine through.
#[test]
fn a_target_with_a_history_and_two_seeds_in_a_row() {
    let pair = Pair::start();
    pair.target_db
        .sql("SET GLOBAL gtid_slave_pos = '0-99-50,7-99-1234'");
    for n in 0..5 {
        pair.target_db
            .sql(&format!("CREATE TABLE precious.errant{n} (a INT)"));
    }
    assert_ne!(pair.target_db.value("SELECT @@gtid_binlog_pos"), "");
    pair.seed(1).whole_seed(true);
    let own = pair.target_db.value("SELECT @@server_id");
    let state = || {
        pair.target_db
            .value("SELECT CONCAT(@@gtid_binlog_state, ' ', @@gtid_slave_pos)")
    };
    assert!(
        !state().contains(&format!("-{own}-")) && !state().contains("7-99-"),
        "{}",
        state()
    );
    let rows = |table: &str| {
        pair.target_db
            .value(&format!("SELECT COUNT(*) FROM {table}"))
    };
    pair.source_db.sql("INSERT INTO shop.held VALUES (1001)");
    wait_for("replication goes on", Duration::from_secs(20), || {
        (rows("shop.held") == "3").then_some(())
    });

    // A replica that runs is refused; stopped, it is seeded again.
    pair.target.call("/api/prepare/2/Mysqldump/Target");
    let text = pair.must_fail(2, "Prepare");
    assert!(text.contains("STOP SLAVE"), "{text}");
    pair.target_db.sql("STOP SLAVE");
    pair.source_db.sql("INSERT INTO shop.held VALUES (1002)");
    pair.seed(3).whole_seed(false);
    wait_for("replication goes on", Duration::from_secs(20), || {
        assert_eq!(pair.target_db.replica_status("Last_SQL_Error"), "");
        (rows("shop.held") == "4" && pair.target_db.replica_status("Slave_IO_Running") == "Yes")
            .then_some(())
    });
    assert!(!state().contains(&format!("-{own}-")), "{}", state());
    assert_eq!(pair.enabled_events(), 0);
}
