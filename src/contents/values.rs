//! Values and definitions that a dump does not carry as they are, although the server has them: one table of the columns that may hold
//! them, the condition by which rows with such a value are found, and what each method makes of them. Rows are searched at the
//! beginning of Backup, and for a few seconds at Prepare of the source and by `seed` before anything is started.

use super::create_table::{expression, members};
use super::finding::Outcome::{Inexact, Refused};
use super::finding::{By, Finding, Outcome};
use super::row_mode::LENIENT;
use crate::error::Result;
use crate::mysql::{Flavour, Server, Version, query, quote_name, quote_text};
use crate::seed::types::Method;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long rows are searched before a seed is started.
pub(crate) const SEARCH_LIMIT: Duration = Duration::from_secs(10);
/// Characters of a server's message that are shown.
const SHOWN: usize = 200;
const NOT_OURS: &str = "('information_schema', 'performance_schema', 'mysql', 'sys')";

/// Character sets of which every string, bytes without a character included, is the same again after a conversion to utf8mb4 and back
/// (all 256 bytes, and for utf8 all that the server accepts; MariaDB 10.11.19 and MySQL 9.7.4).
const EXACT: [&str; 15] = [
    "binary", "cp850", "cp852", "cp866", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5",
    "latin7", "macce", "macroman", "utf8", "utf8mb3",
];
/// The same, with characters of four bytes in UTF-8, which SHOW CREATE prints as `?`.
const WIDE: &str = "utf8mb4";

/// A column that a rule may concern.
#[derive(Debug, Clone, Default)]
struct Column {
    name: String,
    /// `DATA_TYPE`, in lower case.
    data_type: String,
    /// `COLUMN_TYPE`.
    declared: String,
    /// Empty if it has none.
    charset: String,
    /// `COLUMN_DEFAULT`; empty if there is none.
    default: String,
    /// Characters (bytes), or digits.
    length: u64,
    /// Digits after the point, also of seconds.
    scale: Option<u64>,
    is_stored: bool,
    /// As SHOW CREATE TABLE prints it; `None` if it is not generated.
    expression: Option<String>,
}

#[derive(Debug, Default)]
struct Table {
    columns: Vec<Column>,
    /// With old rows.
    versioned: bool,
}

/// A query for one column. It returns 1 if the column is concerned.
enum Search {
    Nothing,
    /// A condition on rows.
    Rows(String),
    /// A query of its own, in which `@table` is the table.
    Query(String),
}

struct Rule {
    /// In the plural.
    what: &'static str,
    search: fn(&Column, Server) -> Search,
    /// Whether an error of the search is what a load would come to as well.
    errors_count: bool,
    by: By,
    outcome: Outcome,
}

#[rustfmt::skip]
static RULES: [Rule; 5] = [
    Rule {
        what: "characters that a conversion to utf8mb4 and back changes in columns",
        search: |c, _| changed_by_utf8(c), errors_count: false, by: By::Mysqldump,
        outcome: Refused("mysqldump writes all text in utf8mb4, and these would be altered; correct the values, or use the seed \
            method Mydumper, which copies their bytes, or a physical method"),
    },
    Rule {
        what: "members that SHOW CREATE TABLE does not print as they are in the ENUM and SET columns",
        search: |c, _| unprintable_members(c), errors_count: false, by: By::Logical,
        outcome: Refused("a dump would create others, and whether a member is '?' itself is known only where a row has it; use a \
                          physical method, or rename the members"),
    },
    Rule {
        what: "DEFAULT values that SHOW CREATE TABLE does not print as they are in the columns",
        search: unprintable_default, errors_count: false, by: By::Logical,
        outcome: Refused("a dump would create others; use a physical method, or change the defaults"),
    },
    Rule {
        what: "stored generated columns whose values differ from what a load would compute:",
        search: |c, _| recomputed(c), errors_count: true, by: By::Logical,
        outcome: Refused("they depend on the session that wrote the row (time_zone, sql_mode), and a load computes them again in UTC \
                          and its own mode; use a physical method, or write the rows again in a session with time_zone = '+00:00' \
                          and without PAD_CHAR_TO_FULL_LENGTH and NO_UNSIGNED_SUBTRACTION"),
    },
    Rule {
        what: "JSON columns with values of SQL types (DECIMAL, DATE, DATETIME, TIME, BLOB, BIT)",
        search: typed_json, errors_count: false, by: By::Logical,
        outcome: Inexact("a dump has their text, so they become strings and doubles, and replication of tables without a primary key \
                          may stop; a physical method copies them exactly"),
    },
];

