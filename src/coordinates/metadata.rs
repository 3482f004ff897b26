//! Text files with coordinates: `xtrabackup_binlog_info`, the `metadata` file of mydumper 0.9 to 1.0, and the one that an operator's
//! snapshot procedure leaves in the datadir.
//!
//! | mydumper | form |
//! |---|---|
//! | 0.9.1 to 0.13.1 | `SHOW MASTER STATUS:` with indented `Log:`, `Pos:`, `GTID:`, one UUID per line |
//! | 0.14.1 to 0.16.5 | `[master]` with `File`, `Position`, `Executed_Gtid_Set`; 0.14.1 breaks the set over lines |
//! | 0.16.7 to 0.19.3 | `[source]` with the same keys; with --source-data `SOURCE_LOG_FILE`, `SOURCE_LOG_POS`, some commented |
//! | 0.20.1 to 0.20.2-4 | `[source]` is empty without --source-data (mydumper issue 2076) |
//! | 0.20.2-5 and later | `[source]`, the keys always as comments, with --source-data also uncommented |
//!
//! Positions of a replica's own source (`SHOW SLAVE STATUS:`, `[replication]`, `[replication.channel]`) are passed over.

use super::Coordinates;
use super::text::{excerpt, parse_position};
use crate::error::{Error, Result};

/// Parses `xtrabackup_binlog_info` of xtrabackup and mariadb-backup, `mariadb_backup_binlog_info` since MariaDB 11.1:
/// `file<TAB>pos[<TAB>gtid]`, the GTID set going on over further lines. mariadb-backup ends the line with a tab when there are no
/// GTIDs. The tool's log is not used: GTID sets in it were cut (PXB-3302). A file that is empty (the source ran without log_bin) or cut
/// off is an error.
pub fn binlog_info(text: &str) -> Result<Coordinates> {
    let at_fault = |why: &str| {
        Error::permanent(format!(
            "xtrabackup_binlog_info {why}: was the source running with log_bin, and did the backup complete?"
        ))
    };
    if text.trim().is_empty() {
        return Err(at_fault("is empty"));
    }
    // A position or a set that is cut in mid-number looks like a whole one: only the line break tells.
    let complete = text.strip_suffix('\n');
    let text = complete.ok_or_else(|| at_fault("is cut off"))?;
    let mut columns = text.splitn(3, '\t');
    let (Some(file), Some(pos)) = (columns.next(), columns.next()) else {
        return Err(at_fault(&format!("has no position in {}", excerpt(text))));
    };
    let (pos, gtid) = (parse_position(pos.trim_end())?, columns.next());
    let found = Coordinates::new(file, pos, gtid.unwrap_or_default());
    found.map_err(|e| e.context("xtrabackup_binlog_info"))
}

/// Names in lower case of the keys of file, position and GTID set.
type Keys = [&'static [&'static str]; 3];

#[derive(Default)]
struct Found([Option<String>; 3]);

impl Found {
    /// Takes the value of a key, with the lines of a GTID set that follow, each but the last ending in a comma. False: it is another key.
    fn take<'a>(
        &mut self,
        keys: &Keys,
        (key, value): (&str, &str),
        lines: &mut impl Iterator<Item = &'a str>,
    ) -> Result<bool> {
        let key = key.trim().to_ascii_lowercase();
        let Some(slot) = keys.iter().position(|names| names.contains(&key.as_str())) else {
            return Ok(false);
        };
        let mut value = value.trim().to_string();
        // A trailing comma makes it an error.
        while value.ends_with(',') && !value.ends_with(",,") {
            let Some(line) = lines.next() else { break };
            value.push_str(line.trim());
        }
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let value = quoted.unwrap_or(&value).to_string();
        // The header of a section that follows may be missing, so it would be the position of another server.
        if self.0[slot].replace(value).is_some() {
            return Err(Error::permanent(format!(
                "{key} is in it twice: it is damaged"
            )));
        }
        Ok(true)
    }

    fn coordinates(self, missing: &str) -> Result<Coordinates> {
        let [Some(file), Some(pos), gtid] = self.0 else {
            return Err(Error::permanent(missing));
        };
        Coordinates::new(&file, parse_position(&pos)?, &gtid.unwrap_or_default())
    }
}

