//! The configuration file: TOML in, one typed [`Config`] out, or all faults of the file, each with line, key, value and remedy.
//! The format is the Go agent's, so its files go on working. `conf/orchestrator-agent.conf` shows every key with its default.

mod allow;
mod document;
pub(crate) mod duration;
mod inside;
mod nearest;
mod reloaded;
mod setting;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use allow::AllowList;
pub(crate) use inside::inside;
pub(crate) use nearest::nearest;
pub(crate) use reloaded::{Values, is_reloaded};
pub use types::*;

use crate::error::Error;
use crate::sys::Inserted;
use toml::de::DeTable;

/// Where the Go agents' file is too.
pub(crate) const DEFAULT_PATH: &str = "/etc/orchestrator-agent.conf";

/// A configuration that can be used, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    #[allow(missing_docs)]
    pub config: Config,
    /// Ignored keys and the like, one sentence each, for the log.
    pub(crate) warnings: Vec<String>,
    /// All keys with their values, to compare with those of a later reading.
    pub(crate) values: Values,
}

/// Why a file cannot be used. The text has a line for each fault and warning, which begins with the file's path if there is one.
#[derive(Debug)]
pub struct Faults {
    file: String,
    /// At least one; those of values in the order of the file, then those of missing or contradictory settings.
    pub(crate) errors: Vec<String>,
    /// A key that is missing may be there under a wrong name.
    pub(crate) warnings: Vec<String>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.file.as_str() {
            "" => String::new(),
            file => format!("{file}: "),
        };
        let all = self.errors.iter().chain(&self.warnings);
        let lines: Vec<_> = all.map(|text| format!("{prefix}{text}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        Self::permanent(faults.to_string())
    }
}

/// Reads, parses and validates a file.
pub(crate) fn load(path: &Path) -> Result<Loaded, Faults> {
    let file = path.display().to_string();
    let named = |errors, warnings| Faults {
        file: file.clone(),
        errors,
        warnings,
    };
    let (text, mode) = read(path).map_err(|fault| named(vec![fault], Vec::new()))?;
    let mut result = parse(&text).map_err(|faults| named(faults.errors, faults.warnings));
    if mode & 0o004 != 0 {
        let warnings = match &mut result {
            Ok(loaded) => &mut loaded.warnings,
            Err(faults) => &mut faults.warnings,
        };
        warnings.push(format!(
            "{file} holds a password and every user can read it: run chmod o-r on it"
        ));
    }
    result
}

/// Parses and validates a text. With faults in the syntax, those of missing or contradictory settings are not among the faults.
pub fn parse(text: &str) -> Result<Loaded, Faults> {
    let (document, wrong) = DeTable::parse_recoverable(text);
    let (mut config, mut found) = document::read(document.get_ref(), text);
    let syntax = syntax(text, &wrong);
    for list in [&mut found.faults, &mut found.warnings] {
        list.retain(|(line, _)| !syntax.contains_key(line));
    }
    found.faults.extend(syntax);
    found.faults.sort();
    found.warnings.sort();
    if wrong.is_empty() {
        let rules = validate::validate(&config, &found);
        found.faults.extend(rules);
    }
    let texts = |list: Vec<(usize, String)>| list.into_iter().map(|(_, text)| text).collect();
    let (errors, warnings): (Vec<_>, _) = (texts(found.faults), texts(found.warnings));
    if errors.is_empty() {
        return Ok(Loaded {
            values: Values::of(&mut config),
            config,
            warnings,
        });
    }
    Err(Faults {
        file: String::new(),
        errors,
        warnings,
    })
}

/// The faults of the syntax by line: the first of each, because it may lead to others.
fn syntax(document: &str, wrong: &[toml::de::Error]) -> BTreeMap<usize, String> {
    let at = |e: &toml::de::Error| e.span().map_or(0, |span| span.start);
    let mut wrong: Vec<_> = wrong.iter().collect();
    wrong.sort_by_key(|e| std::cmp::Reverse(at(e)));
    let text = |e: &toml::de::Error| {
        let (line, before) = document::place(document, at(e));
        let column = before.chars().count() + 1;
        // The line itself is not shown: it may hold a password.
        let reason = e.message().replace('\n', "; ");
        let text = format!("line {line}, column {column}: invalid TOML: {reason}");
        (line, text)
    };
    wrong.into_iter().map(text).inserted()
}

/// The file's text and its mode bits.
fn read(path: &Path) -> Result<(String, u32), String> {
    let failed = |e: std::io::Error| {
        let remedy = match e.kind() {
            ErrorKind::NotFound => {
                "create it from the sample orchestrator-agent.conf, or name another file with --config"
            }
            ErrorKind::PermissionDenied => {
                "let the user that runs the agent read it (chown or chmod), or name another file with --config"
            }
            ErrorKind::IsADirectory => "name the file itself with --config",
            _ => "the configuration cannot be read",
        };
        format!("{e}: {remedy}")
    };
    let mode = std::fs::metadata(path)
        .map_err(failed)?
        .permissions()
        .mode();
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text: save the file as UTF-8")
    })?;
    Ok((text, mode))
}
