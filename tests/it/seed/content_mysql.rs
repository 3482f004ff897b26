//! Everything that MySQL 9.7 can hold and a dump may get wrong.

use crate::support::agent::Changes;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::server::Server;
use mysql::prelude::Queryable;

const CREATE: &[&str] = &[
    "CREATE DATABASE `w``e;i'r\"d $HOME 名`",
    "USE `w``e;i'r\"d $HOME 名`",
    "CREATE TABLE gen (id INT PRIMARY KEY, a INT, v INT AS (a * 2) VIRTUAL, s VARCHAR(40) AS (CONCAT('x', a)) STORED, KEY (v), KEY f ((a + 1)))",
    "INSERT INTO gen (id, a) VALUES (1, 10), (2, NULL)",
    "CREATE TABLE parted (id INT, at DATE, KEY (at)) PARTITION BY RANGE (YEAR(at)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 \
     (PARTITION old VALUES LESS THAN (2020), PARTITION `n ew` VALUES LESS THAN MAXVALUE)",
    "INSERT INTO parted VALUES (1, '2019-05-05'), (2, '2024-05-05'), (3, NULL)",
    "CREATE TABLE texts (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY (t)) DEFAULT CHARSET = utf8mb4",
    "INSERT INTO texts VALUES (1, 'Ærøskøbing 😀 \\\\ \\' \" ` ; \\n-- x\\nDELIMITER ;;\\n'), (2, NULL)",
    "CREATE TABLE places (id INT PRIMARY KEY, p POINT NOT NULL SRID 4326, SPATIAL KEY (p))",
    "INSERT INTO places VALUES (1, ST_GeomFromText('POINT(52 13)', 4326))",
    "CREATE TABLE docs (id INT PRIMARY KEY, j JSON, tags JSON, KEY m ((CAST(tags AS UNSIGNED ARRAY))))",
    r#"INSERT INTO docs VALUES (1, '{"a": [1, 2.5, null, true, "x\\"y", "😀"], "b": {}}', '[1, 5, 7]'), (2, NULL, NULL)"#,
    "CREATE TABLE bits (b BIT(10), z DATETIME DEFAULT NULL, y YEAR, e ENUM('a', 'b''c'), s SET('x', 'y'), d DECIMAL(65, 30), f DOUBLE)",
    "SET SESSION sql_mode = ''",
    "INSERT INTO bits VALUES (b'1000000001', '0000-00-00 00:00:00', 2155, 'b''c', 'x,y', 12345678901234567890.123456789, 1e300), (NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "SET SESSION sql_mode = DEFAULT",
    "CREATE TABLE hidden (id INT PRIMARY KEY, secret INT INVISIBLE DEFAULT 7, CONSTRAINT positive CHECK (id > 0))",
    "INSERT INTO hidden (id, secret) VALUES (1, 9), (2, DEFAULT)",
    "SET SESSION sql_generate_invisible_primary_key = ON",
    "CREATE TABLE without_key (a INT)",
    "INSERT INTO without_key VALUES (3), (1), (3)",
    "SET SESSION sql_generate_invisible_primary_key = OFF",
    "CREATE TABLE blobs (id INT PRIMARY KEY, b LONGBLOB, v VECTOR(3))",
    "INSERT INTO blobs VALUES (1, REPEAT(UNHEX('00FF1A0D0A275C22'), 100000), STRING_TO_VECTOR('[1, 2.5, -3]')), (2, '', NULL)",
    "CREATE TABLE `sel``ect '; DROP TABLE x --` (`a ``b` INT, `order` INT, PRIMARY KEY (`order`))",
    "INSERT INTO `sel``ect '; DROP TABLE x --` VALUES (1, 2)",
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE a_child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO a_child VALUES (1, 1), (2, NULL)",
    "ANALYZE TABLE parent UPDATE HISTOGRAM ON id WITH 4 BUCKETS",
    "CREATE VIEW `v i` AS SELECT p.id, c.p FROM parent p LEFT JOIN a_child c ON c.p = p.id",
    "CREATE TRIGGER `t;r` AFTER INSERT ON parent FOR EACH ROW INSERT INTO a_child VALUES (NEW.id + 1000, NEW.id)",
    "CREATE PROCEDURE `p'r`() BEGIN /* UNLOCK TABLES; */ SELECT 'a\\nb;;'; END",
    "CREATE FUNCTION `f\"n`(x INT) RETURNS INT DETERMINISTIC RETURN x + 1",
    "CREATE EVENT `e v` ON SCHEDULE EVERY 1 SECOND COMMENT 'it''s' DO INSERT INTO without_key VALUES (99)",
    "CREATE USER `o'd\"d $u`@`10.%` IDENTIFIED BY 'p\\'w' COMMENT 'x'",
    "GRANT SELECT, EXECUTE ON `w``e;i'r\"d $HOME 名`.* TO `o'd\"d $u`@`10.%`",
];

