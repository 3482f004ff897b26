//! What the two ends say before the first byte, and how they prove that they know the secret. All of it comes from anybody
//! who finds the port: every length is bounded before memory is asked for.

use crate::config::{Compression, Secret};
use crate::error::{Error, Result};
use ring::hmac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The first bytes of every hello.
pub const MAGIC: [u8; 8] = *b"OAseed1\n";
/// The version of what follows; another one is refused.
pub const VERSION: u32 = 1;
/// Bytes of a hello's JSON at most.
const LARGEST: usize = 512 << 10;
/// Bytes of a sender's notes at most.
pub const NOTES: usize = 256 << 10;
/// Both ends say this of a proof that is not right.
pub(super) const OTHER_SECRET: &str = "common.seed-secret is not the same on both hosts";
/// Bytes of a proof.
const PROOF: usize = 32;

/// What the listener says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`VERSION`]
    pub version: u32,
    /// Never said before.
    pub nonce: String,
    /// True if a proof is wanted.
    pub secret: bool,
    /// Its idle timer in milliseconds: the sender is heard of at least three times in that.
    pub idle_ms: u64,
}

/// What the sender answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// [`VERSION`]
    pub version: u32,
    /// The seed's number.
    pub seed: i64,
    /// The seed's method.
    pub method: String,
    /// `none`, `lz4`, `zstd`
    pub compression: String,
    /// Never said before.
    pub nonce: String,
    /// What the method has to say about its host; the stream does not look at it.
    pub notes: String,
}

/// What the listener says to that, and at the end: yes, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// At the end, not in reply to the hello.
    pub last: bool,
    /// Yes.
    pub ok: bool,
    /// Why not.
    pub reason: String,
    /// The listener was told to end, for that reason.
    #[serde(default)]
    pub aborted: bool,
}

/// Whose words a proof is about.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// The sender's offer.
    Sender,
    /// The listener's reply.
    Listener,
}

/// A number that is used once, in hexadecimal.
///
/// # Errors
/// If the kernel has no randomness.
pub fn nonce() -> Result<String> {
    crate::sys::host::random_hex(32).map_err(|e| Error::io("random number", &e))
}

/// The word for the wire.
pub fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

/// From the wire.
pub fn compression(word: &str) -> Option<Compression> {
    [Compression::None, Compression::Lz4, Compression::Zstd]
        .into_iter()
        .find(|c| self::word(*c) == word)
}

fn context(from: From, asked: &str, said: &str, body: &[u8]) -> Vec<u8> {
    // Nonces are of a fixed length on our side, and a foreign one cannot shift the border: lengths come first.
    let label: &[u8] = match from {
        From::Sender => b"orchestrator-agent seed stream 1 sender",
        From::Listener => b"orchestrator-agent seed stream 1 listener",
    };
    let mut all = Vec::with_capacity(body.len() + 256);
    for part in [label, asked.as_bytes(), said.as_bytes(), body] {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

/// The proof for `body` in answer to the nonce `asked`, with the own nonce `said`; zeros without a secret.
pub fn prove(secret: &Secret, from: From, asked: &str, said: &str, body: &[u8]) -> [u8; PROOF] {
    let mut proof = [0; PROOF];
    if !secret.is_empty() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let tag = hmac::sign(&key, &context(from, asked, said, body));
        proof.copy_from_slice(tag.as_ref());
    }
    proof
}

/// True if there is no secret, or the proof is right. In constant time.
pub fn proven(
    secret: &Secret,
    from: From,
    asked: &str,
    said: &str,
    body: &[u8],
    proof: &[u8; PROOF],
) -> bool {
    if secret.is_empty() {
        return true;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    hmac::verify(&key, &context(from, asked, said, body), proof).is_ok()
}

/// The JSON of a hello.
///
/// # Errors
/// None that input could cause.
pub fn body(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::permanent(format!("hello: {e}")))
}

/// Writes a hello.
///
/// # Errors
/// The connection's.
pub fn write(to: &mut impl Write, body: &[u8], proof: &[u8; PROOF]) -> io::Result<()> {
    write_with(to, &MAGIC, body, proof)
}

/// Writes the rest of a hello whose magic word was written before.
///
/// # Errors
/// The connection's.
pub fn write_rest(to: &mut impl Write, body: &[u8], proof: &[u8; PROOF]) -> io::Result<()> {
    write_with(to, &[], body, proof)
}

fn write_with(
    to: &mut impl Write,
    magic: &[u8],
    body: &[u8],
    proof: &[u8; PROOF],
) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut all = Vec::with_capacity(body.len() + 64);
    all.extend_from_slice(magic);
    all.extend_from_slice(&length.to_be_bytes());
    all.extend_from_slice(body);
    all.extend_from_slice(proof);
    to.write_all(&all)?;
    to.flush()
}

/// Reads the rest of a hello, behind the magic word.
///
/// # Errors
/// The connection's; InvalidData if it is too long.
pub fn read(from: &mut impl Read) -> io::Result<(Vec<u8>, [u8; PROOF])> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST {
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

/// Understands a hello.
///
/// # Errors
/// InvalidData.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
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
        write(&mut wire, &body, &[9; 32]).unwrap();
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
        let proof = prove(&a, From::Sender, "n1", "n2", b"words");
        let fits = |s: &Secret, from, asked: &str, said: &str, body: &[u8]| {
            proven(s, from, asked, said, body, &proof)
        };
        assert!(fits(&a, From::Sender, "n1", "n2", b"words"));
        assert!(!fits(&b, From::Sender, "n1", "n2", b"words"));
        assert!(!fits(&a, From::Listener, "n1", "n2", b"words"));
        assert!(!fits(&a, From::Sender, "n2", "n1", b"words"));
        assert!(!fits(&a, From::Sender, "n1n", "2", b"words"));
        assert!(!fits(&a, From::Sender, "n1", "n2", b"word"));
        assert!(proven(
            &Secret::default(),
            From::Sender,
            "",
            "",
            b"",
            &[0; 32]
        ));
        assert_eq!(
            prove(&Secret::default(), From::Sender, "", "", b""),
            [0; 32]
        );
    }

    #[test]
    fn words_of_compression() {
        for c in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(compression(word(c)), Some(c));
        }
        assert_eq!(compression("gzip"), None);
    }
}
