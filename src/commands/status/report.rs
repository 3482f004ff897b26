//! The report of the `status` command, as JSON has it and for a terminal.

use crate::protocol::wire::{Contact, Progress};
use crate::sys::host::human_bytes;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Report {
    pub(super) agent: AgentState,
    #[serde(rename = "MySQL")]
    pub(super) mysql: MysqlState,
    pub(super) disks: Vec<Disk>,
    pub(super) seed: Option<SeedState>,
    /// Of the data directory.
    pub(super) unfinished_swap: Option<SwapState>,
    pub(super) old_data: Vec<OldData>,
    pub(super) notes: Vec<String>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentState {
    pub(super) answers: bool,
    pub(super) address: String,
    pub(super) hostname: String,
    /// `OK`, or `BAD` without a registration or contact to orchestrator for `status-bad-seconds`; null if unknown.
    pub(super) orchestrator: Option<String>,
    /// The contact with each orchestrator, by URL; empty if unknown.
    pub(super) orchestrators: BTreeMap<String, Contact>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MysqlState {
    pub(super) answers: bool,
    pub(super) address: String,
    pub(super) version: String,
    /// What `service-status-command` reports to the agent; null if unknown.
    pub(super) running: Option<bool>,
    pub(super) error: String,
}

/// Sizes in bytes.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Disk {
    pub(super) what: &'static str,
    pub(super) path: String,
    pub(super) free: u64,
    pub(super) total: u64,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SeedState {
    /// `agent`, or `record` for the file seeds.json.
    pub(super) origin: &'static str,
    #[serde(rename = "SeedID")]
    pub(super) seed_id: i64,
    pub(super) method: String,
    pub(super) side: String,
    pub(super) stage: String,
    pub(super) status: String,
    pub(super) details: String,
    /// RFC 3339, of the last change of status.
    pub(super) timestamp: String,
    pub(super) progress: Option<Progress>,
    /// The target's data are incomplete; null if the record cannot be read.
    pub(super) load_incomplete: Option<bool>,
    /// What has become of them; null if they are complete or unknown.
    pub(super) incomplete: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SwapState {
    #[serde(rename = "SeedID")]
    pub(super) seed_id: i64,
    pub(super) step: String,
    /// What that means for MySQL, and what to do.
    pub(super) reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OldData {
    pub(super) path: String,
    pub(super) bytes: u64,
}

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
        let text = if a.answers {
            format!("{} answers at {}{contact}", a.hostname, a.address)
        } else {
            format!("does not answer at {}", a.address)
        };
        self.line("Agent", text);
        for (url, contact) in &a.orchestrators {
            let colon = if contact.error.is_empty() { "" } else { ": " };
            let text = format!("{url}: {}{colon}{}", contact.summary(), contact.error);
            self.line("", text);
        }
    }

    fn mysql(&mut self, m: &MysqlState) {
        let running = match m.running {
            Some(true) => ", running",
            Some(false) => ", not running by service-status-command",
            None => "",
        };
        let text = if m.answers {
            format!("{} answers at {}{running}", m.version, m.address)
        } else {
            format!("does not answer{running}: {}", m.error)
        };
        self.line("MySQL", text);
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
            self.line(
                "",
                format!("{state}: do not use them until a new seed is complete"),
            );
        }
    }
}

impl Report {
    pub(super) fn table(&self) -> String {
        let mut out = Table::default();
        out.agent(&self.agent);
        out.mysql(&self.mysql);
        for d in &self.disks {
            let (free, total) = (human_bytes(d.free), human_bytes(d.total));
            out.line(d.what, format!("{}: {free} of {total} free", d.path));
        }
        match &self.seed {
            None => out.line("Seed", "none known"),
            Some(seed) => out.seed(seed),
        }
        if let Some(s) = &self.unfinished_swap {
            let text = format!("seed {}, unfinished: {}", s.seed_id, s.reason);
            out.line("Swap", text);
        }
        for o in &self.old_data {
            let bytes = human_bytes(o.bytes);
            out.line("Old data", format!("{bytes} in {}", o.path));
        }
        for note in &self.notes {
            out.line("Note", note);
        }
        out.0
    }
}