/// Columns by rule.
#[derive(Debug, Default)]
pub(crate) struct Found(BTreeMap<usize, Vec<String>>);

/// Whether a string may change between its character set and the utf8 of SHOW CREATE.
fn is_uncertain(charset: &str) -> bool {
    !charset.is_empty() && !EXACT.contains(&charset)
}

/// `text` after a conversion to one character set and then to another.
fn through(text: &str, first: &str, then: &str) -> String {
    format!("CAST(CONVERT(CONVERT({text} USING {first}) USING {then}) AS BINARY)")
}

/// Compares bytes: `text` with itself after a conversion to utf8mb4 and back.
fn differs_after_utf8(text: &str, charset: &str) -> String {
    format!(
        "CAST({text} AS BINARY) <> {}",
        through(text, "utf8mb4", charset)
    )
}

fn changed_by_utf8(c: &Column) -> Search {
    if c.expression.is_some() || c.charset == WIDE || !is_uncertain(&c.charset) {
        return Search::Nothing;
    }
    Search::Rows(differs_after_utf8(&quote_name(&c.name), &c.charset))
}

/// A member with a character that the dictionary cannot show is `?` there. One that is shown as `?` is really that only if a row has it.
fn unprintable_members(c: &Column) -> Search {
    let is_set = c.data_type == "set";
    if !(is_set || c.data_type == "enum") || !is_uncertain(&c.charset) {
        return Search::Nothing;
    }
    let (name, charset) = (quote_name(&c.name), &c.charset);
    let mut wrong = Vec::new();
    for (i, member) in members(&c.declared).iter().enumerate() {
        let bytes = format!("CAST({member} AS BINARY)");
        if charset != WIDE {
            wrong.push(format!(
                "{bytes} <> {}",
                through(member, charset, "utf8mb4")
            ));
        }
        if !member.contains('?') {
            continue;
        }
        let (row, same) = if is_set {
            let bit = 1_u64.checked_shl(i as u32).unwrap_or(0);
            let text = format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY)");
            let changed = differs_after_utf8(&name, charset);
            let same = format!("FIND_IN_SET({bytes}, {text}) > 0 AND NOT {changed}");
            (format!("({name} + 0) & {bit}"), same)
        } else {
            let same = format!(
                "CAST({name} AS BINARY) = CAST(CONVERT({member} USING {charset}) AS BINARY)"
            );
            (format!("{name} + 0 = {}", i + 1), same)
        };
        wrong.push(format!(
            "NOT IFNULL((SELECT {same} FROM @table WHERE {row} LIMIT 1), 0)"
        ));
    }
    if wrong.is_empty() {
        return Search::Nothing;
    }
    Search::Query(format!("SELECT {}", wrong.join(" OR ")))
}

/// MySQL prints such a default in hexadecimal. In MariaDB it is a literal there, or another expression.
fn unprintable_default(c: &Column, server: Server) -> Search {
    if server.flavour != Flavour::MariaDb
        || !c.default.starts_with('\'')
        || !is_uncertain(&c.charset)
    {
        return Search::Nothing;
    }
    // Of a nullable column it needs no row; of another one DEFAULT() is NULL where there is no row.
    let real = format!("DEFAULT(t.{})", quote_name(&c.name));
    let wrong = format!(
        "({real} IS NOT NULL AND (NOT (CAST(CONVERT({real} USING utf8mb4) AS BINARY) <=> CAST({} AS BINARY)) OR {}))",
        c.default,
        differs_after_utf8(&real, &c.charset)
    );
    Search::Query(format!(
        "SELECT MAX(w) FROM ((SELECT {wrong} AS w FROM (SELECT 1) one LEFT JOIN @table t ON FALSE) \
         UNION ALL (SELECT {wrong} FROM @table t LIMIT 1)) u"
    ))
}

