//! The source's definitions as they were while a logical dump was made, kept with the dump. A dictionary has no snapshot: what is equal
//! right before and right after the dump is in the dump as it was read; the rest is listed and not compared.

use crate::config::Config;
use crate::contents::finding::first_of;
use crate::error::{Error, OnPath, Result};
use crate::mysql::catalogue::{self, Catalogue, Kind, Object, UNREADABLE};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect};
use crate::seed::stage::Context;
use crate::sys;
use crate::sys::Inserted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// For each batch of statements on the source.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    seed: i64,
    /// What was equal before and after the dump.
    pub(crate) equal: Catalogue,
    /// What was not, or could not be read.
    pub(crate) changed: BTreeSet<Object>,
    /// Of these, what was created after the dump's position: replication creates it.
    #[serde(default)]
    pub(crate) created: BTreeSet<Object>,
    /// What the method does not copy exactly.
    pub(crate) inexact: Vec<String>,
}

/// What was read of the source before its dump had ended.
pub(crate) struct Read {
    /// Right before the dump.
    pub(crate) before: Catalogue,
    /// Once the dump's position was fixed, where the method knows when that is.
    pub(crate) early: Option<Catalogue>,
    /// What the method does not copy exactly.
    pub(crate) inexact: Vec<String>,
}

pub(crate) fn of_source(source: &Endpoint) -> Result<Catalogue> {
    let mut conn = connect(source, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    catalogue::read(&mut conn, server)
        .map_err(|e| e.context(format!("definitions of {}", source.name())))
}

impl Kept {
    pub(super) fn new(
        seed: i64,
        before: Catalogue,
        mut after: Catalogue,
        inexact: Vec<String>,
    ) -> Self {
        let there = |o: &Object| before.objects.contains_key(o);
        let made = after.objects.keys().filter(|o| !there(o)).cloned();
        let mut changed: BTreeSet<Object> = made.inserted();
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

/// The first of `objects`, for a message.
pub(super) fn names<'o>(objects: impl IntoIterator<Item = &'o Object>) -> String {
    let names: Vec<String> = objects.into_iter().map(Object::to_string).collect();
    first_of(10, &names)
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
        .inserted()
}

fn file(config: &Config) -> PathBuf {
    let dir = &config.common.backup_dir;
    dir.join("orchestrator_agent_backup.definitions")
}

/// Removes the file, and what an agent that was killed has written of it; both may be missing.
pub(crate) fn remove(config: &Config) -> Result<()> {
    sys::file::remove_if_there(&file(config))?;
    sys::file::remove_if_there(&file(config).with_extension("definitions.new"))
}

/// Reads the source's catalogue again, right after the dump, and writes what is kept. It is on the disk when this returns.
///
/// # Errors
/// Transient: an object was created while the dump began, so that it may be in the dump and be created by replication as well.
pub(crate) fn keep(config: &Config, ctx: &Context, source: &Endpoint, read: Read) -> Result<()> {
    let from = source.clone();
    let after = ctx.interruptible(move || of_source(&from))?;
    let mut of_replication = BTreeSet::new();
    if let Some(early) = read.early {
        let unclear = created(&read.before, &early);
        if !unclear.is_empty() {
            return Err(Error::transient(format!(
                "{} created on {} while the dump began, and replication may create it again: run a new seed",
                names(&unclear),
                source.name()
            )));
        }
        of_replication = created(&early, &after);
    }
    let mut kept = Kept::new(ctx.seed_id(), read.before, after, read.inexact);
    kept.created = of_replication;
    let path = file(config);
    let text = serde_json::to_vec(&kept)
        .map_err(std::io::Error::from)
        .on(&path)?;
    // Rows of the tables with the accounts are in it, as they are in the dump.
    sys::file::replace_durable(&path, 0o600, &text)
}

/// What was kept for this seed.
///
/// # Errors
/// Permanent: it is not there, or another seed's.
pub(crate) fn read(config: &Config, seed: i64) -> Result<Kept> {
    let path = file(config);
    let wrong = |why: String| {
        Error::permanent(format!(
            "the source's definitions are not in {}: {why}; run a new seed",
            path.display()
        ))
    };
    let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let kept: Kept = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    if kept.seed != seed {
        return Err(wrong(format!("they are those of seed {}", kept.seed)));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{object, of};
    use super::*;

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
}
