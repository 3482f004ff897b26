//! A load that did not make what the source had: damage is done between the load and the comparison, by a client that does it after
//! the true one has ended.

use super::mydumper::refused_directories;
use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::{Mysql56Kind, MysqldKind};
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::server::Kind;
use crate::support::wait_for;
use std::time::Duration;

/// What is in schema `made`, on both families.
const OBJECTS: [&str; 14] = [
    "CREATE DATABASE made CHARACTER SET latin1",
    "CREATE TABLE made.t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, s VARCHAR(20) DEFAULT 'x', KEY k (n)) ENGINE=InnoDB COMMENT='AUTO_INCREMENT=5'",
    "INSERT INTO made.t (n) VALUES (1), (2)",
    "CREATE TABLE made.u (id INT PRIMARY KEY, t INT, CONSTRAINT ref FOREIGN KEY (t) REFERENCES made.t (id)) ENGINE=InnoDB",
    "CREATE TABLE made.parted (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3",
    "CREATE VIEW made.v AS SELECT id, n FROM made.t",
    "CREATE VIEW made.a AS SELECT id FROM made.v",
    "CREATE FUNCTION made.f(x INT) RETURNS INT DETERMINISTIC RETURN x + 1",
    "CREATE PROCEDURE made.p() SELECT 1",
    "CREATE TRIGGER made.first BEFORE INSERT ON made.t FOR EACH ROW SET NEW.s = 'a'",
    "CREATE TRIGGER made.second BEFORE INSERT ON made.t FOR EACH ROW SET NEW.s = 'b'",
    "CREATE EVENT made.e ON SCHEDULE EVERY 1 DAY DO SET @x = 1",
    "CREATE USER someone IDENTIFIED BY 'x'",
    "GRANT SELECT ON made.* TO someone",
];

