//! No tool works on another server than the one that the agent means: whatever its environment, option files and login paths say, and
//! wherever a forwarder leads. The other server is the target's twin: same server_id, server_uuid, port and account.

use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::forwarder::Forwarder;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::{Mysql56Kind, MysqldKind};
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::server::{AGENT_PASSWORD, Kind, Server};
use crate::support::sudo::Sudo;
use crate::support::{Scratch, free_port};
use mysql::prelude::Queryable;
use orchestrator_agent::config::Secret;
use orchestrator_agent::error::{Error, ToolError, ToolFault};
use orchestrator_agent::mysql::{Endpoint, Identity, connect};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TWIN: &str = "127.0.0.3";

/// Another server that calls itself what `db` does.
fn twin_of<K: Kind>(db: &Server<K>) -> Server<K> {
    let same = format!(
        "server_id={}\nport={}\n",
        db.value("SELECT @@server_id"),
        db.port
    );
    let mut twin = Server::<K>::start(TWIN, &same);
    twin.port = db.port;
    let uuid = "auto.cnf";
    if db.datadir().join(uuid).exists() {
        twin.down();
        std::fs::copy(db.datadir().join(uuid), twin.datadir().join(uuid)).expect("auto.cnf");
        twin.up();
        let name = "SELECT @@server_uuid";
        assert_eq!(twin.value(name), db.value(name));
    }
    twin.sql("CREATE DATABASE twins_own");
    twin.sql("CREATE TABLE twins_own.t ENGINE=InnoDB AS SELECT 'mine' AS v");
    twin
}

fn endpoint<K: Kind>(db: &Server<K>) -> Endpoint {
    Endpoint {
        host: db.host.clone(),
        port: db.port,
        socket: String::new(),
        user: "agent".into(),
        password: Secret::new(AGENT_PASSWORD),
    }
}

/// What a tool's first statement says on `db` and on another server.
fn by_statement<K: Kind>(db: &Server<K>, other: Option<&Server<K>>) {
    let ways: [fn(&Endpoint) -> orchestrator_agent::error::Result<Identity>; 2] =
        [Identity::hold, Identity::by_session];
    for hold in ways {
        let identity = hold(&endpoint(db)).expect("held");
        let statement = format!("SET {}, sql_mode = 'ANSI'", identity.assignment());
        let mut conn = db.root();
        conn.query_drop(&statement).expect("the same server");
        let mode: Option<String> = conn.query_first("SELECT @@sql_mode").expect("mode");
        assert!(mode.is_some_and(|m| m.contains("ANSI")));
        identity.check().expect("alive");
        if let Some(other) = other {
            let mut conn = other.root();
            let e = conn.query_drop(&statement).expect_err("another server");
            assert!(e.to_string().contains("not the expected server"), "{e}");
            let mode: Option<String> = conn.query_first("SELECT @@sql_mode").expect("mode");
            assert!(!mode.is_some_and(|m| m.contains("ANSI")), "all or nothing");
            let mut conn = connect(&endpoint(other), Duration::from_secs(10)).expect("login");
            let e = identity.verify(&mut conn).expect_err("another server");
            assert!(e.to_string().contains("reached another server"), "{e}");
        }
        // The agent's connection is killed.
        for held in db.connections_of("agent") {
            let id = held.split(' ').next().expect("number");
            let _ = db.root().query_drop(format!("KILL {id}"));
        }
        let e = db
            .root()
            .query_drop(&statement)
            .expect_err("nothing to compare with");
        assert!(e.to_string().contains("not the expected server"), "{e}");
        let e = Error::Tool(Box::new(ToolError {
            name: "mysql".into(),
            fault: ToolFault::Reported,
            stderr: e.to_string(),
        }));
        let e = identity.explain("mysql", e).to_string();
        assert!(e.contains("has ended") && e.contains("killed"), "{e}");
    }
}

/// A home with everything in it that may lead a tool astray.
fn trap<K: Kind>(home: &Path, source: &Server<K>, target: &Server<K>) {
    let foreign = format!(
        "[client]\nhost={}\nport={}\ninit-command=\"DROP DATABASE shop\"\n[mysqld]\nport=1\n",
        source.host, source.port
    );
    for file in [".my.cnf", "my.cnf"] {
        std::fs::write(home.join(file), &foreign).expect("option file");
    }
    let tools = K::rig().join(K::TOOLS);
    let editor = tools.join("mysql_config_editor");
    if !editor.exists() {
        return; // MariaDB's clients know no login paths
    }
    let login = |args: &[&str]| {
        let out = Command::new(&editor)
            .args(["set", "--login-path=client"])
            .args(args)
            .env("HOME", home)
            .output()
            .expect("mysql_config_editor");
        assert!(out.status.success(), "{out:?}");
    };
    login(&[
        "--host",
        &source.host,
        "--port",
        &source.port.to_string(),
        "--user=agent",
    ]);
    // It is one: an option file alone does not keep a client from it.
    let file = home.join("client.cnf");
    let ours = format!(
        "[client]\nhost={}\nport={}\nuser=agent\npassword={AGENT_PASSWORD}\nget-server-public-key=1\n",
        target.host, target.port
    );
    std::fs::write(&file, ours).expect("option file");
    let port = |login_file: Option<&str>| {
        let mut client = Command::new(tools.join("mysql"));
        client
            .arg(format!("--defaults-file={}", file.display()))
            .args(["-BNe", "SELECT @@port"])
            .env("HOME", home);
        if let Some(file) = login_file {
            client.env("MYSQL_TEST_LOGIN_FILE", file);
        }
        let out = client.output().expect("mysql");
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    };
    assert_eq!(port(None), source.port.to_string(), "the trap works");
    assert_eq!(
        port(Some("/dev/null/no-login-path")),
        target.port.to_string()
    );
}

