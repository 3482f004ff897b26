//! What a check has found in a server, and what a method makes of it.

use crate::error::{Error, Result};
use crate::mysql::Flavour;
use crate::seed::types::Method;

/// What a method makes of objects of a kind that it does not copy exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Copies them, but not exactly: how. `--method auto` prefers another method.
    Inexact(&'static str),
    /// Copies them, or cannot know: what the operator has to know. It is no reason for another method.
    Warning(&'static str),
    /// Cannot copy them: why, and what can be done. The seed is refused.
    Refused(&'static str),
}

/// The methods that do not copy objects of a kind exactly.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Any,
    /// Mysqldump and Mydumper.
    Logical,
    /// Those that copy files.
    Physical,
    Mysqldump,
    Mydumper,
    Xtrabackup,
}

impl By {
    pub(super) fn includes(self, method: Method) -> bool {
        let is_logical = matches!(method, Method::Mysqldump | Method::Mydumper);
        match self {
            Self::Any => true,
            Self::Logical => is_logical,
            Self::Physical => !is_logical,
            Self::Mysqldump => method == Method::Mysqldump,
            Self::Mydumper => method == Method::Mydumper,
            Self::Xtrabackup => method == Method::Xtrabackup,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The objects with what they are.
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
}

impl Finding {
    /// `what` and the first of `names`.
    pub(super) fn new(what: &str, names: &[String], outcome: Outcome) -> Self {
        Self {
            text: format!("{what} {}", first_of(10, names)),
            outcome,
        }
    }

    /// For a message: objects, reason and remedy.
    pub(crate) fn message(&self) -> String {
        let (Outcome::Inexact(why) | Outcome::Warning(why) | Outcome::Refused(why)) = self.outcome;
        format!("{}: {why}", self.text)
    }
}

/// The first `n` of `names`, and how many more there are.
pub(crate) fn first_of<'n>(n: usize, names: impl IntoIterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let shown = names[..names.len().min(n)].join(", ");
    match names.len().saturating_sub(n) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The findings that `method` copies all the same, as messages.
///
/// # Errors
/// Permanent: what it cannot copy, by name and with what can be done.
pub(crate) fn refuse(found: &[Finding], method: Method) -> Result<Vec<String>> {
    let is_refused = |f: &&Finding| matches!(f.outcome, Outcome::Refused(_));
    let refused: Vec<String> = found
        .iter()
        .filter(is_refused)
        .map(Finding::message)
        .collect();
    if refused.is_empty() {
        return Ok(found.iter().map(Finding::message).collect());
    }
    Err(Error::permanent(format!(
        "{method} cannot copy what the source has: {}",
        refused.join("; ")
    )))
}

/// The methods that copy files, for messages.
pub(crate) fn physical_methods(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "Xtrabackup",
        Flavour::MySql => "Xtrabackup or ClonePlugin",
    }
}
