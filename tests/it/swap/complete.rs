//! A complete swap: what is staged harms no server, the trial start, and what comes from where.

use super::rig::{Family, Rig, SEED, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use orchestrator_agent::datadir::{self, DatadirInfo, Environment, STAGING_NAMES, Staged};
use orchestrator_agent::mysql::{Endpoint, Server, connect, info};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Everything below `dir` belongs to `owner` and can be used by it.
fn assert_owned(dir: &Path, owner: (u32, u32)) {
    for entry in std::fs::read_dir(dir).expect("directory").flatten() {
        let meta = entry.metadata().expect("metadata");
        let path = entry.path();
        assert_eq!((meta.uid(), meta.gid()), owner, "{}", path.display());
        let access = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.mode() & access, access, "{}", path.display());
        if meta.is_dir() {
            assert_owned(&path, owner);
        }
    }
}

fn dump<K: Family>(rig: &Rig<K>) {
    let out = Command::new(K::rig().join(K::TOOLS).join(K::DUMP))
        .arg("--no-defaults")
        .args(K::DUMP_ARGS)
        .args(["-uroot", "-S", &rig.db.socket()])
        .output()
        .expect("the dump tool");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The value of a variable, if the server has it.
fn variable<K: Family>(rig: &Rig<K>, name: &str) -> String {
    let mut conn =
        connect(&Endpoint::local(&rig.config.mysql), Duration::from_secs(10)).expect("login");
    info::global(&mut conn, name)
        .expect("a variable")
        .unwrap_or_default()
}

/// A private server on the copy, which an agent has left that was killed before it could record it.
fn left_over<K: Family>(rig: &Rig<K>, info: &DatadirInfo, staged: &Staged) -> Child {
    staged.adapt(info).expect("adapted");
    let mut command = rig.host().program(info);
    command.args([
        "--no-defaults",
        "--socket=../work/sock",
        "--skip-networking",
    ]);
    command.arg(format!("--datadir={}", staged.new_dir().display()));
    for (name, value) in &info.options {
        command.arg(format!("--{}={value}", name.replace('_', "-")));
    }
    command.args([
        "--skip-log-bin",
        "--secure-file-priv=/tmp",
        "--loose-mysqlx=OFF",
    ]);
    let log = std::fs::File::create(rig.dir.join("left-over.log")).expect("log");
    let child = command
        .process_group(0)
        .stderr(log)
        .spawn()
        .expect("it starts");
    crate::support::wait_for("it runs", Duration::from_secs(30), || {
        staged.work_dir().join("sock").exists().then_some(())
    });
    child
}

fn complete<K: Family>(persisted: bool) {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    if persisted {
        rig.db.sql("SET PERSIST max_connections = 99");
        for (dir, name) in [
            (rig.db.datadir(), "own.pem"),
            (source.datadir(), "foreign.pem"),
        ] {
            let copied = Command::new("cp")
                .arg("-a")
                .arg(dir.join("server-key.pem"))
                .arg(dir.join(name))
                .status();
            assert!(copied.expect("cp").success());
        }
    }
    let (id, uuid) = (variable(&rig, "server_id"), variable(&rig, "server_uuid"));
    let info = rig.inspect().expect("fit");
    assert!(info.staging.ends_with(K::STAGING) && info.files > 50);
    assert_eq!(info.server_id, id);
    let before = std::fs::metadata(rig.db.datadir()).expect("datadir");
    let staged = rig.stage(&info, &source.datadir());

    // MySQL restarts in mid-seed, cleanly and after a crash, and works on.
    rig.db.down();
    rig.db.up();
    rig.db.kill();
    rig.db.up();
    rig.db
        .sql("CREATE TABLE precious.later (v INT) ENGINE=InnoDB");
    rig.db.sql("INSERT INTO precious.later VALUES (1)");
    rig.assert_old();
    dump(&rig);
    let mut conn =
        connect(&Endpoint::local(&rig.config.mysql), Duration::from_secs(10)).expect("login");
    let server = Server::ask(&mut conn).expect("version");
    let schemas = info::schemas(&mut conn, server).expect("schemas");
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["precious"]);
    assert_eq!(info::schema_names(&mut conn).expect("names"), ["precious"]);
    drop(conn);

    let mut left = left_over(&rig, &info, &staged);
    let copy = rig.trial_start(&info, &staged);
    let ended = left.try_wait().expect("its status").expect("it has ended");
    assert_eq!(ended.signal(), Some(9), "{ended}");
    // MariaDB's channels are files, which do not come along.
    assert_eq!(
        copy.notes
            .contains("1 replication channels of the source removed"),
        persisted,
        "{}",
        copy.notes
    );
    assert!(copy.notes.contains("1 events disabled"), "{}", copy.notes);
    rig.assert_old();
    assert_eq!(rig.db.value("SELECT v FROM precious.later"), "1");

    let mut host = rig.host();
    host.quiet = Duration::from_secs(3); // the real one, once
    assert_eq!(rig.swap(&info, &copy, &host).expect("swapped"), "");
    rig.assert_new();
    let after = std::fs::metadata(rig.db.datadir()).expect("datadir");
    let of = |m: &std::fs::Metadata| (m.ino(), m.uid(), m.gid(), m.mode());
    assert_eq!(of(&after), of(&before));
    assert_owned(&rig.db.datadir(), (before.uid(), before.gid()));
    assert_eq!(variable(&rig, "server_id"), id, "the target's own");
    if persisted {
        assert_ne!(variable(&rig, "server_uuid"), uuid, "a new one");
        let auto = std::fs::read_to_string(source.datadir().join("auto.cnf")).expect("auto.cnf");
        assert!(
            !auto.contains(&variable(&rig, "server_uuid")),
            "not the source's"
        );
        assert_eq!(variable(&rig, "max_connections"), "99", "the target's own");
        let has = |name: &str| rig.db.datadir().join(name).exists();
        assert!(has("own.pem") && has("server-key.pem") && !has("foreign.pem"));
    }
    let events = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'";
    assert_eq!(rig.db.value(events), "0");
    assert_eq!(rig.db.replica_status("Last_IO_Errno"), "", "no channel");
    // The old data are complete: a server would start on them.
    for name in [&info.system_file[..], "precious", "mysql"] {
        assert!(staged.old_dir().join(name).exists(), "{name}");
    }
    let roots = datadir::staging_roots(&rig.config);
    assert_eq!(roots, std::slice::from_ref(&info.staging));
    let kept = datadir::kept(&roots);
    assert!(kept.len() == 1 && kept[0].1 > 1_000_000, "{kept:?}");
    rig.db.down();
    rig.db.up();
    dump(&rig);

    datadir::clean_up(&info, &staged).expect("cleaned up");
    crate::support::wait_for("nothing is left", Duration::from_secs(30), || {
        let left = STAGING_NAMES
            .iter()
            .any(|n| rig.db.datadir().join(n).exists());
        (!left).then_some(())
    });
    assert_eq!(SEED, staged.seed);
    rig.assert_new();
}

#[test]
fn mariadb() {
    complete::<MariadbKind>(false);
}

#[test]
fn mysql() {
    complete::<MysqldKind>(true);
}
