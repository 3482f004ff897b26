//! The SQL mode in which rows are loaded: strict, so that a value that a column cannot take is an error and is never changed. Some
//! things that a source may hold cannot be loaded so; they are found on the source before anything is dumped.

use super::create_table::members;
use super::finding::physical_methods;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, query, quote_name};
use mysql::Conn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Zeros in AUTO_INCREMENT columns, zero dates and invalid dates, which a source may have, stay what they are.
pub(crate) const STRICT: &str =
    "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";
/// As [`STRICT`], for a source with an [`Exceptions`].
pub(crate) const LENIENT: &str = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

/// An ENUM with more members is not compared by the server: the statement would exceed its stack.
const MEMBERS: usize = 1000;
const OWN: &str =
    "TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')";

/// A table that is loaded without strict mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lenient {
    /// Columns in which the load may change a value: ENUM columns if it has values with the number 0, and generated columns.
    pub columns: BTreeSet<String>,
}

/// Tables by schema, then by name.
pub type Tables = BTreeMap<String, BTreeMap<String, Lenient>>;

/// What may be impossible to load in strict mode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Exceptions {
    /// Tables with an ENUM value that is no member, which has the number 0 and the text `''`. A load in strict mode refuses it; any
    /// other makes the same value of it.
    errors: Vec<String>,
    /// Tables with such a value where `''` is a member as well: the text in a dump means the member.
    ambiguous: Vec<String>,
    /// Tables with an ENUM or SET of which two members are equal by its collation: strict mode refuses to create them (error 1291).
    pub(crate) equal_members: Vec<String>,
    /// Tables with generated columns, functional indexes or CHECK constraints: an expression that converts a value, such as `n + 0` of
    /// the string `'abc'`, is a warning where the row was written without strict mode and an error (1292) in it.
    expressions: Vec<String>,
    pub(crate) tables: Tables,
}

/// Reads each table of a source with an ENUM column, as long as that takes, but for those in `left_out` (`schema.table`). `touch` is
/// called between tables.
pub(crate) fn exceptions(
    conn: &mut Conn,
    left_out: &BTreeSet<String>,
    touch: impl Fn(),
) -> Result<Exceptions> {
    let mut found = Exceptions::default();
    let mut tables: BTreeMap<(String, String), Vec<Column>> = BTreeMap::new();
    for column in columns(conn)? {
        let table = (column.schema.clone(), column.table.clone());
        if !left_out.contains(&format!("{}.{}", table.0, table.1)) {
            tables.entry(table).or_default().push(column);
        }
    }
    let mut compared: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for ((schema, table), columns) in &tables {
        let name = format!("{schema}.{table}");
        for column in columns {
            let declared = (column.declared.as_str(), column.collation.as_str());
            let equal = match compared.get(&declared) {
                Some(known) => *known,
                None => column.has_equal_members(conn)?,
            };
            compared.insert(declared, equal);
            if equal && !found.equal_members.contains(&name) {
                found.equal_members.push(name.clone());
                found.lenient(schema, table);
            }
        }
        let enums: Vec<&Column> = columns.iter().filter(|c| c.is_enum()).collect();
        touch();
        if !has_errors(conn, &enums)? {
            continue;
        }
        let has_empty = |c: &&Column| members(&c.declared).contains(&"''");
        let empty: Vec<&Column> = enums.iter().copied().filter(has_empty).collect();
        if has_errors(conn, &empty)? {
            found.ambiguous.push(name);
        } else {
            found.errors.push(name);
            let names = enums.iter().map(|c| c.name.clone());
            found.lenient(schema, table).columns.extend(names);
        }
    }
    for (schema, table, column) in with_expressions(conn)? {
        let name = format!("{schema}.{table}");
        if !left_out.contains(&name) {
            found.lenient(&schema, &table).columns.extend(column);
            found.expressions.push(name);
        }
    }
    found.expressions.dedup();
    Ok(found)
}

impl Exceptions {
    fn lenient(&mut self, schema: &str, table: &str) -> &mut Lenient {
        let of_schema = self.tables.entry(schema.into()).or_default();
        of_schema.entry(table.into()).or_default()
    }

    /// Refuses a source of whose dump the text `''` may mean the member `''`, and not the number 0.
    pub(crate) fn refuse_ambiguous(&self, source: &Endpoint, flavour: Flavour) -> Result<()> {
        refuse(self.ambiguous.first(), source, flavour)
    }

    /// Refuses a source with an ENUM value that has the number 0.
    pub(crate) fn refuse_errors(&self, source: &Endpoint, flavour: Flavour) -> Result<()> {
        let first = self.ambiguous.first().or(self.errors.first());
        refuse(first, source, flavour)
    }

    /// Why rows of these tables are not loaded in strict mode; `None` if all are.
    pub(crate) fn reason(&self) -> Option<String> {
        let part = |tables: &Vec<String>, what: &str| {
            let (first, n) = (tables.first()?, tables.len());
            Some(format!("table {first} ({n} in all) has {what}"))
        };
        let expressions = "generated columns, functional indexes or CHECK constraints";
        let kinds = [
            part(&self.errors, "ENUM values that are no member of their ENUM"),
            part(&self.equal_members, "an ENUM or SET with two equal members"),
            part(&self.expressions, expressions),
        ];
        let parts: Vec<String> = kinds.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", and "))
    }
}

