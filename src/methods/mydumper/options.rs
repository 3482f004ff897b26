//! Argument vectors of mydumper and myloader, 0.9 to 1.0, and what of the operator's options they can be given. What differs
//! by version is in [`super::version`].

use super::version::{self, Tool, ToolVersion};
use crate::error::{Error, Result};
use crate::methods::operators::{self, is};
use crate::mysql::{Endpoint, Flavour, Server, Version};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Options that ask for routines, triggers and events. The agent dumps them itself, always.
const OBJECTS: &str = "--routines -R --triggers -G --events -E";

const RESERVED_LOAD: &str = "--drop-table --purge-mode --enable-binlog -e --set-gtid-purged --drop-database --disable-redo-log --checksum";

const RESERVED_DUMP: &str = "-x --regex --clear --dirty --merge --trx-tables --no-trx-tables --server-version --no-views -W";

/// Options that this program sets itself, of both tools: who logs in where, what is read and written, and
/// how messages are written. `-o` and `-d` mean other things in the two; neither is the operator's.
const RESERVED: &str = "--host -h --user -u --port -P --password -p --ask-password -a --socket -S --protocol --defaults-file \
    --defaults-extra-file -o --outputdir --overwrite-tables -d --directory --no-backup-locks --source-data \
    --machine-log-json --verbose -v --logfile -L --help -?";

/// Options that leave a part of the source out, change values, give coordinates that are not the dump's, or do not leave a dump in
/// the directory that myloader reads. LOAD DATA of 0.21.4 to 1.0.1 names no character set: texts that are not in UTF-8 are altered.
const INCOMPLETE_DUMP: &str = "--omit-from-file -O --views-as-tables --database -B --tables-list -T --ignore-engines -i --where --updated-since -U \
    --partition-regex --no-schemas -m --no-data --skip-constraints --skip-indexes --no-locks -k \
    --sync-thread-lock-mode=NO_LOCK --sync-thread-lock-mode=SAFE_NO_LOCK --daemon -D --stream --exec --tidb-snapshot -z \
    --dry-run --format=LOAD_DATA --format=CSV --format=CLICKHOUSE --load-data --load-data-character-set --csv --clickhouse \
    --include-header --fields-terminated-by --fields-enclosed-by --fields-escaped-by --lines-starting-by \
    --lines-terminated-by --statement-terminated-by --insert-ignore -N --replace --no-check-generated-fields --set-names \
    --default-character-set --exec-per-thread --exec-per-thread-extension --masquerade-filename --ignore-errors";

/// The same of a load.
const INCOMPLETE_LOAD: &str = "--database -B --source-db -s --tables-list -T --regex -x --omit-from-file -O --no-schemas --no-schema --no-data \
    --skip-triggers --skip-post --skip-constraints --skip-indexes --ignore-errors --resume --stream --dry-run \
    --skip-create-table --set-names --default-character-set --ignore-set --quote-character -Q --exec-per-thread \
    --exec-per-thread-extension --mysqldump";

/// The first option with which a seed would not be a complete copy. An option and its value may be one item or two.
fn incomplete(tool: Tool, options: &[String]) -> Option<&'static str> {
    let joined = options
        .windows(2)
        .filter(|pair| !pair[1].trim_start().starts_with('-'))
        .map(|pair| format!("{} {}", pair[0].trim(), pair[1].trim()));
    let items: Vec<String> = options.iter().cloned().chain(joined).collect();
    let found = |listed: &&str| items.iter().any(|item| is(item, listed));
    // Bundled or not, -d of mydumper leaves the rows out; it is dropped with the reserved ones.
    let listed = match tool {
        Tool::Mydumper => INCOMPLETE_DUMP,
        Tool::Myloader => INCOMPLETE_LOAD,
    };
    listed.split_whitespace().find(found)
}

/// The operator's options for a tool, and those that were dropped, without [`OBJECTS`]: what these ask for is done.
pub(crate) fn operators(tool: Tool, options: &[String]) -> (Vec<String>, Vec<&'static str>) {
    let single: Vec<String> = options.iter().flat_map(|o| unbundled(tool, o)).collect();
    let lists: &[&'static str] = match tool {
        Tool::Mydumper => &[RESERVED, RESERVED_DUMP, OBJECTS],
        Tool::Myloader => &[RESERVED, RESERVED_LOAD],
    };
    let reserved: Vec<_> = lists.iter().flat_map(|l| l.split_whitespace()).collect();
    let (kept, mut dropped) = operators::operators(&single, &reserved);
    dropped.retain(|o| !OBJECTS.split_whitespace().any(|object| object == *o));
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
            let rest = unbundled(tool, &format!("-{more}"));
            [vec![format!("-{flag}")], rest].concat()
        }
        _ => vec![item.to_string()],
    }
}

