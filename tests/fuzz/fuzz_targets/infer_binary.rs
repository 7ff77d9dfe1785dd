//! `entries::infer_binary` under libFuzzer.
#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code, reason = "the others have targets of their own")]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::infer_binary(data));
