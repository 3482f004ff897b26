//! What mydumper and myloader write while they work. An exit status of 0 is not enough: mydumper goes on without locks, and
//! myloader goes on after statements that failed.

use serde_json::{Map, Value};

#[derive(Debug, Default)]
pub(super) struct Log {
    /// The first failure with a cause.
    failure: Option<String>,
    /// The first failure that another line explains.
    unexplained: Option<String>,
    /// Lines since then.
    since: usize,
    /// The last warning: it is logged once if it repeats.
    warning: String,
}

/// A line of a failure, in GLib's format or with a level in brackets, as the versions from 0.10.0 to 1.0.1 write it.
const FAILED: [&str; 4] = ["CRITICAL **", "ERROR **", "[CRITICAL]", "[ERROR]"];
/// GLib's parser of the command line, which writes no level.
const BAD_OPTION: &str = "option parsing failed";
/// Warnings with which the coordinates are not the dump's (mydumper issue 1599), or rows are not those of the dump.
const FATAL_WARNINGS: [&str; 4] = [
    "no-locks mode",
    "might not be consistent",
    // myloader 0.21.4 and later counts the warnings of each INSERT: a value was changed to fit its column.
    "insert warnings found",
    "Warnings found during INSERT",
];

/// Of `--machine-log-json`: the event of a message for people. A failed event of another kind, such as `restore_sql` with the message
/// "restore retry failed", comes right before such a message, which names what failed.
const FOR_PEOPLE: [&str; 2] = ["process_error", "process_warning"];
/// How many lines after such an event its message is waited for.
const PATIENCE: usize = 20;

impl Log {
    pub(super) fn take(&mut self, program: &str, line: &str) {
        self.since += usize::from(self.unexplained.is_some());
        let (bad, text, explained) = match event(line) {
            Some(event) => {
                let kind = event.get("event").and_then(Value::as_str);
                let explained = kind.is_none_or(|k| FOR_PEOPLE.contains(&k));
                (has_failed(&event), text_of(&event), explained)
            }
            None => {
                let text = message(line);
                let failed = FAILED.iter().any(|mark| line.contains(mark));
                (failed || text.starts_with(BAD_OPTION), text, true)
            }
        };
        if bad || FATAL_WARNINGS.iter().any(|w| text.contains(w)) {
            let slot = if explained {
                &mut self.failure
            } else {
                &mut self.unexplained
            };
            slot.get_or_insert(text);
        } else if (line.contains("WARNING") || line.contains("\"warning\"")) && text != self.warning
        {
            log::warn!("{program}: {text}");
            self.warning = text;
        }
    }

    /// Whether it is known that and why the dump or load is not what it must be.
    pub(super) fn is_failed(&self) -> bool {
        self.failure.is_some() || self.since > PATIENCE
    }

    /// The first failure; it is one at any exit status.
    pub(super) fn cause(&self) -> Option<&str> {
        self.failure.as_deref().or(self.unexplained.as_deref())
    }
}

/// True if mydumper dumps rows from here on: `Thread 1 dumping data for ...` (0.10 to 1.0.1).
pub(super) fn dumps_rows(line: &str) -> bool {
    line.contains("dumping ")
}

/// mydumper 0.10.1 writes this, with exit status 1, of a job of no kind: it has read memory that was freed (process_queue in mydumper.c).
pub(super) fn is_of_freed_memory(failure: &str) -> bool {
    failure.contains("Something very bad happened!")
}

/// A line of `--machine-log-json`.
fn event(line: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(line.trim().as_bytes()) {
        Ok(Value::Object(event)) => Some(event),
        _ => None,
    }
}

fn word<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// By its level, or by the number in the summary at the end. `"status":"failed"` alone does not tell: 1.0.1 writes it at level
/// INFO of each server without TokuDB. Numbers are strings in some events, such as `"errors":"0"`.
fn has_failed(event: &Map<String, Value>) -> bool {
    let level = |l: &&str| word(event, "level").eq_ignore_ascii_case(l);
    let number = |key: &str| match event.get(key) {
        Some(Value::Number(n)) => n.as_u64().unwrap_or(1),
        Some(Value::String(s)) => s.parse().unwrap_or(1),
        _ => 0,
    };
    let is_summary = word(event, "event").ends_with("_completed");
    ["critical", "error"].iter().any(level)
        || (is_summary && (number("errors") > 0 || number("exit_code") > 0))
}

/// The first line of its message: a second one may be a statement.
fn text_of(event: &Map<String, Value>) -> String {
    let text = match word(event, "message") {
        "" => word(event, "event"),
        message => message,
    };
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// A line as text for people, of either form.
pub(super) fn message(line: &str) -> String {
    event(line).map_or_else(|| without_prefix(line).to_string(), |e| text_of(&e))
}

/// The words of a line without what GLib puts before them: `** (myloader:7): CRITICAL **: 09:08:14.104: `.
fn without_prefix(line: &str) -> &str {
    let text = line
        .split_once(" **: ")
        .or_else(|| line.split_once("] - "))
        .map_or(line, |(_, text)| text)
        .trim();
    match text.split_once(": ") {
        Some((time, rest))
            if time
                .bytes()
                .all(|b| b.is_ascii_digit() || b":.".contains(&b)) =>
        {
            rest
        }
        _ => text,
    }
}

/// The name of the dump's file that is being loaded by the line, if there is one.
pub(super) fn file_of(line: &str) -> Option<String> {
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_string();
    if let Some(event) = event(line) {
        return event.get("filename").and_then(Value::as_str).map(base);
    }
    let (_, rest) = line
        .split_once("restoring ")
        .or_else(|| line.split_once("Restoring "))?;
    let separators = |c: char| c.is_whitespace() || ",|".contains(c);
    let is_file = |w: &&str| w.contains(".sql") || w.contains(".dat");
    if let Some(name) = rest.split(separators).find(is_file) {
        return Some(base(name));
    }
    // 0.9 and 0.10: Thread 2 restoring `shop`.`f` part 0
    let (schema, rest) = rest.strip_prefix('`')?.split_once("`.`")?;
    let (table, part) = rest.rsplit_once("` part ")?;
    match part.trim().parse::<u32>().ok()? {
        0 => Some(format!("{schema}.{table}.sql")),
        n => Some(format!("{schema}.{table}.{n:05}.sql")),
    }
}

#[cfg(test)]
mod tests;
