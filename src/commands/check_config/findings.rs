//! What the checks find.

use crate::config::Config;
use serde::Serialize;

/// Notes what a check has found: `note!(findings, Error, "section.key" => "text {value}"; "remedy")`, without a remedy if nothing is
/// to be done or if the text contains it.
macro_rules! note {
    ($f:expr, $level:ident, $subject:expr => $text:literal $(, $value:expr)* $(; $remedy:literal $(, $part:expr)*)?) => {
        $f.list.push(crate::commands::check_config::findings::Finding {
            level: crate::commands::check_config::findings::Level::$level,
            subject: $subject.to_string(),
            text: format!($text $(, $value)*),
            remedy: String::new() $(+ &format!($remedy $(, $part)*))?,
        })
    };
}

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
    pub(super) level: Level,
    /// `section.key`, or a file.
    pub(super) subject: String,
    pub(super) text: String,
    /// What to do.
    pub(super) remedy: String,
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) fn count(&self, level: Level) -> usize {
        self.list.iter().filter(|f| f.level == level).count()
    }
}

/// True if a method is enabled that sends its data over `seed-port`.
pub(super) fn streams(config: &Config) -> bool {
    config.xtrabackup.enabled || config.lvm.enabled
}
