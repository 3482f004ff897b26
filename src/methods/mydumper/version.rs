//! What differs by version in mydumper and myloader.

use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use std::fmt;
use std::ops::Range;

/// The one that dumps, and the one that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Mydumper,
    Myloader,
}

/// Major, minor, patch and build: mydumper 0.20.2-4 and 0.20.2-5 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ToolVersion([u32; 4]);

impl fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, build] = self.0;
        write!(f, "{major}.{minor}.{patch}")?;
        if build > 0 {
            write!(f, "-{build}")?;
        }
        Ok(())
    }
}

pub(super) const fn v(major: u32, minor: u32, patch: u32) -> ToolVersion {
    ToolVersion([major, minor, patch, 0])
}

const FIRST: ToolVersion = v(0, 0, 0);
pub(super) const NEVER: ToolVersion = v(u32::MAX, 0, 0);
/// The first that takes the section `mydumper_session_variables` of the option file for its sql_mode and the dump's. Before, myloader
/// sets a sql_mode that nothing but the dump's files can change, and names of tables are names of files in the dump as they are, so
/// that some are not told apart. Since then it writes a table's definition in the character set of the table.
pub(super) const SESSION_SECTION: ToolVersion = v(0, 16, 7);
pub(super) const WITHOUT_SECTION: Range<ToolVersion> = FIRST..SESSION_SECTION;
/// Those that need --complete-insert: without, these forget the columns' names in a statement of one long row, in a table with
/// generated columns (seen on 0.10.1).
pub(super) const FORGET_COLUMNS: Range<ToolVersion> = v(0, 10, 0)..v(0, 14, 0);
/// Those whose metadata file has no coordinates without --source-data (mydumper issue 2076).
pub(super) const COORDINATES_ON_DEMAND: Range<ToolVersion> =
    v(0, 20, 1)..ToolVersion([0, 20, 2, 5]);
/// The first with --machine-log-json.
pub(super) const JSON_LOG: ToolVersion = v(0, 21, 4);
/// The first that takes --server-version, and does not know the statement for the coordinates of an unknown product without it.
pub(super) const SERVER_VERSION: ToolVersion = v(0, 20, 1);
/// The first whose sessions lose their snapshot where a table without transactions is dumped: LOCK TABLES commits (seen on 1.0.1 and in
/// the source of all versions since).
pub(super) const LOCKS_IN_SNAPSHOT: ToolVersion = v(0, 13, 0);

impl Tool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mydumper => "mydumper",
            Self::Myloader => "myloader",
        }
    }

    /// The setting with the operator's options for it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Mydumper => "mydumper.mydumper-addtional-opts",
            Self::Myloader => "mydumper.myloader-additional-opts",
        }
    }

    /// Its version, by what `--version` prints: `mydumper 0.10.0, built against MySQL 10.11.14`,
    /// `myloader v0.20.2-5, built against MySQL 8.4.2 with SSL support`, `mydumper0.14.5-3, built against MariaDB 10.11.19`.
    pub(super) fn version(self, text: &str) -> Result<ToolVersion> {
        let (_, rest) = text.split_once(self.name()).unwrap_or_default();
        let words = &mut rest.split([' ', ',', '\n']);
        let word = words.find(|w| !w.is_empty()).unwrap_or_default();
        let numbers = word.trim_start_matches('v').split(['.', '-', '+', '~']);
        let numbers: Vec<u32> = numbers.map_while(|n| n.parse().ok()).collect();
        if let [major, minor, rest @ ..] = &numbers[..] {
            let part = |n: usize| rest.get(n).copied().unwrap_or(0);
            return Ok(ToolVersion([*major, *minor, part(0), part(1)]));
        }
        Err(Error::permanent(format!(
            "cannot read the version of {} out of \"{}\"",
            self.name(),
            text.trim()
        )))
    }
}

/// Options that not every version has: those that do, and what to do without.
#[rustfmt::skip]
pub(super) static CHANGES: [(Tool, &str, Range<ToolVersion>, &str); 7] = [
    (Tool::Mydumper, "--sync-thread-lock-mode", v(0, 18, 1)..NEVER, "remove it, or use --lock-all-tables"),
    (Tool::Mydumper, "--compress", SESSION_SECTION..NEVER, "remove it"),
    (Tool::Mydumper, "-c", SESSION_SECTION..NEVER, "remove it"),
    (Tool::Mydumper, "--lock-all-tables", FIRST..v(1, 0, 0), "use --sync-thread-lock-mode=LOCK_ALL"),
    (Tool::Mydumper, "--less-locking", FIRST..v(1, 0, 0), "remove it"),
    (Tool::Mydumper, "--trx-consistency-only", FIRST..v(1, 0, 0), "remove it"),
    (Tool::Myloader, "--innodb-optimize-keys", FIRST..v(1, 0, 0), "use --optimize-keys"),
];

/// That this version of mydumper can read the coordinates of such a source; a version that fails on some of them only is taken if
/// `any` may be used.
pub(super) fn check_server(version: ToolVersion, source: Server, any: bool) -> Result<()> {
    if source.flavour != Flavour::MySql {
        return Ok(());
    }
    // SHOW SLAVE STATUS is sent to MySQL of a distribution (seen on 0.19.3 with Debian's MySQL 9.7).
    if !any && (v(0, 19, 0)..v(0, 20, 0)).contains(&version) {
        return Err(Error::permanent(format!(
            "mydumper {version} is not supported for MySQL: to servers that it does not recognise it sends statements that MySQL 8.4 \
             does not have; install a newer one that is supported, such as {NEWEST}, or use another seed method"
        )));
    }
    // The first with SHOW BINARY LOG STATUS.
    if source.version < Version(8, 4, 0) || version >= v(0, 16, 3) {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "mydumper {version} cannot query the position of MySQL {} (SHOW MASTER STATUS was removed), so its dump would have no binlog \
         coordinates: install a newer one that is supported, such as {NEWEST}, or use another seed method",
        source.version
    )))
}

const NEWEST: ToolVersion = v(1, 0, 1);
/// Versions with which seeds were made and compared, table by table (contrib/doc/mydumper.md). Debian 12 has
/// 0.10.1, which reports 0.10.0. Not 0.16 to 0.18: they read a table with an integer key in steps of a thousand numbers, so that one whose
/// keys are far apart takes hours or more, and 0.16.7 repeats the rows of a BIGINT key that ends at the greatest number until the disk
/// is full (seen on 0.16.7, 0.16.11, 0.17.1 and 0.18.1).
#[rustfmt::skip]
const TRIED: [ToolVersion; 8] =
    [v(0, 10, 0), v(0, 10, 1), v(0, 19, 3), v(0, 20, 1), v(0, 20, 2), v(0, 21, 4), v(1, 0, 0), NEWEST];

/// That seeds were made with this version, or that `any` version may be used.
pub(super) fn supported(tool: Tool, version: ToolVersion, any: bool) -> Result<()> {
    let [major, minor, patch, _] = version.0;
    if any || TRIED.contains(&v(major, minor, patch)) {
        return Ok(());
    }
    let tried: Vec<String> = TRIED.iter().skip(1).map(ToString::to_string).collect();
    Err(Error::permanent(format!(
        "{} {version} is not supported: it was not tested, or failed in tests. Install one of {}, or set any-version = true in \
         [mydumper] to use it all the same",
        tool.name(),
        tried.join(", ")
    )))
}
