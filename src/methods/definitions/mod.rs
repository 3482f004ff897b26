//! The source's definitions as they were while a logical dump was made, kept with the dump, and their comparison with what its load
//! has made. A dictionary has no snapshot: what is equal right before and right after the dump is in the dump as it was read; the
//! rest is listed and not compared.

mod compare;
mod created;
mod normal;
mod ready;
mod rows;

pub use compare::{Differences, Rules, compare, names};
pub use ready::{name_in_the_way, read_only, ready};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Catalogue, Kind, Object, UNREADABLE};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, failure, quote_name};
use crate::seed::stage::Context;
use crate::seed::types::Method;
use crate::sys::file::replace_durable;
use mysql::Conn;
use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// For each batch of statements on the source.
const ANSWER: Duration = Duration::from_secs(60);
/// Seconds for a metadata lock of another session on the target, where there should be none.
const WAIT: u32 = 30;
/// Seconds for the count of a table's rows, below [`ANSWER`].
const COUNT: u32 = 30;

/// What is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The seed's number.
    seed: i64,
    /// What was equal before and after the dump.
    pub equal: Catalogue,
    /// What was not, or could not be read.
    pub changed: BTreeSet<Object>,
    /// Of these, what was created after the dump's position: replication creates it.
    #[serde(default)]
    pub created: BTreeSet<Object>,
    /// What the method does not copy exactly.
    pub inexact: Vec<String>,
}

/// What was read of the source before its dump had ended.
pub struct Read {
    /// Right before the dump.
    pub before: Catalogue,
    /// Once the dump's position was fixed, where the method knows when that is.
    pub early: Option<Catalogue>,
    /// What the method does not copy exactly.
    pub inexact: Vec<String>,
}

/// The catalogue of the source.
///
/// # Errors
/// If the source cannot be queried.
pub fn of_source(source: &Endpoint) -> Result<Catalogue> {
    let mut conn = connect(source, ANSWER)?;
    let server = Server::ask(&mut conn)?;
    catalogue::read(&mut conn, server)
        .map_err(|e| e.context(format!("definitions of {}", source.name())))
}

impl Kept {
    /// From what was read before and after a dump.
    pub fn new(seed: i64, before: Catalogue, mut after: Catalogue, inexact: Vec<String>) -> Self {
        let there = |o: &Object| before.objects.contains_key(o);
        let made = after.objects.keys().filter(|o| !there(o)).cloned();
        let mut changed: BTreeSet<Object> = made.collect();
        for object in &changed {
            after.objects.remove(object);
        }
        for (object, definition) in before.objects {
            let unreadable = definition.contains_key(UNREADABLE);
            if unreadable || after.objects.get(&object) != Some(&definition) {
                after.objects.remove(&object);
                changed.insert(object);
            } else {
                after.objects.insert(object, definition);
            }
        }
        Self {
            seed,
            equal: after,
            changed,
            created: BTreeSet::new(),
            inexact,
        }
    }
}

/// Objects of `second` that `first` does not have. Without the data dictionary of MySQL 8.0 the lists of tables, views and triggers lack
/// those that another session has locked, so a missing one may have been there.
fn created(first: &Catalogue, second: &Catalogue) -> BTreeSet<Object> {
    let server = first.server;
    let dictionary = server.flavour == Flavour::MySql && server.version >= Version(8, 0, 0);
    let listed = |o: &&Object| {
        dictionary
            || !matches!(
                o.kind,
                Kind::Table | Kind::Sequence | Kind::View | Kind::Trigger
            )
    };
    let new = second.objects.keys().filter(listed);
    new.filter(|o| !first.objects.contains_key(o))
        .cloned()
        .collect()
}

/// The file with what is kept.
fn file(config: &Config) -> PathBuf {
    let dir = &config.common.backup_dir;
    dir.join("orchestrator_agent_backup.definitions")
}

/// Removes the file; it may be missing.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(config: &Config) -> Result<()> {
    let path = file(config);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display(), &e)),
        _ => Ok(()),
    }
}

