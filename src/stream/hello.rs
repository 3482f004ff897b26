//! The handshake of the two ends, and how they prove that they know the secret. All of it may come from an unauthenticated peer: every
//! length is checked before memory is allocated.

use crate::config::{Compression, Secret};
use crate::error::{OnPath, Result};
use ring::hmac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The first bytes of every hello.
pub(crate) const MAGIC: [u8; 8] = *b"OAseed1\n";
/// The version of what follows; another one is rejected.
pub(crate) const VERSION: u32 = 1;
const MAX_BODY: usize = 512 << 10;
pub(super) const MAX_NOTES: usize = 256 << 10;
/// Reported by both ends.
pub(super) const OTHER_SECRET: &str = "common.seed-secret is not the same on both hosts";
const PROOF: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) version: u32,
    pub(crate) nonce: String,
    /// True if a proof is required.
    pub(crate) secret: bool,
    /// Its idle timer in milliseconds: the sender sends a frame at least three times in that.
    pub(crate) idle_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) version: u32,
    pub(crate) seed: i64,
    pub(crate) method: String,
    /// `none`, `lz4`, `zstd`
    pub(crate) compression: String,
    pub(crate) nonce: String,
    /// The method's own; not read by the stream.
    pub(crate) notes: String,
}

/// The listener's reply to that, and at the end: yes, or why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// At the end, not in reply to the hello.
    pub(crate) last: bool,
    pub(crate) ok: bool,
    pub(crate) reason: String,
    /// The listener was cancelled, for that reason.
    #[serde(default)]
    pub(crate) aborted: bool,
}

impl Answer {
    pub(super) fn yes(last: bool) -> Self {
        Self {
            last,
            ok: true,
            ..Self::default()
        }
    }

    /// No, for a reason of which the first 2,000 characters are sent.
    pub(super) fn no(last: bool, reason: &str, aborted: bool) -> Self {
        Self {
            last,
            ok: false,
            reason: reason.chars().take(2000).collect(),
            aborted,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Prover {
    Sender,
    Listener,
}

pub(super) fn nonce() -> Result<String> {
    crate::sys::host::random_hex(32).on("random number")
}

pub(super) fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

pub(super) fn compression(word: &str) -> Option<Compression> {
    [Compression::None, Compression::Lz4, Compression::Zstd]
        .into_iter()
        .find(|c| self::word(*c) == word)
}

/// What the proofs of one connection are made of: the secret, and the nonces of both ends.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) secret: Secret,
    pub(super) sender: String,
    pub(super) listener: String,
}

impl Keys {
    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.reveal().as_bytes())
    }

    /// What a proof signs. Lengths come first, so that no foreign nonce can shift a border.
    fn signed(&self, prover: Prover, body: &[u8]) -> Vec<u8> {
        let (sender, listener) = (self.sender.as_bytes(), self.listener.as_bytes());
        let (who, other, own) = match prover {
            Prover::Sender => ("sender", listener, sender),
            Prover::Listener => ("listener", sender, listener),
        };
        let label = format!("orchestrator-agent seed stream 1 {who}");
        let mut all = Vec::with_capacity(body.len() + 256);
        for part in [label.as_bytes(), other, own, body] {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
        all
    }

    /// The proof for `body`; zeros without a secret.
    fn prove(&self, prover: Prover, body: &[u8]) -> [u8; PROOF] {
        let mut proof = [0; PROOF];
        if !self.secret.is_empty() {
            let tag = hmac::sign(&self.key(), &self.signed(prover, body));
            proof.copy_from_slice(tag.as_ref());
        }
        proof
    }

    /// True if there is no secret, or the proof is right. In constant time.
    pub(super) fn is_proven(&self, prover: Prover, body: &[u8], proof: &[u8; PROOF]) -> bool {
        let signed = || self.signed(prover, body);
        self.secret.is_empty() || hmac::verify(&self.key(), &signed(), proof).is_ok()
    }

    /// Writes a hello with the proof of this end. It begins with `magic`: [`MAGIC`], or nothing where that was written before.
    pub(super) fn write(
        &self,
        to: &mut impl Write,
        magic: &[u8],
        prover: Prover,
        hello: &impl Serialize,
    ) -> io::Result<()> {
        let body = serde_json::to_vec(hello)?;
        write(to, magic, &body, &self.prove(prover, &body))
    }
}

/// Writes the listener's first hello, which has no proof.
pub(super) fn write_greeting(to: &mut impl Write, greeting: &Greeting) -> io::Result<()> {
    write(to, &MAGIC, &serde_json::to_vec(greeting)?, &[0; PROOF])
}

fn write(to: &mut impl Write, magic: &[u8], body: &[u8], proof: &[u8; PROOF]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[magic, &length.to_be_bytes(), body, proof].concat())?;
    to.flush()
}

