//! Argument vectors of mydumper and myloader, 0.9 to 1.0, and what of the operator's options they can be given. What differs
//! by version is in [`super::version`].

use super::version::{self, ToolVersion};
use crate::error::{Error, Result};
use crate::methods::operators;
use crate::mysql::{Endpoint, Flavour, Server, Version};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

    fn reserved(self) -> Vec<&'static str> {
        let own: &[&'static str] = match self {
            Self::Mydumper => &OWN_DUMP,
            Self::Myloader => &[
                "--drop-table",
                "--purge-mode",
                "--enable-binlog",
                "-e",
                "--set-gtid-purged",
                "--drop-database",
                "--disable-redo-log",
                "--checksum",
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

/// Options that ask for routines, triggers and events. The agent dumps them itself, always.
const OBJECTS: [&str; 6] = ["--routines", "-R", "--triggers", "-G", "--events", "-E"];

const OWN_DUMP: [&str; 16] = [
    "-x",
    "--regex",
    "--clear",
    "--dirty",
    "--merge",
    "--trx-tables",
    "--no-trx-tables",
    "--server-version",
    "--no-views",
    "-W",
    OBJECTS[0],
    OBJECTS[1],
    OBJECTS[2],
    OBJECTS[3],
    OBJECTS[4],
    OBJECTS[5],
];

/// Options that this program sets itself, of both tools: who logs in where, what is read and written, and
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

/// Options that leave a part of the source out, change values, give coordinates that are not the dump's, or do not leave a dump in
/// the directory that myloader reads. LOAD DATA of 0.21.4 to 1.0.1 names no character set: texts that are not in UTF-8 become others.
const INCOMPLETE_DUMP: [&str; 53] = [
    "--omit-from-file",
    "-O",
    "--views-as-tables",
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
    "--dry-run",
    "--format=LOAD_DATA",
    "--format=CSV",
    "--format=CLICKHOUSE",
    "--load-data",
    "--load-data-character-set",
    "--csv",
    "--clickhouse",
    "--include-header",
    "--fields-terminated-by",
    "--fields-enclosed-by",
    "--fields-escaped-by",
    "--lines-starting-by",
    "--lines-terminated-by",
    "--statement-terminated-by",
    "--insert-ignore",
    "-N",
    "--replace",
    "--no-check-generated-fields",
    "--set-names",
    "--default-character-set",
    "--exec-per-thread",
    "--exec-per-thread-extension",
    "--masquerade-filename",
    "--ignore-errors",
];

/// The same of a load.
const INCOMPLETE_LOAD: [&str; 30] = [
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
    "--dry-run",
    "--skip-create-table",
    "--set-names",
    "--default-character-set",
    "--ignore-set",
    "--quote-character",
    "-Q",
    "--exec-per-thread",
    "--exec-per-thread-extension",
    "--mysqldump",
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

/// The operator's options for a tool, and those that were dropped, without [`OBJECTS`]: what these ask for is done.
pub fn operators(tool: Tool, options: &[String]) -> (Vec<String>, Vec<&'static str>) {
    let single: Vec<String> = options.iter().flat_map(|o| unbundled(tool, o)).collect();
    let (kept, mut dropped) = operators::operators(&single, &tool.reserved());
    dropped.retain(|o| !OBJECTS.contains(o));
    (kept, dropped)
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
            "{}: with {option} a seed is not a complete and exact copy with right coordinates; remove it",
            tool.setting()
        )));
    }
    let given = |c: &&version::Change| options.iter().any(|item| is(item, c.option));
    match version::missing(tool, version).find(given) {
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

/// The tables of the server's own schema that are a part of a copy, as a regular expression: accounts with their privileges, and
/// what the other logical method takes as well.
pub fn tables_of_server(source: Server) -> String {
    let accounts = match source.flavour {
        // There mysql.user is a view.
        Flavour::MariaDb if source.version >= Version(10, 4, 0) => "global_priv|roles_mapping",
        Flavour::MariaDb => "user|roles_mapping",
        Flavour::MySql => "user|default_roles|role_edges|global_grants|password_history|component",
    };
    format!(
        "{accounts}|db|tables_priv|columns_priv|procs_priv|proxies_priv|servers|func|plugin|time_zone.*|(table|column|index)_stats"
    )
}

/// All else in the schema `mysql` describes the server itself, or comes by the agent: mydumper would dump it all, and myloader drop
/// and make tables that a running server uses (mysql.proc, mysql.gtid_slave_pos, mysql.gtid_executed). The sys schema belongs to
/// the server's version.
fn regex(source: Server) -> String {
    let of_server = tables_of_server(source);
    format!(r"^(?!(sys\.|mysql\.(?!({of_server})?$)))")
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
    if version::tells_json(version) {
        argv.push("--machine-log-json".into());
    }
    argv
}

/// What is dumped, and by what.
pub struct Dump {
    /// Of mydumper.
    pub version: ToolVersion,
    /// The source.
    pub source: Server,
    /// MySQL, but neither its version nor its version comment says so, such as Debian's `(Debian)`: mydumper 0.20.1 and later
    /// would not know the statement for the coordinates.
    pub unknown_product: bool,
    /// The file with the names of tables to leave out.
    pub left_out: Option<PathBuf>,
}

/// mydumper's arguments. The operator's options come last, so that their --threads counts.
pub fn dump_arguments(
    dump: &Dump,
    defaults: &Path,
    server: &Endpoint,
    directory: &Path,
    options: &[String],
) -> Vec<OsString> {
    let mut argv = login(defaults, server);
    let mut outputdir = OsString::from("--outputdir=");
    outputdir.push(directory);
    let Dump {
        version, source, ..
    } = *dump;
    argv.extend(["--no-backup-locks".into(), outputdir, threads()]);
    argv.push(format!("--regex={}", regex(source)).into());
    argv.push("--no-views".into());
    if source.flavour == Flavour::MariaDb {
        // It would end the dump for any query of more than 60 s, also for a SELECT, which no lock waits for there.
        argv.push(format!("--long-query-guard={}", i32::MAX).into());
    }
    if let Some(file) = &dump.left_out {
        let mut option = OsString::from("--omit-from-file=");
        option.push(file);
        argv.push(option);
    }
    if version::takes_server_version(version) && dump.unknown_product {
        argv.push(format!("--server-version=mysql-{}", source.version).into());
    }
    if version::forgets_columns(version) {
        argv.push("--complete-insert".into());
    }
    if version::writes_coordinates_on_demand(version) {
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
    if version::has_session_section(version) {
        // By default they are compared, and differ where the two servers do not.
        argv.push("--checksum=skip".into());
        // Tables of accounts that are dropped by several sessions at once are a deadlock (MySQL 9.7, error 1213).
        argv.push("--max-threads-for-schema-creation=1".into());
    }
    argv.extend(log(version));
    argv.extend(options.iter().map(OsString::from));
    argv
}

#[cfg(test)]
mod tests;
