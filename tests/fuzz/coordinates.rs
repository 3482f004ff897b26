//! Where binlog coordinates are read: metadata of all tools, and heads and tails of dumps.
#![no_main]
use orchestrator_agent::coordinates::{Coordinates, metadata, mysqldump};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let found = |c: Coordinates| c.validate().expect("what is taken is whole");
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    let _ = mysqldump::parse(&mut &*bytes, tail);
    let _ = mysqldump::parse(&mut &*head, tail);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for parse in [metadata::snapshot, metadata::mydumper, metadata::binlog_info] {
        if let Ok(c) = parse(text) {
            found(c);
        }
    }
});
