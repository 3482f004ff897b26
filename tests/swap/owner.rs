//! Nothing is done to a data directory that is not the one of the server behind mysql.host, mysql.port or mysql.socket.

use super::daemon::{changes, findings};
use super::rig::{Family, Rig, source};
use crate::support::agent::Agent;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::server::Server;
use crate::support::{Scratch, binary, tool_path};
use orchestrator_agent::seed::datadir::STAGING_NAMES;
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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
    // The note is another host's, another directory's (both here by what the note says), or of a server at another address.
    let inode = |by: u64| {
        let mut v: Value = serde_json::from_str(&text).expect("note");
        let n = v["seen"]["inode"].as_u64().expect("inode") + by;
        v["seen"]["inode"] = n.into();
        v.to_string()
    };
    let host = orchestrator_agent::host::kernel_hostname();
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
    let facts = rig.inspect().expect("fit");
    let staged = rig.stage(&facts, &copy.datadir());
    let proven = rig.prove(&facts, &staged);
    let e = rig
        .swap(&facts, &proven, &rig.host())
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
        .swap(&facts, &proven, &rig.host())
        .expect_err("another server");
    assert!(e.to_string().contains("has the data directory"), "{e}");
    assert_eq!(other.value("SELECT 1"), "1", "it was not stopped");
    other.down();
    rig.configure("", "");
    rig.db.up();
    rig.assert_old();
    rig.swap(&facts, &proven, &rig.host()).expect("swapped");
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

/// `check-config` where the file `option_file` is /etc/my.cnf.
fn check_with(agent: &Agent, option_file: &Path) -> String {
    let etc = Scratch::new("etc");
    let copied = Command::new("cp")
        .args(["-a", "/etc/."])
        .arg(&etc.0)
        .status();
    assert!(copied.expect("cp").success());
    std::fs::copy(option_file, etc.0.join("my.cnf")).expect("my.cnf");
    let out = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount --bind \"$1\" /etc && shift && exec \"$@\"",
            "sh",
        ])
        .arg(&etc.0)
        .arg(binary())
        .args(["check-config", "--json", "--config"])
        .arg(agent.dir.join("agent.conf"))
        .env("PATH", tool_path())
        .output()
        .expect("unshare (needs root)");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let document: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&out.stderr)));
    findings(&document, "mysql.datadir")
}

#[test]
fn an_option_file_in_the_default_place() {
    let ours = Server::<MariadbKind>::start("127.0.0.1", "");
    let other = Server::<MariadbKind>::start_bare("127.0.0.1", "");
    let agent = Agent::start_with(&ours, &changes());
    ours.down();
    other.down();
    let found = check_with(&agent, &other.dir.join("my.cnf"));
    for word in [
        "error",
        "MySQL is down",
        "start MySQL once",
        "mysql.defaults-file",
    ] {
        assert!(found.contains(word), "{word}: {found}");
    }
    let other = other.datadir().display().to_string();
    assert!(!found.contains(&other), "{found}");
    let found = check_with(&agent, &ours.dir.join("my.cnf"));
    let own = ours.datadir().display().to_string();
    assert!(found.contains("ok") && found.contains(&own), "{found}");
}
