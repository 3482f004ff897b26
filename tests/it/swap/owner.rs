//! Nothing is done to a data directory that is not the one of the server behind mysql.host, mysql.port or mysql.socket.

use super::daemon::{changes, findings};
use super::rig::{Family, Rig, source};
use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::state_of;
use crate::support::player::Player;
use crate::support::server::Server;
use crate::support::{Scratch, binary, path_with, wait_for};
use orchestrator_agent::datadir::STAGING_NAMES;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[track_caller]
fn refused<K: Family>(rig: &mut Rig<K>, mysql: &str, words: &[&str]) {
    rig.configure(mysql, "");
    let e = rig.inspect().expect_err(mysql).to_string();
    for word in words {
        assert!(e.contains(word), "{mysql}: {word}: {e}");
    }
}

fn unharmed(datadir: &Path) {
    for name in STAGING_NAMES {
        assert!(!datadir.join(name).exists(), "{}", datadir.display());
    }
}

fn cases<K: Family>() {
    let copy = source::<K>("");
    let mut rig = Rig::<K>::new("", "", "");
    let other = Server::<K>::start("127.0.0.3", "");
    let (own, others) = (rig.db.datadir(), other.datadir());
    let cnf = |db: &Server<K>| format!("defaults-file = {:?}", db.dir.join("my.cnf"));
    let note = rig.dir.join("state/datadir.json");

    // It runs. The socket of another instance than the port.
    let socket = format!("socket = {:?}", other.socket());
    refused(&mut rig, &socket, &["lead to two servers", "mysql.socket"]);
    // The right socket; found by the process that listens there.
    rig.configure(&format!("socket = {:?}", rig.db.socket()), "");
    assert_eq!(rig.inspect().expect("its own socket").datadir, own);
    // A server that calls its data directory what is another's here, as one on another host does.
    other.down();
    let real = other.dir.join("real");
    std::fs::rename(&others, &real).expect("rename");
    symlink(&real, &others).expect("link");
    other.up();
    std::fs::remove_file(&others).expect("link");
    symlink(&own, &others).expect("link");
    let address = format!("host = \"127.0.0.3\"\nport = {}", other.port);
    for way in [
        address,
        format!("{socket}\nhost = \"127.0.0.3\"\nport = {}", other.port),
    ] {
        refused(&mut rig, &way, &["leads to another server", "mysql.port"]);
    }
    std::fs::remove_file(&others).expect("link");
    symlink(&real, &others).expect("link");
    unharmed(&own);

    // It is down, and was seen.
    rig.configure("", "");
    let seen = rig.inspect().expect("fit").datadir;
    rig.down();
    assert_eq!(rig.inspect().expect("by the note").datadir, seen);
    let text = std::fs::read_to_string(&note).expect("note");
    // The note is another host's, another directory's (both here by what is in the note), or of a server at another address.
    let inode = |by: u64| {
        let mut v: Value = serde_json::from_str(&text).expect("note");
        let n = v["seen"]["inode"].as_u64().expect("inode") + by;
        v["seen"]["inode"] = n.into();
        v.to_string()
    };
    let host = orchestrator_agent::sys::host::kernel_hostname();
    let elsewhere = text.replace(&format!("\"{host}\""), "\"another-host\"");
    assert_ne!(elsewhere, text);
    for changed in [elsewhere, inode(1)] {
        std::fs::write(&note, changed).expect("note");
        refused(&mut rig, "", &["MySQL is down", "mysql.defaults-file"]);
    }
    std::fs::write(&note, &text).expect("note");
    refused(
        &mut rig,
        &format!("port = {}", other.port + 1),
        &["MySQL is down", "mysql.port"],
    );

    // It is down, and was never seen by this agent: the note serves for the program only.
    std::fs::write(&note, inode(1)).expect("note");
    let nowhere = rig.dir.join("no.sock");
    for (mysql, words) in [
        (String::new(), ["MySQL is down", "mysql.defaults-file"]),
        (
            format!("datadir = {others:?}"),
            ["MySQL is down", "start MySQL once"],
        ),
        (
            format!("datadir = {own:?}"),
            ["MySQL is down", "start MySQL once"],
        ),
        (cnf(&other), ["port there is", "mysql.port"]),
        (
            format!("{}\nsocket = {:?}", cnf(&rig.db), other.socket()),
            ["lead to two servers", "mysql.socket"],
        ),
        (
            format!("{}\nsocket = {nowhere:?}", cnf(&rig.db)),
            ["socket there is", "mysql.socket"],
        ),
        (
            format!("{}\ndatadir = {real:?}", cnf(&rig.db)),
            [
                "is not the data directory that its option file names",
                "mysql.datadir",
            ],
        ),
    ] {
        refused(&mut rig, &mysql, &words);
    }
    for good in [
        cnf(&rig.db),
        format!("{}\nsocket = {:?}", cnf(&rig.db), rig.db.socket()),
    ] {
        rig.configure(&good, "");
        assert_eq!(rig.inspect().expect(&good).datadir, own);
    }
    unharmed(&own);
    unharmed(&real);

    // The start after the swap starts another server on the same port.
    rig.db.up();
    other.down();
    let file = other.dir.join("my.cnf");
    let mut settings = std::fs::read_to_string(&file).expect("my.cnf");
    settings += &format!(
        "[mysqld]\nport={}\nbind_address={}\n",
        rig.db.port, rig.db.host
    );
    std::fs::write(&file, settings).expect("my.cnf");
    rig.configure(
        &format!("service-start-command = {:?}", other.service("start")),
        "",
    );
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &copy.datadir());
    let copy = rig.trial_start(&info, &staged);
    let e = rig
        .swap(&info, &copy, &rig.host())
        .expect_err("another server");
    let e = e.to_string();
    for word in [
        "has the data directory",
        "mysql.service-start-command",
        "the old data are in place",
    ] {
        assert!(e.contains(word), "{word}: {e}");
    }
    // And one that stands there before it is not stopped at all.
    let e = rig
        .swap(&info, &copy, &rig.host())
        .expect_err("another server");
    assert!(e.to_string().contains("has the data directory"), "{e}");
    assert_eq!(other.value("SELECT 1"), "1", "it was not stopped");
    other.down();
    rig.configure("", "");
    rig.db.up();
    rig.assert_old();
    rig.swap(&info, &copy, &rig.host()).expect("swapped");
    rig.assert_new();
}

