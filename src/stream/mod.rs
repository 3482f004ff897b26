//! The seed stream between two hosts: bytes of a source on one host to a sink on the other, such that nothing can go wrong silently. The
//! end of a connection is never the end of a copy. The stream knows nothing of the bytes: a source and a sink are what can be read
//! and written.
//!
//! # On the wire
//!
//! ```text
//! target (listens on seed-port)                      source (connects)
//!                                           <-         magic word, if it cannot be a raw sender
//!   hello: version, nonce, timers           ->
//!                                           <-         hello: version, seed, method, compression, nonce, notes; proof
//!   reply: yes, or no and why; proof        ->
//!   ready, when it has made room            ->
//!                                           <-         frames: data, alive, ..., end with totals and the tool's verdict
//!   answer: complete and on disk, or why not ->
//! ```
//!
//! - With TLS (`socat-use-ssl`) all of it is inside. A peer without TLS, or without a certificate that verifies, is rejected.
//! - Hellos are a magic word, a length and JSON ([`hello`]). With a `seed-secret` each side proves that it knows the secret by
//!   an HMAC-SHA256 over both nonces and its own hello.
//! - Frames ([`frame`]) are at most 1 MiB, with a checksum (CRC-32; left to TLS where that is used).
//! - An end that fails answers why, or resets the connection.
//! - Other peers are rejected while the listener stays.
//!
//! Raw streams, as a Go agent or socat sends and takes them, have none of this: they are for the time of a migration, and
//! only with `accept-raw-streams = true`.

mod connection;
pub(crate) mod frame;
pub(crate) mod hello;
mod incoming;
mod listener;
mod outgoing;
mod spool;

pub(crate) use incoming::Incoming;
pub use listener::Listener;
pub use outgoing::Outgoing;
pub(crate) use spool::Spool;

use crate::config::{AllowList, Common, Compression, Secret, SocatTls};
use crate::error::{Error, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long either side may take to send its hello, TLS handshake included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of the pipes from and to the tools.
const PIPE_BYTES: usize = 1 << 20;

/// What both ends need to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed's number.
    pub seed: i64,
    /// The seed's method, as on the wire.
    pub method: String,
    /// `common.seed-port`
    pub port: u16,
    /// `common.listen-address`, unspecified for all.
    pub listen: IpAddr,
    /// `common.allowed-clients`; empty: every host.
    pub allowed: AllowList,
    /// `common.seed-secret`; empty: none.
    pub secret: Secret,
    /// The method's socat settings.
    pub tls: SocatTls,
    /// `stream-compression`: the sender's counts.
    pub compression: Compression,
    /// `common.seed-first-byte-timeout`: from the hello to the first byte of the tool.
    pub first_byte: Duration,
    /// `common.seed-idle-timeout`: without any byte from the peer, or without one that it takes.
    pub idle: Duration,
    /// `common.seed-rate-limit` in bytes a second of what the tool gives; 0: none. The sender's counts.
    pub rate_limit: u64,
    /// `common.accept-raw-streams`
    pub accept_raw: bool,
}

impl Settings {
    pub(crate) fn new(
        common: &Common,
        tls: &SocatTls,
        compression: Compression,
        seed: i64,
        method: &str,
    ) -> Result<Self> {
        Ok(Self {
            seed,
            method: method.into(),
            port: common.seed_port,
            listen: common.listen_ip()?,
            allowed: AllowList::parse(&common.allowed_clients)?,
            secret: common.seed_secret.clone(),
            tls: tls.clone(),
            compression,
            first_byte: common.seed_first_byte_timeout,
            idle: common.seed_idle_timeout,
            rate_limit: common.seed_rate_limit,
            accept_raw: common.accept_raw_streams,
        })
    }
}

/// Where the bytes of a copy come from or go to: a pipe, a file, a socket, or anything else that can be read or written.
pub trait Pollable {
    /// What poll(2) can wait for, and splice(2) can write to. `None`: a read or a write may wait; it must end by itself when the stream
    /// does, and a write with a cancellation.
    fn pollable(&self) -> Option<BorrowedFd<'_>>;
}

impl<T: AsFd> Pollable for T {
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// `who`: an end of the stream, or its tool.
fn no_first_byte(who: &str, limit: Duration) -> Error {
    let limit = limit.as_secs_f32();
    Error::transient(format!(
        "{who} gave no byte of the copy for {limit} s (common.seed-first-byte-timeout)"
    ))
}

#[cfg(test)]
mod tests;
