//! `xtrabackup_binlog_info` of xtrabackup and mariadb-backup, `mariadb_backup_binlog_info` since MariaDB 11.1. The tool's log is not
//! used: GTID sets in it were cut (PXB-3302).

use super::Coordinates;
use super::text::{excerpt, parse_position};
use crate::error::{Error, Result};

/// Parses `xtrabackup_binlog_info` or `mariadb_backup_binlog_info`: `file<TAB>pos[<TAB>gtid]`, the GTID set going on
/// over further lines. mariadb-backup ends the line with a tab when there are no GTIDs.
///
/// # Errors
/// Empty (the source ran without log_bin), a column missing or wrong, or the file cut off.
pub fn parse_binlog_info(text: &str) -> Result<Coordinates> {
    let at_fault = |why: &str| {
        Error::permanent(format!(
            "xtrabackup_binlog_info {why}: was the source running with log_bin, and did the backup complete?"
        ))
    };
    if text.trim().is_empty() {
        return Err(at_fault("is empty"));
    }
    // A position or a set that is cut in mid-number looks like a whole one: only the line break tells.
    let text = text
        .strip_suffix('\n')
        .ok_or_else(|| at_fault("is cut off"))?;
    let mut columns = text.splitn(3, '\t');
    let (Some(file), Some(pos)) = (columns.next(), columns.next()) else {
        return Err(at_fault(&format!("has no position in {}", excerpt(text))));
    };
    Coordinates::new(
        file,
        parse_position(pos.trim_end())?,
        columns.next().unwrap_or(""),
    )
    .map_err(|e| e.context("xtrabackup_binlog_info"))
}
