//! The handshake of the two ends, and how they prove that they know the secret. All of it may come from an unauthenticated peer: every
//! length is checked before memory is allocated.

use crate::config::{Compression, Secret};
use crate::error::{Error, OnPath, Result};
use ring::hmac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The first bytes of every hello.
pub(crate) const MAGIC: [u8; 8] = *b"OAseed1\n";
/// The version of what follows; another one is rejected.
pub(crate) const VERSION: u32 = 1;
/// Most bytes of a hello's JSON.
const MAX_BODY: usize = 512 << 10;
/// Most bytes of a sender's notes.
pub(super) const MAX_NOTES: usize = 256 << 10;
/// Reported by both ends.
pub(super) const OTHER_SECRET: &str = "common.seed-secret is not the same on both hosts";
/// Bytes of a proof.
const PROOF: usize = 32;

/// The listener's hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// [`VERSION`]
    pub(crate) version: u32,
    pub(crate) nonce: String,
    /// True if a proof is required.
    pub(crate) secret: bool,
    /// Its idle timer in milliseconds: the sender sends a frame at least three times in that.
    pub(crate) idle_ms: u64,
}

/// The sender's hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// [`VERSION`]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
            reason: String::new(),
            aborted: false,
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

/// Whose proof it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prover {
    Sender,
    Listener,
}

/// A number that is used once, in hexadecimal.
pub(super) fn nonce() -> Result<String> {
    crate::sys::host::random_hex(32).on("random number")
}

/// The word for the wire.
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

/// The nonces of one connection.
#[derive(Debug, Clone)]
pub(super) struct Nonces {
    pub(crate) sender: String,
    pub(crate) listener: String,
}

/// What a proof signs: the other side's nonce, the own one, and the body. Lengths come first, so that no foreign nonce can shift a border.
fn signed(prover: Prover, nonces: &Nonces, body: &[u8]) -> Vec<u8> {
    let (sender, listener) = (nonces.sender.as_bytes(), nonces.listener.as_bytes());
    let (label, other, own): (&[u8], _, _) = match prover {
        Prover::Sender => (b"orchestrator-agent seed stream 1 sender", listener, sender),
        Prover::Listener => (
            b"orchestrator-agent seed stream 1 listener",
            sender,
            listener,
        ),
    };
    let mut all = Vec::with_capacity(body.len() + 256);
    for part in [label, other, own, body] {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

/// The proof for `body`; zeros without a secret.
pub(super) fn prove(secret: &Secret, prover: Prover, nonces: &Nonces, body: &[u8]) -> [u8; PROOF] {
    let mut proof = [0; PROOF];
    if !secret.is_empty() {
        let tag = hmac::sign(&key(secret), &signed(prover, nonces, body));
        proof.copy_from_slice(tag.as_ref());
    }
    proof
}

/// True if there is no secret, or the proof is right. In constant time.
pub(super) fn is_proven(
    secret: &Secret,
    prover: Prover,
    nonces: &Nonces,
    body: &[u8],
    proof: &[u8; PROOF],
) -> bool {
    secret.is_empty() || hmac::verify(&key(secret), &signed(prover, nonces, body), proof).is_ok()
}

/// The JSON of a hello.
pub(super) fn body(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::permanent(format!("hello: {e}")))
}

/// Writes a hello that begins with `magic`: [`MAGIC`], or nothing where that was written before.
pub(super) fn write(
    to: &mut impl Write,
    magic: &[u8],
    body: &[u8],
    proof: &[u8; PROOF],
) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[magic, &length.to_be_bytes(), body, proof].concat())?;
    to.flush()
}

/// Reads the rest of a hello, behind the magic word.
///
/// # Errors
/// InvalidData if it is too long.
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

pub(super) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
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
        let body = body(&offer).unwrap();
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
        let nonces = |sender: &str, listener: &str| Nonces {
            sender: sender.into(),
            listener: listener.into(),
        };
        let proof = prove(&a, Prover::Sender, &nonces("n2", "n1"), b"words");
        let fits = |s: &Secret, prover, listener: &str, sender: &str, body: &[u8]| {
            is_proven(s, prover, &nonces(sender, listener), body, &proof)
        };
        assert!(fits(&a, Prover::Sender, "n1", "n2", b"words"));
        assert!(!fits(&b, Prover::Sender, "n1", "n2", b"words"));
        assert!(!fits(&a, Prover::Listener, "n1", "n2", b"words"));
        assert!(!fits(&a, Prover::Listener, "n2", "n1", b"words"));
        assert!(!fits(&a, Prover::Sender, "n2", "n1", b"words"));
        assert!(!fits(&a, Prover::Sender, "n1n", "2", b"words"));
        assert!(!fits(&a, Prover::Sender, "n1", "n2", b"word"));
        let (none, empty) = (Secret::default(), nonces("", ""));
        assert!(is_proven(&none, Prover::Sender, &empty, b"", &[0; 32]));
        assert_eq!(prove(&none, Prover::Sender, &empty, b""), [0; 32]);
    }

    #[test]
    fn words_of_compression() {
        for c in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(compression(word(c)), Some(c));
        }
        assert_eq!(compression("gzip"), None);
    }
}
