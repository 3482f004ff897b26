//! What the methods remember in the record between their stages. The names are those of the record's file.

use crate::contents::row_mode::Tables;
use crate::datadir::DatadirInfo;
use crate::mysql::Fingerprint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of Mysqldump and Mydumper.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogicalState {
    /// Bytes of the dump when Backup was completed.
    pub(crate) dump_bytes: u64,
    pub(crate) source_schemas: Vec<String>,
    /// Of the source's tables, as it estimates them.
    pub(crate) source_bytes: u64,
    /// Settings of the source that the load must have.
    pub(crate) source_variables: BTreeMap<String, String>,
    /// Tables of the dump that cannot be loaded in strict mode.
    pub(crate) lenient_tables: Tables,
    /// The target's server as Prepare has seen it: Restore loads no other.
    pub(crate) target_server: Option<Fingerprint>,
}

/// Of the methods that replace the data directory; in a classic seed also of those that load a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PhysicalState {
    /// The data directory, so that Restore works while MySQL is down.
    pub(crate) datadir: Option<Box<DatadirInfo>>,
    /// What a CLONE has begun.
    pub(crate) cloning: Option<CloneMode>,
    /// What `--prepare` has done to the staged copy, or the load of a dump.
    pub(crate) applied: Applied,
}

/// How a CLONE is made, for the stages after it. The record has two flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CloneFlags", into = "CloneFlags")]
pub(crate) enum CloneMode {
    /// By a private server, into the staging directory.
    Staged,
    /// By the running server, which restarts with the copy.
    InPlace,
    /// The same, but MySQL has shut down with the copy and is not started by a supervisor (error 3707).
    InPlaceDown,
}

#[derive(Serialize, Deserialize)]
struct CloneFlags {
    in_place: bool,
    is_down: bool,
}

impl From<CloneFlags> for CloneMode {
    fn from(flags: CloneFlags) -> Self {
        match (flags.in_place, flags.is_down) {
            (false, _) => Self::Staged,
            (true, false) => Self::InPlace,
            (true, true) => Self::InPlaceDown,
        }
    }
}

impl From<CloneMode> for CloneFlags {
    fn from(mode: CloneMode) -> Self {
        Self {
            in_place: mode != CloneMode::Staged,
            is_down: mode == CloneMode::InPlaceDown,
        }
    }
}

/// How far `--prepare` of a staged copy is, or the load of a dump into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Applied {
    /// The copy is as the tool on the source has sent it; the private server is empty.
    #[default]
    No,
    /// `--prepare` was started: it may have changed any file of the copy.
    Begun,
    /// It has completed. The tool's own files may be gone from the copy since, so that it cannot run again.
    Completed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::record::Seed;
    use crate::seed::{Method, Side};

    #[test]
    fn the_record_keeps_it_under_the_names_of_earlier_versions() {
        let seed = Seed::new(7, Method::ClonePlugin, Side::Target);
        let mut record = serde_json::to_value(&seed).unwrap();
        let keys = record.as_object_mut().unwrap();
        keys.insert("dump_bytes".into(), 5.into());
        keys.insert("source_schemas".into(), serde_json::json!(["shop"]));
        keys.insert("datadir".into(), serde_json::Value::Null);
        keys.insert("applied".into(), "Begun".into());
        let cloning = serde_json::json!({"in_place": true, "is_down": false});
        keys.insert("cloning".into(), cloning);
        let mut seed: Seed = serde_json::from_value(record).unwrap();
        let mut logical: LogicalState = seed.method_state().unwrap();
        assert_eq!((logical.dump_bytes, logical.source_schemas.len()), (5, 1));
        let physical: PhysicalState = seed.method_state().unwrap();
        assert_eq!(physical.applied, Applied::Begun);
        assert_eq!(physical.cloning, Some(CloneMode::InPlace));
        logical.dump_bytes = 6;
        seed.set_method_state(&logical).unwrap();
        let again: Seed = serde_json::from_str(&serde_json::to_string(&seed).unwrap()).unwrap();
        assert_eq!(again, seed);
        assert_eq!(again.method_state::<LogicalState>().unwrap(), logical);
        assert_eq!(again.method_state::<PhysicalState>().unwrap(), physical);
        let mut damaged = serde_json::to_value(&seed).unwrap();
        damaged["applied"] = 3.into();
        let damaged: Seed = serde_json::from_value(damaged).unwrap();
        let e = damaged.method_state::<PhysicalState>().unwrap_err();
        assert!(
            e.is_permanent() && e.to_string().contains("record of seed 7"),
            "{e}"
        );
    }
}
