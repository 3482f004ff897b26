//! The log: standard output and, where configured, a file opened for appending with mode 0640.

use crate::config::Logging;
use crate::error::{Error, Result};
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// Starts logging. Call it once.
///
/// # Errors
/// `Unable to open log file` (agent-api-v2 section 5), with name and cause.
pub fn start(settings: &Logging) -> Result<()> {
    // Only our own words: a library's debug lines may hold a URL with a token.
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .add_filter_allow_str("orchestrator_agent")
        .build();
    let mut logs: Vec<Box<dyn SharedLogger>> = vec![WriteLogger::new(
        settings.level,
        config.clone(),
        std::io::stdout(),
    )];
    if !settings.file.is_empty() {
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&settings.file);
        let file = open.map_err(|e| {
            Error::io(
                format!(
                    "Unable to open log file: logging.file = \"{}\"",
                    settings.file
                ),
                &e,
            )
        })?;
        logs.push(WriteLogger::new(settings.level, config, file));
    }
    CombinedLogger::init(logs).map_err(|e| Error::permanent(format!("cannot start the log: {e}")))
}
