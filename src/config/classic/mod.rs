//! The JSON configuration of the Go agent of the classic protocol. It is translated into TOML, which the one reader reads; so
//! `convert-config` prints what the agent itself uses.

mod keys;
mod merge;

use super::document::Origin;
use super::places::File;
use super::types::Config;
use crate::sys::host::kernel_hostname;
use keys::{KEYS, Kind};
use merge::{Given, Merged};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The Go agent's shell; it needs this one.
const BASH: &str = "/bin/bash";

/// The TOML text, and what it was made from.
pub(super) struct Translation {
    pub(super) toml: String,
    pub(super) origin: Origin,
}

struct Line {
    key: String,
    /// As TOML writes it.
    value: String,
    place: String,
    note: String,
}

/// Section to its lines.
struct Writer {
    /// All that there are, in the order of the file.
    sections: [&'static str; 10],
    lines: BTreeMap<&'static str, Vec<Line>>,
    origin: Origin,
}

/// The equivalent of the files, each of which overrides the earlier ones.
pub(super) fn translate(files: &[File]) -> Translation {
    let sections = Config::default().sections().map(|(name, _)| name);
    let mut merged = merge::merge(files, &sections);
    let (url, port) = url(&mut merged).unzip();
    let mut writer = Writer {
        sections,
        lines: BTreeMap::new(),
        origin: Origin::default(),
    };
    for key in KEYS.iter().filter(|key| !key.path.is_empty()) {
        writer.origin.names.insert(key.path.into(), key.name.into());
    }
    writer
        .origin
        .names
        .insert("orchestrator.url".into(), "AgentsServer".into());
    for (key, value) in KEYS
        .iter()
        .filter_map(|k| Some((k, merged.values.get(k.name)?)))
    {
        match key.name {
            "AgentsServer" | "AgentsServerPort" => {}
            "ExecWithSudo" => sudo(value, &mut merged.warnings),
            _ => writer.translated(key, value),
        }
    }
    if let Some(Given { value, place }) = url {
        writer.put("orchestrator.url", toml(&value), &place, "");
    }
    for (section, values) in &merged.sections {
        for (key, given) in values {
            writer.own(section, key, given, &mut merged.faults);
        }
    }
    let has_account = writer.has("mysql", "user");
    let common = merged.sections.get("common").into_iter().flatten();
    let state_dir = common.filter(|(key, _)| key.eq_ignore_ascii_case("state-dir"));
    let state_dir = state_dir
        .filter_map(|(_, given)| given.value.as_str())
        .next();
    writer.defaults(has_account, state_dir);
    if let Some(port) = port.flatten() {
        let note = "The port of an address without one, as the Go agent used it.";
        writer.default("orchestrator.agents-port", port.to_string(), note);
    }
    writer.finish(merged)
}

/// sudo preceded the Go agent's own lvs, mount, du and the like, and never a configured command.
fn sudo(given: &Given, warnings: &mut Vec<String>) {
    if given.value == true {
        warnings.push(format!(
            "{}ExecWithSudo is not used: configured commands run without sudo, as before; \"common\": {{\"exec-with-sudo\": true}} would \
             put sudo before them and before the tools of seeds",
            given.place
        ));
    }
}

/// `AgentsServer` and `AgentsServerPort` put together as the Go agent does, and the default port of the scheme where neither names one.
fn url(merged: &mut Merged) -> Option<(Given, Option<u16>)> {
    const PORT: &str = "AgentsServerPort";
    let text = |key: &str| {
        let given = merged.values.get(key)?;
        let text = given.value.as_str()?.trim();
        (!text.is_empty()).then(|| (text.to_string(), given.place.clone()))
    };
    let (server, place) = text("AgentsServer")?;
    let Some((port, port_place)) = text(PORT) else {
        let (scheme, rest) = server.split_once("://").unwrap_or(("http", &server));
        let authority = rest.split('/').next().unwrap_or_default();
        let has_port = authority
            .rsplit(']')
            .next()
            .is_some_and(|host| host.contains(':'));
        let default = if scheme.eq_ignore_ascii_case("https") {
            443
        } else {
            80
        };
        let value = Value::String(server.clone());
        return Some((Given { value, place }, (!has_port).then_some(default)));
    };
    let joins = port.starts_with(':') && !server.ends_with('/') || server.ends_with(':');
    if !joins {
        merged.fault(
            "orchestrator.url",
            format!(
                "{port_place}{PORT} = {port:?}: it is put behind AgentsServer = {server:?} as it is, which makes no address; write a port \
                 with a colon, such as \":3001\", and no slash at the end of AgentsServer"
            ),
        );
        return None;
    }
    let value = Value::String(server + &port);
    Some((Given { value, place }, None))
}

impl Writer {
    fn put(&mut self, path: &str, value: String, place: &str, note: &str) {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        if let Some(section) = self.sections.into_iter().find(|s| *s == section) {
            self.lines.entry(section).or_default().push(Line {
                key: key.into(),
                value,
                place: place.into(),
                note: note.into(),
            });
        }
    }

