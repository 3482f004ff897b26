//! Seeds by CLONE between MySQL 9.7 servers, in place and by way of the staging directory, through HTTP and by the `seed` command,
//! while a writer inserts on the source.

use super::by_command;
use crate::support::agent::Changes;
use crate::support::mysqld::{Mysqld, MysqldKind};
use crate::support::pair::{Pair, servers};
use crate::support::server::{AGENT_PASSWORD, REPL_PASSWORD};
use crate::support::writer::Writer;
use crate::support::{nothing_left, wait_for};
use std::time::Duration;

/// The source has the plugin by its my.cnf; on the target it is installed by the agent.
const PLUGIN: &str = "plugin_load_add=mysql_clone.so\n";

/// How room is made on the target.
fn swap(setting: &str) -> Vec<(&'static str, String)> {
    vec![
        ("clone_plugin", "enabled = true".into()),
        ("clone_plugin", "clone-max-network-bandwidth = 500".into()),
        ("mysql", format!("datadir-swap = {setting:?}")),
    ]
}

/// What CLONE needs besides the usual account.
fn grant(db: &Mysqld) {
    db.unlogged("GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%'");
    db.unlogged("GRANT INSERT ON mysql.plugin TO 'agent'@'%'");
}

fn fill(source: &Mysqld, target: &Mysqld) {
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id INT NOT NULL, t VARCHAR(300)) ENGINE=InnoDB",
        "INSERT INTO shop.items VALUES (0, SHA2(0, 512))",
        "CREATE TABLE shop.floats (id INT PRIMARY KEY, f FLOAT) ENGINE=InnoDB",
        "INSERT INTO shop.floats VALUES (1, 16777216), (2, 1234567)",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    ] {
        source.sql(statement);
    }
    for doubling in 0..12 {
        source.sql(&format!(
            "INSERT INTO shop.items SELECT id + {n}, SHA2(id + {n}, 512) FROM shop.items",
            n = 1 << doubling
        ));
    }
    target.sql("CREATE DATABASE precious");
    target.sql("CREATE TABLE precious.t ENGINE=InnoDB AS SELECT 'mine' AS v");
    target.sql("SET PERSIST max_connections = 77");
    target.sql("SET GLOBAL super_read_only = ON");
}

/// From now on it is restarted when it asks for that.
fn supervise(db: &Mysqld) {
    std::fs::write(db.dir.join("supervised"), "").expect("mark");
    db.down();
    db.up();
}

/// The target is a replica of its own: the source's data and accounts, its own settings and identity, no event at work.
fn assert_replica(source: &Mysqld, target: &Mysqld) {
    for thread in ["Replica_IO_Running", "Replica_SQL_Running"] {
        assert_eq!(target.replica_status(thread), "Yes");
    }
    assert_eq!(target.sql("SHOW REPLICA STATUS").len(), 1, "one channel");
    assert_eq!(
        target.sql("SELECT STATUS FROM information_schema.EVENTS"),
        ["REPLICA_SIDE_DISABLED"]
    );
    let settings = "SELECT CONCAT_WS(' ', @@super_read_only, @@read_only, @@event_scheduler, @@max_connections, \
                    @@clone_max_network_bandwidth, @@clone_valid_donor_list IS NULL)";
    assert_eq!(target.value(settings), "1 1 ON 77 0 1", "as before");
    assert_eq!(
        target.sql("SELECT VARIABLE_NAME FROM performance_schema.persisted_variables"),
        ["max_connections"]
    );
    for own in ["@@server_uuid", "@@server_id"] {
        let of = |db: &Mysqld| db.value(&format!("SELECT {own}"));
        assert_ne!(of(target), of(source));
    }
    let executed = target.value("SELECT @@gtid_executed");
    assert!(
        !executed.contains(&target.value("SELECT @@server_uuid")),
        "errant: {executed}"
    );
    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
    assert_eq!(target.value(rows), source.value(rows));
    assert!(target.sql("SHOW DATABASES LIKE 'precious'").is_empty());
    let floats = "SELECT GROUP_CONCAT(f + 0e0 ORDER BY id) FROM shop.floats";
    assert_eq!(target.value(floats), "16777216,1234567");
    for dir in [target.datadir(), target.dir.clone()] {
        nothing_left(&dir, |n| n.contains("orchestrator"));
    }
}

struct Case {
    gtid: bool,
    swap: &'static str,
    supervised: bool,
    /// More lines for the target's my.cnf.
    target: &'static str,
}

fn by_http(case: &Case) {
    let (source_db, target_db) = servers::<MysqldKind>(PLUGIN, case.target);
    grant(&source_db);
    grant(&target_db);
    if case.supervised {
        supervise(&target_db);
    }
    for db in [&source_db, &target_db] {
        db.revoke(&["logical"]);
    }
    fill(&source_db, &target_db);
    let changes = Changes {
        lines: swap(case.swap),
        ..Changes::default()
    };
    let pair = Pair::beside(source_db, target_db, "ClonePlugin", &changes, &changes);
    let Pair {
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    player.prepare();
    assert_eq!(
        target_db.value("SELECT @@super_read_only"),
        "1",
        "as before"
    );
    target_db.sql("SET GLOBAL clone_ddl_timeout = 17");
    player.backup();
    player.start_restore();
    let state = player.must_complete(target, "Restore");
    println!("{}", state["Details"]);
    player.connect(case.gtid);
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);
    assert_replica(source_db, target_db);
    let mut files = vec![
        target.dir.join("stdout"),
        target.dir.join("state/seeds.json"),
    ];
    if case.target.contains("general_log") {
        files.push(target_db.datadir().join("general.log"));
    }
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("CLONE") || text.contains("ClonePlugin"));
        assert!(!text.contains(AGENT_PASSWORD), "{}", file.display());
    }
    if case.swap == "never" {
        let timeout = target_db.value("SELECT @@clone_ddl_timeout");
        assert_eq!(timeout, "17", "as it was before the restart");
    }
}

