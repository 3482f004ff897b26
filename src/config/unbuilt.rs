//! Settings that this version knows but does not obey yet. Starting without what was asked for, such as encryption,
//! would be worse than not starting.

use super::types::{Config, LogFormat, Protocol};
use crate::error::Error;

/// The error for the first such setting in use.
pub fn unbuilt(config: &Config) -> Option<Error> {
    let checks = [
        (
            config.lvm.socat.use_ssl,
            "lvm.socat-use-ssl = true",
            "lvm.socat-use-ssl = false",
        ),
        (
            config.logging.format != LogFormat::Text,
            "logging.format other than \"text\"",
            "logging.format = \"text\"",
        ),
        (
            config.orchestrator.protocol == Protocol::Classic,
            "orchestrator.protocol = \"classic\"",
            "orchestrator.protocol = \"v2\"",
        ),
    ];
    let (_, key, remedy) = checks.into_iter().find(|(in_use, ..)| *in_use)?;
    Some(Error::permanent(format!(
        "{key} is not available in this version: set {remedy}"
    )))
}
