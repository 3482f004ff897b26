//! Mysqldump: a value that a column cannot take is an error of the load, and what a source holds all the same is copied as it is.

use crate::support::agent::Changes;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::Pair;
use crate::support::server::Kind;

/// Each of these cannot be loaded in strict mode.
const EXCEPTIONS: &str = "SET SESSION sql_mode = ''; \
    CREATE TABLE shop.kinds (id INT PRIMARY KEY, e ENUM('a', 'b') NOT NULL, f ENUM('it''s', '') DEFAULT NULL) ENGINE=InnoDB; \
    INSERT INTO shop.kinds VALUES (1, 'a', ''), (2, 'none', NULL), (3, 'none', 'it''s'); \
    CREATE TABLE shop.twins (e ENUM('a', 'A', 'b'), s SET('x', 'X ')) ENGINE=InnoDB CHARSET=latin1; \
    INSERT INTO shop.twins VALUES ('b', 'x'); \
    CREATE TABLE shop.computed (w VARCHAR(9), g INT AS (w + 0) STORED, v INT AS (w * 2) VIRTUAL, KEY (v), CHECK (w + 1 > 0)) ENGINE=InnoDB; \
    INSERT INTO shop.computed (w) VALUES ('abc'), ('12x')";

const VALUES: [&str; 2] = [
    "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, e + 0, e, f) ORDER BY id SEPARATOR ';') FROM shop.kinds",
    "SELECT GROUP_CONCAT(CONCAT_WS(' ', w, g, v) ORDER BY w SEPARATOR ';') FROM shop.computed",
];

/// The value 70000 of `shop.plain` becomes in the dump one that its column cannot take. Returns the error of Restore.
fn damaged<K: Kind>(pair: &Pair<K>, id: i64) -> String {
    let seed = pair.seed(id);
    seed.prepare();
    seed.backup();
    let mut dump = std::fs::read(pair.dump_file()).expect("dump");
    let value = b"(70000,";
    let at = dump.windows(value.len()).position(|w| w == value);
    let at = at.expect("the row");
    dump[at..at + value.len()].copy_from_slice(b"(1e300,");
    std::fs::write(pair.dump_file(), dump).expect("dump");
    seed.start_restore();
    pair.must_fail(id, "Restore")
}

fn rows_are_loaded_as_they_are<K: Kind>() {
    let pair = Pair::<K>::of("", "", &Changes::default());
    pair.source_db.sql(
        "CREATE TABLE shop.plain (n INT, w VARCHAR(9)) ENGINE=InnoDB; INSERT INTO shop.plain VALUES (70000, 'x')",
    );
    let text = damaged(&pair, 1);
    assert!(
        text.contains("ERROR 1264") && text.contains("partial"),
        "{text}"
    );

    // Without strict mode the warnings of the client say so.
    pair.source_db.sql(EXCEPTIONS);
    let text = damaged(&pair, 2);
    assert!(
        text.contains("has changed a value: Warning (Code 1264)")
            && text.contains("'n'")
            && text.contains("partial"),
        "{text}"
    );

    let seed = pair.seed(3);
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
        ["1 1 a ;2 0 ;3 0  it's", "12x 12 24;abc 0 0"]
    );

    // The text '' means the member.
    pair.source_db.sql(
        "SET SESSION sql_mode = ''; CREATE TABLE shop.unclear (e ENUM('a', '')); INSERT INTO shop.unclear VALUES ('none')",
    );
    let seed = pair.seed(4);
    seed.prepare();
    seed.start_backup();
    let text = pair.must_fail(4, "Backup");
    assert!(
        text.contains("table shop.unclear")
            && text.contains("number 0")
            && text.contains("Xtrabackup"),
        "{text}"
    );
}

#[test]
fn rows_are_loaded_as_they_are_on_mariadb() {
    rows_are_loaded_as_they_are::<MariadbKind>();
}

#[test]
fn rows_are_loaded_as_they_are_on_mysql() {
    rows_are_loaded_as_they_are::<MysqldKind>();
}
