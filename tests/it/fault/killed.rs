//! The agent is killed with SIGKILL and started again.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, files_in};
use crate::support::player::Player;
use crate::support::{processes_with, wait_for};
use mysql::Conn;
use std::process::Command;
use std::time::Duration;

/// A running Cleanup of seed 1, by Mydumper, whose Backup was aborted and whose tool ignores SIGTERM.
pub fn held_cleanup(fakes: &Fakes) -> Pair {
    fakes.put("mydumper", "trap '' TERM; while :; do sleep 0.1; done");
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::mydumper("", "", &changes);
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    pair.wait_for_tool();
    pair.target.call("/api/abort-seed-stage/1/Backup");
    pair.target.call("/api/cleanup/1/Mydumper/Target");
    assert!(!pair.tools().is_empty(), "it ignores SIGTERM");
    assert_eq!(pair.state(1, "Cleanup").0, "Running");
    pair
}

/// The Cleanup that an end of the agent has cut short is made by the next call, and the next seed goes through.
pub fn cleanup_again(pair: &Pair, fakes: &Fakes) {
    fakes.remove("mydumper");
    pair.assert_nothing_left();
    let seed = pair.seed(1);
    Player::start(&pair.target, "/api/cleanup/1/Mydumper/Target");
    seed.must_complete(&pair.target, "Cleanup");
    pair.assert_unchanged();
    pair.must_seed(2);
}

/// Kills the target's agent and starts it again; its token must be a new one.
fn restart(pair: &mut Pair) {
    let token = pair.target.token();
    pair.target.kill();
    start_again(&mut pair.target);
    assert_ne!(pair.target.token(), token, "a new token");
}

/// As systemd does with what a killed agent leaves.
fn kill_tools(agent: &Agent) {
    let needle = format!("--defaults-file={}", agent.dir.join("state").display());
    let tools = processes_with(&needle);
    assert!(!tools.is_empty());
    for (pid, _) in tools {
        // One may have ended with the other.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    wait_for("the tools end", Duration::from_secs(30), || {
        processes_with(&needle).is_empty().then_some(())
    });
}

fn start_again(agent: &mut Agent) {
    agent.launch();
    agent.wait_ready();
}

#[test]
fn in_the_middle_of_a_dump_whose_bytes_flow() {
    let fakes = Fakes::new();
    fakes.put(
        "mariadb-dump",
        "\"$REAL\" \"$@\" | { head -c 100000; sleep 600; cat; }",
    );
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let mut pair = Pair::start_with("", "", &changes);
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    wait_for("bytes arrive", Duration::from_secs(20), || {
        std::fs::metadata(pair.dump_file())
            .ok()
            .filter(|m| m.len() > 50_000)
            .map(drop)
    });
    fakes.remove("mariadb-dump");
    restart(&mut pair);
    assert_eq!(
        pair.tools(),
        Vec::<String>::new(),
        "ended before the first request is answered"
    );
    let (status, text) = pair.state(1, "Backup");
    assert_eq!(status, "Error", "never Running");
    assert!(
        text.contains("interrupted") && !text.contains("partial"),
        "{text}"
    );
    assert_eq!(pair.state(1, "Prepare").0, "Completed");
    let size = || {
        std::fs::metadata(pair.dump_file())
            .map(|m| m.len())
            .unwrap_or_default()
    };
    let before = size();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(size(), before, "nobody writes any more");
    pair.assert_nothing_left();
    pair.assert_unchanged();
    pair.must_seed(2);
}

/// Cleanup waits for the end of the aborted tool, which is in no hurry.
#[test]
fn in_the_middle_of_a_cleanup() {
    let fakes = Fakes::new();
    let mut pair = held_cleanup(&fakes);
    restart(&mut pair);
    let (status, text) = pair.state(1, "Cleanup");
    assert!(
        status == "Error" && text.contains("interrupted"),
        "{status}: {text}"
    );
    assert_eq!(pair.tools(), Vec::<String>::new());
    cleanup_again(&pair, &fakes);
}