#[test]
fn whose_it_is_mariadb() {
    cases::<MariadbKind>();
}

#[test]
fn whose_it_is_mysql() {
    cases::<MysqldKind>();
}

/// A copy of /etc whose my.cnf is `option_file`, without those of a server that the host may have.
fn etc_with(option_file: &Path) -> Scratch {
    let etc = Scratch::new("etc");
    let copied = Command::new("cp")
        .args(["-a", "/etc/."])
        .arg(&etc.0)
        .status();
    assert!(copied.expect("cp").success());
    for installed in ["mysql", "my.cnf.d"] {
        let _ = std::fs::remove_dir_all(etc.0.join(installed)); // usually there is none
    }
    let _ = std::fs::remove_file(etc.0.join("my.cnf")); // it may be a symbolic link
    std::fs::copy(option_file, etc.0.join("my.cnf")).expect("my.cnf");
    etc
}

/// Executes its second and later arguments where the first is /etc and the host has no server installed.
const INSIDE: &str = "for d in /usr/sbin /usr/bin /usr/local/sbin /usr/local/bin; do for n in mariadbd mysqld; do \
    [ ! -e $d/$n ] || mount --bind /dev/null $d/$n || exit; done; done; mount --bind \"$1\" /etc && shift && exec \"$@\"";

/// `check-config` where the file `option_file` is /etc/my.cnf.
fn check_with(agent: &Agent, path: &str, option_file: &Path) -> String {
    let etc = etc_with(option_file);
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", INSIDE, "sh"])
        .arg(&etc.0)
        .arg(binary())
        .args(["check-config", "--json", "--config"])
        .arg(agent.dir.join("agent.conf"))
        .env("PATH", path)
        .output()
        .expect("unshare (needs root)");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let document: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&out.stderr)));
    findings(&document, "mysql.datadir")
}

/// Status and Details of a target's Prepare by an agent where the file `option_file` is /etc/my.cnf.
fn prepare_with<K: Family>(db: &Server<K>, fakes: &Fakes, option_file: &Path) -> (String, String) {
    let etc = etc_with(option_file);
    let program = etc.0.join("agent.sh");
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c '{INSIDE}' sh '{}' '{}' \"$@\"\n",
        etc.0.display(),
        binary()
    );
    std::fs::write(&program, text).expect("script");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("mode");
    let changes = Changes {
        program: Some(program),
        path_first: Some(fakes.dir.clone()),
        ..changes()
    };
    let agent = Agent::start_with(db, &changes);
    Player::start(&agent, "/api/prepare/1/Xtrabackup/Target");
    wait_for("Prepare ends", Duration::from_secs(60), || {
        let state = state_of(&agent, 1, "Prepare");
        (state.0 != "Running").then_some(state)
    })
}

fn an_option_file<K: Family>() {
    let ours = Server::<K>::start("127.0.0.1", "");
    let other = Server::<K>::start_bare("127.0.0.1", "");
    let fakes = Fakes::of::<K>();
    if K::STAGING == MysqldKind::STAGING {
        fakes.put_percona();
    }
    let mut more = changes();
    more.path_first = Some(fakes.dir.clone());
    let agent = Agent::start_with(&ours, &more);
    let tools = K::rig().join(K::TOOLS);
    let path = format!("{}:{}", fakes.dir.display(), path_with(&tools));
    ours.down();
    other.down();
    let words = ["MySQL is down", "start MySQL once", "mysql.defaults-file"];
    let cnf = |db: &Server<K>| db.dir.join("my.cnf");
    let others = other.datadir().display().to_string();
    let found = check_with(&agent, &path, &cnf(&other));
    let (status, details) = prepare_with(&ours, &fakes, &cnf(&other));
    assert_eq!(status, "Error", "{details}");
    assert!(found.contains("error"), "{found}");
    for text in [found, details] {
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains(&others), "{text}");
    }
    unharmed(&other.datadir());
    let found = check_with(&agent, &path, &cnf(&ours));
    let own = ours.datadir().display().to_string();
    assert!(found.contains("ok") && found.contains(&own), "{found}");
    let (status, details) = prepare_with(&ours, &fakes, &cnf(&ours));
    assert_eq!(status, "Completed", "{details}");
    unharmed(&other.datadir());
}

#[test]
fn an_option_file_in_the_default_place_on_mariadb() {
    an_option_file::<MariadbKind>();
}

#[test]
fn an_option_file_in_the_default_place_on_mysql() {
    an_option_file::<MysqldKind>();
}