    fn translated(&mut self, key: &keys::ClassicKey, given: &Given) {
        let value = match (key.kind, &given.value) {
            // What is empty is the default.
            (_, Value::String(text)) if text.is_empty() => return,
            (Kind::Seconds | Kind::SignedSeconds, number) => format!("\"{number}s\""),
            (Kind::Minutes, number) => format!("\"{number}m\""),
            (_, value) => toml(value),
        };
        self.put(key.path, value, &given.place, key.note);
    }

    /// A key of TOML's in an object with the name of its section.
    fn own(&mut self, section: &str, key: &str, given: &Given, faults: &mut Vec<String>) {
        let path = format!("{section}.{key}");
        if self.has(section, key) {
            let classic = self.origin.names.get(&path.to_ascii_lowercase());
            let place = &given.place;
            faults.push(format!(
                "{place}{path}: this is set already{}: keep one",
                classic
                    .map(|name| format!(", by {name}"))
                    .unwrap_or_default()
            ));
            return;
        }
        self.origin.names.remove(&path.to_ascii_lowercase());
        self.put(&path, toml(&given.value), &given.place, "");
    }

    fn has(&self, section: &str, key: &str) -> bool {
        let lines = self.lines.get(section);
        lines.is_some_and(|all| all.iter().any(|line| line.key.eq_ignore_ascii_case(key)))
    }

    /// What the Go agent does where JSON has no key, or another default.
    fn defaults(&mut self, has_account: bool, state_dir: Option<&str>) {
        let default = Config::default().common.state_dir;
        let state_dir = state_dir.map_or(default.as_path(), Path::new);
        let backup_dir = state_dir.join("backup").display().to_string();
        let enabled = has_account.to_string();
        let no_account = "Needs an account in [mysql].";
        let text = |text: &str| toml(&Value::String(text.into()));
        if Path::new(BASH).exists() {
            self.default("common.shell", text(BASH), "The Go agent's.");
        }
        for (path, value, note) in [
            (
                "common.hostname",
                text(&kernel_hostname()),
                "The kernel's name of this host, under which the Go agent registered it. It differs on each host: remove it, or convert on each.",
            ),
            (
                "common.backup-dir",
                text(&backup_dir),
                "Where dumps are kept.",
            ),
            (
                "logging.file",
                text(""),
                "The Go agent logged to its standard error only.",
            ),
            (
                "mysql.service-status-command",
                text(""),
                "None: MySQL runs if it answers.",
            ),
            ("mysql.service-start-command", text(""), ""),
            ("mysql.service-stop-command", text(""), ""),
            ("mysqldump.enabled", enabled.clone(), no_account),
            ("mydumper.enabled", enabled.clone(), no_account),
            ("xtrabackup.enabled", enabled.clone(), no_account),
            ("clone_plugin.enabled", enabled, no_account),
        ] {
            self.default(path, value, note);
        }
    }

    fn default(&mut self, path: &str, value: String, note: &str) {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        if !self.has(section, key) {
            self.put(path, value, "", note);
        }
    }

    /// The text, and where each of its lines is from.
    fn finish(mut self, merged: Merged) -> Translation {
        let (mut text, mut places, mut at) = (String::new(), BTreeMap::new(), 0);
        let mut write = |line: &str, place: &str| {
            text += line;
            text.push('\n');
            at += 1;
            places.insert(at, place.to_string());
        };
        for section in self.sections {
            let Some(lines) = self.lines.remove(section) else {
                continue;
            };
            write(&format!("[{section}]"), "");
            for line in lines {
                if !line.note.is_empty() {
                    write(&format!("# {}", line.note), "");
                }
                // A quoted key is the same key; only what needs quotes gets them.
                let bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                let key = match line.key.as_str() {
                    key if !key.is_empty() && key.chars().all(bare) => key.to_string(),
                    other => toml(&Value::String(other.into())),
                };
                write(&format!("{key} = {}", line.value), &line.place);
            }
            write("", "");
        }
        for (name, given) in &merged.commands {
            let name = toml(&Value::String(name.clone()));
            write(&format!("[custom-commands.{name}]"), &given.place);
            write(&format!("cmd = {}", toml(&given.value)), &given.place);
            write("", "");
        }
        self.origin.lines = Some(places);
        self.origin.faults = merged.faults;
        self.origin.warnings = merged.warnings;
        self.origin.faulty = merged.faulty;
        Translation {
            toml: text,
            origin: self.origin,
        }
    }
}

/// A value as TOML writes it. Strings are written as in JSON but for DEL (TOML 1.0, "String").
fn toml(value: &Value) -> String {
    match value {
        Value::Array(all) => {
            let all: Vec<_> = all.iter().map(toml).collect();
            format!("[{}]", all.join(", "))
        }
        // Of a wrong type everywhere.
        Value::Object(_) | Value::Null => "{}".into(),
        other => other.to_string().replace('\u{7f}', "\\u007F"),
    }
}

/// The text as a file of its own.
pub(super) fn document(names: &str, toml: &str, warnings: &[String]) -> String {
    let mut text = format!(
        "# Converted from {names} by orchestrator-agent {}.\n\
         # If it holds passwords, it must have mode 0640, with the group of the agent's user.\n\
         # Settings that are not here have their defaults.\n",
        env!("CARGO_PKG_VERSION")
    );
    for warning in warnings {
        // A name of a key may hold anything.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        text += "# Note: ";
        text.extend(warning.chars().map(visible));
        text.push('\n');
    }
    text + "\n" + toml
}
