//! Argument vectors of mydumper and myloader, 0.9 to 1.0, and what of the operator's options they can be given. What differs
//! by version is in [`CHANGES`] and in the constants above it (tool-compatibility 5).

use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, Version};
use crate::seed::methods::operators;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// Major, minor, patch and build: mydumper 0.20.2-4 and 0.20.2-5 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolVersion(pub [u32; 4]);

impl fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, build] = self.0;
        write!(f, "{major}.{minor}.{patch}")?;
        match build {
            0 => Ok(()),
            n => write!(f, "-{n}"),
        }
    }
}

const fn v(major: u32, minor: u32, patch: u32) -> ToolVersion {
    ToolVersion([major, minor, patch, 0])
}

/// The first with the statement that MySQL 8.4 knows, SHOW BINARY LOG STATUS.
const KNOWS_MYSQL_8_4: ToolVersion = v(0, 16, 3);
/// From here the metadata file is of sections, and myloader reads it; it loads routines before the views that use them, and
/// sets sql_mode by it.
const READS_METADATA: ToolVersion = v(0, 14, 0);
/// Up to there these forget the columns' names in a statement of one long row, in a table with generated columns (seen on
/// 0.10.1).
const FORGETS_COLUMNS: [ToolVersion; 2] = [v(0, 10, 0), READS_METADATA];
/// In between, the metadata file has no coordinates without --source-data (mydumper issue 2076).
const NO_COORDINATES: [ToolVersion; 2] = [v(0, 20, 1), ToolVersion([0, 20, 2, 5])];
/// The first that can tell what it does in JSON.
const TELLS_JSON: ToolVersion = v(0, 21, 4);

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The one that dumps.
    Mydumper,
    /// The one that loads.
    Myloader,
}

impl Tool {
    /// Name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mydumper => "mydumper",
            Self::Myloader => "myloader",
        }
    }

    /// The setting with the operator's options for it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Mydumper => "mydumper.mydumper-addtional-opts",
            Self::Myloader => "mydumper.myloader-additional-opts",
        }
    }

    /// Its version, by what `--version` prints: `mydumper 0.10.0, built against MySQL 10.11.14`,
    /// `myloader v0.20.2-5, built against MySQL 8.4.2 with SSL support`.
    ///
    /// # Errors
    /// If there is no version in it.
    pub fn version(self, text: &str) -> Result<ToolVersion> {
        let words = text
            .split([' ', ',', '\n'])
            .skip_while(|w| *w != self.name());
        let word = words.skip(1).find(|w| !w.is_empty()).unwrap_or_default();
        let mut numbers = word
            .trim_start_matches('v')
            .split(['.', '-', '+', '~'])
            .map_while(|n| n.parse().ok());
        let mut next = || numbers.next();
        match (next(), next(), next(), next()) {
            (Some(major), Some(minor), patch, build) => Ok(ToolVersion([
                major,
                minor,
                patch.unwrap_or(0),
                build.unwrap_or(0),
            ])),
            _ => Err(Error::permanent(format!(
                "cannot read the version of {} out of \"{}\"",
                self.name(),
                text.trim()
            ))),
        }
    }

    fn reserved(self) -> Vec<&'static str> {
        let own: &[&'static str] = match self {
            Self::Mydumper => &["-x", "--regex", "--clear", "--dirty", "--merge"],
            Self::Myloader => &[
                "--drop-table",
                "--purge-mode",
                "--enable-binlog",
                "-e",
                "--set-gtid-purged",
                "--drop-database",
                "--disable-redo-log",
            ],
        };
        RESERVED.iter().chain(own).copied().collect()
    }

    fn incomplete(self) -> &'static [&'static str] {
        match self {
            Self::Mydumper => &INCOMPLETE_DUMP,
            Self::Myloader => &INCOMPLETE_LOAD,
        }
    }
}

/// Options that this program sets itself, of both tools (agent-api-v2 4.2): who logs in where, what is read and written, and
/// how the log is told. `-o` and `-d` mean other things in the two; neither is the operator's.
const RESERVED: [&str; 29] = [
    "--host",
    "-h",
    "--user",
    "-u",
    "--port",
    "-P",
    "--password",
    "-p",
    "--ask-password",
    "-a",
    "--socket",
    "-S",
    "--protocol",
    "--defaults-file",
    "--defaults-extra-file",
    "-o",
    "--outputdir",
    "--overwrite-tables",
    "-d",
    "--directory",
    "--no-backup-locks",
    "--source-data",
    "--machine-log-json",
    "--verbose",
    "-v",
    "--logfile",
    "-L",
    "--help",
    "-?",
];