/// The record knows the connection of the tool at work.
fn wait_for_recorded_port(agent: &Agent) {
    wait_for("a recorded port", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(agent.dir.join("state/seeds.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        let seed = record["seeds"].as_array()?.last()?.clone();
        let tools = seed["tools"].as_array()?.clone();
        let known = |t: &serde_json::Value| t["ports"].as_array().is_some_and(|p| !p.is_empty());
        tools.iter().any(known).then_some(())
    });
}

#[test]
fn while_the_dump_waits_for_a_lock_in_the_source() {
    let mut pair = Pair::start();
    let hold = pair.held_dump(1);
    restart(&mut pair);
    let (status, text) = pair.state(1, "Backup");
    assert!(status == "Error" && text.contains("interrupted"), "{text}");
    assert_eq!(pair.tools(), Vec::<String>::new());
    assert_eq!(
        files_in(&pair.target.dir.join("state/tools")),
        Vec::<String>::new(),
        "password files are swept"
    );
    drop(hold);
    pair.must_seed(2);
    pair.assert_nothing_left();
}

/// A session of MySQL that waits does not see that its client has gone (MariaDB's sees it), and whoever wants the same lock waits
/// behind it. `with_tools`: as under KillMode=control-group, where at the next start nothing is left to ask but the record.
fn no_session_stays(with_tools: bool, hold: fn(&Pair<MysqldKind>) -> Conn, side: Side) {
    let mut pair = Pair::<MysqldKind>::of("", "", &Changes::default());
    let _hold = hold(&pair);
    if with_tools {
        wait_for_recorded_port(&pair.target);
    }
    pair.target.kill();
    if with_tools {
        kill_tools(&pair.target);
    }
    let waiting = |pair: &Pair<MysqldKind>| {
        let db = match side {
            Side::Source => &pair.source_db,
            Side::Target => &pair.target_db,
        };
        let all = db.connections_of("agent");
        all.into_iter().find(|c| c.contains("Waiting for "))
    };
    std::thread::sleep(Duration::from_secs(2));
    let left = waiting(&pair).expect("waits for ever");
    start_again(&mut pair.target);
    wait_for("the session ends", Duration::from_secs(30), || {
        waiting(&pair).is_none().then_some(())
    });
    println!("ended: {left}");
    let record = pair.target.dir.join("state/seeds.json");
    wait_for("it is forgotten", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(&record).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["sessions"].as_array()?.is_empty().then_some(())
    });
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

#[test]
fn no_session_of_its_dump_stays_in_the_source() {
    no_session_stays(false, |pair| pair.held_dump(1), Side::Source);
}

#[test]
fn no_session_of_its_dump_stays_in_the_source_when_the_tool_dies_as_well() {
    no_session_stays(true, |pair| pair.held_dump(1), Side::Source);
}

#[test]
fn no_session_of_its_load_stays_in_the_target_when_the_tool_dies_as_well() {
    no_session_stays(true, |pair| pair.held_load(1), Side::Target);
}

#[test]
fn in_the_middle_of_a_load() {
    let mut pair = Pair::start_with("", "read_only=1", &Changes::default());
    pair.target_db
        .sql("SET GLOBAL innodb_force_primary_key = 1");
    let before = pair.target_db.set_hostile_globals();
    let hold = pair.held_load(1);
    assert_eq!(
        pair.target_db
            .value("SELECT CONCAT(@@innodb_force_primary_key, @@innodb_file_per_table)"),
        "OFFON"
    );
    assert_eq!(
        pair.target_db
            .value("SELECT CONCAT(@@event_scheduler, ' ', @@read_only)"),
        "OFF OFF"
    );
    restart(&mut pair);
    let (status, text) = pair.state(1, "Restore");
    assert_eq!(status, "Error", "never Running");
    assert!(
        text.contains("interrupted") && text.contains("partial") && text.contains("new seed"),
        "{text}"
    );
    assert_eq!(pair.tools(), Vec::<String>::new());
    wait_for("settings are put back", Duration::from_secs(20), || {
        (pair
            .target_db
            .value("SELECT CONCAT(@@event_scheduler, ' ', @@read_only)")
            == "ON ON")
            .then_some(())
    });
    pair.target_db.assert_globals(&before);
    assert_eq!(pair.enabled_events(), 0);
    drop(hold);
    pair.must_seed(2);
    pair.target_db.assert_globals(&before);
    pair.assert_nothing_left();
}

/// While MySQL is down the agent starts all the same, and settles its debts when MySQL is back.
#[test]
fn in_the_middle_of_a_load_with_mysql_down_afterwards() {
    let mut pair = Pair::start();
    let hold = pair.held_load(1);
    pair.target.kill();
    drop(hold);
    // A crash: event_scheduler comes back as my.cnf has it, so take that away to see who puts it back.
    pair.target_db.kill();
    start_again(&mut pair.target);
    let (status, text) = pair.state(1, "Restore");
    assert!(status == "Error" && text.contains("partial"), "{text}");
    let (code, _) = pair.target.call("/api/mysql-start");
    assert_eq!(code, 200);
    wait_for("no event is enabled", Duration::from_secs(20), || {
        (pair.enabled_events() == 0).then_some(())
    });
    pair.must_seed(2);
}

/// The source's agent has no part in a Backup by dump.
#[test]
fn the_sources_agent_during_backup() {
    let mut pair = Pair::start();
    let hold = pair.held_dump(1);
    pair.source.kill();
    drop(hold);
    wait_for("the dump ends", Duration::from_secs(30), || {
        (pair.state(1, "Backup").0 == "Completed").then_some(())
    });
    start_again(&mut pair.source);
    let seed = pair.seed(1);
    seed.restore();
    seed.cleanup();
    pair.assert_seeded();
    assert_eq!(
        crate::support::pair::state_of(&pair.source, 1, "Cleanup").0,
        "Completed"
    );
}
