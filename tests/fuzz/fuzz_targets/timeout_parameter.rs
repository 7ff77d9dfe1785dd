//! `entries::timeout_parameter` under libFuzzer.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::timeout_parameter(data));
