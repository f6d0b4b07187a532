//! libFuzzer's way to targets/pem.rs.

#![no_main]

#[path = "../targets/pem.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
