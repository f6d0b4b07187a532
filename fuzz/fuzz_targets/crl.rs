//! Runs targets/crl.rs under libFuzzer.

#![no_main]

#[path = "../targets/crl.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
