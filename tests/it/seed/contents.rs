//! What a dump does not carry, or a target cannot take: copied right all the same, or refused by name before the target is touched.

use crate::support::Scratch;
use crate::support::agent::Changes;
use crate::support::fake::Fakes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::player::Player;
use crate::support::server::{Kind, Server};
use mysql::prelude::Queryable;

fn run<K: Kind>(db: &Server<K>, statements: &[&str]) {
    let mut conn = db.root();
    for statement in statements {
        conn.query_drop(*statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// On the source, for both families.
const SOURCE: &[&str] = &[
    // Another schema of the same name is on the target.
    "CREATE DATABASE opts CHARACTER SET latin1 COLLATE latin1_bin",
    "CREATE TABLE opts.t (w VARCHAR(20)) ENGINE=InnoDB",
    // Other kinds of objects, triggers and constraints of these names are on the target.
    "CREATE DATABASE way",
    "CREATE TABLE way.a_table (id INT PRIMARY KEY) ENGINE=InnoDB",
    "INSERT INTO way.a_table VALUES (1)",
    "CREATE VIEW way.a_view AS SELECT id FROM way.a_table",
    "CREATE TRIGGER way.tr BEFORE INSERT ON way.a_table FOR EACH ROW SET NEW.id = NEW.id + 1",
    "CREATE TABLE way.child (a INT, CONSTRAINT ref FOREIGN KEY (a) REFERENCES way.a_table (id)) ENGINE=InnoDB",
    "CREATE TABLE way.old_child (a INT) ENGINE=InnoDB",
    // A view over a view whose definer only the source has.
    "CREATE USER teller@localhost",
    "GRANT SELECT ON *.* TO teller@localhost",
    "CREATE DATABASE views",
    "CREATE TABLE views.t (id INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE DEFINER=teller@localhost VIEW views.z AS SELECT id FROM views.t",
    "CREATE DEFINER=teller@localhost VIEW views.a AS SELECT id FROM views.z",
    // Dates that only one mode lets in, in rows and as a default.
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
    "CREATE TABLE way.dates (id INT PRIMARY KEY, d DATE DEFAULT '2021-02-30', t DATETIME) ENGINE=InnoDB",
    "INSERT INTO way.dates VALUES (1, '2021-02-31', '2022-04-31 12:00:00'), (2, '0000-00-00', NULL), (3, '2020-00-10', '2021-02-29')",
    "SET SESSION sql_mode = DEFAULT",
    "CREATE TABLE way.floats (id INT PRIMARY KEY, f FLOAT, `g``h` FLOAT(7,4), d DOUBLE) ENGINE=InnoDB",
    "INSERT INTO way.floats VALUES (1, 1.5, 2.25, 1e100), (2, 16777216, 1, 1), (3, 1234567, 1, 1)",
    "CREATE PROCEDURE way.p() SELECT 1",
    // Made with another limit than that of the server.
    "SET SESSION max_heap_table_size = 8388608",
    "CREATE TABLE way.in_mind (a INT PRIMARY KEY, b CHAR(200)) ENGINE=MEMORY",
    "INSERT INTO way.in_mind SELECT id, 'x' FROM shop.items",
    "SET GLOBAL max_heap_table_size = 16384",
];

const TARGET: &[&str] = &[
    "CREATE DATABASE opts CHARACTER SET utf8mb4",
    "CREATE DATABASE way",
    "CREATE TABLE way.other (id INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE VIEW way.a_table AS SELECT id FROM way.other",
    "CREATE TABLE way.a_view (id INT) ENGINE=InnoDB",
    "CREATE TRIGGER way.tr BEFORE INSERT ON way.other FOR EACH ROW SET NEW.id = 7",
    "CREATE TABLE way.old_child (a INT, CONSTRAINT ref FOREIGN KEY (a) REFERENCES way.other (id)) ENGINE=InnoDB",
];

/// A seed whose operator has left out the options for routines and events; the Details of Restore.
fn seeds<K: Kind>(pair: &Pair<K>, id: i64) -> String {
    let seed = pair.seed(id);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    seed.cleanup();
    state["Details"].as_str().expect("Details").to_string()
}

fn bare() -> Changes {
    let line = "mysqldump-addtional-opts = [\"--single-transaction\"]";
    Changes {
        lines: vec![("mysqldump", line.to_string())],
        ..Changes::default()
    }
}

const DATES: &str =
    "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, d, t) ORDER BY id SEPARATOR ';') FROM way.dates";
const WANTED_DATES: &str =
    "1 2021-02-31 2022-04-31 12:00:00;2 0000-00-00;3 2020-00-10 2021-02-29 00:00:00";

fn assert_copied<K: Kind>(pair: &Pair<K>, text: &str) {
    let db = &pair.target_db;
    for (query, wanted) in [
        (
            "SELECT CONCAT(DEFAULT_CHARACTER_SET_NAME, ' ', DEFAULT_COLLATION_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'opts'",
            "latin1 latin1_bin",
        ),
        ("SELECT COUNT(*) FROM way.a_view", "1"),
        (
            "SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'tr'",
            "a_table",
        ),
        ("SELECT COUNT(*) FROM views.a", "0"),
        (DATES, WANTED_DATES),
        (
            "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'way'",
            "1",
        ),
        (
            "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop'",
            "1",
        ),
    ] {
        assert_eq!(db.value(query), wanted, "{query}");
    }
    assert_eq!(pair.source_db.value(DATES), WANTED_DATES);
    assert_eq!(db.value("SELECT COUNT(*) FROM way.in_mind"), "2048");
    assert!(
        text.contains("FLOAT columns way.floats.f, way.floats.g`h: a dump holds six digits"),
        "{text}"
    );
}

#[test]
fn what_a_dump_does_not_carry_on_mariadb() {
    let pair = Pair::start_with("", "", &bare());
    pair.source_db.sql("SET GLOBAL event_scheduler = OFF");
    run(&pair.source_db, SOURCE);
    run(
        &pair.source_db,
        &[
            "ALTER DATABASE opts COMMENT 'it''s the source''s'",
            "CREATE DATABASE zz",
            "CREATE SEQUENCE zz.later START WITH 50",
            "CREATE SEQUENCE way.numbers START WITH 7",
            "CREATE TABLE way.numbered (id INT DEFAULT NEXTVAL(way.numbers), n INT DEFAULT NEXTVAL(zz.later), x INT) ENGINE=InnoDB",
            "INSERT INTO way.numbered (x) VALUES (1), (2)",
            "CREATE TABLE way.a_seq (id INT) ENGINE=InnoDB",
            "CREATE SEQUENCE way.seq",
        ],
    );
    run(&pair.target_db, TARGET);
    run(
        &pair.target_db,
        &[
            "ALTER DATABASE opts COMMENT 'of the target'",
            "CREATE SEQUENCE way.a_seq",
            "CREATE VIEW way.seq AS SELECT 1 AS one",
            "CREATE TABLE way.numbers (id INT)",
        ],
    );
    for name in ["lost+found", ".hidden"] {
        std::fs::create_dir(pair.source_db.datadir().join(name)).expect("directory");
    }
    for id in [1, 2] {
        let text = seeds(&pair, id);
        assert_copied(&pair, &text);
        for query in [
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, n, x) ORDER BY x) FROM way.numbered",
            "SELECT next_not_cached_value FROM zz.later",
            "SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'opts'",
            "SELECT GROUP_CONCAT(CONCAT(TABLE_NAME, TABLE_TYPE) ORDER BY TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_NAME IN \
             ('a_seq', 'seq', 'numbers')",
        ] {
            let wanted = pair.source_db.value(query);
            assert!(!wanted.is_empty());
            assert_eq!(pair.target_db.value(query), wanted, "{query}");
        }
    }
}

#[test]
fn what_a_dump_does_not_carry_on_mysql() {
    let pair = Pair::<MysqldKind>::of("event_scheduler=OFF\n", "", &bare());
    run(&pair.source_db, SOURCE);
    run(
        &pair.source_db,
        &[
            "CREATE TABLE way.checked (a INT, CONSTRAINT positive CHECK (a > 0))",
            "CREATE DATABASE closed",
            "CREATE TABLE closed.t (a INT PRIMARY KEY)",
            "INSERT INTO closed.t VALUES (1)",
            "CREATE EVENT closed.e ON SCHEDULE EVERY 1 DAY DO SET @x = 1",
            "ALTER DATABASE closed READ ONLY = 1",
            "CREATE DATABASE opened",
            "CREATE TABLE opened.t (a INT PRIMARY KEY)",
            // Older ones of these tables are on the target.
            "CREATE TABLE way.a_parent (a BIGINT PRIMARY KEY)",
            "CREATE TABLE way.b_child (a BIGINT, CONSTRAINT of_parent FOREIGN KEY (a) REFERENCES way.a_parent (a))",
            "ANALYZE TABLE way.floats UPDATE HISTOGRAM ON d",
            "CREATE RESOURCE GROUP mine TYPE = USER",
            "GRANT RESOURCE_GROUP_USER ON *.* TO 'agent'@'%'",
            "REVOKE XA_RECOVER_ADMIN ON *.* FROM 'agent'@'%'",
            "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so'",
            "INSTALL COMPONENT 'file://component_query_attributes'",
        ],
    );
    run(&pair.target_db, TARGET);
    run(
        &pair.target_db,
        &[
            "CREATE TABLE way.t1 (a INT, CONSTRAINT other CHECK (a > 0))",
            "CREATE DATABASE opened",
            "CREATE TABLE opened.t (b INT)",
            "ALTER DATABASE opened READ ONLY = 1",
            "CREATE TABLE way.a_parent (a INT PRIMARY KEY)",
            "CREATE TABLE way.b_child (a INT, CONSTRAINT of_parent FOREIGN KEY (a) REFERENCES way.a_parent (a))",
        ],
    );
    let of_seed = [
        "a privilege that the agent's account lacks on the source, XA_RECOVER_ADMIN: prepared XA",
        "histograms of columns way.floats.d: ",
        "resource groups that the target lacks mine: ",
        "mysql_no_login (INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so')",
        "file://component_query_attributes (INSTALL COMPONENT ",
    ];
    for id in [1, 2] {
        let text = seeds(&pair, id);
        assert_copied(&pair, &text);
        for words in of_seed {
            // The first load has registered the component.
            let wanted = id == 1 || !words.starts_with("file:");
            assert_eq!(text.contains(words), wanted, "{id} {words}: {text}");
        }
        let query = "SELECT GROUP_CONCAT(CONCAT(SCHEMA_NAME, IFNULL(OPTIONS, '')) ORDER BY SCHEMA_NAME) FROM \
                     information_schema.SCHEMATA_EXTENSIONS WHERE SCHEMA_NAME IN ('closed', 'opened')";
        assert_eq!(pair.target_db.value(query), "closedREAD ONLY=1,opened");
        assert_eq!(pair.target_db.value("SELECT a FROM closed.t"), "1");
    }
}

/// What is refused: statements on the source and on the target, the stage that refuses, words of its Details, statements that remove the
/// cause again.
struct Case {
    source: &'static [&'static str],
    target: &'static [&'static str],
    stage: &'static str,
    words: &'static [&'static str],
    undo: &'static [&'static str],
}

