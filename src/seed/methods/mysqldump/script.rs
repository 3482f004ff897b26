//! A dump seen as a plan for loading: which parts of it are the rows of one large table and may be loaded beside the rest, in
//! a session of their own, and which text has to wait for them.
//!
//! mysqldump and mariadb-dump (all versions of tool-compatibility 3) write the rows of a table between the lines
//! ``LOCK TABLES `t` WRITE;`` and `UNLOCK TABLES;`, after the header ``-- Dumping data for table `t` ``. Line breaks in values are
//! escaped, so no line of data looks like these. Its triggers follow at once, without a header: they are made when
//! all rows are in. Where a dump looks otherwise (options may leave out locks or comments) nothing is taken aside, and the whole
//! of it is text for one session.
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
    /// Rows of one table, for a session of their own.
    Rows {
        /// Where they are.
        range: Range<u64>,
        /// The statement that selects their schema.
        schema: String,
        /// Other sessions load rows of the same table at the same time.
        shared: bool,
    },
    /// A statement that the dump does not have in this place, for the main session.
    Say(String),
    /// The main session waits for all [`Step::Rows`] so far.
    Wait,
}

/// A whole dump.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// The settings of the dump's own session (character set, time zone, SQL mode, no checks), for every other session.
    pub session: String,
    /// What is to be done.
    pub steps: Vec<Step>,
}

/// Headers of text that does not need the rows of any table: it defines things. Only triggers do something with rows.
const INDEPENDENT: [&[u8]; 9] = [
    b"-- Current Database: ",
    b"-- Table structure for table ",
    b"-- Sequence structure for ",
    b"-- Temporary table structure for view ",
    b"-- Temporary view structure for view ",
    b"-- Final view structure for view ",
    b"-- Dumping data for table ",
    b"-- Dumping events for database ",
    b"-- Dumping routines for database ",
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
        triggers: false,
        deferred: Vec::new(),
        rows_from: None,
        statements: Vec::new(),
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
    plan.header = Some(false); // the end waits for everything
    plan.statement(at);
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

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|w| w == part)
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
    /// Rows were taken aside since the latest [`Step::Wait`].
    outstanding: bool,
    /// This text makes triggers of a table whose rows were taken aside.
    triggers: bool,
    /// Such texts, with their schema, since the latest [`Step::Wait`].
    deferred: Vec<(String, Range<u64>)>,
    /// The line of the lock on a table after the header of its data.
    rows_from: Option<(u64, u64)>,
    /// Where statements among them begin, each at least twice `large` bytes behind the one before.
    statements: Vec<u64>,
}

impl Plan {
    fn line(&mut self, line: &[u8], at: u64, end: u64) {
        if let Some(lock) = self.rows_from {
            let before = self.statements.last().unwrap_or(&lock.1);
            if line == b"UNLOCK TABLES;" {
                self.rows_from = None;
                self.rows(lock, at, end);
            } else if line.starts_with(b"INSERT ") && at - before >= self.large.saturating_mul(2) {
                self.statements.push(at);
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
        } else if line.starts_with(b"/*") && contains(line, b"=@OLD_") {
            self.header = Some(false); // the end of the dump: the session's settings are no longer its own
        }
        if line.starts_with(b"LOCK TABLES ")
            && line.ends_with(b" WRITE;")
            && self.header == Some(true)
        {
            // Other rows are not waited for: no foreign key is checked, no trigger is there yet.
            self.end_triggers(at);
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
        let Some(independent) = self.header.take() else {
            // Triggers, whose table must be full before they are there: they come later.
            if std::mem::take(&mut self.after_rows) {
                self.text_until(at);
                self.triggers = true;
            }
            return;
        };
        self.after_rows = false;
        self.end_triggers(at);
        if independent || !std::mem::take(&mut self.outstanding) {
            return;
        }
        self.text_until(at);
        self.steps.push(Step::Wait);
        let deferred = std::mem::take(&mut self.deferred);
        let back = (!deferred.is_empty()).then(|| self.schema.clone());
        for (schema, text) in deferred {
            self.steps.push(Step::Say(schema));
            self.steps.push(Step::Text(text));
        }
        self.steps.extend(back.map(Step::Say));
    }

    fn end_triggers(&mut self, at: u64) {
        if std::mem::take(&mut self.triggers) {
            self.deferred
                .push((self.schema.clone(), self.text_from..at));
            self.text_from = at;
        }
    }

    /// Rows between their `lock` and its end, a line from `unlock` to `end`.
    fn rows(&mut self, lock: (u64, u64), unlock: u64, end: u64) {
        self.header = None;
        self.after_rows = false;
        let statements = std::mem::take(&mut self.statements);
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
        // One table may be most of a server: its parts are loaded at once as well, in at most 65.
        let few = statements.len().div_ceil(64).max(1);
        let mut parts: Vec<u64> = statements.into_iter().step_by(few).collect();
        parts.push(unlock);
        let shared = parts.len() > 1;
        let mut from = lock.1;
        for to in parts {
            let schema = self.schema.clone();
            self.steps.push(Step::Rows {
                range: from..to,
                schema,
                shared,
            });
            from = to;
        }
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