/// The column differs from its expression, whichever way the value of the expression is converted to the column's type. A virtual
/// one is computed when it is read, and differs only if its expression is not printed as it is.
fn recomputed(c: &Column) -> Search {
    let Some(expression) = &c.expression else {
        return Search::Nothing;
    };
    if !c.is_stored && !expression.contains('?') {
        return Search::Nothing;
    }
    let (n, e) = (quote_name(&c.name), format!("({expression})"));
    let scale = c.scale.unwrap_or(0);
    let mut same = vec![format!("{n} <=> {e}")];
    match c.data_type.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => same.extend([
            format!("{n} <=> CAST({e} AS SIGNED)"),
            format!("{n} <=> CAST({e} AS UNSIGNED)"),
            format!("{n} <=> ROUND({e})"),
        ]),
        "decimal" => same.extend([
            format!("{n} <=> CAST({e} AS DECIMAL({}, {scale}))", c.length),
            format!("{n} <=> ROUND({e}, {scale})"),
        ]),
        "double" => {
            same.push(format!("{n} <=> {e} + 0e0"));
            same.extend(c.scale.map(|s| format!("{n} <=> ROUND({e}, {s})")));
        }
        "float" => same.push(format!("ABS({n} - {e}) <= ABS({n}) * 1e-5")),
        // MySQL rounds where a column is assigned.
        "date" => same.extend([
            format!("{n} <=> CAST({e} AS DATE)"),
            format!("{n} <=> CAST(CAST({e} AS DATETIME) AS DATE)"),
        ]),
        "datetime" | "timestamp" => same.push(format!("{n} <=> CAST({e} AS DATETIME({scale}))")),
        "time" => same.push(format!("{n} <=> CAST({e} AS TIME({scale}))")),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            let text = match c.data_type.as_str() {
                "char" => format!("TRIM(TRAILING ' ' FROM {e})"),
                _ => e,
            };
            let charset = &c.charset;
            let of = |text: &str| {
                format!("CAST({n} AS BINARY) <=> CAST(CONVERT({text} USING {charset}) AS BINARY)")
            };
            same = vec![of(&text), of(&format!("LEFT({text}, {})", c.length))];
        }
        "binary" => same.push(format!("{n} <=> CAST({e} AS BINARY({}))", c.length)),
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            same = vec![format!("{n} <=> CAST({e} AS BINARY)")];
        }
        "year" | "bit" | "enum" | "set" => same.push(format!("{n} + 0 <=> {e} + 0")),
        _ => return Search::Nothing,
    }
    Search::Rows(format!("NOT ({})", same.join(" OR ")))
}

/// Values in a JSON document that its text does not show to be more than a string or a number. Replication finds a row whose document
/// is equal; an unsigned integer and a signed one are equal, and so are 1.5 as DECIMAL and as DOUBLE.
fn typed_json(c: &Column, server: Server) -> Search {
    if c.data_type != "json" || c.expression.is_some() || server.flavour != Flavour::MySql {
        return Search::Nothing;
    }
    let name = quote_name(&c.name);
    if !has_json_table(server) {
        return Search::Rows(format!(
            "NOT ({name} = CAST(CAST({name} AS CHAR) AS JSON)) OR \
             CAST({name} AS BINARY) <> CAST(CAST(CAST({name} AS CHAR) AS JSON) AS BINARY)"
        ));
    }
    Search::Rows(format!("{} > 0", count_typed_json(&name)))
}

/// Whether a server has JSON_TABLE with all that [`count_typed_json`] needs.
pub(crate) fn has_json_table(server: Server) -> bool {
    server.flavour == Flavour::MySql && server.version >= Version(8, 0, 11)
}

/// A number that depends on how many values of which SQL type are in the JSON document `name`, at any depth; 0 if there is none.
pub(crate) fn count_typed_json(name: &str) -> String {
    let part = |path: &str| {
        format!(
            "(SELECT IFNULL(SUM(FIELD(JSON_TYPE(v), 'DECIMAL', 'DATE', 'DATETIME', 'TIME', 'BLOB', 'BIT', 'OPAQUE')), 0) \
             FROM JSON_TABLE(JSON_ARRAY({name}), '{path}' COLUMNS (v JSON PATH '$')) typed)"
        )
    };
    format!("({} + {})", part("$**[*]"), part("$**.*"))
}

