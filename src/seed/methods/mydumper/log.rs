//! What mydumper and myloader say while they work. An exit status of 0 is not enough: mydumper goes on without locks, and
//! myloader goes on after statements that failed.

use serde_json::Value;

/// A program's log so far.
#[derive(Debug, Default)]
pub struct Log {
    /// The first thing with which the dump or load is not what it must be.
    pub failure: Option<String>,
    /// How many there were.
    pub failures: usize,
}

/// Warnings with which the coordinates are not the dump's (tool-compatibility 5, mydumper issue 1599).
const FATAL_WARNINGS: [&str; 2] = ["no-locks mode", "might not be consistent"];

impl Log {
    /// Judges one line.
    pub fn take(&mut self, program: &str, line: &str) {
        let (bad, text) = match serde_json::from_str::<Value>(line.trim()) {
            Ok(Value::Object(event)) => {
                let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
                let flag = |key: &str| event.get(key) == Some(&Value::Bool(true));
                let errors = event.get("errors").and_then(Value::as_u64).unwrap_or(0);
                // What it tries again is told once more if that fails too.
                let failed = (word("status") == "failed" && !flag("retryable"))
                    || (word("event").ends_with("_completed") && errors > 0)
                    || flag("fatal")
                    || ["critical", "error"]
                        .iter()
                        .any(|l| word("level").eq_ignore_ascii_case(l));
                let text = match word("message") {
                    "" => word("event").to_string(),
                    message => message.to_string(),
                };
                (failed, text)
            }
            _ => {
                let failed = ["CRITICAL **", "ERROR **", "[CRITICAL]", "[ERROR]"];
                let text = said(line);
                (
                    failed.iter().any(|mark| line.contains(mark))
                        || text.starts_with("option parsing failed"),
                    text.to_string(),
                )
            }
        };
        if bad || FATAL_WARNINGS.iter().any(|w| text.contains(w)) {
            self.failures += 1;
            if self.failure.is_none() {
                self.failure = Some(text);
            }
        } else if line.contains("WARNING") || line.contains("\"warning\"") {
            log::warn!("{program}: {text}");
        }
    }
}

/// The words of a line without what GLib puts before them: `** (myloader:7): CRITICAL **: 09:08:14.104: `.
fn said(line: &str) -> &str {
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

/// The name of the dump's file that the line says is being loaded, if there is one.
pub fn file_of(line: &str) -> Option<String> {
    if let Ok(Value::Object(event)) = serde_json::from_str::<Value>(line.trim()) {
        let name = event.get("filename").and_then(Value::as_str)?;
        return Some(name.rsplit('/').next().unwrap_or(name).to_string());
    }
    let (_, rest) = line
        .split_once("restoring ")
        .or_else(|| line.split_once("Restoring "))?;
    let separators = |c: char| c.is_whitespace() || ",|".contains(c);
    if let Some(name) = rest
        .split(separators)
        .find(|w| w.contains(".sql") || w.contains(".dat"))
    {
        return Some(name.rsplit('/').next().unwrap_or(name).to_string());
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
mod tests {
    use super::*;

    fn judge(lines: &[&str]) -> Log {
        let mut log = Log::default();
        for line in lines {
            log.take("mydumper", line);
        }
        log
    }

    #[test]
    fn failures_are_heard_at_exit_status_0() {
        for (line, failure) in [
            (
                "** (myloader:25598): CRITICAL **: 09:08:14.911: Error restoring shop.v: FUNCTION shop.fn does not exist",
                "Error restoring shop.v: FUNCTION shop.fn does not exist",
            ),
            (
                "** (mydumper:7): ERROR **: 09:08:14.911: out of memory",
                "out of memory",
            ),
            (
                "2026-11-20 10:11:12 [ERROR] - Could not read data from shop.f: Lost connection",
                "Could not read data from shop.f: Lost connection",
            ),
            (
                "** (mydumper:7): WARNING **: 10:11:12.000: Executing in no-locks mode, snapshot might not be consistent",
                "Executing in no-locks mode, snapshot might not be consistent",
            ),
            (
                "** (mydumper:7): WARNING **: Executing in no-locks mode, snapshot will notbe consistent",
                "Executing in no-locks mode, snapshot will notbe consistent",
            ),
            (
                "option parsing failed: Unknown option --nonsense, try --help",
                "option parsing failed: Unknown option --nonsense, try --help",
            ),
            (
                r#"{"schema_version":1,"event":"restore_sql","status":"failed","fatal":false,"message":"Duplicate entry"}"#,
                "Duplicate entry",
            ),
            (
                r#"{"event":"restore_completed","status":"finished","errors":2,"exit_code":0}"#,
                "restore_completed",
            ),
            (
                r#"{"schema_version":1,"event":"process_error","status":"progress","fatal":true}"#,
                "process_error",
            ),
        ] {
            let log = judge(&[
                "** Message: 09:13:52.096: Connected to a MySQL server",
                line,
                line,
            ]);
            assert_eq!(log.failure.as_deref(), Some(failure));
            assert_eq!(log.failures, 2);
        }
    }

    #[test]
    fn other_lines_are_no_failures() {
        let log = judge(&[
            "** Message: 09:13:53.080: Thread 2 restoring `shop`.`CRITICAL` part 0",
            "** (mydumper:7): WARNING **: Using trx_consistency_only, binlog coordinates will not be accurate",
            r#"{"schema_version":1,"event":"restore_file","status":"finished","fatal":false,"level":"message"}"#,
            r#"{"event":"restore_sql","status":"failed","retryable":true,"message":"Lock wait timeout exceeded"}"#,
            r#"{"event":"dump_completed","status":"finished","errors":0,"exit_code":0}"#,
            "",
        ]);
        assert_eq!((log.failure, log.failures), (None, 0));
    }

    #[test]
    fn files_by_what_is_said_of_them() {
        for (line, file) in [
            (
                "** Message: 09:13:53.080: Thread 2 restoring `shop`.`f` part 0",
                Some("shop.f.sql"),
            ),
            (
                "** Message: 09:13:53.080: Thread 2 restoring `my shop`.`f g` part 12",
                Some("my shop.f g.00012.sql"),
            ),
            (
                "** Message: Thread 1: restoring shop.f part 3 of 4 from shop.f.00003.sql.zst | Progress 1 of 2. Tables 3 of 9 completed",
                Some("shop.f.00003.sql.zst"),
            ),
            (
                r#"{"event":"restore_file","filename":"/b/shop.f.00000.sql","status":"started"}"#,
                Some("shop.f.00000.sql"),
            ),
            ("** Message: Creating table `shop`.`f`", None),
            (r#"{"event":"process_version"}"#, None),
        ] {
            assert_eq!(file_of(line).as_deref(), file, "{line}");
        }
    }
}