/// `tools`: the dump tool's, the client's and others' names.
fn astray<K: Kind>(tools: &[&str], methods: &[&'static str], cnf: &str) {
    let fakes = Fakes::of::<K>();
    let home = Scratch::new("home");
    let switch = fakes.dir.join("astray");
    // With a host and a port in that file, the tool goes there.
    let script = format!(
        "if [ -e '{0}' ]; then\n read host port <'{0}'\n n=$#\n while [ $n -gt 0 ]; do\n  a=$1; shift; n=$((n - 1))\n  case $a in\n  \
         --defaults-file=*) sed -i -e \"s/^host=.*/host=\\\"$host\\\"/\" -e \"s/^port=.*/port=$port/\" \"${{a#*=}}\" ;;\n  \
         --host=*) a=--host=$host ;;\n  --port=*) a=--port=$port ;;\n  esac\n  set -- \"$@\" \"$a\"\n done\nfi\nexec \"$REAL\" \"$@\"",
        switch.display()
    );
    for tool in tools {
        fakes.put(tool, &script);
    }
    let forwarder = Forwarder::start("127.0.0.2");
    let path_first = Some(fakes.dir.clone());
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    if methods.contains(&"Mydumper") {
        lines.push(("mydumper", "enabled = true".into()));
        lines.push(("xtrabackup", "enabled = true".into()));
        lines.push(("common", format!("seed-port = {}", free_port("127.0.0.2"))));
    }
    let place = |name: &str| home.0.join(name).display().to_string();
    let environment = vec![
        ("HOME", place("")),
        ("MYSQL_HOME", place("")),
        ("MYSQL_HOST", TWIN.to_string()),
        ("MYSQL_TCP_PORT", "1".into()),
        ("MYSQL_UNIX_PORT", place("no.sock")),
        ("MYSQL_PWD", "wrong".into()),
        ("MYSQL_GROUP_SUFFIX", "_other".into()),
        ("MYSQL_TEST_LOGIN_FILE", place(".mylogin.cnf")),
        ("LANG", "de_DE.UTF-8".into()),
    ];
    let of_source = Changes {
        lines: lines.clone(),
        path_first: path_first.clone(),
        environment: environment.clone(),
        ..Changes::default()
    };
    lines.push(("mysql", format!("port = {}", forwarder.address.port())));
    let of_target = Changes {
        lines,
        path_first,
        environment,
        ..Changes::default()
    };
    let pair = Pair::<K>::with(cnf, cnf, &of_source, &of_target);
    let (source_db, target_db) = (&pair.source_db, &pair.target_db);
    forwarder.point(&target_db.host, target_db.port);
    let twin = twin_of(target_db);
    trap(&home.0, source_db, target_db);
    by_statement(target_db, Some(&twin));
    let before = (source_db.checksums(), twin.checksums());
    let on = || std::fs::write(&switch, format!("{TWIN} {}\n", twin.port)).expect("switch");
    let off = || std::fs::remove_file(&switch).expect("switch");
    let unharmed = || {
        let own = |c: &[String]| -> Vec<String> {
            c.iter().filter(|t| !t.contains("ticks")).cloned().collect()
        };
        assert_eq!(own(&source_db.checksums()), own(&before.0), "the source");
        assert_eq!(twin.checksums(), before.1, "the other server");
        pair.assert_unchanged();
    };

    let mut id = 0;
    if methods.contains(&"Mydumper") {
        // mariadb-backup, which has no init command either, on the source.
        id += 1;
        let copy = Player {
            method: "Xtrabackup",
            ..pair.seed(id)
        };
        copy.prepare();
        on();
        copy.start_backup();
        let state = copy.poll(&pair.source, "Backup");
        let said = format!(
            "mariadb-backup reached another server than MySQL at {}:{}",
            source_db.host, source_db.port
        );
        assert_eq!(state["Status"], "Error", "{state}");
        assert!(state.to_string().contains(&said), "{said}: {state}");
        pair.must_fail(id, "Backup");
        off();
        unharmed();
    }
    for method in methods.iter().copied() {
        let mut seed = || {
            id += 1;
            Player {
                method,
                ..pair.seed(id)
            }
        };
        let reached = |details: &str, server: &str| {
            let said = format!("reached another server than MySQL at {server}");
            assert!(details.contains(&said), "{method}: {said}: {details}");
        };

        let dump = seed();
        dump.prepare();
        on();
        dump.start_backup();
        let details = pair.must_fail(dump.id, "Backup");
        reached(&details, &format!("{}:{}", source_db.host, source_db.port));
        off();
        unharmed();

        let load = seed();
        load.prepare();
        load.backup();
        on();
        load.start_restore();
        let details = pair.must_fail(load.id, "Restore");
        reached(&details, &forwarder.address.to_string());
        off();
        if method == "Mysqldump" {
            unharmed(); // before the load begins
        }
        assert_eq!(twin.checksums(), before.1, "{method}");

        let moved = seed();
        moved.prepare();
        moved.backup();
        forwarder.point(TWIN, twin.port);
        moved.start_restore();
        let details = pair.must_fail(moved.id, "Restore");
        assert!(
            details.contains("another server than the one that Prepare checked"),
            "{method}: {details}"
        );
        forwarder.point(&target_db.host, target_db.port);
        assert_eq!(twin.checksums(), before.1, "{method}");
        if method == "Mysqldump" {
            unharmed();
        }
    }
    // Nothing of all this is in the way of a seed: login path, environment, forwarder.
    pair.must_seed(id + 1);
    assert_eq!(twin.checksums(), before.1);
}

#[test]
fn tools_that_go_astray_mariadb() {
    astray::<MariadbKind>(
        &[
            "mariadb-dump",
            "mariadb",
            "mydumper",
            "myloader",
            "mariadb-backup",
        ],
        &["Mysqldump", "Mydumper"],
        "",
    );
}

#[test]
fn tools_that_go_astray_mysql() {
    astray::<MysqldKind>(
        &["mysqldump", "mysql"],
        &["Mysqldump"],
        "gtid_mode=OFF\nenforce_gtid_consistency=OFF\n",
    );
}

/// Real sudo gives a tool the HOME of root and none of the agent's environment, so a login path file there is read: it leads to the
/// source, with the agent's account.
#[test]
fn a_login_path_of_root_through_sudo() {
    let home = Scratch::new("home");
    let sudo = Sudo::of_root(&home.0);
    let changes = Changes {
        lines: vec![("common", "exec-with-sudo = true".into())],
        path_first: Some(sudo.dir.clone()),
        environment: vec![("HOME", home.0.display().to_string())],
        ..Changes::default()
    };
    let cnf = "gtid_mode=OFF\nenforce_gtid_consistency=OFF\n";
    let pair = Pair::<MysqldKind>::with(cnf, cnf, &changes, &changes);
    let (source_db, target_db) = (&pair.source_db, &pair.target_db);
    trap(&home.0, source_db, target_db);
    // It is one through sudo, and only without the option.
    let port = |option: Option<&str>| {
        let mut client = Command::new(sudo.dir.join("sudo"));
        client
            .args(["-n", "--"])
            .arg(MysqldKind::rig().join(MysqldKind::TOOLS).join("mysql"))
            .arg(format!(
                "--defaults-file={}",
                home.0.join("client.cnf").display()
            ))
            .args(option)
            .args(["-BNe", "SELECT @@port"])
            .env("MYSQL_TEST_LOGIN_FILE", "/dev/null/no-login-path");
        let out = client.output().expect("sudo");
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    };
    assert_eq!(port(None), source_db.port.to_string(), "the trap works");
    assert_eq!(port(Some("--no-login-paths")), target_db.port.to_string());
    source_db.sql("SET GLOBAL event_scheduler = OFF");
    source_db.sql("CREATE TABLE shop.of_source (a INT PRIMARY KEY) ENGINE=InnoDB");
    source_db.sql("INSERT INTO shop.of_source VALUES (1), (2), (3)");
    let before = source_db.checksums();
    let end = || {
        let row: Option<mysql::Row> = source_db
            .root()
            .query_first("SHOW BINARY LOG STATUS")
            .expect("SHOW BINARY LOG STATUS");
        let row = row.expect("a binary log");
        let at: (Option<String>, Option<u64>) = (row.get("File"), row.get("Position"));
        at
    };
    let at = end();
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.restore();
    let own = |db: &Server<MysqldKind>| -> Vec<String> {
        let all = db.checksums().into_iter();
        all.filter(|t| t.starts_with("shop.")).collect()
    };
    assert_eq!(own(target_db), own(source_db), "the dump is in the target");
    assert_eq!(target_db.value("SELECT COUNT(*) FROM shop.of_source"), "3");
    assert_eq!(source_db.checksums(), before, "the source keeps its rows");
    assert_eq!(end(), at, "nothing was written there");
    seed.cleanup();
}

#[test]
fn the_first_statement_on_mysql_5_6() {
    let db = Server::<Mysql56Kind>::start("127.0.0.1", "");
    by_statement(&db, None);
}
