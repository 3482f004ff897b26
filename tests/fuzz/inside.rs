//! What the fuzz targets call, as a module of the crate: these parsers are private to it.

use crate::config::Compression;
use crate::mysql::binlog_file;
use crate::stream::{frame, hello};
use crate::tls::der::Certificate;

/// The head of a request.
pub fn request(bytes: &[u8]) {
    crate::http::fuzz::head(bytes);
}

/// The walk through a client's certificate.
pub fn certificate(bytes: &[u8]) {
    if let Some(c) = Certificate::parse(bytes) {
        assert!(
            c.organizational_units
                .iter()
                .map(String::len)
                .sum::<usize>()
                <= 2 * bytes.len()
        );
    }
}

/// Handshakes of unauthenticated peers at the seed port, of either side.
pub fn handshake(bytes: &[u8]) {
    let mut from = bytes;
    while let Ok((body, _)) = hello::read(&mut from) {
        let _ = hello::parse::<hello::Greeting>(&body);
        let _ = hello::parse::<hello::Offer>(&body);
        let _ = hello::parse::<hello::Answer>(&body);
    }
}

/// A relay log that is to be applied.
pub fn binlog(bytes: &[u8]) {
    let _ = binlog_file::contents(bytes);
    if let Ok(mut log) = binlog_file::Applicable::new(bytes) {
        // What is left out is made of complete events, and nothing is added.
        let read = std::io::copy(&mut log, &mut std::io::sink());
        assert!(read.is_err() || read.is_ok_and(|n| n <= bytes.len() as u64));
    }
}

/// Frames of a seed stream in each compression; the first byte chooses, and whether checksums count.
pub fn frames(bytes: &[u8]) {
    let Some((first, mut from)) = bytes.split_first() else {
        return;
    };
    let compression =
        [Compression::None, Compression::Lz4, Compression::Zstd][usize::from(first % 3)];
    let Ok(mut decoder) = frame::Decoder::new(compression, first & 0x80 != 0) else {
        return;
    };
    while let Ok(frame) = decoder.read(&mut from) {
        if let frame::Frame::Data(raw) = frame {
            assert!(raw.len() <= 1 << 20);
        }
    }
}
