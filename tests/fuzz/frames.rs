//! Frames of a seed stream.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::fuzz::frames(bytes));