/// What there is, in words: definitions, rows, accounts.
fn told(db: &Server<MysqldKind>) -> Vec<String> {
    let mut conn = db.root();
    let mut all = Vec::new();
    let mut ask = |query: &str| -> Vec<Vec<Option<Vec<u8>>>> {
        let rows: Vec<mysql::Row> = conn.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        let cell = |v: mysql::Value| match v {
            mysql::Value::NULL => None,
            mysql::Value::Bytes(b) => Some(b),
            other => Some(other.as_sql(true).into_bytes()),
        };
        rows.into_iter()
            .map(|r| r.unwrap().into_iter().map(cell).collect())
            .collect()
    };
    let text = |cell: &Option<Vec<u8>>| {
        String::from_utf8_lossy(cell.as_deref().unwrap_or(b"NULL")).into_owned()
    };
    ask("USE `w``e;i'r\"d $HOME 名`");
    for table in ask("SHOW FULL TABLES") {
        let name = format!("`{}`", text(&table[0]).replace('`', "``"));
        let create = ask(&format!("SHOW CREATE TABLE {name}"));
        all.push(text(&create[0][1]));
        let mut columns = Vec::new();
        for column in ask(&format!("SHOW COLUMNS FROM {name}")) {
            columns.push(format!("`{}`", text(&column[0]).replace('`', "``")));
        }
        let mut rows: Vec<String> = ask(&format!("SELECT {} FROM {name}", columns.join(", ")))
            .iter()
            .map(|r| format!("{name} {r:?}"))
            .collect();
        rows.sort();
        all.extend(rows);
    }
    for query in [
        "SELECT ROUTINE_TYPE, ROUTINE_NAME, ROUTINE_DEFINITION, SQL_MODE, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA LIKE 'w%' ORDER BY 2",
        "SELECT TRIGGER_NAME, ACTION_STATEMENT, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA LIKE 'w%'",
        "SELECT EVENT_NAME, EVENT_DEFINITION, EVENT_COMMENT FROM information_schema.EVENTS",
        "SHOW GRANTS FOR `o'd\"d $u`@`10.%`",
        "SELECT COLUMN_NAME, JSON_EXTRACT(HISTOGRAM, '$.\"number-of-buckets-specified\"') FROM information_schema.COLUMN_STATISTICS WHERE TABLE_NAME = 'parent'",
    ] {
        all.extend(
            ask(query)
                .iter()
                .map(|r| r.iter().map(&text).collect::<Vec<_>>().join(" | ")),
        );
    }
    all
}

#[test]
fn everything_arrives_unchanged() {
    let (source_db, target_db) = servers::<MysqldKind>("event_scheduler=OFF\n", "");
    let mut conn = source_db.root();
    for statement in CREATE {
        conn.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    let pair = Pair::beside(
        source_db,
        target_db,
        "Mysqldump",
        &Changes::default(),
        &Changes::default(),
    );
    let Pair {
        source_db,
        target_db,
        ..
    } = &pair;
    let player = pair.seed(1);
    player.prepare();
    player.backup();
    player.restore();
    let (wanted, found) = (told(source_db), told(target_db));
    assert!(wanted.len() > 40, "{}", wanted.len());
    for (wanted, found) in wanted.iter().zip(&found) {
        assert_eq!(found.get(..3000), wanted.get(..3000));
    }
    assert_eq!(found, wanted);
    assert_eq!(
        target_db.value("SELECT STATUS FROM information_schema.EVENTS"),
        "REPLICA_SIDE_DISABLED"
    );
    player.connect(true);
    source_db.sql("INSERT INTO `w``e;i'r\"d $HOME 名`.parent VALUES (5)");
    crate::support::wait_for(
        "a row with its trigger's arrives",
        std::time::Duration::from_secs(20),
        || {
            let n = target_db.value("SELECT COUNT(*) FROM `w``e;i'r\"d $HOME 名`.a_child");
            (n == "3").then_some(())
        },
    );
    player.cleanup();
}
