//! A dump seen as a plan for loading: which parts of it are the rows of one large table and may be loaded beside the rest, in
//! a session of their own, and which text has to wait for them.
//!
//! mysqldump and mariadb-dump (all versions of tool-compatibility 3) write the rows of a table between the lines
//! ``LOCK TABLES `t` WRITE;`` and `UNLOCK TABLES;`, after the header ``-- Dumping data for table `t` ``. Line breaks in values are
//! escaped, so no line of data looks like these. Its triggers follow at once, without a header. Where a dump looks otherwise
//! (options may leave out locks or comments) nothing is taken aside, and the whole of it is text for one session.
//!
//! The locks are left out of what is taken aside: while it holds one, a session may not alter its table (DISABLE KEYS) once another
//! session has made a table that refers to it (error 1100, MariaDB 10.11).

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// One step of a load, in the order of the dump. Ranges are bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Goes to the main session.
    Text(Range<u64>),
    /// The rows of one table, for a session of their own.
    Rows {
        /// Where they are.
        range: Range<u64>,
        /// The statement that selects their schema.
        schema: String,
    },
    /// The main session waits for the latest [`Step::Rows`].
    WaitForLast,
    /// The main session waits for all [`Step::Rows`] so far.
    WaitForAll,
}

/// A whole dump.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// The settings of the dump's own session (character set, time zone, SQL mode, no checks), for every other session.
    pub session: String,
    /// What is to be done.
    pub steps: Vec<Step>,
}

/// Headers of text that does not need the rows of other tables.
const INDEPENDENT: [&[u8]; 4] = [
    b"-- Table structure for table ",
    b"-- Temporary table structure for view ",
    b"-- Temporary view structure for view ",
    b"-- Dumping data for table ",
];
/// Schemas whose tables are never taken aside: accounts come in the order of the dump.
const SERVERS_OWN: [&str; 2] = ["USE `mysql`;", "USE `sys`;"];
/// Of a line, so much is looked at; lines of data are longer.
const PREFIX: usize = 2048;

/// Reads the dump once, from its byte `from` on. Rows of at least `large` bytes are taken aside; `u64::MAX`: none.
///
/// # Errors
/// If it cannot be read.
pub fn scan(dump: &mut impl BufRead, from: u64, large: u64) -> io::Result<Script> {
    let mut plan = Plan {
        large,
        text_from: from,
        session: String::new(),
        steps: Vec::new(),
        schema: String::new(),
        in_head: true,
        own_delimiter: true,
        header: None,
        after_rows: false,
        outstanding: false,
        rows_from: None,
    };
    let mut at = from;
    let mut line = Vec::with_capacity(PREFIX);
    loop {
        line.clear();
        let length = read_line(dump, &mut line)?;
        if length == 0 {
            break;
        }
        plan.line(&line, at, at + length);
        at += length;
    }
    plan.text_until(at);
    Ok(Script {
        session: plan.session,
        steps: plan.steps,
    })
}

/// Keeps the beginning of the next line, without its line feed; returns its length with it.
fn read_line(dump: &mut impl BufRead, prefix: &mut Vec<u8>) -> io::Result<u64> {
    let mut length = dump
        .by_ref()
        .take(PREFIX as u64)
        .read_until(b'\n', prefix)? as u64;
    if prefix.last() == Some(&b'\n') {
        prefix.pop();
    } else if length == PREFIX as u64 {
        length += skip_line(dump)?;
    }
    Ok(length)
}

/// Skips to behind the next line feed; returns how many bytes that were.
fn skip_line(dump: &mut impl BufRead) -> io::Result<u64> {
    dump.skip_until(b'\n').map(|n| n as u64)
}

