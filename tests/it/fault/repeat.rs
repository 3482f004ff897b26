//! Calls that a controller repeats, and the memory of seeds across restarts.

use crate::support::pair::Pair;
use crate::support::player::Player;
use serde_json::Value;

fn whole_state(pair: &Pair, id: i64, stage: &str) -> Value {
    pair.target
        .json(&format!("/api/seed-stage-state/{id}/{stage}"))
}

fn already(pair: &Pair, path: &str, stage: &str) {
    assert_eq!(
        pair.target.call(path),
        (202, format!("{stage} stage already started for seed")),
        "{path}"
    );
}

#[test]
fn start_calls_of_a_running_and_of_a_completed_stage() {
    let pair = Pair::start();
    let db = &pair.source_db;
    let backup = format!("/api/backup/1/Mysqldump/{}/{}", db.host, db.port);
    assert!(pair.target.error(&backup).contains("SeedID not found"));

    let hold = pair.held_dump(1);
    already(&pair, &backup, "Backup");
    already(&pair, &backup, "Backup");
    assert_eq!(pair.tools().len(), 1, "one dump only: {:?}", pair.tools());
    assert!(
        pair.target
            .error("/api/restore/1/Mysqldump")
            .contains("backup of seed 1 is not completed")
    );
    assert!(
        pair.target
            .error("/api/cleanup/1/Mysqldump/Target")
            .contains("abort it before cleanup")
    );
    assert!(
        pair.target
            .error("/api/get-metadata/1/Mysqldump")
            .contains("no coordinates yet")
    );
    drop(hold);
    let seed = pair.seed(1);
    let done = seed.must_complete(&pair.target, "Backup");
    already(&pair, &backup, "Backup"); // once after each Prepare
    assert_eq!(
        whole_state(&pair, 1, "Backup"),
        done,
        "answers stay as they are"
    );

    let hold = pair.hold_table();
    seed.start_restore();
    pair.wait_for_held_load();
    already(&pair, "/api/restore/1/Mysqldump", "Restore");
    assert_eq!(pair.tools().len(), 1, "one load only: {:?}", pair.tools());
    drop(hold);
    let done = seed.must_complete(&pair.target, "Restore");
    pair.target_db.unlogged("INSERT INTO shop.held VALUES (77)");
    already(&pair, "/api/restore/1/Mysqldump", "Restore");
    assert_eq!(
        whole_state(&pair, 1, "Restore"),
        done,
        "not run again, stays Completed"
    );
    assert_eq!(
        pair.target_db
            .value("SELECT COUNT(*) FROM shop.held WHERE id = 77"),
        "1"
    );
    pair.target_db
        .unlogged("DELETE FROM shop.held WHERE id = 77");

    let first = seed.metadata();
    assert_eq!(seed.metadata(), first, "8.16");
    seed.cleanup();
    for _ in 0..2 {
        let (status, _) = pair.target.call("/api/cleanup/1/Mysqldump/Target");
        assert_eq!(status, 202);
        seed.must_complete(&pair.target, "Cleanup");
    }
    assert!(!pair.dump_file().exists());
    pair.assert_seeded();
}

#[test]
fn prepare_again_stops_the_old_attempt_and_starts_afresh() {
    let pair = Pair::start();
    // Completed: again.
    pair.seed(1).prepare();
    pair.seed(1).prepare();
    // During Backup.
    let hold = pair.held_dump(1);
    pair.seed(1).prepare();
    assert!(
        pair.target
            .error("/api/seed-stage-state/1/Backup")
            .contains("SeedID 1 on stage Backup not found")
    );
    pair.assert_nothing_left();
    // During Backup again, and the start-call of Prepare twice.
    drop(hold);
    let hold = pair.held_dump(1);
    Player::start(&pair.target, "/api/prepare/1/Mysqldump/Target");
    let (status, _) = pair.target.call("/api/prepare/1/Mysqldump/Target");
    assert_eq!(status, 202);
    pair.seed(1).must_complete(&pair.target, "Prepare");
    drop(hold);
    // After a Backup that failed: Backup is refused, Prepare is the way.
    pair.seed(1).prepare();
    Player::start(&pair.target, "/api/backup/1/Mysqldump/127.0.0.1/1");
    pair.must_fail(1, "Backup");
    let db = &pair.source_db;
    let again = pair
        .target
        .error(&format!("/api/backup/1/Mysqldump/{}/{}", db.host, db.port));
    assert!(again.contains("call prepare again"), "{again}");
    // During Restore.
    let hold = pair.held_load(1);
    pair.seed(1).prepare();
    assert_eq!(
        pair.target_db.value("SELECT @@event_scheduler"),
        "ON",
        "put back before a new attempt begins"
    );
    drop(hold);
    let seed = pair.seed(1);
    seed.backup();
    seed.restore();
    seed.cleanup();
    pair.assert_seeded();
}

#[test]
fn restore_after_an_error_runs_again() {
    let pair = Pair::start();
    let hold = pair.held_load(1);
    let load = pair.target_db.connections_of("agent");
    let id = load
        .iter()
        .find(|c| c.contains("DROP TABLE"))
        .and_then(|c| c.split(' ').next())
        .expect("the load's connection");
    pair.target_db.sql(&format!("KILL {id}"));
    let text = pair.must_fail(1, "Restore");
    assert!(
        text.contains("loading the dump") && text.contains("partial") && text.contains("new seed"),
        "{text}"
    );
    assert_eq!(pair.enabled_events(), 0);
    drop(hold);
    pair.seed(1).restore();
    pair.assert_seeded();
}

#[test]
fn a_restart_keeps_the_last_seeds() {
    let mut pair = Pair::start();
    pair.must_seed(1);
    pair.seed(2).prepare();
    Player::start(&pair.target, "/api/backup/2/Mysqldump/127.0.0.1/1");
    let failed = pair.must_fail(2, "Backup");
    let before: Vec<Value> = ["Prepare", "Backup", "Restore", "Cleanup"]
        .map(|s| whole_state(&pair, 1, s))
        .to_vec();
    let active = pair.target.json("/api/active-seed");
    pair.target.terminate();
    pair.target.launch();
    pair.target.wait_ready();
    let after: Vec<Value> = ["Prepare", "Backup", "Restore", "Cleanup"]
        .map(|s| whole_state(&pair, 1, s))
        .to_vec();
    assert_eq!(after, before);
    assert_eq!(pair.state(2, "Backup"), ("Error".to_string(), failed));
    assert_eq!(pair.target.json("/api/active-seed"), active);
    assert_eq!(
        pair.target.call("/api/abort-seed-stage/1/Restore"),
        (200, "killed".into()),
        "S4"
    );
    // A stage goes on after a restart between stages.
    pair.seed(3).prepare();
    pair.target.kill();
    pair.target.launch();
    pair.target.wait_ready();
    let seed = pair.seed(3);
    seed.backup();
    pair.target.kill();
    pair.target.launch();
    pair.target.wait_ready();
    let seed_again = pair.seed(3);
    seed_again.restore();
    assert!(
        seed_again.metadata()["LogPos"]
            .as_u64()
            .is_some_and(|p| p > 0),
        "kept across the restart"
    );
    seed_again.cleanup();
    pair.assert_seeded();
}
