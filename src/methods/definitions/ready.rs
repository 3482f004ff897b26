//! What a target needs before a dump is loaded into it, because neither a dump nor its client sees to it: schemas with the options
//! of the source's, the sequences that tables use before the dump makes them, and nothing in the way of what comes.

use super::Kept;
use crate::error::Result;
use crate::mysql::catalogue::{self, Catalogue, Definition, Kind, Object};
use crate::mysql::{Flavour, Server, Version, control, failure, quote_name, quote_text};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};

/// The property of a schema that is set when all is loaded.
pub const READ_ONLY: &str = "read only";

fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_name(schema), quote_name(name))
}

fn list(conn: &mut Conn, query: &str) -> Result<Vec<(String, String, String)>> {
    conn.query(query)
        .map_err(|e| failure("this connection", "", &e))
}

/// The present objects of a target that a load may come upon, by schema.
struct Present {
    /// Schemas with their options.
    schemas: BTreeMap<String, Definition>,
    /// Tables, views and sequences, with their kinds: they share their names.
    tables: BTreeMap<(String, String), String>,
    /// Triggers with their tables.
    triggers: Vec<(String, String, String)>,
    /// Constraints whose names are unique in a schema, with their tables.
    constraints: Vec<(String, String, String)>,
}

impl Present {
    fn ask(conn: &mut Conn, server: Server) -> Result<Self> {
        let schemas = catalogue::schemas(conn, server)?;
        let tables = list(
            conn,
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE LEFT(TABLE_SCHEMA, 9) <> '#mysql50#'",
        )?;
        let triggers = list(
            conn,
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS",
        )?;
        let checks = if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 16) {
            ", 'CHECK'"
        } else {
            "" // MariaDB: unique in their table
        };
        let constraints = list(
            conn,
            &format!(
                "SELECT TABLE_SCHEMA, CONSTRAINT_NAME, TABLE_NAME FROM information_schema.TABLE_CONSTRAINTS \
                 WHERE CONSTRAINT_TYPE IN ('FOREIGN KEY'{checks})"
            ),
        )?;
        Ok(Self {
            schemas,
            tables: tables.into_iter().map(|(s, t, k)| ((s, t), k)).collect(),
            triggers,
            constraints,
        })
    }
}

/// Whether a table, view or sequence is of the kind that information_schema calls `table_type`.
fn same_kind(kind: Kind, table_type: &str) -> bool {
    match table_type {
        "VIEW" => kind == Kind::View,
        "SEQUENCE" => kind == Kind::Sequence,
        _ => kind == Kind::Table,
    }
}

/// The constraints of a SHOW CREATE TABLE.
fn constraints_of(create: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.trim_start().strip_prefix("CONSTRAINT `")?;
        let end = rest.replace("``", "\u{1}\u{1}").find('`')?;
        Some(rest[..end].replace("``", "`"))
    };
    create.lines().filter_map(name).collect()
}

/// What the source has, as far as names are concerned.
struct Coming<'k> {
    tables: BTreeMap<(&'k str, &'k str), Kind>,
    triggers: BTreeMap<(&'k str, &'k str), &'k str>,
    constraints: BTreeMap<(&'k str, String), &'k str>,
}

impl<'k> Coming<'k> {
    fn of(definitions: &'k Catalogue, more: &'k BTreeSet<Object>) -> Self {
        let mut this = Self {
            tables: BTreeMap::new(),
            triggers: BTreeMap::new(),
            constraints: BTreeMap::new(),
        };
        let more = more.iter().map(|o| (o, None));
        let known = definitions.objects.iter().map(|(o, d)| (o, Some(d)));
        for (o, definition) in known.chain(more) {
            let get = |name: &str| definition.and_then(|d| d.get(name)).map(String::as_str);
            match o.kind {
                Kind::Table | Kind::View | Kind::Sequence => {
                    this.tables.insert((&o.schema, &o.name), o.kind);
                    for c in constraints_of(get("Create Table").unwrap_or_default()) {
                        this.constraints.insert((&o.schema, c), &o.name);
                    }
                }
                Kind::Trigger => {
                    this.triggers
                        .insert((&o.schema, &o.name), get("table").unwrap_or_default());
                }
                _ => {}
            }
        }
        this
    }
}

/// The statements that clear the way for a load. A table that the source has as well is dropped by the load in any case.
fn in_the_way(coming: &Coming, present: &Present) -> Vec<String> {
    let mut out = Vec::new();
    for ((schema, name), table_type) in &present.tables {
        let wanted = coming.tables.get(&(schema.as_str(), name.as_str()));
        if wanted.is_some_and(|kind| !same_kind(*kind, table_type)) {
            let word = match table_type.as_str() {
                "VIEW" => "VIEW",
                "SEQUENCE" => "SEQUENCE",
                _ => "TABLE",
            };
            out.push(format!("DROP {word} IF EXISTS {}", quoted(schema, name)));
        }
    }
    for (schema, name, table) in &present.triggers {
        let wanted = coming.triggers.get(&(schema.as_str(), name.as_str()));
        if wanted.is_some_and(|t| *t != table.as_str()) {
            out.push(format!("DROP TRIGGER IF EXISTS {}", quoted(schema, name)));
        }
    }
    for (schema, name, table) in &present.constraints {
        let wanted = coming.constraints.get(&(schema.as_str(), name.clone()));
        let replaced = coming
            .tables
            .contains_key(&(schema.as_str(), table.as_str()));
        if replaced && wanted.is_some_and(|t| *t != table.as_str()) {
            out.push(format!("DROP TABLE IF EXISTS {}", quoted(schema, table)));
        }
    }
    out
}

