//! Verification of received delta CRLs: which are accepted, and why the others are refused. `judged.rs` tests our
//! deltas with other programs; `crl.rs` tests what both kinds share.

mod common;

use std::sync::LazyLock;

use common::{
    Fleet, revoked, serial,
    signer::{CRITICAL, Signer, base, entry, extension, issuer, number},
};
use pki::{
    crl::{CrlIssuer, CrlNumber, CrlVerifyError, RevocationReason, VerifiedCrl, VerifiedDelta},
    serial::{Serial, SerialError},
};
use proptest::prelude::*;
use testkit::signed::{SEQUENCE, element};

#[test]
fn a_delta_is_not_a_complete_crl_and_the_other_way_around() {
    let fleet = Fleet::new();
    let issuer = issuer(fleet.issuing.certificate());
    let complete = fleet.publish(vec![revoked(9, RevocationReason::KeyCompromise)]);
    let delta = fleet.publish_delta(3, 2, vec![revoked(9, RevocationReason::KeyCompromise)]);
    assert_eq!(VerifiedCrl::verify(&delta, &issuer).map(|crl| crl.count()), Err(CrlVerifyError::CriticalExtension));
    assert_eq!(VerifiedDelta::verify(&complete, &issuer).map(|crl| crl.count()), Err(CrlVerifyError::NotDelta));
    let delta = VerifiedDelta::verify(&delta, &issuer).unwrap();
    assert_eq!((delta.number().get(), delta.base()), (3, CrlNumber::FIRST.next()));
    assert_eq!(delta.serials().collect::<Vec<_>>(), [serial(9)]);
}

mod forged {
    use super::*;

    static GENUINE: LazyLock<(CrlIssuer, Vec<u8>)> = LazyLock::new(|| {
        let fleet = Fleet::new();
        let entries = (10..15).map(|n| revoked(n, RevocationReason::KeyCompromise)).collect();
        (issuer(fleet.issuing.certificate()), fleet.publish_delta(3, 2, entries))
    });

    #[test]
    fn another_authoritys_delta_is_refused() {
        let fleet = Fleet::new();
        let delta = fleet.publish_delta(3, 2, Vec::new());
        let error = VerifiedDelta::verify(&delta, &issuer(fleet.root.certificate())).unwrap_err();
        assert!(matches!(error, CrlVerifyError::OtherIssuer { .. }));
        let error = VerifiedDelta::verify(&delta, &GENUINE.0).unwrap_err();
        assert!(matches!(error, CrlVerifyError::Signature(_)), "a namesake's: {error:?}");
    }

    #[test]
    fn a_truncated_or_extended_delta_is_refused() {
        let (issuer, delta) = &*GENUINE;
        assert!(VerifiedDelta::verify(delta, issuer).is_ok());
        for length in 0..delta.len() {
            assert!(VerifiedDelta::verify(&delta[..length], issuer).is_err(), "cut to {length} bytes");
        }
        assert!(VerifiedDelta::verify(&[delta, &[0][..]].concat(), issuer).is_err());
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let (issuer, delta) = &*GENUINE;
        for bit in 0..delta.len() * 8 {
            let mut changed = delta.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(VerifiedDelta::verify(&changed, issuer).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(VerifiedDelta::verify(&bytes, &GENUINE.0).is_err());
        }
    }
}

/// Deltas with a valid signature and contents that are not allowed.
mod unacceptable {
    use super::*;

    fn field<T>(text: &'static str) -> Result<T, CrlVerifyError> {
        Err(CrlVerifyError::Field(text))
    }

    fn reason(code: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &extension(21, &[], &element(0x0a, code)))
    }

    #[test]
    fn a_well_formed_delta_is_accepted() {
        let signer = Signer::new();
        let (five, four) = (number(&[5]), base(&[4]));
        assert_eq!(signer.verify_delta(&[], &[&five, &four]), Ok((5, 4, Vec::new())));
        assert_eq!(signer.verify_delta(&[], &[&four, &five]), Ok((5, 4, Vec::new())), "in any order");
        assert_eq!(signer.verify_delta(&[], &[&five, &base(&[5])]), Ok((5, 5, Vec::new())), "with its base");
        assert_eq!(signer.verify_delta(&[], &[&five, &base(&[0])]), Ok((5, 0, Vec::new())));
        let one = Serial::from_magnitude(&[1]).unwrap();
        let result = signer.verify_delta(&[&entry(&[1], &reason(&[1]))], &[&five, &four]);
        assert_eq!(result, Ok((5, 4, vec![one])));
    }

    #[test]
    fn base_and_number_are_checked() {
        let signer = Signer::new();
        let verify = |list: &[&[u8]]| signer.verify_delta(&[], list);
        let (five, four) = (number(&[5]), base(&[4]));
        assert_eq!(verify(&[&five]), Err(CrlVerifyError::NotDelta));
        assert_eq!(verify(&[&four]), field("it has no CRL number"));
        assert_eq!(verify(&[&five, &base(&[6])]), field("it is a delta to a CRL that is later than itself"));
        assert_eq!(verify(&[&five, &four, &four]), field("it has two delta CRL indicators"));
        let quiet = extension(27, &[], &element(0x02, &[4]));
        assert_eq!(verify(&[&five, &quiet]), field("its delta CRL indicator is not critical"));
        assert_eq!(verify(&[&five, &base(&[0x80])]), field("its CRL number is negative"));
        assert_eq!(verify(&[&five, &base(&[1; 9])]), field("its CRL number is larger than 63 bits"));
        for malformed in [&[][..], &[0x30, 0x00], &[0x02, 0x01, 0x04, 0x00]] {
            let result = verify(&[&five, &extension(27, CRITICAL, malformed)]);
            assert!(matches!(result, Err(CrlVerifyError::Malformed(_))), "{malformed:?}");
        }
    }

