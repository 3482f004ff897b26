//! The SQL mode in which a dump is loaded: the one statement that is not executed as it is written, and what is added to some tables.

use crate::contents::row_mode::{LENIENT, STRICT, Tables};
use crate::mysql::{quote_name, quote_text};
use std::io::{self, Chain, Cursor, Read};

/// The statement is in so many bytes from the beginning.
const HEAD: usize = 64 << 10;
/// How mysqldump and mariadb-dump set the session's mode for everything that has no mode of its own: rows and tables. Under it a value
/// that a column cannot take is changed, and dates that the source's rows hold by ALLOW_INVALID_DATES become 0000-00-00.
const MODE: &str = "SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;";

/// The dump with `mode` for its rows and tables. A script without that statement is not changed.
pub(super) fn with_mode<R: Read>(mut dump: R, mode: &str) -> io::Result<Chain<Cursor<Vec<u8>>, R>> {
    let mut head = Vec::with_capacity(HEAD);
    dump.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let at = head.windows(MODE.len()).position(|w| w == MODE.as_bytes());
    if let Some(at) = at {
        let wanted = format!("SQL_MODE='{mode}' */;");
        head.splice(at..at + MODE.len(), wanted.into_bytes());
    }
    Ok(Cursor::new(head).chain(dump))
}

/// Precedes the definition of a table and its rows, and its triggers; views and sequences have other comments (mysqldump 5.6 to 9.7,
/// mariadb-dump 10.11). Names are quoted as [`quote_name`] does, but for line ends.
const TABLE: &[u8] = b"-- Table structure for table ";
/// Precedes all of a schema.
const SCHEMA: &[u8] = b"-- Current Database: ";
/// Longest such line that is read: a name has at most 64 characters, each of four bytes, or twice as many backticks.
const LINE: usize = 1024;
const BUFFER: usize = 64 << 10;
/// Begins a line of the client's output where a table of [`Sections`] begins.
const BEGUN: &str = "orchestrator-agent loads ";

/// A dump in which each table of `lenient` is loaded without strict mode. Only whole lines of the dump that are comments are looked at;
/// nothing is added elsewhere. Rows have no line ends in them, and a body of a routine or trigger that has such a comment would be changed,
/// which the comparison of definitions finds.
pub(super) struct Sections<R> {
    dump: R,
    lenient: Tables,
    schema: String,
    buffer: Vec<u8>,
    /// What of `buffer` was passed on.
    used: usize,
    at_line: bool,
    ended: bool,
    is_lenient: bool,
    added: Cursor<Vec<u8>>,
}

impl<R: Read> Sections<R> {
    pub(super) fn new(dump: R, lenient: Tables) -> Self {
        Self {
            dump,
            lenient,
            schema: String::new(),
            buffer: Vec::with_capacity(BUFFER),
            used: 0,
            at_line: true,
            ended: false,
            is_lenient: false,
            added: Cursor::default(),
        }
    }

    /// At least `wanted` bytes are in the buffer then, if there are so many.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while !self.ended && self.buffer.len() - self.used < wanted {
            self.buffer.drain(..self.used);
            self.used = 0;
            let room = (BUFFER - self.buffer.len()) as u64;
            let mut next = self.dump.by_ref().take(room);
            self.ended = next.read_to_end(&mut self.buffer)? == 0;
        }
        Ok(())
    }

    /// What is added after this line.
    fn after(&mut self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        let name_of = |start: &[u8]| text.get(start.len()..).unwrap_or_default().to_string();
        if line.starts_with(SCHEMA) {
            self.schema = name_of(SCHEMA);
            return String::new();
        }
        let name = name_of(TABLE);
        let tables = self
            .lenient
            .iter()
            .find(|(s, _)| quote_name(s) == self.schema);
        let table = tables.and_then(|(schema, tables)| {
            let (table, _) = tables.iter().find(|(t, _)| quote_name(t) == name)?;
            Some((schema, table))
        });
        let was = std::mem::replace(&mut self.is_lenient, table.is_some());
        match table {
            Some((schema, table)) => format!(
                "SET SESSION sql_mode = '{LENIENT}'; SELECT CONCAT('{BEGUN}', HEX({}), ' ', HEX({}));\n",
                quote_text(schema),
                quote_text(table)
            ),
            None if was => format!("SET SESSION sql_mode = '{STRICT}';\n"),
            None => String::new(),
        }
    }
}

