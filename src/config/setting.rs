//! How the value of a key is read, by its type in the configuration.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use log::LevelFilter;
use toml::de::DeValue;

use super::duration;
use crate::error::OnPath;

pub(super) struct Key<'a> {
    /// The spellings, the documented one first. Upper and lower case are equal.
    pub(super) names: Vec<String>,
    range: RangeInclusive<u64>,
    pub(super) value: &'a mut dyn Setting,
}

impl<'a> Key<'a> {
    /// `names`: none for that of the field; `range`: none for all values.
    pub(super) fn new(
        field: &str,
        names: &[&str],
        range: &[RangeInclusive<u64>],
        value: &'a mut dyn Setting,
    ) -> Self {
        let names = match names {
            [] => vec![field.replace('_', "-")],
            names => names.iter().map(ToString::to_string).collect(),
        };
        let range = range.first().cloned().unwrap_or(0..=u64::MAX);
        Self {
            names,
            range,
            value,
        }
    }

    pub(super) fn read(&mut self, given: &DeValue) -> Result<(), Wrong> {
        self.value.read(given, &self.range)
    }
}

/// Why a value cannot be used.
pub(super) enum Wrong {
    /// It has another type than this one.
    Type(String),
    Value(String),
    /// The default is used, with a warning, as in the Go agent: a file that worked must go on working.
    Ignored(String),
}

pub(super) trait Setting: Debug {
    /// Takes over a value of the file. Numbers must be within the range, and durations not be zero if it begins above that.
    fn read(&mut self, given: &DeValue, range: &RangeInclusive<u64>) -> Result<(), Wrong>;

    /// What differs if the value does.
    fn fingerprint(&self) -> String {
        format!("{self:?}")
    }

    fn is_secret(&self) -> bool {
        false
    }
}

/// The reader of each type.
macro_rules! readers {
    ($($type:ty: $given:ident, $range:pat => $value:expr;)+) => {
        $(impl Setting for $type {
            fn read(&mut self, $given: &DeValue, $range: &RangeInclusive<u64>) -> Result<(), Wrong> {
                *self = $value?;
                Ok(())
            }
        })+
    };
}

readers! {
    bool: given, _ => typed(given.as_bool(), "true or false, without quotes");
    String: given, _ => text(given).map(Into::into);
    PathBuf: given, _ => text(given).map(Into::into);
    u16: given, range => number(given, range);
    u64: given, range => number(given, range);
    usize: given, range => number(given, range);
    Duration: given, range => duration(given, *range.start() == 0);
    LevelFilter: given, _ => level(text(given)?);
    Vec<String>: given, _ => list(given, "a list of strings such as [\"a\", \"b\"]");
    Urls: given, _ => urls(given);
    MethodNames: given, _ => method_names(given);
}

/// A value that must never be printed: its `Debug` shows only whether it is set.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the difference is; only the length shows.
    pub(crate) fn matches(&self, given: &str) -> bool {
        let (a, b) = (given.as_bytes(), self.0.as_bytes());
        let mut different = u8::from(a.len() != b.len());
        for (i, x) in a.iter().enumerate() {
            different |= x ^ b.get(i).copied().unwrap_or(0);
        }
        std::hint::black_box(different) == 0
    }

    /// The content of a file without one trailing newline; `name` is for the error.
    pub(crate) fn of_file(name: &str, path: &Path) -> crate::error::Result<Self> {
        let text = std::fs::read_to_string(path).on(name)?;
        Ok(Self::new(text.strip_suffix('\n').unwrap_or(&text)))
    }

    /// True if nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(not set)"
        } else {
            "(set)"
        })
    }
}

impl Setting for Secret {
    fn read(&mut self, given: &DeValue, _: &RangeInclusive<u64>) -> Result<(), Wrong> {
        *self = Self::new(text(given)?);
        Ok(())
    }

    /// Keyed by chance, so it reveals nothing.
    fn fingerprint(&self) -> String {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        KEYED.hash_one(self.reveal()).to_string()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

fn typed<T>(value: Option<T>, expected: impl Into<String>) -> Result<T, Wrong> {
    value.ok_or_else(|| Wrong::Type(expected.into()))
}

fn text<'a>(given: &'a DeValue) -> Result<&'a str, Wrong> {
    typed(given.as_str(), "a string in quotes")
}

fn list(given: &DeValue, expected: &str) -> Result<Vec<String>, Wrong> {
    let items = typed(given.as_array(), expected)?.iter();
    let texts = items.map(|item| item.get_ref().as_str().map(String::from));
    typed(texts.collect(), expected)
}

/// What does not fit is out of every range.
fn integer(given: &DeValue) -> Option<i128> {
    let number = given.as_integer()?;
    Some(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
}

fn number<T: TryFrom<u64>>(given: &DeValue, range: &RangeInclusive<u64>) -> Result<T, Wrong> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let number = typed(integer(given), format!("{expected}, without quotes"))?;
    let number = u64::try_from(number).ok().filter(|n| range.contains(n));
    let number = number.and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| Wrong::Value(format!("expected {expected}")))
}

