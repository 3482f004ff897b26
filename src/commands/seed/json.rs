//! Events for programs: one JSON object a line on standard output.

use super::event::{Event, Listener};
use crate::sys::host::rfc3339;
use crate::sys::thread::lock;
use serde::Serialize;
use std::io::Write;
use std::sync::Mutex;
use std::time::SystemTime;

#[cfg(test)]
mod tests;

#[derive(Default)]
pub(crate) struct JsonLines {
    /// The result was written, which is the last line.
    is_over: Mutex<bool>,
}

impl Listener for JsonLines {
    fn report(&self, event: &Event) {
        if matches!(event, Event::Interrupting) {
            return;
        }
        let mut is_over = lock(&self.is_over);
        if *is_over {
            return;
        }
        *is_over = matches!(event, Event::Result(_));
        match line(event) {
            // Fails where the reader is gone.
            Ok(line) => drop(writeln!(std::io::stdout(), "{line}")),
            Err(e) => drop(writeln!(
                std::io::stderr(),
                "error: an event cannot be written: {e}"
            )),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The line of an event that happens now, without a line end.
fn line(event: &Event) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        time: rfc3339(SystemTime::now()),
        event,
    })
}
