use super::*;
use crate::commands::seed::event::{
    Check, End, How, Outcome, StageProgress, Target, Verdict, Verified,
};
use crate::seed::{Method, Side, Stage, Status};
use schema::Schema;
use std::collections::BTreeSet;

#[path = "../../../../tests/it/support/schema.rs"]
mod schema;

/// The event after `event`, so that an event that is added must be added here too.
fn next<'a>(
    event: Option<&Event>,
    outcome: &'a Outcome,
    reasons: &'a [String],
) -> Option<Event<'a>> {
    let (side, stage, text, details) = (Side::Target, Stage::Backup, "text", "details");
    Some(match event {
        None => Event::AgentsAwaited {
            listen: reasons,
            limit_seconds: 1.5,
        },
        Some(Event::AgentsAwaited { .. }) => Event::AgentRegistered {
            side,
            agent: "db1:3002",
            again: false,
        },
        Some(Event::AgentRegistered { .. }) => Event::AgentIgnored { agent: "db1:3002" },
        Some(Event::AgentIgnored { .. }) => Event::Preflight { ok: false, text },
        Some(Event::Preflight { .. }) => Event::Method {
            method: Method::LVM,
            usable: false,
            reasons,
        },
        Some(Event::Method { .. }) => Event::SeedStarted {
            seed_id: 7,
            method: Method::Mysqldump,
            source: "a",
            target: "b",
        },
        Some(Event::SeedStarted { .. }) => Event::StageStarted { stage, side },
        Some(Event::StageStarted { .. }) => Event::StageProgress(StageProgress {
            stage,
            side,
            details,
            bytes: 1,
            total: Some(2),
            rate: Some(0.5),
            elapsed_seconds: 1.0,
            eta_seconds: Some(2.0),
        }),
        Some(Event::StageProgress(_)) => Event::StageCompleted {
            stage,
            side,
            details,
            bytes: 1,
            elapsed_seconds: 1.0,
        },
        Some(Event::StageCompleted { .. }) => Event::StageFailed {
            stage,
            side,
            details,
            elapsed_seconds: 1.0,
        },
        Some(Event::StageFailed { .. }) => Event::ReplicationStopped { side },
        Some(Event::ReplicationStopped { .. }) => Event::Coordinates {
            log_file: "b.1",
            log_pos: 4,
            gtid: None,
        },
        Some(Event::Coordinates { .. }) => Event::ReplicationConnected {
            source_host: "a",
            source_port: 3306,
            how: How::Gtid,
            gtid: Some("0-1-2"),
            log_file: None,
            log_pos: None,
            io_thread: "Yes",
            sql_thread: "Yes",
            lag_seconds: None,
        },
        Some(Event::ReplicationConnected { .. }) => Event::Verification {
            check: Check::OwnTransactions,
            verdict: Verdict::Ok,
            text: "",
        },
        Some(Event::Verification { .. }) => Event::CompareStarted {
            sample: true,
            max_time_seconds: 3600.0,
        },
        Some(Event::CompareStarted { .. }) => Event::ComparePoint {
            round: 1,
            point: "GTID 0-1-2",
            source_locked_seconds: 0.0,
            applier_stopped_seconds: 0.5,
        },
        Some(Event::ComparePoint { .. }) => Event::CompareProgress {
            table: "a.b",
            tables_done: 1,
            tables: 2,
            bytes: 3,
            total: 4,
            elapsed_seconds: 0.5,
        },
        Some(Event::CompareProgress { .. }) => Event::CompareCompleted {
            verdict: Verified::Differs,
            equal: 1,
            differing: reasons,
            not_compared: reasons,
            left_out: reasons,
            reasons,
            text,
            elapsed_seconds: 0.5,
        },
        Some(Event::CompareCompleted { .. }) => Event::Hook { side, text },
        Some(Event::Hook { .. }) => Event::Warning { text },
        Some(Event::Warning { .. }) => Event::Abort {
            stage,
            reason: End::Interrupted,
            text,
        },
        Some(Event::Abort { .. }) => Event::AgentCleared {
            side,
            stage,
            status: Status::Error,
            details,
        },
        Some(Event::AgentCleared { .. }) => Event::Result(outcome),
        // For people only.
        Some(Event::Result(_) | Event::Interrupting) => return None,
    })
}

#[test]
fn every_event_is_documented_and_every_documented_event_exists() {
    let schema = Schema::load();
    let reasons = ["one".to_string(), "other".to_string()];
    let outcome = Outcome {
        method: Some(Method::Mysqldump),
        seed_id: Some(7),
        durations: [(Stage::Backup, 1.25)].into(),
        ..Outcome::early(End::WrongUsage, Some("text".into()))
    };
    let mut seen = BTreeSet::from([String::new()]);
    let mut event = None;
    while let Some(e) = next(event.as_ref(), &outcome, &reasons) {
        let v = schema.check(&line(&e).unwrap());
        seen.insert(v["event"].as_str().unwrap().to_string());
        event = Some(e);
    }
    assert_eq!(seen, schema.0.keys().cloned().collect());
    let v: serde_json::Value = serde_json::from_str(&line(&event.unwrap()).unwrap()).unwrap();
    assert_eq!(v["durations"]["Backup"], 1.25);
}

/// Every word that a field may hold is in the document, and no other.
#[test]
fn words_are_documented() {
    let schema = Schema::load();
    let same = |event: &str, field: &str, words: Vec<serde_json::Value>| {
        let kind = schema.0[event][field].trim_end_matches(" or null");
        let documented: BTreeSet<String> = kind.split(", ").map(str::to_string).collect();
        let own: BTreeSet<String> = words.iter().map(ToString::to_string).collect();
        assert_eq!(documented, own, "{event}.{field}");
    };
    macro_rules! words { ($($v:expr),+ $(,)?) => { vec![$(serde_json::to_value($v).unwrap()),+] } }
    let methods = || Method::ALL.iter().map(|m| words![m].remove(0)).collect();
    same("method", "method", methods());
    same("result", "method", methods());
    let stages = Stage::ALL.iter().map(|s| words![s].remove(0)).collect();
    same("stage_completed", "stage", stages);
    same(
        "replication_connected",
        "how",
        words![How::Gtid, How::Position],
    );
    let checks = words![
        Check::Source,
        Check::OwnTransactions,
        Check::Events,
        Check::ReadOnly
    ];
    same("verification", "check", checks);
    same(
        "verification",
        "verdict",
        words![Verdict::Ok, Verdict::Warning, Verdict::Error],
    );
    same("abort", "reason", words![End::Failed, End::Interrupted]);
    let ends = words![
        End::Completed,
        End::DryRun,
        End::Failed,
        End::Interrupted,
        End::WrongUsage,
        End::Differs,
        End::NotCompared
    ];
    same("result", "status", ends);
    let verdicts = words![Verified::Equal, Verified::Differs, Verified::NotCompared];
    same("compare_completed", "verdict", verdicts.clone());
    same("result", "verified", verdicts);
    let states = words![
        Target::Unchanged,
        Target::ReplicationStopped,
        Target::ReplicationGivenUp,
        Target::Partial,
        Target::Loaded,
        Target::Replicating,
        Target::Unknown,
    ];
    same("result", "target_state", states);
}
