//! Replays the fuzzers' seeds and findings, on the stable toolchain and in every test run.

use std::{fs, path::Path};

#[path = "../../fuzz/targets/certificate.rs"]
mod certificate;
#[path = "../../fuzz/targets/proxy.rs"]
mod proxy;

#[test]
fn every_proxy_header_is_read_or_refused() {
    replay("proxy", proxy::check);
}

#[test]
fn every_certificate_is_read_or_refused() {
    replay("certificate", certificate::check);
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
