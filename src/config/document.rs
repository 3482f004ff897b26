//! A TOML document becomes a [`Config`], and each fault a text with key and value: all faults of a file are found at once. The case of
//! names does not matter, and unknown ones are ignored with a hint at the nearest known one.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::nearest::{self, Known};
use super::reloaded::CUSTOM_COMMANDS;
use super::setting::{Key, Wrong};
use super::types::Config;

/// Keys that earlier versions had: accepted whatever their value, and named in a warning with what is true now.
const RETIRED: [(&str, &str); 2] = [
    (
        "mysqldump.load-threads",
        "a dump is loaded by one client; to load with several threads, use the method Mydumper",
    ),
    (
        "classic.close-on-danger",
        "errors are sent to an orchestrator of the classic protocol as redirects that it shows; see classic.signal-errors",
    ),
];

/// Stands for each `[custom-commands.NAME]` in hints.
const COMMAND: &str = "custom-commands.NAME";

/// What a document was made from, where it is not the user's own text.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// `section.key` to the name of the user's key.
    pub(super) names: BTreeMap<String, String>,
    /// By line of the document what its texts begin with, in place of the line.
    pub(super) lines: Option<BTreeMap<usize, String>>,
    pub(super) faults: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// `section.key` of the faults.
    pub(super) faulty: BTreeSet<String>,
}

/// What was found in a document. Lines count from 1; texts name theirs.
pub(super) struct Findings<'a> {
    text: &'a str,
    origin: &'a Origin,
    pub(super) faults: Vec<(usize, String)>,
    /// What is ignored.
    pub(super) warnings: Vec<(usize, String)>,
    /// `section.key` of the faults, in the documented spelling: their values are the defaults.
    pub(super) faulty: BTreeSet<String>,
    /// `section.key` of the keys whose values are used, in the documented spelling, to their lines.
    pub(super) given: BTreeMap<String, usize>,
    known: Known,
}

struct Entry<'a> {
    name: &'a str,
    /// The same behind the section's name.
    shown: String,
    at: usize,
    value: &'a DeValue<'a>,
}

/// The entries of a section in the order of the file.
fn entries<'a>(table: &'a DeTable<'a>, section: &str) -> Vec<Entry<'a>> {
    let dot = if section.is_empty() { "" } else { "." };
    let all = table.iter().map(|(key, value)| Entry {
        name: key.get_ref(),
        // With a dot in it, it would be the name of another section's key.
        shown: format!("{section}{dot}{}", key.get_ref().replace('.', "\\.")),
        at: key.span().start,
        value: value.get_ref(),
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|entry| entry.at);
    all
}

/// Reads a document. Where a value has a fault the default is used.
pub(super) fn read<'a>(
    document: &DeTable,
    text: &'a str,
    origin: &'a Origin,
) -> (Config, Findings<'a>) {
    let first = |text: &String| (0, text.clone());
    let mut found = Findings {
        text,
        origin,
        faults: origin.faults.iter().map(first).collect(),
        warnings: origin.warnings.iter().map(first).collect(),
        faulty: origin.faulty.clone(),
        given: BTreeMap::new(),
        known: Known::new(),
    };
    let mut config = Config::default();
    let mut commands = BTreeMap::new();
    let mut sections = config.sections();
    for (section, keys) in &sections {
        let names = keys.iter().flat_map(|key| key.names.clone());
        found.known.insert(section.to_string(), names.collect());
    }
    found.known.insert(CUSTOM_COMMANDS.into(), Vec::new());
    found.known.insert(COMMAND.into(), vec!["cmd".into()]);
    for entry in entries(document, "") {
        // [clone-plugin] is [clone_plugin].
        let name = entry.name.replace('_', "-");
        let same = |section: &str| section.replace('_', "-").eq_ignore_ascii_case(&name);
        if let Some((section, keys)) = sections.iter_mut().find(|(section, _)| same(section)) {
            found.section(&entry, section, section, keys);
        } else if same(CUSTOM_COMMANDS) {
            found.commands(&entry, &mut commands);
        } else {
            found.unknown_section(&entry);
        }
    }
    config.custom_commands = commands;
    (config, found)
}

