//! The source's definitions as they were while a logical dump was made, kept with the dump, and their comparison with what its load
//! has made. A dictionary has no snapshot: what is equal right before and right after the dump is in the dump as it was read; the
//! rest is listed and not compared.

mod compare;
mod normal;
mod ready;

pub use compare::{Differences, Rules, compare, names};
pub use ready::{name_in_the_way, read_only, ready};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Catalogue, Kind, Object, UNREADABLE};
use crate::mysql::{Endpoint, Server, connect};
use crate::seed::context::Context;
use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// For each batch of statements on the source.
const ANSWER: Duration = Duration::from_secs(60);
/// Seconds for a metadata lock of another session on the target, where there should be none.
const WAIT: u32 = 30;

/// What is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The seed's number.
    seed: i64,
    /// What was equal before and after the dump.
    pub equal: Catalogue,
    /// What was not, or could not be read.
    pub changed: BTreeSet<Object>,
    /// What the method does not copy exactly.
    pub inexact: Vec<String>,
}

/// The catalogue of the source.
fn of_source(source: &Endpoint) -> Result<Catalogue> {
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
            inexact,
        }
    }
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
/// If the source cannot be asked or the file cannot be written; cancelled.
pub fn keep(
    config: &Config,
    ctx: &Context,
    source: &Endpoint,
    (before, inexact): (Catalogue, Vec<String>),
) -> Result<()> {
    let from = source.clone();
    let after = ctx.interruptible(move || of_source(&from))?;
    let kept = Kept::new(ctx.seed_id(), before, after, inexact);
    remove(config)?;
    let path = file(config);
    let fail = |e: &std::io::Error| Error::io(path.display(), e);
    let mut options = OpenOptions::new();
    // Rows of the tables with the accounts are in it, as they are in the dump.
    let made = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut to = BufWriter::new(made.map_err(|e| fail(&e))?);
    serde_json::to_writer(&mut to, &kept).map_err(|e| fail(&e.into()))?;
    to.flush().map_err(|e| fail(&e))?;
    to.get_ref().sync_all().map_err(|e| fail(&e))
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
    let of_source = Arc::clone(kept);
    let differences = ctx.interruptible(move || {
        let mut conn = connect(&local, ANSWER)?;
        let server = Server::ask(&mut conn)?;
        // Times of events are those of their own time zones, which may be 14 hours ahead.
        let now: Option<String> = conn
            .query_first("SELECT CAST(UTC_TIMESTAMP() + INTERVAL 14 HOUR AS CHAR)")
            .map_err(|e| crate::mysql::failure("this connection", "", &e))?;
        let target = catalogue::read_of(&mut conn, server, WAIT, |s| schemas.contains(s))?;
        let now = now.unwrap_or_default();
        Ok(compare(&of_source, &target, &Rules { left_out, now }))
    })?;
    if !differences.found.is_empty() {
        return Err(Error::permanent(format!(
            "after the load {} objects are not as they were on the source: {}",
            differences.found.len(),
            differences.first()
        )));
    }
    let mut told = vec![format!("{} definitions compared", differences.equal)];
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
