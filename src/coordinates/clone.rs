//! Coordinates of a finished CLONE.

use super::Coordinates;
use crate::error::Result;

/// Coordinates from BINLOG_FILE, BINLOG_POSITION and GTID_EXECUTED of performance_schema.clone_status. The server gives
/// the file without a directory and one UUID per line (MySQL 9.7).
///
/// # Errors
/// An empty file (the donor ran without log_bin), an impossible position, or a set that does not parse.
pub(crate) fn parse(file: &str, position: u64, gtid_executed: &str) -> Result<Coordinates> {
    Coordinates::new(file, position, gtid_executed)
        .map_err(|e| e.context("performance_schema.clone_status"))
}
