//! Measures complete CRLs of 0, 100,000 and 1,000,000 entries: time and peak memory of building and signing, time of
//! verifying and scanning. Run `cargo run --release -p pki --example crl_cost`. Each line is measured in a process of
//! its own, because a process's peak only rises. Linux only: memory is read from `/proc/self/status`.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![expect(clippy::unwrap_used, reason = "a failed measurement may panic")]

use std::{env, fs, hint::black_box, process::Command, time::Duration, time::Instant};

use pki::{
    certificate::CertificateInfo,
    crl::{CrlDraft, CrlIssuer, CrlNumber, RevocationReason, RevokedEntries, RevokedEntry, Streamed, VerifiedCrl},
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::KeyPair,
    serial::Serial,
    time::Timestamp,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [source, count, reasons] = &arguments[..] {
        return measure(source, count.parse().unwrap(), reasons);
    }
    println!("source   reasons     entries    DER MiB   build+sign ms   peak MiB (process)   verify ms   walk ms");
    for count in ["0", "100000", "1000000"] {
        for (source, reasons) in [("vec", "none"), ("vec", "all"), ("stream", "all")] {
            let own = env::current_exe().unwrap();
            assert!(Command::new(own).args([source, count, reasons]).status().unwrap().success());
        }
    }
}

fn measure(source: &str, count: u64, reasons: &str) {
    let authority = authority();
    let reason = if reasons == "none" { RevocationReason::Unspecified } else { RevocationReason::KeyCompromise };
    let entries = (0..count).map(move |n| entry(n, reason));
    let (crl, build, peak) = match source {
        "vec" => build(&authority, entries.collect::<Vec<_>>()),
        _ => build(&authority, Streamed(entries)),
    };

    let issuer = CertificateInfo::from_der(authority.certificate()).unwrap();
    let issuer = CrlIssuer::from_certificate(&issuer).unwrap();
    let (verified, verify) = best(|| VerifiedCrl::verify(&crl, &issuer).unwrap());
    let (sum, walk) = best(|| verified.serials().filter_map(Serial::to_u128).fold(0, u128::wrapping_add));
    black_box(sum);
    println!(
        "{source:8} {reasons:8} {count:10} {:10.1} {:15.1} {peak:20.1} {:11.1} {:9.1}",
        mebibytes(crl.len()),
        milliseconds(build),
        milliseconds(verify),
        milliseconds(walk),
    );
}

/// Builds and signs a CRL once, in a new process. Returns its DER, the time and the peak memory of the process.
fn build(authority: &CertificateAuthority, revoked: impl RevokedEntries) -> (Vec<u8>, Duration, f64) {
    let this_update = Timestamp::from_unix(1_795_510_800);
    let next_update = this_update.plus(Duration::from_hours(24));
    let draft = CrlDraft { number: CrlNumber::FIRST, this_update, next_update, revoked };
    let start = Instant::now();
    let crl = authority.sign_crl(&draft).unwrap();
    (crl, start.elapsed(), peak())
}

fn best<T>(mut run: impl FnMut() -> T) -> (T, Duration) {
    let timed = (0..5).map(|_| {
        let start = Instant::now();
        (run(), start.elapsed())
    });
    timed.min_by_key(|(_, took)| *took).unwrap()
}

/// The process's peak resident size so far, in MiB.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    mebibytes(line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024)
}

fn entry(n: u64, reason: RevocationReason) -> RevokedEntry {
    // Spreads the numbers like random serial numbers, but reproducibly.
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    let revoked_at = Timestamp::from_unix(1_795_000_000 + i64::try_from(n / 3).unwrap());
    RevokedEntry { serial: Serial::from_random(bytes), revoked_at, reason }
}

fn authority() -> CertificateAuthority {
    let subject = AuthoritySubject { organization: "Cost".parse().unwrap(), name: "Cost".parse().unwrap() };
    let publication = Publication {
        crl_url: "http://ca.example/a.crl".into(),
        delta_crl_url: Some("http://ca.example/a-delta.crl".into()),
        servers_crl_url: None,
        certificate_url: "http://ca.example/a.crt".into(),
    };
    let (key, now) = (KeyPair::generate().unwrap(), Timestamp::from_unix(1_795_500_000));
    CertificateAuthority::new_root(&subject, key, Serial::from_random([1; 16]), now, publication).unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit after the point")]
fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
