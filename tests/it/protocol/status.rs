//! `status`: what an operator sees of the agent on this host, with and without its token, and when it is gone.

use crate::support::agent::{Agent, Changes};
use crate::support::lone::end_of;
use crate::support::mariadb::{AGENT_PASSWORD, Mariadb};
use crate::support::{binary, tool_path, wait_for};
use mysql::prelude::Queryable;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

fn run(agent: &Agent, more: &[&str]) -> (Option<i32>, String) {
    let token = std::fs::read_to_string(agent.dir.join("token")).unwrap_or_default();
    let mut command = Command::new(binary());
    command
        .arg("status")
        .arg(format!(
            "--config={}",
            agent.dir.join("agent.conf").display()
        ))
        .args(more)
        .env("PATH", tool_path());
    let (code, out, err) = end_of(command);
    assert_eq!(err, "");
    assert!(!out.contains(AGENT_PASSWORD), "{out}");
    assert!(token.is_empty() || !out.contains(&token), "{out}");
    (code, out)
}

fn json(agent: &Agent) -> (Option<i32>, Value) {
    let (code, out) = run(agent, &["--json"]);
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}")),
    )
}

#[track_caller]
fn has_note(status: &Value, word: &str) {
    let notes = status["Notes"].as_array().expect("Notes");
    let found = notes
        .iter()
        .any(|n| n.as_str().is_some_and(|n| n.contains(word)));
    assert!(found, "no note with {word}: {status:#}");
}

#[test]
fn a_seed_in_all_its_states() {
    let (source, target) = (
        Mariadb::start("127.0.0.1", ""),
        Mariadb::start("127.0.0.2", ""),
    );
    source.sql("CREATE DATABASE shop");
    source.sql("CREATE TABLE shop.held (id INT PRIMARY KEY) ENGINE=InnoDB");
    let mut agent = Agent::start_with(&target, &Changes::default());

    let (code, s) = json(&agent);
    assert_eq!(
        (code, &s["Seed"], &s["Notes"]),
        (Some(0), &Value::Null, &serde_json::json!([])),
        "{s:#}"
    );
    assert_eq!(
        (&s["Agent"]["Answers"], s["Agent"]["Hostname"].as_str()),
        (&true.into(), Some(agent.hostname.as_str()))
    );
    assert_eq!(
        (&s["MySQL"]["Answers"], &s["MySQL"]["Running"]),
        (&true.into(), &true.into())
    );
    assert!(
        s["MySQL"]["Version"]
            .as_str()
            .expect("Version")
            .starts_with("MariaDB ")
    );
    let disks = s["Disks"].as_array().expect("Disks");
    assert_eq!(disks.len(), 2);
    assert!(
        disks
            .iter()
            .all(|d| d["Total"].as_u64() >= d["Free"].as_u64() && d["Free"] != 0)
    );

    // Between two stages.
    assert_eq!(agent.call("/api/prepare/5/Mysqldump/Target").0, 202);
    wait_for("Prepare is done", Duration::from_secs(20), || {
        let state = agent.json("/api/seed-stage-state/5/Prepare");
        (state["Status"] == "Completed").then_some(())
    });
    let (_, s) = json(&agent);
    assert_eq!(
        (&s["Seed"]["Stage"], &s["Seed"]["Status"]),
        (&"Prepare".into(), &"Completed".into()),
        "{s:#}"
    );
    assert_eq!(s["MySQL"]["Running"], true);

    // At work: the dump waits for this session.
    let mut hold = source.root();
    hold.query_drop("LOCK TABLES shop.held WRITE")
        .expect("lock");
    let backup = format!("/api/backup/5/Mysqldump/{}/{}", source.host, source.port);
    assert_eq!(agent.call(&backup).0, 202);
    wait_for("the dump waits", Duration::from_secs(20), || {
        let waits = |c: &String| c.contains("`held`") || c.contains("FLUSH TABLES");
        source
            .connections_of("agent")
            .iter()
            .any(waits)
            .then_some(())
    });
    let (code, s) = json(&agent);
    let seed = &s["Seed"];
    assert_eq!(code, Some(0));
    assert_eq!(
        (
            &seed["Origin"],
            &seed["SeedID"],
            &seed["Method"],
            &seed["Side"],
            &seed["Stage"],
            &seed["Status"]
        ),
        (
            &"agent".into(),
            &5.into(),
            &"Mysqldump".into(),
            &"Target".into(),
            &"Backup".into(),
            &"Running".into()
        ),
        "{s:#}"
    );
    assert!(seed["Progress"]["Bytes"].is_u64(), "{s:#}");
    assert_eq!(
        (&seed["LoadIncomplete"], &s["MySQL"]["Running"]),
        (&false.into(), &true.into())
    );
    let (_, table) = run(&agent, &[]);
    assert!(
        table.contains("5, Mysqldump, Target: Backup Running since 20"),
        "{table}"
    );
    assert!(table.contains("\nProgress "), "{table}");

    // Without the token, and with another agent's.
    let hint = agent.dir.join("token");
    std::fs::rename(&hint, agent.dir.join("aside")).expect("rename");
    let (code, s) = json(&agent);
    assert_eq!(
        (code, &s["Seed"]["Origin"], &s["Seed"]["Status"]),
        (Some(0), &"record".into(), &"Running".into())
    );
    has_note(&s, "common.token-hint-file");
    has_note(&s, "as the record in");
    std::fs::write(&hint, "not-this-one").expect("token");
    let (code, s) = json(&agent);
    assert_eq!((code, &s["Agent"]["Answers"]), (Some(0), &true.into()));
    has_note(&s, "is not this agent's");
    std::fs::rename(agent.dir.join("aside"), &hint).expect("rename");

    // Gone: only the record is left, and reading it changes nothing.
    agent.kill();
    let record = agent.dir.join("state/seeds.json");
    let before = std::fs::read(&record).expect("record");
    let (code, s) = json(&agent);
    assert_eq!(
        (code, &s["Agent"]["Answers"], &s["Seed"]["Stage"]),
        (Some(1), &false.into(), &"Backup".into())
    );
    has_note(&s, "no agent answers");
    has_note(&s, "interrupted");
    assert_eq!(std::fs::read(&record).expect("record"), before);
    drop(hold);
    target.down();
    std::fs::write(&record, "{").expect("record");
    let (code, table) = run(&agent, &[]);
    assert_eq!(code, Some(1));
    assert!(
        table.contains("MySQL       does not answer: ") && table.contains("Seed        none known"),
        "{table}"
    );
    assert!(
        table.contains("cannot be read") && !record.with_extension("json.unreadable").exists(),
        "{table}"
    );
}
