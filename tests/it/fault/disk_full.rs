//! A full disk: the error says so, nothing of the target is touched, no rest of the dump stays, and once there is room the next seed
//! succeeds. The disk is a tmpfs of a few MB over `backup-dir`.

use crate::support::agent::Changes;
use crate::support::pair::Pair;
use crate::support::tmpfs::Tmpfs;
use crate::support::wait_for;
use std::time::Duration;

fn pair() -> Pair {
    filled(Pair::start_with("", "", &Changes::default()))
}

fn filled(pair: Pair) -> Pair {
    pair.source_db
        .sql("CREATE TABLE shop.big ENGINE=InnoDB AS SELECT seq, SHA2(seq, 512) AS t FROM mysql.seq_1_to_150000");
    pair
}

#[test]
fn before_a_dump_there_is_no_room_for_it() {
    let pair = pair();
    let disk = Tmpfs::over(&pair.target.dir.join("backup"), 40);
    let filler = disk.fill(0);
    // How large a dump will be, no agent knows before it has asked the source: the tools say it.
    let seed = pair.seed(1);
    seed.start_prepare();
    let (status, text) = wait_for("Prepare is over", Duration::from_secs(20), || {
        Some(pair.state(1, "Prepare")).filter(|(status, _)| status != "Running")
    });
    let told = if status == "Error" {
        text
    } else {
        seed.start_backup();
        pair.must_fail(1, "Backup")
    };
    assert!(
        told.contains("No space left on device") || told.contains("free"),
        "{told}"
    );
    assert!(told.contains("backup"), "it names the place: {told}");
    pair.assert_unchanged();
    std::fs::remove_file(filler).expect("it was there");
    pair.must_seed(2);
}

#[test]
fn in_the_middle_of_a_dump() {
    let pair = pair();
    let disk = Tmpfs::over(&pair.target.dir.join("backup"), 40);
    let seed = pair.seed(1);
    seed.prepare();
    // Enough by the rule of 0.6 of the tables, too little for this dump.
    let filler = disk.fill(19 << 20);
    seed.start_backup();
    let told = pair.must_fail(1, "Backup");
    assert!(told.contains("No space left on device"), "{told}");
    assert!(
        told.contains("orchestrator_agent_backup.sql"),
        "it names the file: {told}"
    );
    assert!(!pair.dump_file().exists(), "the rest of the dump is gone");
    pair.assert_nothing_left();
    pair.assert_unchanged();
    std::fs::remove_file(filler).expect("it was there");
    pair.must_seed(2);
}

#[test]
fn in_the_middle_of_a_dump_by_mydumper() {
    let pair = filled(Pair::mydumper("", "", &Changes::default()));
    let disk = Tmpfs::over(&pair.target.dir.join("backup"), 40);
    let seed = pair.seed(1);
    seed.prepare();
    let filler = disk.fill(19 << 20);
    seed.start_backup();
    let told = pair.must_fail(1, "Backup");
    assert!(told.contains("No space left on device"), "{told}");
    pair.assert_nothing_left();
    pair.assert_unchanged();
    std::fs::remove_file(filler).expect("it was there");
    let left = crate::support::pair::files_in(&pair.target.dir.join("backup"));
    assert!(left.is_empty(), "the rest of the dump is gone: {left:?}");
    pair.must_seed(2);
}
