//! Values and definitions that a dump does not carry as they are: refused by name before the target is touched, or named, or copied
//! right all the same.

use crate::support::agent::Changes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::Pair;
use crate::support::server::{Kind, Server};
use mysql::prelude::Queryable;

fn run<K: Kind>(db: &Server<K>, statements: &[&str]) {
    let mut conn = db.root();
    conn.query_drop("SET NAMES utf8mb4").expect("names");
    conn.query_drop("SET SESSION sql_mode = ''").expect("mode");
    for statement in statements {
        conn.query_drop(*statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// What the source has (in table `shop.c`), and words of the refusal.
type Case<'a> = (&'a [&'a str], &'a [&'a str]);

/// For both families. Each has the table `shop.c`.
const REFUSED: &[Case] = &[
    (
        &[
            "CREATE TABLE shop.c (a INT, s VARCHAR(9) CHARACTER SET sjis)",
            "INSERT INTO shop.c VALUES (1, X'8160'), (2, X'5C')",
        ],
        &[
            "characters that a conversion to utf8mb4",
            "shop.c.s",
            "Mydumper",
        ],
    ),
    (
        &[
            "CREATE TABLE shop.c (s TEXT CHARACTER SET cp932)",
            "INSERT INTO shop.c VALUES (X'8790')",
        ],
        &["shop.c.s"],
    ),
    (
        &[
            "CREATE TABLE shop.c (a VARCHAR(9) CHARACTER SET gbk, `b``b` CHAR(3) CHARACTER SET hebrew)",
            "INSERT INTO shop.c VALUES ('x', X'FF')",
        ],
        &["shop.c.b`b"],
    ),
    (
        &[
            "CREATE TABLE shop.c (e ENUM(X'61', X'98') CHARACTER SET cp1251)",
            "INSERT INTO shop.c VALUES (2)",
        ],
        &["members that SHOW CREATE TABLE does not print", "shop.c.e"],
    ),
    (
        &[
            "CREATE TABLE shop.c (e ENUM('?', '\u{1F600}') CHARACTER SET utf8mb4)",
            "INSERT INTO shop.c VALUES (2)",
        ],
        &["members that SHOW CREATE TABLE does not print", "shop.c.e"],
    ),
    (
        &[
            "CREATE TABLE shop.c (e SET('a', 'x\u{1F600}') CHARACTER SET utf8mb4)",
            "INSERT INTO shop.c VALUES (3)",
        ],
        &["members that SHOW CREATE TABLE does not print", "shop.c.e"],
    ),
    // No row says which member it is.
    (
        &["CREATE TABLE shop.c (e ENUM('a', '\u{1F600}') CHARACTER SET utf16)"],
        &["members that SHOW CREATE TABLE does not print", "shop.c.e"],
    ),
    (
        &[
            "SET time_zone = '+05:30'",
            "CREATE TABLE shop.c (ts TIMESTAMP, d DATE AS (DATE(ts)) STORED)",
            "INSERT INTO shop.c (ts) VALUES ('2021-05-05 12:00:00'), ('2021-05-05 02:00:00')",
        ],
        &["stored generated columns", "shop.c.d:", "time_zone"],
    ),
    (
        &[
            "SET time_zone = '+05:30'",
            "CREATE TABLE shop.c (ts TIMESTAMP, g DATETIME AS (ts) STORED)",
            "INSERT INTO shop.c (ts) VALUES ('2021-05-05 12:00:00')",
        ],
        &["stored generated columns", "shop.c.g:"],
    ),
];

const REFUSED_ON_MARIADB: &[Case] = &[
    (
        &["CREATE TABLE shop.c (d VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT '\u{1F600}')"],
        &["DEFAULT values", "shop.c.d"],
    ),
    (
        &["CREATE TABLE shop.c (d VARCHAR(9) CHARACTER SET cp1251 DEFAULT X'98')"],
        &["DEFAULT values", "shop.c.d"],
    ),
    // A column that is not nullable: known where there is a row.
    (
        &[
            "CREATE TABLE shop.c (d VARCHAR(9) CHARACTER SET utf8mb4 NOT NULL DEFAULT '\u{1F600}')",
            "INSERT INTO shop.c VALUES ()",
        ],
        &["DEFAULT values", "shop.c.d"],
    ),
    // Only a row of the past has it.
    (
        &[
            "CREATE TABLE shop.c (s VARCHAR(9) CHARACTER SET sjis) WITH SYSTEM VERSIONING",
            "INSERT INTO shop.c VALUES (X'5C')",
            "DELETE FROM shop.c",
        ],
        &["characters that a conversion to utf8mb4", "shop.c.s"],
    ),
];

const REFUSED_ON_MYSQL: &[Case] = &[
    (
        &[
            "SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'",
            "CREATE TABLE shop.c (b CHAR(5), s VARCHAR(20) AS (CONCAT(b, 'x')) STORED)",
            "INSERT INTO shop.c (b) VALUES ('a')",
        ],
        &["stored generated columns", "shop.c.s:"],
    ),
    (
        &[
            "SET sql_mode = 'NO_UNSIGNED_SUBTRACTION'",
            "CREATE TABLE shop.c (a INT UNSIGNED, s BIGINT AS (a - 5) STORED)",
            "INSERT INTO shop.c (a) VALUES (2)",
        ],
        &["stored generated columns", "shop.c.s", "ERROR 1690"],
    ),
    (
        &[
            "CREATE TABLE shop.c (s VARCHAR(9) CHARACTER SET ucs2)",
            "INSERT INTO shop.c VALUES (X'D800')",
        ],
        &["characters that a conversion to utf8mb4", "shop.c.s"],
    ),
    (
        &[
            "CREATE TABLE shop.c (a VARCHAR(9), v VARCHAR(20) AS (CONCAT(a, '\u{1F600}')) VIRTUAL)",
            "INSERT INTO shop.c (a) VALUES ('a')",
        ],
        &["generated columns", "shop.c.v"],
    ),
];

/// What none of this must keep from being copied.
const COPIED: &[&str] = &[
    "CREATE TABLE shop.bytes (id INT PRIMARY KEY AUTO_INCREMENT, l VARCHAR(9) CHARACTER SET latin1, k VARCHAR(9) CHARACTER SET koi8r, \
     m VARCHAR(9) CHARACTER SET cp1251, j VARCHAR(9) CHARACTER SET sjis, w VARCHAR(9) CHARACTER SET utf16, \
     e ENUM('a', '?') CHARACTER SET utf8mb4, s SET('?', 'b') CHARACTER SET utf8mb4, d VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'why?', \
     n CHAR(9) CHARACTER SET utf8mb4 NOT NULL DEFAULT '', q VARCHAR(9) CHARACTER SET cp1251 NOT NULL DEFAULT 'why?')",
    "CREATE TABLE shop.empty (n CHAR(9) CHARACTER SET utf8mb4 NOT NULL DEFAULT 'x', d VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'why?')",
    "INSERT INTO shop.bytes (l, k, m, j, w, e, s) VALUES (X'80818D8F90', X'95FF', X'E4FF', X'8160', X'D83DDE00', 2, 3)",
    "CREATE TABLE shop.computed (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20), b CHAR(5), n DECIMAL(10,4), x DOUBLE, f FLOAT, dt DATETIME(6), \
     i1 INT AS (a + 0) STORED, i2 INT AS (n) STORED, i3 BIGINT UNSIGNED AS (n * 3) STORED, i4 TINYINT AS (x) STORED, \
     d1 DECIMAL(10,2) AS (n / 3) STORED, d2 DECIMAL(5,1) AS (x) STORED, x1 DOUBLE AS (n / 7) STORED, x2 DOUBLE(8,2) AS (x / 7) STORED, \
     f1 FLOAT AS (n / 7) STORED, t1 DATE AS (dt) STORED, t2 DATETIME(6) AS (dt) STORED, t4 DATE AS (CONCAT('2021-01-0', id2)) STORED, \
     c1 CHAR(9) AS (CONCAT(a, ' ')) STORED, c2 VARCHAR(2) CHARACTER SET latin1 AS (LEFT(a, 2)) STORED, c3 TEXT AS (CONCAT(a, '\u{e4}?\\'')) STORED, \
     c4 VARCHAR(30) AS (n) STORED, v1 BINARY(9) AS (a) STORED, v2 VARBINARY(20) AS (UPPER(a)) STORED, y YEAR AS (YEAR(dt)) STORED, \
     e1 ENUM('a', 'b') AS (IF(n > 3, 'a', 'b')) STORED, e2 SET('a', 'b') AS (1) STORED, b1 BIT(8) AS (id2) STORED, id2 INT)",
    "INSERT INTO shop.computed (id2, a, b, n, x, f, dt) VALUES (1, '5', 'a ', 2.5, 2.5, 1.1, '2021-05-05 12:34:56.987654'), \
     (2, '12abc', 'b', 3.5555, 3.49999, -7.7, '2000-01-01'), (3, NULL, NULL, NULL, NULL, NULL, NULL), (4, '-0', '', 0, 1e2, 0, '1999-12-31 23:59:59.5')",
];

fn refused<K: Kind>(pair: &Pair<K>, cases: &[&[Case]]) {
    let seed = pair.seed(1);
    for (statements, words) in cases.concat() {
        seed.prepare();
        run(&pair.source_db, statements);
        seed.start_backup();
        let text = pair.must_fail(1, "Backup");
        for word in words {
            assert!(text.contains(word), "{statements:?}: {word}: {text}");
        }
        pair.assert_unchanged();
        run(&pair.source_db, &["DROP TABLE shop.c"]);
    }
    // It is found at Prepare of the source already.
    let (statements, words) = REFUSED[0];
    run(&pair.source_db, statements);
    seed.start_prepare();
    let state = seed.poll(&pair.source, "Prepare");
    assert_eq!(state["Status"], "Error", "{state}");
    let details = state["Details"].as_str().expect("Details");
    assert!(details.contains(words[0]), "{details}");
    seed.must_complete(&pair.target, "Prepare");
    run(&pair.source_db, &["DROP TABLE shop.c"]);
}

fn contents<K: Kind>(db: &Server<K>, table: &str) -> Vec<String> {
    let columns = db.sql(&format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME = '{table}' AND DATA_TYPE <> 'float' \
         ORDER BY ORDINAL_POSITION"
    ));
    let hex: Vec<String> = columns
        .iter()
        .map(|c| format!("IFNULL(HEX(CAST({c} AS BINARY)), 'NULL')"))
        .collect();
    let rows = db.sql(&format!(
        "SELECT CONCAT_WS(' ', {}) FROM shop.{table} ORDER BY 1",
        hex.join(", ")
    ));
    assert!(!rows.is_empty());
    rows
}

fn copied<K: Kind>(pair: &Pair<K>) -> String {
    let seed = pair.seed(1);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    let state = seed.must_complete(&pair.target, "Restore");
    seed.cleanup();
    for table in ["bytes", "computed"] {
        assert_eq!(
            contents(&pair.target_db, table),
            contents(&pair.source_db, table)
        );
    }
    state["Details"].as_str().expect("Details").to_string()
}

#[test]
fn values_that_a_dump_does_not_carry_on_mariadb() {
    let pair = Pair::<MariadbKind>::of("", "", &Changes::default());
    refused(&pair, &[REFUSED, REFUSED_ON_MARIADB]);
    run(&pair.source_db, COPIED);
    copied(&pair);
}

#[test]
fn values_that_a_dump_does_not_carry_on_mysql() {
    let pair = Pair::<MysqldKind>::of("", "", &Changes::default());
    refused(&pair, &[REFUSED, REFUSED_ON_MYSQL]);
    run(&pair.source_db, COPIED);
    run(
        &pair.source_db,
        &[
            "CREATE TABLE shop.plain (j JSON)",
            "INSERT INTO shop.plain VALUES ('{\"a\": [1, 2.5, true, null, \"2021-01-01\"]}'), (JSON_ARRAY(CAST(5 AS UNSIGNED)))",
            "CREATE TABLE shop.typed (id INT PRIMARY KEY, j JSON)",
            "INSERT INTO shop.typed VALUES (1, '[1]'), (2, JSON_OBJECT('a', JSON_ARRAY(CAST('2021-01-01' AS DATETIME))))",
            "CREATE TABLE shop.exact (j JSON)",
            "INSERT INTO shop.exact VALUES (CAST(CAST(1.5 AS DECIMAL(3,1)) AS JSON))",
        ],
    );
    let text = copied(&pair);
    assert!(
        text.contains("JSON columns with values of SQL types")
            && text.contains(" shop.exact.j, shop.typed.j: a dump has their text"),
        "{text}"
    );
}
