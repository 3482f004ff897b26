//! Files of xtrabackup and mariadb-backup. `xtrabackup_binlog_info` is `mariadb_backup_binlog_info` since MariaDB 11.1,
//! and `xtrabackup_slave_info` is `mariadb_backup_slave_info` (tool-compatibility section 6). The tool's log is no
//! source: GTID sets in it were cut (PXB-3302).

use super::statement::{
    GtidVariable, Position, change, ends_gtid_statement, gtid_value, gtid_variable, keep,
};
use super::{Coordinates, excerpt, parse_position, split_by_flavour};
use crate::error::{Error, Result};

/// Parses `xtrabackup_binlog_info` or `mariadb_backup_binlog_info`: `file<TAB>pos[<TAB>gtid]`, the GTID set going on
/// over further lines (agent-api-v2 4.6). mariadb-backup ends the line with a tab when there are no GTIDs.
///
/// # Errors
/// Empty (the source ran without log_bin), a column missing or wrong, or the file cut off (agent-api-v2 D37).
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

/// Where a replica stood in *its* source when it was backed up with --slave-info.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// Binlog file and position of the replica's source; `None` if the replica used GTIDs.
    pub position: Option<(String, u64)>,
    /// MySQL: the set for gtid_purged, canonical; `""` if none was written.
    pub gtid_executed: String,
    /// MariaDB: the value for gtid_slave_pos.
    pub gtid_slave_pos: Option<String>,
}

/// Parses `xtrabackup_slave_info` or `mariadb_backup_slave_info`: a CHANGE statement of any age, with
/// `SET GLOBAL gtid_purged` or `SET GLOBAL gtid_slave_pos` before it if the replica uses GTIDs.
///
/// # Errors
/// Nothing usable in it, a statement cut off, or different positions for several channels.
pub fn parse_slave_info(text: &str) -> Result<ReplicaInfo> {
    let context = |e: Error| e.context("xtrabackup_slave_info");
    let mut info = ReplicaInfo::default();
    let mut position: Option<Position> = None;
    let mut has_change = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut statement = line.trim().to_string();
        if let Some(variable) = gtid_variable(&statement) {
            while !ends_gtid_statement(&statement) {
                let next = lines
                    .next()
                    .ok_or_else(|| context(Error::permanent("the GTID set is cut off")))?;
                statement.push('\n');
                statement.push_str(next);
            }
            let (mysql, mariadb) =
                split_by_flavour(gtid_value(&statement).map_err(context)?).map_err(context)?;
            match variable {
                GtidVariable::Purged if mariadb.is_none() => info.gtid_executed = mysql,
                GtidVariable::SlavePos if mysql.is_empty() => info.gtid_slave_pos = mariadb,
                _ => {
                    return Err(context(Error::permanent(format!(
                        "{} is of the other flavour",
                        excerpt(&statement)
                    ))));
                }
            }
        } else if let Some(found) = change(&statement).map_err(context)? {
            has_change = true;
            keep(&mut position, found).map_err(context)?;
        }
    }
    info.position = position;
    if !has_change
        || (info.position.is_none()
            && info.gtid_executed.is_empty()
            && info.gtid_slave_pos.is_none())
    {
        return Err(context(Error::permanent(
            "neither a position nor GTIDs are in it: was the source of the backup a replica?",
        )));
    }
    Ok(info)
}
