//! What the files of tables need of the target: keys to encrypt them with, and the directories that they are in.

use super::by_command::Pair;
use crate::support::Scratch;
use crate::support::keyring::Keyring;
use crate::support::mysqld::MysqldKind;
use crate::support::player::Player;
use crate::support::server::{Kind, Server};
use crate::support::wait_for;
use mysql::prelude::Queryable;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn run<K: Kind>(db: &Server<K>, statements: &[&str]) {
    let mut conn = db.root();
    for statement in statements {
        conn.query_drop(*statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

fn restart_with<K: Kind>(db: &Server<K>, lines: &str) {
    let file = db.dir.join("my.cnf");
    let text = std::fs::read_to_string(&file).expect("my.cnf");
    std::fs::write(&file, text + lines).expect("my.cnf");
    db.down();
    db.up();
}

fn mode(dir: &Path, bits: u32) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(bits)).expect("mode");
}

/// `seed --dry-run` with this method ends with `code` and says these words.
fn dry_run<K: Kind>(pair: &Pair<K>, method: &str, code: i32, words: &[&str]) -> String {
    let out = pair.seed(&["--dry-run", "--force", "--method", method]);
    let text = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t).into_owned());
    let text = text.concat();
    assert_eq!(out.status.code(), Some(code), "{method}: {text}");
    for word in words {
        assert!(text.contains(word), "{method}: {word}: {text}");
    }
    text
}

fn player<'a, K: Kind>(pair: &'a Pair<K>, id: i64, method: &'static str) -> Player<'a, K> {
    Player {
        id,
        method,
        target: &pair.target,
        source: &pair.source,
        target_db: &pair.target_db,
        source_db: &pair.source_db,
    }
}

/// A Backup by Mysqldump that the target's agent refuses with these words before anything of the target has changed.
fn backup_refused<K: Kind>(pair: &Pair<K>, id: i64, words: &[&str]) {
    let seed = player(pair, id, "Mysqldump");
    seed.prepare();
    seed.start_backup();
    let state = seed.poll(&pair.target, "Backup");
    assert_eq!(state["Status"], "Error", "{state}");
    assert_said(&state["Details"], words);
    untouched(pair);
}