/// Tables with columns that a rule may concern, but for those in `left_out` (`schema.table`).
fn tables(
    conn: &mut Conn,
    left_out: &BTreeSet<String>,
) -> Result<BTreeMap<(String, String), Table>> {
    let exact: Vec<String> = EXACT.iter().map(|c| quote_text(c)).collect();
    let columns = format!(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, t.TABLE_TYPE, c.COLUMN_NAME, LOWER(c.DATA_TYPE), c.COLUMN_TYPE, \
         IFNULL(c.CHARACTER_SET_NAME, ''), IFNULL(c.COLUMN_DEFAULT, ''), \
         CAST(COALESCE(c.CHARACTER_MAXIMUM_LENGTH, c.NUMERIC_PRECISION, 0) AS UNSIGNED), \
         CAST(COALESCE(c.NUMERIC_SCALE, c.DATETIME_PRECISION) AS UNSIGNED), UPPER(c.EXTRA) \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME) \
         WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND c.TABLE_SCHEMA NOT IN {NOT_OURS} \
         AND (c.EXTRA REGEXP 'VIRTUAL|STORED|PERSISTENT' OR c.DATA_TYPE = 'json' OR c.CHARACTER_SET_NAME NOT IN ({}))",
        exact.join(", ")
    );
    let mut out: BTreeMap<(String, String), Table> = BTreeMap::new();
    for row in query::rows::<Row>(conn, columns)? {
        let (schema, table) = (query::text(&row, 0), query::text(&row, 1));
        if !left_out.contains(&format!("{schema}.{table}")) {
            let of = out.entry((schema, table)).or_default();
            of.versioned = query::text(&row, 2) == "SYSTEM VERSIONED";
            of.columns.push(column(&row));
        }
    }
    for ((schema, table), of) in &mut out {
        if of.columns.iter().any(|c| c.expression.is_some()) {
            read_expressions(conn, schema, table, &mut of.columns)?;
        }
    }
    Ok(out)
}

/// Of a row from [`tables`]; a generated column with an empty expression.
fn column(row: &Row) -> Column {
    let text = |i: usize| query::text(row, i);
    let number = |i: usize| -> Option<u64> { row.get_opt(i).and_then(|v| v.ok()).flatten() };
    let extra = text(10);
    let is_stored = extra.contains("STORED") || extra.contains("PERSISTENT");
    Column {
        name: text(3),
        data_type: text(4),
        declared: text(5),
        charset: text(6),
        default: text(7),
        length: number(8).unwrap_or(0),
        scale: number(9),
        is_stored,
        expression: (is_stored || extra.contains("VIRTUAL")).then(String::new),
    }
}

/// Reads the expressions of generated columns; those whose expression is not printed are removed.
fn read_expressions(
    conn: &mut Conn,
    schema: &str,
    table: &str,
    columns: &mut Vec<Column>,
) -> Result<()> {
    let name = format!("{}.{}", quote_name(schema), quote_name(table));
    let create: Option<(String, String)> =
        match conn.query_first(format!("SHOW CREATE TABLE {name}")) {
            Ok(row) => row,
            Err(mysql::Error::MySqlError(_)) => None, // dropped or locked meanwhile: the tool finds out
            Err(e) => return Err(query::failed(e)),
        };
    let create = create.unwrap_or_default().1;
    columns.retain_mut(|c| {
        let is_generated = c.expression.is_some();
        c.expression = c
            .expression
            .take()
            .and_then(|_| expression(&create, &c.name));
        !is_generated || c.expression.is_some()
    });
    Ok(())
}

/// Searches the tables of a source, but for those in `left_out` (`schema.table`), for `limit` at most. `touch` is called between tables.
pub(crate) fn search(
    conn: &mut Conn,
    server: Server,
    left_out: &BTreeSet<String>,
    limit: Option<Duration>,
    touch: impl Fn(),
) -> Result<Found> {
    let end = limit.map(|l| Instant::now() + l);
    let zone: Option<String> = query::first(conn, "SELECT @@SESSION.time_zone")?;
    let begin = format!("SET SESSION time_zone = '+00:00', sql_mode = '{LENIENT}'");
    query::run(conn, begin)?; // as a load computes generated columns
    let mut found = Found::default();
    for ((schema, name), table) in tables(conn, left_out)? {
        touch();
        for (number, rule) in RULES.iter().enumerate() {
            if !set_limit(conn, server, end)? {
                break;
            }
            let columns = concerned(conn, server, rule, (&schema, &name), &table)?;
            if !columns.is_empty() {
                found.0.entry(number).or_default().extend(columns);
            }
        }
    }
    if end.is_some()
        && let Some((variable, _)) = limits(server, Duration::ZERO)
    {
        query::run(conn, format!("SET SESSION {variable} = 0"))?;
    }
    let zone = quote_text(&zone.unwrap_or_default());
    query::run(
        conn,
        format!("SET SESSION time_zone = {zone}, sql_mode = ''"),
    )?;
    Ok(found)
}

/// The variable that limits a statement, and its value; `None` before MySQL 5.7.8.
fn limits(server: Server, left: Duration) -> Option<(&'static str, String)> {
    match server.flavour {
        Flavour::MariaDb => Some(("max_statement_time", format!("{:.3}", left.as_secs_f64()))),
        Flavour::MySql if server.version >= Version(5, 7, 8) => {
            Some(("max_execution_time", left.as_millis().max(1).to_string()))
        }
        Flavour::MySql => None,
    }
}

