//! What is compared: tables and their columns, and the expression by which a row becomes a checksum.

use crate::commands::seed::sql::Db;
use crate::contents::values::{count_typed_json, has_json_table};
use crate::error::Result;
use crate::mysql::{Flavour, quote_name};
use std::collections::BTreeMap;

/// The server's own schemas, which are not compared: accounts, statistics and the state of replication differ rightly.
const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";
/// Strings up to this number of characters are a part of the row's text; longer ones are hashed on their own, because
/// no text may be longer than max_allowed_packet.
const SHORT: u64 = 1024;
/// Added in place of a row's checksum that is NULL: more than any sum of others can be.
const NO_CHECKSUM: &str = "1000000000000000000000000000000";

pub(super) type Name = (String, String);
/// The first key of a range and the one after the last; open where `None`.
pub(super) type Bounds = (Option<i128>, Option<i128>);

pub(super) fn full(name: &Name) -> String {
    format!("{}.{}", name.0, name.1)
}

pub(super) fn quoted((schema, table): &Name) -> String {
    format!("{}.{}", quote_name(schema), quote_name(table))
}

struct Column {
    name: String,
    /// `COLUMN_TYPE`, without the display width that newer servers do not show.
    of_type: String,
    /// Character set; empty if it has none.
    charset: String,
    /// When the row of a versioned table became valid.
    is_row_start: bool,
    /// Its value as a text, see [`field`]; `None`: it is generated when it is read.
    field: Option<String>,
}

pub(super) struct Table {
    pub(super) name: Name,
    /// Estimated bytes of its rows.
    pub(super) bytes: u64,
    /// In their order.
    columns: Vec<Column>,
    /// The first column of its primary key if that is an integer.
    pub(super) key: Option<String>,
    /// Its old rows are kept.
    versioned: bool,
    /// Why it cannot be compared; empty if it can.
    pub(super) unfit: String,
}

/// All tables of a server but its own.
pub(super) fn all(session: &mut Db) -> Result<BTreeMap<Name, Table>> {
    let mut tables = without_columns(session)?;
    add_columns(session, &mut tables)?;
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA NOT IN {OWN} \
         AND INDEX_NAME = 'PRIMARY' AND SEQ_IN_INDEX = 1"
    );
    for row in session.rows(&query)? {
        if let [schema, table, column] = &row[..]
            && let Some(table) = tables.get_mut(&(schema.clone(), table.clone()))
        {
            let of_key = table.columns.iter().find(|c| c.name == *column);
            let of_key = of_key.filter(|c| INTEGERS.contains(&first_word(&c.of_type)));
            table.key = of_key.map(|c| c.name.clone());
        }
    }
    Ok(tables)
}

fn without_columns(session: &mut Db) -> Result<BTreeMap<Name, Table>> {
    let mut tables = BTreeMap::new();
    let engines = session
        .column("SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'")?;
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, ''), IFNULL(DATA_LENGTH, 0) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN {OWN} AND TABLE_TYPE NOT LIKE '%VIEW' \
         AND TABLE_TYPE NOT LIKE 'TEMPORARY%'"
    );
    for row in session.rows(&query)? {
        let [schema, name, kind, engine, bytes] = &row[..] else {
            continue;
        };
        let unfit = match (kind.as_str(), engine.as_str()) {
            ("SEQUENCE", _) => "it is a sequence".to_string(),
            (_, "") => "it cannot be opened".to_string(),
            (_, e) if !engines.iter().any(|known| known.eq_ignore_ascii_case(e)) => {
                format!("engine {e} has no transactions")
            }
            _ => String::new(),
        };
        let name = (schema.clone(), name.clone());
        let table = Table {
            name: name.clone(),
            bytes: bytes.parse().unwrap_or(0),
            columns: Vec::new(),
            key: None,
            versioned: kind == "SYSTEM VERSIONED",
            unfit,
        };
        tables.insert(name, table);
    }
    Ok(tables)
}

