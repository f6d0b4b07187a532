//! The CRL that covers servers only: accepted where it was requested, refused where a complete CRL was.

mod common;

use common::{
    Fleet, now, revoked, serial,
    signer::{CRITICAL, Signer, base, extension, issuer, number},
};
use pki::{
    certificate::CertificateInfo,
    crl::{CrlIssuer, CrlVerifyError, RevocationReason, VerifiedCrl, VerifiedDelta},
    profile::Profile,
};
use testkit::signed::{SEQUENCE, element};

const POINT: &str = "http://ca.example:8480/crl/servers.crl";

fn full_name(uri: &[u8]) -> Vec<u8> {
    element(0xa0, &element(0xa0, &element(0x86, uri)))
}

fn other_scope<T>() -> Result<T, CrlVerifyError> {
    Err(CrlVerifyError::OtherScope { expected: POINT.to_owned() })
}

#[test]
fn each_crl_is_accepted_for_its_own_scope_only() {
    let fleet = Fleet::new();
    let (all, servers) = (
        fleet.publish(vec![revoked(3, RevocationReason::KeyCompromise), revoked(4, RevocationReason::Unspecified)]),
        fleet.publish_servers(vec![revoked(4, RevocationReason::Unspecified)]),
    );
    let delta = fleet.publish_delta(3, 2, Vec::new());
    let everything = issuer(fleet.issuing.certificate());
    let of_servers = everything.clone().of_point(POINT);
    let serials =
        |crl: &[u8], issuer: &CrlIssuer| VerifiedCrl::verify(crl, issuer).map(|crl| crl.serials().collect::<Vec<_>>());
    assert_eq!(serials(&all, &everything), Ok(vec![serial(3), serial(4)]));
    assert_eq!(serials(&servers, &of_servers), Ok(vec![serial(4)]));
    assert_eq!(serials(&servers, &everything), Err(CrlVerifyError::CriticalExtension), "it does not cover clients");
    assert_eq!(serials(&all, &of_servers), other_scope(), "the complete CRL instead");
    assert_eq!(serials(&servers, &everything.of_point("http://ca.example:8480/crl/servers")).map(drop), {
        Err(CrlVerifyError::OtherScope { expected: "http://ca.example:8480/crl/servers".to_owned() })
    });
    assert_eq!(VerifiedDelta::verify(&delta, &of_servers).map(drop), other_scope(), "a delta to the complete list");
}

#[test]
fn the_distribution_point_must_be_critical_single_and_equal() {
    let signer = Signer::new();
    let of_servers = signer.issuer.clone().of_point(POINT);
    let verify = |list: &[&[u8]]| VerifiedCrl::verify(&signer.sign(&[], list), &of_servers).map(|crl| crl.count());
    let five = number(&[5]);
    let point = |value: &[u8]| extension(28, CRITICAL, &element(SEQUENCE, value));
    let good = point(&full_name(POINT.as_bytes()));
    assert_eq!(verify(&[&five, &good]), Ok(0));
    assert_eq!(verify(&[&good, &five]), Ok(0), "in any order");
    assert_eq!(verify(&[&five]), other_scope(), "none at all");
    let quiet = extension(28, &[], &element(SEQUENCE, &full_name(POINT.as_bytes())));
    assert_eq!(verify(&[&five, &quiet]), other_scope(), "RFC 5280 section 5.2.5: it is critical");
    let two_names =
        element(0xa0, &element(0xa0, &[element(0x86, POINT.as_bytes()), element(0x86, b"http://b/")].concat()));
    let relative = element(0xa0, &element(0xa1, &[]));
    for (value, what) in [
        (Vec::new(), "an empty one"),
        (full_name(b"http://ca.example:8480/crl/servers.crl2"), "another name"),
        (full_name(b"HTTP://ca.example:8480/crl/servers.crl"), "the same name otherwise written"),
        (two_names, "one more name"),
        (relative, "a relative name"),
        ([full_name(POINT.as_bytes()), vec![0x81, 1, 0xff]].concat(), "onlyContainsUserCerts"),
        ([full_name(POINT.as_bytes()), vec![0x82, 1, 0xff]].concat(), "onlyContainsCACerts"),
        ([full_name(POINT.as_bytes()), vec![0x83, 2, 6, 0x40]].concat(), "onlySomeReasons"),
        ([full_name(POINT.as_bytes()), vec![0x84, 1, 0xff]].concat(), "indirectCRL"),
        ([full_name(POINT.as_bytes()), vec![0x85, 1, 0xff]].concat(), "onlyContainsAttributeCerts"),
    ] {
        assert_eq!(verify(&[&five, &point(&value)]), other_scope(), "{what}");
    }
    assert_eq!(verify(&[&five, &good, &good]), Err(CrlVerifyError::Field("it has two issuing distribution points")));
    assert_eq!(verify(&[&five, &good, &base(&[4])]), Err(CrlVerifyError::CriticalExtension), "a delta of it");
}

#[test]
fn servers_name_both_lists_and_clients_the_complete_one() {
    let fleet = Fleet::new();
    let complete = "http://ca.example:8480/crl/issuing.crl";
    let info = |profile: Profile| CertificateInfo::from_der(&fleet.enroll(profile, profile.as_str(), 3).der).unwrap();
    let (server, client) = (info(Profile::Server), info(Profile::Client));
    assert_eq!(server.crl_urls, [POINT, complete]);
    assert_eq!(client.crl_urls, [complete]);
    // Every relying party that verifies clients needs the complete CRL, whatever certificate it has itself.
    assert_eq!((server.complete_crl_url(), client.complete_crl_url()), (Some(complete), Some(complete)));
    assert_eq!(fleet.issuing.info().crl_urls, ["http://ca.example:8480/crl/root.crl"]);
    assert!(server.validity.contains(now()));
}
