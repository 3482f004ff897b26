//! Targets and settings that make a seed impossible: refused by Prepare, with the setting and the remedy.

use super::bad_source::replicate;
use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::Mariadb;
use crate::support::pair::{Pair, state_of};
use crate::support::wait_for;
use mysql::prelude::Queryable;
use std::time::Duration;

/// Details of the Error in which Prepare of a target ends.
fn prepare_fails(agent: &Agent, id: i64) -> String {
    let (status, body) = agent.call(&format!("/api/prepare/{id}/Mysqldump/Target"));
    if status == 500 {
        // Known before the stage could begin: the method is not offered then.
        let v: serde_json::Value = serde_json::from_str(&body).expect("envelope");
        agent.json("/api/get-agent-data");
        return v["Message"].as_str().expect("Message").to_string();
    }
    assert_eq!(status, 202, "{body}");
    let text = wait_for("Prepare fails", Duration::from_secs(30), || {
        let (status, text) = state_of(agent, id, "Prepare");
        assert_ne!(status, "Completed", "{text}");
        (status == "Error").then_some(text)
    });
    agent.json("/api/get-agent-data");
    text
}

fn agent_with(db: &Mariadb, section: &'static str, line: String) -> Agent {
    Agent::start_with(
        db,
        &Changes {
            lines: vec![(section, line)],
            ..Changes::default()
        },
    )
}

#[test]
fn settings() {
    let db = Mariadb::start("127.0.0.2", "");
    let agent = agent_with(&db, "mysql", "password = \"wrong-s3cret\"".into());
    let text = prepare_fails(&agent, 1);
    assert!(
        text.contains("1045")
            && text.contains("mysql.user = \"agent\"")
            && text.contains("mysql.password"),
        "{text}"
    );
    assert!(
        !text.contains("wrong-s3cret") && !agent.log().contains("wrong-s3cret"),
        "P8"
    );
    drop(agent);

    let agent = agent_with(&db, "mysql", "port = 1".into());
    let text = prepare_fails(&agent, 1);
    assert!(
        text.contains("mysql.port") && text.contains("127.0.0.2:1"),
        "{text}"
    );
    drop(agent);

    let missing = db.dir.join("no/such/dir");
    let file = db.dir.join("a-file");
    std::fs::write(&file, "").expect("file");
    for dir in [&missing, &file] {
        let agent = agent_with(&db, "common", format!("backup-dir = {dir:?}"));
        let text = prepare_fails(&agent, 1);
        assert!(
            text.contains(&format!("common.backup-dir = {dir:?}")),
            "{text}"
        );
    }
    let inside = db.datadir().join("backup");
    std::fs::create_dir(&inside).expect("directory");
    let agent = agent_with(&db, "common", format!("backup-dir = {inside:?}"));
    let text = prepare_fails(&agent, 1);
    assert!(
        text.contains("common.backup-dir") && text.contains("inside the data directory"),
        "{text}"
    );
    std::fs::remove_dir(&inside).expect("the agent has left nothing in it");
}

#[test]
fn that_replicates_or_has_replicas() {
    let other = Mariadb::start("127.0.0.1", "");
    let pair = Pair::start();
    // It replicates.
    replicate(&pair.target_db, &other);
    let text = prepare_fails(&pair.target, 1);
    assert!(
        text.contains("replicates from 127.0.0.1")
            && text.contains("STOP SLAVE")
            && text.contains("RESET SLAVE ALL"),
        "{text}"
    );
    pair.assert_unchanged();
    pair.target_db.sql("STOP SLAVE");
    pair.target_db.sql("RESET SLAVE ALL");
    // It has a replica.
    replicate(&other, &pair.target_db);
    let text = prepare_fails(&pair.target, 2);
    assert!(
        text.contains("has replicas") && text.contains("repoint them"),
        "{text}"
    );
    pair.assert_unchanged();
    other.sql("STOP SLAVE");
    other.sql("RESET SLAVE ALL");
    // The replica comes after Prepare: Backup sees it.
    let dump_ends = || {
        pair.target_db
            .sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
            .is_empty()
    };
    for id in pair
        .target_db
        .sql("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
    {
        let _ = pair.target_db.root().query_drop(format!("KILL {id}")); // gone already: fine
    }
    wait_for("the replica's thread ends", Duration::from_secs(60), || {
        dump_ends().then_some(())
    });
    pair.seed(3).prepare();
    replicate(&other, &pair.target_db);
    pair.seed(3).start_backup();
    let text = pair.must_fail(3, "Backup");
    assert!(text.contains("has replicas"), "{text}");
    pair.assert_unchanged();
    other.sql("STOP SLAVE");
    other.sql("RESET SLAVE ALL");
    for id in pair
        .target_db
        .sql("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
    {
        let _ = pair.target_db.root().query_drop(format!("KILL {id}")); // gone already: fine
    }
    wait_for("the replica's thread ends", Duration::from_secs(60), || {
        dump_ends().then_some(())
    });
    pair.must_seed(4);
}
