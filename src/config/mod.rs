//! The configuration file: TOML in, one typed [`Config`] out, or all faults of the file, each with line, key, value and remedy.
//! The format is that of the Go agent, whose files are read as they are; the JSON files of the Go agent of the classic protocol are
//! read as well. `conf/orchestrator-agent.conf` shows every key with its default.

mod allow;
mod classic;
mod document;
pub(crate) mod duration;
mod inside;
mod nearest;
mod places;
mod reloaded;
mod setting;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use allow::AllowList;
pub(crate) use inside::inside;
pub(crate) use nearest::nearest;
pub(crate) use reloaded::{Values, is_reloaded};
pub use types::*;

use crate::error::Error;
use crate::sys::Inserted;
use classic::Translation;
use document::Origin;
use places::Places;
use toml::de::DeTable;

/// A configuration that can be used, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    #[allow(missing_docs)]
    pub config: Config,
    /// Ignored keys and the like, one sentence each, for the log.
    pub(crate) warnings: Vec<String>,
    /// All keys with their values, to compare with those of a later reading.
    pub(crate) values: Values,
    /// The path, or all of several.
    pub(crate) file: String,
    /// It is that of the Go agent of the classic protocol.
    pub(crate) is_json: bool,
}

/// Why a file cannot be used. The text has a line for each fault and warning, which begins with the file's path if there is one.
#[derive(Debug)]
pub struct Faults {
    pub(crate) file: String,
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

/// Reads, parses and validates the file, or those in the default places.
pub(crate) fn load(named: Option<&Path>) -> Result<Loaded, Faults> {
    load_from(named, &Places::default())
}

fn load_from(named: Option<&Path>, places: &Places) -> Result<Loaded, Faults> {
    let found = places.find(named).map_err(|unreadable| Faults {
        file: unreadable.file,
        errors: vec![unreadable.why],
        warnings: unreadable.warnings,
    })?;
    let mut result = match found.files.as_slice() {
        [toml] if !found.is_json => parse(&toml.text),
        json => {
            let Translation { toml, origin } = classic::translate(json);
            examine(&toml, &origin)
        }
    };
    let secrets = match &result {
        Ok(loaded) if found.is_json => loaded.config.secrets(),
        _ => (!found.is_json).then_some("a password"),
    };
    let names = found.files.iter().map(|file| file.name.clone());
    let names = names.collect::<Vec<_>>().join(", ");
    let warnings = match &mut result {
        Ok(loaded) => {
            loaded.file.clone_from(&names);
            loaded.is_json = found.is_json;
            &mut loaded.warnings
        }
        Err(faults) => {
            faults.file.clone_from(&names);
            &mut faults.warnings
        }
    };
    warnings.splice(0..0, found.warnings);
    if let Some(secrets) = secrets {
        let open = found.files.iter().filter(|file| file.is_open);
        warnings.extend(open.map(|file| {
            format!(
                "{} holds {secrets} and every user can read it: run chmod o-r on it",
                file.name
            )
        }));
    }
    result
}

/// The TOML equivalent of JSON files of the classic protocol, each of which overrides the earlier ones, and what is ignored in them.
/// It holds the passwords.
pub(crate) fn convert(files: &[PathBuf]) -> Result<(String, Vec<String>), Faults> {
    let mut read = Vec::new();
    for path in files {
        read.push(places::read(path).map_err(|why| Faults {
            file: path.display().to_string(),
            errors: vec![why],
            warnings: Vec::new(),
        })?);
    }
    let Translation { toml, origin } = classic::translate(&read);
    let names = read.iter().map(|file| file.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    match examine(&toml, &origin) {
        Ok(loaded) => Ok((
            classic::document(&names, &toml, &loaded.warnings),
            loaded.warnings,
        )),
        Err(faults) => Err(Faults {
            file: names,
            ..faults
        }),
    }
}

/// Parses and validates a text. With faults in the syntax, those of missing or contradictory settings are not among the faults.
pub fn parse(text: &str) -> Result<Loaded, Faults> {
    examine(text, &Origin::default())
}

fn examine(text: &str, origin: &Origin) -> Result<Loaded, Faults> {
    let (document, wrong) = DeTable::parse_recoverable(text);
    let (mut config, mut found) = document::read(document.get_ref(), text, origin);
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
            file: String::new(),
            is_json: false,
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