#[test]
fn by_http_in_place_and_position() {
    by_http(&Case {
        gtid: false,
        swap: "never",
        supervised: false,
        target: "", // the agent installs the plugin, again after the CLONE
    });
}

#[test]
fn by_http_supervised_and_gtid() {
    by_http(&Case {
        gtid: true,
        swap: "never",
        supervised: true,
        target: "plugin_load_add=mysql_clone.so\ngeneral_log=ON\ngeneral_log_file=general.log\n",
    });
}

#[test]
fn by_http_staged_and_gtid() {
    by_http(&Case {
        gtid: true,
        swap: "always",
        supervised: false,
        target: PLUGIN,
    });
}

/// Lets `source` replicate from `up`, from which nothing is missing on it.
fn replicate(source: &Mysqld, up: &Mysqld) {
    for db in [source, up] {
        db.sql("RESET BINARY LOGS AND GTIDS");
    }
    source.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='{REPL_PASSWORD}', \
         GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1",
        up.host, up.port
    ));
    source.sql("START REPLICA");
}

/// `upstream`: the source is a replica of another server, to which the writer writes.
fn by_command(replication: &str, setting: &str, supervised: bool, upstream: bool) {
    let up = upstream.then(|| Mysqld::start("127.0.0.4", ""));
    let pair = by_command::Pair::<MysqldKind>::start_with(PLUGIN, &swap(setting));
    let (source, target) = (&pair.source_db, &pair.target_db);
    for db in [source, target] {
        grant(db);
        db.unlogged("GRANT PERSIST_RO_VARIABLES_ADMIN ON *.* TO 'agent'@'%'");
    }
    if supervised {
        supervise(target);
    }
    let uuid = up.as_ref().map(|up| up.value("SELECT @@server_uuid"));
    if let Some(up) = &up {
        replicate(source, up);
    }
    let writer = Writer::start(up.as_ref().unwrap_or(source));
    wait_for("rows arrive at the source", Duration::from_secs(30), || {
        let there = source.sql("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'running' AND TABLE_NAME = 'numbers'");
        (!there.is_empty()).then_some(())
    });
    fill(source, target);
    let dry = pair.seed(&["--dry-run"]);
    let text = String::from_utf8_lossy(&dry.stdout);
    assert!(
        text.contains("Preflight: method ClonePlugin: usable"),
        "{text}"
    );
    // By itself it is chosen before Mysqldump.
    let out = pair.seed(&["--verify", "--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("cloned from 127.0.0.1"), "{text}");
    assert!(
        text.contains("Verification: the data are equal in "),
        "{text}"
    );
    writer.write_more();
    writer.stop_and_prove(target);
    assert_replica(source, target);
    assert_eq!(
        target.replica_status("Source_Port"),
        source.port.to_string()
    );
    if let Some(uuid) = uuid {
        assert!(target.value("SELECT @@gtid_executed").contains(&uuid));
    }
}

/// The copy of a replica would start the source's channel by itself.
#[test]
fn by_command_in_place_and_gtid_from_a_replica() {
    by_command("gtid", "never", false, true);
}

#[test]
fn by_command_supervised_and_position() {
    by_command("position", "never", true, false);
}

#[test]
fn by_command_staged_and_position_from_a_replica() {
    by_command("position", "auto", false, true);
}

/// A source that takes connections by TLS only: it is checked by its own agent, and CLONE verifies it.
#[test]
fn a_source_that_requires_tls() {
    let (source_db, target_db) = servers::<MysqldKind>("require_secure_transport=ON\n", "");
    grant(&source_db);
    grant(&target_db);
    fill(&source_db, &target_db);
    let mut lines = swap("auto");
    let socket = ("mysql", format!("socket = {:?}", source_db.socket()));
    let of_source = Changes {
        lines: [lines.clone(), vec![socket]].concat(),
        ..Changes::default()
    };
    let ca = source_db.datadir().join("ca.pem");
    lines.push(("clone_plugin", format!("clone-ssl-ca = {ca:?}")));
    let changes = Changes {
        lines,
        ..Changes::default()
    };
    let pair = Pair::beside(source_db, target_db, "ClonePlugin", &of_source, &changes);
    let Pair {
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    player.prepare();
    player.backup();
    player.restore();
    player.connect(false);
    for statement in [
        "STOP REPLICA",
        "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1",
        "START REPLICA",
    ] {
        target_db.sql(statement);
    }
    player.cleanup();
    writer.write_more();
    writer.stop_and_prove(target_db);
    assert!(
        target.log().contains("takes connections by TLS only"),
        "it was not asked without TLS"
    );
}