fn duration(given: &DeValue, may_be_zero: bool) -> Result<Duration, Wrong> {
    let example = match (integer(given), given.is_float()) {
        (Some(number), _) => Some(format!("{}s", number.unsigned_abs())),
        (None, true) => Some("1.5s".into()),
        (None, false) => None,
    };
    let why = if let Some(example) = example {
        format!("missing unit in duration; write it as a string with its unit, such as {example:?}")
    } else {
        match duration::parse(typed(given.as_str(), "a duration in quotes such as \"90s\"")?) {
            Err(why) => format!("{why}; write it like \"90s\", \"10m\" or \"1h30m\""),
            Ok(duration) if may_be_zero || !duration.is_zero() => return Ok(duration),
            Ok(_) => "must not be zero: give it a positive duration such as \"60s\", or remove it for the default".into(),
        }
    };
    Err(Wrong::Value(why))
}

fn level(word: &str) -> Result<LevelFilter, Wrong> {
    let level = word.parse().ok().filter(|level| *level != LevelFilter::Off);
    level.ok_or_else(|| {
        let why = "ignored and \"info\" used; the levels are error, warn, info, debug, trace";
        Wrong::Ignored(why.into())
    })
}

/// One of several words, whose case does not matter.
pub(super) fn word<T: Copy>(given: &DeValue, words: &[(&str, T)]) -> Result<T, Wrong> {
    let given = given.as_str().unwrap_or_default();
    let mut all = words.iter();
    if let Some((_, value)) = all.find(|(word, _)| word.eq_ignore_ascii_case(given)) {
        return Ok(*value);
    }
    let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    Err(Wrong::Value(format!(
        "expected one of {}",
        words.join(", ")
    )))
}

/// `orchestrator.url`: one address or a list. A missing one is left to the validation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Urls(Vec<String>);

impl Deref for Urls {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
impl From<Vec<String>> for Urls {
    fn from(all: Vec<String>) -> Self {
        Self(all)
    }
}

fn urls(given: &DeValue) -> Result<Urls, Wrong> {
    let one = given.as_str();
    let all = match one {
        Some(one) if one.trim().is_empty() => Vec::new(),
        Some(one) => vec![one.to_string()],
        None => list(given, "a string in quotes or a list of strings")?,
    };
    let (mut urls, mut wrong) = (Vec::new(), Vec::new());
    for url in &all {
        match address(url) {
            Ok(url) => urls.push(url),
            Err(why) if one.is_some() => wrong.push(why.to_string()),
            Err(why) => wrong.push(format!("{url:?}: {why}")),
        }
    }
    if wrong.is_empty() {
        return Ok(Urls(urls));
    }
    let hint = "write it like \"http://orchestrator.example.com\"";
    Err(Wrong::Value(format!("{}; {hint}", wrong.join("; "))))
}

/// `classic.seed-method`: names of seed methods as on the wire, the preferred one first; empty for `"auto"`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MethodNames(Vec<&'static str>);

impl Deref for MethodNames {
    type Target = [&'static str];

    fn deref(&self) -> &[&'static str] {
        &self.0
    }
}

fn method_names(given: &DeValue) -> Result<MethodNames, Wrong> {
    const NAMES: [&str; 5] = ["ClonePlugin", "LVM", "Mydumper", "Mysqldump", "Xtrabackup"];
    let all = match given.as_str() {
        Some(one) if one.eq_ignore_ascii_case("auto") => return Ok(MethodNames::default()),
        Some(one) => vec![one.to_string()],
        None => list(
            given,
            "\"auto\" or a list of seed methods such as [\"Xtrabackup\", \"Mysqldump\"]",
        )?,
    };
    let mut names = Vec::new();
    for one in &all {
        match NAMES
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(one))
        {
            Some(name) if !names.contains(&name) => names.push(name),
            Some(name) => return Err(Wrong::Value(format!("{name} is in it twice: keep one"))),
            None => {
                let why = format!(
                    "{one:?} is not a seed method; the methods are {}",
                    NAMES.join(", ")
                );
                return Err(Wrong::Value(why));
            }
        }
    }
    if names.is_empty() {
        return Err(Wrong::Value(
            "the list is empty: name a method, or write \"auto\"".into(),
        ));
    }
    Ok(MethodNames(names))
}

/// `scheme://host[:port][/prefix]`, with `http` as the scheme where there is none, and no slash at the end.
fn address(given: &str) -> Result<String, &'static str> {
    let url = given.trim().trim_end_matches('/');
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // The slashes of a bare "http://" are gone by now.
        None if url.ends_with(':') => return Err("the host is empty"),
        None => ("http".into(), url),
    };
    if scheme != "http" && scheme != "https" {
        return Err("the scheme must be http or https");
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.starts_with(':') {
        return Err("the host is empty");
    }
    if rest.contains(['?', '#', '@']) || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        return Err("there must be nothing but a path behind the host");
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|v6| v6.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("?"))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if !host.chars().all(allowed) {
        return Err("this is not a host name or address");
    }
    let is_port =
        |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0);
    if port.is_some_and(|p| !is_port(p)) {
        return Err(
            "the port is not a number from 1 to 65535, and an IPv6 address belongs into [ ]",
        );
    }
    Ok(format!("{scheme}://{rest}"))
}
