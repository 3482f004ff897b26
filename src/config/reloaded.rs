//! Which keys take effect by SIGHUP, and what differs between two files.

use super::setting::Key;
use super::types::Config;
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

pub(super) const CUSTOM_COMMANDS: &str = "custom-commands";

/// True if a change of `key` (`section.key`) takes effect by SIGHUP.
pub(crate) fn is_reloaded(key: &str) -> bool {
    let (section, _) = key.split_once('.').unwrap_or((key, ""));
    RELOADED.contains(&key) || section == CUSTOM_COMMANDS
}

/// `section.key`, in the documented spelling, to the value in force: that of the file or the default. Secrets are not readable in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values(pub(super) BTreeMap<String, String>);

impl Values {
    pub(super) fn of(config: &mut Config) -> Self {
        let mut values = BTreeMap::new();
        for (name, command) in &config.custom_commands {
            values.insert(format!("{CUSTOM_COMMANDS}.{name}"), command.clone());
        }
        for (section, keys) in config.sections() {
            let value = |key: &Key| {
                (
                    format!("{section}.{}", key.names[0]),
                    key.value.fingerprint(),
                )
            };
            values.extend(keys.iter().map(value));
        }
        Self(values)
    }

    /// Keys that have another value in `other`, or none, in order.
    pub(crate) fn changed(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differs = |key: &&&String| self.0.get(**key) != other.0.get(**key);
        keys.iter()
            .filter(differs)
            .map(ToString::to_string)
            .collect()
    }
}
