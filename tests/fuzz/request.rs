//! The gate's guard: heads of requests from anybody.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orchestrator_agent::gate::fuzz(bytes));
