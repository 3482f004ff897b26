//! Takes keys out of a TOML document one by one. Whatever nobody has taken at the end is unknown, and what has been
//! asked for is the list of known keys: so a key, its spellings, type, range and default stand in one line of
//! `build.rs` and nowhere else.
//!
//! A key is named as `spelling|other spelling|...`, the documented spelling first. Case does not matter
//! (agent-api-v2 section 5: exact match, then case-insensitive). Two spellings of one key in a file are an error.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::reloaded::Values;
use super::{Secret, duration, nearest};
use crate::error::{Error, Result};

/// A document that is being read, section after section.
pub(super) struct Reader {
    document: Table,
    section: String,
    keys: Table,
    known: Vec<(String, &'static str)>,
    unknown: Vec<(String, String)>,
    warnings: Vec<String>,
    values: Values,
}

impl Reader {
    /// Parses the text. A syntax error names line and column, and never shows the line: it may hold a password.
    pub(super) fn new(text: &str) -> Result<Self> {
        let document = text.parse::<Table>().map_err(|e| syntax(text, &e))?;
        Ok(Self {
            document,
            section: String::new(),
            keys: Table::new(),
            known: Vec::new(),
            unknown: Vec::new(),
            warnings: Vec::new(),
            values: Values::default(),
        })
    }

    /// Goes on to a section; a missing one is read as empty.
    pub(super) fn enter(&mut self, names: &'static str) -> Result<()> {
        self.leave();
        self.section = canonical(names).into();
        self.keys = match pick(&mut self.document, names).map_err(|(one, other)| {
            Error::permanent(format!(
                "sections [{one}] and [{other}] are the same section: put all keys into [{}]",
                canonical(names)
            ))
        })? {
            None => Table::new(),
            Some((_, Value::Table(keys))) => keys,
            Some((name, value)) => {
                return Err(Error::permanent(format!(
                    "{name}: expected a section [{name}], found {}",
                    found(&value)
                )));
            }
        };
        Ok(())
    }

    /// Notes the keys of the section that nobody took.
    fn leave(&mut self) {
        for (key, _) in std::mem::take(&mut self.keys) {
            self.unknown.push((self.section.clone(), key));
        }
    }

    /// Something the user should know that does not stop the start.
    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// All warnings, unknown keys and sections included.
    pub(super) fn finish(&mut self) -> Vec<String> {
        self.leave();
        for (key, value) in std::mem::take(&mut self.document) {
            let (what, hint) = if value.is_table() {
                let names = self.known.iter().map(|(section, _)| section.as_str());
                (
                    format!("unknown section [{key}]"),
                    nearest::similar(&key, names),
                )
            } else {
                (
                    format!("{key}, above the first section,"),
                    nearest::elsewhere("", &key, &self.known),
                )
            };
            self.warnings.push(ignored(&what, hint));
        }
        for (section, key) in std::mem::take(&mut self.unknown) {
            let hint = nearest::hint(&section, &key, &self.known);
            self.warnings
                .push(ignored(&format!("unknown key {section}.{key}"), hint));
        }
        std::mem::take(&mut self.warnings)
    }

    /// A key that earlier versions had: accepted whatever its value, and named in a warning with what is true now.
    pub(super) fn retired(&mut self, key: &str, now: &str) {
        if self.keys.remove(key).is_some() {
            let section = &self.section;
            self.warnings
                .push(format!("{section}.{key} is ignored: {now}"));
        }
    }

    /// The value of every key, given or not.
    pub(super) fn values(&mut self) -> Values {
        std::mem::take(&mut self.values)
    }

    /// Keeps a value for comparison with that of another file.
    pub(super) fn note<T: Debug>(&mut self, names: &'static str, value: T) -> T {
        self.note_text(names, format!("{value:?}"));
        value
    }

    fn note_text(&mut self, names: &'static str, text: String) {
        let key = format!("{}.{}", self.section, canonical(names));
        self.values.0.insert(key, Secret::new(text));
    }

