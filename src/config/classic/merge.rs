//! The values of all JSON files, each later file's above those of the earlier ones, as the Go agent decodes them one after another
//! into one struct: null changes nothing, and maps are put together.

use super::keys::{self, ClassicKey, KEYS, Kind};
use crate::config::nearest::similar;
use crate::config::places::File;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A value and where it is from.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    /// What messages begin with: the file, where there are several.
    pub(super) place: String,
}

/// Names of keys to values.
pub(super) type Values = BTreeMap<String, Given>;

#[derive(Default)]
pub(super) struct Merged {
    /// By the names of [`KEYS`]; each of its kind.
    pub(super) values: Values,
    /// `CustomCommands`: strings.
    pub(super) commands: Values,
    /// Objects with the names of TOML's sections.
    pub(super) sections: BTreeMap<&'static str, Values>,
    pub(super) faults: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// `section.key` of the faults.
    pub(super) faulty: BTreeSet<String>,
}

/// An object in the order of the file: the last of two equal keys counts, in whatever case.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(of: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        of.deserialize_map(Entries)
    }
}

/// `sections`: the names of TOML's.
pub(super) fn merge(files: &[File], sections: &[&'static str]) -> Merged {
    let mut merged = Merged::default();
    for file in files {
        let place = match files {
            [_] => String::new(),
            _ => format!("{}: ", file.name),
        };
        match serde_json::from_str(file.text.trim_start_matches('\u{feff}')) {
            Ok(Object(entries)) => merged.file(entries, &place, sections),
            Err(e) if e.is_data() => merged.faults.push(format!(
                "{place}not a JSON object: write {{\"AgentsServer\": \"http://orchestrator.example.com:3001\", ...}}"
            )),
            Err(e) => merged.faults.push(format!("{place}invalid JSON: {e}")),
        }
    }
    merged
}

impl Merged {
    fn file(&mut self, entries: Vec<(String, Value)>, place: &str, sections: &[&'static str]) {
        let mut seen = BTreeSet::new();
        for (name, value) in entries {
            let section = sections.iter().find(|s| is_section(s, &name));
            if value.is_null() {
                continue;
            }
            let given = Given {
                value,
                place: place.into(),
            };
            if let Some(key) = keys::find(&name) {
                if !seen.insert(key.name) {
                    let text = format!("{place}{name} is set twice: the last one is used");
                    self.warnings.push(text);
                }
                self.key(key, &name, given);
            } else if let Some(section) = section {
                self.section(section, &name, given);
            } else {
                self.unknown(&name, place, sections);
            }
        }
    }

    fn key(&mut self, key: &ClassicKey, name: &str, given: Given) {
        let Given { value, place } = &given;
        if !fits(key.kind, value) {
            let (expected, found) = (key.kind.expected(), kind(value));
            let (shown, hidden) = match key.name {
                "HTTPAuthPassword" => (String::new(), " (value not shown)"),
                _ => (format!(" = {}", show(value)), ""),
            };
            self.fault(
                key.path,
                format!("{place}{name}{shown}: expected {expected}, found {found}{hidden}"),
            );
            return;
        }
        let is_time = matches!(
            key.kind,
            Kind::Seconds | Kind::SignedSeconds | Kind::Minutes
        );
        if is_time && value.as_u64().unwrap_or(0) == 0 {
            let text = format!(
                "{place}{name} = {value} is ignored and the default used: it must be above 0"
            );
            self.warnings.push(text);
            self.values.remove(key.name);
            return;
        }
        match given.value {
            Value::Object(commands) => self.commands(name, commands, &given.place),
            _ => drop(self.values.insert(key.name.into(), given)),
        }
    }

    fn commands(&mut self, name: &str, commands: serde_json::Map<String, Value>, place: &str) {
        for (command, value) in commands {
            match value {
                Value::Null => {}
                Value::String(_) => {
                    let place = place.into();
                    self.commands.insert(command, Given { value, place });
                }
                other => {
                    let (shown, found) = (show(&other), kind(&other));
                    let text = format!(
                        "{place}{name}.{command} = {shown}: expected a string in quotes, found {found}"
                    );
                    self.fault(&format!("custom-commands.{command}"), text);
                }
            }
        }
    }

    fn section(&mut self, section: &'static str, name: &str, given: Given) {
        let Value::Object(keys) = given.value else {
            let (place, found) = (given.place, kind(&given.value));
            let text = format!("{place}{name}: expected an object of settings, found {found}");
            return self.fault(section, text);
        };
        let all = self.sections.entry(section).or_default();
        for (key, value) in keys {
            let place = given.place.clone();
            if !value.is_null() {
                all.insert(key, Given { value, place });
            }
        }
    }

    fn unknown(&mut self, name: &str, place: &str, sections: &[&'static str]) {
        let known = KEYS
            .iter()
            .map(|key| key.name)
            .chain(sections.iter().copied());
        let hint = similar(name, known).map(|hint| format!("; {hint}"));
        let text = format!(
            "{place}unknown key {name} is ignored{}",
            hint.unwrap_or_default()
        );
        self.warnings.push(text);
    }

    pub(super) fn fault(&mut self, path: &str, text: String) {
        self.faults.push(text);
        self.faulty.insert(path.into());
    }
}

/// `clone-plugin` is `clone_plugin`.
fn is_section(section: &str, name: &str) -> bool {
    section
        .replace('_', "-")
        .eq_ignore_ascii_case(&name.replace('_', "-"))
}

fn fits(of: Kind, value: &Value) -> bool {
    match of {
        Kind::Text => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Count | Kind::Seconds | Kind::Minutes => value.is_u64(),
        Kind::SignedSeconds => value.is_u64() || value.is_i64(),
        Kind::Texts => value
            .as_array()
            .is_some_and(|all| all.iter().all(Value::is_string)),
        Kind::Commands => value.is_object(),
    }
}

/// A value as far as it is short.
fn show(value: &Value) -> String {
    match value {
        Value::Array(_) => "[...]".into(),
        Value::Object(_) => "{...}".into(),
        short => short.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false without quotes",
        Value::Number(n) if n.is_f64() => "a number with a fraction",
        Value::Number(n) if n.is_i64() && !n.is_u64() => "a negative number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
