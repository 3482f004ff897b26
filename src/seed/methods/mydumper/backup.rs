//! Backup: mydumper writes the source into a directory; its coordinates are read at once.

use super::Mydumper;
use super::options::{self, Tool};
use super::tool::size;
use super::version::{self, ToolVersion};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, connect, failure, info, quote_text};
use crate::seed::context::Context;
use crate::seed::coordinates::{Coordinates, mydumper};
use crate::seed::methods::logical;
use crate::seed::methods::target_server::QUESTIONS;
use crate::seed::record::MadeUnder;
use crate::seed::source_lock::Watch;
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// A metadata file has a few lines for each table.
const METADATA_LIMIT: u64 = 256 << 20;

impl Mydumper {
    /// The whole stage. When it returns Ok the dump is synced and its coordinates are recorded; else there is none.
    pub(super) fn dump(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        logical::dump(|| self.pull(ctx), || self.remove_dump())
    }

    fn pull(&self, ctx: &Context) -> Result<String> {
        let (source, facts, identity) = logical::source(&self.config, ctx)?;
        let version = self.version(Tool::Mydumper)?;
        version::check_server(version, facts.server)?;
        let kept = self.options(Tool::Mydumper, version)?;
        let from = source.clone();
        let made_under = ctx.interruptible(move || check_content(version, &from))?;

        // SHOW CREATE TABLE quotes by sql_mode, which versions before 0.14 do not know of.
        let first = logical::dump_sessions(ctx, &source, &identity)?;
        let first = match version::reads_metadata(version) {
            true => first,
            false => first.assign("sql_mode = ''"),
        };
        let credentials = self.credentials(&source, facts.server.flavour, &first)?;
        let directory = self.directory();
        self.remove_dump()?;
        // For nobody else, whatever modes the tool gives; every version takes a directory that is empty.
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(|e| Error::io(directory.display(), &e))?;
        let arguments = options::dump_arguments(
            version,
            facts.server,
            credentials.path(),
            &source,
            &directory,
            &kept,
        );
        ctx.report(&format!("Running backup of {}", source.name()));
        let progress = Arc::clone(ctx.progress());
        let heard = Arc::clone(ctx.progress());
        // Nothing is dumped before mydumper has its lock, but a second try is not made: it writes the directory first.
        let watch = Watch::start(&source, self.config.common.source_lock_timeout);
        let dumped = self.run(
            ctx,
            Tool::Mydumper,
            &arguments,
            &source,
            move |_| heard.touch(),
            || progress.bytes(size(&directory).0),
        );
        let seen = watch.stop();
        dumped.map_err(|e| match &seen.given_up {
            _ if e.is_cancelled() => e,
            Some(why) => Error::permanent(why),
            None => identity
                .explain("mydumper", e)
                .context(format!("dump of {}", source.name())),
        })?;
        sync(ctx, &directory)?;
        logical::dumped(&self.config, ctx, &source, facts.definitions)?;

        let found = read_metadata(&directory)?;
        let before = facts.schemas;
        let of_source = ctx.interruptible(move || look_again(&source, found, before))?;
        let (c, schemas) = of_source;
        c.validate()?;
        let (bytes, files) = size(&directory);
        let text = format!(
            "Dumped {bytes} bytes in {files} files. Coordinates {}:{}. {seen}",
            c.log_file, c.log_pos
        );
        ctx.update(|seed| {
            seed.coordinates = Some(c);
            seed.dump_bytes = bytes;
            seed.source_lock_ms = Some(seen.milliseconds());
            seed.source_schemas = schemas;
            seed.made_under = made_under;
        })?;
        Ok(text)
    }
}