impl Findings<'_> {
    /// `section.key` as the user's file calls it.
    pub(super) fn full<'b>(&'b self, path: &'b str) -> &'b str {
        self.origin.names.get(path).map_or(path, String::as_str)
    }

    /// The same, of TOML's keys without the section.
    pub(super) fn short<'b>(&'b self, path: &'b str) -> &'b str {
        let key = path.split_once('.').map_or(path, |(_, key)| key);
        self.origin.names.get(path).map_or(key, String::as_str)
    }

    /// A text about a line of the document, with that.
    pub(super) fn about(&self, line: usize, text: &str) -> (usize, String) {
        let place = match &self.origin.lines {
            None => format!("line {line}: "),
            Some(lines) => lines.get(&line).cloned().unwrap_or_default(),
        };
        (line, format!("{place}{text}"))
    }

    fn on_line(&self, at: usize, text: &str) -> (usize, String) {
        self.about(place(self.text, at).0, text)
    }

    fn fault(&mut self, path: &str, entry: &Entry, text: &str) {
        self.faults.push(self.on_line(entry.at, text));
        self.faulty.insert(path.into());
    }

    fn warn(&mut self, entry: &Entry, text: &str) {
        self.warnings.push(self.on_line(entry.at, text));
    }

    /// Notes that the key or section `path` is set. False, and a fault, if it is already.
    fn first(&mut self, path: &str, entry: &Entry) -> bool {
        if self.given.contains_key(path) {
            let best = path.rsplit('.').next().unwrap_or(path);
            let why = "this is set already, in another spelling: keep one, best as";
            self.fault(path, entry, &format!("{}: {why} {best}", entry.shown));
            return false;
        }
        let line = place(self.text, entry.at).0;
        self.given.insert(path.into(), line);
        true
    }

    /// The content of the section `path`; empty, with a fault, if it is read already or is not a section.
    fn content<'a>(&mut self, entry: &Entry<'a>, path: &str) -> Vec<Entry<'a>> {
        if !self.first(path, entry) {
            return Vec::new();
        }
        let Some(table) = entry.value.as_table() else {
            self.given.remove(path);
            let (shown, kind) = (&entry.shown, kind(entry.value));
            let text = format!("{shown}: expected a section [{path}], found {kind}");
            self.fault(path, entry, &text);
            return Vec::new();
        };
        entries(table, path)
    }

    /// Reads the section `path`; `place` is what hints call it.
    fn section(&mut self, section: &Entry, path: &str, place: &str, keys: &mut [Key]) {
        for entry in self.content(section, path) {
            let spelt = |name: &String| name.eq_ignore_ascii_case(entry.name);
            match keys.iter_mut().find(|key| key.names.iter().any(spelt)) {
                Some(key) => self.key(&entry, &format!("{path}.{}", key.names[0]), key),
                None => self.unknown_key(&entry, place),
            }
        }
    }

    fn key(&mut self, entry: &Entry, path: &str, key: &mut Key) {
        if !self.first(path, entry) {
            return;
        }
        let Err(wrong) = key.read(entry.value) else {
            return;
        };
        self.given.remove(path);
        let shown = self.origin.names.get(path).unwrap_or(&entry.shown);
        let (mut what, mut hidden) = (format!("{shown} = {}", show(entry.value)), "");
        if key.value.is_secret() {
            (what, hidden) = (shown.clone(), " (value not shown)");
        }
        match wrong {
            Wrong::Ignored(why) => self.warn(entry, &format!("{what}: {why}")),
            Wrong::Value(why) => self.fault(path, entry, &format!("{what}: {why}")),
            Wrong::Type(expected) => {
                let found = kind(entry.value);
                let text = format!("{what}: expected {expected}, found {found}{hidden}");
                self.fault(path, entry, &text);
            }
        }
    }

    /// `[custom-commands.NAME]`; those without `cmd` are left out.
    fn commands(&mut self, section: &Entry, commands: &mut BTreeMap<String, String>) {
        for entry in self.content(section, CUSTOM_COMMANDS) {
            let path = &entry.shown;
            let mut command = String::new();
            let cmd = Key::new("cmd", &[], &[], &mut command);
            self.section(&entry, path, COMMAND, &mut [cmd]);
            if !command.trim().is_empty() {
                commands.insert(entry.name.into(), command);
            } else if ![path, &format!("{path}.cmd")]
                .iter()
                .any(|p| self.faulty.contains(*p))
            {
                let why = "has no cmd and is left out: give it cmd = \"...\" or remove it";
                self.warn(&entry, &format!("{path} {why}"));
            }
        }
    }

    fn unknown_key(&mut self, entry: &Entry, place: &str) {
        let key = &entry.shown;
        if let Some((_, now)) = RETIRED.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)) {
            return self.warn(entry, &format!("{key} is ignored: {now}"));
        }
        let hint = nearest::hint(place, entry.name, &self.known);
        self.ignored(entry, &format!("unknown key {key}"), hint);
    }

    fn unknown_section(&mut self, entry: &Entry) {
        let name = entry.name;
        if entry.value.is_table() {
            let hint = nearest::similar(name, self.known.keys().map(String::as_str));
            self.ignored(entry, &format!("unknown section [{name}]"), hint);
        } else {
            let hint = nearest::elsewhere("", name, &self.known);
            self.ignored(entry, &format!("{name}, above the first section,"), hint);
        }
    }

    fn ignored(&mut self, entry: &Entry, what: &str, hint: Option<String>) {
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        self.warn(entry, &format!("{what} is ignored{hint}"));
    }
}

/// The line of an offset, counted from 1, and what is before the offset in it.
pub(super) fn place(text: &str, at: usize) -> (usize, &str) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, &before[start..])
}

/// A value as the file has it, as far as that is short.
fn show(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".into(),
        DeValue::Table(_) => "{...}".into(),
    }
}

/// The kind of a value, for messages.
fn kind(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false without quotes",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
