//! Tables of a target with foreign keys to tables that a load replaces. MySQL checks them when the referenced table is created again, even
//! with `foreign_key_checks = 0`: columns of another type are error 3780, missing ones 3734.

use super::create_table;
use crate::error::Result;
use crate::mysql::catalogue::{Catalogue, Kind, Object};
use crate::mysql::{Flavour, Server, Version, control, query};
use crate::sys::Inserted;
use mysql::{Conn, Row};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// The table with the foreign key.
    child: Object,
    column: String,
    of_child: Column,
    parent: Object,
    parent_column: String,
}

/// What must be equal in the two columns of a foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    /// The type without lengths that may differ.
    kind: String,
    /// Empty, as the collation, where it is not known or there is none.
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
        let (mut charset, mut collation) = (String::new(), String::new());
        let kind = match word {
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                let of_column = after(declared, " character set ");
                let of_table = || after(options, " collate=").filter(|_| of_column.is_none());
                collation = after(declared, " collate ")
                    .or_else(of_table)
                    .unwrap_or_default();
                let of_collation = collation.split('_').next().filter(|c| !c.is_empty());
                charset = of_column
                    .or_else(|| of_collation.map(str::to_string))
                    .or_else(|| after(options, " charset="))
                    .unwrap_or_default();
                "string".into()
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                "bytes".into()
            }
            integer if integer.ends_with("int") => {
                let length = declared[integer.len()..].trim_start_matches(|c| c != ' ');
                let sign = length.strip_prefix(" unsigned").map_or("", |_| " unsigned");
                format!("{integer}{sign}")
            }
            other => other.to_string(),
        };
        Self {
            kind,
            charset: utf8mb3(charset),
            collation: utf8mb3(collation),
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
fn utf8mb3(name: String) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".into(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name,
    }
}

/// The foreign keys of a MySQL server. MariaDB does not check them while a table is created with `foreign_key_checks = 0` (10.11.19).
pub(super) fn read(conn: &mut Conn, server: Server) -> Result<Vec<Reference>> {
    if server.flavour != Flavour::MySql || server.version < Version(8, 0, 0) {
        return Ok(Vec::new());
    }
    let names: Vec<Row> = query::rows(
        conn,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM \
         information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL",
    )?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // The server would join the two without an index.
    let columns: Vec<Row> = query::rows(
        conn,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, LOWER(COLUMN_TYPE), LOWER(CHARACTER_SET_NAME), LOWER(COLLATION_NAME) FROM \
         information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
    )?;
    let texts = |row: &Row| [0, 1, 2, 3, 4, 5].map(|n: usize| query::text(row, n));
    let types = columns.iter().map(texts);
    let types: BTreeMap<_, _> = types
        .map(|[s, t, c, of, set, by]| ([s, t, c], [of, set, by]))
        .inserted();
    let reference = |row: &Row| {
        let [schema, table, column, parent_schema, parent, parent_column] = texts(row);
        let key = [schema, table, column];
        let [declared, charset, collation] = types.get(&key)?;
        let mut of_child = Column::of(declared, "");
        if of_child.kind == "string" {
            let known = |v: &String| utf8mb3(v.clone());
            (of_child.charset, of_child.collation) = (known(charset), known(collation));
        }
        let [schema, table, column] = key;
        Some(Reference {
            child: Object::new(Kind::Table, schema, table),
            column,
            of_child,
            parent: Object::new(Kind::Table, parent_schema, parent),
            parent_column,
        })
    };
    Ok(names.iter().filter_map(reference).collect())
}

/// Those whose referenced table the source has with a column that does not fit.
fn unfit<'r>(references: &'r [Reference], source: &Catalogue) -> Vec<&'r Reference> {
    let is_unfit = |r: &&Reference| {
        let parent = source.objects.get(&r.parent);
        let Some(create) = parent.and_then(|d| d.get("Create Table")) else {
            return false;
        };
        let options = create_table::last_lines(create).to_ascii_lowercase();
        let fits = |(name, declared): &(String, String)| {
            name.eq_ignore_ascii_case(&r.parent_column)
                && Column::of(declared, &options).fits(&r.of_child)
        };
        !create_table::columns(create).iter().any(fits)
    };
    references.iter().filter(is_unfit).collect()
}

/// `schema.table (column to referenced column)` of the tables that the source lacks and that would stop a load.
pub(super) fn obstacles(references: &[Reference], source: &Catalogue) -> Vec<String> {
    let unfit = unfit(references, source).into_iter();
    unfit
        .filter(|r| !source.objects.contains_key(&r.child))
        .map(|r| {
            let (child, column, parent) = (r.child.full_name(), &r.column, r.parent.full_name());
            format!("{child} ({column} to {parent}.{})", r.parent_column)
        })
        .collect()
}

/// Drops the tables that the source has as well, and whose old foreign keys would stop a load before it comes to them.
pub(crate) fn drop_replaced(conn: &mut Conn, server: Server, source: &Catalogue) -> Result<()> {
    let references = read(conn, server)?;
    let unfit = unfit(&references, source).into_iter().map(|r| &r.child);
    let replaced: BTreeSet<&Object> = unfit.filter(|c| source.objects.contains_key(c)).collect();
    if replaced.is_empty() {
        return Ok(());
    }
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    for table in replaced {
        control::execute(conn, &format!("DROP TABLE IF EXISTS {}", table.quoted()))?;
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
