//! The two kinds of statement in which tools write coordinates: CHANGE MASTER / CHANGE REPLICATION SOURCE, and SET of
//! a GTID variable. Used for dumps and for xtrabackup_slave_info.

use super::{check_log_file, excerpt, parse_position};
use crate::error::{Error, Result};

/// A file and a position in it.
pub(super) type Position = (String, u64);

/// A GTID variable that a tool sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GtidVariable {
    /// MySQL's gtid_purged.
    Purged,
    /// MariaDB's gtid_slave_pos.
    SlavePos,
}

/// What follows `prefix` in `text`, upper and lower case being equal.
pub(super) fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The statement in text that may be commented out: with `-- ` (--master-data=2, --source-data=2), or with `/* ... */`
/// (--set-gtid-purged=COMMENTED).
pub(super) fn uncommented(text: &str) -> &str {
    text.strip_prefix("-- ")
        .or_else(|| text.strip_prefix("/* "))
        .unwrap_or(text)
        .trim()
}

/// Reads a CHANGE statement: `None` if the text is another one, `Some(None)` if it names no file and position (those
/// of GTID replication: MASTER_USE_GTID, SOURCE_AUTO_POSITION).
///
/// # Errors
/// The statement is cut off, names only half of a position, or an impossible one.
pub(super) fn change(statement: &str) -> Result<Option<Option<Position>>> {
    let Some(rest) = after(statement, "CHANGE MASTER ")
        .or_else(|| after(statement, "CHANGE REPLICATION SOURCE "))
    else {
        return Ok(None);
    };
    let broken = || {
        Error::permanent(format!(
            "{} is cut off or not understood",
            excerpt(statement)
        ))
    };
    let mut rest = rest.trim_start();
    if rest.starts_with('\'') {
        rest = quoted(rest).ok_or_else(broken)?.1.trim_start(); // MariaDB's connection name
    }
    let Some(mut rest) = after(rest, "TO ") else {
        return Ok(None); // prose about CHANGE MASTER
    };
    let (mut file, mut pos) = (None, None);
    loop {
        let (key, value) = rest.split_once('=').ok_or_else(broken)?;
        let value = value.trim_start();
        let (value, tail) = if value.starts_with('\'') {
            quoted(value).ok_or_else(broken)?
        } else {
            value.split_at(value.find([',', ' ', ';']).ok_or_else(broken)?)
        };
        match key.trim().to_ascii_uppercase().as_str() {
            "MASTER_LOG_FILE" | "SOURCE_LOG_FILE" => file = Some(value.to_string()),
            "MASTER_LOG_POS" | "SOURCE_LOG_POS" => pos = Some(parse_position(value)?),
            _ => {}
        }
        let tail = tail.trim_start();
        if let Some(next) = tail.strip_prefix(',') {
            rest = next;
        } else if tail.starts_with(';')
            || after(tail, "FOR CHANNEL ").is_some_and(|t| t.ends_with(';'))
        {
            break;
        } else {
            return Err(broken());
        }
    }
    match (file, pos) {
        (Some(file), Some(pos)) => {
            check_log_file(&file)?;
            Ok(Some(Some((file, pos))))
        }
        (None, None) => Ok(Some(None)),
        _ => Err(broken()),
    }
}

/// Keeps the one position that a file may name. Several replication channels write several.
pub(super) fn keep(kept: &mut Option<Position>, new: Option<Position>) -> Result<()> {
    match (&kept, new) {
        (Some(old), Some(new)) if *old != new => Err(Error::permanent(format!(
            "two binlog positions, {}:{} and {}:{}: copies of a replica with several channels are not supported, use another source",
            old.0, old.1, new.0, new.1
        ))),
        (None, new) => {
            *kept = new;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The GTID variable that the start of a statement sets, in the spellings of mysqldump, mariadb-dump and xtrabackup.
pub(super) fn gtid_variable(statement: &str) -> Option<GtidVariable> {
    let rest = after(statement, "SET ")?.trim_start();
    let rest = after(rest, "@@GLOBAL.").or_else(|| after(rest, "GLOBAL "))?;
    let (variable, rest) = match after(rest, "gtid_purged") {
        Some(rest) => (GtidVariable::Purged, rest),
        None => (GtidVariable::SlavePos, after(rest, "gtid_slave_pos")?),
    };
    rest.trim_start().starts_with('=').then_some(variable)
}

/// True if a statement of [`gtid_variable`] is complete; sets are printed on as many lines as they have UUIDs.
pub(super) fn ends_gtid_statement(text: &str) -> bool {
    let text = text.trim_end();
    text.strip_suffix("*/").unwrap_or(text).ends_with("';")
}

/// The value of a complete statement of [`gtid_variable`], which may span lines. MySQL 8.0 writes
/// `=/*!80000 '+'*/ 'set'`, and `'+set'` with --set-gtid-purged=COMMENTED.
pub(super) fn gtid_value(statement: &str) -> Result<&str> {
    let value = || {
        let mut rest = statement.split_once('=')?.1.trim_start();
        if rest.starts_with("/*") {
            rest = rest.split_once("*/")?.1.trim_start();
        }
        let (value, tail) = quoted(rest)?;
        tail.starts_with(';')
            .then(|| value.strip_prefix('+').unwrap_or(value))
    };
    value().ok_or_else(|| {
        Error::permanent(format!(
            "{} is cut off or not understood",
            excerpt(statement)
        ))
    })
}

/// Content of the literal that `text` starts with, and what follows it. Names and GTIDs hold no quotes or escapes.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('\'')?.split_once('\'')
}