/// Reads the source's catalogue again, right after the dump, and writes what is kept. It is on the disk when this returns.
///
/// # Errors
/// If the source cannot be queried or the file cannot be written; cancelled. Transient: an object was created while the dump began, so
/// that it may be in the dump and be created by replication as well.
pub fn keep(config: &Config, ctx: &Context, source: &Endpoint, read: Read) -> Result<()> {
    let from = source.clone();
    let after = ctx.interruptible(move || of_source(&from))?;
    let mut of_replication = BTreeSet::new();
    if let Some(early) = read.early {
        let unclear = created(&read.before, &early);
        if !unclear.is_empty() {
            return Err(Error::transient(format!(
                "{} created on {} while the dump began, and replication may create it once more: make the seed again",
                names(unclear.iter()),
                source.name()
            )));
        }
        of_replication = created(&early, &after);
    }
    let mut kept = Kept::new(ctx.seed_id(), read.before, after, read.inexact);
    kept.created = of_replication;
    let path = file(config);
    let text = serde_json::to_vec(&kept).map_err(|e| Error::io(path.display(), &e.into()))?;
    // Rows of the tables with the accounts are in it, as they are in the dump.
    replace_durable(&path, 0o600, &text)
}

/// What was kept for this seed.
///
/// # Errors
/// Permanent: it is not there, or another seed's.
pub fn kept(config: &Config, seed: i64) -> Result<Kept> {
    let path = file(config);
    let wrong = |why: String| {
        Error::permanent(format!(
            "the source's definitions are not in {}: {why}; call prepare again",
            path.display()
        ))
    };
    let from = File::open(&path).map_err(|e| wrong(e.to_string()))?;
    let kept: Kept =
        serde_json::from_reader(BufReader::new(from)).map_err(|e| wrong(e.to_string()))?;
    if kept.seed != seed {
        return Err(wrong(format!("they are those of seed {}", kept.seed)));
    }
    Ok(kept)
}

/// The tables whose rows the dump tells, of those that are compared.
fn counts(config: &Config, kept: &Kept, method: Method) -> Vec<(Object, u64)> {
    if method != Method::Mydumper {
        return Vec::new();
    }
    let file = config
        .common
        .backup_dir
        .join("orchestrator_agent_backup/metadata");
    let text = std::fs::read(file).unwrap_or_default();
    let told = rows::told(&String::from_utf8_lossy(&text)).into_iter();
    let table = |(schema, name, rows)| {
        let object = Object {
            kind: Kind::Table,
            schema,
            name,
        };
        (object, rows)
    };
    told.map(table)
        .filter(|(o, _)| kept.equal.objects.contains_key(o))
        .collect()
}

/// Counts a table's rows; `None` if that takes longer than [`COUNT`].
fn count(conn: &mut Conn, server: Server, table: &Object) -> Result<Option<u64>> {
    let name = format!("{}.{}", quote_name(&table.schema), quote_name(&table.name));
    let query = match server.flavour {
        Flavour::MariaDb => {
            format!("SET STATEMENT max_statement_time = {COUNT} FOR SELECT COUNT(*) FROM {name}")
        }
        // The hint is a comment for 5.6, whose answer is then waited for no longer than for any other.
        Flavour::MySql => {
            format!("SELECT /*+ MAX_EXECUTION_TIME({COUNT}000) */ COUNT(*) FROM {name}")
        }
    };
    match conn.query_first(query) {
        Ok(n) => Ok(n),
        // The time is over.
        Err(mysql::Error::MySqlError(e)) if matches!(e.code, 1969 | 3024) => Ok(None),
        Err(e) => Err(failure("this connection", "", &e).context(table)),
    }
}

