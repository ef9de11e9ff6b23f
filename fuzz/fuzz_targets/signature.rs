//! Arbitrary bytes to the property `signature`, which the ordinary tests run, too.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::signature(data));
