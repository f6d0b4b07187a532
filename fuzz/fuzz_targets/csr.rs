//! Runs targets/csr.rs under libFuzzer.

#![no_main]

#[path = "../targets/csr.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
