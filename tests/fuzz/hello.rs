//! Hellos of strangers at the seed port, of either side.
#![no_main]
use orchestrator_agent::stream::hello;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut from = bytes;
    while let Ok((body, _)) = hello::read(&mut from) {
        let _ = hello::parse::<hello::Greeting>(&body);
        let _ = hello::parse::<hello::Offer>(&body);
        let _ = hello::parse::<hello::Answer>(&body);
    }
});