const INVALID_VIEW: Case = Case {
    source: &[
        "CREATE TABLE shop.base (a INT)",
        "CREATE VIEW shop.broken AS SELECT a FROM shop.base",
        "DROP TABLE shop.base",
    ],
    target: &[],
    stage: "Prepare",
    words: &["invalid views shop.broken", "drop or repair it"],
    undo: &["DROP VIEW shop.broken"],
};
const CONSTRAINT: Case = Case {
    source: &[
        "CREATE TABLE shop.child (a INT PRIMARY KEY, CONSTRAINT taken FOREIGN KEY (a) REFERENCES shop.held (id)) ENGINE=InnoDB",
    ],
    target: &[
        "CREATE TABLE shop.parent (a INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE shop.extra (a INT, CONSTRAINT taken FOREIGN KEY (a) REFERENCES shop.parent (a)) ENGINE=InnoDB",
    ],
    stage: "Backup",
    words: &["table shop.extra", "constraint taken", "shop.child"],
    undo: &["DROP TABLE shop.child"],
};
const RIGHTS_MARIADB: Case = Case {
    source: &["REVOKE REPLICATION MASTER ADMIN ON *.* FROM 'agent'@'%'"],
    target: &[],
    stage: "Backup",
    words: &[
        "lacks REPLICATION MASTER ADMIN on the source, which it has here",
        "on the source, GRANT REPLICATION MASTER ADMIN ON *.* TO ",
    ],
    undo: &["GRANT REPLICATION MASTER ADMIN ON *.* TO 'agent'@'%'"],
};
const RIGHTS_MYSQL: Case = Case {
    source: &["REVOKE ALLOW_NONEXISTENT_DEFINER ON *.* FROM 'agent'@'%'"],
    target: &[],
    stage: "Backup",
    words: &[
        "lacks ALLOW_NONEXISTENT_DEFINER on the source, which it has here",
        "on the source, GRANT ALLOW_NONEXISTENT_DEFINER ON *.* TO ",
    ],
    undo: &["GRANT ALLOW_NONEXISTENT_DEFINER ON *.* TO 'agent'@'%'"],
};
const LIBRARY: Case = Case {
    source: &["INSERT INTO mysql.func VALUES ('mine', 0, 'mine.so', 'function')"],
    target: &[],
    stage: "Backup",
    words: &["functions of shared libraries mine", "SONAME"],
    undo: &["DELETE FROM mysql.func"],
};

