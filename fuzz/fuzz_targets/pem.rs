//! Runs targets/pem.rs under libFuzzer.

#![no_main]

#[path = "../targets/pem.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
