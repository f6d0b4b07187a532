//! libFuzzer's way to targets/crl.rs.

#![no_main]

#[path = "../targets/authority.rs"]
mod authority;
#[path = "../targets/signed.rs"]
mod signed;
#[path = "../targets/crl.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::check(data));