/// The next statement ends before `end`; false if it has come, or if the server cannot do so.
fn set_limit(conn: &mut Conn, server: Server, end: Option<Instant>) -> Result<bool> {
    let Some(end) = end else {
        return Ok(true);
    };
    let left = end.saturating_duration_since(Instant::now());
    let Some((variable, value)) = limits(server, left).filter(|_| !left.is_zero()) else {
        return Ok(false);
    };
    query::run(conn, format!("SET SESSION {variable} = {value}"))?;
    Ok(true)
}

/// `schema.table.column` of the columns that `rule` finds.
fn concerned(
    conn: &mut Conn,
    server: Server,
    rule: &Rule,
    (schema, name): (&str, &str),
    table: &Table,
) -> Result<Vec<String>> {
    let place = format!("{}.{}", quote_name(schema), quote_name(name));
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut out = Vec::new();
    for column in &table.columns {
        match (rule.search)(column, server) {
            Search::Nothing => {}
            Search::Rows(condition) => rows.push((&column.name, condition)),
            Search::Query(query) => {
                let query = query.replace("@table", &place);
                out.extend(answer(conn, rule, &query, &[&column.name])?);
            }
        }
    }
    if !rows.is_empty() {
        let (names, conditions): (Vec<&str>, Vec<String>) = rows.into_iter().unzip();
        let all_rows = if table.versioned {
            " FOR SYSTEM_TIME ALL"
        } else {
            ""
        };
        let query = format!(
            "SELECT {} FROM {place}{all_rows} WHERE {} LIMIT 1",
            conditions.join(", "),
            conditions.join(" OR ")
        );
        out.extend(answer(conn, rule, &query, &names)?);
    }
    let full_name = |column| format!("{schema}.{name}.{column}");
    Ok(out.into_iter().map(full_name).collect())
}

/// Errors that do not concern the values: no such table, a lock, the limit, a table that was altered, no privilege.
const OTHER_ERRORS: [u16; 9] = [1146, 1205, 1317, 3024, 1969, 1412, 1142, 1143, 1044];

/// The columns whose value in the first row of the answer is 1.
fn answer(conn: &mut Conn, rule: &Rule, query: &str, columns: &[&str]) -> Result<Vec<String>> {
    let row: Option<Row> = match conn.query_first(query) {
        Ok(row) => row,
        Err(mysql::Error::MySqlError(e))
            if rule.errors_count && !OTHER_ERRORS.contains(&e.code) =>
        {
            let names = columns.join(" or ");
            let message: String = e.message.chars().take(SHOWN).collect();
            return Ok(vec![format!("{names} (ERROR {}: {message})", e.code)]);
        }
        // The tool finds out.
        Err(mysql::Error::MySqlError(e)) => {
            log::info!("a search for {} was not made: {}", rule.what, e.message);
            None
        }
        Err(e) => return Err(query::failed(e)),
    };
    let is_true = |i: usize| {
        let value = row.as_ref().and_then(|r| r.get_opt::<Option<i64>, _>(i));
        matches!(value, Some(Ok(Some(1))))
    };
    let named = columns.iter().enumerate().filter(|(i, _)| is_true(*i));
    Ok(named.map(|(_, name)| name.to_string()).collect())
}

pub(crate) fn inspect(found: &Found, method: Method) -> Vec<Finding> {
    let rules = found.0.iter().map(|(n, columns)| (&RULES[*n], columns));
    rules
        .filter(|(rule, _)| rule.by.includes(method))
        .map(|(rule, columns)| Finding::new(rule.what, columns, rule.outcome))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::finding::refuse;

    #[test]
    fn only_logical_methods_change_values() {
        let found = Found(
            (0..RULES.len())
                .map(|n| (n, vec!["s.t.c".into()]))
                .collect(),
        );
        for method in [Method::Xtrabackup, Method::ClonePlugin] {
            assert!(inspect(&found, method).is_empty());
        }
        assert_eq!(inspect(&found, Method::Mysqldump).len(), RULES.len());
        let found = inspect(&found, Method::Mydumper);
        let e = refuse(&found, Method::Mydumper).unwrap_err();
        let text = e.to_string();
        assert!(!text.contains("conversion to utf8mb4"), "{text}");
        assert!(text.contains("s.t.c: a dump would create others"), "{text}");
    }
}
