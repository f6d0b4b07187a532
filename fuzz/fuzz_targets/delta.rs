//! Runs targets/delta.rs under libFuzzer.

#![no_main]

#[path = "../targets/delta.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
