//! Backup: mydumper writes the source into a directory; its coordinates are read at once.

use super::objects::{self, Objects};
use super::options::{self, Dump, Tool};
use super::tool::{Call, End, size};
use super::version::ToolVersion;
use super::{Mydumper, content, log as messages, strict, version};
use crate::contents::target_server::QUERY_TIMEOUT;
use crate::coordinates::{Coordinates, mydumper};
use crate::error::{Error, Result};
use crate::methods::logical;
use crate::methods::logical::definitions::kept::Read;
use crate::methods::logical::early::Early;
use crate::methods::state::LogicalState;
use crate::mysql::{Endpoint, Flavour, connect, failure, info, quote_text};
use crate::process::Cancel;
use crate::seed::source_lock::{self, LONG_QUERIES, LockMonitor};
use crate::seed::stage::Context;
use crate::sys::file::sync_dir;
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// How often a dump is made again after a crash or a standstill of mydumper. 0.10.1 dies of SIGSEGV or waits for itself in about one of
/// twenty dumps of a few small schemas (Debian 12, two threads).
const RETRIES: u32 = 3;
/// A metadata file has a few lines for each table.
const METADATA_LIMIT: u64 = 256 << 20;

impl Mydumper {
    /// The whole stage. When it returns Ok the dump is synced and its coordinates are recorded; else there is none.
    pub(super) fn dump(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        logical::dump_or_remove(|| self.pull(ctx), || self.remove_dump())
    }

    fn pull(&self, ctx: &Context) -> Result<String> {
        let (source, mut facts, identity) = logical::source(&self.config, ctx)?;
        let version = self.version(Tool::Mydumper)?;
        version::check_server(version, facts.server, self.config.mydumper.any_version)?;
        let kept = self.options(Tool::Mydumper, version)?;
        let from = source.clone();
        let unknown_product = ctx.interruptible(move || content::check(version, &from))?;
        content::refuse_exceptions(version, ctx, &source, facts.server.flavour)?;
        let values = logical::values(&self.config, ctx, &source)?;
        facts.definitions.1.extend(values);
        let first = logical::dump_sessions(ctx, &source, &identity)?;
        let credentials =
            self.credentials(&source, facts.server, Tool::Mydumper, version, first)?;
        let directory = self.directory();
        let place = self.objects_directory();
        let mut crashes = 0;
        let (mut bytes, seen, objects, second) = loop {
            self.remove_dump()?;
            // For this user only, whatever modes the tool gives; every version takes a directory that is empty.
            let made = DirBuilder::new().mode(0o700).create(&directory);
            made.map_err(|e| Error::io(directory.display(), &e))?;
            source_lock::wait_for_long_queries(ctx, &source, Instant::now() + LONG_QUERIES)?;
            // After that wait: what changes until the tool's position is fixed fails the Backup.
            let from = source.clone();
            let objects = ctx.interruptible(move || objects::read(&from))?;
            source_lock::wait_for_long_queries(ctx, &source, Instant::now() + LONG_QUERIES)?; // begun while they were read
            let bytes = objects.write(&place)?;
            let what = Dump {
                version,
                source: facts.server,
                unknown_product,
                left_out: objects.left_out_file(&place),
            };
            let arguments =
                options::dump_arguments(&what, credentials.path(), &source, &directory, &kept);
            ctx.report(&format!(
                "Running backup of {} with mydumper {version}",
                source.name()
            ));
            let progress = Arc::clone(ctx.progress());
            let heard = Arc::clone(ctx.progress());
            let from = source.clone();
            let second = Early::new(move || read_again(version, &from));
            let begun = second.clone();
            // A lock that was given up is not tried again: mydumper writes the directory first. It is ended with its session: 1.0.1 would
            // repeat FLUSH TABLES on MySQL without end.
            let stop = Cancel::default();
            let stopped = stop.clone();
            let limit = self.config.common.source_lock_timeout;
            let watch = LockMonitor::start(&source, limit, move |why| stopped.cancel(why))?;
            let call = Call {
                tool: Tool::Mydumper,
                arguments: &arguments,
                server: &source,
                stop: &stop,
            };
            let dumped = self.run(
                ctx,
                &call,
                move |line| {
                    heard.touch();
                    // With the first row that is dumped the position is fixed.
                    if messages::dumps_rows(line) {
                        begun.start();
                    }
                },
                || progress.bytes(size(&directory).0),
            );
            let seen = watch.stop();
            let failed = |e: Error| match &seen.given_up {
                _ if e.is_cancelled() => e,
                Some(why) => Error::permanent(why),
                None => identity
                    .explain("mydumper", e)
                    .context(format!("dump of {}", source.name())),
            };
            match dumped.map_err(failed)? {
                End::Well => break (bytes, seen, objects, second),
                End::Crashed(e) if crashes < RETRIES && seen.given_up.is_none() => {
                    crashes += 1;
                    log::warn!("dump of {}: {e}; dumping again", source.name());
                }
                End::Crashed(e) => return Err(failed(e)),
            }
        };
        if version::sets_own_mode(version) {
            strict::set_in_files(&directory)?;
        }
        sync(ctx, &directory)?;
        let (again, checked) = ctx.interruptible(move || second.get())?;
        objects.check_same(&again, &source.name())?;
        checked?;
        let (before, inexact) = facts.definitions;
        let read = Read {
            before,
            early: None,
            inexact,
        };
        logical::keep_definitions(&self.config, ctx, &source, read)?;

        let found = read_metadata(&directory)?;
        let before = facts.schemas;
        let of_source = ctx.interruptible(move || look_again(&source, found, before))?;
        let (c, schemas) = of_source;
        c.validate()?;
        let (of_dump, files) = size(&directory);
        bytes += of_dump;
        ctx.progress().bytes(bytes);
        let text = format!(
            "Dumped {bytes} bytes in {files} files. Coordinates {}:{}. {seen}",
            c.log_file, c.log_pos
        );
        ctx.update_state(|seed, state: &mut LogicalState| {
            seed.coordinates = Some(c);
            seed.source_lock_ms = Some(seen.milliseconds());
            state.dump_bytes = bytes;
            state.source_schemas = schemas;
        })?;
        Ok(text)
    }
}

/// What the source has once the dump's position is fixed; and whether a table has come since the first check that this version cannot
/// dump.
fn read_again(version: ToolVersion, source: &Endpoint) -> Result<(Objects, Result<()>)> {
    let objects = objects::read(source)?;
    match content::check(version, source) {
        Err(e) if e.is_transient() => Err(e),
        checked => Ok((objects, checked.map(drop))),
    }
}

/// The coordinates with the GTID set that MariaDB itself has for file and position: versions of mydumper put other variables
/// there. And the schemas, as one that was made meanwhile is in the dump as well.
fn look_again(
    source: &Endpoint,
    mut found: Coordinates,
    before: Vec<String>,
) -> Result<(Coordinates, Vec<String>)> {
    let mut conn = connect(source, QUERY_TIMEOUT)?;
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
    sync_dir(directory)?;
    directory.parent().map_or(Ok(()), sync_dir)
}
