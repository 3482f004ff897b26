//! Tables of a target with foreign keys to tables that a load replaces. MySQL checks them when the referenced table is created again, even
//! with `foreign_key_checks = 0`: columns of another type are error 3780, missing ones 3734.

use super::contents::columns_of;
use crate::error::Result;
use crate::mysql::catalogue::{Catalogue, Kind, Object};
use crate::mysql::{Flavour, Server, Version, control, failure, quote_name};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};

/// A column of a foreign key.
#[derive(Debug, Clone)]
pub struct Reference {
    child: (String, String),
    column: String,
    of_child: Column,
    parent: (String, String),
    parent_column: String,
}

/// What must be equal in the two columns of a foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    /// The type without lengths that may differ.
    kind: String,
    /// Character set and collation; empty where they are not known or there are none.
    charset: String,
    collation: String,
}

impl Column {
    /// From a declaration in lower case, such as `int unsigned not null`, and the options of its table.
    fn of(declared: &str, options: &str) -> Self {
        let word = declared.split([' ', '(']).next().unwrap_or_default();
        let after = |text: &str, mark: &str| {
            let (_, rest) = text.split_once(mark)?;
            let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            Some(rest.split(end).next().unwrap_or_default().to_string())
        };
        let unsigned = |w: &str| {
            let plain = declared[word.len()..].trim_start_matches(|c| c != ' ');
            if plain.starts_with(" unsigned") {
                format!("{w} unsigned")
            } else {
                w.to_string()
            }
        };
        let (mut charset, mut collation) = (String::new(), String::new());
        let kind = match word {
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                let of_column = after(declared, " character set ");
                collation = after(declared, " collate ").unwrap_or_default();
                if of_column.is_none() && collation.is_empty() {
                    collation = after(options, " collate=").unwrap_or_default();
                }
                charset = of_column
                    .or_else(|| {
                        collation
                            .split('_')
                            .next()
                            .filter(|c| !c.is_empty())
                            .map(str::to_string)
                    })
                    .or_else(|| after(options, " charset="))
                    .unwrap_or_default();
                "string".to_string()
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                "bytes".to_string()
            }
            w if w.ends_with("int") => unsigned(w),
            w => w.to_string(),
        };
        Self {
            kind,
            charset: utf8(charset),
            collation: utf8(collation),
        }
    }

    fn fits(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        self.kind == other.kind
            && same(&self.charset, &other.charset)
            && same(&self.collation, &other.collation)
    }
}

/// `utf8` is another name of `utf8mb3`.
fn utf8(name: String) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".into(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name,
    }
}

/// The foreign keys of a MySQL server. MariaDB does not check them while a table is created with `foreign_key_checks = 0` (10.11.19).
///
/// # Errors
/// If the query fails.
pub fn read(conn: &mut Conn, server: Server) -> Result<Vec<Reference>> {
    if server.flavour != Flavour::MySql || server.version < Version(8, 0, 0) {
        return Ok(Vec::new());
    }
    type Names = (String, String, String, String, String, String);
    type Key = (String, String, String);
    type Type = (String, Option<String>, Option<String>);
    let fail = |e: &mysql::Error| failure("this connection", "", e);
    let names: Vec<Names> = conn
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM \
             information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL",
        )
        .map_err(|e| fail(&e))?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // The server would join the two without an index.
    let columns: Vec<(Key, Type)> = conn
        .query_map(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME FROM \
             information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
            |(schema, table, column, kind, charset, collation)| {
                ((schema, table, column), (kind, charset, collation))
            },
        )
        .map_err(|e| fail(&e))?;
    let columns: BTreeMap<Key, Type> = columns.into_iter().collect();
    let rows = names.into_iter().filter_map(|names| {
        let key = (names.0.clone(), names.1.clone(), names.2.clone());
        let (kind, charset, collation) = columns.get(&key)?.clone();
        Some((names, kind, charset, collation))
    });
    let reference = |(names, kind, charset, collation): (Names, String, _, _)| {
        let (schema, table, column, parent_schema, parent, parent_column) = names;
        let declared = kind.to_ascii_lowercase();
        let mut of_child = Column::of(&declared, "");
        if of_child.kind == "string" {
            let known = |v: Option<String>| utf8(v.unwrap_or_default().to_ascii_lowercase());
            of_child.charset = known(charset);
            of_child.collation = known(collation);
        }
        Reference {
            child: (schema, table),
            column,
            of_child,
            parent: (parent_schema, parent),
            parent_column,
        }
    };
    Ok(rows.map(reference).collect())
}

