//! The check of a target after a load: its definitions and the numbers of rows.

use super::compare::compare;
use super::kept::{Kept, names};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Kind, Object};
use crate::mysql::{Endpoint, Flavour, Server, connect, control, query, quote_account, quote_name};
use crate::seed::stage::Context;
use crate::seed::types::Method;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// For each batch of statements.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Seconds for a metadata lock of another session, where there should be none.
const LOCK_WAIT: u32 = 30;
/// Seconds for the count of a table's rows, below [`TIMEOUT`].
const COUNT: u32 = 30;

/// A table and how many rows the dump has of it.
type Rows = (Object, u64);

/// Compares the local server, which has just been loaded, with what was kept. Returns what is added to the stage's Details.
///
/// # Errors
/// Permanent: the first ten objects that differ, with what differs. If a query fails; cancelled.
pub(crate) fn check(
    config: &Config,
    ctx: &Context,
    kept: &Arc<Kept>,
    left_out: BTreeSet<String>,
) -> Result<String> {
    let local = Endpoint::local(&config.mysql);
    let counts = rows_of_dump(config, kept, ctx.seed()?.method);
    let kept = Arc::clone(kept);
    let notes = ctx.interruptible(move || check_server(&local, &kept, &left_out, counts))?;
    Ok(notes.join(", "))
}

