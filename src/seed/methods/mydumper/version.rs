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

impl Tool {
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

static CHANGES: [Change; 5] = [
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

/// The options that this version does not have.
pub fn missing(tool: Tool, version: ToolVersion) -> impl Iterator<Item = &'static Change> {
    let lacks = move |c: &&Change| c.tool == tool && !(c.since..c.until).contains(&version);
    CHANGES.iter().filter(lacks)
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
