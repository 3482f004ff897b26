//! Where a copy stands in its source's binary log: parsers of what each tool and server version writes, and the
//! rules that a position must meet before anything is loaded or replicated from it.
//!
//! Every parser gives [`Coordinates`] or an error that says what is missing; none guesses.

mod begin;
pub mod gtid;
pub mod metadata;
pub mod mysqldump;
mod text;

pub(crate) use begin::begin_at;

use crate::error::{Error, Result};
use gtid::{GtidSet, MariaDbGtidList};
use serde::{Deserialize, Serialize};
use text::excerpt;

/// Binlog coordinates and executed GTIDs of the **source** at the moment of the snapshot.
///
/// `log_file` and `log_pos` are always right, also when GTIDs are in use. Kept in the agent's record, hence the serde form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// Name of the binary log file, without a directory.
    pub log_file: String,
    /// Byte offset in that file of the first event that the copy does not hold; never below 4.
    pub log_pos: u64,
    /// MySQL: the executed GTID set in canonical form on one line. `""` on MariaDB and when GTID is not in use.
    pub gtid_executed: String,
    /// MariaDB: the value for `SET GLOBAL gtid_slave_pos`. `None` on MySQL and when the tool named no GTID.
    pub gtid_slave_pos: Option<String>,
}

impl Coordinates {
    /// Coordinates of a file, a position and GTID text whose flavour is known by its form: `uuid:interval` is MySQL,
    /// `domain-server-seq` MariaDB, blank is none. GTID text is normalised, and all of it validated.
    pub fn new(log_file: &str, log_pos: u64, gtid: &str) -> Result<Self> {
        let (gtid_executed, gtid_slave_pos) = split_by_flavour(gtid)?;
        let made = Self {
            log_file: log_file.to_string(),
            log_pos,
            gtid_executed,
            gtid_slave_pos,
        };
        made.validate()?;
        Ok(made)
    }

    /// Those of BINLOG_FILE, BINLOG_POSITION and GTID_EXECUTED of performance_schema.clone_status. The server gives the file without
    /// a directory and one UUID per line (MySQL 9.7). An empty file is an error: the donor ran without log_bin.
    pub(crate) fn of_clone_status(file: &str, position: u64, gtid_executed: &str) -> Result<Self> {
        let made = Self::new(file, position, gtid_executed);
        made.map_err(|e| e.context("performance_schema.clone_status"))
    }

    /// Checks what came from a file, a server or a record: the file name is plain ASCII without quotes, separators or
    /// control characters, the position is 4 (the first event) or more and fits orchestrator's int64, the GTID sets
    /// parse, and only one flavour is present. Errors are permanent.
    pub fn validate(&self) -> Result<()> {
        check_log_file(&self.log_file)?;
        if self.log_pos < 4 || self.log_pos > i64::MAX as u64 {
            return Err(Error::permanent(format!(
                "binlog position {} in {} is impossible: positions begin at 4",
                self.log_pos, self.log_file
            )));
        }
        GtidSet::parse(&self.gtid_executed)?;
        if let Some(list) = &self.gtid_slave_pos {
            MariaDbGtidList::parse(list)?;
            if !self.gtid_executed.is_empty() {
                return Err(Error::permanent(
                    "coordinates hold both a MySQL and a MariaDB GTID set",
                ));
            }
        }
        Ok(())
    }
}

/// The name is used in SQL statements and as a file name, so nothing that could end a literal or leave a directory.
fn check_log_file(name: &str) -> Result<()> {
    let bad = |c: char| {
        !c.is_ascii() || c.is_ascii_control() || matches!(c, '/' | '\\' | '\'' | '"' | '`')
    };
    if name.trim().is_empty() {
        return Err(Error::permanent(
            "the binlog file name is empty: was the source running with log_bin?",
        ));
    }
    if name.len() > 512 || name.contains(bad) {
        return Err(Error::permanent(format!(
            "binlog file name {} is not a plain file name",
            excerpt(name)
        )));
    }
    Ok(())
}

/// Normalised (gtid_executed, gtid_slave_pos) of a text that is one or the other.
fn split_by_flavour(gtid: &str) -> Result<(String, Option<String>)> {
    if gtid.contains(':') {
        return Ok((GtidSet::parse(gtid)?.to_string(), None));
    }
    let list = MariaDbGtidList::parse(gtid)?;
    Ok((String::new(), (!list.is_empty()).then(|| list.to_string())))
}

#[cfg(test)]
mod tests;
