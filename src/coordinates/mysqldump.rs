//! Coordinates, flavour and completeness of a dump by mysqldump or mariadb-dump, from its two ends.
//!
//! Rows hold texts such as `CHANGE MASTER TO`, also at line starts. So coordinates count only where no row can be: in
//! the header, before the first statement that is not SET, and in the trailer, after the last one.

use super::gtid::{GtidSet, MariaDbGtidList};
use super::text::{excerpt, parse_position};
use super::{Coordinates, check_log_file};
use crate::error::{Error, OnPath, Result};
use crate::mysql::Flavour;
use std::io::{BufRead, Read};

/// Longest header that is searched, the GTID set apart, in bytes. Real ones are below 10 KiB.
const HEADER_LIMIT: u64 = 4 << 20;
/// Longest GTID set, in bytes.
const GTID_LIMIT: u64 = 64 << 20;
/// Most bytes of warnings before the dump begins.
const GARBAGE_LIMIT: u64 = 64 << 10;

/// What is in the two ends of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpHeader {
    /// Position and GTIDs of the source; with --dump-replica or --dump-slave those of the source's source.
    pub coordinates: Coordinates,
    /// Family of the tool: `-- MariaDB dump`, and `-- MySQL dump ... Distrib 10.1.48-MariaDB` of old clients, are MariaDB's.
    pub flavour: Flavour,
    /// Byte offset at which loading starts: behind warnings that the tool wrote to stdout, usually 0.
    pub load_from: u64,
    /// True if the trailer `-- Dump completed` is there. Where it is not, the dump is cut off and must not be loaded.
    pub complete: bool,
}

/// Reads the header from `head`, a reader at the start of the dump file, and the trailer from `tail`, the last 64 KiB of
/// it (all of it if it is shorter). The error is permanent if it is no dump or holds no usable coordinates, so before anything is loaded.
pub fn parse(head: &mut dyn BufRead, tail: &[u8]) -> Result<DumpHeader> {
    let mut lines = Lines { head, offset: 0 };
    let mut found = Found::default();
    let load_from = read_header(&mut lines, &mut found).map_err(|e| e.context("dump"))?;
    let Some(flavour) = found.flavour else {
        return Err(Error::permanent(
            "the dump has no '-- MySQL dump' or '-- MariaDB dump' line: remove --skip-comments and --compact from the mysqldump options",
        ));
    };
    let complete = read_trailer(tail, &mut found).map_err(|e| e.context("end of the dump"))?;
    let Some((log_file, log_pos)) = found.position else {
        return Err(Error::permanent(
            "no binlog coordinates in the dump: no CHANGE MASTER TO MASTER_LOG_FILE=... or CHANGE REPLICATION SOURCE TO \
             SOURCE_LOG_FILE=... in its header; was the source running with log_bin and --master-data=2 or --source-data=2?",
        ));
    };
    let coordinates = Coordinates {
        log_file,
        log_pos,
        gtid_executed: found.purged.unwrap_or_default(),
        gtid_slave_pos: found.slave_pos.filter(|list| !list.is_empty()),
    };
    coordinates.validate().map_err(|e| e.context("dump"))?;
    Ok(DumpHeader {
        coordinates,
        flavour,
        load_from,
        complete,
    })
}

type Position = (String, u64);

#[derive(Default)]
struct Found {
    position: Option<Position>,
    purged: Option<String>,
    slave_pos: Option<String>,
    flavour: Option<Flavour>,
}

impl Found {
    fn take_tool(&mut self, line: &str) {
        if line.starts_with("-- MariaDB dump ")
            || (line.starts_with("-- MySQL dump ") && line.contains("-MariaDB"))
        {
            self.flavour.get_or_insert(Flavour::MariaDb);
        } else if line.starts_with("-- MySQL dump ") {
            self.flavour.get_or_insert(Flavour::MySql);
        }
    }

    /// Takes the coordinates of a line, if it has some; GTID statements are complete here.
    fn take(&mut self, text: &str) -> Result<()> {
        let Some(family) = gtid_variable(text) else {
            return self.take_position(text);
        };
        let value = gtid_value(text).ok_or_else(|| broken(text))?;
        let (slot, value) = match family {
            Flavour::MySql => (&mut self.purged, GtidSet::parse(value)?.to_string()),
            Flavour::MariaDb => (
                &mut self.slave_pos,
                MariaDbGtidList::parse(value)?.to_string(),
            ),
        };
        if slot.get_or_insert_with(|| value.clone()) != &value {
            return Err(Error::permanent(
                "two different GTID sets: is the file more than one dump?",
            ));
        }
        Ok(())
    }

    /// Keeps the one position that a file may name. Several replication channels write several.
    fn take_position(&mut self, text: &str) -> Result<()> {
        let Some(new) = change(text)? else {
            return Ok(());
        };
        let kept = self.position.get_or_insert_with(|| new.clone());
        if *kept != new {
            return Err(Error::permanent(format!(
                "two binlog positions, {}:{} and {}:{}: copies of a replica with several channels are not supported, use another source",
                kept.0, kept.1, new.0, new.1
            )));
        }
        Ok(())
    }
}

