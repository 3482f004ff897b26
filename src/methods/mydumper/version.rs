//! What differs by version in mydumper and myloader (tool-compatibility 5).

use super::options::Tool;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use std::fmt;

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

pub(super) const fn v(major: u32, minor: u32, patch: u32) -> ToolVersion {
    ToolVersion([major, minor, patch, 0])
}

/// The first with the statement that MySQL 8.4 knows, SHOW BINARY LOG STATUS.
const KNOWS_MYSQL_8_4: ToolVersion = v(0, 16, 3);
/// These forget the columns' names in a statement of one long row, in a table with generated columns (seen on 0.10.1).
const FORGETS_COLUMNS: [ToolVersion; 2] = [v(0, 10, 0), v(0, 14, 0)];
/// The first that writes its sql_mode into the dump, and takes it from a section of the option file.
const SESSION_SECTION: ToolVersion = v(0, 16, 7);
/// The first with --server-version.
const SERVER_VERSION: ToolVersion = v(0, 20, 1);
/// The first whose threads lock tables without transactions (LOCK TABLES) in the sessions that have the snapshot (seen on 1.0.1 and
/// in the source of all versions since).
const LOCKS_IN_SNAPSHOT: ToolVersion = v(0, 13, 0);
/// In between, the metadata file has no coordinates without --source-data (mydumper issue 2076).
const NO_COORDINATES: [ToolVersion; 2] = [v(0, 20, 1), ToolVersion([0, 20, 2, 5])];
/// In between, SHOW SLAVE STATUS is sent to MySQL of a distribution (seen on 0.19.3 with Debian's MySQL 9.7).
const NOT_MYSQL: [ToolVersion; 2] = [v(0, 19, 0), v(0, 20, 0)];
/// The first that can tell what it does in JSON.
const TELLS_JSON: ToolVersion = v(0, 21, 4);

impl Tool {
    /// Its version, by what `--version` prints: `mydumper 0.10.0, built against MySQL 10.11.14`,
    /// `myloader v0.20.2-5, built against MySQL 8.4.2 with SSL support`, `mydumper0.14.5-3, built against MariaDB 10.11.19`.
    ///
    /// # Errors
    /// If there is no version in it.
    pub fn version(self, text: &str) -> Result<ToolVersion> {
        let (_, rest) = text.split_once(self.name()).unwrap_or_default();
        let word = rest
            .split([' ', ',', '\n'])
            .find(|w| !w.is_empty())
            .unwrap_or_default();
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
}

/// An option that not every version has.
pub struct Change {
    tool: Tool,
    /// Its long name.
    pub option: &'static str,
    /// First version with it.
    since: ToolVersion,
    /// First version without it.
    until: ToolVersion,
    /// What to do where it is not.
    pub instead: &'static str,
}

const FIRST: ToolVersion = v(0, 0, 0);
const NEVER: ToolVersion = v(u32::MAX, 0, 0);

static CHANGES: [Change; 7] = [
    Change {
        tool: Tool::Mydumper,
        option: "--sync-thread-lock-mode",
        since: v(0, 18, 1),
        until: NEVER,
        instead: "remove it, or use --lock-all-tables",
    },
    Change {
        tool: Tool::Mydumper,
        option: "--compress",
        since: SESSION_SECTION,
        until: NEVER,
        instead: "remove it",
    },
    Change {
        tool: Tool::Mydumper,
        option: "-c",
        since: SESSION_SECTION,
        until: NEVER,
        instead: "remove it",
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
        instead: "remove it",
    },
    Change {
        tool: Tool::Mydumper,
        option: "--trx-consistency-only",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "remove it",
    },
    Change {
        tool: Tool::Myloader,
        option: "--innodb-optimize-keys",
        since: FIRST,
        until: v(1, 0, 0),
        instead: "use --optimize-keys",
    },
];

/// The options that this version does not have.
pub fn missing(tool: Tool, version: ToolVersion) -> impl Iterator<Item = &'static Change> {
    let lacks = move |c: &&Change| c.tool == tool && !(c.since..c.until).contains(&version);
    CHANGES.iter().filter(lacks)
}

