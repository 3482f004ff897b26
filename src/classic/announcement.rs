//! What a source sends to its target, as the notes of the handshake of a seed stream: with TLS and `common.seed-secret`, as any other. The
//! stream itself carries one byte: it is open as long as the source has a part in the copy.

use crate::config::{Common, Compression, Config, SocatTls};
use crate::error::{Error, OnPath, Result};
use crate::seed::Method;
use crate::stream::Settings;
use crate::sys::host::is_host;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, ToSocketAddrs};

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

    /// That the host is the one at the other end of the connection, `peer`, unless that has proven the secret or has a certificate: this
    /// agent logs in to MySQL there.
    pub(super) fn check_peer(&self, peer: IpAddr, common: &Common, tls: &SocatTls) -> Result<()> {
        check_host(&self.host)?;
        let proven = !common.seed_secret.is_empty() || tls.use_ssl && !tls.ssl_skip_verify;
        if proven {
            return Ok(());
        }
        let found = (self.host.as_str(), self.mysql_port).to_socket_addrs();
        let mut found = found.on(format!("the name {} of the source", self.host))?;
        let same = |at: IpAddr| {
            let (at, peer) = (at.to_canonical(), peer.to_canonical());
            at == peer || at.is_loopback() && peer.is_loopback()
        };
        if found.any(|at| same(at.ip())) {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "{peer} announces itself as {}, which has another address here: set common.seed-secret on both hosts, by which a source proves              that it is one, or correct the name's address",
            self.host
        )))
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

/// That it can be a host name or an address: it becomes an argument of tools, and part of SQL statements.
pub(super) fn check_host(host: &str) -> Result<()> {
    if is_host(host) {
        return Ok(());
    }
    let text = format!("{host:?} is not a host name or an address");
    Err(Error::permanent(text))
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