fn check_server(
    local: &Endpoint,
    kept: &Kept,
    left_out: &BTreeSet<String>,
    counts: Vec<Rows>,
) -> Result<Vec<String>> {
    let all = kept.equal.objects.keys().chain(&kept.changed);
    let schemas: BTreeSet<&str> = all.map(|o| o.schema.as_str()).collect();
    let mut conn = connect(local, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    // Times of events are those of their own time zones, which may be 14 hours ahead.
    let now = "SELECT CAST(UTC_TIMESTAMP() + INTERVAL 14 HOUR AS CHAR)";
    let now: String = query::first(&mut conn, now)?.unwrap_or_default();
    let target = catalogue::read_of(&mut conn, server, LOCK_WAIT, |s| schemas.contains(s))?;
    let mut differences = compare(kept, &target, left_out, &now);
    let uncounted = compare_rows(&mut conn, server, counts, &mut differences.found)?;
    if !differences.found.is_empty() {
        return Err(Error::permanent(format!(
            "after the load {} objects are not as they were on the source: {}",
            differences.found.len(),
            differences.first()
        )));
    }
    // Replication creates them once more, which fails where they are (1007, 1050, 1304, 1359, 1396, 1537).
    let created = kept
        .created
        .iter()
        .filter(|o| target.objects.contains_key(o));
    let dropped: Vec<&Object> = created.collect();
    drop_objects(&mut conn, server, &dropped)?;
    let changed: Vec<&Object> = kept.changed.iter().collect();
    // Tables and sequences are reported by TargetServer::extras.
    let is_other = |o: &&Object| !matches!(o.kind, Kind::Table | Kind::Sequence);
    let extra: Vec<&Object> = differences.extra.iter().filter(is_other).collect();
    let mut notes = vec![format!("{} definitions compared", differences.equal)];
    if uncounted > 0 {
        notes.push(format!(
            "the rows of {uncounted} tables could not be counted within {COUNT} s each"
        ));
    }
    for (objects, what) in [
        (
            dropped,
            "created during the dump were dropped again, because replication creates them",
        ),
        (changed, "changed during the dump and were not compared"),
        (extra, "objects that the source does not have were kept"),
    ] {
        if !objects.is_empty() {
            notes.push(format!("{} {what}: {}", objects.len(), names(objects)));
        }
    }
    notes.extend(kept.inexact.iter().cloned());
    Ok(notes)
}

/// Drops them, in the order of [`Kind`] backwards: what is in a table or a schema goes first. Not in the binary log.
fn drop_objects(conn: &mut Conn, server: Server, objects: &[&Object]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    control::binlog_off(conn)?;
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    let mut in_order = objects.to_vec();
    in_order.sort_by_key(|o| std::cmp::Reverse(o.kind));
    for object in in_order {
        control::execute(conn, &drop_statement(server, object))?;
    }
    Ok(())
}

fn drop_statement(server: Server, object: &Object) -> String {
    match object.kind {
        Kind::Schema => format!("DROP DATABASE IF EXISTS {}", quote_name(&object.schema)),
        // MySQL 5.6 has no DROP USER IF EXISTS; what is dropped was seen a moment before.
        Kind::Account => match object.name.strip_suffix('@') {
            Some(role) if server.flavour == Flavour::MariaDb => {
                format!("DROP ROLE {}", quote_name(role))
            }
            _ => format!("DROP USER {}", quote_account(&object.name)),
        },
        kind => format!("DROP {} IF EXISTS {}", kind.word(), object.quoted()),
    }
}

/// Adds to `found` the tables that have another number of rows. Returns how many could not be counted.
fn compare_rows(
    conn: &mut Conn,
    server: Server,
    counts: Vec<Rows>,
    found: &mut Vec<(Object, String)>,
) -> Result<usize> {
    let mut uncounted = 0;
    for (table, wanted) in counts {
        match count(conn, server, &table)? {
            None => uncounted += 1,
            Some(n) if n == wanted => {}
            Some(n) => found.push((table, format!("it has {n} rows, the dump {wanted}"))),
        }
    }
    Ok(uncounted)
}

/// Counts a table's rows; `None` if that takes longer than [`COUNT`].
fn count(conn: &mut Conn, server: Server, table: &Object) -> Result<Option<u64>> {
    let name = table.quoted();
    let statement = match server.flavour {
        Flavour::MariaDb => {
            format!("SET STATEMENT max_statement_time = {COUNT} FOR SELECT COUNT(*) FROM {name}")
        }
        // The hint is a comment for 5.6, whose answer is then waited for no longer than for any other.
        Flavour::MySql => {
            format!("SELECT /*+ MAX_EXECUTION_TIME({COUNT}000) */ COUNT(*) FROM {name}")
        }
    };
    match conn.query_first(statement) {
        Ok(n) => Ok(n),
        // The time is over.
        Err(mysql::Error::MySqlError(e)) if matches!(e.code, 1969 | 3024) => Ok(None),
        Err(e) => Err(query::failed(e).context(table)),
    }
}

/// The tables of a dump by Mydumper that are compared, with their rows, where its metadata file has them.
fn rows_of_dump(config: &Config, kept: &Kept, method: Method) -> Vec<Rows> {
    if method != Method::Mydumper {
        return Vec::new();
    }
    let directory = &config.common.backup_dir;
    let file = directory.join("orchestrator_agent_backup/metadata");
    let text = std::fs::read(file).unwrap_or_default();
    let mut rows = rows_of_metadata(&String::from_utf8_lossy(&text));
    rows.retain(|(table, _)| kept.equal.objects.contains_key(table));
    rows
}

/// The tables with their rows in the metadata file of mydumper 0.14 and later, in a section for each table. Names with backticks, and
/// sections without a count, are left out.
fn rows_of_metadata(metadata: &str) -> Vec<Rows> {
    let mut out = Vec::new();
    let mut section: Option<Object> = None;
    for line in metadata.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.strip_prefix('`').and_then(|n| n.strip_suffix('`'));
            let parts = name.and_then(|n| n.split_once("`.`"));
            section = parts.map(|(schema, table)| Object::new(Kind::Table, schema, table));
        } else if let (Some(table), Some((key, value))) = (&mut section, line.split_once('=')) {
            match (key.trim(), value.trim()) {
                // The section has the table's name as files have it.
                ("real_table_name", name) => table.name = name.to_string(),
                ("rows", n) => out.extend(n.parse().ok().map(|n| (table.clone(), n))),
                _ => {}
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_tables_have_their_rows() {
        let text = "# Started dump\n[config]\nquote-character = BACKTICK\n[source]\n# SOURCE_LOG_POS = 12\n\n[`a b`.`mydumper_0`]\n\
                    real_table_name=odd name\nrows = 12\ndata_checksum = ABC\n\n[`s`.`t`]\nreal_table_name=t\nrows = -1\n\
                    [`s`.`u`]\nreal_table_name=u\nrows = 0\n[`s`.`v`]\nreal_table_name=v\nis_view = 1\n";
        let of = |schema, table, n| (Object::new(Kind::Table, schema, table), n);
        assert_eq!(
            rows_of_metadata(text),
            [of("a b", "odd name", 12), of("s", "u", 0)]
        );
        assert!(rows_of_metadata("SHOW MASTER STATUS:\n\tLog: b.1\n\tPos: 4\n").is_empty());
    }

    #[test]
    fn recorded_files_have_them() {
        for text in [
            include_str!(
                "../../../../tests/fixtures/coordinates/mydumper-1.0.1-mariadb-11.4.metadata"
            ),
            include_str!(
                "../../../../tests/fixtures/coordinates/mydumper-0.14.1-mysql-8.0-broken-lines.metadata"
            ),
        ] {
            let found = rows_of_metadata(text);
            assert!(found.iter().any(|(_, rows)| *rows == 2), "{found:?}");
        }
    }

    #[test]
    fn objects_that_replication_creates_are_dropped() {
        let maria = Server::parse("10.11.19-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        let object = |kind, name: &str| Object {
            kind,
            schema: if kind == Kind::Account { "" } else { "s" }.into(),
            name: name.into(),
        };
        for (server, object, wanted) in [
            (
                maria,
                object(Kind::Schema, ""),
                "DROP DATABASE IF EXISTS `s`",
            ),
            (
                maria,
                object(Kind::View, "a`b"),
                "DROP VIEW IF EXISTS `s`.`a``b`",
            ),
            (maria, object(Kind::Account, "role@"), "DROP ROLE `role`"),
            (mysql, object(Kind::Account, "@%"), "DROP USER ``@`%`"),
            (mysql, object(Kind::Account, "a@b@%"), "DROP USER `a@b`@`%`"),
        ] {
            assert_eq!(drop_statement(server, &object), wanted);
        }
    }
}
