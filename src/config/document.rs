//! What a configuration file says, key by key: what has changed between two readings.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// The keys of a file with their values, which may be secret: none is ever shown.
#[derive(Clone, Default)]
pub struct Document(Table);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Document")
    }
}

impl Document {
    pub(super) fn of(text: &str) -> Result<Self> {
        let table = text.parse::<Table>();
        table.map(Self).map_err(|e| Error::permanent(e.message()))
    }

    /// Names of the keys, as `section.key` in lower case, that are not the same in `other`.
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let (one, two) = (self.keys(), other.keys());
        let changed = one
            .iter()
            .filter(|k| !two.contains(k))
            .chain(two.iter().filter(|k| !one.contains(k)));
        changed.map(|(name, _)| name.clone()).collect()
    }

    fn keys(&self) -> Vec<(String, &Value)> {
        let mut all = Vec::new();
        for (section, value) in &self.0 {
            match value {
                Value::Table(keys) => all.extend(
                    keys.iter()
                        .map(|(k, v)| (format!("{section}.{k}").to_lowercase(), v)),
                ),
                other => all.push((section.to_lowercase(), other)),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_without_values() {
        let one = Document::of("[common]\nport = 1\nx = 2\n[mysql]\nPassword = \"a\"\n[custom-commands.a]\ncmd = \"1\"").unwrap();
        let two = Document::of("[common]\nport = 1\ny = 2\n[mysql]\nPassword = \"b\"\n[custom-commands.a]\ncmd = \"2\"").unwrap();
        let names: Vec<String> = one.differences(&two).into_iter().collect();
        assert_eq!(
            names,
            [
                "common.x",
                "common.y",
                "custom-commands.a",
                "mysql.password"
            ]
        );
        assert_eq!(two.differences(&one), one.differences(&two));
        assert!(one.differences(&one.clone()).is_empty());
        assert_eq!(format!("{one:?}"), "Document");
    }
}
