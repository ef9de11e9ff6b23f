//! Arbitrary bytes to the property `wire`, which the ordinary tests run, too.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::wire(data));