fn refuse(table: Option<&String>, source: &Endpoint, flavour: Flavour) -> Result<()> {
    let Some(table) = table else {
        return Ok(());
    };
    Err(Error::permanent(format!(
        "table {table} on source {} has ENUM values that are no member of their ENUM (number 0), which a dump does not distinguish \
         from the member '': correct these rows, or use the seed method {}",
        source.name(),
        physical_methods(flavour)
    )))
}

struct Column {
    schema: String,
    table: String,
    name: String,
    /// Such as `enum('a','b')`.
    declared: String,
    collation: String,
}

impl Column {
    fn is_enum(&self) -> bool {
        self.declared.starts_with("enum")
    }

    fn has_equal_members(&self, conn: &mut Conn) -> Result<bool> {
        let members = members(&self.declared);
        if members.len() > MEMBERS {
            let folded: BTreeSet<String> = members.iter().map(|m| m.to_lowercase()).collect();
            return Ok(folded.len() < members.len());
        }
        // Quoted, because `binary` is a reserved word.
        let charset = quote_name(self.collation.split('_').next().unwrap_or_default());
        // The first row names the column.
        let row = |m: &&str| format!("SELECT CONVERT({m} USING {charset}) AS m");
        let rows: Vec<String> = members.iter().map(row).collect();
        let (collation, rows) = (quote_name(&self.collation), rows.join(" UNION ALL "));
        let count = format!("SELECT COUNT(DISTINCT m COLLATE {collation}) FROM ({rows}) members");
        let different: Option<usize> = query::first(conn, count)?;
        Ok(different.is_some_and(|n| n < members.len()))
    }
}

fn columns(conn: &mut Conn) -> Result<Vec<Column>> {
    let columns = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IFNULL(COLLATION_NAME, 'binary') FROM information_schema.COLUMNS \
         JOIN information_schema.TABLES USING (TABLE_SCHEMA, TABLE_NAME) WHERE DATA_TYPE IN ('enum', 'set') \
         AND TABLE_TYPE <> 'VIEW' AND {OWN}",
    );
    let rows: Vec<(String, String, String, String, String)> = query::rows(conn, columns)?;
    let column = |(schema, table, name, declared, collation)| Column {
        schema,
        table,
        name,
        declared,
        collation,
    };
    Ok(rows.into_iter().map(column).collect())
}

/// Tables with expressions that an INSERT evaluates, in order, each with a generated column or `None`. `json_valid()`, which MariaDB
/// checks in each JSON column, has no warnings.
fn with_expressions(conn: &mut Conn) -> Result<Vec<(String, String, Option<String>)>> {
    let mut queries = vec![format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS \
         WHERE EXTRA REGEXP 'VIRTUAL|STORED|PERSISTENT' AND {OWN}"
    )];
    let there: Vec<String> = query::rows(
        conn,
        "SELECT UPPER(CONCAT(TABLE_NAME, '.', COLUMN_NAME)) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME IN ('STATISTICS', 'CHECK_CONSTRAINTS')",
    )?;
    let has = |column: &str| there.iter().any(|c| c == column);
    // MySQL 8.0.13.
    if has("STATISTICS.EXPRESSION") {
        queries.push(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, NULL FROM information_schema.STATISTICS \
             WHERE EXPRESSION IS NOT NULL AND {OWN}"
        ));
    }
    // MariaDB 10.2.22 has the table's name there; MySQL 8.0.16 has not.
    if has("CHECK_CONSTRAINTS.TABLE_NAME") {
        queries.push(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, NULL FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CHECK_CLAUSE NOT LIKE 'json\\_valid(%' AND CONSTRAINT_SCHEMA NOT IN ('mysql', 'sys')"
                .into(),
        );
    } else if has("CHECK_CONSTRAINTS.CHECK_CLAUSE") {
        queries.push(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, NULL FROM information_schema.TABLE_CONSTRAINTS \
             WHERE CONSTRAINT_TYPE = 'CHECK' AND {OWN}"
        ));
    }
    let mut found: Vec<(String, String, Option<String>)> = Vec::new();
    for query in queries {
        found.extend(query::rows(conn, query)?);
    }
    found.sort();
    Ok(found)
}

/// Whether a row of the columns' table has the number 0 in one of them.
fn has_errors(conn: &mut Conn, columns: &[&Column]) -> Result<bool> {
    let Some(first) = columns.first() else {
        return Ok(false);
    };
    let conditions = columns
        .iter()
        .map(|c| format!("{} = 0", quote_name(&c.name)));
    let conditions = conditions.collect::<Vec<_>>().join(" OR ");
    let (schema, table) = (quote_name(&first.schema), quote_name(&first.table));
    let any = format!("SELECT 1 FROM {schema}.{table} WHERE {conditions} LIMIT 1");
    Ok(query::first::<u8>(conn, any)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_a_table_of_each_kind() {
        let mut found = Exceptions::default();
        assert_eq!(found.reason(), None);
        found.errors = vec!["s.t".into(), "s.u".into()];
        found.equal_members = vec!["s.v".into()];
        let text = found.reason().unwrap();
        assert!(
            text.contains("table s.t (2 in all) has ENUM values"),
            "{text}"
        );
        assert!(
            text.contains("table s.v (1 in all) has an ENUM or SET"),
            "{text}"
        );
    }
}
