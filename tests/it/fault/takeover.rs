//! Who gets the host when two seeds want it.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::registry::Registry;
use crate::support::wait_for;
use std::time::{Duration, Instant};

fn orphans_after_two_seconds() -> Changes {
    Changes {
        lines: vec![("common", "seed-orphan-timeout = \"2s\"".into())],
        ..Changes::default()
    }
}

/// The controller of seed `id` asks for its state for `time`.
fn keep_asking(pair: &Pair, id: i64, time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        pair.state(id, "Prepare");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// No call names seed `holder` any more, and seed `id` gets the host. An orchestrator that has forgotten a failed seed goes on to poll
/// the agent, which registers again and again, and to try the new seed: none of that keeps the old one alive.
fn take_from_forgotten(pair: &Pair, registry: &Registry, id: i64, holder: i64) {
    let begin = Instant::now();
    registry.requests.try_iter().for_each(drop);
    let mut attempts = 0;
    loop {
        pair.target.json("/api/get-agent-data");
        pair.target.json("/api/active-seed");
        let (status, text) = pair
            .target
            .call(&format!("/api/prepare/{id}/Mysqldump/Target"));
        if status == 202 {
            break;
        }
        assert!(text.contains(&format!("seed {holder} ")), "{text}");
        attempts += 1;
        assert!(begin.elapsed() < Duration::from_secs(6), "kept alive");
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(1500) && attempts > 3,
        "{took:?} {attempts}"
    );
    let registrations = registry
        .requests
        .try_iter()
        .filter(|r| r.0.contains("register"));
    assert!(registrations.count() > 0, "it did not register");
}

fn refused(pair: &Pair, id: i64, holder: i64) {
    let text = pair
        .target
        .error(&format!("/api/prepare/{id}/Mysqldump/Target"));
    assert!(
        text.contains(&format!("seed {holder} "))
            && text.contains("seed-orphan-timeout = 2s")
            && text.contains(&format!("GET /api/abort-seed-stage/{holder}/")),
        "{text}"
    );
    assert!(
        pair.target
            .error(&format!("/api/seed-stage-state/{id}/Prepare"))
            .contains("not found")
    );
}

#[test]
fn a_seed_at_work_or_asked_for_keeps_its_host() {
    let registry = Registry::start(|_, _| "\"target.test\"".into());
    let mut changes = orphans_after_two_seconds();
    changes.agents_port = registry.port;
    for line in ["poll-interval", "resubmit-agent-interval"] {
        changes.lines.push(("common", format!("{line} = \"1s\"")));
    }
    let pair = Pair::start_with("", "", &changes);
    // Between two stages.
    pair.seed(1).prepare();
    keep_asking(&pair, 1, Duration::from_secs(3));
    refused(&pair, 2, 1);
    // At work, with no byte moving.
    let hold = pair.held_dump(1);
    keep_asking(&pair, 1, Duration::from_secs(3));
    refused(&pair, 2, 1);
    assert_eq!(
        pair.state(1, "Backup").0,
        "Running",
        "the newcomer has not disturbed it"
    );
    take_from_forgotten(&pair, &registry, 2, 1);
    let text = pair.must_fail(1, "Backup");
    assert!(text.contains("seed 2"), "says who: {text}");
    pair.seed(2).must_complete(&pair.target, "Prepare");
    assert!(
        pair.tools().is_empty(),
        "the old dump has ended before the new Prepare did"
    );
    assert!(
        pair.target
            .error("/api/backup/1/Mysqldump/127.0.0.1/1")
            .contains("SeedID not found")
    );
    // Between two stages as well.
    take_from_forgotten(&pair, &registry, 3, 2);
    drop(hold);
    pair.seed(3).must_complete(&pair.target, "Prepare");
    pair.must_seed(3);
    // A seed that is over, or failed, holds nothing.
    pair.seed(4).prepare();
    Player::start(&pair.target, "/api/backup/4/Mysqldump/127.0.0.1/1");
    pair.must_fail(4, "Backup");
    pair.must_seed(5);
    // So does one whose Restore has ended, though its controller has asked a moment ago: it may have failed in ConnectSlave, of
    // which no agent learns. An older seed is refused.
    let seed = pair.seed(7);
    seed.prepare();
    seed.backup();
    seed.restore();
    refused(&pair, 6, 7);
    let begin = Instant::now();
    pair.seed(8).prepare();
    // The call that the refusal names frees the host.
    let text = pair.target.error("/api/prepare/9/Mysqldump/Target");
    let call = text.split("GET ").nth(1).and_then(|t| t.split(' ').next());
    let call = call.unwrap_or_else(|| panic!("no call in {text}"));
    assert_eq!(pair.target.call(call).0, 200);
    pair.seed(9).prepare();
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn bytes_that_flow_are_a_sign_of_life() {
    let fakes = Fakes::new();
    let slow = "\"$REAL\" \"$@\" | { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do head -c 275000; sleep 0.25; done; cat; }";
    fakes.put("mariadb-dump", slow);
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..orphans_after_two_seconds()
    };
    let pair = Pair::start_with("", "", &changes);
    pair.source_db.sql("CREATE TABLE shop.filler ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM shop.seq_1_to_30000");
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    // By the file: a call would count. What Backup looks at before its first byte takes longer on a busy host.
    wait_for("bytes flow", Duration::from_secs(30), || {
        let size = std::fs::metadata(pair.dump_file()).ok()?.len();
        (size > 0).then_some(())
    });
    std::thread::sleep(Duration::from_millis(3000)); // no call
    refused(&pair, 2, 1);
    seed.must_complete(&pair.target, "Backup");
}

#[test]
fn a_source_that_waits_refuses_nobody() {
    let pair = Pair::start();
    Player::start(&pair.source, "/api/prepare/1/Mysqldump/Source");
    pair.seed(1).must_complete(&pair.source, "Prepare");
    Player::start(&pair.source, "/api/prepare/2/Mysqldump/Source");
    pair.seed(2).must_complete(&pair.source, "Prepare");
    // Its own seed is still known; only the last one may go on.
    assert_eq!(
        crate::support::pair::state_of(&pair.source, 1, "Prepare").0,
        "Completed"
    );
    // It may even become a target while it waits.
    Player::start(&pair.source, "/api/prepare/3/Mysqldump/Target");
    pair.seed(3).must_complete(&pair.source, "Prepare");
}
