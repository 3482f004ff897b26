//! What a check has found in a server, and what a method makes of it.

use crate::error::{Error, Result};
use crate::mysql::Flavour;
use crate::seed::types::Method;
use std::collections::BTreeSet;

/// How many objects a message names.
const NAMED: usize = 10;

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

/// Found objects of one kind.
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
            text: format!("{what} {}", first_of(names)),
            outcome,
        }
    }

    /// For a message: objects, reason and remedy.
    pub(crate) fn message(&self) -> String {
        let (Outcome::Inexact(why) | Outcome::Warning(why) | Outcome::Refused(why)) = self.outcome;
        format!("{}: {why}", self.text)
    }
}

/// The first ten of `names`, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The first two of `users`, and how many more there are.
pub(super) fn first_two(users: &BTreeSet<String>) -> String {
    let mut out = users.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
    if users.len() > 2 {
        out.push_str(&format!(" and {} more", users.len() - 2));
    }
    out
}

/// The findings that `method` copies all the same, as messages.
///
/// # Errors
/// Permanent: what it cannot copy, by name and with what can be done.
pub(crate) fn refuse(found: &[Finding], method: Method) -> Result<Vec<String>> {
    let is_refused = |f: &&Finding| matches!(f.outcome, Outcome::Refused(_));
    let (refused, copied): (Vec<&Finding>, Vec<&Finding>) = found.iter().partition(is_refused);
    let texts = |f: &[&Finding]| f.iter().map(|f| f.message()).collect::<Vec<_>>();
    if refused.is_empty() {
        return Ok(texts(&copied));
    }
    Err(Error::permanent(format!(
        "{method} cannot copy what the source has: {}",
        texts(&refused).join("; ")
    )))
}

/// The methods that copy files, for messages.
pub(crate) fn physical_methods(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "Xtrabackup",
        Flavour::MySql => "Xtrabackup or ClonePlugin",
    }
}