/// That mydumper of this version can dump all that the source has. Returns what its objects were made under, if a dump of
/// this version does not say it: what is made under something else may mean something else, or be refused in the middle of
/// the load.
fn check_content(version: ToolVersion, source: &Endpoint) -> Result<MadeUnder> {
    let mut conn = connect(source, QUESTIONS)?;
    let flavour = crate::mysql::Server::ask(&mut conn)?.flavour;
    let versioned: Option<String> = conn
        .query_first(
            "SELECT MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)) FROM information_schema.TABLES WHERE TABLE_TYPE = 'SYSTEM VERSIONED' \
             HAVING COUNT(*) > 0",
        )
        .map_err(|e| failure(&source.name(), "", &e))?;
    if let Some(table) = versioned {
        return Err(Error::permanent(format!(
            "source {} has tables WITH SYSTEM VERSIONING, such as {table}, and mydumper leaves their old rows out: use another \
             seed method",
            source.name()
        )));
    }
    if version::reads_metadata(version) {
        return Ok(MadeUnder::default());
    }
    // information_schema.EVENTS is error 1577 where MariaDB's scheduler is disabled.
    let events = match flavour {
        Flavour::MariaDb => "SELECT db s, name n, sql_mode m, time_zone z FROM mysql.event",
        Flavour::MySql => {
            "SELECT EVENT_SCHEMA s, EVENT_NAME n, SQL_MODE m, TIME_ZONE z FROM information_schema.EVENTS"
        }
    };
    let objects = format!(
        "SELECT ROUTINE_SCHEMA s, ROUTINE_NAME n, SQL_MODE m FROM information_schema.ROUTINES UNION ALL \
         SELECT TRIGGER_SCHEMA, TRIGGER_NAME, SQL_MODE FROM information_schema.TRIGGERS UNION ALL \
         SELECT s, n, m FROM ({events}) e"
    );
    let mut one = |name: &str, what: &str, value: &str, of: &str| -> Result<String> {
        let question = format!(
            "SELECT CONVERT({value} USING utf8), MIN(CONVERT(CONCAT(s, '.', n) USING utf8)) FROM ({of}) o \
             WHERE s NOT IN ('sys', 'mysql') GROUP BY 1 ORDER BY 2"
        );
        let values: Vec<(String, String)> = conn
            .query(question)
            .map_err(|e| failure(&source.name(), "", &e))?;
        match values.as_slice() {
            [] => Ok(String::new()),
            [(value, _)] => Ok(value.clone()),
            [(_, first), (_, other), ..] => Err(Error::permanent(format!(
                "{what} of source {} were made under different values of {name}, for example {first} and {other}, and mydumper \
                 {version} does not write them: use another seed method, or mydumper 0.14 or later",
                source.name()
            ))),
        }
    };
    Ok(MadeUnder {
        sql_mode: one("sql_mode", "routines, triggers and events", "m", &objects)?,
        time_zone: one("time_zone", "events", "z", events)?,
    })
}

/// The coordinates with the GTID set that MariaDB itself has for file and position: versions of mydumper put other variables
/// there. And the schemas, as one that was made meanwhile is in the dump as well.
fn look_again(
    source: &Endpoint,
    mut found: Coordinates,
    before: Vec<String>,
) -> Result<(Coordinates, Vec<String>)> {
    let mut conn = connect(source, QUESTIONS)?;
    if crate::mysql::Server::ask(&mut conn)?.flavour == Flavour::MariaDb {
        let question = format!(
            "SELECT BINLOG_GTID_POS({}, {})",
            quote_text(&found.log_file),
            found.log_pos
        );
        let set: Option<Option<String>> = conn
            .query_first(question)
            .map_err(|e| failure(&source.name(), "", &e))?;
        // NULL: that binary log is gone already, and replication will say so.
        if let Some(set) = set.flatten() {
            found.gtid_slave_pos = Some(set);
        }
    }
    let schemas: BTreeSet<String> = before
        .into_iter()
        .chain(info::schema_names(&mut conn)?)
        .collect();
    Ok((found, schemas.into_iter().collect()))
}

/// Coordinates of the dump in `directory`.
pub(super) fn read_metadata(directory: &Path) -> Result<Coordinates> {
    let path = directory.join("metadata");
    let fail = |e: &std::io::Error| Error::io(path.display(), e);
    let length = std::fs::metadata(&path).map_err(|e| fail(&e))?.len();
    if length > METADATA_LIMIT {
        return Err(Error::permanent(format!(
            "{} has {length} bytes: that is no metadata file of mydumper",
            path.display()
        )));
    }
    let bytes = std::fs::read(&path).map_err(|e| fail(&e))?;
    mydumper::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| e.context(path.display()))
}

/// All files are on the disk when this returns.
fn sync(ctx: &Context, directory: &Path) -> Result<()> {
    let fail = |path: &Path, e: &std::io::Error| Error::io(path.display(), e);
    for entry in std::fs::read_dir(directory).map_err(|e| fail(directory, &e))? {
        ctx.cancel().check()?;
        let path = entry.map_err(|e| fail(directory, &e))?.path();
        let synced = File::open(&path).and_then(|f| f.sync_all());
        synced.map_err(|e| fail(&path, &e))?;
    }
    for directory in [Some(directory), directory.parent()].into_iter().flatten() {
        let synced = File::open(directory).and_then(|d| d.sync_all());
        synced.map_err(|e| fail(directory, &e))?;
    }
    Ok(())
}
