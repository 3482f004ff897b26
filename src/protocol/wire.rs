//! The JSON of the agent's protocol, once for server and clients. Names and order of the keys are those of the Go agents, misspelt
//! ones included. What only this agent adds is optional: orchestrator drops it, and other agents do not send it.

use crate::config::Secret;
use crate::seed::record::{LeftBy, Load};
use crate::seed::{Method, Side, Stage, Status};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The message of a wrong token, by which clients of the agents know it.
pub(crate) const INVALID_TOKEN: &str = "Invalid token";

/// The protocol of an answer. Each orchestrator has a token of its own, and calls with it are answered by the protocol in use with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    V2,
    /// That of orchestrator 3.2.6 and of its forks.
    Classic,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::Classic => "classic",
        })
    }
}

/// `GET /api/get-agent-info`, and the body of `POST /api/register-agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentInfo {
    /// The name under which orchestrator knows the MySQL instance.
    pub(crate) hostname: String,
    pub(crate) port: u16,
    /// Empty in the answer of `get-agent-info`, unless `common.expose-token-in-agent-info` is set.
    #[serde(serialize_with = "reveal", deserialize_with = "secret")]
    pub(crate) token: Secret,
    #[serde(rename = "MySQLPort")]
    pub(crate) mysql_port: u16,
}

fn reveal<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.reveal())
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// `GET /api/get-agent-data`. Sizes in bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AgentData {
    pub(crate) local_snapshots_hosts: Vec<String>,
    pub(crate) snaphost_hosts: Vec<String>,
    pub(crate) logical_volumes: Vec<String>,
    /// Never null: orchestrator dereferences it.
    pub(crate) mount_point: Mount,
    pub(crate) backup_dir: String,
    pub(crate) backup_dir_disk_free: u64,
    pub(crate) backup_dir_disk_used: u64,
    #[serde(rename = "MySQLRunning")]
    pub(crate) mysql_running: bool,
    #[serde(rename = "MySQLDatadir")]
    pub(crate) datadir: String,
    /// 0 = unknown.
    #[serde(rename = "MySQLDatadirDiskUsed")]
    pub(crate) datadir_used: u64,
    #[serde(rename = "MySQLDatadirDiskFree")]
    pub(crate) datadir_free: u64,
    /// Schemas that are not the server's own.
    #[serde(rename = "MySQLDatabases")]
    pub(crate) databases: BTreeMap<String, Database>,
    #[serde(rename = "AvailiableSeedMethods")]
    pub(crate) methods: BTreeMap<String, MethodOptions>,
    pub(crate) agent_commands: Option<Vec<String>>,
    #[serde(rename = "NumCPU")]
    pub(crate) num_cpu: usize,
    pub(crate) mem_total: u64,
    pub(crate) os_name: String,
    /// Why enabled methods cannot be used. Sent by this agent only.
    #[serde(rename = "UnavailableSeedMethods")]
    pub(crate) unavailable: BTreeMap<String, String>,
    /// The contact with each orchestrator, by URL. Sent by this agent only.
    pub(crate) orchestrators: BTreeMap<String, Contact>,
}

/// The contact with one orchestrator, in [`AgentData`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Contact {
    /// It has accepted a registration of this process.
    pub(crate) registered: bool,
    /// Why the last call failed; empty if it succeeded.
    pub(crate) error: String,
    /// The agent protocol in use, `v2` or `classic`; empty before the first registration.
    pub(crate) protocol: String,
    /// RFC 3339: since when this protocol is in use.
    pub(crate) since: String,
}

impl Contact {
    /// `v2 since 2026-01-01T00:00:00Z; registered`, without the error, which may say what only holders of the token may know.
    pub(crate) fn summary(&self) -> String {
        let protocol = if self.protocol.is_empty() {
            String::new()
        } else {
            format!("{} since {}; ", self.protocol, self.since)
        };
        let not = if self.registered { "" } else { "not " };
        format!("{protocol}{not}registered")
    }
}

/// A mounted snapshot; empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    pub(crate) path: String,
    pub(crate) device: String,
    #[serde(rename = "LVPath")]
    pub(crate) lv_path: String,
    pub(crate) file_system: String,
    pub(crate) is_mounted: bool,
    /// Bytes.
    pub(crate) disk_usage: u64,
    /// Of the classic protocol only, as the next.
    #[serde(rename = "MySQLDataPath", skip_serializing_if = "Option::is_none")]
    pub(crate) mysql_data_path: Option<String>,
    /// Bytes: orchestrator takes it for the size of the copy.
    #[serde(rename = "MySQLDiskUsage", skip_serializing_if = "Option::is_none")]
    pub(crate) mysql_disk_usage: Option<u64>,
}