/// A transaction that the dump does not hold.
const PREPARED: Case = Case {
    source: &[
        "XA START 'held', X'00ff', 7",
        "INSERT INTO shop.held VALUES (77)",
        "XA END 'held', X'00ff', 7",
        "XA PREPARE 'held', X'00ff', 7",
    ],
    target: &[],
    stage: "Prepare",
    words: &[
        "prepared XA transactions 'held',X'00ff',7: a dump",
        "XA ROLLBACK",
    ],
    undo: &["XA ROLLBACK 'held',X'00ff',7"],
};
/// Its locks would stop the load.
const PREPARED_ON_TARGET: Case = Case {
    source: &[],
    target: &[
        "XA START 'mine'",
        "INSERT INTO precious.t VALUES ('no')",
        "XA END 'mine'",
        "XA PREPARE 'mine'",
    ],
    stage: "Target",
    words: &["prepared XA transactions", "'mine'; XA ROLLBACK"],
    undo: &["XA ROLLBACK 'mine'"],
};
const IN_SYS: Case = Case {
    source: &["CREATE TABLE sys.mine (a INT)"],
    target: &[],
    stage: "Prepare",
    words: &[
        "objects in schema sys sys.mine (table): the dump tools",
        "a schema of their own",
    ],
    undo: &["DROP TABLE sys.mine"],
};
const ROUTINE_IN_SYS: Case = Case {
    source: &[
        "CREATE PROCEDURE sys.mine() SELECT 1",
        "CREATE VIEW sys.`my view` AS SELECT 1",
    ],
    target: &[],
    stage: "Backup",
    words: &["objects in schema sys sys.mine (procedure), sys.my view (view): "],
    undo: &["DROP PROCEDURE sys.mine", "DROP VIEW sys.`my view`"],
};
const LIKE_SYSTEM: Case = Case {
    source: &["CREATE DATABASE `Sys`", "CREATE TABLE `Sys`.t (a INT)"],
    target: &[],
    stage: "Prepare",
    words: &["schemas with names of system schemas Sys: the dump tools"],
    undo: &["DROP DATABASE `Sys`"],
};