/// That this version of mydumper can read the coordinates of such a source; a version that fails on some of them only is taken if
/// `any` may be used.
///
/// # Errors
/// Permanent: it cannot.
pub fn check_server(version: ToolVersion, source: Server, any: bool) -> Result<()> {
    if !any && source.flavour == Flavour::MySql && (NOT_MYSQL[0]..NOT_MYSQL[1]).contains(&version) {
        return Err(Error::permanent(format!(
            "mydumper {version} is not supported for MySQL: to servers that it does not recognise it sends statements that MySQL 8.4 \
             does not have; install a newer one that is supported, such as {NEWEST}, or use another seed method"
        )));
    }
    let renamed = source.flavour == Flavour::MySql && source.version >= Version(8, 4, 0);
    if !renamed || version >= KNOWS_MYSQL_8_4 {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "mydumper {version} cannot ask MySQL {} for its position (SHOW MASTER STATUS is gone), so its dump would have no binlog \
         coordinates: install a newer one that is supported, such as {NEWEST}, or use another seed method",
        source.version
    )))
}

/// Whether it must be told to write complete statements.
pub fn forgets_columns(version: ToolVersion) -> bool {
    (FORGETS_COLUMNS[0]..FORGETS_COLUMNS[1]).contains(&version)
}

/// Whether it must be told to write coordinates.
pub fn writes_coordinates_on_demand(version: ToolVersion) -> bool {
    (NO_COORDINATES[0]..NO_COORDINATES[1]).contains(&version)
}

/// Whether it can tell what it does in JSON.
pub fn tells_json(version: ToolVersion) -> bool {
    version >= TELLS_JSON
}

/// Whether the option file's section `mydumper_session_variables` is its sql_mode and the dump's.
pub fn has_session_section(version: ToolVersion) -> bool {
    version >= SESSION_SECTION
}

/// Whether myloader sets a sql_mode that nothing but the dump's files can change.
pub fn sets_own_mode(version: ToolVersion) -> bool {
    version < SESSION_SECTION
}

/// Whether it can be told the product and version of a server.
pub fn takes_server_version(version: ToolVersion) -> bool {
    version >= SERVER_VERSION
}

/// Whether its sessions lose their snapshot where a table without transactions is dumped: LOCK TABLES commits.
pub fn locks_in_snapshot(version: ToolVersion) -> bool {
    version >= LOCKS_IN_SNAPSHOT
}

/// For messages.
const NEWEST: ToolVersion = v(1, 0, 1);
/// Versions with which seeds were made and compared, table by table (contrib/doc/mydumper.md). Debian 12 has
/// 0.10.1, which reports 0.10.0. Not 0.16 to 0.18: they read a table with an integer key in steps of a thousand numbers, so that one whose
/// keys are far apart takes hours or more, and 0.16.7 repeats the rows of a BIGINT key that ends at the greatest number until the disk
/// is full (seen on 0.16.7, 0.16.11, 0.17.1 and 0.18.1).
const TRIED: [ToolVersion; 8] = [
    v(0, 10, 0),
    v(0, 10, 1),
    v(0, 19, 3),
    v(0, 20, 1),
    v(0, 20, 2),
    v(0, 21, 4),
    v(1, 0, 0),
    NEWEST,
];

/// That seeds were made with this version, or that `any` version may be used.
///
/// # Errors
/// Permanent: it was not, with those that were.
pub fn supported(tool: Tool, version: ToolVersion, any: bool) -> Result<()> {
    let [major, minor, patch, _] = version.0;
    if any || TRIED.contains(&v(major, minor, patch)) {
        return Ok(());
    }
    let tried: Vec<String> = TRIED.iter().skip(1).map(ToString::to_string).collect();
    Err(Error::permanent(format!(
        "{} {version} is not supported: it was not tried, or failed when it was. Install one of {}, or set any-version = true in \
         [mydumper] to use it all the same",
        tool.name(),
        tried.join(", ")
    )))
}

/// Whether it writes a table's definition in the character set of the table.
pub fn writes_in_charset_of_table(version: ToolVersion) -> bool {
    !uses_names_for_files(version)
}

/// Whether names of tables are names of files in its dump as they are, so that some are not told apart.
pub fn uses_names_for_files(version: ToolVersion) -> bool {
    version < SESSION_SECTION
}
