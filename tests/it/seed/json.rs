//! `seed --json`: each line of real seeds is held against contrib/doc/seed-json.md.

use super::by_command::Pair;
use crate::support::mariadb::MariadbKind;
use crate::support::schema::Schema;
use crate::support::{binary, wait_for};
use mysql::prelude::Queryable;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The lines, each checked; the last one is the only result and speaks of the exit code.
fn lines(schema: &Schema, out: &Output) -> Vec<Value> {
    let text = String::from_utf8(out.stdout.clone()).expect("UTF-8");
    assert!(text.ends_with('\n') && out.stderr.is_empty(), "{out:?}");
    let all: Vec<Value> = text.lines().map(|l| schema.check(l)).collect();
    let results = all.iter().filter(|v| v["event"] == "result").count();
    let last = all.last().expect("a line");
    assert_eq!((results, &last["event"]), (1, &json!("result")), "{text}");
    assert_eq!(last["exit_code"].as_i64(), out.status.code().map(i64::from));
    all
}

fn of<'a>(all: &'a [Value], event: &str) -> Vec<&'a Value> {
    all.iter().filter(|v| v["event"] == event).collect()
}

fn stages(all: &[Value], event: &str) -> Vec<String> {
    let word = |v: &Value, field: &str| v[field].as_str().expect("checked").to_string();
    of(all, event)
        .iter()
        .map(|v| format!("{} {}", word(v, "stage"), word(v, "side")))
        .collect()
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

#[test]
fn a_whole_seed_a_dry_run_a_refusal_and_an_interruption() {
    let schema = Schema::load();
    let pair = Pair::<MariadbKind>::start("");
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.t ENGINE=InnoDB AS SELECT seq AS n FROM shop.seq_1_to_1000");

    let dry = lines(&schema, &pair.seed(&["--json", "--dry-run"]));
    let methods = of(&dry, "method");
    assert_eq!(methods.len(), 5, "each method: {methods:?}");
    for m in methods {
        let usable = m["method"] == "Mysqldump";
        let reasons = m["reasons"].as_array().expect("checked");
        assert_eq!(
            (m["usable"] == true, reasons.is_empty()),
            (usable, usable),
            "{m}"
        );
    }
    let preflight = of(&dry, "preflight");
    assert!(!preflight.is_empty() && preflight.iter().all(|p| p["ok"] == true));
    assert!(of(&dry, "seed_started").is_empty() && of(&dry, "stage_started").is_empty());
    let result = dry.last().expect("result");
    assert_eq!(
        (
            &result["status"],
            &result["method"],
            &result["target_state"]
        ),
        (&json!("dry_run"), &json!("Mysqldump"), &json!("unchanged"))
    );
    assert_eq!(pair.target_db.value("SHOW DATABASES LIKE 'shop'"), "");

    let whole = lines(&schema, &pair.seed(&["--json", "--seed-id", "77"]));
    let sides: Vec<&str> = of(&whole, "agent_registered")
        .iter()
        .map(|v| v["side"].as_str().expect("checked"))
        .collect();
    assert!(
        sides.contains(&"Source") && sides.contains(&"Target"),
        "{sides:?}"
    );
    let started = stages(&whole, "stage_started");
    assert_eq!(
        started,
        [
            "Prepare Source",
            "Prepare Target",
            "Backup Target",
            "Restore Target",
            "ConnectSlave Target",
            "Cleanup Target",
            "Cleanup Source"
        ]
    );
    assert_eq!(sorted(stages(&whole, "stage_completed")), sorted(started));
    let coordinates = of(&whole, "coordinates")[0];
    let connected = of(&whole, "replication_connected")[0];
    assert_eq!(
        (&connected["how"], &connected["gtid"]),
        (&json!("gtid"), &coordinates["gtid"])
    );
    assert_eq!(connected["source_port"], pair.source_db.port);
    let checks = of(&whole, "verification");
    assert_eq!(checks.len(), 5, "{checks:?}");
    assert!(checks.iter().all(|c| c["verdict"] == "ok"), "{checks:?}");
    let result = whole.last().expect("result");
    assert_eq!(
        (
            &result["status"],
            &result["target_state"],
            &result["seed_id"],
            &result["error"]
        ),
        (
            &json!("completed"),
            &json!("replicating"),
            &json!(77),
            &Value::Null
        )
    );
    let stages_timed: Vec<&String> = result["durations"]
        .as_object()
        .expect("checked")
        .keys()
        .collect();
    assert_eq!(stages_timed.len(), 5, "{stages_timed:?}");
    assert!(result["bytes"].as_u64() > Some(1000), "{result}");

    let refused = lines(&schema, &pair.seed(&["--json"]));
    let problems: Vec<_> = of(&refused, "preflight")
        .into_iter()
        .filter(|p| p["ok"] == false)
        .collect();
    assert!(
        problems.len() == 1
            && problems[0]["text"]
                .as_str()
                .expect("checked")
                .contains("--force"),
        "{problems:?}"
    );
    let result = refused.last().expect("result");
    assert_eq!(
        (&result["status"], &result["exit_code"]),
        (&json!("failed"), &json!(1))
    );
    assert_eq!(result["target_state"], "unchanged");

    interrupted(&schema, &pair);
}

/// The dump waits for a table lock; the target replicated before, and does again.
fn interrupted(schema: &Schema, pair: &Pair<MariadbKind>) {
    let mut lock = pair.source_db.root();
    lock.query_drop("LOCK TABLES shop.t WRITE").expect("locked");
    let account = pair.account();
    let mut words: Vec<&str> = account.iter().map(String::as_str).collect();
    words.extend(["--json", "--force"]);
    let mut child = pair
        .command(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("seed runs");
    let mut seen = Vec::new();
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut read = |seen: &mut Vec<u8>| reader.read_until(b'\n', seen).expect("a line");
    let mut from = 0;
    // A line is there as soon as it happens, not at the end.
    wait_for("progress of the Backup", Duration::from_secs(60), || {
        from = seen.len();
        assert!(
            read(&mut seen) > 0,
            "ended: {}",
            String::from_utf8_lossy(&seen)
        );
        let v = schema.check(std::str::from_utf8(&seen[from..]).expect("UTF-8"));
        (v["event"] == "stage_progress" && v["stage"] == "Backup").then_some(())
    });
    let pid = child.id().to_string();
    Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .expect("kill");
    while read(&mut seen) > 0 {}
    let mut out = child.wait_with_output().expect("it ends");
    out.stdout = seen;
    let all = lines(schema, &pair.ended(out));
    drop(lock);
    assert_eq!(of(&all, "replication_stopped").len(), 1);
    assert_eq!(stages(&all, "stage_failed"), ["Backup Target"]);
    let abort = of(&all, "abort")[0];
    assert_eq!(
        (&abort["stage"], &abort["reason"]),
        (&json!("Backup"), &json!("interrupted"))
    );
    assert!(!of(&all, "agent_cleared").is_empty());
    let result = all.last().expect("result");
    assert_eq!(
        (
            &result["status"],
            &result["exit_code"],
            &result["target_state"]
        ),
        (&json!("interrupted"), &json!(130), &json!("unchanged"))
    );
    assert_eq!(pair.target_db.replica_status("Slave_SQL_Running"), "Yes");
}

/// What is wrong before anything is asked of anybody is a result too.
#[test]
fn bad_arguments_and_files() {
    let schema = Schema::load();
    let run = |words: &[&str]| {
        let out = Command::new(binary()).arg("seed").args(words).output();
        lines(&schema, &out.expect("runs"))
    };
    for words in [
        &["--json"][..],
        &["--nonsense", "--json"],
        &[
            "--source", "a", "--target", "b", "--poll", "never", "--json",
        ],
    ] {
        let all = run(words);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(
            (&all[0]["status"], &all[0]["exit_code"]),
            (&json!("wrong_usage"), &json!(2))
        );
        assert!(
            all[0]["error"].is_string() && all[0]["seed_id"].is_null(),
            "{all:?}"
        );
    }
    let file = "/no/such/password-file";
    let all = run(&[
        "--json",
        "--source",
        "a",
        "--target",
        "b",
        "--mysql-user",
        "u",
        "--mysql-password-file",
        file,
    ]);
    assert_eq!(
        (&all[0]["status"], &all[0]["exit_code"]),
        (&json!("failed"), &json!(1))
    );
    assert!(
        all[0]["error"].as_str().expect("checked").contains(file),
        "{all:?}"
    );
    // Agents that never come: the wait is told, and then the failure.
    let me = std::env::temp_dir().join(format!("oa-json-{}", std::process::id()));
    std::fs::write(&me, "pw").expect("password file");
    let port = crate::support::free_port("127.0.0.1");
    let all = run(&[
        "--json",
        "--source",
        "127.0.0.1:1",
        "--target",
        "127.0.0.1:2",
        "--mysql-user",
        "u",
        "--mysql-password-file",
        me.to_str().expect("UTF-8"),
        "--agent-wait",
        "300ms",
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    std::fs::remove_file(&me).expect("removed");
    let last = all.last().expect("result");
    assert_eq!(of(&all, "agents_awaited")[0]["limit_seconds"], 0.3);
    assert_eq!(
        (&last["status"], &last["exit_code"]),
        (&json!("failed"), &json!(1))
    );
    assert!(
        last["error"]
            .as_str()
            .expect("checked")
            .contains("did not register"),
        "{last}"
    );
}
