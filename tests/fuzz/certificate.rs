//! The walk through a client's certificate.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::fuzz::certificate(bytes));