    /// Every key asked for so far: section and spellings.
    #[cfg(test)]
    pub(super) fn known(&self) -> &[(String, &'static str)] {
        &self.known
    }

    /// Takes a key: its spelling in the file and its value.
    pub(super) fn take(&mut self, names: &'static str) -> Result<Option<(String, Value)>> {
        self.known.push((self.section.clone(), names));
        pick(&mut self.keys, names).map_err(|(one, other)| {
            Error::permanent(format!(
                "{s}.{one} and {s}.{other} are two spellings of the same key: keep one, \
                 best as {}",
                canonical(names),
                s = self.section
            ))
        })
    }

    /// The error for a value that cannot be used.
    pub(super) fn bad(&self, key: &str, value: &Value, why: impl Display) -> Error {
        Error::permanent(format!("{}.{key} = {}: {why}", self.section, show(value)))
    }

    /// A value of the wrong type.
    pub(super) fn wrong_type(&self, key: &str, value: &Value, expected: &str) -> Error {
        let why = format!("expected {expected}, found {}", found(value));
        self.bad(key, value, why)
    }

    /// A string.
    pub(super) fn text(&mut self, names: &'static str, default: &str) -> Result<String> {
        let text = match self.take(names)? {
            None => default.into(),
            Some((_, Value::String(text))) => text,
            Some((key, value)) => return Err(self.wrong_type(&key, &value, "a string in quotes")),
        };
        Ok(self.note(names, text))
    }

    /// A string that no message may show.
    pub(super) fn secret(&mut self, names: &'static str) -> Result<Secret> {
        let secret = match self.take(names)? {
            None => Secret::default(),
            Some((_, Value::String(text))) => Secret::new(text),
            Some((key, value)) => {
                return Err(Error::permanent(format!(
                    "{}.{key}: expected a string in quotes, found {} (value not shown)",
                    self.section,
                    found(&value)
                )));
            }
        };
        // Its Debug shows nothing that could be compared.
        self.note_text(names, secret.reveal().to_string());
        Ok(secret)
    }

    /// A boolean.
    pub(super) fn flag(&mut self, names: &'static str, default: bool) -> Result<bool> {
        let flag = match self.take(names)? {
            None => default,
            Some((_, Value::Boolean(flag))) => flag,
            Some((key, value)) => {
                return Err(self.wrong_type(&key, &value, "true or false, without quotes"));
            }
        };
        Ok(self.note(names, flag))
    }

    /// A whole number within a range.
    pub(super) fn number<T>(
        &mut self,
        names: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Debug,
    {
        let Some((key, value)) = self.take(names)? else {
            return Ok(self.note(names, default));
        };
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = value.as_integer() else {
            let expected = format!("{expected}, without quotes");
            return Err(self.wrong_type(&key, &value, &expected));
        };
        match T::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(self.note(names, number)),
            _ => Err(self.bad(&key, &value, format!("expected {expected}"))),
        }
    }

    /// A TCP port.
    pub(super) fn port(&mut self, names: &'static str, default: u16) -> Result<u16> {
        self.number(names, default, 1..=u16::MAX)
    }

    /// A list of strings; a list in the file replaces the default.
    pub(super) fn list(&mut self, names: &'static str, default: &[&str]) -> Result<Vec<String>> {
        let list = match self.take(names)? {
            None => default.iter().map(ToString::to_string).collect(),
            Some((key, value)) => strings(&value).ok_or_else(|| {
                self.wrong_type(&key, &value, "a list of strings such as [\"a\", \"b\"]")
            })?,
        };
        Ok(self.note(names, list))
    }

    /// A duration in Go syntax.
    pub(super) fn duration(&mut self, names: &'static str, default: Duration) -> Result<Duration> {
        let duration = match self.take(names)? {
            None => Ok(default),
            Some((key, value)) => match &value {
                Value::String(text) => duration::parse(text).map_err(|why| {
                    let why = format!("{why}; write it like \"90s\", \"10m\" or \"1h30m\"");
                    self.bad(&key, &value, why)
                }),
                Value::Integer(n) => {
                    let n = n.unsigned_abs();
                    let why = format!(
                        "missing unit in duration; write it as a string with its unit, such as {key} = \"{n}s\""
                    );
                    Err(self.bad(&key, &value, why))
                }
                Value::Float(_) => {
                    let why = "missing unit in duration; write it as a string with its unit, such as \"1.5s\"";
                    Err(self.bad(&key, &value, why))
                }
                _ => Err(self.wrong_type(&key, &value, "a duration in quotes such as \"90s\"")),
            },
        }?;
        Ok(self.note(names, duration))
    }

    /// One of several words, whose case does not matter.
    pub(super) fn choice<T: Copy + Debug>(
        &mut self,
        names: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> Result<T> {
        let Some((key, value)) = self.take(names)? else {
            return Ok(self.note(names, default));
        };
        let word = value.as_str().unwrap_or_default();
        let chosen = words
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let Some((_, choice)) = chosen else {
            let words: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
            let why = format!("expected one of {}", words.join(", "));
            return Err(self.bad(&key, &value, why));
        };
        Ok(self.note(names, *choice))
    }

    /// `[custom-commands.NAME]`: every sub-section's `cmd`. Names are kept as they are: they are part of a URL.
    pub(super) fn commands(&mut self) -> Result<BTreeMap<String, String>> {
        let mut commands = BTreeMap::new();
        let section = self.section.clone();
        for (name, value) in std::mem::take(&mut self.keys) {
            let Value::Table(keys) = value else {
                return Err(Error::permanent(format!(
                    "{section}.{name}: expected a section [{section}.{name}] with cmd = \"...\", found {}",
                    found(&value)
                )));
            };
            self.keys = keys;
            self.section = format!("{section}.{name}");
            let command = self.text("cmd", "")?;
            if command.trim().is_empty() {
                self.warn(format!(
                    "{section}.{name} has no cmd and is left out: give it cmd = \"...\" or remove it"
                ));
            } else {
                commands.insert(name, command);
            }
            self.leave();
        }
        self.section = section;
        Ok(commands)
    }
}

/// The documented spelling.
fn canonical(names: &'static str) -> &'static str {
    names.split('|').next().unwrap_or(names)
}

/// Removes the one entry that has one of these names. Two such entries are returned as the error.
fn pick(
    table: &mut Table,
    names: &str,
) -> std::result::Result<Option<(String, Value)>, (String, String)> {
    let mut present = table
        .keys()
        .filter(|key| names.split('|').any(|name| name.eq_ignore_ascii_case(key)))
        .cloned();
    let (first, second) = (present.next(), present.next());
    drop(present);
    match (first, second) {
        (Some(one), Some(other)) => Err((one, other)),
        (Some(key), None) => Ok(table.remove(&key).map(|value| (key, value))),
        _ => Ok(None),
    }
}

/// The strings of a list, or nothing if it is no list or holds something else.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?;
    items
        .iter()
        .map(|item| item.as_str().map(String::from))
        .collect()
}

/// A value as the file has it, as far as that is short.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(_) => "[...]".into(),
        Value::Table(_) => "{...}".into(),
    }
}

/// What kind of value that is, in words.
fn found(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false without quotes",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

/// A syntax error with its place, counted from 1.
fn syntax(text: &str, e: &toml::de::Error) -> Error {
    let reason = e.message().replace('\n', "; ");
    let place = e
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            format!("line {line}, column {column}: ")
        });
    Error::permanent(format!(
        "{}invalid TOML: {reason}",
        place.unwrap_or_default()
    ))
}

fn ignored(what: &str, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{what} is ignored; {hint}"),
        None => format!("{what} is ignored"),
    }
}