impl<R: Read> Read for Sections<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let added = self.added.read(out)?;
        if added > 0 || out.is_empty() {
            return Ok(added);
        }
        self.fill(LINE)?;
        let rest = &self.buffer[self.used..];
        let end = rest.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let of_interest = self.at_line && (rest.starts_with(TABLE) || rest.starts_with(SCHEMA));
        if let Some(end) = end.filter(|end| of_interest && *end <= LINE) {
            let line = rest[..end].to_vec();
            let more = self.after(&line);
            self.used += end;
            self.added = Cursor::new([line, more.into_bytes()].concat());
            return self.added.read(out);
        }
        let length = end.unwrap_or(rest.len()).min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.used += length;
        self.at_line = end == Some(length);
        Ok(length)
    }
}

/// The table that begins with this line of the client's output.
pub(super) fn begun(line: &str) -> Option<(String, String)> {
    let (schema, table) = line.strip_prefix(BEGUN)?.trim().split_once(' ')?;
    let text = |hex: &str| {
        let byte = |i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        String::from_utf8(bytes?).ok()
    };
    Some((text(schema)?, text(table)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::row_mode::Lenient;

    #[test]
    fn only_the_first_is_changed() {
        let line = format!("/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, {MODE}\n");
        let dump = format!("-- x\n{line}INSERT INTO t VALUES ('{MODE}');\n");
        let mut text = String::new();
        let mut changed = with_mode(dump.as_bytes(), "STRICT_ALL_TABLES").unwrap();
        changed.read_to_string(&mut text).unwrap();
        let wanted = "SQL_MODE='STRICT_ALL_TABLES' */;";
        assert_eq!(text, dump.replacen(MODE, wanted, 1));
        text.clear();
        let script = "-- x\nSELECT 1;\n";
        let mut same = with_mode(script.as_bytes(), "STRICT_ALL_TABLES").unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, script);
    }

    /// Reads `out` bytes at a time.
    fn loaded(dump: &str, lenient: &[(&str, &str)], out: usize) -> String {
        let mut tables = Tables::new();
        for (schema, table) in lenient {
            let of_schema = tables.entry(schema.to_string()).or_default();
            of_schema.insert(table.to_string(), Lenient::default());
        }
        let mut sections = Sections::new(dump.as_bytes(), tables);
        let (mut text, mut bytes) = (Vec::new(), vec![0; out]);
        loop {
            match sections.read(&mut bytes).unwrap() {
                0 => return String::from_utf8(text).unwrap(),
                n => text.extend_from_slice(&bytes[..n]),
            }
        }
    }

    #[test]
    fn only_the_tables_that_need_it_are_loaded_without_strict_mode() {
        let long = "x".repeat(3 * BUFFER);
        let dump = format!(
            "-- MySQL dump\n--\n-- Current Database: `a`\n--\nUSE `a`;\n-- Table structure for table `t`\nINSERT INTO `t` VALUES ('{long}');\n\
             INSERT INTO `t` VALUES ('\\n-- Table structure for table `u`');\n-- Table structure for table `u`\n--\nCREATE\n\
             -- Table structure for table `o``'d`\n-- Current Database: `b`\n-- Table structure for table `u`\nend"
        );
        let strict = format!("SET SESSION sql_mode = '{STRICT}';\n");
        let lenient = |schema: &str, table: &str| {
            format!(
                "SET SESSION sql_mode = '{LENIENT}'; SELECT CONCAT('orchestrator-agent loads ', HEX({}), ' ', HEX({}));\n",
                quote_text(schema),
                quote_text(table)
            )
        };
        let (t, u) = (lenient("a", "t"), lenient("a", "o`'d"));
        let wanted = dump
            .replacen("table `t`\n", &format!("table `t`\n{t}"), 1)
            .replacen("table `u`\n--", &format!("table `u`\n{strict}--"), 1)
            .replacen("table `o``'d`\n", &format!("table `o``'d`\n{u}"), 1)
            .replacen("table `u`\nend", &format!("table `u`\n{strict}end"), 1);
        for out in [7, LINE, 1 << 20] {
            assert_eq!(loaded(&dump, &[("a", "t"), ("a", "o`'d")], out), wanted);
            assert_eq!(loaded(&dump, &[], out), dump);
        }
        assert_eq!(
            begun("orchestrator-agent loads 61 6F602764"),
            Some(("a".into(), "o`'d".into()))
        );
        assert_eq!(begun("Warning (Code 1265)"), None);
    }
}