/// Those whose referenced table the source has with a column that does not fit: the table that refers to it, and why.
fn unfit<'r>(
    references: &'r [Reference],
    source: &Catalogue,
) -> Vec<(&'r (String, String), String)> {
    let mut out = Vec::new();
    for r in references {
        let parent = Object {
            kind: Kind::Table,
            schema: r.parent.0.clone(),
            name: r.parent.1.clone(),
        };
        let Some(create) = source
            .objects
            .get(&parent)
            .and_then(|d| d.get("Create Table"))
        else {
            continue;
        };
        let at = create.rfind("\n) ").unwrap_or(0);
        let options = create[at..].to_ascii_lowercase();
        let columns = columns_of(create);
        let found = columns
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&r.parent_column));
        let fits =
            found.is_some_and(|(_, declared)| Column::of(declared, &options).fits(&r.of_child));
        if !fits {
            let why = format!(
                "{} to {}.{}.{}",
                r.column, r.parent.0, r.parent.1, r.parent_column
            );
            out.push((&r.child, why));
        }
    }
    out
}

fn has(source: &Catalogue, (schema, name): &(String, String)) -> bool {
    source.objects.contains_key(&Object {
        kind: Kind::Table,
        schema: schema.clone(),
        name: name.clone(),
    })
}

/// `schema.table (column to referenced column)` of the tables that the source lacks and that would stop a load.
pub fn in_the_way(references: &[Reference], source: &Catalogue) -> Vec<String> {
    let unfit = unfit(references, source).into_iter();
    let extra = unfit.filter(|(child, _)| !has(source, child));
    extra
        .map(|((schema, table), why)| format!("{schema}.{table} ({why})"))
        .collect()
}

/// Drops the tables that the source has as well, and whose old foreign keys would stop a load before it comes to them.
///
/// # Errors
/// If the server refuses.
pub fn drop_replaced(conn: &mut Conn, server: Server, source: &Catalogue) -> Result<()> {
    let references = read(conn, server)?;
    let unfit = unfit(&references, source).into_iter();
    let replaced: BTreeSet<&(String, String)> = unfit
        .map(|(child, _)| child)
        .filter(|c| has(source, c))
        .collect();
    if replaced.is_empty() {
        return Ok(());
    }
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    for (schema, table) in replaced {
        let name = format!("{}.{}", quote_name(schema), quote_name(table));
        control::execute(conn, &format!("DROP TABLE IF EXISTS {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_foreign_keys_fit_as_mysql_says() {
        let options = "\n) engine=innodb default charset=utf8mb4 collate=utf8mb4_0900_ai_ci";
        let of = |declared: &str| Column::of(declared, options);
        for (a, b, fits) in [
            ("int not null auto_increment", "int(11)", true),
            ("int unsigned not null", "int", false),
            (
                "int unsigned not null",
                "int(10) unsigned default null",
                true,
            ),
            ("bigint", "int", false),
            ("varchar(9) not null", "char(5)", true),
            ("varchar(9) character set latin1", "varchar(9)", false),
            (
                "varchar(9) character set utf8 collate utf8_bin",
                "varchar(9) character set utf8mb3 collate utf8mb3_bin",
                true,
            ),
            ("varchar(9) collate utf8mb4_bin", "varchar(9)", false),
            ("decimal(10,2)", "decimal(9,2)", true),
        ] {
            assert_eq!(of(a).fits(&of(b)), fits, "{a} {b}");
        }
    }
}
