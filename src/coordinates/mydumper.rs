//! The `metadata` file of mydumper, 0.9 to 1.0.
//!
//! | versions | form |
//! |---|---|
//! | 0.9.1 to 0.13.1 | `SHOW MASTER STATUS:` with indented `Log:`, `Pos:`, `GTID:`, one UUID per line |
//! | 0.14.1 to 0.16.5 | `[master]` with `File`, `Position`, `Executed_Gtid_Set`; 0.14.1 breaks the set over lines |
//! | 0.16.7 to 0.19.3 | `[source]` with the same keys; with --source-data `SOURCE_LOG_FILE`, `SOURCE_LOG_POS`, some commented |
//! | 0.20.1 to 0.20.2-4 | `[source]` is empty without --source-data (mydumper issue 2076) |
//! | 0.20.2-5 and later | `[source]`, the keys always as comments, with --source-data also uncommented |
//!
//! Positions of a replica's own source (`SHOW SLAVE STATUS:`, `[replication]`, `[replication.channel]`) are passed over.

use super::Coordinates;
use super::text::parse_position;
use crate::error::{Error, Result};

/// The three values of the source as found so far.
#[derive(Default)]
struct Found {
    file: Option<String>,
    pos: Option<String>,
    gtid: Option<String>,
}

/// Parses a metadata file of any version. The GTID set is MySQL's or MariaDB's by its form.
///
/// # Errors
/// No coordinates in it (0.20.1 without --source-data; 0.10 against MySQL 8.4 and later, whose statement it does not
/// know, exits 0 all the same), or the file is cut off or not metadata of mydumper.
pub fn parse(text: &str) -> Result<Coordinates> {
    let context = |e: Error| e.context("metadata of mydumper");
    let classic = text
        .lines()
        .any(|line| line.starts_with("SHOW MASTER STATUS:"));
    let found = if classic {
        read_classic(text)
    } else {
        read_ini(text).map_err(context)?
    };
    let (Some(file), Some(pos)) = (found.file, found.pos) else {
        return Err(context(Error::permanent(
            "no binlog coordinates in it: was the source running with log_bin, and does this mydumper know the source's \
             version? MySQL 8.4 and later need a newer mydumper, such as 1.0.1",
        )));
    };
    // Every version writes a GTID line, if only an empty one, and this line last.
    if found.gtid.is_none() || !text.ends_with('\n') {
        return Err(context(Error::permanent(
            "the file is cut off: mydumper did not complete",
        )));
    }
    // "(null)" is what a server without GTIDs gives (5.5 and older).
    let gtid = found.gtid.filter(|set| set != "(null)").unwrap_or_default();
    Coordinates::new(&file, parse_position(&pos).map_err(context)?, &gtid).map_err(context)
}

fn read_classic(text: &str) -> Found {
    let mut found = Found::default();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("SHOW MASTER STATUS:"))
        .skip(1);
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once(':') else {
            break;
        }; // the blank line that ends the block
        let value = value.trim().to_string();
        match key.trim() {
            "Log" => found.file = Some(value),
            "Pos" => found.pos = Some(value),
            "GTID" => {
                found.gtid = Some(with_continuation(value, &mut lines));
                break; // a slave section may follow
            }
            _ => break,
        }
    }
    found
}

fn read_ini(text: &str) -> Result<Found> {
    let (mut plain, mut commented) = (Found::default(), Found::default());
    let mut in_source = false;
    let mut sections = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with('[') {
            in_source = matches!(line, "[source]" | "[master]");
            sections += usize::from(in_source);
            continue;
        }
        if !in_source {
            continue;
        }
        let (into, line) = match line.strip_prefix('#') {
            Some(rest) => (&mut commented, rest),
            None => (&mut plain, line),
        };
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim().to_string());
        let slot = match key.to_ascii_lowercase().as_str() {
            "file" | "source_log_file" => &mut into.file,
            "position" | "source_log_pos" => &mut into.pos,
            "executed_gtid_set" => &mut into.gtid,
            _ => continue,
        };
        let value = with_continuation(value, &mut lines);
        // The header of the section that follows is missing, so it would be the position of another server.
        if slot.replace(unquote(&value)).is_some() {
            return Err(Error::permanent(format!(
                "{key} is in its [source] section twice: the file is damaged"
            )));
        }
    }
    if sections > 1 {
        return Err(Error::permanent(
            "two [source] sections: the directory holds more than one dump (--merge), empty it",
        ));
    }
    Ok(Found {
        file: plain.file.or(commented.file),
        pos: plain.pos.or(commented.pos),
        gtid: plain.gtid.or(commented.gtid),
    })
}

/// The set with the lines that follow it, each but the last ending in a comma.
fn with_continuation<'a>(mut set: String, lines: &mut impl Iterator<Item = &'a str>) -> String {
    while set.ends_with(',') {
        match lines.next() {
            Some(line) => set.push_str(line.trim()),
            None => break, // the trailing comma makes it an error
        }
        if set.ends_with(",,") {
            break;
        }
    }
    set
}

fn unquote(value: &str) -> String {
    value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value)
        .to_string()
}
