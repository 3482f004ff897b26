//! The types of a seed, spelt as on the wire, and the constants of each method.

use crate::compatibility::CopyKind;
use crate::datadir::{DataNow, Role};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

macro_rules! wire_names {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident),+ })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            /// Every value, in the order of the agent's own numbers.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// From the name on the wire, case-sensitive.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}

wire_names! {
    /// How data is copied. LVM is a snapshot of the source as a tar stream, Xtrabackup also mariadb-backup, Mysqldump also mariadb-dump.
    #[allow(clippy::upper_case_acronyms)] // a name on the wire
    Method { ClonePlugin, LVM, Mydumper, Mysqldump, Xtrabackup }

    /// The part of a host in a seed: the target is overwritten by a copy of the source.
    Side { Target, Source }

    /// The steps of a seed, in the agent's order (the numbers are keys in `active-seed`). ConnectSlave is the controller's.
    Stage { Prepare, Backup, Restore, Cleanup, ConnectSlave }
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Running,
    /// Done and durable.
    Completed,
    /// Failed or aborted.
    Error,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<Side> for Role {
    fn from(side: Side) -> Self {
        match side {
            Side::Target => Self::Target,
            Side::Source => Self::Source,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) seed_id: i64,
    pub(crate) stage: Stage,
    /// Counts the runs of all stages since the agent's start.
    pub(crate) number: u64,
}

/// The source of a target, or the target of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Name or address as the controller gave it.
    pub(crate) host: String,
    /// The source's.
    pub(crate) mysql_port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.mysql_port)
    }
}

/// What is in the target's MySQL after a logical load. The aliases are in the records of earlier agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Load {
    /// Restore has not begun: the target's data are as they were.
    #[default]
    #[serde(alias = "Untouched")]
    Unchanged,
    /// Between the first statement and the last: the data are partial.
    #[serde(alias = "Incomplete")]
    Partial,
    /// All of it is there.
    #[serde(alias = "Whole")]
    Complete,
}

impl From<DataNow> for Load {
    fn from(data: DataNow) -> Self {
        match data {
            DataNow::Old => Self::Unchanged,
            DataNow::Missing => Self::Partial,
            DataNow::New => Self::Complete,
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(t: SystemTime) -> u64 {
    t.duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// The ten engine names that the wire knows, in the Go agent's order.
#[rustfmt::skip]
pub(crate) const ENGINES: [&str; 10] = [
    "ROCKSDB", "MRG_MYISAM", "CSV", "BLACKHOLE", "InnoDB", "MEMORY", "ARCHIVE", "MyISAM", "FEDERATED", "TokuDB",
];

impl Stage {
    /// The agent's own number of the stage.
    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

impl Method {
    /// The order in which methods are reported and preferred.
    pub(crate) const FASTEST_FIRST: [Self; 5] = [
        Self::ClonePlugin,
        Self::Xtrabackup,
        Self::LVM,
        Self::Mydumper,
        Self::Mysqldump,
    ];

    /// The host on which Backup runs.
    pub(crate) fn backup_side(self) -> Side {
        match self {
            Self::Xtrabackup | Self::LVM => Side::Source,
            Self::ClonePlugin | Self::Mydumper | Self::Mysqldump => Side::Target,
        }
    }

    /// What the servers must have in common for it.
    pub(crate) fn copy_kind(self) -> CopyKind {
        match self {
            Self::Mydumper | Self::Mysqldump => CopyKind::Dump,
            Self::Xtrabackup | Self::LVM => CopyKind::Files,
            Self::ClonePlugin => CopyKind::Clone,
        }
    }

    /// True if the copy goes straight into the data directory.
    pub(crate) fn backup_to_datadir(self) -> bool {
        !matches!(self, Self::Mydumper | Self::Mysqldump)
    }

    /// Engines that the method copies, no name twice. Xtrabackup's depend on the server's major version.
    pub(crate) fn supported_engines(self, mysql_major: u32) -> Vec<&'static str> {
        let all = ENGINES.into_iter();
        match self {
            Self::ClonePlugin => vec!["InnoDB"],
            Self::Xtrabackup => all
                .filter(|e| *e != "TokuDB" && (*e != "ROCKSDB" || mysql_major >= 8))
                .collect(),
            Self::LVM | Self::Mydumper | Self::Mysqldump => all.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_exact_and_each_method_has_its_constants() {
        for m in Method::ALL {
            assert_eq!(Method::parse(m.as_str()), Some(*m));
            assert_eq!(serde_json::to_string(m).unwrap(), format!("\"{m}\""));
        }
        assert_eq!(Method::parse("mysqldump"), None);
        assert_eq!(Stage::ConnectSlave.number(), 4);
        assert_eq!(Method::Xtrabackup.supported_engines(8).len(), 9);
        assert_eq!(Method::Xtrabackup.supported_engines(5).len(), 8);
        assert_eq!(Method::Mysqldump.supported_engines(5).len(), 10);
        assert!(Method::LVM.backup_to_datadir() && !Method::Mydumper.backup_to_datadir());
        assert_eq!(Method::LVM.backup_side(), Side::Source);
    }
}
