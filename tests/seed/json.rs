//! `seed --json`: every line is as contrib/doc/seed-json.md says, and all that it says is there.

use super::by_command::Pair;
use crate::support::mariadb::MariadbKind;
use crate::support::project;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

/// Types of the fields of each event, as documented.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let text =
        std::fs::read_to_string(project().join("contrib/doc/seed-json.md")).expect("the document");
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line
            .split('|')
            .map(|c| c.trim().trim_matches('`'))
            .collect();
        if cells.len() == 6 {
            let fields = all.entry(cells[1].into()).or_default();
            fields.insert(cells[2].into(), cells[3].into());
        }
    }
    assert!(all.len() >= 9, "the tables were read: {all:?}");
    all
}

fn fits(value: &Value, kind: &str) -> bool {
    kind.trim_end_matches(", optional")
        .split(" or ")
        .any(|k| match k {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "object" => value.is_object(),
            "array of strings" => value
                .as_array()
                .is_some_and(|a| a.iter().all(Value::is_string)),
            other => panic!("type {other} in the document"),
        })
}

/// The lines, each checked against the document.
fn lines(out: &Output) -> Vec<Value> {
    let documented = documented();
    let lines: Vec<Value> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    for line in &lines {
        let event = line["event"].as_str().expect("event");
        let known = documented
            .get(event)
            .unwrap_or_else(|| panic!("{event} is not documented"));
        let time = line["time"].as_str().expect("time");
        assert!(time.len() >= 20 && time.ends_with('Z'), "{time}");
        for (name, value) in line.as_object().expect("an object") {
            if !["time", "event"].contains(&name.as_str()) {
                let kind = known
                    .get(name)
                    .unwrap_or_else(|| panic!("{event}.{name} is not documented"));
                assert!(fits(value, kind), "{event}.{name} is {value}, not {kind}");
            }
        }
        for (name, kind) in known {
            assert!(
                kind.ends_with(", optional") || line.get(name).is_some(),
                "{event}.{name} is missing: {line}"
            );
        }
    }
    let results = lines.iter().filter(|l| l["event"] == "result").count();
    assert_eq!(
        (results, &lines.last().expect("lines")["event"]),
        (1, &Value::from("result"))
    );
    let code = lines.last().expect("lines")["exit_code"].as_i64();
    assert_eq!(code, out.status.code().map(i64::from));
    lines
}

#[test]
fn a_dry_run_a_whole_seed_and_a_refusal() {
    let pair = Pair::<MariadbKind>::start("");
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.t AS SELECT seq, SHA2(seq, 512) FROM mysql.seq_1_to_100000");
    let mut events = BTreeSet::new();

    let dry = lines(&pair.seed(&["--json", "--dry-run"]));
    let methods: Vec<&Value> = dry.iter().filter(|l| l["event"] == "method").collect();
    assert_eq!(methods.len(), 5, "one line for each method");
    for m in methods {
        assert_eq!(
            m["usable"] == true,
            m["reasons"].as_array().expect("reasons").is_empty(),
            "{m}"
        );
        assert!(m["method"] != "Mysqldump" || m["usable"] == true, "{m}");
    }
    assert_eq!(dry.last().expect("lines")["dry_run"], true);
    assert!(!dry.iter().any(|l| l["event"] == "stage"));

    let whole = lines(&pair.seed(&["--json"]));
    let result = whole.last().expect("lines");
    assert_eq!(
        (&result["exit_code"], &result["result"]),
        (&0.into(), &"done".into())
    );
    assert_eq!(
        (&result["method"], &result["error"]),
        (&"Mysqldump".into(), &"".into())
    );
    assert!(
        result["bytes"].as_u64().expect("bytes") > 10_000_000,
        "{result}"
    );
    assert!(
        result["durations_seconds"]["Backup"]
            .as_f64()
            .expect("seconds")
            > 0.0
    );
    for (stage, side) in [
        ("Prepare", "source"),
        ("Prepare", "target"),
        ("Backup", "target"),
        ("Restore", "target"),
        ("Cleanup", "target"),
        ("Cleanup", "source"),
    ] {
        let of = |l: &&Value| l["stage"] == stage && l["side"] == side;
        assert_eq!(
            whole.iter().rfind(of).expect(stage)["status"],
            "Completed",
            "{stage} {side}"
        );
    }
    assert_eq!(pair.target_db.checksums(), pair.source_db.checksums());

    // Now the target is a replica, which needs --force.
    let out = pair.seed(&["--json"]);
    assert_eq!(out.status.code(), Some(1));
    let refused = lines(&out);
    assert!(
        refused
            .iter()
            .any(|l| l["event"] == "preflight" && l["problem"] == true)
    );
    let result = refused.last().expect("lines");
    assert_eq!(result["result"], "failed, target untouched");
    assert!(
        result["error"]
            .as_str()
            .expect("error")
            .contains("preflight"),
        "{result}"
    );

    let wrong = lines(&pair.seed(&["--json", "--no-such-option"]));
    assert_eq!(wrong.last().expect("lines")["exit_code"], 2);

    for line in dry.iter().chain(&whole).chain(&refused).chain(&wrong) {
        events.insert(line["event"].as_str().expect("event").to_string());
    }
    for event in documented().keys().filter(|e| *e != "warning") {
        assert!(events.contains(event), "{event} was never seen");
    }
}
