//! Settings of a target with which it cannot take the objects of a source.

use crate::error::Result;
use crate::mysql::profile::{self, Purpose};
use crate::mysql::settings::{self, Assignment, Problem, Variables};
use crate::mysql::{Endpoint, failure};
use mysql::Conn;
use mysql::prelude::{FromRow, Queryable};
use std::collections::BTreeSet;

struct Pair<'p> {
    /// A session of the source.
    source: &'p mut Conn,
    of_source: &'p Variables,
    of_target: Variables,
    problems: Vec<Problem>,
}

/// Checks that the target can take the objects of this source: what [`settings::check`] cannot know before the source is known. `source` is
/// a session of it, `of_source` are its global variables.
///
/// # Errors
/// Permanent, with all that prevents it; if a query fails.
pub(crate) fn check(
    target: &Endpoint,
    source: &mut Conn,
    of_source: &Variables,
    schemas: &BTreeSet<String>,
) -> Result<()> {
    let (trial, of_target) =
        settings::inspect(target, Purpose::Load, &profile::for_load(of_source))?;
    let mut pair = Pair {
        source,
        of_source,
        of_target,
        problems: trial.problems,
    };
    for fixed in &trial.fixed {
        pair.check_read_only(fixed)?;
    }
    pair.check_engines()?;
    pair.check_page_size();
    pair.check_ignored(schemas);
    pair.check_compressed()?;
    pair.check_history()?;
    settings::refuse("the target", &pair.problems)
}

impl Pair<'_> {
    /// The value of a variable of the target; empty if it has none.
    fn value(&self, name: &str) -> &str {
        self.of_target.get(name).map_or("", String::as_str)
    }

    fn problem(&mut self, text: String) {
        self.problems.push(Problem::from(text));
    }

    fn source_rows<T: FromRow>(&mut self, query: &str) -> Result<Vec<T>> {
        let rows = self.source.query(query);
        rows.map_err(|e| failure("the source", "", &e))
    }

    fn table(&mut self, condition: &str) -> Result<Option<String>> {
        let name = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES";
        let found = self.source_rows(&format!("{name} WHERE {condition} LIMIT 1"))?;
        Ok(found.into_iter().next())
    }

    /// A variable of the profile that is read-only on the target.
    fn check_read_only(&mut self, fixed: &Assignment) -> Result<()> {
        let name = fixed.row.name;
        let mut example = String::new();
        // It is read-only before MySQL 8.0, and harms only columns that were made with ON.
        if name == "explicit_defaults_for_timestamp" {
            let columns: Vec<String> = self.source_rows(
                "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMNS WHERE DATA_TYPE = 'timestamp' \
                 AND IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') LIMIT 1",
            )?;
            let Some(column) = columns.first() else {
                return Ok(());
            };
            example = format!(", such as {column} of the source");
        }
        self.problem(format!(
            "{name} is {} and read-only here, and must be {} for a load ({}{example}): set it in the target's my.cnf and restart it",
            settings::shown(&fixed.present),
            fixed.value,
            fixed.row.reason
        ));
        Ok(())
    }

    fn check_engines(&mut self) -> Result<()> {
        let list = self.value("disabled_storage_engines").to_string();
        let disabled = items(&list);
        if disabled.is_empty() {
            return Ok(());
        }
        // Before MySQL 8.0 a dump creates the tables of the server's own schema too.
        let engines: Vec<(String, String)> = self.source_rows(
            "SELECT ENGINE, MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)) FROM information_schema.TABLES WHERE ENGINE IS NOT NULL AND \
             TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'sys') AND (TABLE_SCHEMA <> 'mysql' OR VERSION() LIKE '5.%') GROUP BY ENGINE",
        )?;
        for (engine, table) in engines {
            if disabled.contains(&engine.to_ascii_lowercase()) {
                self.problem(format!(
                    "disabled_storage_engines = {list} forbids {engine}, and table {table} of the source would become one of another \
                     engine: remove {engine} from it in the target's my.cnf and restart it, or convert the source's tables"
                ));
            }
        }
        Ok(())
    }

    fn check_page_size(&mut self) {
        const NAME: &str = "innodb_page_size";
        let size = |v: &str| v.parse::<u64>().unwrap_or(0);
        let here = self.value(NAME);
        let there = self.of_source.get(NAME).map_or("", String::as_str);
        if size(here) != 0 && size(here) < size(there) {
            self.problem(format!(
                "{NAME} is {here}, and {there} on the source: its rows and keys may not fit; initialise the target with {NAME} = {there}"
            ));
        }
    }

    fn check_ignored(&mut self, schemas: &BTreeSet<String>) {
        let list = self.value("ignore_db_dirs").to_string();
        let ignored = items(&list);
        let is_ignored = |s: &&String| ignored.contains(&s.to_ascii_lowercase());
        for schema in schemas.iter().filter(is_ignored) {
            self.problem(format!(
                "ignore_db_dirs = {list} hides schema {schema} of the source: remove it from the target's my.cnf and restart it"
            ));
        }
    }

    fn check_compressed(&mut self) -> Result<()> {
        if profile::is_on(self.value("innodb_read_only_compressed"))
            && let Some(table) = self.table("ENGINE = 'InnoDB' AND ROW_FORMAT = 'Compressed'")?
        {
            self.problem(format!(
                "innodb_read_only_compressed is ON, and table {table} of the source is ROW_FORMAT=COMPRESSED: set it to OFF in the target's my.cnf and restart it"
            ));
        }
        Ok(())
    }

    /// The history of versioned tables is loaded by a session that sets the clock.
    fn check_history(&mut self) -> Result<()> {
        if !matches!(self.value("secure_timestamp"), "" | "NO" | "SUPER")
            && let Some(table) = self.table("TABLE_TYPE = 'SYSTEM VERSIONED'")?
        {
            self.problem(format!(
                "secure_timestamp is {}, and the history of table {table} of the source could not be loaded: set it to NO in the target's my.cnf and restart it",
                self.value("secure_timestamp")
            ));
        }
        Ok(())
    }
}

fn items(list: &str) -> BTreeSet<String> {
    let items = list.split(',').map(|v| v.trim().to_ascii_lowercase());
    items.filter(|v| !v.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_server() {
        assert_eq!(
            items("MyISAM, Archive,,"),
            BTreeSet::from(["myisam".to_string(), "archive".to_string()])
        );
    }
}