fn add_columns(session: &mut Db, tables: &mut BTreeMap<Name, Table>) -> Result<()> {
    let generated = match session.server.flavour {
        Flavour::MariaDb => "IFNULL(GENERATION_EXPRESSION, '')",
        Flavour::MySql => "''",
    };
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IFNULL(CHARACTER_SET_NAME, ''), \
         IFNULL(CHARACTER_MAXIMUM_LENGTH, 0), EXTRA, {generated} FROM information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN {OWN} \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    );
    let typed_json = has_json_table(session.server);
    for row in session.rows(&query)? {
        if let [schema, table, name, of_type, charset, length, extra, made] = &row[..]
            && let Some(table) = tables.get_mut(&(schema.clone(), table.clone()))
        {
            let length = length.parse().unwrap_or(0);
            let is_virtual = extra.to_ascii_uppercase().contains("VIRTUAL");
            table.columns.push(Column {
                name: name.clone(),
                of_type: without_width(of_type),
                charset: charset.replace("utf8mb3", "utf8"),
                is_row_start: made == "ROW START",
                field: (!is_virtual).then(|| field(name, of_type, length, typed_json)),
            });
        }
    }
    Ok(())
}

const INTEGERS: [&str; 6] = [
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "integer",
    "bigint",
];

/// `int` of `int(11) unsigned`.
fn first_word(of_type: &str) -> &str {
    of_type.split(['(', ' ']).next().unwrap_or(of_type)
}

/// `int(11) unsigned` is `int unsigned` since MySQL 8.0.19; with ZEROFILL the width counts.
fn without_width(of_type: &str) -> String {
    let word = first_word(of_type);
    let has_width = INTEGERS.contains(&word) || word == "year";
    match of_type.split_once(')') {
        Some((_, tail)) if has_width && !of_type.contains("zerofill") => format!("{word}{tail}"),
        _ => of_type.to_string(),
    }
}

impl Table {
    /// What differs in the definitions, as far as it decides about the data; `None` if nothing does.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let text = |c: &Column| format!("{} {} {}", c.name, c.of_type, c.charset);
        let stored = |c: &Column| (c.is_row_start, c.field.is_some());
        let alike = |a, b| text(a) == text(b) && stored(a) == stored(b);
        let mut pairs = self.columns.iter().zip(&other.columns);
        if let Some((a, b)) = pairs.find(|(a, b)| !alike(a, b)) {
            let (a, b) = (text(a), text(b));
            let (a, b) = (a.trim_end(), b.trim_end());
            return Some(format!(
                "definition: column {a} on the source, {b} on the target"
            ));
        }
        let (n, m) = (self.columns.len(), other.columns.len());
        (n != m).then(|| format!("definition: {n} columns on the source, {m} on the target"))
    }

    /// The query of the checksum: number of rows, and the sum of their checksums. The sum does not depend on the order, and
    /// rows that are there twice count twice.
    pub(super) fn checksum(&self, bounds: Bounds) -> String {
        let fields = self.columns.iter().filter_map(|c| c.field.clone());
        let mut fields: Vec<String> = fields.collect();
        let mut table = quoted(&self.name);
        if self.versioned {
            table.push_str(" FOR SYSTEM_TIME ALL");
            // Those that no list of columns shows.
            if !self.columns.iter().any(|c| c.is_row_start) {
                fields.push("CAST(`row_start` AS CHAR)".into());
                fields.push("CAST(`row_end` AS CHAR)".into());
            }
        }
        let key = self.key.as_deref().map(quote_name).unwrap_or_default();
        let condition = match bounds {
            (None, None) => String::new(),
            (Some(from), None) => format!(" WHERE {key} >= {from}"),
            (None, Some(to)) => format!(" WHERE {key} < {to}"),
            (Some(from), Some(to)) => format!(" WHERE {key} >= {from} AND {key} < {to}"),
        };
        if fields.is_empty() {
            fields.push("''".into());
        }
        format!(
            "SELECT COUNT(*), IFNULL(SUM(IFNULL(CAST(CONV(LEFT(SHA2(CONCAT_WS(',', {}), 256), 16), 16, 10) AS UNSIGNED), \
             {NO_CHECKSUM})), 0) FROM {table}{condition}",
            fields.join(", ")
        )
    }
}