/// Parses the `metadata` file of a snapshot: lines `File:`, `Position:` and `Executed_Gtid_Set:`; other lines, such as those of
/// `SHOW MASTER STATUS\G`, are passed over. A set may hold the two characters backslash-n, as batch output of the mysql client has
/// them, and may go on over further lines. A missing or repeated key, or a last line without its line break, is an error.
pub fn snapshot(text: &str) -> Result<Coordinates> {
    const KEYS: Keys = [&["file"], &["position"], &["executed_gtid_set"]];
    let parse = || {
        // A number that is cut looks like a complete one.
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(Error::permanent(
                "it is cut off: its last line has no line break",
            ));
        }
        let mut found = Found::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(pair) = line.split_once(':')
                && ["File", "Position", "Executed_Gtid_Set"].contains(&pair.0.trim())
            {
                found.take(&KEYS, pair, &mut lines)?;
            }
        }
        found.coordinates(
            "no File: or no Position: in it: the snapshot procedure has to write File:, Position: and Executed_Gtid_Set: of \
             SHOW MASTER STATUS or SHOW BINARY LOG STATUS",
        )
    };
    parse().map_err(|e| e.context("metadata of the snapshot"))
}

/// Parses the `metadata` file of any version of mydumper. No coordinates in it are an error (0.20.1 without --source-data; 0.10 against
/// MySQL 8.4 and later, whose statement it does not know, exits 0 all the same).
pub fn mydumper(text: &str) -> Result<Coordinates> {
    let parse = || {
        let classic = text.lines().any(|line| line.starts_with(CLASSIC));
        let mut found = if classic {
            read_classic(text)?
        } else {
            read_ini(text)?
        };
        let [file, pos, gtid] = &mut found.0;
        // Every version writes a GTID line, if only an empty one, and this line last.
        if file.is_some() && pos.is_some() && (gtid.is_none() || !text.ends_with('\n')) {
            return Err(Error::permanent(
                "the file is cut off: mydumper did not complete",
            ));
        }
        // That is what a server without GTIDs gives (5.5 and older).
        gtid.take_if(|set| *set == "(null)");
        found.coordinates(
            "no binlog coordinates in it: was the source running with log_bin, and does this mydumper know the source's \
             version? MySQL 8.4 and later need a newer mydumper, such as 1.0.1",
        )
    };
    parse().map_err(|e| e.context("metadata of mydumper"))
}

const CLASSIC: &str = "SHOW MASTER STATUS:";

/// Reads up to the set, or the blank line that ends the block: a slave section may follow.
fn read_classic(text: &str) -> Result<Found> {
    const KEYS: Keys = [&["log"], &["pos"], &["gtid"]];
    let mut found = Found::default();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with(CLASSIC))
        .skip(1);
    while let Some(pair) = lines.next().and_then(|line| line.split_once(':')) {
        if !found.take(&KEYS, pair, &mut lines)? || found.0[2].is_some() {
            break;
        }
    }
    Ok(found)
}

fn read_ini(text: &str) -> Result<Found> {
    const KEYS: Keys = [
        &["file", "source_log_file"],
        &["position", "source_log_pos"],
        &["executed_gtid_set"],
    ];
    let (mut plain, mut commented) = (Found::default(), Found::default());
    let (mut in_source, mut sections) = (false, 0);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with('[') {
            in_source = matches!(line, "[source]" | "[master]");
            sections += usize::from(in_source);
        } else if in_source {
            let (into, line) = match line.strip_prefix('#') {
                Some(rest) => (&mut commented, rest),
                None => (&mut plain, line),
            };
            if let Some(pair) = line.split_once('=') {
                into.take(&KEYS, pair, &mut lines)?;
            }
        }
    }
    if sections > 1 {
        return Err(Error::permanent(
            "two [source] sections: the directory holds more than one dump (--merge), empty it",
        ));
    }
    for (value, commented) in plain.0.iter_mut().zip(commented.0) {
        *value = value.take().or(commented);
    }
    Ok(plain)
}
