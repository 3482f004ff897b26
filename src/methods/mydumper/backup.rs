//! Backup: mydumper writes the source into a directory.

use super::objects::{self, Objects};
use super::options::{self, Dump};
use super::tool::{Call, End, size};
use super::version::{self, Tool, ToolVersion};
use super::{Mydumper, content, log as messages, strict};
use crate::contents::row_mode::Tables;
use crate::coordinates::{Coordinates, metadata};
use crate::error::{Error, OnPath, Result};
use crate::methods::logical::definitions::kept::Read;
use crate::methods::logical::target_server::QUERY_TIMEOUT;
use crate::methods::logical::{self, DumpSource, Dumped, Early};
use crate::mysql::{Endpoint, Flavour, Server, connect, info, query, quote_text};
use crate::process::Cancel;
use crate::seed::source_lock::{LONG_QUERIES, LockMonitor, Seen, wait_for_long_queries};
use crate::seed::stage::Context;
use crate::sys::file::{if_there, sync_dir};
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

struct Run {
    end: End,
    /// Of the scripts.
    bytes: u64,
    lock: Seen,
    objects: Objects,
    /// What was read once the position was fixed.
    again: Arc<Early<(Objects, Result<()>)>>,
}

impl Mydumper {
    /// A dump as [`logical::backup`] wants it.
    pub(super) fn dump(
        &self,
        ctx: &Context,
        source: &DumpSource,
        read: &mut Read,
    ) -> Result<Dumped> {
        let (endpoint, server) = (&source.endpoint, source.server);
        let version = self.version(Tool::Mydumper)?;
        version::check_server(version, server, self.config.mydumper.any_version)?;
        let kept = self.options(Tool::Mydumper, version)?;
        let from = endpoint.clone();
        let unknown_product = ctx.interruptible(move || content::check(version, &from))?;
        content::refuse_exceptions(version, ctx, endpoint, server.flavour)?;
        read.inexact
            .extend(logical::values(&self.config, ctx, endpoint)?);
        let init = logical::dump_sessions(ctx, source)?;
        let credentials = self.credentials(endpoint, server, Tool::Mydumper, version, init)?;
        let mut what = Dump {
            version,
            source: server,
            unknown_product,
            left_out: None,
        };
        let mut crashes = 0;
        let run = loop {
            let run = self.run_once(ctx, source, &mut what, credentials.path(), &kept)?;
            match run.end {
                End::Well => break run,
                End::Crashed(e) if crashes < RETRIES && run.lock.given_up.is_none() => {
                    crashes += 1;
                    log::warn!("dump of {}: {e}; dumping again", endpoint.name());
                }
                End::Crashed(e) => return Err(failed(source, &run.lock, e)),
            }
        };
        let directory = self.directory();
        if version < version::SESSION_SECTION {
            strict::set_in_files(&directory)?;
        }
        sync(ctx, &directory)?;
        let again = run.again;
        let (again, checked) = ctx.interruptible(move || again.get())?;
        run.objects.check_same(&again, &endpoint.name())?;
        checked?;
        let (found, from) = (read_metadata(&directory)?, endpoint.clone());
        let (coordinates, schemas) =
            ctx.interruptible(move || with_gtid_and_schemas(&from, found))?;
        coordinates.validate()?;
        let (of_dump, files) = size(&directory);
        let bytes = run.bytes + of_dump;
        ctx.progress().bytes(bytes);
        Ok(Dumped {
            coordinates,
            bytes,
            files: Some(files),
            lock: run.lock,
            schemas,
            lenient: Tables::new(),
        })
    }

    pub(super) fn remove_dump(&self) -> Result<()> {
        for directory in [self.objects_directory(), self.directory()] {
            if_there(std::fs::remove_dir_all(&directory)).on(&directory)?;
        }
        Ok(())
    }

