//! Replays the fuzzers' seeds and findings in every test run, on the stable toolchain.

#[path = "../../fuzz/targets/crl.rs"]
mod crl;
#[path = "../../fuzz/targets/csr.rs"]
mod csr;
#[path = "../../fuzz/targets/delta.rs"]
mod delta;
#[path = "../../fuzz/targets/pem.rs"]
mod pem;
#[path = "../../fuzz/targets/token.rs"]
mod token;

use std::{fs, path::Path};

#[test]
fn every_token_is_read_or_refused() {
    replay("token", token::check);
}

#[test]
fn every_text_holds_sections_or_none() {
    replay("pem", pem::check);
}

#[test]
fn every_request_is_read_or_refused() {
    replay("csr", csr::check);
}

#[test]
fn every_crl_is_read_or_refused() {
    replay("crl", crl::check);
}

#[test]
fn every_delta_is_read_or_refused() {
    replay("delta", delta::check);
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is part of the repository") {
        let path = entry.expect("the corpus can be listed").path();
        let seed = fs::read(&path).expect("the corpus can be read");
        let result = std::panic::catch_unwind(|| check(&seed));
        assert!(result.is_ok(), "{} does not pass", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}
