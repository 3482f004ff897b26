//! What each end of a seed says of an end that the other one has caused, and how soon.

use crate::support::agent::Changes;
use crate::support::free_port;
use crate::support::pair::{Pair, state_of};
use crate::support::player::Player;
use crate::support::wait_for;
use std::process::Command;
use std::time::{Duration, Instant};

/// Both agents with Xtrabackup, the source slow enough to be caught in its Backup.
fn slow_pair() -> Pair {
    let changes = Changes {
        lines: vec![
            ("common", format!("seed-port = {}", free_port("127.0.0.2"))),
            ("common", "seed-rate-limit = 2000000".into()),
            ("common", "seed-idle-timeout = \"20s\"".into()),
            ("xtrabackup", "enabled = true".into()),
        ],
        ..Changes::default()
    };
    Pair::with("", "", &changes, &changes)
}

fn by_xtrabackup(pair: &Pair, id: i64) -> Player<'_> {
    Player {
        method: "Xtrabackup",
        ..pair.seed(id)
    }
}

/// A seed whose bytes flow.
fn in_backup(pair: &Pair, id: i64) {
    let seed = by_xtrabackup(pair, id);
    seed.prepare();
    seed.start_backup();
    wait_for("bytes flow", Duration::from_secs(30), || {
        let state = pair
            .target
            .json(&format!("/api/seed-stage-state/{id}/Backup"));
        assert_eq!(state["Status"], "Running", "{state}");
        (state["Progress"]["Bytes"].as_u64() > Some(1_000_000)).then_some(())
    });
}

fn pid_of_kill(pair: &Pair, signal: &str, source: bool) {
    let agent = if source { &pair.source } else { &pair.target };
    let sent = Command::new("kill")
        .args([signal, &agent.pid().to_string()])
        .status();
    assert!(sent.expect("kill").success());
}

#[test]
fn who_ends_a_copy_is_named_on_the_other_side_within_a_second() {
    type Act = fn(&Pair, i64);
    // What is done, whether the target is the one that must say it, and what.
    let table: [(&str, Act, bool, &str); 5] = [
        (
            "abort on the source",
            |p, id| drop(p.source.call(&format!("/api/abort-seed-stage/{id}/Backup"))),
            true,
            "aborted on the source: aborted by request",
        ),
        (
            "abort on the target",
            |p, id| drop(p.target.call(&format!("/api/abort-seed-stage/{id}/Backup"))),
            false,
            "aborted on the target: aborted by request",
        ),
        (
            "a new seed on the target",
            |p, id| Player::start(&p.target, &format!("/api/prepare/{id}/Xtrabackup/Target")),
            false,
            "aborted on the target: a new Prepare of the same seed",
        ),
        (
            "the source's agent is stopped",
            |p, _| pid_of_kill(p, "-TERM", true),
            true,
            "aborted on the source: the agent was stopped",
        ),
        (
            "the source's agent is killed",
            |p, _| pid_of_kill(p, "-KILL", true),
            true,
            "the source's agent or host has ended, or the network has cut the connection",
        ),
    ];
    let mut pair = slow_pair();
    for (n, (row, act, on_target, wanted)) in table.into_iter().enumerate() {
        let id = n as i64 + 1;
        in_backup(&pair, id);
        act(&pair, id);
        let begin = Instant::now();
        let agent = if on_target {
            &pair.target
        } else {
            &pair.source
        };
        let details = wait_for(row, Duration::from_secs(10), || {
            let (status, details) = state_of(agent, id, "Backup");
            (status == "Error").then_some(details)
        });
        let took = begin.elapsed();
        assert!(details.contains(wanted), "{row}: {details}");
        let active = agent.json("/api/active-seed");
        assert_eq!(active["SeedStatus"], "Error", "{row}: {active}");
        pair.target
            .call(&format!("/api/abort-seed-stage/{id}/Backup"));
        // The other end's own work has to end first: a second, and what a busy host takes.
        assert!(took < Duration::from_millis(1500), "{row}: {took:?}");
        if row.starts_with("the source's agent") {
            wait_for("the agent has ended", Duration::from_secs(20), || {
                crate::support::processes_with(
                    &pair.source.dir.join("agent.conf").display().to_string(),
                )
                .is_empty()
                .then_some(())
            });
            pair.source.kill(); // reaps it
            pair.source.launch();
            pair.source.wait_ready();
        }
    }
    pair.assert_unchanged();
}

/// A method that is refused has not made the data what they are: an earlier one has.
#[test]
fn the_state_of_the_data_is_that_of_the_seed_that_left_it() {
    let seed_port = free_port("127.0.0.2");
    let changes = Changes {
        lines: vec![
            ("common", format!("seed-port = {seed_port}")),
            ("xtrabackup", "enabled = true".into()),
        ],
        ..Changes::default()
    };
    let pair = Pair::with("", "", &changes, &changes);
    drop(pair.held_load(1));
    pair.target.call("/api/abort-seed-stage/1/Restore");
    let (_, text) = pair.state(1, "Restore");
    let partial = "The data in MySQL are partial: do not use them; run a new seed";
    assert!(text.ends_with(partial), "{text}");

    let taken = std::net::TcpListener::bind(("127.0.0.2", seed_port)).expect("the seed port");
    Player::start(&pair.target, "/api/prepare/2/Xtrabackup/Target");
    let state = by_xtrabackup(&pair, 2).poll(&pair.target, "Prepare");
    let text = state["Details"].as_str().expect("Details");
    assert!(
        text.contains(
            "As before this seed, the data in MySQL are partial since seed 1 by Mysqldump was interrupted: do not use them; correct the \
             cause of this error, then run a new seed"
        ),
        "{text}"
    );
    assert_eq!(state["TargetData"], "Partial");
    assert_eq!(
        state["IncompleteSince"],
        serde_json::json!({"SeedID": 1, "Method": "Mysqldump"})
    );
    let text = pair.target.error("/api/prepare/3/Mysqldump/Source");
    assert!(
        text.contains(
            "cannot be a source: the data in MySQL are partial since seed 1 by Mysqldump"
        ),
        "{text}"
    );
    drop(taken);
    let seed = by_xtrabackup(&pair, 4);
    seed.prepare();
    seed.backup();
    seed.restore();
    seed.cleanup();
    pair.assert_seeded();
    let state = pair.target.json("/api/seed-stage-state/4/Restore");
    assert_eq!(
        (&state["TargetData"], &state["IncompleteSince"]),
        (&"Complete".into(), &serde_json::Value::Null)
    );
}