    fn run_once(
        &self,
        ctx: &Context,
        source: &DumpSource,
        what: &mut Dump,
        credentials: &Path,
        kept: &[String],
    ) -> Result<Run> {
        let (endpoint, version) = (&source.endpoint, what.version);
        let (directory, place) = (self.directory(), self.objects_directory());
        self.remove_dump()?;
        // For this user only, whatever modes the tool gives; every version takes a directory that is empty.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .on(&directory)?;
        let objects = read_objects(ctx, endpoint)?;
        let bytes = objects.write(&place)?;
        what.left_out = objects.left_out_file(&place);
        let arguments = options::dump_arguments(what, credentials, endpoint, &directory, kept);
        let name = endpoint.name();
        ctx.report(&format!("Running backup of {name} with mydumper {version}"));
        let from = endpoint.clone();
        let again = Early::new(move || read_again(version, &from));
        let (progress, begun) = (Arc::clone(ctx.progress()), Arc::clone(&again));
        let line = move |line: &str| {
            progress.touch();
            // With the first row that is dumped the position is fixed.
            if messages::dumps_rows(line) {
                begun.start();
            }
        };
        // A lock that was given up is not tried again: mydumper writes the directory first. It is ended with its session: 1.0.1 would
        // repeat FLUSH TABLES on MySQL without end.
        let stop = Cancel::default();
        let stopped = stop.clone();
        let limit = self.config.common.source_lock_timeout;
        let monitor = LockMonitor::start(endpoint, limit, move |why| stopped.cancel(why))?;
        let call = Call {
            tool: Tool::Mydumper,
            arguments: &arguments,
            server: endpoint,
            stop: &stop,
        };
        let end = self.run(ctx, &call, line, || {
            ctx.progress().bytes(size(&directory).0)
        });
        let lock = monitor.stop();
        Ok(Run {
            end: end.map_err(|e| failed(source, &lock, e))?,
            bytes,
            lock,
            objects,
            again,
        })
    }
}

/// The cause of a failed dump: the lock that was given up, or what the tool reports.
fn failed(source: &DumpSource, lock: &Seen, e: Error) -> Error {
    match &lock.given_up {
        _ if e.is_cancelled() => e,
        Some(why) => Error::permanent(why),
        None => source
            .identity
            .explain("mydumper", e)
            .context(format!("dump of {}", source.endpoint.name())),
    }
}

/// Between two waits: what changes until the tool's position is fixed fails the Backup, and a query may begin while they are read.
fn read_objects(ctx: &Context, source: &Endpoint) -> Result<Objects> {
    let wait = || wait_for_long_queries(ctx, source, Instant::now() + LONG_QUERIES);
    wait()?;
    let from = source.clone();
    let objects = ctx.interruptible(move || objects::read(&from))?;
    wait()?;
    Ok(objects)
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
/// there. And the schemas.
fn with_gtid_and_schemas(
    source: &Endpoint,
    mut found: Coordinates,
) -> Result<(Coordinates, Vec<String>)> {
    let mut conn = connect(source, QUERY_TIMEOUT)?;
    if Server::ask(&mut conn)?.flavour == Flavour::MariaDb {
        let (file, position) = (quote_text(&found.log_file), found.log_pos);
        let query = format!("SELECT BINLOG_GTID_POS({file}, {position})");
        let set: Option<Option<String>> =
            query::first(&mut conn, query).map_err(|e| e.context(source.name()))?;
        // NULL: that binary log is gone already, and replication will say so.
        if let Some(set) = set.flatten() {
            found.gtid_slave_pos = Some(set);
        }
    }
    Ok((found, info::schema_names(&mut conn)?))
}

pub(super) fn read_metadata(directory: &Path) -> Result<Coordinates> {
    let path = directory.join("metadata");
    let length = std::fs::metadata(&path).on(&path)?.len();
    if length > METADATA_LIMIT {
        return Err(Error::permanent(format!(
            "{} has {length} bytes: it is not a metadata file of mydumper",
            path.display()
        )));
    }
    let bytes = std::fs::read(&path).on(&path)?;
    metadata::mydumper(&String::from_utf8_lossy(&bytes)).map_err(|e| e.context(path.display()))
}

/// All files are on the disk when this returns.
fn sync(ctx: &Context, directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).on(directory)? {
        ctx.cancel().check()?;
        let path = entry.on(directory)?.path();
        File::open(&path).and_then(|f| f.sync_all()).on(&path)?;
    }
    sync_dir(directory)?;
    directory.parent().map_or(Ok(()), sync_dir)
}
