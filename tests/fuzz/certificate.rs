//! The walk through a client's certificate.
#![no_main]
use orchestrator_agent::tls::der::Certificate;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(c) = Certificate::parse(bytes) {
        assert!(c.organizational_units.iter().map(String::len).sum::<usize>() <= 2 * bytes.len());
    }
});