/// True if a sum has rows in it that could not be summed.
pub(super) fn is_incomplete(sum: &str) -> bool {
    sum.len() >= NO_CHECKSUM.len()
}

/// A column as a text that is never NULL, has no comma outside a string whose length stands before it, and is equal if and only
/// if the value is. `length`: of the longest value in characters (bytes). `typed_json`: the server can count a document's values of
/// SQL types.
fn field(column: &str, of_type: &str, length: u64, typed_json: bool) -> String {
    let c = quote_name(column);
    let of_type = of_type.to_ascii_lowercase();
    let text = match first_word(&of_type) {
        // The text of a document does not show a DATETIME, or a DECIMAL.
        "json" if typed_json => format!("CONCAT(SHA2({c}, 256), {})", count_typed_json(&c)),
        // As a DOUBLE with all of its digits, whatever number of them the column shows. A multiplication keeps -0.
        "float" | "double" => format!("CAST({c} * 1e0 AS CHAR)"),
        "bit" => format!("CAST({c} + 0 AS CHAR)"),
        "enum" | "set" => format!("CONCAT({c} + 0, ':', LENGTH({c}), ':', CAST({c} AS BINARY))"),
        "char" | "varchar" | "binary" | "varbinary" if length <= SHORT => {
            format!("CONCAT(LENGTH({c}), ':', CAST({c} AS BINARY))")
        }
        "char" | "varchar" | "binary" | "varbinary" | "tinytext" | "text" | "mediumtext"
        | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "json" | "vector"
        | "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => format!("SHA2({c}, 256)"),
        _ => format!("CAST({c} AS CHAR)"),
    };
    format!("IFNULL({text}, '-')")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str, length: u64) -> Column {
        Column {
            name: name.into(),
            of_type: data_type.into(),
            charset: String::new(),
            is_row_start: false,
            field: Some(field(name, data_type, length, false)),
        }
    }

    fn table(columns: Vec<Column>) -> Table {
        Table {
            name: ("a`b".into(), "c".into()),
            bytes: 0,
            columns,
            key: Some("id".into()),
            versioned: false,
            unfit: String::new(),
        }
    }

    #[test]
    fn widths_that_only_old_servers_show() {
        for (given, wanted) in [
            ("int(11)", "int"),
            ("bigint(20) unsigned", "bigint unsigned"),
            ("int(5) unsigned zerofill", "int(5) unsigned zerofill"),
            ("decimal(10,2)", "decimal(10,2)"),
            ("year(4)", "year"),
            ("enum('int(1)')", "enum('int(1)')"),
            ("varchar(20)", "varchar(20)"),
        ] {
            assert_eq!(without_width(given), wanted);
        }
    }

    #[test]
    fn the_query_of_a_range() {
        let t = table(vec![
            column("id", "int", 0),
            column("t", "longtext", 1 << 30),
        ]);
        let query = t.checksum((Some(-5), Some(9)));
        assert!(
            query.ends_with("FROM `a``b`.`c` WHERE `id` >= -5 AND `id` < 9"),
            "{query}"
        );
        assert!(
            query.contains("IFNULL(CAST(`id` AS CHAR), '-'), IFNULL(SHA2(`t`, 256), '-')"),
            "{query}"
        );
        assert!(t.checksum((None, None)).ends_with("FROM `a``b`.`c`"));
        assert!(is_incomplete(NO_CHECKSUM) && !is_incomplete("18446744073709551615"));
    }

    #[test]
    fn definitions_that_decide_about_the_data() {
        let a = table(vec![column("id", "int", 0)]);
        assert_eq!(a.difference(&a), None);
        let b = table(vec![column("id", "bigint", 0)]);
        assert_eq!(
            a.difference(&b).unwrap(),
            "definition: column id int on the source, id bigint on the target"
        );
        let c = table(vec![column("id", "int", 0), column("n", "int", 0)]);
        assert!(
            a.difference(&c)
                .unwrap()
                .contains("1 columns on the source, 2")
        );
    }
}
