//! Either agent ends, by SIGKILL or by SIGTERM, at eight moments of a seed, and starts again, under the server's own state machine
//! with its retries. Each run ends truthful, and clean seeds follow. Prints what was observed as a table.

use crate::support::agent::{Agent, Changes};
use crate::support::binary;
use crate::support::fake::Fakes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::orchestrator::{Machine, Stage, Status};
use crate::support::pair::{Pair, state_of};
use crate::support::player::Player;
use crate::support::server::Kind;
use crate::support::{clean_seed_now, wait_for};
use mysql::prelude::Queryable;
use serde_json::Value;
use std::any::Any;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Each of a stage at work is held still while the agent ends. In the middle of Cleanup: [`super::killed`] and [`super::stopped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    PreparingTarget,
    PreparingSource,
    DumpWaitsForALock,
    DumpFlows,
    Dumped,
    LoadWaitsForALock,
    Loaded,
    CleanedUp,
}
use Moment::*;

const ALL: [Moment; 8] = [
    PreparingTarget,
    PreparingSource,
    DumpWaitsForALock,
    DumpFlows,
    Dumped,
    LoadWaitsForALock,
    Loaded,
    CleanedUp,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Target,
    Source,
}
use Victim::*;

const BOTH: [Victim; 2] = [Target, Source];

impl Moment {
    /// What the agent must say of its stages when it is back.
    fn expected(self, victim: Victim) -> &'static str {
        match (victim, self) {
            (Target, PreparingTarget) | (Source, PreparingSource) => "Prepare Error",
            (Source, CleanedUp) => "Prepare Completed, Cleanup Completed",
            (Source, _) | (Target, PreparingSource) => "Prepare Completed",
            (Target, DumpWaitsForALock | DumpFlows) => "Prepare Completed, Backup Error",
            (Target, Dumped) => "Prepare Completed, Backup Completed",
            (Target, LoadWaitsForALock) => "Prepare Completed, Backup Completed, Restore Error",
            (Target, Loaded) => "Prepare Completed, Backup Completed, Restore Completed",
            (Target, CleanedUp) => {
                "Prepare Completed, Backup Completed, Restore Completed, Cleanup Completed"
            }
        }
    }

    /// The stage that is held at work, and by whom.
    fn at_work(self) -> Option<(Victim, &'static str)> {
        match self {
            PreparingTarget => Some((Target, "Prepare")),
            PreparingSource => Some((Source, "Prepare")),
            DumpWaitsForALock | DumpFlows => Some((Target, "Backup")),
            LoadWaitsForALock => Some((Target, "Restore")),
            Dumped | Loaded | CleanedUp => None,
        }
    }
}

/// The rest of a dump waits as long as this file is there.
struct Dam(PathBuf);

impl Drop for Dam {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("the file is there");
    }
}

/// Brings a seed to this moment; what is returned holds it there.
fn reach<K: Kind>(
    pair: &Pair<K>,
    fakes: &Fakes,
    machine: &mut Machine,
    moment: Moment,
) -> Option<Box<dyn Any>> {
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        wait_for(what, Duration::from_secs(30), || done().then_some(()));
    };
    let id = machine.id;
    match moment {
        PreparingTarget | PreparingSource => {
            let (held, other, db) = match moment {
                PreparingTarget => (&pair.target, &pair.source, &pair.target_db),
                _ => (&pair.source, &pair.target, &pair.source_db),
            };
            let frozen = db.freeze();
            machine.tick(pair);
            wait("the other one is prepared", &|| {
                state_of(other, id, "Prepare").0 == "Completed"
            });
            assert_eq!(state_of(held, id, "Prepare").0, "Running");
            Some(Box::new(frozen))
        }
        DumpWaitsForALock => {
            machine.until(pair, Stage::Backup);
            let mut hold = pair.source_db.root();
            hold.query_drop("LOCK TABLES shop.held WRITE")
                .expect("lock");
            machine.tick(pair);
            pair.wait_for_held_dump();
            Some(Box::new(hold))
        }
        DumpFlows => {
            machine.until(pair, Stage::Backup);
            let dam = Dam(fakes.dir.join("held"));
            std::fs::write(&dam.0, "").expect("a file");
            let rest = format!(
                "while [ -e '{}' ]; do sleep 0.1; done; cat",
                dam.0.display()
            );
            let script = format!("\"$REAL\" \"$@\" | {{ head -c 100000; {rest}; }}");
            fakes.put(K::DUMP, &script);
            machine.tick(pair);
            wait("bytes arrive", &|| {
                std::fs::metadata(pair.dump_file()).is_ok_and(|m| m.len() > 50_000)
            });
            fakes.remove(K::DUMP);
            Some(Box::new(dam))
        }
        Dumped => {
            machine.until(pair, Stage::Restore);
            None
        }
        LoadWaitsForALock => {
            machine.until(pair, Stage::Restore);
            let hold = pair.hold_table();
            machine.tick(pair);
            pair.wait_for_held_load();
            Some(Box::new(hold))
        }
        Loaded => {
            machine.until(pair, Stage::Cleanup);
            None
        }
        CleanedUp => {
            machine.until(pair, Stage::Cleanup);
            machine.tick(pair);
            for agent in [&pair.target, &pair.source] {
                wait("Cleanup is over", &|| {
                    state_of(agent, id, "Cleanup").0 == "Completed"
                });
            }
            None
        }
    }
}

/// Status of each stage that the agent knows of this seed, and the text of the one that is an error.
fn states(agent: &Agent, id: i64) -> (String, String) {
    let (mut all, mut error) = (Vec::new(), String::new());
    for stage in ["Prepare", "Backup", "Restore", "Cleanup"] {
        let path = format!("/api/seed-stage-state/{id}/{stage}");
        if agent.try_call(&path).expect("it answers").0 != 200 {
            continue;
        }
        let (status, text) = state_of(agent, id, stage);
        if status == "Error" {
            error = text;
        }
        all.push(format!("{stage} {status}"));
    }
    (all.join(", "), error)
}

/// What `status` says of the seed.
fn status(agent: &Agent) -> Value {
    let config = format!("--config={}", agent.dir.join("agent.conf").display());
    let mut cmd = Command::new(binary());
    let out = cmd.args(["status", &config, "--json"]).output();
    let report: Value = serde_json::from_slice(&out.expect("status runs").stdout).expect("JSON");
    report["Seed"].clone()
}

/// All ways to ask say the same.
fn assert_truthful(agent: &Agent, id: i64, stages: &str, partial: bool) {
    let last = stages.rsplit(", ").next().expect("one at least");
    let seed = status(agent);
    let (stage, status) = (seed["Stage"].as_str(), seed["Status"].as_str());
    let said = format!("{} {}", stage.expect("Stage"), status.expect("Status"));
    assert_eq!((seed["SeedID"].as_i64(), said.as_str()), (Some(id), last));
    assert_eq!(seed["LoadIncomplete"], partial, "{seed}");
    let active = agent.json("/api/active-seed");
    let wanted = match last {
        "Cleanup Completed" => "Completed",
        _ if last.ends_with(" Error") => "Error",
        _ if active["Side"] == "Source" => "Completed", // it holds nothing between its stages
        _ => "Running",
    };
    assert_eq!(
        (&active["SeedID"], &active["SeedStatus"]),
        (&id.into(), &wanted.into())
    );
    let data = agent.json("/api/get-agent-data");
    assert!(
        data["AvailiableSeedMethods"]["Mysqldump"].is_object(),
        "{data}"
    );
}

/// The coordinates are those of the source at the moment of the copy, in both ways to say it, and the target is there.
fn assert_coordinates<K: Kind>(pair: &Pair<K>, id: i64) {
    let meta = pair.seed(id).metadata();
    let text = |key: &str| meta[key].as_str().unwrap_or_default().to_string();
    let (file, place) = (text("LogFile"), &meta["LogPos"]);
    if meta.get("GtidSlavePos").is_some() {
        let of_place = format!("SELECT BINLOG_GTID_POS('{file}', {place})");
        assert_eq!(pair.source_db.value(&of_place), text("GtidSlavePos"));
        let there = pair.target_db.value("SELECT @@gtid_slave_pos");
        assert_eq!(there, text("GtidSlavePos"));
    } else {
        let there = pair.target_db.value("SELECT @@gtid_executed");
        assert_eq!(there, text("GtidExecuted").replace(',', ",\n"));
        // The server refuses a place that is not between two events.
        let at = format!("SHOW BINLOG EVENTS IN '{file}' FROM {place} LIMIT 1");
        pair.source_db.sql(&at);
    }
}

/// One run; its line of the table.
fn run<K: Kind>(
    pair: &mut Pair<K>,
    fakes: &Fakes,
    id: i64,
    (moment, signal, victim): (Moment, &str, Victim),
) -> String {
    // What was there before, for the promise that nothing is touched before Restore.
    for statement in [
        "DROP TABLE IF EXISTS shop.held",
        "CREATE TABLE shop.held (old_column INT)",
    ] {
        pair.target_db.sql(statement);
    }
    let begin = Instant::now();
    let mut machine = Machine::new(id);
    let hold = reach(pair, fakes, &mut machine, moment);
    let what = format!("{moment:?} {signal} {victim:?}");

    let agent = match victim {
        Target => &mut pair.target,
        Source => &mut pair.source,
    };
    if signal == "KILL" {
        agent.kill();
        machine.tick(pair); // systemd waits ten seconds, so the server may well find nobody there
    } else {
        let (took, code) = agent.terminate();
        assert!(
            took < Duration::from_secs(10) && code == Some(0),
            "{what}: {took:?} {code:?}"
        );
    }
    let agent = match victim {
        Target => &mut pair.target,
        Source => &mut pair.source,
    };
    agent.launch();
    agent.wait_ready();

    let pair = &*pair;
    let (agent, survivor) = match victim {
        Target => (&pair.target, &pair.source),
        Source => (&pair.source, &pair.target),
    };
    let (after, error) = states(agent, id);
    assert_eq!(after, moment.expected(victim), "{what}: {error}");
    let works_here = moment.at_work().is_some_and(|(who, _)| who == victim);
    let partial = works_here && moment == LoadWaitsForALock;
    assert_eq!(!error.is_empty(), works_here, "{what}");
    assert_eq!(error.contains("partial"), partial, "{what}: {error}");
    let cause = if signal == "KILL" {
        "interrupted"
    } else {
        "stopped"
    };
    assert!(error.is_empty() || error.contains(cause), "{what}: {error}");
    if let Some((_, stage)) = moment.at_work().filter(|_| !works_here) {
        let state = state_of(survivor, id, stage);
        assert_eq!(
            state.0, "Running",
            "{what}: the other one works on: {}",
            state.1
        );
    }
    let frozen = matches!(moment, PreparingTarget | PreparingSource);
    if works_here {
        assert_eq!(
            pair.tools(),
            Vec::<String>::new(),
            "{what}: no orphan works on"
        );
        if !frozen {
            pair.assert_nothing_left(); // the lock is still held
        }
    }
    if partial {
        wait_for("settings are put back", Duration::from_secs(20), || {
            let on = pair.target_db.value("SELECT @@event_scheduler") == "ON";
            (on && pair.enabled_events() == 0).then_some(())
        });
    }
    let restoring = moment == Dumped && machine.status == Status::Running; // by the tick in between
    drop(hold);
    assert_truthful(agent, id, &after, partial);
    if !matches!(moment, LoadWaitsForALock | Loaded | CleanedUp) && !restoring {
        pair.assert_unchanged();
    }
    assert_eq!(pair.target_db.value("SELECT v FROM precious.t"), "mine");

    machine.finish(pair);
    assert_eq!(
        machine.status,
        Status::Completed,
        "{what}: {:?}",
        machine.errors
    );
    assert!(machine.retried <= 2, "{what}: {:?}", machine.errors);
    let seconds = begin.elapsed().as_secs_f32();
    pair.assert_seeded();
    assert_truthful(&pair.target, id, "Cleanup Completed", false);
    let mut seen = after;
    if !error.is_empty() {
        let short: String = error.chars().take(70).collect();
        seen += &format!(": {short}");
    }
    format!(
        "| {moment:?} | {signal} | {victim:?} | {seen} | {:?} | {} | {seconds:.1} |",
        machine.status, machine.retried
    )
}

/// A clean seed follows each run, or only the last of them, and replication from its coordinates follows the last. Each run has itself
/// ended in a completed seed.
fn all<K: Kind>(runs: &[(Moment, &'static str, Victim)], connect: fn(&Player<'_, K>)) {
    let fakes = Fakes::of::<K>();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let mut pair = Pair::<K>::of("", "", &changes);
    let mut table = vec![
        "| moment | signal | agent | that agent afterwards | the seed | retries | s |".to_string(),
        "|---|---|---|---|---|---|---|".to_string(),
    ];
    let mut id = 0;
    for (n, one) in runs.iter().enumerate() {
        id += 1;
        table.push(run(&mut pair, &fakes, id, *one));
        if !clean_seed_now(n, runs.len()) {
            continue;
        }
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
        assert_coordinates(&pair, id);
        pair.assert_nothing_left();
    }
    connect(&pair.seed(id));
    pair.source_db.sql("DROP EVENT shop.tick"); // which writes into shop.ticks until then
    wait_for("the replica has all", Duration::from_secs(60), || {
        let sum = |db: &crate::support::server::Server<K>| {
            let all = db.checksums();
            all.into_iter()
                .filter(|l| l.starts_with("shop."))
                .collect::<Vec<_>>()
        };
        (sum(&pair.target_db) == sum(&pair.source_db)).then_some(())
    });
    println!("{}", table.join("\n"));
}

fn every(signal: &'static str) -> Vec<(Moment, &'static str, Victim)> {
    let of = |m| BOTH.map(|victim| (m, signal, victim));
    ALL.into_iter().flat_map(of).collect()
}

#[test]
fn killed_at_eight_moments() {
    all::<MariadbKind>(&every("KILL"), |p| p.connect(false));
}

#[test]
fn terminated_at_eight_moments() {
    all::<MariadbKind>(&every("TERM"), |p| p.connect(false));
}

#[test]
fn mysql_at_some_moments() {
    let runs = [
        (PreparingTarget, "KILL", Target),
        (DumpWaitsForALock, "KILL", Source),
        (DumpFlows, "TERM", Target),
        (LoadWaitsForALock, "KILL", Target),
        (LoadWaitsForALock, "TERM", Target),
        (CleanedUp, "KILL", Target),
    ];
    all::<MysqldKind>(&runs, |p| p.connect(false));
}