/// Lines of the dump's start with their offsets.
struct Lines<'a> {
    head: &'a mut dyn BufRead,
    offset: u64,
}

impl Lines<'_> {
    /// The next line with its line break, at most `limit` bytes of it; empty at the end of the file.
    fn next(&mut self, limit: u64) -> Result<String> {
        let mut line = Vec::new();
        let read = (&mut *self.head).take(limit).read_until(b'\n', &mut line);
        self.offset += read.on("reading the dump")? as u64;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

/// Reads up to the first statement that is not SET and returns where loading starts.
fn read_header(lines: &mut Lines, found: &mut Found) -> Result<u64> {
    let mut load_from = 0;
    let mut raw = lines.next(HEADER_LIMIT)?;
    while !raw.starts_with("--") && !raw.starts_with("/*") {
        load_from = lines.offset;
        if raw.is_empty() || load_from > GARBAGE_LIMIT {
            return Err(Error::permanent(
                "no line starts with -- or /*: it is not the output of mysqldump",
            ));
        }
        raw = lines.next(HEADER_LIMIT)?;
    }
    let mut start = load_from; // of the line
    let mut end = load_from + HEADER_LIMIT;
    while !raw.is_empty() && start < end {
        let line = raw.trim_end();
        if gtid_variable(uncommented(line)).is_some() {
            let before = lines.offset;
            let statement = whole_gtid_statement(raw, lines)?;
            end += lines.offset - before;
            found.take(uncommented(&statement))?;
        } else if !raw.ends_with('\n') {
            break; // the end of the file, or a line too long for a header
        } else if line.starts_with("--") {
            found.take_tool(line);
            found.take(uncommented(line))?;
        } else if line.starts_with("/*") && conditional(line).is_none() {
            while !raw.contains("*/") && !raw.is_empty() && lines.offset < end {
                raw = lines.next(HEADER_LIMIT)?;
            }
        } else if after(line, "CHANGE ").is_some() {
            found.take(line)?;
        } else if !sets_up(line) && !is_sandbox_line(line) {
            break;
        }
        start = lines.offset;
        raw = lines.next(HEADER_LIMIT)?;
    }
    Ok(load_from)
}

/// Appends the lines that belong to a GTID statement that `first` begins.
fn whole_gtid_statement(first: String, lines: &mut Lines) -> Result<String> {
    let mut statement = first;
    while !ends_gtid_statement(&statement) {
        let next = lines.next(GTID_LIMIT)?;
        if next.is_empty() {
            return Err(Error::permanent("the GTID set is cut off"));
        }
        statement.push_str(&next);
        if statement.len() as u64 > GTID_LIMIT {
            return Err(Error::permanent(format!(
                "the GTID set is longer than {} MiB",
                GTID_LIMIT >> 20
            )));
        }
    }
    Ok(statement)
}

/// Reads backwards from the end up to the last statement that is not SET; true if the dump is complete.
///
/// A row that ends in such lines cannot pose as the trailer: the line that closes a literal or a comment which began on
/// an earlier line holds an odd number of quotes, another kind of quote or a lone `*/`, and ends the search.
fn read_trailer(tail: &[u8], found: &mut Found) -> Result<bool> {
    let tail = String::from_utf8_lossy(tail);
    // The first piece may begin in mid-line, and where the tail is all of the dump it was read as header.
    let Some((_, tail)) = tail.split_once('\n') else {
        return Ok(false);
    };
    let mut lines = tail
        .lines()
        .rev()
        .map(str::trim_end)
        .skip_while(|line| line.is_empty());
    let complete = lines.next().is_some_and(|last| {
        last == "-- Dump completed" || last.starts_with("-- Dump completed on ")
    });
    if !complete {
        return Ok(false); // it may end inside a row
    }
    let mut set_lines: Vec<&str> = Vec::new(); // of a GTID set that spans lines, last one first
    for line in lines {
        if gtid_variable(uncommented(line)).is_some()
            && (!set_lines.is_empty() || is_self_contained(line))
        {
            set_lines.push(line);
            set_lines.reverse();
            found.take(uncommented(&set_lines.join("\n")))?;
            set_lines.clear();
        } else if is_part_of_gtid_set(line, set_lines.is_empty()) {
            set_lines.push(line);
        } else if !set_lines.is_empty() || !is_self_contained(line) {
            return Ok(true);
        } else if after(uncommented(line), "CHANGE ").is_some() {
            found.take(uncommented(line))?;
        } else if !line.starts_with("--") && !sets_up(line) {
            return Ok(true);
        }
    }
    if set_lines.is_empty() {
        Ok(true)
    } else {
        Err(Error::permanent(
            "the GTID set at the end is longer than 64 KiB",
        ))
    }
}

/// A further line of a set: `uuid:1-5,`, or `uuid:1-5';` as the last one.
fn is_part_of_gtid_set(line: &str, last: bool) -> bool {
    let set = if last {
        line.strip_suffix("*/").unwrap_or(line).strip_suffix("';")
    } else {
        line.strip_suffix(',')
    };
    set.is_some_and(|set| GtidSet::parse(set).is_ok_and(|set| !set.is_empty()))
}

/// True if no literal or comment begins or ends in the line without its other end.
fn is_self_contained(line: &str) -> bool {
    line.matches('\'').count().is_multiple_of(2)
        && !line.contains(['`', '"', '\\'])
        && line.matches("/*").count() == line.matches("*/").count()
}

/// What `/*!40101 ... */;` or MariaDB's `/*M!100616 ... */;` holds.
fn conditional(line: &str) -> Option<&str> {
    let mysql = line.strip_prefix("/*!");
    let inner = mysql.or_else(|| line.strip_prefix("/*M!"))?;
    Some(
        inner
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start(),
    )
}

/// Lines around the data: empty ones, SET statements on one line, conditional or not, and `STOP SLAVE;` before and `START REPLICA;`
/// after the data (--apply-slave-statements, --apply-replica-statements).
fn sets_up(line: &str) -> bool {
    let (statement, ends) = match conditional(line) {
        Some(inner) => (inner, line.contains("*/")),
        None => (line, line.ends_with(';')),
    };
    let what = after(line, "STOP ").or_else(|| after(line, "START "));
    let names = ["SLAVE", "REPLICA", "ALL SLAVES"];
    let of_replica = what.is_some_and(|what| names.iter().any(|n| after(what, n).is_some()));
    line.is_empty() || of_replica || ends && after(statement, "SET ").is_some()
}

/// The first line of MariaDB 10.5.25, 10.6.18, 10.11.8, 11.4 and later; older clients and MySQL's refuse it: `Unknown command '\-'`.
fn is_sandbox_line(line: &str) -> bool {
    conditional(line).is_some_and(|inner| inner.starts_with("\\-"))
}

/// What follows `prefix` in `text`, upper and lower case being equal.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The statement in text that may be commented out: with `-- ` (--master-data=2, --source-data=2), or with `/* ... */`
/// (--set-gtid-purged=COMMENTED).
fn uncommented(text: &str) -> &str {
    text.strip_prefix("-- ")
        .or_else(|| text.strip_prefix("/* "))
        .unwrap_or(text)
        .trim()
}

fn broken(statement: &str) -> Error {
    Error::permanent(format!(
        "{} is cut off or not understood",
        excerpt(statement)
    ))
}

/// Reads a CHANGE statement: `None` if the text is another one, or if it names no file and position (those of GTID replication:
/// MASTER_USE_GTID, SOURCE_AUTO_POSITION). One that is cut off, or names half of a position or an impossible one, is an error.
fn change(statement: &str) -> Result<Option<Position>> {
    let broken = || broken(statement);
    let Some(rest) = after(statement, "CHANGE MASTER ")
        .or_else(|| after(statement, "CHANGE REPLICATION SOURCE "))
    else {
        return Ok(None);
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
        let channel = after(tail, "FOR CHANNEL ").is_some_and(|name| name.ends_with(';'));
        match tail.strip_prefix(',') {
            Some(next) => rest = next,
            None if channel || tail.starts_with(';') => break,
            None => return Err(broken()),
        }
    }
    if let Some(file) = &file {
        check_log_file(file)?;
    }
    if file.is_some() != pos.is_some() {
        return Err(broken());
    }
    Ok(file.zip(pos))
}

/// The family whose GTID variable the start of a statement sets, in the spellings of mysqldump, mariadb-dump and xtrabackup: MySQL's
/// gtid_purged, MariaDB's gtid_slave_pos.
fn gtid_variable(statement: &str) -> Option<Flavour> {
    let rest = after(statement, "SET ")?.trim_start();
    let rest = after(rest, "@@GLOBAL.").or_else(|| after(rest, "GLOBAL "))?;
    let (family, rest) = match after(rest, "gtid_purged") {
        Some(rest) => (Flavour::MySql, rest),
        None => (Flavour::MariaDb, after(rest, "gtid_slave_pos")?),
    };
    rest.trim_start().starts_with('=').then_some(family)
}

/// True if a statement of [`gtid_variable`] is complete; sets are printed on as many lines as they have UUIDs.
fn ends_gtid_statement(text: &str) -> bool {
    let text = text.trim_end();
    text.strip_suffix("*/").unwrap_or(text).ends_with("';")
}

/// The value of a complete statement of [`gtid_variable`], which may span lines. MySQL 8.0 writes
/// `=/*!80000 '+'*/ 'set'`, and `'+set'` with --set-gtid-purged=COMMENTED.
fn gtid_value(statement: &str) -> Option<&str> {
    let mut rest = statement.split_once('=')?.1.trim_start();
    if rest.starts_with("/*") {
        rest = rest.split_once("*/")?.1.trim_start();
    }
    let (value, tail) = quoted(rest)?;
    let value = value.strip_prefix('+').unwrap_or(value);
    tail.starts_with(';').then_some(value)
}

/// Content of the literal that `text` starts with, and what follows it. Names and GTIDs hold no quotes or escapes.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('\'')?.split_once('\'')
}