    #[test]
    fn partial_indirect_and_unknown_critical_deltas_are_refused() {
        let signer = Signer::new();
        let refused = Err(CrlVerifyError::CriticalExtension);
        let (five, four) = (number(&[5]), base(&[4]));
        for critical in [CRITICAL, &[]] {
            let partial = extension(28, critical, &[0x30, 0x00]);
            assert_eq!(signer.verify_delta(&[], &[&five, &four, &partial]), refused);
        }
        assert_eq!(signer.verify_delta(&[], &[&five, &four, &extension(99, CRITICAL, &[])]), refused);
        let indirect = element(SEQUENCE, &extension(29, CRITICAL, &[0x30, 0x00]));
        assert_eq!(signer.verify_delta(&[&entry(&[1], &[]), &entry(&[2], &indirect)], &[&five, &four]), refused);
    }

    #[test]
    fn remove_from_crl_is_refused() {
        let signer = Signer::new();
        let list = [number(&[5]), base(&[4])];
        let list = [&list[0][..], &list[1]];
        let entries = [entry(&[1], &reason(&[1])), entry(&[2], &reason(&[8]))];
        let entries = [&entries[0][..], &entries[1]];
        let two = Serial::from_magnitude(&[2]).unwrap();
        let error = signer.verify_delta(&entries, &list).unwrap_err();
        assert_eq!(error, CrlVerifyError::TakenBack(two));
        assert!(error.to_string().contains("revocations are permanent"), "{error}");
        // An unreadable reason could be removeFromCRL, so it is refused. An unknown reason still revokes.
        for malformed in [&[][..], &[0x02, 0x01, 0x08], &[0x0a, 0x01, 0x08, 0x00]] {
            let reason = element(SEQUENCE, &extension(21, &[], malformed));
            let result = signer.verify_delta(&[&entry(&[2], &reason)], &list);
            assert!(matches!(result, Err(CrlVerifyError::Malformed(_))), "{malformed:?}");
        }
        assert_eq!(signer.verify_delta(&[&entry(&[2], &reason(&[6]))], &list), Ok((5, 4, vec![two])));
        for odd in [&[][..], &[0, 8]] {
            let result = signer.verify_delta(&[&entry(&[2], &reason(odd))], &list);
            assert_eq!(result, field("a reason in it is not one byte"));
        }
    }

    #[test]
    fn impossible_serials_are_refused() {
        let signer = Signer::new();
        let list = [number(&[5]), base(&[4])];
        for (bytes, error) in [(&[0][..], SerialError::NotPositive), (&[1; 21], SerialError::TooLong)] {
            let result = signer.verify_delta(&[&entry(bytes, &[])], &[&list[0], &list[1]]);
            assert_eq!(result, Err(CrlVerifyError::Serial(error)));
        }
    }
}

/// The URLs of deltas in a complete CRL (`freshestCRL`).
mod locations {
    use super::*;

    fn uri(text: &[u8]) -> Vec<u8> {
        element(0x86, text)
    }

    fn point(names: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &element(0xa0, &element(0xa0, names)))
    }

    fn urls(value: &[u8]) -> Result<Vec<String>, CrlVerifyError> {
        let signer = Signer::new();
        let crl = signer.sign(&[], &[&number(&[5]), &extension(46, &[], value)]);
        VerifiedCrl::verify(&crl, &signer.issuer).map(|crl| crl.delta_urls().to_vec())
    }

    #[test]
    fn http_locations_are_found_and_others_are_skipped() {
        let names = [uri(b"ldap://a.example/"), uri(b"http://a.example/1"), uri(b"http://b.example/2")].concat();
        let relative = element(SEQUENCE, &element(0xa0, &element(0xa1, &[])));
        let only_reasons = element(SEQUENCE, &element(0x81, &[0, 0]));
        let points = [point(&names), relative, only_reasons, point(&uri(b"http://c.example/3"))].concat();
        let expected = ["http://a.example/1", "http://b.example/2", "http://c.example/3"].map(str::to_owned);
        assert_eq!(urls(&element(SEQUENCE, &points)), Ok(expected.to_vec()));
        assert_eq!(urls(&element(SEQUENCE, &point(&uri(b"http://\xff/")))), Ok(Vec::new()));
        assert_eq!(urls(&element(SEQUENCE, &[])), Ok(Vec::new()));
    }

    #[test]
    fn an_unreadable_location_is_refused() {
        for malformed in [&[][..], b"http://a.example/", &[0x30, 0x01, 0x30], &element(SEQUENCE, &[0x05, 0x00])] {
            assert!(matches!(urls(malformed), Err(CrlVerifyError::Malformed(_))), "{malformed:?}");
        }
    }
}
