//! The configuration file.
#![no_main]
use orchestrator_agent::config;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = config::parse(text);
    }
});
