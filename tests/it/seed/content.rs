//! What is on the source is on the target, byte for byte and statement for statement.

use crate::support::agent::Changes;
use crate::support::mariadb::Mariadb;
use crate::support::pair::Pair;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// SQL that a client with DELIMITER would be needed for; each item is one statement.
const STATEMENTS: &[&str] = &[
    "CREATE DATABASE zoo CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "CREATE DATABASE `we``ird \"na'me $x`",
    "CREATE DATABASE latin CHARACTER SET latin1",
    "CREATE TABLE zoo.inno (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, b LONGBLOB, t TEXT CHARACTER SET latin1, n VARCHAR(20), \
     u TEXT, j JSON, d DECIMAL(65,30), e DECIMAL(10,3), f DOUBLE, bits BIT(64), one BIT(1), ts TIMESTAMP(6) NULL, dt DATETIME(3), \
     y YEAR, tm TIME(6), en ENUM('a','b''c','d,e'), st SET('x','y'), g VARCHAR(60) AS (CONCAT(n, '?')) VIRTUAL, p VARCHAR(40) AS (CONCAT(n, '!')) STORED, \
     bin BINARY(4), vb VARBINARY(300), KEY (n), KEY `odd ``key``` (g), FULLTEXT KEY (u)) ENGINE=InnoDB COMMENT='it''s \\\\ \"odd\"'",
    "CREATE TABLE zoo.child (id INT PRIMARY KEY, parent BIGINT UNSIGNED, FOREIGN KEY (parent) REFERENCES zoo.inno (id) ON DELETE CASCADE) ENGINE=InnoDB",
    "INSERT INTO zoo.inno (n, u, j, d, e, f, bits, one, ts, dt, y, tm, en, st, bin, vb) VALUES \
     ('plain', 'gr\u{fc}\u{df}e \u{1F600} \u{4e2d}\u{6587}', '{\"a\": [1, null, \"\\\\u00e9 \\\\\"q\\\\\"\"]}', \
      12345678901234567890123456789012345.123456789012345678901234567890, -0.001, 1.7976931348623157e308, b'1010', b'1', \
      '2024-03-31 01:59:59.123456', '0001-01-01 00:00:00.001', 1901, '-838:59:59.000001', 'b''c', 'x,y', 'a\\0', X'00FF1A0D0A275C22'), \
     (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
     ('', '', '[]', 0, 0, -0.0, 0, b'0', '1970-01-01 00:00:01', '9999-12-31 23:59:59.999', 0, '00:00:00', 'a', '', '', ''), \
     ('NULL', '\\\\N', 'null', -1, 1.5, 1e-300, ~0, b'1', NULL, NULL, NULL, NULL, 'd,e', 'y', 'NULL', 'NULL')",
    "CREATE TABLE zoo.isam (a INT, b VARCHAR(50), KEY (a)) ENGINE=MyISAM ROW_FORMAT=DYNAMIC",
    "INSERT INTO zoo.isam SELECT seq, REPEAT(CHAR(seq % 26 + 97), seq % 50) FROM zoo.seq_1_to_1000",
    "CREATE TABLE zoo.aria (a INT PRIMARY KEY, b TEXT) ENGINE=Aria TRANSACTIONAL=1",
    "INSERT INTO zoo.aria SELECT seq, MD5(seq) FROM zoo.seq_1_to_500",
    "CREATE TABLE zoo.parted (id INT NOT NULL, d DATE NOT NULL, PRIMARY KEY (id, d)) ENGINE=InnoDB PARTITION BY RANGE (YEAR(d)) \
     (PARTITION p0 VALUES LESS THAN (2000), PARTITION p1 VALUES LESS THAN (2020), PARTITION pmax VALUES LESS THAN MAXVALUE)",
    "INSERT INTO zoo.parted SELECT seq, DATE('1990-01-01') + INTERVAL seq MONTH FROM zoo.seq_1_to_500",
    "CREATE TABLE latin.words (w VARCHAR(100)) ENGINE=InnoDB",
    "INSERT INTO latin.words VALUES ('na\u{ef}ve \u{20ac}'), ('\u{e4}\u{f6}\u{fc}')",
    "CREATE TABLE `we``ird \"na'me $x`.`ta``ble \"with' spaces` (`co``lumn '\"` INT, `\u{fc}n\u{ef}` TEXT) ENGINE=InnoDB",
    "INSERT INTO `we``ird \"na'me $x`.`ta``ble \"with' spaces` VALUES (1, 'a'), (2, NULL)",
    "CREATE SEQUENCE zoo.numbers START WITH 100 INCREMENT BY 7",
    "CREATE TABLE zoo.versioned (x INT) ENGINE=InnoDB WITH SYSTEM VERSIONING",
    "INSERT INTO zoo.versioned VALUES (1), (2)",
    "UPDATE zoo.versioned SET x = 3 WHERE x = 2",
    "DELETE FROM zoo.versioned WHERE x = 1",
    "CREATE ALGORITHM=MERGE DEFINER=owner@localhost SQL SECURITY DEFINER VIEW zoo.v AS SELECT id, n FROM zoo.inno WHERE n <> 'x''y'",
    "CREATE VIEW zoo.a_view_of_a_later_one AS SELECT * FROM zoo.v",
    "CREATE TABLE zoo.audit (what VARCHAR(100)) ENGINE=InnoDB",
    "CREATE DEFINER=owner@localhost TRIGGER zoo.tr BEFORE INSERT ON zoo.isam FOR EACH ROW\r\nBEGIN\r\n  -- a comment; with a semicolon\r\n  INSERT INTO zoo.audit VALUES (CONCAT('isam ', NEW.a));\r\nEND",
    "CREATE DEFINER=owner@localhost FUNCTION zoo.f(x INT) RETURNS VARCHAR(50) CHARSET utf8mb4 DETERMINISTIC\r\nBEGIN\r\n  /* windows line ends */\r\n  RETURN CONCAT('\u{fc};', x, '\\r\\n');\r\nEND",
    "CREATE DEFINER=owner@localhost PROCEDURE zoo.`pro``c`(OUT n INT) COMMENT 'it''s' READS SQL DATA\nBEGIN\n  SELECT COUNT(*) INTO n FROM zoo.inno;\nEND",
    "CREATE PROCEDURE zoo.plain() SELECT 1",
    "CREATE EVENT zoo.tick ON SCHEDULE EVERY 1 SECOND STARTS '2020-01-01 00:00:00' ON COMPLETION PRESERVE COMMENT 'e''v' DO INSERT INTO zoo.ticks VALUES (1)",
    "CREATE EVENT zoo.off ON SCHEDULE EVERY 1 DAY DISABLE DO SET @a = 1",
    "CREATE ROLE reporter",
    "GRANT SELECT ON zoo.* TO reporter",
    "CREATE USER 'app'@'10.%' IDENTIFIED BY 'x''y\"z\\\\' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7",
    "CREATE USER 'o''quote'@'%' IDENTIFIED VIA unix_socket",
    "CREATE USER locked@localhost ACCOUNT LOCK",
    "GRANT INSERT (n), SELECT ON zoo.inno TO 'app'@'10.%' WITH GRANT OPTION",
    "GRANT EXECUTE ON FUNCTION zoo.f TO 'o''quote'@'%'",
    "GRANT reporter TO 'app'@'10.%' WITH ADMIN OPTION",
    "SET DEFAULT ROLE reporter FOR 'app'@'10.%'",
];