fn assert_said(details: &serde_json::Value, words: &[&str]) {
    let text = details.as_str().expect("Details");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

fn untouched<K: Kind>(pair: &Pair<K>) {
    let own = pair.target_db.value("SELECT v FROM precious.t");
    assert_eq!(own, "mine");
    let of_source = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'";
    assert_eq!(pair.target_db.value(of_source), "0");
}

/// A Prepare of the source that its agent refuses.
fn source_refused<K: Kind>(pair: &Pair<K>, id: i64, method: &'static str, words: &[&str]) {
    let seed = player(pair, id, method);
    Player::start(&pair.source, &format!("/api/prepare/{id}/{method}/Source"));
    let state = seed.poll(&pair.source, "Prepare");
    assert_eq!(state["Status"], "Error", "{state}");
    assert_said(&state["Details"], words);
}

#[test]
fn keys_and_directories_on_mysql() {
    let (keys, keys_of_target) = (Keyring::new(), Keyring::new());
    let elsewhere = Scratch::new("elsewhere");
    mode(&elsewhere.0, 0o777);
    let dir = elsewhere.0.display().to_string();
    let known = format!("innodb_directories={dir}\n");
    let clone = "plugin_load_add=mysql_clone.so\n";
    let enabled = [
        ("clone_plugin", "enabled = true".to_string()),
        ("mysql", "load-without-redo-log = true".to_string()),
    ];
    let pair = Pair::<MysqldKind>::of(&(keys.cnf() + &known + clone), clone, &enabled);
    let (source, target) = (&pair.source_db, &pair.target_db);
    for db in [source, target] {
        db.unlogged(
            "GRANT BACKUP_ADMIN, CLONE_ADMIN, INNODB_REDO_LOG_ENABLE ON *.* TO 'agent'@'%'",
        );
    }
    run(target, &["CREATE DATABASE precious"]);
    run(target, &["CREATE TABLE precious.t SELECT 'mine' AS v"]);
    run(
        source,
        &[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.locked (a INT PRIMARY KEY) ENCRYPTION='Y'",
            "INSERT INTO shop.locked VALUES (1), (2)",
            "CREATE DATABASE sealed DEFAULT ENCRYPTION='Y'",
            "CREATE TABLE sealed.plain (a INT PRIMARY KEY) ENCRYPTION='N'",
        ],
    );

    // Keys on the source only.
    let no_keys = "encrypted tables shop.locked: the target has no keys";
    let of_one_host = "encrypted tables shop.locked: the keys of one host";
    dry_run(&pair, "Mysqldump", 1, &[no_keys, "set up its keyring"]);
    dry_run(&pair, "ClonePlugin", 1, &[of_one_host, "ENCRYPTION='N'"]);
    dry_run(&pair, "auto", 1, &[no_keys, of_one_host]);
    backup_refused(&pair, 1, &[no_keys, "set up its keyring", "ENCRYPTION='N'"]);
    let words = ["shop/locked on this server is encrypted", "ENCRYPTION='N'"];
    source_refused(&pair, 2, "ClonePlugin", &words);
    // The remedy on the source; the schema's own option still wants keys for what will be created.
    run(source, &["ALTER TABLE shop.locked ENCRYPTION='N'"]);
    let sealed = "schemas with default encryption sealed: the target has no keys";
    let chosen = "Preflight: method ClonePlugin\n";
    dry_run(&pair, "auto", 0, &[sealed, "ENCRYPTION 'N'", chosen]);
    dry_run(&pair, "Mysqldump", 0, &[sealed]);
    run(source, &["ALTER DATABASE sealed ENCRYPTION 'N'"]);
    let text = dry_run(&pair, "Mysqldump", 0, &[]);
    assert!(!text.contains("sealed"), "{text}");
    run(
        source,
        &[
            "ALTER DATABASE sealed ENCRYPTION 'Y'",
            "ALTER TABLE shop.locked ENCRYPTION='Y'",
        ],
    );
    // The remedy on the target.
    restart_with(target, &keys_of_target.cnf());
    let passed_over = "method ClonePlugin is not used: encrypted tables shop.locked";
    let chosen = "Preflight: method Mysqldump\n";
    let text = dry_run(&pair, "auto", 0, &[passed_over, chosen]);
    assert!(!text.contains("sealed"), "{text}");

    // A directory: the privilege, then whether it is known, then whether it can be written to.
    let create = format!("CREATE TABLE shop.elsewhere (a INT PRIMARY KEY) DATA DIRECTORY='{dir}'");
    let parts = format!(
        "CREATE TABLE shop.parts (a INT PRIMARY KEY) PARTITION BY HASH (a) (PARTITION p0 DATA DIRECTORY='{dir}', PARTITION p1)"
    );
    let rows = "INSERT INTO shop.elsewhere VALUES (1), (2), (3)";
    run(source, &[&create, rows, &parts]);
    let both = format!("shop.elsewhere ({dir}/), shop.parts ({dir}/): ");
    let no_file = format!("tables with DATA DIRECTORY or INDEX DIRECTORY {both}the agent's");
    let unknown = format!("tables with DATA DIRECTORY {both}the target creates");
    let physical = format!("tables with DATA DIRECTORY or INDEX DIRECTORY {both}a physical copy");
    dry_run(&pair, "auto", 1, &[&no_file, &unknown, &physical]);
    backup_refused(&pair, 3, &[&no_file, "privilege FILE", &unknown]);
    target.unlogged("GRANT FILE ON *.* TO 'agent'@'%'"); // on the target is enough for this seed
    let text = dry_run(&pair, "Mysqldump", 1, &[&unknown, "innodb_directories"]);
    assert!(!text.contains("FILE on the target"), "{text}");
    backup_refused(&pair, 4, &[&unknown, "innodb_directories"]);
    restart_with(target, &known);
    dry_run(
        &pair,
        "auto",
        0,
        &["method ClonePlugin is not used", chosen],
    );
    mode(&elsewhere.0, 0o700);
    let denied = format!(
        "table shop.elsewhere of the source is in DATA DIRECTORY or INDEX DIRECTORY {dir}/"
    );
    backup_refused(&pair, 5, &[&denied, "may not write to"]);
    mode(&elsewhere.0, 0o777);

    // The encryption of schemas and tables is the source's, whatever is the target's default.
    for setting in [
        "default_table_encryption",
        "table_encryption_privilege_check",
    ] {
        run(target, &[&format!("SET GLOBAL {setting} = ON")]);
    }
    let seed = player(&pair, 6, "Mysqldump");
    seed.start_prepare();
    let state = seed.poll(&pair.target, "Prepare");
    assert_eq!(state["Status"], "Error", "{state}");
    assert_said(&state["Details"], &["TABLE_ENCRYPTION_ADMIN"]);
    untouched(&pair);
    seed.must_complete(&pair.source, "Prepare");
    target.unlogged("GRANT TABLE_ENCRYPTION_ADMIN ON *.* TO 'agent'@'%'");
    // The source's accounts come with the dump, and the load goes on with their privileges.
    source.unlogged("REVOKE INNODB_REDO_LOG_ENABLE ON *.* FROM 'agent'@'%'");
    let dynamic = "GRANT INNODB_REDO_LOG_ENABLE, TABLE_ENCRYPTION_ADMIN ON *.* TO `agent`@`%`";
    backup_refused(&pair, 11, &[&format!("on the source, {dynamic}")]);
    source.unlogged(dynamic);
    let seed = player(&pair, 7, "Mysqldump");
    seed.prepare();
    seed.backup();
    // Both servers are on this host: the files would be the same.
    run(source, &["DROP TABLE shop.elsewhere, shop.parts"]);
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    assert!(!text.contains("differ"), "{text}");
    for (query, wanted) in [
        ("SELECT COUNT(*) FROM shop.locked", "2"),
        ("SELECT COUNT(*) FROM shop.elsewhere", "3"),
        (
            "SELECT GROUP_CONCAT(NAME, ' ', ENCRYPTION ORDER BY NAME) FROM information_schema.INNODB_TABLESPACES WHERE NAME RLIKE \
             '^(sealed|shop)/'",
            "sealed/plain N,shop/elsewhere N,shop/locked Y,shop/parts#p#p0 N,shop/parts#p#p1 N",
        ),
        (
            "SELECT GROUP_CONCAT(SCHEMA_NAME, ' ', DEFAULT_ENCRYPTION ORDER BY SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE \
             SCHEMA_NAME IN ('sealed', 'shop')",
            "sealed YES,shop NO",
        ),
    ] {
        assert_eq!(target.value(query), wanted, "{query}");
    }
    assert!(elsewhere.0.join("shop/elsewhere.ibd").is_file());
    // What is created later is replicated, encrypted where the schema says so.
    seed.connect(true);
    run(source, &["CREATE TABLE sealed.later (a INT PRIMARY KEY)"]);
    let query =
        "SELECT ENCRYPTION FROM information_schema.INNODB_TABLESPACES WHERE NAME = 'sealed/later'";
    wait_for("the table arrives", Duration::from_secs(20), || {
        (target.value(query) == "Y").then_some(())
    });

    // The remedy on the source for physical methods.
    run(source, &[&create, rows, &parts]);
    let words = [
        &*format!("{dir}/shop/"),
        "outside its data directory",
        "NO_DIR_IN_CREATE",
    ];
    for table in ["shop.locked", "sealed.later"] {
        run(source, &[&format!("ALTER TABLE {table} ENCRYPTION='N'")]);
    }
    source_refused(&pair, 8, "ClonePlugin", &words);
    run(
        source,
        &[
            "SET SESSION sql_mode = 'NO_DIR_IN_CREATE'",
            "ALTER TABLE shop.elsewhere FORCE, ALGORITHM=COPY",
            "ALTER TABLE shop.parts FORCE, ALGORITHM=COPY",
        ],
    );
    let seed = player(&pair, 9, "ClonePlugin");
    Player::start(&pair.source, "/api/prepare/9/ClonePlugin/Source");
    seed.must_complete(&pair.source, "Prepare");
    assert_eq!(source.value("SELECT COUNT(*) FROM shop.elsewhere"), "3");
}
