//! Handshakes of unauthenticated peers at the seed port, of either side.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::fuzz::handshake(bytes));
