//! Runs targets/proxy.rs under libFuzzer.

#![no_main]

#[path = "../targets/proxy.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
