//! What the agent has changed in a server for the time of a seed, as the record keeps it until it is restored.

use crate::sys::Inserted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One change, with what it was before. The order is that in which they are restored: `read_only` comes before `super_read_only`,
/// which implies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Restore {
    /// A CLONE that may still run, by the server's number of its connection.
    RunningClone { connection: u64 },
    /// The InnoDB redo log is disabled (MySQL 8.0.21 and later).
    RedoLog,
    /// SET PERSIST, MySQL 8.0 and later.
    Persisted {
        name: String,
        /// `None`: none was persisted.
        value: Option<String>,
    },
    /// The global value of a variable.
    Global {
        name: String,
        /// As the server shows it.
        value: String,
    },
}

impl Restore {
    /// True for a change of the same thing.
    fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::RunningClone { .. }, Self::RunningClone { .. })
            | (Self::RedoLog, Self::RedoLog) => true,
            (Self::Persisted { name: a, .. }, Self::Persisted { name: b, .. })
            | (Self::Global { name: a, .. }, Self::Global { name: b, .. }) => a == b,
            _ => false,
        }
    }

    /// A key and its value of a record that has texts, under the name `put_back`.
    fn from_text(key: String, value: String) -> Self {
        if key == "innodb redo log" {
            Self::RedoLog
        } else if key == "running clone" {
            let connection = value.parse().unwrap_or(0);
            Self::RunningClone { connection }
        } else if let Some(name) = key.strip_prefix("persisted ") {
            let (name, value) = (name.into(), Some(value).filter(|v| !v.is_empty()));
            Self::Persisted { name, value }
        } else {
            Self::Global { name: key, value }
        }
    }
}

/// All changes that are to be restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct PendingRestore(Vec<Restore>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    List(Vec<Restore>),
    /// Of an agent that wrote texts, under the name `put_back`.
    Texts(BTreeMap<String, String>),
}

impl From<Stored> for PendingRestore {
    fn from(stored: Stored) -> Self {
        let mut out = Self::default();
        out.extend(match stored {
            Stored::List(list) => list,
            Stored::Texts(texts) => {
                let texts = texts.into_iter();
                texts.map(|(k, v)| Restore::from_text(k, v)).inserted()
            }
        });
        out
    }
}

impl PendingRestore {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds changes. What is there already of the same thing stays: it is what an earlier seed has found, and the present
    /// value is that seed's own.
    pub(crate) fn extend(&mut self, changes: impl IntoIterator<Item = Restore>) {
        for change in changes {
            if !self.0.iter().any(|c| c.is_of(&change)) {
                self.0.push(change);
            }
        }
        self.0.sort();
    }

    /// In the order in which they are to be restored.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Restore> {
        self.0.iter()
    }

    pub(crate) fn take(&mut self) -> Vec<Restore> {
        std::mem::take(&mut self.0)
    }

    /// The global value that variable `name` had.
    pub(crate) fn global(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|c| match c {
            Restore::Global { name: n, value } if n == name => Some(value.as_str()),
            _ => None,
        })
    }

    pub(crate) fn running_clone(&self) -> Option<u64> {
        self.0.iter().find_map(|c| match c {
            Restore::RunningClone { connection } => Some(*connection),
            _ => None,
        })
    }

    pub(crate) fn clone_begins(&mut self, connection: u64) {
        self.clone_ended();
        self.extend([Restore::RunningClone { connection }]);
    }

    pub(crate) fn clone_ended(&mut self) {
        self.0
            .retain(|c| !matches!(c, Restore::RunningClone { .. }));
    }

    pub(crate) fn has_redo_log(&self) -> bool {
        self.0.contains(&Restore::RedoLog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(name: &str, value: &str) -> Restore {
        Restore::Global {
            name: name.into(),
            value: value.into(),
        }
    }

    #[test]
    fn the_first_value_stays_and_the_order_is_that_of_restoring() {
        let mut pending = PendingRestore::default();
        pending.extend([
            global("super_read_only", "ON"),
            global("read_only", "ON"),
            Restore::RedoLog,
        ]);
        pending.extend([
            global("read_only", "OFF"),
            Restore::RedoLog,
            Restore::Persisted {
                name: "read_only".into(),
                value: None,
            },
        ]);
        pending.clone_begins(7);
        pending.clone_begins(8);
        let all: Vec<Restore> = pending.iter().cloned().collect();
        assert_eq!(
            all,
            [
                Restore::RunningClone { connection: 8 },
                Restore::RedoLog,
                Restore::Persisted {
                    name: "read_only".into(),
                    value: None
                },
                global("read_only", "ON"),
                global("super_read_only", "ON"),
            ]
        );
        assert_eq!(pending.running_clone(), Some(8));
        pending.clone_ended();
        assert_eq!(pending.running_clone(), None);
        assert!(pending.has_redo_log() && pending.global("read_only") == Some("ON"));
        let text = serde_json::to_string(&pending).unwrap();
        assert_eq!(
            serde_json::from_str::<PendingRestore>(&text).unwrap(),
            pending
        );
    }

    #[test]
    fn texts_of_an_older_record_are_understood() {
        let old = r#"{"event_scheduler":"ON","innodb redo log":"ENABLE","persisted event_scheduler":"OFF",
            "persisted skip_replica_start":"","running clone":"17"}"#;
        let read: PendingRestore = serde_json::from_str(old).unwrap();
        let persisted = |name: &str, value: Option<&str>| Restore::Persisted {
            name: name.into(),
            value: value.map(String::from),
        };
        assert_eq!(
            read.0,
            [
                Restore::RunningClone { connection: 17 },
                Restore::RedoLog,
                persisted("event_scheduler", Some("OFF")),
                persisted("skip_replica_start", None),
                global("event_scheduler", "ON"),
            ]
        );
    }
}
