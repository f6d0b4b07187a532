//! Runs targets/token.rs under libFuzzer.

#![no_main]

#[path = "../targets/token.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
