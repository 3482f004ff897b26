//! Mydumper seeds between real servers, with the mydumper 0.10.1 of Debian 12.

use super::by_command;
use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::server::Kind;
use crate::support::wait_for;
use crate::support::writer::Writer;
use mysql::prelude::Queryable;
use std::time::Duration;

fn enabled() -> Changes {
    Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        ..Changes::default()
    }
}

/// As orchestrator does it, while a writer inserts on the source.
fn by_http(gtid: bool) {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    source_db.sql("CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))");
    source_db.sql("CREATE TABLE shop.filler ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM shop.seq_1_to_50000");
    let pair = Pair::beside(source_db, target_db, "Mydumper", &enabled(), &enabled());
    let Pair {
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let before = target_db.value("SELECT @@global.sql_mode");
    let writer = Writer::start(source_db);
    let player = pair.seed(1);
    player.whole_seed(gtid);
    let written = writer.written();
    let n = writer.stop_and_prove(target_db);
    assert!(n >= written);
    assert_eq!(target_db.replica_status("Slave_SQL_Running"), "Yes");
    assert_eq!(target_db.replica_status("Slave_IO_Running"), "Yes");
    // No transaction of the target's own: every GTID in its binary log is the source's.
    let own = target_db.value("SELECT @@server_id");
    let log = target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "errant transactions: {log}"
    );
    assert_eq!(
        target_db.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'"),
        "SLAVESIDE_DISABLED"
    );
    assert_eq!(target_db.value("SELECT @@event_scheduler"), "ON");
    assert_eq!(
        target_db.value("SELECT @@global.sql_mode"),
        before,
        "sql_mode is restored"
    );
    let left: Vec<_> = std::fs::read_dir(target.dir.join("backup"))
        .expect("backup-dir")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.is_empty(), "cleaned up: {left:?}");
}

#[test]
fn mydumper_by_position() {
    by_http(false);
}

#[test]
fn mydumper_by_gtid() {
    by_http(true);
}