/// Options that leave a part of the source out, give coordinates that are not the dump's, or do not leave a dump in the
/// directory.
const INCOMPLETE_DUMP: [&str; 27] = [
    "--database",
    "-B",
    "--tables-list",
    "-T",
    "--ignore-engines",
    "-i",
    "--where",
    "--updated-since",
    "-U",
    "--partition-regex",
    "--no-schemas",
    "-m",
    "--no-data",
    "--no-views",
    "-W",
    "--skip-constraints",
    "--skip-indexes",
    "--no-locks",
    "-k",
    "--sync-thread-lock-mode=NO_LOCK",
    "--sync-thread-lock-mode=SAFE_NO_LOCK",
    "--daemon",
    "-D",
    "--stream",
    "--exec",
    "--tidb-snapshot",
    "-z",
];

/// The same of a load.
const INCOMPLETE_LOAD: [&str; 20] = [
    "--database",
    "-B",
    "--source-db",
    "-s",
    "--tables-list",
    "-T",
    "--regex",
    "-x",
    "--omit-from-file",
    "-O",
    "--no-schemas",
    "--no-schema",
    "--no-data",
    "--skip-triggers",
    "--skip-post",
    "--skip-constraints",
    "--skip-indexes",
    "--ignore-errors",
    "--resume",
    "--stream",
];

/// An option that not every version has.
struct Change {
    tool: Tool,
    option: &'static str,
    /// First version with it.
    since: ToolVersion,
    /// First version without it.
    until: ToolVersion,
    /// What to do where it is not.
    instead: &'static str,
}

const FIRST: ToolVersion = v(0, 0, 0);
const NEVER: ToolVersion = v(u32::MAX, 0, 0);

const CHANGES: [Change; 5] = [
    Change {
        tool: Tool::Mydumper,
        option: "--sync-thread-lock-mode",
        since: v(0, 18, 1),
        until: NEVER,
        instead: "remove it, or use --lock-all-tables",
    },
    Change {
        tool: Tool::Mydumper,
        option: "--lock-all-tables",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "use --sync-thread-lock-mode=LOCK_ALL",
    },
    Change {
        tool: Tool::Mydumper,
        option: "--less-locking",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "remove it, or use --trx-tables if all tables are InnoDB",
    },
    Change {
        tool: Tool::Mydumper,
        option: "--trx-consistency-only",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "use --trx-tables",
    },
    Change {
        tool: Tool::Myloader,
        option: "--innodb-optimize-keys",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "use --optimize-keys",
    },
];

/// An item's option in the form in which it is listed: the long name without value and with dashes, or two characters.
fn is(item: &str, listed: &str) -> bool {
    let item = item.trim();
    if let Some((name, value)) = listed.split_once('=') {
        let given = item.split_once(|c: char| c == '=' || c.is_whitespace());
        return given.is_some_and(|(n, g)| is(n, name) && g.trim().eq_ignore_ascii_case(value));
    }
    let name = item
        .split(|c: char| c == '=' || c.is_whitespace())
        .next()
        .unwrap_or_default()
        .replace('_', "-");
    name == listed || (listed.len() == 2 && !name.starts_with("--") && name.starts_with(listed))
}

/// The first option with which a seed would not be a whole copy. An option and its value may be one item or two.
pub fn incomplete(tool: Tool, options: &[String]) -> Option<&'static str> {
    let joined = options
        .windows(2)
        .filter(|pair| !pair[1].trim_start().starts_with('-'))
        .map(|pair| format!("{} {}", pair[0].trim(), pair[1].trim()));
    let items: Vec<String> = options.iter().cloned().chain(joined).collect();
    let found = |listed: &&&str| items.iter().any(|item| is(item, listed));
    // Bundled or not, -d of mydumper leaves the rows out; it is dropped with the reserved ones.
    tool.incomplete().iter().find(found).copied()
}

/// The operator's options for a tool, and those that were dropped.
pub fn operators(tool: Tool, options: &[String]) -> (Vec<String>, Vec<&'static str>) {
    let single: Vec<String> = options.iter().flat_map(|o| unbundled(tool, o)).collect();
    operators::operators(&single, &tool.reserved())
}

/// `-RkE` is `-R -k -E`; the last of a bundle may have a value, in whatever way.
fn unbundled(tool: Tool, item: &str) -> Vec<String> {
    // Those without a value.
    let flags = match tool {
        Tool::Mydumper => "eNmdGERWkKDCa",
        Tool::Myloader => "Ca",
    };
    let item = item.trim();
    let mut letters = item.strip_prefix('-').unwrap_or_default().chars();
    let first = letters.next().filter(|c| flags.contains(*c));
    let more = letters.as_str();
    match first {
        Some(flag) if more.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let mut out = vec![format!("-{flag}")];
            out.extend(unbundled(tool, &format!("-{more}")));
            out
        }
        _ => vec![item.to_string()],
    }
}

