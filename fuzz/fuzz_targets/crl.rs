//! libFuzzer's way to targets/crl.rs.

#![no_main]

#[path = "../targets/crl.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
