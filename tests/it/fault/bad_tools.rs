//! Tools that fail, die or lie, and a dump that is changed behind the agent's back. The target's own data stay until Restore
//! begins, and the same pair makes a clean seed afterwards.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::pair::Pair;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

fn with(fakes: &Fakes) -> Pair {
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    Pair::start_with("", "", &changes)
}

#[test]
fn the_dump_tool() {
    let fakes = Fakes::new();
    let pair = with(&fakes);
    let cases: [(&str, &[&str]); 9] = [
        // half a dump, then an exit status
        (
            "\"$REAL\" \"$@\" | head -c 50000; echo 'Got error: 2013: Lost connection' >&2; exit 3",
            &["exit status 3", "Lost connection"],
        ),
        // half a dump, then a signal
        (
            "\"$REAL\" \"$@\" | head -c 50000; kill -9 $$",
            &["killed by signal 9"],
        ),
        // half a dump, and success
        (
            "\"$REAL\" \"$@\" | head -c 50000; exit 0",
            &["Dump completed", "cut short"],
        ),
        // a whole dump, and failure
        ("\"$REAL\" \"$@\"; exit 2", &["exit status 2"]),
        // a dump without coordinates
        (
            "\"$REAL\" \"$@\" | sed '/CHANGE MASTER/d; /gtid_slave_pos/d'",
            &["no binlog coordinates", "--master-data=2"],
        ),
        // a dump with broken coordinates
        (
            "\"$REAL\" \"$@\" | sed \"s/MASTER_LOG_FILE='[^']*'/MASTER_LOG_FILE=''/\"",
            &["dump"],
        ),
        // the tool is there, its library is not
        (
            "echo 'error while loading shared libraries' >&2; exit 127",
            &["exit status 127", "shared libraries"],
        ),
        // nothing at all
        ("exit 0", &["dump"]),
        // words without end on stderr must not stop it, nor fill the state
        (
            "i=0; while [ $i -lt 200 ]; do head -c 5000 /dev/zero | tr '\\0' w >&2; i=$((i+1)); done; echo last words >&2; exit 7",
            &["exit status 7", "last words"],
        ),
    ];
    let mut id = 0;
    for (script, words) in cases {
        id += 1;
        fakes.put("mariadb-dump", script);
        let text = pair.backup_fails(id);
        for word in words {
            assert!(text.contains(word), "{script}: {word}: {text}");
        }
        assert!(!text.contains("partial"), "{script}: {text}");
        assert!(
            pair.target
                .error(&format!("/api/restore/{id}/Mysqldump"))
                .contains("backup of seed"),
            "no Restore after it"
        );
    }
    pair.assert_nothing_left();
    // Warnings alone are no failure.
    fakes.put(
        "mariadb-dump",
        "head -c 1000000 /dev/zero | tr '\\0' w >&2; exec \"$REAL\" \"$@\"",
    );
    pair.must_seed(id + 1);
}

#[test]
fn the_load_client() {
    let fakes = Fakes::new();
    let pair = with(&fakes);
    let cases: [(&str, &str); 4] = [
        (
            "head -c 1500000 | \"$REAL\" \"$@\"; exit 3",
            "exit status 3",
        ),
        (
            "head -c 1500000 | \"$REAL\" \"$@\"; kill -9 $$",
            "killed by signal 9",
        ),
        // reads half of it, and says all is well
        ("head -c 1500000 >/dev/null; exit 0", "stream"),
        (
            "cat >/dev/null; echo 'ERROR 1114 (HY000): The table is full' >&2; exit 1",
            "The table is full",
        ),
    ];
    let mut id = 0;
    for (script, word) in cases {
        id += 1;
        let seed = pair.seed(id);
        seed.prepare();
        seed.backup();
        // The first call only checks which server the client reaches.
        let checked = fakes.dir.join(format!("checked-{id}"));
        let first = format!(
            "if mkdir '{}' 2>/dev/null; then exec \"$REAL\" \"$@\"; fi",
            checked.display()
        );
        fakes.put("mariadb", &format!("{first}\n{script}"));
        seed.start_restore();
        let text = pair.must_fail(id, "Restore");
        assert!(text.contains(word), "{script}: {text}");
        assert!(
            text.contains("partial") && text.contains("new seed"),
            "{text}"
        );
        assert_eq!(
            pair.target_db.value("SELECT @@event_scheduler"),
            "ON",
            "{script}"
        );
        assert_eq!(pair.enabled_events(), 0, "{script}");
        fakes.remove("mariadb");
    }
    pair.assert_nothing_left();
    let seed = pair.seed(id);
    seed.restore(); // after an error it may run again
    seed.cleanup();
    pair.assert_seeded();
    pair.must_seed(id + 1);
}

#[test]
fn a_dump_file_that_changes_between_backup_and_restore() {
    let pair = Pair::start();
    type Change = fn(&std::path::Path);
    let changes: [Change; 4] = [
        |file| {
            let len = file.metadata().expect("dump").len();
            OpenOptions::new()
                .write(true)
                .open(file)
                .expect("dump")
                .set_len(len - 100)
                .expect("truncate");
        },
        |file| {
            let mut dump = OpenOptions::new().append(true).open(file).expect("dump");
            dump.write_all(b"DROP DATABASE precious;\n")
                .expect("append");
        },
        |file| std::fs::remove_file(file).expect("remove"),
        |file| {
            // The same length, another place in the binary log.
            let text = std::fs::read(file).expect("dump");
            let at = text
                .windows(15)
                .position(|w| w == b"MASTER_LOG_POS=")
                .expect("coordinates")
                + 15;
            let digit = if text[at] == b'1' { b'2' } else { b'1' };
            let mut dump = OpenOptions::new().write(true).open(file).expect("dump");
            dump.seek(SeekFrom::Start(at as u64)).expect("seek");
            dump.write_all(&[digit]).expect("write");
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        let id = 1 + n as i64;
        let seed = pair.seed(id);
        seed.prepare();
        seed.backup();
        change(&pair.dump_file());
        seed.start_restore();
        let text = pair.must_fail(id, "Restore");
        assert!(
            text.contains("orchestrator_agent_backup.sql") && !text.contains("partial"),
            "{n}: {text}"
        );
        pair.assert_unchanged();
    }
    pair.must_seed(9);
}
