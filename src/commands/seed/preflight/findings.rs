//! What the checks report.

use crate::commands::seed::event::{Event, Listener};
use crate::error::Result;

pub(super) struct Findings<'a> {
    pub(super) events: &'a dyn Listener,
    pub(super) problems: usize,
}

impl Findings<'_> {
    pub(super) fn problem(&mut self, text: impl AsRef<str>) {
        self.problems += 1;
        self.report(false, text.as_ref());
    }

    pub(super) fn ok(&self, text: impl AsRef<str>) {
        self.report(true, text.as_ref());
    }

    fn report(&self, ok: bool, text: &str) {
        self.events.report(&Event::Preflight { ok, text });
    }

    pub(super) fn warn(&self, text: impl AsRef<str>) {
        self.events.warn(text.as_ref());
    }

    /// The value, or the error as a finding.
    pub(super) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problem(e.to_string())).ok()
    }
}
