//! Frames of a seed stream in each compression; the first byte chooses, and whether checksums count.
#![no_main]
use orchestrator_agent::config::Compression;
use orchestrator_agent::stream::frame::{Decoder, Frame};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, mut from)) = bytes.split_first() else {
        return;
    };
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd][usize::from(first % 3)];
    let mut decoder = Decoder::new(compression, first & 0x80 != 0).expect("memory");
    while let Ok(frame) = decoder.read(&mut from) {
        if let Frame::Data(raw) = frame {
            assert!(raw.len() <= 1 << 20);
        }
    }
});
