//! Mysqldump: a value that a column cannot take is an error of the load, and what a source holds all the same is copied as it is.

use crate::support::agent::Changes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::Pair;
use crate::support::server::Kind;
use crate::support::wait_for;
use mysql::prelude::Queryable;
use std::time::Duration;

/// Each of these cannot be loaded in strict mode.
const EXCEPTIONS: &str = "SET SESSION sql_mode = ''; \
    CREATE TABLE shop.kinds (id INT PRIMARY KEY, e ENUM('a', 'b') NOT NULL, f ENUM('it''s', '') DEFAULT NULL) ENGINE=InnoDB; \
    INSERT INTO shop.kinds VALUES (1, 'a', ''), (2, 'none', NULL), (3, 'none', 'it''s'); \
    CREATE TABLE shop.twins (e ENUM('a', 'A', 'b'), s SET('x', 'X ')) ENGINE=InnoDB CHARSET=latin1; \
    INSERT INTO shop.twins VALUES ('b', 'x'); \
    CREATE TABLE shop.raw (e ENUM('a', 'b') CHARACTER SET binary) ENGINE=InnoDB; \
    CREATE TABLE shop.computed (q INT, w VARCHAR(9), n INT AS (w + 0) STORED, v INT AS (w * 2) VIRTUAL, KEY (v), CHECK (w + 1 > 0)) ENGINE=InnoDB; \
    INSERT INTO shop.computed (q, w) VALUES (70001, 'abc'), (2, '12x')";

const VALUES: [&str; 3] = [
    "SELECT HEX(w) FROM shop.plain",
    "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, e + 0, e, f) ORDER BY id SEPARATOR ';') FROM shop.kinds",
    "SELECT GROUP_CONCAT(CONCAT_WS(' ', w, n, v) ORDER BY w SEPARATOR ';') FROM shop.computed",
];

/// A row's first `value` becomes in the dump one that its column cannot take. Returns the error of Restore.
fn damaged<K: Kind>(pair: &Pair<K>, id: i64, value: &str) -> String {
    let seed = pair.seed(id);
    seed.prepare();
    seed.backup();
    let mut dump = std::fs::read(pair.dump_file()).expect("dump");
    let value = format!("({value},");
    let at = dump
        .windows(value.len())
        .position(|w| w == value.as_bytes());
    let at = at.expect("the row");
    dump[at..at + value.len()].copy_from_slice(b"(1e300,");
    std::fs::write(pair.dump_file(), dump).expect("dump");
    seed.start_restore();
    pair.must_fail(id, "Restore")
}

fn rows_are_loaded_as_they_are<K: Kind>() {
    // Options that would change what is dumped do not count.
    let line = "mysqldump-addtional-opts = [\"--single-transaction\", \"--skip-opt\", \"--quick\", \"--skip-tz-utc\", \
         \"--default-character-set=utf8\", \"--skip-set-charset\"]";
    let changes = Changes {
        lines: vec![("mysqldump", line.to_string())],
        ..Changes::default()
    };
    let pair = Pair::<K>::of("", "", &changes);
    pair.source_db.sql(
        "CREATE TABLE shop.plain (n INT, w VARCHAR(9) CHARACTER SET utf8mb4) ENGINE=InnoDB; \
         INSERT INTO shop.plain VALUES (70000, _utf8mb4 X'F09F9880')",
    );
    let text = damaged(&pair, 1, "70000");
    assert!(
        text.contains("ERROR 1264") && text.contains("partial"),
        "{text}"
    );

    // Other tables are loaded without strict mode now, one of them with a generated column of this name.
    pair.source_db.sql(EXCEPTIONS);
    let text = damaged(&pair, 2, "70000");
    assert!(text.contains("ERROR 1264"), "{text}");
    // There the warnings of the client say so.
    let text = damaged(&pair, 3, "70001");
    assert!(
        text.contains("has changed a value: Warning (Code 1264)")
            && text.contains("'q'")
            && text.contains("partial"),
        "{text}"
    );

    let seed = pair.seed(4);
    seed.prepare();
    seed.backup();
    seed.start_restore();
    seed.must_complete(&pair.target, "Restore");
    seed.cleanup();
    for query in VALUES {
        assert_eq!(pair.target_db.value(query), pair.source_db.value(query));
    }
    assert_eq!(
        VALUES.map(|v| pair.target_db.value(v)),
        ["F09F9880", "1 1 a ;2 0 ;3 0  it's", "12x 12 24;abc 0 0"]
    );

    // The text '' means the member.
    pair.source_db.sql(
        "SET SESSION sql_mode = ''; CREATE TABLE shop.unclear (e ENUM('a', '')); INSERT INTO shop.unclear VALUES ('none')",
    );
    let seed = pair.seed(5);
    seed.prepare();
    seed.start_backup();
    let text = pair.must_fail(5, "Backup");
    assert!(
        text.contains("table shop.unclear")
            && text.contains("number 0")
            && text.contains("Xtrabackup"),
        "{text}"
    );

    // An abort ends the search.
    pair.source_db.sql("DROP TABLE shop.unclear");
    let mut hold = pair.source_db.root();
    hold.query_drop("LOCK TABLES shop.kinds WRITE")
        .expect("lock");
    let seed = pair.seed(6);
    seed.prepare();
    seed.start_backup();
    wait_for("the search waits", Duration::from_secs(30), || {
        let waiting = pair.source_db.connections_of("agent");
        waiting
            .iter()
            .any(|c| c.contains("SELECT 1 FROM `shop`.`kinds`"))
            .then_some(())
    });
    pair.target.call("/api/abort-seed-stage/6/Backup");
    pair.assert_nothing_left();
}

#[test]
fn rows_are_loaded_as_they_are_on_mariadb() {
    rows_are_loaded_as_they_are::<MariadbKind>();
}

#[test]
fn rows_are_loaded_as_they_are_on_mysql() {
    rows_are_loaded_as_they_are::<MysqldKind>();
}
