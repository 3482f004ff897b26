//! SIGTERM, and MySQL that is down or hangs.

use super::killed::{cleanup_again, held_cleanup};
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::Mariadb;
use crate::support::pair::{Pair, files_in};
use crate::support::{assert_prompt, processes_with, wait_for};
use std::time::{Duration, Instant};

fn assert_clean_end(pair: &mut Pair, limit: Duration) {
    let address = (pair.target.address.clone(), pair.target.port);
    let (took, code) = pair.target.terminate();
    assert_eq!(code, Some(0), "{}", pair.target.log());
    assert!(took < limit, "took {took:?}");
    assert!(
        std::net::TcpStream::connect((address.0.as_str(), address.1)).is_err(),
        "the port is closed"
    );
    let state = pair.target.dir.join("state");
    assert_eq!(
        processes_with(&state.display().to_string()),
        Vec::new(),
        "no tool is left"
    );
    assert_eq!(
        files_in(&state.join("tools")),
        Vec::<String>::new(),
        "no password file is left"
    );
    let sockets: Vec<String> = files_in(&state)
        .into_iter()
        .filter(|f| f.ends_with(".sock"))
        .collect();
    assert_eq!(sockets, Vec::<String>::new());
}

/// As an operator does who interrupts `seed` and then stops the agent: Backup is aborted, Cleanup waits for the end of its tool, and
/// the tool is in no hurry.
#[test]
fn sigterm_while_an_aborted_tool_still_ends() {
    let fakes = Fakes::new();
    let mut pair = held_cleanup(&fakes);
    assert_clean_end(&mut pair, Duration::from_secs(10));
    assert_eq!(pair.tools(), Vec::<String>::new());
    pair.target.launch();
    pair.target.wait_ready();
    let (status, text) = pair.state(1, "Cleanup");
    assert!(
        status == "Error" && text.contains("stopped"),
        "{status}: {text}"
    );
    cleanup_again(&pair, &fakes);
}

#[test]
fn sigterm_between_stages_and_within_them() {
    let mut pair = Pair::start();
    pair.seed(1).prepare();
    assert_clean_end(&mut pair, Duration::from_secs(2));
    pair.target.launch();
    pair.target.wait_ready();
    assert_eq!(
        pair.state(1, "Prepare").0,
        "Completed",
        "a clean stop between stages loses nothing"
    );
    pair.target.call("/api/abort-seed-stage/1/Prepare");

    let hold = pair.held_dump(2);
    assert_clean_end(&mut pair, Duration::from_secs(10));
    pair.assert_nothing_left();
    pair.target.launch();
    pair.target.wait_ready();
    let (status, text) = pair.state(2, "Backup");
    assert!(
        status == "Error" && text.contains("stopped"),
        "{status}: {text}"
    );
    drop(hold);

    let hold = pair.held_load(3);
    assert_clean_end(&mut pair, Duration::from_secs(10));
    pair.assert_nothing_left();
    assert_eq!(
        pair.target_db.value("SELECT @@event_scheduler"),
        "ON",
        "put back before the end"
    );
    assert_eq!(pair.enabled_events(), 0);
    pair.target.launch();
    pair.target.wait_ready();
    let (status, text) = pair.state(3, "Restore");
    assert!(
        status == "Error" && text.contains("stopped") && text.contains("partial"),
        "{status}: {text}"
    );
    drop(hold);
    pair.must_seed(4);
}

/// The answer's time and body.
fn timed(agent: &Agent, path: &str) -> (Duration, serde_json::Value) {
    let begin = Instant::now();
    let value = agent.json(path);
    (begin.elapsed(), value)
}

#[test]
fn mysql_is_down_when_the_agent_starts() {
    let db = Mariadb::start("127.0.0.2", "");
    db.sql("CREATE DATABASE shop");
    db.down();
    let agent = Agent::start(&db);
    let times = ["/api/get-agent-info", "/api/get-agent-data"].map(|path| timed(&agent, path).0);
    assert_prompt(times.to_vec());
    let data = wait_for("the methods are looked at", Duration::from_secs(20), || {
        let data = agent.json("/api/get-agent-data");
        data["AvailiableSeedMethods"]["Mysqldump"]
            .is_object()
            .then_some(data)
    });
    assert_eq!(data["MySQLRunning"], false);
    assert_eq!(data["MySQLDatabases"], serde_json::json!({}), "an object");

    for side in ["Target", "Source"] {
        agent.call(&format!("/api/prepare/1/Mysqldump/{side}"));
        let text = wait_for("Prepare ends", Duration::from_secs(20), || {
            let (status, text) = crate::support::pair::state_of(&agent, 1, "Prepare");
            (status == "Error").then_some(text)
        });
        assert!(
            text.contains(&db.port.to_string()) && text.contains("mysql.port"),
            "{text}"
        );
    }

    let data = agent.json("/api/mysql-start");
    assert_eq!(
        data["MySQLRunning"], true,
        "the answer is the state after it"
    );
    assert!(data["MySQLDatabases"]["shop"].is_object(), "{data}");
    let data = agent.json("/api/mysql-stop");
    assert_eq!(data["MySQLRunning"], false);
    assert_eq!(data["MySQLDatabases"], serde_json::json!({}));
    assert_ne!(data["MySQLDatadir"], "", "as last seen");
}

#[test]
fn mysql_hangs() {
    let pair = Pair::start();
    pair.assert_alive();
    let frozen = pair.target_db.freeze();
    let paths = ["/api/get-agent-data", "/api/get-agent-info"].repeat(8);
    let times = paths.into_iter().map(|path| timed(&pair.target, path).0);
    assert_prompt(times.collect());
    // A stage does not hang with it for ever, and can be aborted.
    pair.target.call("/api/prepare/1/Mysqldump/Target");
    let text = pair.must_fail(1, "Prepare");
    assert!(text.contains(&pair.target_db.port.to_string()), "{text}");
    pair.target.call("/api/prepare/2/Mysqldump/Target");
    assert_eq!(
        pair.target.call("/api/abort-seed-stage/2/Prepare"),
        (200, "killed".into())
    );
    drop(frozen);
    wait_for("MySQL is seen again", Duration::from_secs(20), || {
        let data = pair.target.json("/api/get-agent-data");
        (data["MySQLRunning"] == true && data["MySQLDatabases"]["precious"].is_object())
            .then_some(())
    });
    pair.must_seed(3);
}

/// logrotate moves the log and sends SIGHUP, which ended the Go agent.
#[test]
fn sighup_opens_the_log_anew_and_nothing_else() {
    let scratch = crate::support::Scratch::new("log");
    let log = scratch.0.join("agent.log");
    let lines = vec![("logging", format!("file = {log:?}"))];
    let db = Mariadb::start("127.0.0.1", "");
    let mut agent = Agent::start_with(
        &db,
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    let pid = agent.pid();
    std::fs::rename(&log, scratch.0.join("agent.log.1")).expect("rotate");
    std::process::Command::new("kill")
        .args(["-HUP", &pid.to_string()])
        .status()
        .expect("kill");
    wait_for("a new log", Duration::from_secs(20), || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|t| t.contains("opened again"))
    });
    agent.json("/api/get-agent-data");
    assert_eq!(agent.pid(), pid);
    agent.terminate();
    let text = std::fs::read_to_string(&log).expect("log");
    assert!(text.contains("stopped"), "{text}");
}
