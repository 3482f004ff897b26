//! Which keys take effect by SIGHUP, and what differs between two files.

use super::Secret;
use std::collections::{BTreeMap, BTreeSet};

/// Keys that take effect by SIGHUP (DESIGN section 9), and the section of which all do.
pub const RELOADED: [&str; 6] = [
    "common.poll-interval",
    "common.resubmit-agent-interval",
    "common.http-timeout",
    "logging.file",
    "logging.level",
    CUSTOM_COMMANDS,
];

const CUSTOM_COMMANDS: &str = "custom-commands";

/// True if a change of `key` (`section.key`) takes effect by SIGHUP.
pub fn is_reloaded(key: &str) -> bool {
    RELOADED.contains(&key)
        || key
            .strip_prefix(CUSTOM_COMMANDS)
            .is_some_and(|rest| rest.starts_with('.'))
}

/// `section.key`, in the documented spelling, to the value in force: that of the file or the default. Never shown.
#[derive(Debug, Clone, Default)]
pub struct Values(pub(super) BTreeMap<String, Secret>);

impl Values {
    /// Keys that have another value in `other`, or none, in order.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        keys.into_iter()
            .filter(|k| self.0.get(*k) != other.0.get(*k))
            .cloned()
            .collect()
    }
}
