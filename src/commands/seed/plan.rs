//! What the checks before a seed have found out, for its stages.

use super::options::{Mode, Options};
use crate::mysql::applier::Channel;
use crate::mysql::channel::Setting;
use crate::seed::Method;

/// Variables that a seed leaves as they are.
pub(crate) const READ_ONLY: [&str; 2] = ["read_only", "super_read_only"];

pub(crate) struct Plan {
    pub(crate) method: Method,
    pub(crate) source_port: u16,
    pub(crate) target_port: u16,
    pub(crate) channels: Vec<Channel>,
    /// True if `--replication auto` means position: the source itself replicates and not by GTID (MariaDB), or gtid_mode is
    /// not ON on both (MySQL).
    pub(crate) without_gtid: bool,
    /// Options of the target's default channel that its new source does not change.
    pub(crate) settings: Vec<Setting>,
    /// True if the target replicates by TLS whatever `settings` contain.
    pub(crate) tls: bool,
    /// The target's values of [`READ_ONLY`] as they were; empty where the server has no such variable.
    pub(crate) read_only: [String; 2],
}

impl Plan {
    /// True if replication is to start by GTID, where the copy has one.
    pub(crate) fn by_gtid(&self, options: &Options) -> bool {
        match options.mode {
            Mode::Gtid => true,
            Mode::Position => false,
            Mode::Auto => !self.without_gtid,
        }
    }

    pub(crate) fn has_default_channel(&self) -> bool {
        self.channels.iter().any(|c| c.name.is_empty())
    }

    /// Host and port that the target will replicate from.
    pub(crate) fn replication_source(&self, options: &Options) -> (String, u16) {
        match &options.connect_to {
            Some(to) => (to.host.clone(), to.port.unwrap_or(self.source_port)),
            None => (options.source.host.clone(), self.source_port),
        }
    }
}