/// That this version knows the operator's options, as far as it is known which versions do. The error names setting, option, version
/// and what to use instead.
pub(super) fn check(tool: Tool, version: ToolVersion, options: &[String]) -> Result<()> {
    if let Some(option) = incomplete(tool, options) {
        return Err(Error::permanent(format!(
            "{}: with {option} a seed is not a complete and exact copy with right coordinates; remove it",
            tool.setting()
        )));
    }
    for (of, option, has, instead) in &version::CHANGES {
        let is_given = || options.iter().any(|item| is(item, option));
        if *of == tool && !has.contains(&version) && is_given() {
            return Err(Error::permanent(format!(
                "{}: {} {version} does not have {option}; {instead}",
                tool.setting(),
                tool.name()
            )));
        }
    }
    Ok(())
}

/// The tables of the server's own schema that are a part of a copy, as a regular expression: accounts with their privileges, and
/// what the other logical method takes as well.
pub(super) fn tables_of_server(source: Server) -> String {
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

fn with_path(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}

fn login(defaults: &Path, server: &Endpoint) -> Vec<OsString> {
    let mut argv = vec![with_path("--defaults-file=", defaults)];
    if server.socket.is_empty() {
        // The client library would take that name for its default socket, whatever the port.
        let host = match server.host.as_str() {
            "localhost" => "127.0.0.1",
            host => host,
        };
        argv.push(format!("--host={host}").into());
        argv.push(format!("--port={}", server.port).into());
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
    if version >= version::JSON_LOG {
        argv.push("--machine-log-json".into());
    }
    argv
}

pub(super) struct Dump {
    pub version: ToolVersion,
    pub source: Server,
    /// MySQL, but neither its version nor its version comment names it, such as Debian's `(Debian)`: mydumper 0.20.1 and later
    /// would not know the statement for the coordinates.
    pub unknown_product: bool,
    /// The file with the names of tables to leave out.
    pub left_out: Option<PathBuf>,
}

/// mydumper's arguments. The operator's options come last, so that their --threads counts.
pub(super) fn dump_arguments(
    dump: &Dump,
    defaults: &Path,
    server: &Endpoint,
    directory: &Path,
    options: &[String],
) -> Vec<OsString> {
    let mut argv = login(defaults, server);
    let Dump {
        version, source, ..
    } = *dump;
    argv.extend([
        "--no-backup-locks".into(),
        with_path("--outputdir=", directory),
        threads(),
    ]);
    argv.push(format!("--regex={}", regex(source)).into());
    argv.push("--no-views".into());
    if source.flavour == Flavour::MariaDb {
        // It would end the dump for any query of more than 60 s, also for a SELECT, which no lock waits for there.
        argv.push(format!("--long-query-guard={}", i32::MAX).into());
    }
    if let Some(file) = &dump.left_out {
        argv.push(with_path("--omit-from-file=", file));
    }
    if version >= version::SERVER_VERSION && dump.unknown_product {
        argv.push(format!("--server-version=mysql-{}", source.version).into());
    }
    if version::FORGET_COLUMNS.contains(&version) {
        argv.push("--complete-insert".into());
    }
    if version::COORDINATES_ON_DEMAND.contains(&version) {
        argv.push("--source-data=0".into());
    }
    argv.extend(log(version));
    argv.extend(options.iter().map(OsString::from));
    argv
}

/// myloader's arguments. `-o` drops tables that are there already in every version; from 0.20.1 on it takes a value if one
/// follows, so an option must follow.
pub(super) fn load_arguments(
    version: ToolVersion,
    defaults: &Path,
    server: &Endpoint,
    directory: &Path,
    options: &[String],
) -> Vec<OsString> {
    let mut argv = login(defaults, server);
    let from = with_path("--directory=", directory);
    argv.extend(["-o".into(), from, threads()]);
    if version >= version::SESSION_SECTION {
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