fn refused<K: Kind>(pair: &Pair<K>, cases: &[Case]) {
    for case in cases {
        run(&pair.source_db, case.source);
        run(&pair.target_db, case.target);
        let seed = pair.seed(1);
        seed.start_prepare();
        if case.stage == "Target" {
            let text = pair.must_fail(1, "Prepare");
            for word in case.words {
                assert!(text.contains(word), "{word}: {text}");
            }
            pair.assert_unchanged();
            seed.must_complete(&pair.source, "Prepare");
            run(&pair.target_db, case.undo);
            continue;
        }
        seed.must_complete(&pair.target, "Prepare");
        let text = if case.stage == "Prepare" {
            let state = seed.poll(&pair.source, "Prepare");
            assert_eq!(state["Status"], "Error", "{:?}: {state}", case.source);
            state["Details"].as_str().expect("Details").to_string()
        } else {
            seed.must_complete(&pair.source, "Prepare");
            seed.start_backup();
            pair.must_fail(1, "Backup")
        };
        for word in case.words {
            assert!(text.contains(word), "{word}: {text}");
        }
        pair.assert_unchanged();
        run(&pair.source_db, case.undo);
    }
    // Nothing that would be in its way is left.
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
}

/// Lines for the my.cnf of a MariaDB server with the keys 1 to `n`.
fn keys_of(scratch: &Scratch, n: u32) -> String {
    let file = scratch.0.join(format!("keys-{n}"));
    let key = |id| format!("{id};770A8A65DA156D24EE2A093277530142\n");
    std::fs::write(&file, (1..=n).map(key).collect::<String>()).expect("keys");
    format!(
        "plugin_load_add=file_key_management\nfile_key_management_filename={}\n",
        file.display()
    )
}

