//! The parser of request heads.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::fuzz::request(bytes));