/// Without an orchestrator; Mydumper is chosen because it is faster than Mysqldump.
fn by_command(replication: &str, using_gtid: &str) {
    let enabled = [("mydumper", "enabled = true".to_string())];
    let pair = by_command::Pair::<MariadbKind>::start_with("", &enabled);
    pair.source_db.sql("CREATE DATABASE shop");
    pair.source_db
        .sql("CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB");
    pair.source_db.sql(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    );
    // A version that ends its snapshot to lock this one would copy rows of the writer twice.
    pair.source_db
        .sql("CREATE TABLE shop.isam ENGINE=MyISAM AS SELECT seq AS id FROM shop.seq_1_to_5000");
    pair.target_db.sql("SET GLOBAL read_only = ON");
    let dry = pair.seed(&["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    let writer = Writer::start(&pair.source_db);
    let out = pair.seed(&["--verify", "--replication", replication]);
    assert_eq!(out.status.code(), Some(0));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.contains("Mydumper") && text.contains("Replication: IO thread Yes, SQL thread Yes"),
        "{text}"
    );
    writer.stop_and_prove(&pair.target_db);
    assert_eq!(pair.target_db.replica_status("Using_Gtid"), using_gtid);
    assert_eq!(pair.target_db.replica_status("Slave_IO_Running"), "Yes");
    assert_eq!(pair.target_db.value("SELECT @@read_only"), "1", "as before");
    let own = pair.target_db.value("SELECT @@server_id");
    let log = pair.target_db.value("SELECT @@gtid_binlog_state");
    assert!(
        !log.split(',')
            .any(|g| g.split('-').nth(1) == Some(own.as_str())),
        "errant transactions: {log}"
    );
}

#[test]
fn mydumper_by_command_and_gtid() {
    by_command("auto", "Slave_Pos");
}

#[test]
fn mydumper_by_command_and_position() {
    by_command("position", "No");
}

fn both_of_version(fakes: &Fakes, version: &str, script: &str) {
    for tool in ["mydumper", "myloader"] {
        fakes.put_of_version(tool, version, script);
    }
}

/// mydumper 0.10 ends with 0 against MySQL 9.7 and writes no coordinates; newer versions leave out or change some contents. All of it
/// is known before anything is dumped or loaded: the tool that says that it is 1.0.1 is never executed.
#[test]
fn refused_on_mysql() {
    let fakes = Fakes::new();
    for tool in ["mydumper", "myloader"] {
        fakes.put(tool, "exec \"$REAL\" \"$@\"");
    }
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::<MysqldKind>::by_mydumper("", "", &changes);
    let text = pair.backup_fails(1);
    assert!(
        text.contains("no binlog coordinates")
            && text.contains("install a newer one that is supported, such as 1.0.1"),
        "{text}"
    );
    both_of_version(&fakes, "v0.19.3-3", "exit 9");
    let text = pair.backup_fails(2);
    assert!(
        text.contains("0.19.3-3 is not supported for MySQL"),
        "{text}"
    );
    both_of_version(&fakes, "v1.0.1-3", "exit 9");
    for (n, (create, named, remove)) in (3..).zip([
        (
            "SET SESSION sql_generate_invisible_primary_key = ON; CREATE TABLE shop.without_key (a INT)",
            "shop.without_key.my_row_id",
            "DROP TABLE shop.without_key",
        ),
        (
            "CREATE TABLE shop.hidden (id INT PRIMARY KEY, secret INT INVISIBLE DEFAULT 7)",
            "shop.hidden.secret",
            "DROP TABLE shop.hidden",
        ),
        (
            "CREATE TABLE shop.hidden (id INT PRIMARY KEY, at DATETIME DEFAULT CURRENT_TIMESTAMP INVISIBLE)",
            "shop.hidden.at",
            "DROP TABLE shop.hidden",
        ),
        ("CREATE DATABASE `caf\u{e9}`", "caf?", "DROP DATABASE `caf\u{e9}`"),
        ("CREATE DATABASE `a``b`", "a`b", "DROP DATABASE `a``b`"),
        (
            "CREATE TABLE shop.`it's` (id INT PRIMARY KEY)",
            "shop.it's",
            "DROP TABLE shop.`it's`",
        ),
        (
            "SET SESSION sql_mode = ''; CREATE TABLE shop.kinds (k ENUM('a', '')); INSERT INTO shop.kinds VALUES ('z')",
            "shop.kinds",
            "DROP TABLE shop.kinds",
        ),
        (
            "CREATE TABLE shop.wide (a INT) CHARACTER SET utf16",
            "shop.wide (1 in all), and mydumper 1.0.1-3 cannot read their definitions",
            "DROP TABLE shop.wide",
        ),
        (
            "CREATE TABLE shop.isam (a INT) ENGINE=MyISAM",
            "shop.isam (1 in all), and mydumper 1.0.1-3 locks them in the sessions that hold its snapshot",
            "DROP TABLE shop.isam",
        ),
    ]) {
        let mut root = pair.source_db.root();
        for statement in create.split("; ") {
            root.query_drop(statement)
                .unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        let text = refusal(&pair, n);
        assert!(text.contains(named) && text.contains("use the seed method "), "{create}: {text}");
        root.query_drop(remove).expect(remove);
    }
    // What these rules are not about: nothing is found, and the tool is executed.
    for statement in [
        "CREATE TABLE shop.`t.dot` (id INT PRIMARY KEY, `a``b` INT, v INT AS (id + 1) VIRTUAL INVISIBLE)",
        "CREATE TABLE shop.`t-schema` (id INT PRIMARY KEY, e ENUM('a', ''))",
        "INSERT INTO shop.`t-schema` VALUES (1, ''), (2, NULL)",
    ] {
        pair.source_db.sql(statement);
    }
    let text = pair.backup_fails(20);
    assert!(text.contains("exit status 9"), "{text}");
    assert!(
        std::fs::read_dir(pair.target.dir.join("backup"))
            .expect("backup-dir")
            .next()
            .is_none()
    );
}

/// A seed is refused, at Prepare of the source or at Backup: Details of the stage that refuses.
fn refusal<K: Kind>(pair: &Pair<K>, id: i64) -> String {
    let seed = pair.seed(id);
    seed.start_prepare();
    seed.must_complete(&pair.target, "Prepare");
    let state = seed.poll(&pair.source, "Prepare");
    let details = state["Details"].as_str().expect("Details").to_string();
    if state["Status"] == "Error" {
        pair.target
            .call(&format!("/api/abort-seed-stage/{id}/Prepare"));
        pair.assert_unchanged();
        return details;
    }
    seed.start_backup();
    let details = pair.must_fail(id, "Backup");
    pair.assert_unchanged();
    details
}

/// Directories in the source's data directory that are not schemas, and what the refusal says of them.
pub fn refused_directories<K: Kind>(pair: &Pair<K>, id: i64, names: &[&str], remedy: &str) {
    let datadir = pair.source_db.datadir();
    for name in names {
        std::fs::create_dir(datadir.join(name)).expect("directory");
    }
    let text = refusal(pair, id);
    assert!(
        text.contains("directories in the data directory that are not schemas")
            && text.contains(remedy)
            && !text.contains("#mysql50#"),
        "{text}"
    );
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
        std::fs::remove_dir(datadir.join(name)).expect("directory");
    }
}

/// What 0.10.1 cannot copy is refused by name while the target is as it was.
fn refused_on_mariadb(pair: &Pair) {
    for (n, (create, named, remove)) in (1..).zip([
        (
            "CREATE TABLE shop.v (x INT) WITH SYSTEM VERSIONING",
            "shop.v",
            "DROP TABLE shop.v",
        ),
        (
            "CREATE TABLE shop.u (id INT PRIMARY KEY, u UUID)",
            "shop.u.u",
            "DROP TABLE shop.u",
        ),
        (
            "CREATE TABLE shop.u (id INT PRIMARY KEY, i INET6)",
            "shop.u.i",
            "DROP TABLE shop.u",
        ),
        (
            "CREATE TABLE shop.u (id INT PRIMARY KEY, i INET4)",
            "shop.u.i",
            "DROP TABLE shop.u",
        ),
        (
            "CREATE TABLE shop.h (id INT PRIMARY KEY, secret INT INVISIBLE DEFAULT 7)",
            "shop.h.secret",
            "DROP TABLE shop.h",
        ),
        (
            "CREATE TABLE shop.`held-schema` (id INT PRIMARY KEY)",
            "shop.held-schema",
            "DROP TABLE shop.`held-schema`",
        ),
        (
            "CREATE TABLE shop.`a.b` (id INT PRIMARY KEY)",
            "shop.a.b",
            "DROP TABLE shop.`a.b`",
        ),
        (
            "CREATE TABLE shop.`a/b` (id INT PRIMARY KEY)",
            "shop.a/b",
            "DROP TABLE shop.`a/b`",
        ),
        (
            "CREATE TABLE shop.`a``b` (id INT PRIMARY KEY)",
            "shop.a`b",
            "DROP TABLE shop.`a``b`",
        ),
        ("CREATE DATABASE `a.b`", "a.b", "DROP DATABASE `a.b`"),
        ("CREATE DATABASE `it's`", "it's", "DROP DATABASE `it's`"),
        (
            "CREATE TABLE shop.c (id INT PRIMARY KEY, `a``b` INT)",
            "shop.c.a`b",
            "DROP TABLE shop.c",
        ),
        (
            "CREATE TABLE shop.kinds ENGINE=InnoDB AS SELECT CAST(NULL AS INT) AS n WHERE FALSE; ALTER TABLE shop.kinds ADD k ENUM('a', ''); \
             SET SESSION sql_mode = ''; INSERT INTO shop.kinds VALUES (1, 'z')",
            "shop.kinds",
            "DROP TABLE shop.kinds",
        ),
        (
            "CREATE TABLE shop.members (e ENUM('\u{e4}', 'b') CHARACTER SET latin1)",
            "shop.members.e",
            "DROP TABLE shop.members",
        ),
        (
            "CREATE TABLE shop.preset (d VARCHAR(9) CHARACTER SET utf16 DEFAULT '\u{e4}')",
            "shop.preset.d",
            "DROP TABLE shop.preset",
        ),
    ]) {
        let mut root = pair.source_db.root();
        for statement in create.split("; ") {
            root.query_drop(statement)
                .unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        let text = refusal(pair, n);
        assert!(
            text.contains(named) && text.contains("use the seed method "),
            "{create}: {text}"
        );
        root.query_drop(remove).expect(remove);
    }
}

/// Objects that were created under different settings, and rows that a load could change: both servers have the same afterwards.
const SPECIAL: &[&str] = &[
    "CREATE DATABASE other CHARACTER SET latin1 COLLATE latin1_german1_ci COMMENT 'of the source'",
    // Sequences are created before the tables that need them, one of a later schema too.
    "CREATE SEQUENCE shop.zz_sequence START WITH 5",
    "CREATE SEQUENCE other.counter INCREMENT BY -3 MAXVALUE 100 START WITH 100 CYCLE",
    "CREATE TABLE shop.a_key (id INT NOT NULL DEFAULT NEXTVAL(shop.zz_sequence) PRIMARY KEY, n INT DEFAULT NEXTVAL(other.counter), v INT)",
    "INSERT INTO shop.a_key (v) VALUES (1), (2), (3)",
    // Each routine has the sql_mode, the character sets and the schema's collation of its time.
    "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'",
    "CREATE PROCEDURE other.ansi() SELECT 'x\\' || \"v\" FROM shop.\"a_key\"",
    "SET SESSION sql_mode = 'ORACLE'",
    "CREATE FUNCTION other.ora(a VARCHAR) RETURN VARCHAR AS BEGIN RETURN a || '!'; END",
    "CREATE PACKAGE other.pack AS FUNCTION f RETURN INT; END",
    "CREATE PACKAGE BODY other.pack AS FUNCTION f RETURN INT AS BEGIN RETURN 7; END; END",
    "SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION', NAMES latin1 COLLATE latin1_general_cs",
    "CREATE FUNCTION other.latin(a CHAR(9)) RETURNS CHAR(9) DETERMINISTIC RETURN CONCAT(a, 'caf\u{e9}')",
    "CREATE VIEW other.latin_view AS SELECT 'caf\u{e9}' AS word, v FROM shop.a_key",
    "SET SESSION sql_mode = DEFAULT, NAMES utf8mb4",
    "ALTER DATABASE other COLLATE latin1_spanish_ci",
    "CREATE FUNCTION other.`a $agent0$ b`() RETURNS INT DETERMINISTIC RETURN 1 /* $agent0$ ;; */",
    // Triggers of one table and event keep their order.
    "CREATE TABLE shop.log (n INT PRIMARY KEY AUTO_INCREMENT, w VARCHAR(9))",
    "CREATE TRIGGER shop.z_first BEFORE UPDATE ON shop.a_key FOR EACH ROW INSERT INTO shop.log (w) VALUES ('first')",
    "CREATE TRIGGER shop.a_second BEFORE UPDATE ON shop.a_key FOR EACH ROW INSERT INTO shop.log (w) VALUES ('second')",
    "CREATE TRIGGER shop.m_between BEFORE UPDATE ON shop.a_key FOR EACH ROW PRECEDES a_second INSERT INTO shop.log (w) VALUES ('between')",
    "SET SESSION time_zone = '+05:30'",
    "CREATE EVENT other.later ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO SET @x = 1",
    "SET SESSION time_zone = DEFAULT",
    // A view over a view of an account that the target does not have.
    "CREATE USER owner@localhost",
    "GRANT SELECT, EXECUTE ON *.* TO owner@localhost",
    "CREATE DEFINER=owner@localhost VIEW shop.z_base AS SELECT id, v FROM shop.a_key",
    "CREATE DEFINER=owner@localhost VIEW shop.a_top AS SELECT id FROM shop.z_base WHERE other.latin('x') <> ''",
    "GRANT EXECUTE ON FUNCTION other.latin TO owner@localhost",
    // Rows that only a session without certain checks takes.
    "CREATE TABLE shop.checked (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, p INT CHECK (p > 0), d DATE, t TIMESTAMP NULL)",
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', check_constraint_checks = 0",
    // Bytes that are no character, or the second way to write one.
    "CREATE TABLE shop.bytes (id INT PRIMARY KEY, s VARCHAR(9) CHARACTER SET sjis, c TEXT CHARACTER SET cp1251, u CHAR(3) CHARACTER SET ucs2)",
    "INSERT INTO shop.bytes VALUES (1, X'5C815F5C27', X'9827', X'D8005C27'), (2, X'815F', '', X'FFFF')",
    "INSERT INTO shop.checked VALUES (0, -1, '2021-02-31', '0000-00-00 00:00:00'), (7, 1, '2024-00-00', '2024-03-31 02:30:00')",
];

/// SHOW CREATE of the objects of [`SPECIAL`], as bytes, and a few values.
fn special(db: &Mariadb) -> Vec<String> {
    let mut conn = db.root();
    conn.query_drop("SET character_set_results = 'binary'")
        .expect("bytes");
    let mut out = Vec::new();
    for query in [
        "SHOW CREATE DATABASE other",
        "SHOW CREATE SEQUENCE shop.zz_sequence",
        "SHOW CREATE SEQUENCE other.counter",
        "SELECT next_not_cached_value, cycle_count FROM other.counter",
        "SHOW CREATE TABLE shop.a_key",
        "SHOW CREATE PROCEDURE other.ansi",
        "SHOW CREATE FUNCTION other.ora",
        "SHOW CREATE PACKAGE other.pack",
        "SHOW CREATE PACKAGE BODY other.pack",
        "SHOW CREATE FUNCTION other.latin",
        "SHOW CREATE FUNCTION other.`a $agent0$ b`",
        "SHOW CREATE VIEW other.latin_view",
        "SHOW CREATE VIEW shop.z_base",
        "SHOW CREATE VIEW shop.a_top",
        "SELECT TRIGGER_NAME, ACTION_ORDER, ACTION_STATEMENT, SQL_MODE FROM information_schema.TRIGGERS ORDER BY ACTION_ORDER",
        "SELECT name, starts, time_zone, sql_mode FROM mysql.event WHERE name = 'later'",
        "SELECT * FROM shop.a_key ORDER BY id",
        "SELECT * FROM shop.a_top ORDER BY id",
        "SELECT HEX(word), v FROM other.latin_view ORDER BY v",
        "SELECT id, p, CAST(d AS CHAR), t FROM shop.checked ORDER BY id",
        "SELECT id, HEX(s), HEX(c), HEX(u) FROM shop.bytes ORDER BY id",
        "SELECT User, Routine_name, Proc_priv FROM mysql.procs_priv ORDER BY 1, 2",
    ] {
        let rows: Vec<mysql::Row> = conn.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert!(!rows.is_empty(), "{query}");
        out.extend(
            rows.into_iter()
                .map(|r| format!("{query}: {:?}", r.unwrap())),
        );
    }
    out
}

#[test]
fn refused_or_right() {
    let pair = Pair::mydumper("", "", &Changes::default());
    refused_on_mariadb(&pair);
    refused_directories(&pair, 40, &["lost+found", ".hidden"], "set ignore_db_dirs ");
    pair.source_db
        .sql("SET GLOBAL log_bin_trust_function_creators = ON");
    let mut root = pair.source_db.root();
    for statement in SPECIAL {
        root.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    pair.source_db.sql("SET GLOBAL event_scheduler = OFF");
    // What is there already has other options, or is something else.
    for statement in [
        "CREATE DATABASE other CHARACTER SET utf8mb4 COMMENT 'of the target'",
        "CREATE TABLE other.counter (id INT)",
        "CREATE TABLE shop.a_top (id INT)",
        "CREATE PROCEDURE other.ansi() SELECT 1",
    ] {
        pair.target_db.sql(statement);
    }
    pair.must_seed(50);
    let (wanted, found) = (special(&pair.source_db), special(&pair.target_db));
    for (wanted, found) in wanted.iter().zip(&found) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len());
    // A value that a column cannot take is an error, with the statement's own words: here the target's server has a smaller type.
    pair.source_db
        .sql("CREATE TABLE shop.zz (id INT PRIMARY KEY, n INT)");
    pair.source_db.sql("INSERT INTO shop.zz VALUES (1, 70000)");
    let seed = pair.seed(51);
    seed.prepare();
    seed.backup();
    let schema = pair
        .target
        .dir
        .join("backup/orchestrator_agent_backup/shop.zz-schema.sql");
    let text = std::fs::read_to_string(&schema).expect("schema file");
    let smaller = text.replace("`n` int(11)", "`n` dec(4) ");
    assert_ne!(smaller, text);
    std::fs::write(&schema, smaller).expect("schema file");
    seed.start_restore();
    let text = pair.must_fail(51, "Restore");
    assert!(
        text.contains("shop.zz") && text.contains("Out of range value for column 'n'"),
        "{text}"
    );
    super::definitions::assert_does_not_repeat(&text);
}

/// Objects that change while a dump is started, a version that was never tried, and a tool that dies.
#[test]
fn objects_versions_and_signals() {
    let fakes = Fakes::new();
    let changes = Changes {
        lines: vec![("common", "seed-idle-timeout = \"8s\"".to_string())],
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let mut pair = Pair::mydumper("", "", &changes);
    let (here, go) = (fakes.dir.join("here"), fakes.dir.join("go"));
    fakes.put(
        "mydumper",
        &format!(
            "touch '{}'; while [ ! -e '{}' ]; do sleep 0.02; done; exec \"$REAL\" \"$@\"",
            here.display(),
            go.display()
        ),
    );
    pair.source_db.sql("CREATE PROCEDURE shop.p() SELECT 1");
    for (n, (statement, named)) in (1..).zip([
        (
            "ALTER PROCEDURE shop.p COMMENT 'changed'",
            "PROCEDURE shop.p",
        ),
        ("DROP PROCEDURE shop.p", "PROCEDURE shop.p"),
        (
            "CREATE VIEW shop.new AS SELECT 1 AS one",
            "VIEW (columns) shop.new",
        ),
        ("ALTER DATABASE shop COMMENT 'changed'", "SCHEMA shop"),
        (
            "CREATE USER late@localhost IDENTIFIED BY 'x'",
            "the rows of mysql.global_priv were changed",
        ),
        (
            "GRANT SELECT ON shop.* TO late@localhost",
            "the rows of mysql.db were changed",
        ),
    ]) {
        let seed = pair.seed(n);
        seed.prepare();
        seed.start_backup();
        wait_for("the tool is started", Duration::from_secs(20), || {
            here.exists().then_some(())
        });
        pair.source_db.sql(statement);
        std::fs::write(&go, "").expect("go");
        let text = pair.must_fail(n, "Backup");
        assert!(
            text.contains(named) && text.contains("while the dump was started"),
            "{statement}: {text}"
        );
        pair.assert_unchanged();
        for file in [&here, &go] {
            std::fs::remove_file(file).expect("file");
        }
    }
    let line = r#"{"event":"process_notice","level":"INFO","message":"the last words"}"#;
    fakes.put("mydumper", &format!("echo '{line}' >&2; kill -SEGV $$"));
    let text = pair.backup_fails(10);
    assert!(
        text.contains("signal")
            && text.contains("the last words")
            && !text.contains("process_notice"),
        "{text}"
    );
    // A crash in the middle is not the end of the seed, nor is a tool that waits for itself.
    let once = fakes.dir.join("once");
    for (n, fault, said) in [
        (11, "kill -SEGV $$", "signal"),
        (12, "sleep 1000", "has made no progress for 8 s"),
        (
            13,
            "echo '** (mydumper:7): CRITICAL **: 21:48:28.508: Something very bad happened!' >&2; exit 1",
            "very bad",
        ),
    ] {
        let script = format!(
            "if [ ! -e '{0}' ]; then : >'{0}'; {fault}; fi; exec \"$REAL\" \"$@\"",
            once.display()
        );
        fakes.put("mydumper", &script);
        pair.must_seed(n);
        std::fs::remove_file(&once).expect("it was called");
        let log = pair.target.log();
        let mut again = log.lines().filter(|l| l.ends_with("dumping again"));
        assert!(
            again.next_back().is_some_and(|l| l.contains(said)),
            "{said}"
        );
    }
    both_of_version(&fakes, "v0.12.7-3", "exec \"$REAL\" \"$@\"");
    let refused = |pair: &Pair| {
        wait_for(
            "the tool's version is seen",
            Duration::from_secs(30),
            || {
                let data = pair.target.json("/api/get-agent-data");
                let text = data["UnavailableSeedMethods"]["Mydumper"].to_string();
                text.contains("0.12.7-3").then_some(text)
            },
        )
    };
    let text = refused(&pair);
    assert!(
        text.contains("mydumper 0.12.7-3 is not supported") && text.contains("any-version = true"),
        "{text}"
    );
    let conf = pair.target.dir.join("agent.conf");
    let text = std::fs::read_to_string(&conf).expect("configuration");
    let text = text.replace("[mydumper]\n", "[mydumper]\nany-version = true\n");
    std::fs::write(&conf, text).expect("configuration");
    pair.target.terminate();
    pair.target.launch();
    pair.target.wait_ready();
    pair.target.wait_looked(true);
    let data = pair.target.json("/api/get-agent-data");
    assert!(
        data["AvailiableSeedMethods"]["Mydumper"].is_object(),
        "{data}"
    );
}

/// Rows that a server changes as they come in, unless its session says otherwise; a table that the target has in another form;
/// a view of a function; and all of it through the target's socket.
#[test]
fn zeros_views_and_a_socket() {
    let mut pair = Pair::mydumper("", "", &Changes::default());
    let socket = pair.target_db.datadir().join("../run/mysql.sock");
    let conf = pair.target.dir.join("agent.conf");
    let text = std::fs::read_to_string(&conf).expect("configuration");
    let text = text.replace("[mysql]\n", &format!("[mysql]\nsocket = {socket:?}\n"));
    std::fs::write(&conf, text).expect("configuration");
    pair.target.terminate();
    pair.target.launch();
    pair.target.wait_ready();
    let mut root = pair.source_db.root();
    for statement in [
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        "CREATE TABLE shop.zero (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, d DATE, t DATETIME NOT NULL) ENGINE=InnoDB",
        "INSERT INTO shop.zero VALUES (0, '0000-00-00', '0000-00-00 00:00:00'), (7, '2024-00-01', '2024-02-03 04:05:06')",
        "SET SESSION sql_mode = DEFAULT",
        "SET GLOBAL log_bin_trust_function_creators = ON",
        "CREATE FUNCTION shop.twice(x INT) RETURNS INT RETURN 2 * x",
        "CREATE VIEW shop.a_view AS SELECT id, shop.twice(id) AS two FROM shop.zero",
    ] {
        root.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    pair.target_db
        .sql("CREATE VIEW shop.zero AS SELECT 1 AS one");
    let modes = "SELECT CONCAT(@@global.sql_mode, ' ', @@global.log_bin_trust_function_creators)";
    let before = pair.target_db.value(modes);
    pair.must_seed(1);
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, d, t) ORDER BY id) FROM shop.zero";
    assert_eq!(
        pair.target_db.value(rows),
        "0 0000-00-00 0000-00-00 00:00:00,7 2024-00-01 2024-02-03 04:05:06"
    );
    let view = "SELECT GROUP_CONCAT(two ORDER BY two) FROM shop.a_view";
    assert_eq!(pair.target_db.value(view), "0,14");
    assert_eq!(pair.target_db.value(modes), before, "restored");
    // An abort finds the sessions of a tool that has no port.
    let hold = pair.held_load(2);
    let answer = pair.target.call("/api/abort-seed-stage/2/Restore");
    assert_eq!(answer, (200, "killed".to_string()), "8.5");
    pair.assert_nothing_left();
    drop(hold);
    pair.must_seed(3);
}
