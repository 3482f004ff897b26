//! What the checks find.

use crate::config::Config;
use serde::Serialize;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// The agent does not start, or something that the configuration requires fails.
    Error,
    /// It works, but not as well or as safely as it should.
    Warning,
    Ok,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Finding {
    /// How grave it is.
    pub(super) level: Level,
    /// `section.key`, or a file.
    pub(super) subject: String,
    pub(super) text: String,
    /// What to do; empty if nothing is to be done, or if the text contains it.
    pub(super) remedy: String,
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) fn add(&mut self, level: Level, subject: &str, text: &str, remedy: &str) {
        self.list.push(Finding {
            level,
            subject: subject.into(),
            text: text.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn ok(&mut self, subject: &str, text: impl AsRef<str>) {
        self.add(Level::Ok, subject, text.as_ref(), "");
    }

    pub(super) fn warning(
        &mut self,
        subject: &str,
        text: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        self.add(Level::Warning, subject, text.as_ref(), remedy.as_ref());
    }

    pub(super) fn error(&mut self, subject: &str, text: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.add(Level::Error, subject, text.as_ref(), remedy.as_ref());
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.list.iter().filter(|f| f.level == level).count()
    }
}

/// True if a method is enabled that sends its data over `seed-port`.
pub(super) fn streams(config: &Config) -> bool {
    config.xtrabackup.enabled || config.lvm.enabled
}
