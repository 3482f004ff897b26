//! Starting and stopping a real MySQL, and its error log.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::Mariadb;
use crate::support::{assert_prompt, wait_for};
use serde_json::json;
use std::time::Duration;

#[test]
fn stop_start_and_error_log() {
    let db = Mariadb::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    let agent = Agent::start(&db);
    agent.wait_looked(true);

    // The whole host's data, because orchestrator stores what it gets.
    let stopped = agent.json("/api/mysql-stop");
    assert_eq!(
        (&stopped["MySQLRunning"], &stopped["MySQLDatabases"]),
        (&json!(false), &json!({})),
        "{stopped}"
    );
    assert!(
        stopped["AvailiableSeedMethods"]["Mysqldump"].is_object()
            && stopped["MountPoint"].is_object(),
        "{stopped}"
    );
    assert_eq!(
        stopped["MySQLDatadir"],
        format!("{}/", db.datadir().display()),
        "the last known"
    );
    assert!(stopped["MySQLDatadirDiskUsed"].as_u64().expect("bytes") > 1_000_000);
    assert!(
        std::net::TcpStream::connect((db.host.as_str(), db.port)).is_err(),
        "it is really down"
    );
    agent.json("/api/mysql-stop"); // twice is no error of ours

    tail_is_the_files(&agent, &db);

    let started = agent.json("/api/mysql-start");
    assert_eq!(
        (
            &started["MySQLRunning"],
            started["MySQLDatabases"]["shop"].is_object()
        ),
        (&json!(true), true),
        "{started}"
    );
    assert_eq!(db.value("SELECT 1"), "1");
    agent.json("/api/mysql-start");
    tail_is_the_files(&agent, &db);

    // Behind our back: the next look sees it.
    db.kill();
    wait_for("a killed server is seen", Duration::from_secs(30), || {
        (agent.json("/api/get-agent-data")["MySQLRunning"] == false).then_some(())
    });
    db.up();
    wait_for("and its return", Duration::from_secs(5), || {
        agent.json("/api/get-agent-data")["MySQLDatabases"]["shop"]
            .is_object()
            .then_some(())
    });
    let warnings = agent
        .log()
        .lines()
        .filter(|l| l.contains("[WARN]") && l.contains("MySQL at"))
        .count();
    assert!(
        warnings <= 3,
        "one line each time it goes, not one for every look: {}",
        agent.log()
    );
}

/// One JSON string, the last 40 lines, with the final line break.
fn tail_is_the_files(agent: &Agent, db: &Mariadb) {
    let file = std::fs::read_to_string(db.dir.join("run/error.log")).expect("error log");
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let last = lines[lines.len().saturating_sub(40)..].concat();
    assert!(lines.len() > 5 && last.ends_with('\n'));
    let got = agent.json("/api/mysql-error-log-tail");
    assert_eq!(got.as_str().expect("a string"), last);
}

#[test]
fn a_failing_service_command_is_told() {
    let db = Mariadb::start("127.0.0.1", "");
    let lines = vec![
        (
            "mysql",
            "service-stop-command = \"echo 'Access denied' >&2; exit 4\"".to_string(),
        ),
        (
            "mysql",
            "service-start-command = \"no-such-systemctl start mysqld\"".to_string(),
        ),
        ("mysql", "service-status-command = \"sleep 60\"".to_string()),
    ];
    let agent = Agent::start_with(
        &db,
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    assert_eq!(
        agent.error("/api/mysql-stop"),
        "error: command \"echo\": exit status 4, stderr: Access denied\n"
    );
    assert!(
        agent
            .error("/api/mysql-start")
            .starts_with("error: command \"no-such-systemctl\": exit status 127, stderr: ")
    );
    assert_eq!(db.value("SELECT 1"), "1");
    // A status command that hangs delays nobody.
    let answers = (0..5).map(|_| {
        let begin = std::time::Instant::now();
        let data = agent.json("/api/get-agent-data");
        assert_eq!(data["MySQLRunning"], false);
        begin.elapsed()
    });
    assert_prompt(answers.collect());
}

/// The tail before MySQL was ever seen, and with a server that writes to stderr.
#[test]
fn an_error_log_that_is_none() {
    let lone = crate::support::lone::Lone::new().start();
    let text = lone.call("/api/mysql-error-log-tail").message();
    assert!(text.contains("MySQL has not answered yet"), "{text}");
}