/// A directory that a server may write to.
fn elsewhere(scratch: &Scratch) -> std::path::PathBuf {
    let dir = scratch.0.join("data");
    std::fs::create_dir(&dir).expect("directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&dir, mode).expect("mode");
    dir
}

#[test]
fn what_cannot_be_copied_is_refused_on_mariadb() {
    let keys = Scratch::new("keys");
    let dir = elsewhere(&keys);
    let pair = Pair::start_with(&keys_of(&keys, 1), "", &Changes::default());
    let elsewhere: &'static str = format!(
        "CREATE TABLE shop.elsewhere (a INT) ENGINE=InnoDB DATA DIRECTORY='{}'",
        dir.display()
    )
    .leak();
    refused(
        &pair,
        &[
            INVALID_VIEW,
            CONSTRAINT,
            LIBRARY,
            RIGHTS_MARIADB,
            PREPARED,
            PREPARED_ON_TARGET,
            IN_SYS,
            ROUTINE_IN_SYS,
            LIKE_SYSTEM,
            Case {
                source: &[
                    "CREATE TABLE shop.precise (a INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED \
                     GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) ENGINE=InnoDB WITH SYSTEM VERSIONING",
                ],
                target: &[],
                stage: "Prepare",
                words: &["transaction-precise", "shop.precise", "Xtrabackup"],
                undo: &["DROP TABLE shop.precise"],
            },
            Case {
                source: &["CREATE TABLE shop.locked (a INT) ENGINE=InnoDB ENCRYPTED=YES"],
                target: &[],
                stage: "Backup",
                words: &["encrypted tables shop.locked", "ENCRYPTED=NO"],
                undo: &["DROP TABLE shop.locked"],
            },
            Case {
                source: Box::leak(Box::new([elsewhere])),
                target: &[],
                stage: "Backup",
                words: &["DATA DIRECTORY", "shop.elsewhere", "FILE"],
                undo: &["DROP TABLE shop.elsewhere"],
            },
        ],
    );
    // With the privilege it is the directory that counts.
    let (source, target) = (&pair.source_db, &pair.target_db);
    target.unlogged("GRANT FILE ON *.* TO 'agent'@'%'");
    run(
        source,
        &[elsewhere, "INSERT INTO shop.elsewhere VALUES (1), (2)"],
    );
    let mode = |bits| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(&dir, mode).expect("mode");
    };
    mode(0o700);
    let text = pair.backup_fails(1);
    assert!(
        text.contains("table shop.elsewhere of the source is in DATA DIRECTORY"),
        "{text}"
    );
    assert!(text.contains("may not write to"), "{text}");
    mode(0o777);
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    // Both servers are on this host: the file would be the same.
    run(source, &["DROP TABLE shop.elsewhere"]);
    seed.restore();
    assert_eq!(target.value("SELECT COUNT(*) FROM shop.elsewhere"), "2");
    assert!(dir.join("shop/elsewhere.ibd").is_file());
}

#[test]
fn what_cannot_be_copied_is_refused_on_mysql() {
    let fakes = Fakes::of::<MysqldKind>();
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::<MysqldKind>::of("", "", &changes);
    let client = MysqldKind::rig().join(MysqldKind::TOOLS).join("mysql");
    // Prepared after the first check, before the dump has its position.
    fakes.put(
        "mysqldump",
        &format!(
            "case \"$*\" in *--all-databases*) '{}' --no-defaults -uroot -S '{}' -e \"XA START 'late'; INSERT INTO shop.held VALUES (78); \
             XA END 'late'; XA PREPARE 'late'\" || exit;; esac\nexec \"$REAL\" \"$@\"",
            client.display(),
            pair.source_db.socket(),
        ),
    );
    let text = pair.backup_fails(1);
    assert!(text.contains("during the dump: 'late'. "), "{text}");
    assert!(!pair.dump_file().exists());
    run(&pair.source_db, &["XA ROLLBACK 'late'"]);
    fakes.remove("mysqldump");
    refused(
        &pair,
        &[
            INVALID_VIEW,
            CONSTRAINT,
            LIBRARY,
            RIGHTS_MYSQL,
            PREPARED,
            PREPARED_ON_TARGET,
            IN_SYS,
            ROUTINE_IN_SYS,
            LIKE_SYSTEM,
            Case {
                source: &[
                    "CREATE SPATIAL REFERENCE SYSTEM 990001 NAME 'mine' DEFINITION 'GEOGCS[\"x\",DATUM[\"y\",SPHEROID[\"z\",6378137,\
                           298.257223563]],PRIMEM[\"Greenwich\",0],UNIT[\"degree\",0.017453292519943278],AXIS[\"Lat\",NORTH],\
                           AXIS[\"Lon\",EAST]]'",
                ],
                target: &[],
                stage: "Backup",
                words: &[
                    "spatial reference systems 990001",
                    "CREATE SPATIAL REFERENCE SYSTEM",
                ],
                undo: &["DROP SPATIAL REFERENCE SYSTEM 990001"],
            },
            Case {
                source: &[
                    "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so'",
                    "CREATE USER closed IDENTIFIED WITH mysql_no_login",
                ],
                target: &[],
                stage: "Backup",
                words: &[
                    "plugins that the target lacks mysql_no_login (account closed@%; INSTALL PLUGIN mysql_no_login SONAME \
                     'mysql_no_login.so')",
                ],
                undo: &["DROP USER closed", "UNINSTALL PLUGIN mysql_no_login"],
            },
            Case {
                source: &[
                    "INSTALL COMPONENT 'file://component_query_attributes'",
                    "CREATE VIEW shop.asked AS SELECT mysql_query_attribute_string('n') AS n",
                ],
                target: &[],
                stage: "Backup",
                words: &[
                    "functions of components that the target lacks mysql_query_attribute_string (view shop.asked), (INSTALL COMPONENT \
                     'file://component_query_attributes')",
                ],
                undo: &[
                    "DROP VIEW shop.asked",
                    "UNINSTALL COMPONENT 'file://component_query_attributes'",
                ],
            },
            Case {
                source: &[
                    "CREATE TABLE shop.part (a INT) ENGINE=MyISAM",
                    "CREATE TABLE shop.merged (a INT) ENGINE=MERGE UNION=(shop.part)",
                ],
                target: &[],
                stage: "Backup",
                words: &["MERGE tables shop.merged: ", "GRANT UPDATE, DELETE"],
                undo: &["DROP TABLE shop.merged"],
            },
            Case {
                source: &["CREATE TABLE shop.parents (a BIGINT PRIMARY KEY)"],
                target: &[
                    "CREATE TABLE shop.parents (a INT PRIMARY KEY)",
                    "CREATE TABLE precious.child (a INT, FOREIGN KEY (a) REFERENCES shop.parents (a))",
                ],
                stage: "Backup",
                words: &["precious.child (a to shop.parents.a): ", "3780"],
                undo: &["DROP TABLE shop.parents"],
            },
            Case {
                source: &["CREATE TABLE shop.checked (a INT, CONSTRAINT positive CHECK (a > 0))"],
                target: &["CREATE TABLE shop.old_one (a INT, CONSTRAINT positive CHECK (a > 0))"],
                stage: "Backup",
                words: &["table shop.old_one", "constraint positive"],
                undo: &["DROP TABLE shop.checked"],
            },
        ],
    );
}