/// Damage, and what is said of it; one item is done to one load. Rights are damaged where a load writes them.
type Damage = (&'static str, &'static [&'static str]);

const DAMAGES: [Damage; 3] = [
    (
        "ALTER TABLE made.t MODIFY n BIGINT; ALTER TABLE made.u DROP FOREIGN KEY ref; ALTER TABLE made.parted COALESCE PARTITION 1; \
         CREATE OR REPLACE VIEW made.v AS SELECT id, n + 1 AS n FROM made.t; \
         DROP FUNCTION made.f; SET sql_mode = 'ANSI_QUOTES'; CREATE FUNCTION made.f(x INT) RETURNS INT DETERMINISTIC RETURN x + 1; \
         SET sql_mode = DEFAULT; DROP TRIGGER made.first; CREATE TRIGGER made.first BEFORE INSERT ON made.t FOR EACH ROW SET NEW.s = 'a'; \
         ALTER EVENT made.e ON SCHEDULE EVERY 2 DAY; \
         SET NAMES latin1; DROP PROCEDURE made.p; CREATE PROCEDURE made.p() SELECT 1; \
         ALTER DATABASE made CHARACTER SET utf8mb4",
        &[
            "table made.t: column n is (",
            "table made.u: constraint ref is missing",
            "table made.parted: its partitioning differs",
            "view made.v: its statement differs",
            "function made.f: ",
            "sql_mode is ANSI_QUOTES and not ",
            "procedure made.p: character_set_client is latin1 and not ",
            "trigger made.first: ",
            "order is 2 and not 1",
            "trigger made.second: order is 1 and not 2",
            "event made.e: ",
            "interval_value is 2 and not 1",
            "schema made: character set is utf8mb4 and not latin1",
        ],
    ),
    (
        "ALTER TABLE made.t DROP KEY k; DROP TABLE made.parted; \
         CREATE OR REPLACE DEFINER=someone@'%' VIEW made.v AS SELECT id, n FROM made.t; \
         DROP PROCEDURE made.p; DROP TRIGGER made.first; DROP EVENT made.e; DELETE FROM mysql.db WHERE User = 'someone'",
        &[
            "table made.t: index k is missing",
            "table made.parted: it is missing",
            "view made.v: its definer is `someone`@`%` and not `root`@`localhost`",
            "procedure made.p: it is missing",
            "trigger made.first: it is missing",
            "trigger made.second: order is 1 and not 2",
            "event made.e: it is missing",
            "account someone@%: the row of mysql.db made is missing",
        ],
    ),
    (
        "ALTER TABLE made.t ALTER s SET DEFAULT 'y'; ALTER TABLE made.u COMMENT = 'x'; DROP VIEW made.v; \
         CREATE TRIGGER made.third AFTER DELETE ON made.t FOR EACH ROW SET @x = 1; ALTER TABLE made.parted ADD extra INT; \
         UPDATE mysql.db SET Insert_priv = 'Y' WHERE User = 'someone'",
        &[
            "table made.t: column s is (",
            "table made.u: one of its options differs",
            "table made.parted: column extra is not on the source",
            "view made.v: it is missing",
            "trigger made.third: the source has no such trigger on table t",
            "account someone@%: mysql.db made differs in column Insert_priv",
        ],
    ),
];

/// A new seed alone would fail the same way.
pub fn assert_does_not_repeat(text: &str) {
    let advice = "do not use them; correct the cause of this error, then run a new seed";
    assert!(text.ends_with(advice), "{text}");
    assert!(!text.contains("; run a new seed"), "{text}");
}

/// Each damage in a Restore of its own, of one dump: by a client that, after the true one has ended (in the last of `runs` that a
/// Restore has), executes what is in the file `damage`, as root.
fn damages_are_found<K: Kind>(start: impl FnOnce(&Changes) -> Pair<K>, client: &str, runs: u32) {
    damages_of(start, client, runs, &OBJECTS, &DAMAGES, |_| ());
}

fn damages_of<K: Kind>(
    start: impl FnOnce(&Changes) -> Pair<K>,
    client: &str,
    runs: u32,
    objects: &[&str],
    damages: &[Damage],
    before: impl FnOnce(&Pair<K>),
) {
    let fakes = Fakes::new();
    for tool in ["mydumper", "myloader"] {
        fakes.put(tool, "exec \"$REAL\" \"$@\"");
    }
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = start(&changes);
    for statement in objects {
        pair.source_db.sql(statement);
    }
    pair.source_db.sql("SET GLOBAL event_scheduler = OFF");
    let damage = fakes.dir.join("damage");
    fakes.put_of::<K>(
        client,
        &format!(
            "\"$REAL\" \"$@\" || exit\necho run >>'{0}.runs'; [ $(($(wc -l <'{0}.runs') % {runs})) = 0 ] || exit 0\n\
             [ ! -e '{0}' ] || '{1}' --no-defaults --default-character-set=utf8mb4 -uroot -S '{2}' <'{0}'",
            damage.display(),
            MariadbKind::rig().join("mdb/bin/mariadb").display(),
            pair.target_db.socket(),
        ),
    );
    before(&pair);
    let seed = pair.seed(2);
    seed.prepare();
    seed.backup();
    for (statements, words) in damages {
        std::fs::write(&damage, format!("SET sql_log_bin = 0;\n{statements};\n")).expect("damage");
        seed.start_restore();
        let text = pair.must_fail(2, "Restore");
        assert!(
            text.contains(" objects are not as they were on the source: "),
            "{text}"
        );
        for word in *words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_does_not_repeat(&text);
    }
    std::fs::remove_file(&damage).expect("damage");
    seed.restore();
    pair.assert_seeded();
}

#[test]
fn damage_is_found_by_mysqldump_on_mariadb() {
    damages_are_found::<MariadbKind>(|c| Pair::of("", "", c), "mariadb", 2);
}

#[test]
fn damage_is_found_by_mysqldump_on_mysql() {
    damages_are_found::<MysqldKind>(|c| Pair::of("", "", c), "mysql", 2);
}

#[test]
fn damage_is_found_by_mydumper() {
    damages_are_found::<MariadbKind>(
        |c| Pair::by_mydumper("", "", c),
        "mariadb",
        3, // scripts before the rows, of accounts, and after both; by mysqldump a check and the load
    );
}

/// MySQL 5.6 has one trigger for each event of a table, and the client of another version in the role of `mysql`.
const OLD_DAMAGE: Damage = (
    "ALTER TABLE made.t MODIFY n BIGINT; DROP VIEW made.a; \
     SET sql_mode = 'ANSI_QUOTES'; DROP FUNCTION made.f; CREATE FUNCTION made.f(x INT) RETURNS INT DETERMINISTIC RETURN x + 1; \
     SET sql_mode = DEFAULT; DROP TRIGGER made.first; CREATE TRIGGER made.first BEFORE INSERT ON made.t FOR EACH ROW SET NEW.s = 'c'; \
     DROP PROCEDURE made.p; ALTER EVENT made.e ON SCHEDULE EVERY 2 DAY",
    &[
        "table made.t: column n is (",
        "view made.a: it is missing",
        "function made.f: ",
        "sql_mode is ANSI_QUOTES and not ",
        "trigger made.first: ",
        "procedure made.p: it is missing",
        "interval_value is 2 and not 1",
    ],
);

#[test]
fn damage_is_found_by_mydumper_on_mysql56() {
    let once = |s: &&&str| !s.contains("TRIGGER made.second");
    let objects: Vec<&str> = OBJECTS.iter().filter(once).copied().collect();
    damages_of::<Mysql56Kind>(
        |c| Pair::by_mydumper("", "", c),
        "mysql",
        3,
        &objects,
        &[OLD_DAMAGE],
        |pair| refused_directories(pair, 1, &["lost+found"], "ignore_db_dir for each"),
    );
}

/// What changes while it is dumped is listed and fails nothing; so is what was made or dropped meanwhile.
#[test]
fn what_changes_during_the_dump_is_listed() {
    let fakes = Fakes::new();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::start_with("", "", &changes);
    for statement in OBJECTS {
        pair.source_db.sql(statement);
    }
    let ddl = "ALTER TABLE made.t ADD later INT; DROP PROCEDURE made.p; CREATE TABLE made.new_one (a INT); \
               ALTER DATABASE made CHARACTER SET utf8mb3; GRANT INSERT ON made.* TO someone";
    fakes.put(
        "mariadb-dump",
        &format!(
            "\"$REAL\" \"$@\" || exit\ncase \"$*\" in *--all-databases*) ;; *) exit 0;; esac\n'{}' --no-defaults -uroot -S '{}' -e '{ddl}'",
            MariadbKind::rig()
                .join(MariadbKind::TOOLS)
                .join("mariadb")
                .display(),
            pair.source_db.socket(),
        ),
    );
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    assert!(
        text.contains("changed during the dump and were not compared"),
        "{text}"
    );
    for name in [
        "schema made",
        "table made.t",
        "table made.new_one",
        "procedure made.p",
        "account someone@%",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(text.contains(" definitions compared"), "{text}");
}

/// Created after the dump's position and before the dump reaches them. Without a data dictionary, which a snapshot is of as well, they
/// are `in_the_dump`, and replication creates them once more.
fn created_during_the_dump<K: Kind>(tool: &str, in_the_dump: bool, connect: impl Fn(&Player<K>)) {
    let fakes = Fakes::of::<K>();
    // Nothing is read of it after the beginning, as long as the file `hold` is there.
    fakes.put(
        tool,
        "case \"$*\" in *--all-databases*) ;; *) exec \"$REAL\" \"$@\";; esac\n\
         d=$(dirname \"$0\"); mkfifo \"$d/out\"\n\
         { dd bs=65536 count=1 iflag=fullblock; while [ -e \"$d/hold\" ]; do sleep 0.1; done; cat; } < \"$d/out\" 2>/dev/null & reader=$!\n\
         \"$REAL\" \"$@\" > \"$d/out\"; rc=$?; wait $reader; exit $rc",
    );
    let hold = fakes.dir.join("hold");
    std::fs::write(&hold, "").expect("hold");
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::<K>::of("", "", &changes);
    pair.source_db.sql(
        "CREATE DATABASE zoo; CREATE TABLE zoo.t (a INT PRIMARY KEY); CREATE DATABASE much; \
         CREATE TABLE much.rows_ (t MEDIUMTEXT); INSERT INTO much.rows_ VALUES (REPEAT('x', 1000000))",
    );
    let seed = pair.seed(1);
    seed.prepare();
    seed.start_backup();
    let long = || std::fs::metadata(pair.dump_file()).is_ok_and(|m| m.len() >= 65536);
    wait_for("the dump", Duration::from_secs(30), || long().then_some(()));
    // The agent reads the source's definitions now.
    std::thread::sleep(Duration::from_secs(2));
    for statement in [
        "CREATE PROCEDURE zoo.p() SELECT 1",
        "CREATE FUNCTION zoo.f() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE EVENT zoo.e ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
        "CREATE USER late@localhost",
        "CREATE PROCEDURE shop.late() SELECT 1",
    ] {
        pair.source_db.sql(statement);
    }
    std::fs::remove_file(&hold).expect("hold");
    seed.must_complete(&pair.target, "Backup");
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    for name in [
        "procedure zoo.p",
        "function zoo.f",
        "event zoo.e",
        "procedure shop.late",
    ] {
        let (before, dropped) = text.split_once("dropped again").unwrap_or((text, ""));
        assert_eq!(dropped.contains(name), in_the_dump, "{name}: {text}");
        assert!(
            before.contains(name) || dropped.contains(name),
            "{name}: {text}"
        );
    }
    connect(&seed);
    pair.source_db.sql("INSERT INTO zoo.t VALUES (1)");
    wait_for("replication", Duration::from_secs(30), || {
        (pair.target_db.value("SELECT COUNT(*) FROM zoo.t") == "1").then_some(())
    });
    let routines =
        "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ('zoo', 'shop')";
    assert_eq!(
        pair.target_db.value(routines),
        pair.source_db.value(routines)
    );
    seed.cleanup();
}

#[test]
fn what_is_created_during_the_dump_is_left_to_replication_on_mariadb() {
    created_during_the_dump::<MariadbKind>("mariadb-dump", true, |seed| seed.connect(true));
}

#[test]
fn what_is_created_during_the_dump_is_left_to_replication_on_mysql() {
    created_during_the_dump::<MysqldKind>("mysqldump", false, |seed| seed.connect(true));
}

/// Without what was kept, or with another seed's, nothing is touched.
#[test]
fn a_dump_without_its_definitions_is_not_loaded() {
    let pair = Pair::start();
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    let file = pair
        .target
        .dir
        .join("backup/orchestrator_agent_backup.definitions");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file)
            .expect("kept with the dump")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("kept");
    std::fs::write(&file, text.replacen("\"seed\":1", "\"seed\":2", 1)).expect("another's");
    seed.start_restore();
    let details = pair.must_fail(1, "Restore");
    assert!(details.contains("they are those of seed 2"), "{details}");
    pair.assert_unchanged();
    std::fs::write(&file, text).expect("its own");
    seed.restore();
    seed.cleanup();
    assert!(!file.exists());
}
