//! The report of the `status` command, as JSON has it.

use crate::protocol::Contact;
use crate::protocol::wire::Progress;
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
    /// An unfinished swap of the data directory; null if there is none.
    pub(super) unfinished_swap: Option<SwapState>,
    /// Old data of earlier seeds.
    pub(super) old_data: Vec<OldData>,
    /// What could not be known, and why.
    pub(super) notes: Vec<String>,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
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

#[derive(Serialize)]
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
    /// How far it is.
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