/// The first use of a MEMORY table after a start empties it: on a new replica that must not be a transaction of its own.
#[test]
fn memory_tables_by_a_physical_copy() {
    let filtered = "gtid_strict_mode=ON\nbinlog_ignore_db=scratch\n";
    let (source_db, target_db) = servers::<MariadbKind>(filtered, "gtid_strict_mode=ON\n");
    run(
        &source_db,
        &[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.`in``mind` (a INT PRIMARY KEY) ENGINE=MEMORY",
            "INSERT INTO shop.`in``mind` VALUES (1)",
            "CREATE TABLE shop.t (a INT PRIMARY KEY) ENGINE=InnoDB",
        ],
    );
    let lines = vec![("xtrabackup", "enabled = true".to_string())];
    let changes = Changes {
        lines,
        ..Changes::default()
    };
    let pair = Pair::beside(source_db, target_db, "Xtrabackup", &changes, &changes);
    let Pair {
        source,
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let seed = pair.seed(1);
    seed.start_prepare();
    seed.must_complete(target, "Prepare");
    let state = seed.must_complete(source, "Prepare");
    let text = state["Details"].as_str().expect("Details");
    assert!(text.contains("binlog_ignore_db = scratch: "), "{text}");
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(target, "Restore");
    let text = state["Details"].as_str().expect("Details");
    assert!(text.contains("MEMORY tables are empty"), "{text}");
    assert!(text.contains("shop.in`mind"), "{text}");
    seed.connect(true);
    assert_eq!(target_db.value("SELECT COUNT(*) FROM shop.`in``mind`"), "0");
    assert_eq!(
        target_db.value("SELECT @@gtid_binlog_pos"),
        "",
        "no transaction of its own"
    );
    source_db.sql("INSERT INTO shop.t VALUES (1)");
    crate::support::wait_for(
        "the row arrives",
        std::time::Duration::from_secs(20),
        || (target_db.value("SELECT COUNT(*) FROM shop.t") == "1").then_some(()),
    );
    assert_eq!(target_db.replica_status("Slave_SQL_Running"), "Yes");
}

/// `seed --dry-run`, its exit code, and words of its output.
fn dry_run<K: Kind>(pair: &super::by_command::Pair<K>, method: &str, code: i32, words: &[&str]) {
    let out = pair.seed(&["--dry-run", "--method", method]);
    let text = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t).into_owned());
    let text = text.concat();
    assert_eq!(out.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// `--method auto` takes the fastest method that copies all exactly, then one that copies all, and says why.
#[test]
fn the_method_is_chosen_by_the_contents() {
    let lines = ["xtrabackup", "mydumper"].map(|s| (s, "enabled = true".to_string()));
    let keys = Scratch::new("keys");
    let mut pair = super::by_command::Pair::<MariadbKind>::of(
        &(keys_of(&keys, 2) + "binlog_ignore_db=scratch\n"),
        &keys_of(&keys, 1),
        &lines,
    );
    run(&pair.source_db, &["CREATE DATABASE shop"]);
    let dir = elsewhere(&keys).display().to_string();
    let create = format!("CREATE TABLE shop.far (a INT) ENGINE=InnoDB DATA DIRECTORY='{dir}'");
    let far = format!("tables with DATA DIRECTORY or INDEX DIRECTORY shop.far ({dir}/): ");
    let (without_file, physical) = (
        format!("{far}the agent's account needs"),
        format!("{far}a physical copy"),
    );
    let cases: [(&[&str], &str, i32, &[&str]); 18] = [
        (
            &["CREATE TABLE shop.locked (a INT) ENGINE=InnoDB ENCRYPTED=YES"],
            "auto",
            0,
            &[
                "method Xtrabackup is not used: encrypted tables shop.locked: the keys of one host",
                "Preflight: method Mydumper\n",
            ],
        ),
        (
            &["ALTER TABLE shop.locked ENCRYPTION_KEY_ID=2"],
            "auto",
            1,
            &["tables encrypted with keys that the target lacks shop.locked (key 2): add the keys"],
        ),
        (
            &["ALTER TABLE shop.locked ENCRYPTION_KEY_ID=1"],
            "Mydumper",
            0,
            &["Preflight: method Mydumper\n"],
        ),
        (
            &["ALTER TABLE shop.locked ENCRYPTED=NO"],
            "auto",
            0,
            &["Preflight: method Xtrabackup\n"],
        ),
        (
            &["DROP TABLE shop.locked", &create],
            "auto",
            1,
            &[&physical, &without_file],
        ),
        (
            &[
                "CREATE TABLE shop.copy LIKE shop.far",
                "INSERT INTO shop.copy SELECT * FROM shop.far",
                "DROP TABLE shop.far",
                "RENAME TABLE shop.copy TO shop.far",
            ],
            "auto",
            0,
            &["Preflight: method Xtrabackup\n"],
        ),
        (
            &["CREATE TABLE shop.f (f FLOAT) ENGINE=InnoDB"],
            "auto",
            0,
            &["Preflight: method Xtrabackup\n"],
        ),
        (
            &[],
            "Mysqldump",
            0,
            &[
                "warning: method Mysqldump: FLOAT columns shop.f.f",
                "Preflight: method Mysqldump\n",
            ],
        ),
        (
            &[
                "DROP TABLE shop.f",
                "CREATE TABLE shop.cs (s VARCHAR(9) CHARACTER SET sjis)",
                "INSERT INTO shop.cs VALUES (X'5C')",
            ],
            "Mysqldump",
            1,
            &[
                "PROBLEM: method Mysqldump: characters that a conversion to utf8mb4 and back changes in columns shop.cs.s: ",
            ],
        ),
        (
            &[
                "DROP TABLE shop.cs",
                "CREATE TABLE shop.m (a INT) ENGINE=MEMORY",
            ],
            "auto",
            0,
            &[
                "method Xtrabackup is not used: MEMORY tables shop.m",
                "Preflight: method Mydumper\n",
            ],
        ),
        // No method copies all of it exactly.
        (
            &["CREATE TABLE shop.f (f FLOAT) ENGINE=InnoDB"],
            "auto",
            0,
            &[
                "warning: method Xtrabackup: MEMORY tables shop.m",
                "Preflight: method Xtrabackup\n",
            ],
        ),
        (
            &[
                "DROP TABLE shop.f",
                "CREATE VIEW shop.broken AS SELECT * FROM shop.m",
                "DROP TABLE shop.m",
            ],
            "Mydumper",
            1,
            &["PROBLEM: method Mydumper: invalid views shop.broken: "],
        ),
        (
            &["CREATE TABLE shop.m2 (a INT) ENGINE=MEMORY"],
            "auto",
            0,
            &[
                "warning: method Xtrabackup: MEMORY tables shop.m2",
                "warning: method Xtrabackup: filters of the binary log binlog_ignore_db = scratch: ",
                "Preflight: method Xtrabackup\n",
            ],
        ),
        (
            &[
                "DROP VIEW shop.broken",
                "DROP TABLE shop.m2",
                "CREATE TABLE shop.t (a INT)",
                "XA START 'held'",
                "INSERT INTO shop.t VALUES (1)",
                "XA END 'held'",
                "XA PREPARE 'held'",
            ],
            "Mysqldump",
            1,
            &["PROBLEM: method Mysqldump: prepared XA transactions 'held': "],
        ),
        (
            &[
                "SET GLOBAL binlog_format = STATEMENT",
                "CREATE TEMPORARY TABLE shop.passing (a INT)",
            ],
            "auto",
            0,
            &[
                "binlog_format = STATEMENT: 1 created and not dropped",
                "Preflight: method Xtrabackup\n",
            ],
        ),
        (
            &[
                "SET GLOBAL binlog_format = ROW",
                "XA ROLLBACK 'held'",
                "INSTALL SONAME 'auth_ed25519'",
                "CREATE USER e IDENTIFIED VIA unix_socket OR ed25519 USING PASSWORD('x')",
            ],
            "Mysqldump",
            1,
            &[
                "plugins that the target lacks ed25519 (account e@%; INSTALL SONAME 'auth_ed25519'): ",
            ],
        ),
        (
            &[
                "DROP USER e",
                "CREATE TABLE mysql.mine (a INT)",
                "CREATE TABLE shop.`it's` (a INT)",
                "CREATE TABLE shop.`a/b` (`c``d` INT)",
            ],
            "Mydumper",
            1,
            &[
                "objects in schema mysql mysql.mine (table): by Mydumper",
                "tables with a quote in their names: shop.it's: mydumper",
            ],
        ),
        (
            &["DROP TABLE shop.`it's`, mysql.mine"],
            "Mydumper",
            0,
            &[
                "warning: method Mydumper: names with a dot, a slash or a backtick, or with -schema in them: shop.a/b: ",
                "warning: method Mydumper: columns with a backtick in their names: shop.a/b.c`d: ",
                "warning: method Mydumper: plugins and components that the load registers",
                "ed25519 (INSTALL SONAME 'auth_ed25519')",
                "Preflight: method Mydumper\n",
            ],
        ),
    ];
    let player = |id, method| Player {
        id,
        method,
        target: &pair.target,
        source: &pair.source,
        target_db: &pair.target_db,
        source_db: &pair.source_db,
    };
    for (statements, method, code, words) in cases {
        run(&pair.source_db, statements);
        if words.iter().any(|w| w.contains("encrypted tables")) {
            // The agent finds it too, when it is called without `seed`.
            let seed = player(1, "Xtrabackup");
            Player::start(&pair.source, "/api/prepare/1/Xtrabackup/Source");
            let state = seed.poll(&pair.source, "Prepare");
            assert_eq!(state["Status"], "Error", "{state}");
            let details = state["Details"].as_str().expect("Details");
            assert!(details.contains("shop/locked is encrypted"), "{details}");
            assert!(details.contains("ENCRYPTED=NO"), "{details}");
        }
        dry_run(&pair, method, code, words);
    }
    // A key that both have.
    run(
        &pair.source_db,
        &[
            "CREATE TABLE shop.locked (a INT) ENGINE=InnoDB ENCRYPTED=YES",
            "INSERT INTO shop.locked VALUES (1), (2)",
        ],
    );
    let seed = player(2, "Mysqldump");
    seed.prepare();
    seed.backup();
    seed.restore();
    for (query, wanted) in [
        ("SELECT COUNT(*) FROM shop.locked", "2"),
        (
            "SELECT ENCRYPTION_SCHEME FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE NAME = 'shop/locked'",
            "1",
        ),
    ] {
        assert_eq!(pair.target_db.value(query), wanted, "{query}");
    }
    // Without a physical method on one of the hosts: the columns are named, whichever logical method it is.
    let conf = pair.target.dir.join("agent.conf");
    let text = std::fs::read_to_string(&conf).expect("configuration");
    let without = text.replace("[xtrabackup]\nenabled = true\n", "");
    assert_ne!(without, text);
    std::fs::write(&conf, without).expect("configuration");
    pair.target.terminate();
    pair.target.launch();
    pair.target.wait_ready();
    pair.target.wait_looked(true);
    let statements = [
        "DROP TABLE shop.locked",
        "CREATE TABLE shop.f (f FLOAT) ENGINE=InnoDB",
        "INSERT INTO shop.f VALUES (16777216), (1234567)",
    ];
    run(&pair.source_db, &statements);
    let words = [
        "warning: method Mydumper: FLOAT columns shop.f.f: a dump holds six digits",
        "Preflight: method Mydumper\n",
    ];
    dry_run(&pair, "auto", 0, &words);
}