fn fill(db: &Mariadb, leave_out: &[&str]) {
    let mut conn = db.root();
    conn.query_drop("SET NAMES utf8mb4").expect("names");
    conn.query_drop(
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
    )
    .expect("session");
    conn.query_drop("CREATE USER owner@localhost")
        .expect("definer");
    conn.query_drop("GRANT ALL ON *.* TO owner@localhost")
        .expect("definer");
    let wanted = |s: &&&str| !leave_out.iter().any(|part| s.contains(part));
    for statement in STATEMENTS.iter().filter(wanted) {
        conn.query_drop(*statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    // Every byte, alone and in a row, as binary and as latin1 text.
    let all: Vec<u8> = (0..=255).collect();
    let hex: String = all.iter().map(|b| format!("{b:02x}")).collect();
    conn.query_drop(format!(
        "INSERT INTO zoo.inno (b, t, n) VALUES (X'{hex}', _latin1 X'{hex}', 'all')"
    ))
    .expect("bytes");
    let big: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    conn.exec_drop("INSERT INTO zoo.inno (b, n) VALUES (?, 'big')", (&big,))
        .expect("blob");
    // An event as a session with other settings made it.
    for statement in [
        "SET NAMES latin1",
        "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES', time_zone = '+03:00'",
        "CREATE TABLE zoo.ticks (n INT) ENGINE=InnoDB",
        "CREATE DEFINER=owner@localhost EVENT zoo.\"odd 'event`\" ON SCHEDULE EVERY 2 SECOND STARTS '2021-05-05 05:05:05' DO INSERT INTO zoo.ticks SELECT 2 FROM DUAL WHERE 'a' || 'b' = 'ab' AND '\\' <> ''",
        "CREATE PROCEDURE zoo.ansi() SELECT \"n\" || 'x\\' FROM zoo.inno",
    ]
    .iter()
    .filter(wanted)
    {
        conn.query_drop(*statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// All columns of all rows as text.
fn rows(conn: &mut Conn, query: &str) -> Vec<String> {
    let rows: Vec<Row> = conn.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let text = |row: &Row| -> String {
        let columns = row.columns_ref().iter().enumerate();
        columns
            .map(|(i, c)| {
                format!(
                    "{}={} ",
                    c.name_str(),
                    row.as_ref(i).map_or("-".into(), |v| v.as_sql(true))
                )
            })
            .collect()
    };
    rows.iter().map(text).collect()
}

fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// SHOW CREATE of everything in schemas that are not the server's own, and SHOW GRANTS of every account.
fn definitions(db: &Mariadb) -> Vec<String> {
    let mut conn = db.root();
    let own = "NOT IN ('information_schema','performance_schema','mysql','sys')";
    let kinds = [
        (
            "DATABASE",
            format!(
                "SELECT NULL, SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME {own}"
            ),
        ),
        (
            "TABLE",
            format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA {own}"
            ),
        ),
        (
            "TRIGGER",
            format!(
                "SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA {own}"
            ),
        ),
        (
            "EVENT",
            format!(
                "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA {own}"
            ),
        ),
        (
            "FUNCTION",
            format!(
                "SELECT ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' AND ROUTINE_SCHEMA {own}"
            ),
        ),
        (
            "PROCEDURE",
            format!(
                "SELECT ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_TYPE = 'PROCEDURE' AND ROUTINE_SCHEMA {own}"
            ),
        ),
    ];
    let mut out = Vec::new();
    for (kind, list) in kinds {
        let names: Vec<(Option<String>, String)> =
            conn.query(format!("{list} ORDER BY 1, 2")).expect("names");
        assert!(!names.is_empty(), "{kind}: there is something to compare");
        for (schema, name) in names {
            let full = schema
                .iter()
                .chain([&name])
                .map(|n| quote(n))
                .collect::<Vec<_>>()
                .join(".");
            out.extend(rows(&mut conn, &format!("SHOW CREATE {kind} {full}")));
        }
    }
    let created = regex_free_of_created(out);
    let accounts: Vec<(String, String, String)> = conn
        .query("SELECT User, Host, is_role FROM mysql.user ORDER BY 1, 2")
        .expect("accounts");
    let grants = accounts
        .into_iter()
        .filter(|a| a.0 != "PUBLIC")
        .flat_map(|(user, host, role)| {
            let name = user.replace('\'', "''");
            let who = if role == "Y" {
                format!("'{name}'")
            } else {
                format!("'{name}'@'{host}'")
            };
            let mut all = rows(&mut conn, &format!("SHOW GRANTS FOR {who}"));
            if role != "Y" {
                all.extend(rows(&mut conn, &format!("SHOW CREATE USER {who}")));
            }
            all
        });
    let mut all = created;
    all.extend(grants.collect::<Vec<_>>());
    all.extend(rows(
        &mut db.root(),
        "SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3",
    ));
    all
}

/// Without the time at which a trigger was made, which is the load's.
fn regex_free_of_created(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .map(|l| l.split(" Created=").next().unwrap_or(&l).to_string())
        .collect()
}

/// Definitions with an event's status as the source has it.
fn events_enabled(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .map(|l| {
            if l.starts_with("Event=") {
                l.replace(" DISABLE ON SLAVE ", " ENABLE ")
            } else {
                l
            }
        })
        .collect()
}

fn assert_same(wanted: &[String], found: &[String]) {
    for (a, b) in wanted.iter().zip(found) {
        assert_eq!(a, b);
    }
    assert_eq!(wanted.len(), found.len());
}

#[test]
fn everything_arrives_unchanged_by_mydumper() {
    let cnf = "sql_mode=STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION\ndefault_time_zone=+00:00\n";
    let pair = Pair::mydumper(cnf, "", &Changes::default());
    everything(&pair, &["we``ird", "zoo.versioned"]);
}

#[test]
fn everything_arrives_unchanged() {
    everything(&Pair::start(), &[]);
}

fn everything(pair: &Pair, leave_out: &[&str]) {
    // Data stand still, or the two could not be compared.
    pair.source_db.sql("SET GLOBAL event_scheduler = OFF");
    fill(&pair.source_db, leave_out);
    pair.target_db.sql("DROP DATABASE precious");
    let wanted = definitions(&pair.source_db);
    let sums = pair.source_db.checksums();
    assert!(
        sums.len() > 11 && sums.iter().all(|s| s.contains("Some")),
        "{sums:?}"
    );
    pair.must_seed(11);
    assert_eq!(pair.target_db.checksums(), sums);
    let found = definitions(&pair.target_db);
    let enabled = |l: &&String| l.starts_with("Event=") && l.contains(" ENABLE ");
    let events = wanted.iter().filter(enabled).count();
    assert!(events >= 2, "tick, odd and shop.tick");
    let disabled = found
        .iter()
        .filter(|l| l.contains(" DISABLE ON SLAVE "))
        .count();
    assert_eq!(
        disabled, events,
        "all that were enabled; an event that was off stays off"
    );
    assert_same(&wanted, &events_enabled(found));
    // Bytes, not only checksums; and rows of the past.
    let history =
        "SELECT x, ROW_START, ROW_END FROM zoo.versioned FOR SYSTEM_TIME ALL ORDER BY 1, 2";
    if !leave_out.contains(&"zoo.versioned") {
        assert_eq!(rows(&mut pair.source_db.root(), history).len(), 3);
        assert_eq!(
            rows(&mut pair.target_db.root(), history),
            rows(&mut pair.source_db.root(), history)
        );
    }
    for query in [
        "SELECT id, HEX(b), HEX(t), HEX(u), HEX(vb), bits+0, d FROM zoo.inno ORDER BY id",
        "SELECT HEX(w) FROM latin.words",
    ] {
        assert_eq!(
            rows(&mut pair.target_db.root(), query),
            rows(&mut pair.source_db.root(), query)
        );
    }
    assert_eq!(
        pair.target_db.value("SELECT COUNT(*) FROM zoo.audit"),
        "0",
        "triggers did not fire during the load"
    );
    assert_eq!(
        pair.target_db.value("SELECT NEXTVAL(zoo.numbers)"),
        pair.source_db.value("SELECT NEXTVAL(zoo.numbers)")
    );
    // And once more onto the same target, with everything there already.
    pair.must_seed(12);
    assert_same(&wanted, &events_enabled(definitions(&pair.target_db)));
    assert_eq!(pair.target_db.checksums(), pair.source_db.checksums());
}

/// With the tool's options as an operator may have them: neither --events nor --routines nor --hex-blob.
#[test]
fn bytes_survive_without_hex_blob() {
    let lines = vec![("mysqldump", "mysqldump-addtional-opts = [\"--single-transaction\", \"--quick\", \"--skip-extended-insert\"]".to_string())];
    let pair = Pair::start_with(
        "",
        "",
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    pair.source_db.sql("SET GLOBAL event_scheduler = OFF");
    fill(&pair.source_db, &[]);
    pair.must_seed(1);
    let query = "SELECT id, HEX(b), HEX(t), HEX(u), HEX(vb), bits+0 FROM zoo.inno ORDER BY id";
    assert_eq!(
        rows(&mut pair.target_db.root(), query),
        rows(&mut pair.source_db.root(), query)
    );
}
