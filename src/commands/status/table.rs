//! The report for a terminal.

use super::report::{AgentState, MysqlState, Report, SeedState};
use crate::sys::host::human_bytes;

/// Lines, each with a word in front.
#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, name: &str, text: impl AsRef<str>) {
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let plain: String = text.as_ref().chars().map(visible).collect();
        self.0 += &format!("{name:<11} {}\n", plain.trim());
    }

    fn agent(&mut self, a: &AgentState) {
        let contact = match a.orchestrator.as_deref() {
            Some("OK") => ", registered with orchestrator",
            Some("BAD") => ", not registered with orchestrator or without contact to it",
            _ => "",
        };
        if a.answers {
            let text = format!("{} answers at {}{contact}", a.hostname, a.address);
            self.line("Agent", text);
        } else {
            self.line("Agent", format!("does not answer at {}", a.address));
        }
        for (url, contact) in &a.orchestrators {
            let not = if contact.registered { "" } else { "not " };
            if !contact.registered || !contact.error.is_empty() {
                self.line("", format!("{url}: {not}registered: {}", contact.error));
            }
        }
    }

    fn mysql(&mut self, m: &MysqlState) {
        let running = match m.running {
            Some(true) => ", running",
            Some(false) => ", not running by service-status-command",
            None => "",
        };
        if m.answers {
            let text = format!("{} answers at {}{running}", m.version, m.address);
            self.line("MySQL", text);
        } else {
            self.line("MySQL", format!("does not answer{running}: {}", m.error));
        }
    }

    fn seed(&mut self, s: &SeedState) {
        let (id, method, side) = (s.seed_id, &s.method, &s.side);
        let state = format!("{} {} since {}", s.stage, s.status, s.timestamp);
        self.line("Seed", format!("{id}, {method}, {side}: {state}"));
        if !s.details.is_empty() {
            self.line("", &s.details);
        }
        if let Some(p) = s.progress {
            let mut text = human_bytes(p.bytes);
            if p.total > 0 {
                text += &format!(" of about {}", human_bytes(p.total));
            }
            self.line("Progress", text);
        }
        if let Some(state) = &s.incomplete {
            let text = format!("{state}: do not use them until a new seed is complete");
            self.line("", text);
        }
    }
}

pub(super) fn table(r: &Report) -> String {
    let mut out = Table::default();
    out.agent(&r.agent);
    out.mysql(&r.mysql);
    for d in &r.disks {
        let (free, total) = (human_bytes(d.free), human_bytes(d.total));
        out.line(d.what, format!("{}: {free} of {total} free", d.path));
    }
    match &r.seed {
        None => out.line("Seed", "none known"),
        Some(seed) => out.seed(seed),
    }
    if let Some(s) = &r.unfinished_swap {
        let text = format!("seed {}, unfinished: {}", s.seed_id, s.reason);
        out.line("Swap", text);
    }
    for o in &r.old_data {
        let bytes = human_bytes(o.bytes);
        out.line("Old data", format!("{bytes} in {}", o.path));
    }
    for note in &r.notes {
        out.line("Note", note);
    }
    out.0
}
