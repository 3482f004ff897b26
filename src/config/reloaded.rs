//! Which keys take effect by SIGHUP, and what differs between two files.

use super::Config;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Keys that take effect by SIGHUP, and the section of which all do.
pub(crate) const RELOADED: [&str; 6] = [
    "common.poll-interval",
    "common.resubmit-agent-interval",
    "common.http-timeout",
    "logging.file",
    "logging.level",
    CUSTOM_COMMANDS,
];

const CUSTOM_COMMANDS: &str = "custom-commands";

/// True if a change of `key` (`section.key`) takes effect by SIGHUP.
pub(crate) fn is_reloaded(key: &str) -> bool {
    RELOADED.contains(&key)
        || key
            .strip_prefix(CUSTOM_COMMANDS)
            .is_some_and(|rest| rest.starts_with('.'))
}

/// `section.key`, in the documented spelling, to the value in force: that of the file or the default. Secrets are not readable in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values(pub(super) BTreeMap<String, Value>);

impl Values {
    pub(super) fn of(config: &Config) -> Self {
        let mut values = Self::default();
        // Only maps with other keys than strings fail.
        let sections = serde_json::to_value(config).unwrap_or_default();
        for (section, keys) in sections.as_object().into_iter().flatten() {
            values.add(section, keys);
        }
        values
    }

    fn add(&mut self, section: &str, keys: &Value) {
        for (key, value) in keys.as_object().into_iter().flatten() {
            // A field named "" has keys of its parent's section.
            if key.is_empty() {
                self.add(section, value);
            } else {
                self.0.insert(format!("{section}.{key}"), value.clone());
            }
        }
    }

    /// Keys that have another value in `other`, or none, in order.
    pub(crate) fn changed(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        keys.into_iter()
            .filter(|k| self.0.get(*k) != other.0.get(*k))
            .cloned()
            .collect()
    }
}