/// Reads the rest of a hello, behind the magic word; InvalidData if it is too long.
pub(crate) fn read(from: &mut impl Read) -> io::Result<(Vec<u8>, [u8; PROOF])> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BODY {
        return Err(invalid(format!("malformed handshake: {length} bytes")));
    }
    // Grows with what arrives, not with what was announced.
    let mut body = Vec::new();
    from.by_ref().take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut proof = [0; PROOF];
    from.read_exact(&mut proof)?;
    Ok((body, proof))
}

/// Parses a hello; InvalidData if it is malformed.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| invalid(format!("malformed handshake: {e}")))
}

pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            version: VERSION,
            seed: 7,
            method: "Xtrabackup".into(),
            compression: word(Compression::Lz4).into(),
            nonce: nonce().unwrap(),
            notes: "{\"a\":1}".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_truncation_is_an_error() {
        let offer = offer();
        let body = serde_json::to_vec(&offer).unwrap();
        let mut wire = Vec::new();
        write(&mut wire, &MAGIC, &body, &[9; 32]).unwrap();
        assert_eq!(wire[..8], MAGIC);
        let (got, proof) = read(&mut &wire[8..]).unwrap();
        assert_eq!((parse::<Offer>(&got).unwrap(), proof), (offer, [9; 32]));
        for n in 8..wire.len() {
            assert!(read(&mut &wire[8..n]).is_err(), "{n}");
        }
        assert!(parse::<Offer>(b"{}").is_err() && parse::<Greeting>(b"\xff").is_err());
    }

    #[test]
    fn a_huge_length_asks_for_no_memory() {
        let e = read(&mut &[0xff, 0xff, 0xff, 0xff, 0][..]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_proof_fits_one_secret_one_side_one_exchange_and_one_text() {
        let (a, b) = (Secret::new("a"), Secret::new("b"));
        let keys = |secret: &Secret, sender: &str, listener: &str| Keys {
            secret: secret.clone(),
            sender: sender.into(),
            listener: listener.into(),
        };
        let proof = keys(&a, "n2", "n1").prove(Prover::Sender, b"words");
        let fits = |s: &Secret, prover, listener: &str, sender: &str, body: &[u8]| {
            keys(s, sender, listener).is_proven(prover, body, &proof)
        };
        assert!(fits(&a, Prover::Sender, "n1", "n2", b"words"));
        assert!(!fits(&b, Prover::Sender, "n1", "n2", b"words"));
        assert!(!fits(&a, Prover::Listener, "n1", "n2", b"words"));
        assert!(!fits(&a, Prover::Listener, "n2", "n1", b"words"));
        assert!(!fits(&a, Prover::Sender, "n2", "n1", b"words"));
        assert!(!fits(&a, Prover::Sender, "n1n", "2", b"words"));
        assert!(!fits(&a, Prover::Sender, "n1", "n2", b"word"));
        let none = keys(&Secret::default(), "", "");
        assert!(none.is_proven(Prover::Sender, b"", &[0; 32]));
        assert_eq!(none.prove(Prover::Sender, b""), [0; 32]);
    }

    #[test]
    fn words_of_compression() {
        for c in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(compression(word(c)), Some(c));
        }
        assert_eq!(compression("gzip"), None);
    }
}
