//! Whoever is refused hears why, at the authority as at a service, also with a request under way; and the log says why in a line of
//! bounded length.

use std::net::SocketAddr;

use e2e::Fleet;
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::AlertDescription as Alert;

use crate::{
    attack::{alert, presenting},
    hostile::{Insider, Presented, expired, junk, of_a_stranger},
};

/// How often each is refused: an alert that is lost now and then is lost.
const TIMES: usize = 4;
/// No line of a log is longer, in bytes.
const LONGEST_LINE: usize = 2_000;

#[test]
fn whoever_is_refused_hears_why_at_the_authority_as_at_a_service() {
    let mut fleet = Fleet::new();
    let service = fleet.start_service("service0", &[]).https;
    let listeners: [SocketAddr; 2] = [(fleet.address(), 8440).into(), service];
    let insider = Insider::of(&fleet);
    let good = || insider.client(|_| {});
    let own = Presented::of(&fleet.enroll("client_1"));
    let code_signing = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    };
    let table = [
        ("expired", insider.client(expired), Alert::CertificateExpired, "has expired"),
        ("of a stranger", of_a_stranger("stranger_1"), Alert::UnknownCA, "was not issued by"),
        ("of a namesake", insider.of_one_name(1, 0), Alert::UnknownCA, "was not issued by"),
        ("of six namesakes", insider.of_one_name(6, 0), Alert::UnknownCA, "was not issued by"),
        ("for code", insider.client(code_signing), Alert::UnsupportedCertificate, "is not for clients"),
        (
            "for another use",
            insider.client(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            Alert::UnsupportedCertificate,
            "without digitalSignature",
        ),
        (
            "beneath a CA that may not",
            insider.beneath_a_ca_without_cert_sign(),
            Alert::UnsupportedCertificate,
            "without keyCertSign",
        ),
        ("too many", good().beside(&junk(6, 400)), Alert::CertificateUnknown, "7 certificates were presented"),
        ("too long", good().beside(&junk(2, 7_000)), Alert::CertificateUnknown, "at most 12288 are looked at"),
        ("a name of 20 KB", of_a_stranger(&"x".repeat(20_000)), Alert::UnknownCA, "was not issued by"),
        (
            "a name of 60 KB",
            of_a_stranger(&"y".repeat(60_000)),
            Alert::CertificateUnknown,
            "at most 32768 are looked at",
        ),
        ("without the key", own.without_key(), Alert::DecryptError, "does not hold the certificate's key"),
    ];
    for (what, presented, expected, why) in table {
        let tls = presenting(&insider.root, presented);
        for (place, address) in ["authority", "service"].into_iter().zip(listeners) {
            for _ in 0..TIMES {
                assert_eq!(alert(&tls, address), Ok(expected), "{what} at the {place}");
            }
            let log = if place == "service" { fleet.service(0).process.log() } else { fleet.ca().log() };
            assert!(log.contains(why), "{what} at the {place}: {log}");
            let longest = log.lines().map(str::len).max().unwrap_or(0);
            assert!(longest < LONGEST_LINE, "{what} at the {place}: a line of {longest} bytes");
        }
    }
}