/// Compares the local server, which has just been loaded, with what was kept. Returns what is said of it in the stage's Details.
///
/// # Errors
/// Permanent: the first ten objects that differ, with what differs. If a query fails; cancelled.
pub fn check(
    config: &Config,
    ctx: &Context,
    kept: &Arc<Kept>,
    left_out: BTreeSet<String>,
) -> Result<String> {
    let local = Endpoint::local(&config.mysql);
    let schemas: BTreeSet<String> = kept
        .equal
        .objects
        .keys()
        .chain(&kept.changed)
        .map(|o| o.schema.clone())
        .collect();
    let method = ctx.seed()?.method;
    let counts = counts(config, kept, method);
    let of_source = Arc::clone(kept);
    let (differences, uncounted, dropped) = ctx.interruptible(move || {
        let mut conn = connect(&local, ANSWER)?;
        let server = Server::ask(&mut conn)?;
        // Times of events are those of their own time zones, which may be 14 hours ahead.
        let now: Option<String> = conn
            .query_first("SELECT CAST(UTC_TIMESTAMP() + INTERVAL 14 HOUR AS CHAR)")
            .map_err(|e| failure("this connection", "", &e))?;
        let target = catalogue::read_of(&mut conn, server, WAIT, |s| schemas.contains(s))?;
        let now = now.unwrap_or_default();
        let mut found = compare(&of_source, &target, &Rules { left_out, now });
        let mut uncounted = 0;
        for (table, wanted) in counts {
            match count(&mut conn, server, &table)? {
                None => uncounted += 1,
                Some(n) if n == wanted => {}
                Some(n) => {
                    let what = format!("it has {n} rows, the dump {wanted}");
                    found.found.push((table, what));
                }
            }
        }
        let mut dropped = BTreeSet::new();
        if found.found.is_empty() {
            let there = |o: &&Object| target.objects.contains_key(o);
            dropped = of_source.created.iter().filter(there).cloned().collect();
            created::drop(&mut conn, server, &dropped)?;
        }
        Ok((found, uncounted, dropped))
    })?;
    if !differences.found.is_empty() {
        return Err(Error::permanent(format!(
            "after the load {} objects are not as they were on the source: {}",
            differences.found.len(),
            differences.first()
        )));
    }
    let mut told = vec![format!("{} definitions compared", differences.equal)];
    if uncounted > 0 {
        told.push(format!(
            "the rows of {uncounted} tables could not be counted within {COUNT} s each"
        ));
    }
    if !dropped.is_empty() {
        told.push(format!(
            "{} created during the dump were dropped again, because replication creates them: {}",
            dropped.len(),
            names(dropped.iter())
        ));
    }
    if !kept.changed.is_empty() {
        told.push(format!(
            "{} changed during the dump and were not compared: {}",
            kept.changed.len(),
            names(kept.changed.iter())
        ));
    }
    // Of tables and sequences TargetServer::extras tells.
    let more = |o: &&Object| !matches!(o.kind, Kind::Table | Kind::Sequence);
    let extra: Vec<&Object> = differences.extra.iter().filter(more).collect();
    if !extra.is_empty() {
        told.push(format!(
            "{} objects that the source does not have were kept: {}",
            extra.len(),
            names(extra.into_iter())
        ));
    }
    told.extend(kept.inexact.iter().cloned());
    Ok(told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn object(kind: Kind, name: &str) -> Object {
        Object {
            kind,
            schema: "s".into(),
            name: name.into(),
        }
    }

    /// An object: its kind, its name, and its properties with their values.
    type Definition<'a> = (Kind, &'a str, &'a [(&'a str, &'a str)]);

    fn of(version: &str, objects: &[Definition]) -> Catalogue {
        let definition = |of: &[(&str, &str)]| {
            let pair = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
            of.iter().map(pair).collect::<BTreeMap<_, _>>()
        };
        Catalogue {
            server: Server::parse(version, "").unwrap(),
            objects: objects
                .iter()
                .map(|(kind, name, of)| (object(*kind, name), definition(of)))
                .collect(),
        }
    }

    #[test]
    fn only_what_is_equal_in_both_reads_is_compared() {
        let before = of(
            "9.7.4",
            &[
                (Kind::View, "same", &[("Create View", "a")]),
                (Kind::View, "altered", &[("Create View", "a")]),
                (Kind::View, "dropped", &[("Create View", "a")]),
                (Kind::View, "locked", &[(UNREADABLE, "1205")]),
            ],
        );
        let after = of(
            "9.7.4",
            &[
                (Kind::View, "same", &[("Create View", "a")]),
                (Kind::View, "altered", &[("Create View", "b")]),
                (Kind::View, "made", &[("Create View", "a")]),
                (Kind::View, "locked", &[(UNREADABLE, "1205")]),
            ],
        );
        let kept = Kept::new(1, before, after, vec!["x".into()]);
        let same: Vec<&Object> = kept.equal.objects.keys().collect();
        assert_eq!(same, [&object(Kind::View, "same")]);
        let changed: Vec<&str> = kept.changed.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(changed, ["altered", "dropped", "locked", "made"]);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
    }

    #[test]
    fn what_is_missing_or_different_is_named() {
        let event = [("at", "2026-01-01 00:00:00"), ("statement", "x")];
        let source = of(
            "9.7.4",
            &[
                (
                    Kind::Table,
                    "t",
                    &[(
                        "Create Table",
                        "CREATE TABLE `t` (\n  `a` int,\n  KEY `k` (`a`)\n) ENGINE=InnoDB",
                    )],
                ),
                (Kind::Event, "over", &event),
                (Kind::Event, "later", &[("at", "2027-01-01 00:00:00")]),
                (
                    Kind::Procedure,
                    "p",
                    &[("sql_mode", "A"), ("Create Procedure", "1")],
                ),
                (
                    Kind::Account,
                    "u@%",
                    &[("mysql.user", "x\ty\npassword\tsecret-1")],
                ),
            ],
        );
        let target = of(
            "9.7.4",
            &[
                (
                    Kind::Table,
                    "t",
                    &[(
                        "Create Table",
                        "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB AUTO_INCREMENT=3",
                    )],
                ),
                (
                    Kind::Procedure,
                    "p",
                    &[("sql_mode", "B"), ("Create Procedure", "2")],
                ),
                (
                    Kind::Account,
                    "u@%",
                    &[("mysql.user", "x\ty\npassword\tsecret-2")],
                ),
                (Kind::View, "old", &[]),
                (Kind::Trigger, "new", &[("table", "t")]),
                (Kind::Trigger, "other", &[("table", "old")]),
            ],
        );
        let kept = Kept::new(1, source.clone(), source, Vec::new());
        let rules = Rules {
            now: "2026-06-01 00:00:00".into(),
            ..Rules::default()
        };
        let found = compare(&kept, &target, &rules);
        let text = found.first();
        for words in [
            "table s.t: index k is missing",
            "event s.later: it is missing",
            "procedure s.p: sql_mode is B and not A",
            "account u@%: mysql.user differs in column password",
            "trigger s.new: the source has no such trigger",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(found.found.len(), 5, "{text}");
        assert!(!text.contains("secret") && !text.contains("over"), "{text}");
        let extra: Vec<&str> = found.extra.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(extra, ["old", "other"]);
        let rules = Rules {
            left_out: BTreeSet::from(["s.t".to_string()]),
            ..rules
        };
        assert_eq!(compare(&kept, &target, &rules).found.len(), 4);
    }

    #[test]
    fn ten_objects_are_named() {
        let many: Vec<String> = (0..12).map(|n| format!("v{n:02}")).collect();
        let objects: Vec<_> = many
            .iter()
            .map(|n| (Kind::View, n.as_str(), [("Create View", "a")]))
            .collect();
        let objects: Vec<Definition> = objects.iter().map(|(k, n, d)| (*k, *n, &d[..])).collect();
        let source = of("9.7.4", &objects);
        let kept = Kept::new(1, source.clone(), source, Vec::new());
        let text = compare(&kept, &of("9.7.4", &[]), &Rules::default()).first();
        assert!(
            text.contains("view s.v09: ") && !text.contains("v10") && text.ends_with("and 2 more"),
            "{text}"
        );
    }
}
