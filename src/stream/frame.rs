//! Frames: the form in which the tool's bytes travel. A header of 16 bytes, big endian, then the payload:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | 1 data, 2 alive (nothing to send yet), 3 end |
//! | 1 | payload: 0 as it is, 1 lz4 block, 2 zstd |
//! | 2..4 | zero |
//! | 4..8 | length of the payload here, at most 1 MiB and a little |
//! | 8..12 | its length unpacked, at most 1 MiB |
//! | 12..16 | CRC-32 of the first 12 bytes and the payload; zero under TLS, which has a better one |

use super::hello::{invalid, parse};
use crate::config::Compression;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, Read, Write};

pub(super) const MAX_DATA: usize = 1 << 20;
/// Most bytes in a frame on the wire: what does not shrink is sent as it is.
const MAX_PACKED: usize = MAX_DATA + 1024;
const MAX_END: usize = 16 << 10;

const DATA: u8 = 1;
const ALIVE: u8 = 2;
const END: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Bytes of the tool, unpacked.
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) ok: bool,
    pub(crate) error: String,
    /// The sender was cancelled, for that reason.
    #[serde(default)]
    pub(crate) aborted: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Data(&'a [u8]),
    /// The sender has nothing to send yet.
    Alive,
    /// Nothing comes after it.
    End(End),
}

pub(super) struct Encoder {
    packer: Packer,
    checked: bool,
    packed: Vec<u8>,
}

