//! What agents answer (agent-api-v2 2.5 to 2.9), as far as it is used.

use crate::seed::Status;
use crate::seed::record::{LeftBy, Load};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `get-agent-data`, as far as it is used (agent-api-v2 2.6).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentData {
    /// Bytes free where dumps go.
    pub backup_dir_disk_free: u64,
    /// Bytes of the data directory; 0 = unknown.
    #[serde(rename = "MySQLDatadirDiskUsed")]
    pub datadir_used: u64,
    /// Bytes free there.
    #[serde(rename = "MySQLDatadirDiskFree")]
    pub datadir_free: u64,
    /// Schemas that are not the server's own.
    #[serde(rename = "MySQLDatabases")]
    pub databases: BTreeMap<String, Database>,
    /// Methods by name (so misspelt, 8.7).
    #[serde(rename = "AvailiableSeedMethods")]
    pub methods: BTreeMap<String, MethodOptions>,
    /// Why others are not available; only our own agents say it.
    #[serde(rename = "UnavailableSeedMethods")]
    pub unavailable: BTreeMap<String, String>,
}

/// A schema in [`AgentData`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Database {
    /// `null` without base tables.
    pub engines: Option<Vec<String>>,
}

/// A method in [`AgentData`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MethodOptions {
    /// Engines that it copies.
    pub supported_engines: Vec<String>,
}

/// `seed-stage-state` (agent-api-v2 2.7).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StageState {
    /// How far it is.
    pub status: Status,
    /// Short text.
    #[serde(default)]
    pub details: String,
    /// Our agents' own addition.
    #[serde(default)]
    pub progress: Option<Bytes>,
    /// Our agents' own addition, of a target only.
    #[serde(default)]
    pub target_data: Option<Load>,
    /// Our agents' own addition, of Backup only.
    #[serde(default)]
    pub source_lock_milliseconds: Option<u64>,
    /// The same: the earlier seed that has left these data incomplete.
    #[serde(default)]
    pub incomplete_since: Option<LeftBy>,
}

/// How much a stage has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Bytes {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes expected, an estimate; 0 = unknown.
    pub total: u64,
}

/// `get-metadata` (agent-api-v2 2.9).
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// Binary log of the source.
    pub log_file: String,
    /// Position in it.
    pub log_pos: u64,
    /// MariaDB's GTID position; absent or empty without one (DESIGN 9).
    #[serde(default)]
    pub gtid_slave_pos: Option<String>,
    /// MySQL's GTID set; empty on MariaDB and without GTIDs.
    #[serde(default)]
    pub gtid_executed: Option<String>,
}

impl Metadata {
    /// The GTID coordinates of whichever family, if there are any.
    pub fn gtid(&self) -> Option<&str> {
        let given = |text: &'_ Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        [&self.gtid_slave_pos, &self.gtid_executed]
            .into_iter()
            .find(|t| given(t))
            .and_then(|t| t.as_deref())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Envelope {
    pub(super) message: String,
    #[serde(default)]
    pub(super) details: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(rename = "MySQLPort")]
    pub(super) mysql_port: u16,
}
