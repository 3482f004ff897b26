//! contrib/doc/seed-json.md as data: what each event of `seed --json` holds. Also used by the unit test of the events.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Of each event the fields with their types; `""` has the fields that all events have.
pub struct Schema(pub BTreeMap<String, BTreeMap<String, String>>);

impl Schema {
    pub fn load() -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/doc/seed-json.md");
        let text = std::fs::read_to_string(file).expect(file);
        let mut events: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut event = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                event = name.to_string();
                events.insert(event.clone(), BTreeMap::new());
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells
                .get(1)
                .and_then(|c| c.strip_prefix('`')?.strip_suffix('`'));
            if let Some(name) = name {
                assert_eq!(cells.len(), 6, "four columns: {line}");
                let before = events
                    .entry(event.clone())
                    .or_default()
                    .insert(name.into(), cells[2].into());
                assert_eq!(before, None, "twice: {line}");
            }
        }
        assert!(events.len() > 15 && events[""].len() == 2, "{events:?}");
        Self(events)
    }

    /// Checks one line and returns it; panics with the reason.
    pub fn check(&self, line: &str) -> Value {
        let v: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let object = v.as_object().unwrap_or_else(|| panic!("no object: {line}"));
        let event = v["event"]
            .as_str()
            .unwrap_or_else(|| panic!("no event: {line}"));
        let own = self.0.get(event).filter(|_| !event.is_empty());
        let own = own.unwrap_or_else(|| panic!("event {event} is not documented: {line}"));
        let fields: BTreeMap<_, _> = self.0[""].iter().chain(own).collect();
        let names: BTreeSet<&String> = fields.keys().copied().collect();
        assert_eq!(object.keys().collect::<BTreeSet<_>>(), names, "{line}");
        for (name, kind) in fields {
            assert!(fits(kind, &v[name]), "{name} is no {kind}: {line}");
        }
        let time = v["time"].as_str().expect("checked");
        assert!(
            time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'),
            "RFC 3339 in UTC: {line}"
        );
        v
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    if let Some(kind) = kind.strip_suffix(" or null") {
        return value.is_null() || fits(kind, value);
    }
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.as_f64().is_some_and(|n| n >= 0.0),
        "boolean" => value.is_boolean(),
        "array of strings" => value
            .as_array()
            .is_some_and(|a| a.iter().all(Value::is_string)),
        "object of numbers" => value
            .as_object()
            .is_some_and(|o| o.values().all(Value::is_number)),
        words => {
            let words: Vec<&str> = words.split(", ").map(|w| w.trim_matches('"')).collect();
            assert!(kind.starts_with('"'), "no type: {kind}");
            value.as_str().is_some_and(|v| words.contains(&v))
        }
    }
}
