//! Mydumper: abort in the middle of both tools, tools that fail without saying so by their exit status, and what the user
//! reads then.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::{free_port, processes_with, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};

/// Whatever comes from the tool, it has begun its work and is then stopped, so that it hears no SIGTERM.
const STOPPED: &str = r#"
for a in "$@"; do case $a in --outputdir=*) d=${a#*=};; esac; done
"$REAL" "$@" 2>"$0.log" & tool=$!
until grep -qE 'restoring|dumping schema' "$0.log"; do sleep 0.01; done
kill -STOP $tool
until grep -qE '^State:.[TtZX]' /proc/$tool/status || [ ! -e /proc/$tool ]; do sleep 0.01; done
grep -qE '^State:.[Tt]' /proc/$tool/status && echo stopped >"$0.stopped"
wait $tool
"#;

fn pair_with(fakes: &Fakes, lines: &[(&'static str, &str)]) -> Pair {
    let lines = lines.iter().map(|(s, l)| (*s, (*l).to_string())).collect();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        lines,
        ..Changes::default()
    };
    Pair::mydumper("", "", &changes)
}

/// 200 `killed` within a second, and within ten nothing is left on either host.
fn abort(pair: &Pair, id: i64, stage: &str) -> String {
    let begin = Instant::now();
    let answer = pair
        .target
        .call(&format!("/api/abort-seed-stage/{id}/{stage}"));
    assert_eq!(answer, (200, "killed".to_string()), "8.5");
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    pair.assert_nothing_left();
    let (status, text) = pair.state(id, stage);
    assert_eq!(status, "Error");
    assert!(text.contains("abort"), "{text}");
    text
}

/// Something that a tool is at work on for a while.
fn make_large(pair: &Pair) {
    pair.source_db.sql(
        "CREATE TABLE shop.large ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_400000",
    );
}

fn wait_stopped(fakes: &Fakes, tool: &str) {
    let mark = fakes.dir.join(format!("{tool}.stopped"));
    wait_for("the tool is in the middle", Duration::from_secs(30), || {
        mark.exists().then_some(())
    });
}

#[test]
fn abort_in_the_middle_of_the_dump() {
    let fakes = Fakes::new();
    fakes.put("mydumper", STOPPED);
    let pair = pair_with(&fakes, &[]);
    make_large(&pair);
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    wait_stopped(&fakes, "mydumper");
    assert!(
        !pair.source_db.connections_of("agent").is_empty(),
        "it has sessions in the source"
    );
    let text = abort(&pair, 1, "Backup");
    assert!(!text.contains("partial"), "{text}");
    pair.assert_unchanged();
    fakes.remove("mydumper");
    pair.source_db.sql("DROP TABLE shop.large");
    pair.must_seed(2);
}

#[test]
fn abort_of_a_dump_that_waits_for_a_lock_in_the_source() {
    let pair = Pair::mydumper("", "", &Changes::default());
    let hold = pair.held_dump(1);
    let text = abort(&pair, 1, "Backup");
    assert!(!text.contains("partial"), "{text}");
    pair.assert_unchanged();
    drop(hold);
    pair.must_seed(2);
}

#[test]
fn abort_in_the_middle_of_the_load() {
    let fakes = Fakes::new();
    fakes.put("myloader", STOPPED);
    let pair = pair_with(&fakes, &[]);
    make_large(&pair);
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    wait_stopped(&fakes, "myloader");
    assert_eq!(
        pair.target_db.value("SELECT @@event_scheduler"),
        "OFF",
        "no event runs during the load"
    );
    let text = abort(&pair, 1, "Restore");
    assert!(
        text.contains("partial") && text.contains("new seed"),
        "{text}"
    );
    wait_for("settings are put back", Duration::from_secs(30), || {
        (pair.target_db.value("SELECT @@event_scheduler") == "ON").then_some(())
    });
    // Half a load must not become somebody's source.
    let text = pair.target.error("/api/prepare/2/Mydumper/Source");
    assert!(text.contains("cannot be a source"), "{text}");
    fakes.remove("myloader");
    pair.source_db.sql("DROP TABLE shop.large");
    pair.must_seed(2);
}

#[test]
fn abort_of_a_load_that_waits_for_a_lock_in_the_target() {
    let pair = Pair::mydumper("", "", &Changes::default());
    let hold = pair.held_load(1);
    let text = abort(&pair, 1, "Restore");
    assert!(text.contains("partial"), "{text}");
    drop(hold);
    pair.must_seed(2);
}

/// Tools that end with 0 although not all went well.
#[test]
fn exit_status_0_is_not_enough() {
    let fakes = Fakes::new();
    let pair = pair_with(&fakes, &[]);
    let says = |tool: &str, line: &str| {
        fakes.put(
            tool,
            &format!("\"$REAL\" \"$@\"; echo '{line}' >&2; exit 0"),
        );
    };
    says(
        "mydumper",
        "** (mydumper:1): WARNING **: 10:11:12.131: Executing in no-locks mode, snapshot might not be consistent",
    );
    let text = pair.backup_fails(1);
    assert!(text.contains("no-locks mode"), "{text}");
    says(
        "mydumper",
        "** (mydumper:1): CRITICAL **: 10:11:12.131: Could not read data from shop.items: Lost connection",
    );
    let text = pair.backup_fails(2);
    assert!(
        text.contains("mydumper: Could not read data from shop.items"),
        "{text}"
    );
    // As mydumper 0.10 does it against a server that does not know SHOW MASTER STATUS.
    fakes.put(
        "mydumper",
        "\"$REAL\" \"$@\"; for a in \"$@\"; do case $a in --outputdir=*) sed -i '/Log:/d;/Pos:/d' \"${a#*=}/metadata\";; esac; done",
    );
    let text = pair.backup_fails(3);
    assert!(text.contains("no binlog coordinates"), "{text}");
    // The disk is full, or it was killed: the dump has no end.
    fakes.put(
        "mydumper",
        "\"$REAL\" \"$@\"; for a in \"$@\"; do case $a in --outputdir=*) mv \"${a#*=}/metadata\" \"${a#*=}/metadata.partial\";; esac; done",
    );
    let text = pair.backup_fails(4);
    assert!(text.contains("metadata"), "{text}");
    fakes.remove("mydumper");
    says(
        "myloader",
        "** (myloader:1): CRITICAL **: 10:11:12.131: Error restoring shop.items from file shop.items.sql: Duplicate entry",
    );
    let seed = pair.seed(5);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let text = pair.must_fail(5, "Restore");
    assert!(
        text.contains("myloader: Error restoring shop.items") && text.contains("partial"),
        "{text}"
    );
    pair.assert_nothing_left();
    fakes.remove("myloader");
    pair.must_seed(6);
}

#[test]
fn what_cannot_be_is_named() {
    let fakes = Fakes::new();
    let opts = (
        "mydumper",
        "mydumper-addtional-opts = [\"--routines\", \"--nonsense\", \"--host=elsewhere\"]",
    );
    let pair = pair_with(&fakes, &[opts]);
    let text = pair.backup_fails(1);
    assert!(text.contains("Unknown option --nonsense"), "{text}");
    let log = pair.target.log();
    assert!(
        log.contains(
            "mydumper.mydumper-addtional-opts: --host is set by the agent itself and was dropped"
        ),
        "{log}"
    );
    // A source that is down: the next attempt may find it up.
    pair.seed(2).prepare();
    let port = free_port("127.0.0.1");
    Player::start(
        &pair.target,
        &format!("/api/backup/2/Mydumper/127.0.0.1/{port}"),
    );
    let text = pair.must_fail(2, "Backup");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    // Another password on the source than on the target.
    let seed = pair.seed(3);
    seed.prepare();
    pair.source_db
        .sql("ALTER USER agent@'%' IDENTIFIED BY 'other'");
    seed.start_backup();
    let text = pair.must_fail(3, "Backup");
    assert!(text.contains("Access denied"), "{text}");
    pair.assert_unchanged();
}

/// The agent is killed in the middle of either tool and started again.
#[test]
fn the_agent_is_killed() {
    let mut pair = Pair::mydumper("", "", &Changes::default());
    let restart = |pair: &mut Pair, id: i64, stage: &str| {
        pair.target.kill();
        pair.target.launch();
        pair.target.wait_ready();
        let (status, text) = pair.state(id, stage);
        assert!(status == "Error" && text.contains("interrupted"), "{text}");
        assert_eq!(pair.tools(), Vec::<String>::new());
        pair.assert_nothing_left();
        text
    };
    let hold = pair.held_dump(1);
    let text = restart(&mut pair, 1, "Backup");
    assert!(!text.contains("partial"), "{text}");
    pair.assert_unchanged();
    drop(hold);
    let hold = pair.held_load(2);
    let text = restart(&mut pair, 2, "Restore");
    assert!(text.contains("partial"), "{text}");
    wait_for("settings are put back", Duration::from_secs(20), || {
        (pair.target_db.value("SELECT @@event_scheduler") == "ON").then_some(())
    });
    drop(hold);
    pair.must_seed(3);
}

/// A tool that dies by itself leaves sessions that wait for a lock.
#[test]
fn the_tool_is_killed() {
    let pair = Pair::mydumper("", "", &Changes::default());
    let hold = pair.held_load(1);
    let needle = format!(
        "--defaults-file={}",
        pair.target.dir.join("state").display()
    );
    for (pid, _) in processes_with(&needle) {
        // One may have ended with the other.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    let text = pair.must_fail(1, "Restore");
    assert!(
        text.contains("killed by signal 9") && text.contains("partial"),
        "{text}"
    );
    pair.assert_nothing_left();
    drop(hold);
    pair.must_seed(2);
}