struct Plan {
    large: u64,
    /// Where the text that is not yet in a step begins.
    text_from: u64,
    session: String,
    steps: Vec<Step>,
    schema: String,
    /// Before the first schema.
    in_head: bool,
    own_delimiter: bool,
    /// Whether the header since the latest rows or statement is one of [`INDEPENDENT`].
    header: Option<bool>,
    /// No header has come since rows that were taken aside: this is what belongs to their table.
    after_rows: bool,
    /// Rows were taken aside since the latest [`Step::WaitForAll`].
    outstanding: bool,
    /// The line of the lock on a table after the header of its data.
    rows_from: Option<(u64, u64)>,
}

impl Plan {
    fn line(&mut self, line: &[u8], at: u64, end: u64) {
        if let Some(from) = self.rows_from {
            if line == b"UNLOCK TABLES;" {
                self.rows_from = None;
                self.rows(from, at, end);
            }
            return;
        }
        if let Some(delimiter) = line.strip_prefix(b"DELIMITER ") {
            self.statement(at);
            self.own_delimiter = delimiter == b";";
            return;
        }
        if !self.own_delimiter || line.is_empty() || line == b"--" {
            return;
        }
        if line.starts_with(b"-- ORDER BY: ") || (self.after_rows && line == b"commit;") {
            return; // belongs to the rows; what was taken aside is committed in its own session
        }
        if line.starts_with(b"-- ") {
            self.header = Some(INDEPENDENT.iter().any(|h| line.starts_with(h)));
            self.in_head &=
                !line.starts_with(b"-- Current Database: ") && self.header != Some(true);
            return;
        }
        if self.in_head {
            self.session_setting(line);
        }
        if line.starts_with(b"LOCK TABLES ")
            && line.ends_with(b" WRITE;")
            && self.header == Some(true)
        {
            // Neither their own nor other rows are waited for: no foreign key is checked, no trigger is there yet.
            self.rows_from = Some((at, end));
            return;
        }
        self.statement(at);
        if line.starts_with(b"USE `") {
            self.schema = String::from_utf8(line.to_vec()).unwrap_or_default();
        }
    }

    /// Text that does something begins or goes on at `at`.
    fn statement(&mut self, at: u64) {
        match self.header.take() {
            Some(true) => self.after_rows = false,
            Some(false) => {
                self.after_rows = false;
                if std::mem::take(&mut self.outstanding) {
                    self.text_until(at);
                    self.steps.push(Step::WaitForAll);
                }
            }
            // Triggers, whose table must be full before they are there.
            None if std::mem::take(&mut self.after_rows) => {
                self.text_until(at);
                self.steps.push(Step::WaitForLast);
            }
            None => {}
        }
    }

    /// Rows between their `lock` and its end, a line from `unlock` to `end`.
    fn rows(&mut self, lock: (u64, u64), unlock: u64, end: u64) {
        self.header = None;
        self.after_rows = false;
        let aside = unlock - lock.1 >= self.large
            && self.schema.ends_with("`;")
            && !SERVERS_OWN.contains(&self.schema.as_str())
            && ["NAMES ", "FOREIGN_KEY_CHECKS=0", "SQL_MODE="]
                .iter()
                .all(|s| self.session.contains(s));
        if !aside {
            return; // stays text
        }
        self.text_until(lock.0);
        self.text_from = end;
        let schema = self.schema.clone();
        self.steps.push(Step::Rows {
            range: lock.1..unlock,
            schema,
        });
        self.after_rows = true;
        self.outstanding = true;
    }

    fn text_until(&mut self, end: u64) {
        if end > self.text_from {
            self.steps.push(Step::Text(self.text_from..end));
        }
        self.text_from = end;
    }

    /// Of the dump's head only what is for its session: global settings are made once.
    fn session_setting(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else {
            return;
        };
        let comment = line.starts_with("/*!") || line.starts_with("/*M!");
        if comment
            && line.ends_with("*/;")
            && line.contains(" SET ")
            && !line.to_ascii_uppercase().contains("GLOBAL")
        {
            self.session.push_str(line);
            self.session.push('\n');
        }
    }
}

#[cfg(test)]
mod tests;
