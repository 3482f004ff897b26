//! Relay logs that clients send.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::fuzz::binlog(bytes));
