//! What a source tells its target, as the notes of the handshake of a seed stream: with TLS and `common.seed-secret`, as any other. The
//! stream itself carries one byte: it is open as long as the source has a part in the copy.

use crate::config::{Compression, Config};
use crate::error::{Error, Result};
use crate::seed::Method;
use crate::stream::Settings;
use serde::{Deserialize, Serialize};

/// In the place of a method's name in the handshake.
const LINK: &str = "classic";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    /// The seed's method by its name: a later version may have more.
    pub(super) method: String,
    /// The source under the name by which it registers: the target connects to its MySQL there.
    pub(super) host: String,
    pub(super) mysql_port: u16,
    /// Of the source's data, in bytes; 0 = unknown.
    pub(super) size: u64,
    /// Why the source cannot send, or empty.
    #[serde(default)]
    pub(super) error: String,
}

impl Announcement {
    pub(super) fn parse(notes: &[u8]) -> Result<Self> {
        serde_json::from_slice(notes).map_err(|e| {
            Error::permanent(format!(
                "the announcement of the source is not understood ({e}): use the same release of the agent on both hosts"
            ))
        })
    }

    /// The method, or why there is none to use.
    pub(super) fn method(&self) -> Result<Method> {
        if !self.error.is_empty() {
            let text = format!("source {}: {}", self.host, self.error);
            return Err(Error::permanent(text));
        }
        Method::parse(&self.method).ok_or_else(|| {
            Error::permanent(format!(
                "source {} sends by the method {:?}, which this version does not have",
                self.host, self.method
            ))
        })
    }
}

/// The connection of seed `id`.
pub(super) fn settings(config: &Config, id: i64) -> Result<Settings> {
    let tls = &config.xtrabackup.socat;
    let settings = Settings::new(&config.common, tls, Compression::None, id, LINK)?;
    Ok(Settings {
        accept_raw: false,
        rate_limit: 0,
        ..settings
    })
}
