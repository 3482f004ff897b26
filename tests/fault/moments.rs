//! Either agent ends, by SIGKILL or by SIGTERM, at eight moments of a seed, and starts again, under the server's own state machine
//! with its retries (agent-api-v2 3.3). Each run ends truthful, and a clean seed follows. Prints what was observed as a table.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::orchestrator::{Machine, Stage, Status};
use crate::support::pair::{Pair, state_of};
use crate::support::wait_for;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Preparing,
    Prepared,
    DumpWaitsForALock,
    DumpFlows,
    Dumped,
    LoadWaitsForALock,
    Loaded,
    CleaningUp,
}
use Moment::*;

const ALL: [Moment; 8] = [
    Preparing,
    Prepared,
    DumpWaitsForALock,
    DumpFlows,
    Dumped,
    LoadWaitsForALock,
    Loaded,
    CleaningUp,
];
const STAGES: [&str; 4] = ["Prepare", "Backup", "Restore", "Cleanup"];

/// Brings a seed to this moment; what is returned holds it there.
fn reach(pair: &Pair, fakes: &Fakes, machine: &mut Machine, moment: Moment) -> Option<Conn> {
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        wait_for(what, Duration::from_secs(30), || done().then_some(()));
    };
    match moment {
        Preparing => machine.tick(pair),
        Prepared => machine.until(pair, Stage::Backup),
        DumpWaitsForALock => {
            machine.until(pair, Stage::Backup);
            let mut hold = pair.source_db.root();
            hold.query_drop("LOCK TABLES shop.held WRITE")
                .expect("lock");
            machine.tick(pair);
            wait("the dump waits in the source", &|| {
                let all = pair.source_db.connections_of("agent");
                all.iter()
                    .any(|c| c.contains("`held`") || c.contains("FLUSH TABLES"))
            });
            return Some(hold);
        }
        DumpFlows => {
            machine.until(pair, Stage::Backup);
            let held = fakes.dir.join("held");
            std::fs::write(&held, "").expect("a file");
            let rest = format!("while [ -e '{}' ]; do sleep 0.1; done; cat", held.display());
            let script = format!("\"$REAL\" \"$@\" | {{ head -c 100000; {rest}; }}");
            fakes.put("mariadb-dump", &script);
            machine.tick(pair);
            wait("bytes arrive", &|| {
                std::fs::metadata(pair.dump_file()).is_ok_and(|m| m.len() > 50_000)
            });
            fakes.remove("mariadb-dump");
        }
        Dumped => machine.until(pair, Stage::Restore),
        LoadWaitsForALock => {
            machine.until(pair, Stage::Restore);
            let hold = pair.hold_table();
            machine.tick(pair);
            pair.wait_for_held_load();
            return Some(hold);
        }
        Loaded => machine.until(pair, Stage::Cleanup),
        CleaningUp => {
            machine.until(pair, Stage::Cleanup);
            machine.tick(pair);
        }
    }
    None
}