enum Packer {
    None,
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Encoder {
    pub(super) fn new(compression: Compression, checked: bool) -> io::Result<Self> {
        let packer = match compression {
            Compression::None => Packer::None,
            Compression::Lz4 => Packer::Lz4,
            // Level 1: three times less for a third of the time of the default.
            Compression::Zstd => Packer::Zstd(Box::new(zstd::bulk::Compressor::new(1)?)),
        };
        Ok(Self {
            packer,
            checked,
            packed: Vec::new(),
        })
    }

    /// Writes bytes of the tool, at most [`MAX_DATA`].
    pub(super) fn data(&mut self, to: &mut impl Write, raw: &[u8]) -> io::Result<()> {
        let form = self.pack(raw)?;
        let payload = if form == 0 { raw } else { &self.packed };
        write(to, DATA, form, payload, raw.len(), self.checked)
    }

    pub(super) fn alive(&self, to: &mut impl Write) -> io::Result<()> {
        write(to, ALIVE, 0, &[], 0, self.checked)
    }

    pub(super) fn end(&self, to: &mut impl Write, end: &End) -> io::Result<()> {
        let end = End {
            error: end.error.chars().take(2000).collect(),
            ..end.clone()
        };
        let body = serde_json::to_vec(&end).map_err(io::Error::other)?;
        write(to, END, 0, &body, body.len(), self.checked)
    }

    /// Packs into the buffer and returns the form; 0 if it would not shrink.
    fn pack(&mut self, raw: &[u8]) -> io::Result<u8> {
        let form = match &mut self.packer {
            Packer::None => return Ok(0),
            Packer::Lz4 => {
                let most = lz4_flex::block::get_maximum_output_size(raw.len());
                self.packed.resize(most, 0);
                let packed = lz4_flex::block::compress_into(raw, &mut self.packed);
                self.packed.truncate(packed.map_err(io::Error::other)?);
                1
            }
            Packer::Zstd(packer) => {
                self.packed.clear();
                let most = zstd::zstd_safe::compress_bound(raw.len());
                self.packed.reserve(most);
                packer.compress_to_buffer(raw, &mut self.packed)?;
                2
            }
        };
        let shrinks = self.packed.len() < raw.len();
        Ok(if shrinks { form } else { 0 })
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

fn write(
    to: &mut impl Write,
    kind: u8,
    form: u8,
    payload: &[u8],
    raw: usize,
    checked: bool,
) -> io::Result<()> {
    let length = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let mut head = [0; 16];
    (head[0], head[1]) = (kind, form);
    head[4..8].copy_from_slice(&length(payload.len())?.to_be_bytes());
    head[8..12].copy_from_slice(&length(raw)?.to_be_bytes());
    if checked {
        let sum = checksum(&head[..12], payload);
        head[12..].copy_from_slice(&sum.to_be_bytes());
    }
    // Both in one call where that is possible: a packet for the header alone costs more than it holds.
    let mut sent = 0;
    while sent < head.len() {
        match to.write_vectored(&[IoSlice::new(&head[sent..]), IoSlice::new(payload)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => sent += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    to.write_all(&payload[sent - head.len()..])?;
    to.flush()
}

pub(crate) struct Decoder {
    compression: Compression,
    checked: bool,
    wire: Vec<u8>,
    raw: Vec<u8>,
    unpacker: Option<Box<zstd::bulk::Decompressor<'static>>>,
}

impl Decoder {
    /// Of a sender that has named its compression.
    pub(crate) fn new(compression: Compression, checked: bool) -> io::Result<Self> {
        let unpacker = match compression {
            Compression::Zstd => Some(Box::new(zstd::bulk::Decompressor::new()?)),
            _ => None,
        };
        Ok(Self {
            compression,
            checked,
            wire: Vec::new(),
            raw: Vec::new(),
            unpacker,
        })
    }

    /// The next frame; UnexpectedEof at the connection's end, wherever that is, and InvalidData for what is not a frame.
    pub(crate) fn read(&mut self, from: &mut impl Read) -> io::Result<Frame<'_>> {
        let mut head = [0; 16];
        from.read_exact(&mut head)?;
        let number = |at: usize| {
            u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (kind, form, stored, raw, sum) = (head[0], head[1], number(4), number(8), number(12));
        let fits = match kind {
            DATA => raw > 0 && raw <= MAX_DATA && stored > 0 && stored <= MAX_PACKED,
            ALIVE => stored == 0 && raw == 0,
            END => stored == raw && stored <= MAX_END,
            _ => false,
        };
        let known = match form {
            0 => stored == raw,
            1 => kind == DATA && self.compression == Compression::Lz4,
            2 => kind == DATA && self.compression == Compression::Zstd,
            _ => false,
        };
        if !fits || !known || head[2..4] != [0, 0] {
            let text = "invalid frame header: the stream was corrupted in transit";
            return Err(invalid(text));
        }
        if self.wire.len() < stored {
            self.wire.resize(stored.next_power_of_two(), 0);
        }
        let payload = &mut self.wire[..stored];
        from.read_exact(payload)?;
        if self.checked && checksum(&head[..12], payload) as usize != sum {
            let text = "wrong checksum of a frame: the stream was corrupted in transit";
            return Err(invalid(text));
        }
        match (kind, form) {
            (ALIVE, _) => return Ok(Frame::Alive),
            (END, _) => return Ok(Frame::End(parse(payload)?)),
            (_, 0) => return Ok(Frame::Data(&self.wire[..stored])),
            _ => {}
        }
        self.raw.resize(raw, 0);
        let unpacked = match &mut self.unpacker {
            Some(zstd) => zstd.decompress_to_buffer(payload, &mut self.raw[..])?,
            None => lz4_flex::block::decompress_into(payload, &mut self.raw)
                .map_err(|e| invalid(format!("a frame cannot be unpacked: {e}")))?,
        };
        if unpacked != raw {
            let text = "the unpacked length of a frame is not that of its header";
            return Err(invalid(text));
        }
        Ok(Frame::Data(&self.raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| b"abcdefgh"[(i / 3) % 8]).collect()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut x = 1u64;
        let mut step = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 56) as u8
        };
        (0..bytes).map(|_| step()).collect()
    }

    fn wire(compression: Compression) -> Vec<u8> {
        let (mut wire, mut encoder) = (Vec::new(), Encoder::new(compression, true).unwrap());
        encoder.data(&mut wire, &text(5000)).unwrap();
        encoder.alive(&mut wire).unwrap();
        encoder.data(&mut wire, &noise(700)).unwrap();
        let end = End {
            bytes: 5700,
            frames: 2,
            ok: true,
            error: String::new(),
            aborted: false,
        };
        encoder.end(&mut wire, &end).unwrap();
        wire
    }

    fn decode(compression: Compression, mut wire: &[u8]) -> io::Result<(Vec<u8>, End)> {
        let mut decoder = Decoder::new(compression, true)?;
        let mut got = Vec::new();
        loop {
            match decoder.read(&mut wire)? {
                Frame::Data(bytes) => got.extend_from_slice(bytes),
                Frame::Alive => {}
                Frame::End(end) => return Ok((got, end)),
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_comes_out() {
        for compression in ALL {
            let wire = wire(compression);
            let (got, end) = decode(compression, &wire).unwrap();
            assert!(got[..5000] == text(5000) && got[5000..] == noise(700));
            assert_eq!((end.bytes, end.frames, end.ok), (5700, 2, true));
            assert_eq!(
                compression == Compression::None,
                wire.len() > 5700,
                "packed"
            );
        }
    }

    #[test]
    fn the_largest_frames_pass() {
        for compression in ALL {
            for raw in [text(MAX_DATA), noise(MAX_DATA), vec![7]] {
                let (mut wire, mut encoder) =
                    (Vec::new(), Encoder::new(compression, true).unwrap());
                encoder.data(&mut wire, &raw).unwrap();
                let mut decoder = Decoder::new(compression, true).unwrap();
                assert!(decoder.read(&mut &wire[..]).unwrap() == Frame::Data(&raw));
            }
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_error() {
        for compression in ALL {
            let wire = wire(compression);
            for n in 0..wire.len() {
                assert!(decode(compression, &wire[..n]).is_err(), "cut at {n}");
            }
            for at in 0..wire.len() {
                let mut bad = wire.clone();
                bad[at] ^= 1 << (at % 8);
                assert!(decode(compression, &bad).is_err(), "bit in byte {at}");
            }
        }
    }

    #[test]
    fn hostile_lengths_and_forms_are_refused_before_memory_is_asked_for() {
        let refused = |head: [u8; 16]| {
            let mut decoder = Decoder::new(Compression::Lz4, false).unwrap();
            let e = decoder.read(&mut &head[..]).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData, "{head:?}");
        };
        refused([
            1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0,
        ]);
        refused([1, 1, 0, 0, 0, 0, 0, 9, 255, 255, 255, 255, 0, 0, 0, 0]);
        refused([1, 2, 0, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0]); // zstd was not announced
        refused([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // no data in data
        refused([3, 0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]);
        refused([0; 16]);
        // A bomb: lz4 that unpacks to more than it says.
        let packed = lz4_flex::block::compress(&text(100_000));
        let mut wire = vec![1, 1, 0, 0];
        wire.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        wire.extend_from_slice(&500u32.to_be_bytes());
        wire.extend_from_slice(&[0; 4]);
        wire.extend_from_slice(&packed);
        let mut decoder = Decoder::new(Compression::Lz4, false).unwrap();
        assert!(decoder.read(&mut &wire[..]).is_err());
    }
}
