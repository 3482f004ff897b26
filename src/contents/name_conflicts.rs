//! Names that objects of a target have, and that objects of another kind or of another table have on the source.

use super::create_table;
use crate::error::Result;
use crate::mysql::catalogue::{Catalogue, Kind, Object};
use crate::mysql::{Flavour, Server, Version, query, quote_name};
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Names<'s> {
    tables: BTreeMap<(&'s str, &'s str), Kind>,
    /// Triggers with their tables.
    triggers: BTreeMap<(&'s str, &'s str), &'s str>,
    /// Constraints with their tables.
    constraints: BTreeMap<(&'s str, String), &'s str>,
}

impl<'s> Names<'s> {
    /// `more` are objects without a definition.
    fn of(definitions: &'s Catalogue, more: &'s BTreeSet<Object>) -> Self {
        let mut this = Self::default();
        let more = more.iter().map(|o| (o, None));
        let known = definitions.objects.iter().map(|(o, d)| (o, Some(d)));
        for (o, definition) in known.chain(more) {
            let get = |name: &str| {
                let value = definition.and_then(|d| d.get(name));
                value.map_or("", String::as_str)
            };
            match o.kind {
                Kind::Table | Kind::View | Kind::Sequence => {
                    this.tables.insert((&o.schema, &o.name), o.kind);
                    for c in create_table::constraints(get("Create Table")) {
                        this.constraints.insert((&o.schema, c), &o.name);
                    }
                }
                Kind::Trigger => {
                    this.triggers.insert((&o.schema, &o.name), get("table"));
                }
                _ => {}
            }
        }
        this
    }

    fn has_table(&self, schema: &str, table: &str) -> bool {
        self.tables.contains_key(&(schema, table))
    }

    /// The table with a constraint of this name, if it is not `table`.
    fn other_table(&self, schema: &str, constraint: &str, table: &str) -> Option<&'s str> {
        let of = self.constraints.get(&(schema, constraint.to_string()));
        of.copied().filter(|t| *t != table)
    }
}

/// Constraints whose names are unique in a schema: schema, name and table.
fn constraints(conn: &mut Conn, server: Server) -> Result<Vec<(String, String, String)>> {
    let checks = if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 16) {
        ", 'CHECK'"
    } else {
        "" // MariaDB: unique in their table
    };
    let constraints = format!(
        "SELECT TABLE_SCHEMA, CONSTRAINT_NAME, TABLE_NAME FROM information_schema.TABLE_CONSTRAINTS \
         WHERE CONSTRAINT_TYPE IN ('FOREIGN KEY'{checks})"
    );
    query::rows(conn, constraints)
}

/// The statements that drop what would stop a load of the source's objects: `definitions`, and `more` that have none. A table that the
/// source has as well is dropped by the load in any case.
pub(crate) fn drop_statements(
    conn: &mut Conn,
    server: Server,
    definitions: &Catalogue,
    more: &BTreeSet<Object>,
) -> Result<Vec<String>> {
    let names = Names::of(definitions, more);
    let quoted = |schema: &str, name: &str| format!("{}.{}", quote_name(schema), quote_name(name));
    let mut out = Vec::new();
    let tables: Vec<(String, String, String)> = query::rows(
        conn,
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE LEFT(TABLE_SCHEMA, 9) <> '#mysql50#'",
    )?;
    for (schema, name, table_type) in &tables {
        let wanted = names.tables.get(&(schema.as_str(), name.as_str()));
        if let (Some(wanted), Some(kind)) = (wanted, Kind::of_type(table_type))
            && *wanted != kind
        {
            let (word, name) = (kind.word(), quoted(schema, name));
            out.push(format!("DROP {word} IF EXISTS {name}"));
        }
    }
    let triggers: Vec<(String, String, String)> = query::rows(
        conn,
        "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS",
    )?;
    for (schema, name, table) in &triggers {
        let wanted = names.triggers.get(&(schema.as_str(), name.as_str()));
        if wanted.is_some_and(|t| *t != table.as_str()) {
            out.push(format!("DROP TRIGGER IF EXISTS {}", quoted(schema, name)));
        }
    }
    for (schema, name, table) in constraints(conn, server)? {
        let other = names.other_table(&schema, &name, &table);
        if other.is_some_and(|_| names.has_table(&schema, &table)) {
            out.push(format!("DROP TABLE IF EXISTS {}", quoted(&schema, &table)));
        }
    }
    Ok(out)
}

/// A table that only this server has and that would remain, with a constraint of a name that a table of the source has: the load would
/// stop at that table (1005, 1826, 3822). In words, with the remedy.
pub(crate) fn constraint_of_extra_table(
    conn: &mut Conn,
    server: Server,
    of_source: &Catalogue,
) -> Result<Option<String>> {
    let nothing_more = BTreeSet::new();
    let names = Names::of(of_source, &nothing_more);
    let text = |(schema, name, table): &(String, String, String)| {
        if names.has_table(schema, table) {
            return None;
        }
        let of = names.other_table(schema, name, table)?;
        Some(format!(
            "table {schema}.{table}, which only the target has, has a constraint {name}, as table {schema}.{of} of the source: the \
             names are unique in a schema, so the load would stop; drop this table or its constraint"
        ))
    };
    Ok(constraints(conn, server)?.iter().find_map(text))
}
