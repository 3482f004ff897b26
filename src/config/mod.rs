//! The configuration file: TOML in, one typed [`Config`] out, or an error that names key, value and remedy.
//! The format is the Go agent's (agent-api-v2 section 5), so its files go on working; new keys are in DESIGN section 9.
//! `conf/orchestrator-agent.conf` shows every key with its default.

mod allow;
mod build;
pub(crate) mod duration;
mod inside;
mod nearest;
mod reader;
mod reloaded;
mod types;
mod unbuilt;
mod validate;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use allow::AllowList;
pub use inside::inside;
pub use reloaded::{RELOADED, Values, is_reloaded};
pub use types::*;
pub use unbuilt::unbuilt;

use crate::error::{Error, Result};

/// Where the Go agents' file is too.
pub const DEFAULT_PATH: &str = "/etc/orchestrator-agent.conf";

/// A configuration that can be used, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated configuration.
    pub config: Config,
    /// Ignored keys and the like, one sentence each, for the log.
    pub warnings: Vec<String>,
    /// All keys with their values, to compare with those of a later reading.
    pub values: Values,
}

/// Reads, parses and validates a file, and refuses settings that this version does not obey. Errors begin with the
/// path.
pub fn load(path: &Path) -> Result<Loaded> {
    let name = path.display();
    let (text, mode) = read(path)?;
    let mut loaded = parse(&text).map_err(|e| e.context(&name))?;
    if let Some(e) = unbuilt(&loaded.config) {
        return Err(e.context(&name));
    }
    if mode & 0o004 != 0 {
        loaded.warnings.push(format!(
            "{name} holds a password and every user can read it: run chmod o-r on it"
        ));
    }
    Ok(loaded)
}

/// Parses and validates a text.
pub fn parse(text: &str) -> Result<Loaded> {
    let mut reader = reader::Reader::new(text)?;
    let config = build::build(&mut reader)?;
    let warnings = reader.finish();
    let values = reader.values();
    match validate::validate(&config) {
        Ok(()) => Ok(Loaded {
            config,
            warnings,
            values,
        }),
        // A key that is missing may be there under a wrong name.
        Err(e) if !warnings.is_empty() => {
            let found = warnings.join("; ");
            Err(Error::permanent(format!("{e}. Also: {found}")))
        }
        Err(e) => Err(e),
    }
}

/// The file's text and its mode bits.
fn read(path: &Path) -> Result<(String, u32)> {
    let name = path.display();
    let failed = |e: &std::io::Error| {
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
        Error::permanent(format!("{name}: {e}: {remedy}"))
    };
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let mode = file
        .metadata()
        .map_err(|e| failed(&e))?
        .permissions()
        .mode();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        Error::permanent(format!(
            "{name}: line {line} is not UTF-8 text: save the file as UTF-8"
        ))
    })?;
    Ok((text, mode))
}
