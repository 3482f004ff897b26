//! Abort in the middle of a stage: answered at once, nothing left within 10 s, and the next seed works.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::wait_for;
use std::time::{Duration, Instant};

/// 200 `killed` within a second.
fn abort(pair: &Pair, id: i64, stage: &str) {
    let begin = Instant::now();
    let answer = pair
        .target
        .call(&format!("/api/abort-seed-stage/{id}/{stage}"));
    assert_eq!(answer, (200, "killed".to_string()), "8.5");
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn of_a_dump_that_waits_for_a_lock_in_the_source() {
    let pair = Pair::start();
    let hold = pair.held_dump(1);
    abort(&pair, 1, "Backup");
    let (status, text) = pair.state(1, "Backup");
    assert_eq!(status, "Error");
    assert!(
        text.contains("abort") && !text.contains("partial"),
        "{text}"
    );
    // The lock is still held: the server itself would keep the dump's thread until it is freed.
    pair.assert_nothing_left();
    abort(&pair, 1, "Backup");
    abort(&pair, 1, "Prepare");
    let (status, text) = pair.state(1, "Backup");
    assert!(
        status == "Error" && text.contains("abort"),
        "stays as it is: {text}"
    );
    pair.assert_unchanged();
    drop(hold);
    pair.must_seed(2);
    assert_eq!(
        pair.state(1, "Backup").0,
        "Error",
        "the old seed is still known"
    );
}

#[test]
fn of_a_dump_whose_bytes_flow() {
    let fakes = Fakes::new();
    // The rest of the dump waits behind a pipe with several processes.
    fakes.put(
        "mariadb-dump",
        "\"$REAL\" \"$@\" | { head -c 100000; sleep 600; cat; }",
    );
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::start_with("", "", &changes);
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    wait_for("bytes arrive", Duration::from_secs(20), || {
        std::fs::metadata(pair.dump_file())
            .ok()
            .filter(|m| m.len() > 50_000)
            .map(drop)
    });
    fakes.remove("mariadb-dump");
    abort(&pair, 1, "Backup");
    // The next seed may be called for at once; it waits for the end of the old work by itself.
    pair.must_seed(2);
    pair.assert_nothing_left();
}

#[test]
fn of_a_load_that_waits_for_a_lock_in_the_target() {
    let pair = Pair::start();
    let before = pair.target_db.set_hostile_globals();
    let hold = pair.held_load(1);
    assert_eq!(
        pair.target_db.value("SELECT @@event_scheduler"),
        "OFF",
        "no event runs during the load"
    );
    abort(&pair, 1, "Restore");
    let (status, text) = pair.state(1, "Restore");
    assert_eq!(status, "Error");
    assert!(
        text.contains("partial") && text.contains("new seed"),
        "{text}"
    );
    pair.assert_nothing_left();
    wait_for(
        "event_scheduler is put back",
        Duration::from_secs(10),
        || (pair.target_db.value("SELECT @@event_scheduler") == "ON").then_some(()),
    );
    pair.target_db.assert_globals(&before);
    assert_eq!(
        pair.enabled_events(),
        0,
        "the source's events are here and must not run"
    );
    abort(&pair, 1, "Restore");
    let (status, text) = pair.state(1, "Restore");
    assert!(status == "Error" && text.contains("partial"), "{text}");
    // Half a load must not become somebody's source.
    let text = pair.target.error("/api/prepare/2/Mysqldump/Source");
    assert!(text.contains("cannot be a source"), "{text}");
    drop(hold);
    pair.must_seed(2);
}

/// A controller that does not wait between abort and the next prepare: what the load had changed is owed by the new seed.
#[test]
fn of_a_load_and_a_new_prepare_in_the_same_moment() {
    let pair = Pair::start_with("", "read_only=1", &Changes::default());
    let hold = pair.held_load(1);
    assert_eq!(
        pair.target_db.value("SELECT @@read_only"),
        "0",
        "the load may write"
    );
    abort(&pair, 1, "Restore");
    let seed = pair.seed(2);
    Player::start(&pair.target, "/api/prepare/2/Mysqldump/Target");
    seed.must_complete(&pair.target, "Prepare");
    wait_for(
        "settings are put back though another seed has begun",
        Duration::from_secs(20),
        || {
            (pair
                .target_db
                .value("SELECT CONCAT(@@event_scheduler, ' ', @@read_only)")
                == "ON ON")
                .then_some(())
        },
    );
    assert_eq!(
        pair.enabled_events(),
        0,
        "events of the aborted load do not run"
    );
    Player::start(&pair.source, "/api/prepare/2/Mysqldump/Source");
    seed.must_complete(&pair.source, "Prepare");
    // Still partial, whoever asks: an error of the new seed says so too.
    pair.target.call("/api/abort-seed-stage/2/Prepare");
    Player::start(&pair.target, "/api/prepare/3/Mysqldump/Target");
    pair.seed(3).must_complete(&pair.target, "Prepare");
    Player::start(&pair.target, "/api/backup/3/Mysqldump/127.0.0.1/1");
    let text = pair.must_fail(3, "Backup");
    assert!(text.contains("partial"), "{text}");
    drop(hold);
    pair.must_seed(4);
    assert_eq!(pair.target_db.value("SELECT @@read_only"), "1");
}

#[test]
fn of_nothing_is_a_success_for_a_known_seed_only() {
    let pair = Pair::start();
    assert!(
        pair.target
            .error("/api/abort-seed-stage/77/Backup")
            .contains("SeedID not found")
    );
    pair.must_seed(1);
    for stage in ["Prepare", "Backup", "Restore", "Cleanup"] {
        abort(&pair, 1, stage);
        let (status, text) = pair.state(1, stage);
        assert_eq!(status, "Completed", "{stage}: {text}");
    }
    let seed = pair.seed(2);
    seed.prepare();
    abort(&pair, 2, "Prepare"); // it waits; its place is free from now on
    assert_eq!(pair.state(2, "Prepare").0, "Completed");
    Player::start(&pair.target, "/api/prepare/3/Mysqldump/Target");
    pair.seed(3).must_complete(&pair.target, "Prepare");
    Player::start(&pair.target, "/api/backup/3/Mysqldump/127.0.0.1/1");
    assert!(!pair.must_fail(3, "Backup").contains("partial"));
}

/// A source that accepts and never answers: neither the abort nor the next seed waits for it.
#[test]
fn of_a_dump_from_a_silent_source() {
    let pair = Pair::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = silent.local_addr().expect("address").port();
    pair.seed(1).prepare();
    Player::start(
        &pair.target,
        &format!("/api/backup/1/Mysqldump/127.0.0.1/{port}"),
    );
    let (mut peer, _) = silent.accept().expect("the agent connects");
    abort(&pair, 1, "Backup");
    let begin = Instant::now();
    pair.seed(2).prepare();
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "the next Prepare waited {:?}",
        begin.elapsed()
    );
    // The agent has hung up, with no more than a farewell.
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut peer, &mut rest).expect("closed");
    assert!(rest.len() < 10, "{rest:?}");
    let seed = pair.seed(2);
    seed.backup();
    seed.restore();
    seed.cleanup();
    pair.assert_seeded();
}
