//! Restore: myloader loads the dump into the running server.

use super::backup::read_metadata;
use super::options::{self, Tool};
use super::parts::{Part, split};
use super::tool::size;
use super::version::{self, ToolVersion};
use super::{Mydumper, log};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Identity, Server, Version, quote_text};
use crate::seed::context::Context;
use crate::seed::coordinates::Coordinates;
use crate::seed::methods::logical::{self, Loading};
use crate::seed::methods::target_server::TargetServer;
use crate::seed::record::MadeUnder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What counts while rows are loaded. Zeros in AUTO_INCREMENT columns and in dates stay what they are; the global sql_mode is
/// never touched (D11).
const FOR_ROWS: &str = "sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";
/// Modes that MySQL 8.0 does not have any more.
const GONE: [&str; 11] = [
    "DB2",
    "MAXDB",
    "MSSQL",
    "MYSQL323",
    "MYSQL40",
    "NO_AUTO_CREATE_USER",
    "NO_FIELD_OPTIONS",
    "NO_KEY_OPTIONS",
    "NO_TABLE_OPTIONS",
    "ORACLE",
    "POSTGRESQL",
];

impl Mydumper {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let directory = self.directory();
        let found = read_metadata(&directory)?;
        let (bytes, _) = size(&directory);
        let same = |c: &Coordinates| c.log_file == found.log_file && c.log_pos == found.log_pos;
        let coordinates = seed.coordinates.clone().filter(same);
        let Some(coordinates) = coordinates.filter(|_| bytes == seed.dump_bytes) else {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({bytes} bytes, not {}): call prepare again",
                directory.display(),
                seed.dump_bytes
            )));
        };
        let version = self.version(Tool::Myloader)?;
        let kept = self.options(Tool::Myloader, version)?;
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        let parts = match version::reads_metadata(version) {
            true => vec![Part {
                directory,
                rows: true,
            }],
            false => split(&directory, &self.parts_directory())?,
        };
        ctx.cancel().check()?;

        let load = Load {
            identity: target.identity(seed.target_server.as_ref())?,
            parts,
            version,
            options: kept,
            objects: session(&seed.made_under, target.server),
        };
        let what = Loading {
            bytes,
            coordinates: &coordinates,
        };
        logical::restore(&self.config, ctx, target, &what, |t| {
            for part in &load.parts {
                self.load_part(ctx, t.server, &load, part)?;
                if part.rows {
                    // Views over views need their definers (1449).
                    t.interruptible(ctx, TargetServer::flush_privileges)?;
                }
            }
            ctx.cancel().check()?;
            t.interruptible(ctx, |t| t.adopt_gtid_set(&coordinates.gtid_executed))?;
            Ok(String::new())
        })
    }

    fn load_part(&self, ctx: &Context, server: Server, load: &Load, part: &Part) -> Result<()> {
        let local = Endpoint::local(&self.config.mysql);
        let more = match part.rows {
            true => FOR_ROWS,
            false => &load.objects,
        };
        // Every version of myloader writes no binary log by itself; here it does not depend on that.
        let first = logical::load_sessions(&self.config, ctx, &load.identity)?.assign(more);
        let credentials = self.credentials(&local, server.flavour, &first)?;
        let arguments = options::load_arguments(
            load.version,
            credentials.path(),
            &local,
            &part.directory,
            &load.options,
        );
        let progress = Arc::clone(ctx.progress());
        let mut sizes = sizes(&part.directory);
        let (before, _) = progress.get();
        let mut done = before;
        let line = move |text: &str| {
            progress.touch();
            if let Some(n) = log::file_of(text).and_then(|name| sizes.remove(&name)) {
                progress.bytes(done); // what is begun now is not yet loaded
                done += n;
            }
        };
        self.run(ctx, Tool::Myloader, &arguments, &local, line, || {})
            .map_err(|e| match e.is_cancelled() {
                true => e,
                false => load
                    .identity
                    .explain("myloader", e)
                    .context("loading the dump"),
            })
    }
}

/// What is loaded, and how.
struct Load {
    identity: Arc<Identity>,
    parts: Vec<Part>,
    version: ToolVersion,
    options: Vec<String>,
    /// What is set before objects with a body are made.
    objects: String,
}

/// Sizes of the dump's files by name; of compressed ones also by the name that 0.10 says.
fn sizes(directory: &Path) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for file in files {
        // Through a link, where it is one.
        if let Ok(m) = std::fs::metadata(file.path()) {
            let name = file.file_name().to_string_lossy().into_owned();
            let plain = name.strip_suffix(".gz").unwrap_or(&name);
            out.insert(plain.to_string(), m.len());
            out.insert(name, m.len());
        }
    }
    out
}

/// The assignments that make such a session, sql_mode as far as the target has it.
fn session(of_source: &MadeUnder, target: Server) -> String {
    let gone = target.flavour == Flavour::MySql && target.version >= Version(8, 0, 0);
    let word = |m: &&str| m.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let modes: Vec<&str> = of_source
        .sql_mode
        .split(',')
        .filter(word)
        .filter(|m| !(gone && GONE.contains(m)))
        .collect();
    let mut out = format!("sql_mode = '{}'", modes.join(","));
    let zone = &of_source.time_zone;
    if !zone.is_empty() {
        out.push_str(&format!(", time_zone = {}", quote_text(zone)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_made_under_what_the_target_has() {
        let of = |sql_mode: &str, time_zone: &str, target: &str| {
            let made = MadeUnder {
                sql_mode: sql_mode.into(),
                time_zone: time_zone.into(),
            };
            session(&made, Server::parse(target, "").unwrap())
        };
        let old = "STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER,ANSI_QUOTES";
        assert_eq!(
            of(old, "", "10.11.19-MariaDB"),
            format!("sql_mode = '{old}'")
        );
        assert_eq!(
            of(old, "Europe/Berlin", "8.0.36"),
            "sql_mode = 'STRICT_TRANS_TABLES,ANSI_QUOTES', time_zone = 'Europe/Berlin'"
        );
        assert_eq!(of("A'; DROP,B", "", "5.7.44"), "sql_mode = 'B'");
        assert_eq!(of("", "", "5.7.44"), "sql_mode = ''");
    }
}