/// A logical volume, as the classic protocol lists them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LogicalVolume {
    pub(crate) name: String,
    pub(crate) group_name: String,
    /// orchestrator sends it in a query without escaping it: letters, digits and `/_.:-` only.
    pub(crate) path: String,
    pub(crate) is_snapshot: bool,
    /// How full a snapshot is. The Go agent reads it as a number of 32 bits and writes it as one of 64.
    #[serde(serialize_with = "as_go_writes_it")]
    pub(crate) snapshot_percent: f32,
}

fn as_go_writes_it<S: Serializer>(percent: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if percent.fract() == 0.0 {
        serializer.serialize_i64(*percent as i64)
    } else {
        serializer.serialize_f64(f64::from(*percent))
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Database {
    /// `null` without base tables.
    pub(crate) engines: Option<Vec<String>>,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MethodOptions {
    pub(crate) backup_side: String,
    pub(crate) supported_engines: Vec<String>,
    pub(crate) backup_to_datadir: bool,
}

/// `GET /api/seed-stage-state`, and a stage in [`ActiveSeed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StageState {
    #[serde(rename = "SeedID")]
    pub(crate) seed_id: i64,
    pub(crate) stage: Stage,
    #[serde(default)]
    pub(crate) hostname: String,
    /// RFC 3339.
    #[serde(default)]
    pub(crate) timestamp: String,
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) details: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
    /// Of a target only: what has become of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_data: Option<Load>,
    /// Of Backup only: the longest time for which the source's writes were held up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_lock_milliseconds: Option<u64>,
    /// The earlier seed that has left these data incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incomplete_since: Option<LeftBy>,
}

/// Bytes done, and bytes expected, an estimate; `Total` 0 = unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) total: u64,
}

/// `GET /api/active-seed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ActiveSeed {
    #[serde(rename = "SeedID")]
    pub(crate) seed_id: i64,
    pub(crate) seed_status: Status,
    pub(crate) method: Method,
    pub(crate) side: Side,
    pub(crate) stage: Stage,
    /// By [`Stage::number`]; `null` before the first seed.
    pub(crate) stages_details: Option<BTreeMap<usize, StageState>>,
}

/// `GET /api/get-metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Metadata {
    pub(crate) log_file: String,
    pub(crate) log_pos: u64,
    /// MySQL's GTID set; empty on MariaDB and without GTIDs.
    #[serde(default)]
    pub(crate) gtid_executed: Option<String>,
    /// MariaDB's GTID position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gtid_slave_pos: Option<String>,
}

impl Metadata {
    /// The GTID coordinates of whichever family, if there are any.
    pub(crate) fn gtid(&self) -> Option<&str> {
        let sets = [&self.gtid_slave_pos, &self.gtid_executed];
        sets.into_iter()
            .flatten()
            .map(String::as_str)
            .find(|g| !g.is_empty())
    }
}

/// The answer to a call that failed (with status 500), and to one that answers with a text only.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Envelope {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) details: Option<String>,
}

impl Envelope {
    /// `code` is `OK` or `ERROR`.
    pub(crate) fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            details: None,
        }
    }
}

/// `GET /api/hold-applier`, a call of `seed --verify`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HeldApplier {
    /// `MASTER_DELAY` or `SOURCE_DELAY` of the channel, in seconds.
    pub(crate) delay: u64,
    /// The call must be repeated within this time.
    pub(crate) lease_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_mounts_are_written_as_the_go_agent_writes_them() {
        let mut volume = LogicalVolume {
            name: "mysql-snap-20260101".into(),
            group_name: "vg0".into(),
            path: "/dev/vg0/mysql-snap-20260101".into(),
            is_snapshot: true,
            snapshot_percent: 12.34,
        };
        assert_eq!(
            serde_json::to_string(&volume).unwrap(),
            "{\"Name\":\"mysql-snap-20260101\",\"GroupName\":\"vg0\",\"Path\":\"/dev/vg0/mysql-snap-20260101\",\"IsSnapshot\":true,\
             \"SnapshotPercent\":12.34000015258789}"
        );
        volume.snapshot_percent = 0.0;
        let text = serde_json::to_string(&volume).unwrap();
        assert!(text.ends_with("\"SnapshotPercent\":0}"), "{text}");
        let mut mount = Mount::default();
        const V2: &str = "{\"Path\":\"\",\"Device\":\"\",\"LVPath\":\"\",\"FileSystem\":\"\",\"IsMounted\":false,\"DiskUsage\":0";
        assert_eq!(serde_json::to_string(&mount).unwrap(), format!("{V2}}}"));
        (mount.mysql_data_path, mount.mysql_disk_usage) = (Some(String::new()), Some(0));
        let classic = format!("{V2},\"MySQLDataPath\":\"\",\"MySQLDiskUsage\":0}}");
        assert_eq!(serde_json::to_string(&mount).unwrap(), classic);
    }
}