/// That this version knows the operator's options, as far as it is known which versions do.
///
/// # Errors
/// Permanent: names setting, option, version and what to use instead.
pub fn check(tool: Tool, version: ToolVersion, options: &[String]) -> Result<()> {
    if let Some(option) = incomplete(tool, options) {
        return Err(Error::permanent(format!(
            "{}: with {option} a seed is not a whole copy with right coordinates; remove it",
            tool.setting()
        )));
    }
    let missing = CHANGES
        .iter()
        .filter(|c| c.tool == tool && !(c.since..c.until).contains(&version))
        .find(|c| options.iter().any(|item| is(item, c.option)));
    match missing {
        None => Ok(()),
        Some(c) => Err(Error::permanent(format!(
            "{}: {} {version} does not have {}; {}",
            tool.setting(),
            tool.name(),
            c.option,
            c.instead
        ))),
    }
}

/// That this version of mydumper can read the coordinates of such a source.
///
/// # Errors
/// Permanent: it would end well and write none.
pub fn check_server(version: ToolVersion, source: Server) -> Result<()> {
    let renamed = source.flavour == Flavour::MySql && source.version >= Version(8, 4, 0);
    if !renamed || version >= KNOWS_MYSQL_8_4 {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "mydumper {version} cannot ask MySQL {} for its position (SHOW MASTER STATUS is gone), so its dump would have no binlog \
         coordinates: install mydumper {KNOWS_MYSQL_8_4} or later, or use another seed method",
        source.version
    )))
}

/// Whether myloader of this version follows the metadata file; older ones need [`super::parts`].
pub fn reads_metadata(version: ToolVersion) -> bool {
    version >= READS_METADATA
}

/// The tables of the server's own schema that are a part of a copy: accounts with their privileges, and what the other logical
/// method takes as well. All else in it describes the server itself, or comes by --routines and --events: mydumper would
/// dump it all, and myloader drop and make tables that a running server uses (mysql.proc, mysql.gtid_slave_pos,
/// mysql.gtid_executed). The sys schema belongs to the server's version.
fn regex(source: Server) -> String {
    let accounts = match source.flavour {
        // There mysql.user is a view.
        Flavour::MariaDb if source.version >= Version(10, 4, 0) => "global_priv|roles_mapping",
        Flavour::MariaDb => "user|roles_mapping",
        Flavour::MySql => "user|default_roles|role_edges|global_grants|password_history|component",
    };
    format!(
        r"^(?!(sys\.|mysql\.(?!({accounts}|db|tables_priv|columns_priv|procs_priv|proxies_priv|servers|func|plugin|time_zone.*|(table|column|index)_stats)?$)))"
    )
}

fn login(defaults: &Path, server: &Endpoint) -> Vec<OsString> {
    let mut defaults_file = OsString::from("--defaults-file=");
    defaults_file.push(defaults);
    let mut argv = vec![defaults_file];
    if server.socket.is_empty() {
        // The client library would take that name for its default socket, whatever the port (D35).
        let host = match server.host.as_str() {
            "localhost" => "127.0.0.1",
            host => host,
        };
        argv.extend([
            format!("--host={host}").into(),
            format!("--port={}", server.port).into(),
        ]);
    } else {
        argv.push(format!("--socket={}", server.socket).into());
    }
    argv.push(format!("--user={}", server.user).into());
    argv
}

/// All processors; mydumper may hang with fewer than two threads.
fn threads() -> OsString {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    format!("--threads={cores}").into()
}

fn log(version: ToolVersion) -> Vec<OsString> {
    let mut argv = vec!["--verbose=3".into()];
    if version >= TELLS_JSON {
        argv.push("--machine-log-json".into());
    }
    argv
}

/// mydumper's arguments. The operator's options come last, so that their --threads counts.
pub fn dump_arguments(
    version: ToolVersion,
    source: Server,
    defaults: &Path,
    server: &Endpoint,
    directory: &Path,
    options: &[String],
) -> Vec<OsString> {
    let mut argv = login(defaults, server);
    let mut outputdir = OsString::from("--outputdir=");
    outputdir.push(directory);
    argv.extend(["--no-backup-locks".into(), outputdir, threads()]);
    argv.push(format!("--regex={}", regex(source)).into());
    if (FORGETS_COLUMNS[0]..FORGETS_COLUMNS[1]).contains(&version) {
        argv.push("--complete-insert".into());
    }
    if (NO_COORDINATES[0]..NO_COORDINATES[1]).contains(&version) {
        argv.push("--source-data=0".into());
    }
    argv.extend(log(version));
    argv.extend(options.iter().map(OsString::from));
    argv
}

/// myloader's arguments. `-o` drops tables that are there already in every version; from 0.20.1 on it takes a value if one
/// follows, so an option must follow.
pub fn load_arguments(
    version: ToolVersion,
    defaults: &Path,
    server: &Endpoint,
    directory: &Path,
    options: &[String],
) -> Vec<OsString> {
    let mut argv = login(defaults, server);
    let mut from = OsString::from("--directory=");
    from.push(directory);
    argv.extend(["-o".into(), from, threads()]);
    argv.extend(log(version));
    argv.extend(options.iter().map(OsString::from));
    argv
}

#[cfg(test)]
mod tests;