/// A table that only this server has and that would stay, with a constraint of a name that a table of the source has: the load would
/// stop at that table (1005, 1826, 3822). In words, with the remedy.
///
/// # Errors
/// If a query fails.
pub fn name_in_the_way(
    conn: &mut Conn,
    server: Server,
    of_source: &Catalogue,
) -> Result<Option<String>> {
    let nothing_more = BTreeSet::new();
    let coming = Coming::of(of_source, &nothing_more);
    let present = Present::ask(conn, server)?;
    for (schema, name, table) in &present.constraints {
        let wanted = coming.constraints.get(&(schema.as_str(), name.clone()));
        let replaced = coming
            .tables
            .contains_key(&(schema.as_str(), table.as_str()));
        if let Some(of) = wanted.filter(|_| !replaced) {
            return Ok(Some(format!(
                "table {schema}.{table}, which only the target has, has a constraint {name}, as table {schema}.{of} of the \
                 source: the names are unique in a schema, so the load would stop; drop this table or its constraint"
            )));
        }
    }
    Ok(None)
}

fn options(of: &Definition) -> String {
    let get = |name: &str| of.get(name).map(String::as_str);
    let mut out = String::new();
    for (option, property) in [("CHARACTER SET", "character set"), ("COLLATE", "collation")] {
        if let Some(value) = get(property).filter(|v| !v.is_empty()) {
            out.push_str(&format!(" {option} {value}"));
        }
    }
    if let Some(comment) = get("comment") {
        out.push_str(&format!(" COMMENT {}", quote_text(comment)));
    }
    if let Some(encryption) = get("default encryption") {
        let value = if encryption == "YES" { "Y" } else { "N" };
        out.push_str(&format!(" ENCRYPTION '{value}'"));
    }
    out
}

fn schemas(kept: &Kept) -> impl Iterator<Item = (&Object, &Definition)> {
    let all = kept.equal.objects.iter();
    all.filter(|(o, _)| o.kind == Kind::Schema)
}

/// Makes the server ready. Its session writes no binary log.
///
/// # Errors
/// If the server refuses a statement.
pub fn ready(conn: &mut Conn, server: Server, kept: &Kept) -> Result<()> {
    let coming = Coming::of(&kept.equal, &kept.changed);
    let present = Present::ask(conn, server)?;
    // ALTER DATABASE waits for each client that uses a table of the schema (MySQL), so it is for what differs only.
    let changed = kept.changed.iter().filter(|o| o.kind == Kind::Schema);
    for o in schemas(kept).map(|(o, _)| o).chain(changed) {
        let here = present.schemas.get(&o.schema);
        if here
            .and_then(|of| of.get(READ_ONLY))
            .is_some_and(|v| v == "YES")
        {
            let alter = format!("ALTER DATABASE {} READ ONLY = 0", quote_name(&o.schema));
            control::execute(conn, &alter)?;
        }
    }
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    for statement in in_the_way(&coming, &present) {
        log::info!("in the way of the load: {statement}");
        control::execute(conn, &statement)?;
    }
    for (o, of) in schemas(kept) {
        let word = match present.schemas.get(&o.schema) {
            Some(here) if options(here) == options(of) => continue,
            Some(_) => "ALTER",
            None => "CREATE",
        };
        let statement = format!("{word} DATABASE {}{}", quote_name(&o.schema), options(of));
        control::execute(conn, &statement).map_err(|e| e.context(o))?;
    }
    // The rows of a table with DEFAULT NEXTVAL(s) need s, which a dump may make later: in another schema.
    for (o, of) in &kept.equal.objects {
        if let Some(create) = of.get("Create Table").filter(|_| o.kind == Kind::Sequence) {
            let name = quoted(&o.schema, &o.name);
            if let Some(rest) =
                create.strip_prefix(&format!("CREATE SEQUENCE {}", quote_name(&o.name)))
            {
                let statement = format!("CREATE OR REPLACE SEQUENCE {name}{rest}");
                control::execute(conn, &statement).map_err(|e| e.context(o))?;
            }
        }
    }
    Ok(())
}

/// Makes those schemas read-only that are so on the source (MySQL 8.0.22 and later).
///
/// # Errors
/// If the server refuses.
pub fn read_only(conn: &mut Conn, kept: &Kept) -> Result<()> {
    let of_source = schemas(kept).filter(|(_, of)| of.get(READ_ONLY).is_some_and(|v| v == "YES"));
    for (o, _) in of_source {
        let alter = format!("ALTER DATABASE {} READ ONLY = 1", quote_name(&o.schema));
        control::execute(conn, &alter)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_found_by_name() {
        let create = "CREATE TABLE `t` (\n  `a` int,\n  KEY `k` (`a`),\n  CONSTRAINT `a ``b` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n  \
                      CONSTRAINT `c` CHECK (`a` > 0)\n) ENGINE=InnoDB";
        assert_eq!(constraints_of(create), ["a `b", "c"]);
    }
}