/// Status of each stage that the agent knows of this seed, and the text of the one that is an error.
fn states(agent: &Agent, id: i64) -> (Vec<(&'static str, String)>, String) {
    let mut error = String::new();
    let mut all = Vec::new();
    for stage in STAGES {
        let Ok((200, _)) = agent.try_call(&format!("/api/seed-stage-state/{id}/{stage}")) else {
            continue;
        };
        let (status, text) = state_of(agent, id, stage);
        if status == "Error" {
            error = text;
        }
        all.push((stage, status));
    }
    (all, error)
}

fn run(signal: &str) {
    let fakes = Fakes::new();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let mut pair = Pair::start_with("", "", &changes);
    let mut id = 0;
    let mut table = vec![
        "| moment | signal | agent | that agent afterwards | the seed | retries | s |".to_string(),
        "|---|---|---|---|---|---|---|".to_string(),
    ];
    for moment in ALL {
        for victim in ["target", "source"] {
            id += 1;
            // What was there before, for the promise that nothing is touched before Restore.
            for statement in [
                "DROP TABLE IF EXISTS shop.held",
                "CREATE TABLE shop.held (old_column INT)",
            ] {
                pair.target_db.sql(statement);
            }
            let begin = Instant::now();
            let mut machine = Machine::new(id);
            let hold = reach(&pair, &fakes, &mut machine, moment);
            let before = states(
                if victim == "target" {
                    &pair.target
                } else {
                    &pair.source
                },
                id,
            )
            .0;

            let agent = if victim == "target" {
                &mut pair.target
            } else {
                &mut pair.source
            };
            if signal == "KILL" {
                agent.kill();
            } else {
                let (took, code) = agent.terminate();
                assert!(
                    took < Duration::from_secs(10) && code == Some(0),
                    "{moment:?}: {took:?} {code:?}"
                );
            }
            agent.launch();
            agent.wait_ready();

            let agent = if victim == "target" {
                &pair.target
            } else {
                &pair.source
            };
            let (after, error) = states(agent, id);
            for (stage, status) in &after {
                assert_ne!(status, "Running", "P5: {moment:?} {victim} {stage}");
                let was = before
                    .iter()
                    .find(|(s, _)| s == stage)
                    .map(|(_, s)| s.as_str());
                let may_have_ended =
                    was == Some("Running") && matches!(moment, Preparing | CleaningUp);
                assert!(
                    was == Some(status) || status == "Error" || may_have_ended,
                    "{moment:?} {victim} {stage}: {was:?}, then {status}"
                );
            }
            assert_eq!(
                after.len(),
                before.len(),
                "nothing is forgotten: {before:?} {after:?}"
            );
            let works_here = victim == "target"
                && matches!(moment, DumpWaitsForALock | DumpFlows | LoadWaitsForALock);
            assert_eq!(
                !error.is_empty(),
                works_here || !error.is_empty() && matches!(moment, Preparing | CleaningUp)
            );
            assert_eq!(
                error.contains("partial"),
                moment == LoadWaitsForALock && victim == "target",
                "{error}"
            );
            if works_here {
                assert_eq!(pair.tools(), Vec::<String>::new(), "no orphan works on");
            }
            if !matches!(moment, LoadWaitsForALock | Loaded | CleaningUp) {
                pair.assert_untouched();
            }
            assert_eq!(pair.target_db.value("SELECT v FROM precious.t"), "mine");
            drop(hold);
            if moment == DumpFlows {
                std::fs::remove_file(fakes.dir.join("held")).expect("it was there");
            }

            machine.finish(&pair);
            assert_eq!(
                machine.status,
                Status::Completed,
                "{moment:?} {victim}: {:?}",
                machine.errors
            );
            assert!(works_here || machine.retried <= 1, "{:?}", machine.errors);
            pair.assert_seeded();
            let of_agent: Vec<String> = after
                .iter()
                .map(|(stage, status)| format!("{stage} {status}"))
                .collect();
            let error: String = error.chars().take(70).collect();
            table.push(format!(
                "| {moment:?} | {signal} | {victim} | {}{} | {:?} | {} | {:.1} |",
                of_agent.join(", "),
                if error.is_empty() {
                    String::new()
                } else {
                    format!(": {error}")
                },
                machine.status,
                machine.retried,
                begin.elapsed().as_secs_f32()
            ));

            id += 1;
            let mut clean = Machine::new(id);
            clean.finish(&pair);
            assert_eq!(
                (clean.status, clean.retried),
                (Status::Completed, 0),
                "{:?}",
                clean.errors
            );
            pair.assert_seeded();
            pair.assert_nothing_left();
        }
    }
    println!("{}", table.join("\n"));
}

#[test]
fn killed_at_eight_moments() {
    run("KILL");
}

#[test]
fn terminated_at_eight_moments() {
    run("TERM");
}
