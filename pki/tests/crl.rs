//! Verification of received CRLs: which are accepted, and why the others are refused.

mod common;

use std::{collections::BTreeSet, fmt::Write as _, sync::LazyLock, time::Duration};

use common::{
    DAY, Files, Fleet, now, revoked, serial,
    signer::{CRITICAL, Signer, entry, extension, extensions, issuer, number, time},
};
use pki::{
    certificate::{CertificateInfo, IssuerId},
    crl::{
        CrlDraft, CrlIssuer, CrlNumber, CrlVerifyError, DeltaDraft, EncodedEntries, RevocationReason, RevokedEntry,
        Streamed, VerifiedCrl, VerifiedDelta,
    },
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::KeyPair,
    serial::{Serial, SerialError},
    time::Timestamp,
};
use proptest::prelude::*;
use testkit::signed::{ECDSA_WITH_SHA256, SEQUENCE, element};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

#[test]
fn says_what_was_drafted() {
    let fleet = Fleet::new();
    let crl = fleet.publish(vec![revoked(9, RevocationReason::Superseded), revoked(7, RevocationReason::Unspecified)]);
    let read = VerifiedCrl::verify(&crl, &issuer(fleet.issuing.certificate())).unwrap();
    assert_eq!(read.issuer(), &IssuerId::of(fleet.issuing.info()));
    assert_eq!(
        (read.number(), read.this_update(), read.next_update()),
        (CrlNumber::FIRST.next(), now(), now().plus(DAY))
    );
    assert_eq!((read.count(), read.serials().collect()), (2, vec![serial(9), serial(7)]));
    assert_eq!(read.delta_urls(), ["http://ca.example:8480/crl/issuing-delta.crl"]);
    let empty = fleet.publish(Vec::new());
    assert_eq!(VerifiedCrl::verify(&empty, &issuer(fleet.issuing.certificate())).unwrap().count(), 0);
}

/// Written CRLs, read by our own reader and by two others.
mod written {
    use super::*;

    /// 2050-01-01 00:00:00 UTC, where the form of times changes.
    const NEW_YEAR_2050: i64 = 2_524_608_000;

    /// Serial numbers of 1 to 20 bytes, with and without the highest bit; times around 2050; all reasons.
    fn entries(count: u32) -> Vec<RevokedEntry> {
        let entry = |n: u32| {
            let mut bytes = vec![n.to_be_bytes()[3] | 1; usize::try_from(n % 20).expect("small") + 1];
            bytes[0] = if n.is_multiple_of(3) { bytes[0] | 0x80 } else { bytes[0] & 0x7f };
            RevokedEntry {
                serial: Serial::from_magnitude(&bytes).expect("1 to 20 bytes, not all zero"),
                revoked_at: Timestamp::from_unix(NEW_YEAR_2050 - 5 + i64::from(n % 10)),
                reason: RevocationReason::ALL[usize::try_from(n % 7).expect("small")],
            }
        };
        (0..count).map(entry).collect()
    }

    fn drafts(number: CrlNumber, revoked: Vec<RevokedEntry>) -> (CrlDraft, DeltaDraft) {
        let (this_update, next_update, base) = (now(), now().plus(DAY), CrlNumber::FIRST);
        let delta = DeltaDraft { number, base, this_update, next_update, revoked: revoked.clone() };
        (CrlDraft { number, this_update, next_update, revoked }, delta)
    }

    #[test]
    fn entries_are_read_as_they_were_given() {
        let fleet = Fleet::new();
        let issuer = issuer(fleet.issuing.certificate());
        for count in [0, 1, 127, 128, 10_000] {
            let given = entries(count);
            let (complete, delta) = drafts(CrlNumber::new(300).unwrap(), given.clone());
            let serials: Vec<Serial> = given.iter().map(|entry| entry.serial).collect();

            let crl = fleet.issuing.sign_crl(&complete).unwrap();
            let ours = VerifiedCrl::verify(&crl, &issuer).unwrap();
            assert_eq!((ours.number().get(), ours.count()), (300, given.len()));
            assert_eq!(ours.serials().collect::<Vec<_>>(), serials);
            assert_eq!(x509_parser(&crl), given);
            assert_eq!(openssl(&fleet, &crl), serials);

            let delta = fleet.issuing.sign_delta(&delta).unwrap();
            let ours = VerifiedDelta::verify(&delta, &issuer).unwrap();
            assert_eq!((ours.number().get(), ours.base(), ours.count()), (300, CrlNumber::FIRST, given.len()));
            assert_eq!((ours.this_update(), ours.next_update()), (now(), now().plus(DAY)));
            assert_eq!(ours.issuer(), &IssuerId::of(fleet.issuing.info()));
            assert_eq!(ours.serials().collect::<Vec<_>>(), serials);
            assert_eq!(x509_parser(&delta), given);
            assert_eq!(openssl(&fleet, &delta), serials);
        }
    }

    fn x509_parser(crl: &[u8]) -> Vec<RevokedEntry> {
        let (rest, crl) = CertificateRevocationList::from_der(crl).expect("a CRL");
        assert!(rest.is_empty());
        let entry = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| RevokedEntry {
            serial: Serial::from_der_integer(entry.raw_serial()).expect("a serial"),
            revoked_at: Timestamp::from_unix(entry.revocation_date.timestamp()),
            reason: entry.reason_code().map_or(RevocationReason::Unspecified, |(critical, code)| {
                assert!(!critical && code.0 != 0, "the reason unspecified is left out");
                RevocationReason::from_code(code.0).expect("a reason")
            }),
        };
        crl.iter_revoked_certificates().map(entry).collect()
    }

    fn openssl(fleet: &Fleet, crl: &[u8]) -> Vec<Serial> {
        fleet.write("list.crl", pki::pem::crl(crl));
        let text = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "list.crl"]).accepts();
        let serials = text.lines().filter_map(|line| line.trim().strip_prefix("Serial Number: "));
        serials.map(|serial| serial.parse().expect("a serial")).collect()
    }

    /// The outermost length is guessed before the signature exists. The guess can be off where the length needs one
    /// more byte.
    #[test]
    fn lengths_are_right_where_they_grow_by_a_byte() {
        let fleet = Fleet::new();
        let issuer = issuer(fleet.issuing.certificate());
        let entries = entries(2000);
        let sign = |count: usize| {
            let (complete, _) = drafts(CrlNumber::FIRST, entries[..count].to_vec());
            fleet.issuing.sign_crl(&complete).unwrap()
        };
        let large = (0..2000).step_by(20).find(|count| sign(*count).len() > 64_500).unwrap();
        let mut seen = BTreeSet::new();
        for count in (0..12).chain(large..large + 40) {
            let crl = sign(count);
            assert_eq!(VerifiedCrl::verify(&crl, &issuer).unwrap().count(), count);
            assert_eq!(x509_parser(&crl).len(), count);
            seen.insert(crl[1]);
        }
        assert_eq!(seen, BTreeSet::from([0x82, 0x83]), "lengths of two and of three bytes");
    }

    #[test]
    fn encoded_entries_are_signed_unchanged() {
        let fleet = Fleet::new();
        let issuer = issuer(fleet.issuing.certificate());
        for count in [0, 1, 50, 2000] {
            let given = entries(count);
            let serials: Vec<Serial> = given.iter().map(|entry| entry.serial).collect();
            let (before, since) = given.split_at(given.len() / 2);
            let mut revoked = EncodedEntries::default();
            revoked.push_encoded(before.iter().copied().collect::<EncodedEntries>().as_der());
            revoked.extend(since.iter().copied());
            let all = revoked.as_der().to_vec();
            let (this_update, next_update) = (now(), now().plus(DAY));
            let draft = CrlDraft { number: CrlNumber::FIRST, this_update, next_update, revoked };
            let signed = fleet.issuing.sign_encoded_crl(draft).unwrap();
            assert_eq!(signed.der[signed.entries.clone()], all);
            let ours = VerifiedCrl::verify(&signed.der, &issuer).unwrap();
            assert_eq!(ours.serials().collect::<Vec<_>>(), serials);
            assert_eq!(x509_parser(&signed.der), given);
            assert_eq!(openssl(&fleet, &signed.der), serials);
        }
    }

    #[test]
    fn a_slice_and_an_iterator_give_the_same_crl_as_a_vector() {
        let fleet = Fleet::new();
        let issuer = issuer(fleet.issuing.certificate());
        let entries = entries(50);
        let (vector, delta) = drafts(CrlNumber::FIRST, entries.clone());
        let CrlDraft { number, this_update, next_update, .. } = vector;
        let slice = CrlDraft { number, this_update, next_update, revoked: &entries[..] };
        let stream = CrlDraft { number, this_update, next_update, revoked: Streamed(entries.iter().copied()) };
        let streamed_delta = DeltaDraft {
            number,
            base: delta.base,
            this_update,
            next_update,
            revoked: Streamed(entries.iter().copied()),
        };
        let serials: Vec<Serial> = entries.iter().map(|entry| entry.serial).collect();
        for crl in [
            fleet.issuing.sign_crl(&vector).unwrap(),
            fleet.issuing.sign_crl(&slice).unwrap(),
            fleet.issuing.sign_crl(&stream).unwrap(),
        ] {
            assert_eq!(VerifiedCrl::verify(&crl, &issuer).unwrap().serials().collect::<Vec<_>>(), serials);
        }
        let delta = fleet.issuing.sign_delta(&streamed_delta).unwrap();
        assert_eq!(VerifiedDelta::verify(&delta, &issuer).unwrap().serials().collect::<Vec<_>>(), serials);
    }

    #[test]
    fn other_kinds_of_key_sign_crls_too() {
        for key in [
            &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..],
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            &["ED25519"],
        ] {
            let files = Files::new();
            files.openssl(&[&["genpkey", "-out", "ca.key", "-algorithm"], key].concat());
            let key = KeyPair::from_pem(files.read("ca.key")).unwrap();
            let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Other".parse().unwrap() };
            let publication = Publication {
                crl_url: "http://a.example/crl".into(),
                delta_crl_url: None,
                servers_crl_url: None,
                certificate_url: "http://a.example/crt".into(),
            };
            let root = CertificateAuthority::new_root(&subject, key, serial(1), now(), publication).unwrap();
            let (complete, delta) = drafts(CrlNumber::FIRST, entries(3));
            let (complete, delta) = (root.sign_crl(&complete).unwrap(), root.sign_delta(&delta).unwrap());
            files.write("ca.crt", pki::pem::certificate(root.certificate()));
            for crl in [&complete, &delta] {
                files.write("list.crl", pki::pem::crl(crl));
                let judge = ["crl", "-verify", "-noout", "-in", "list.crl", "-CAfile", "ca.crt"];
                let said = files.ask("openssl", &judge).accepts();
                assert!(said.contains("verify OK"), "{said}");
            }
            let read = VerifiedCrl::verify(&complete, &issuer(root.certificate())).unwrap();
            assert!(read.delta_urls().is_empty());
            assert!(VerifiedDelta::verify(&delta, &issuer(root.certificate())).is_ok());
        }
    }

    /// A foreign authority whose key identifier is not derived from its key.
    #[test]
    fn the_key_is_named_as_the_authoritys_certificate_names_it() {
        let files = Files::new();
        let extensions = ["basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=0102030405"];
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let names = ["-keyout", "a.key", "-subj", "/CN=a", "-outform", "DER", "-out", "a.der", "-days", "36500"];
        files.openssl(&[&request[..], &names, &["-addext", extensions[0], "-addext", extensions[1]]].concat());
        let key = KeyPair::from_pem(files.read("a.key")).unwrap();
        let publication = Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let authority = CertificateAuthority::load(files.read("a.der").into(), key, publication).unwrap();
        let (mut draft, _) = drafts(CrlNumber::FIRST, Vec::new());
        // OpenSSL uses the current time.
        let start = authority.info().validity.not_before;
        (draft.this_update, draft.next_update) = (start, start.plus(Duration::from_hours(1)));
        files.write("list.crl", pki::pem::crl(&authority.sign_crl(&draft).unwrap()));
        let text = files.ask("openssl", &["crl", "-noout", "-text", "-in", "list.crl"]).accepts();
        assert!(text.contains("01:02:03:04:05"), "{text}");
    }
}

mod forged {
    use super::*;

    static GENUINE: LazyLock<(CrlIssuer, Vec<u8>)> = LazyLock::new(|| {
        let fleet = Fleet::new();
        let entries = (10..15).map(|n| revoked(n, RevocationReason::KeyCompromise)).collect();
        (issuer(fleet.issuing.certificate()), fleet.publish(entries))
    });

    #[test]
    fn a_crl_of_another_authority_is_refused_with_both_names() {
        let fleet = Fleet::new();
        let crl = fleet.publish_root(Vec::new());
        let error = VerifiedCrl::verify(&crl, &issuer(fleet.issuing.certificate())).unwrap_err();
        assert!(matches!(error, CrlVerifyError::OtherIssuer { .. }));
        let message = error.to_string();
        assert!(message.contains("Fleet Root CA") && message.contains("Fleet Issuing CA"), "{message}");
    }

    #[test]
    fn a_crl_of_another_key_with_the_same_name_is_refused() {
        let crl = Fleet::new().publish(Vec::new());
        let error = VerifiedCrl::verify(&crl, &GENUINE.0).unwrap_err();
        assert!(matches!(error, CrlVerifyError::Signature(_)), "{error:?}");
    }

    #[test]
    fn a_truncated_or_extended_crl_is_refused() {
        let (issuer, crl) = &*GENUINE;
        assert!(VerifiedCrl::verify(crl, issuer).is_ok());
        for length in 0..crl.len() {
            assert!(VerifiedCrl::verify(&crl[..length], issuer).is_err(), "cut to {length} bytes");
        }
        for rest in [&[0][..], b"\n", crl] {
            assert!(VerifiedCrl::verify(&[crl, rest].concat(), issuer).is_err());
        }
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let (issuer, crl) = &*GENUINE;
        for bit in 0..crl.len() * 8 {
            let mut changed = crl.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(VerifiedCrl::verify(&changed, issuer).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn changed_bytes_are_detected(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let (issuer, crl) = &*GENUINE;
            let mut changed = crl.clone();
            for (index, byte) in changes {
                changed[index.index(crl.len())] = byte;
            }
            prop_assert_eq!(VerifiedCrl::verify(&changed, issuer).is_ok(), changed == *crl);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(VerifiedCrl::verify(&bytes, &GENUINE.0).is_err());
        }
    }
}

#[test]
fn a_certificate_without_crl_sign_is_not_a_crl_issuer() {
    let fleet = Fleet::new();
    let leaf = fleet.enroll(pki::profile::Profile::Server, "server", 3);
    assert!(CrlIssuer::from_certificate(&leaf.info).is_none());

    let files = Files::new();
    files.openssl(
        &[
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "a.key", "-subj", "/CN=a", "-outform", "DER"]
                [..],
            &["-out", "a.der", "-addext", "keyUsage=critical,keyCertSign"],
        ]
        .concat(),
    );
    let certificate = CertificateInfo::from_der(&files.read("a.der")).unwrap();
    assert!(CrlIssuer::from_certificate(&certificate).is_none(), "keyCertSign alone is not enough");
}

/// CRLs with a valid signature and contents that are not allowed.
mod unacceptable {
    use super::*;

    #[test]
    fn a_well_formed_crl_is_accepted() {
        let signer = Signer::new();
        assert_eq!(signer.verify_extensions(&[&number(&[5])]), Ok(Vec::new()));
        let twenty = [0x7f; 20];
        let reason = element(SEQUENCE, &extension(21, &[], &[0x0a, 1, 1]));
        let serials = [Serial::from_magnitude(&twenty), Serial::from_magnitude(&[1])].map(Result::unwrap);
        assert_eq!(signer.verify_entries(&[&entry(&twenty, &reason), &entry(&[1], &[])]), Ok(serials.to_vec()));
        let unknown = extension(99, &[0x01, 0x01, 0x00], b"not critical");
        assert_eq!(signer.verify_extensions(&[&unknown, &number(&[5])]), Ok(Vec::new()));
    }

    #[test]
    fn an_incomplete_crl_is_refused_even_if_not_marked_critical() {
        let signer = Signer::new();
        for id in [27, 28] {
            for critical in [CRITICAL, &[]] {
                let partial = extension(id, critical, &[0x30, 0x00]);
                let result = signer.verify_extensions(&[&number(&[5]), &partial]);
                assert_eq!(result, Err(CrlVerifyError::CriticalExtension), "2.5.29.{id}");
            }
        }
    }

    #[test]
    fn unknown_critical_extensions_are_refused() {
        let signer = Signer::new();
        let refused = Err(CrlVerifyError::CriticalExtension);
        assert_eq!(signer.verify_extensions(&[&number(&[5]), &extension(99, CRITICAL, &[])]), refused);
        // A certificate issuer (RFC 5280 section 5.3.3): the serial is another authority's.
        let indirect = element(SEQUENCE, &extension(29, CRITICAL, &[0x30, 0x00]));
        assert_eq!(signer.verify_entries(&[&entry(&[1], &[]), &entry(&[2], &indirect)]), refused);
    }

    #[test]
    fn a_name_in_another_string_type_is_the_same_name() {
        let mut signer = Signer::new();
        let utf8 = signer.name.clone();
        let mut printable = utf8.clone();
        // Tag, length and first character of each text.
        for text in [b"\x0c\x05T", b"\x0c\x0bA"] {
            let place = utf8.windows(3).position(|bytes| bytes == text).unwrap();
            printable[place] = 0x13;
        }
        let other = [&printable[..printable.len() - 1], b"B"].concat();
        for (name, is_taken) in [(printable, true), (other, false), (utf8, true)] {
            signer.name = name;
            let result = signer.verify_entries(&[&entry(&[7], &[])]);
            assert_eq!(result.is_ok(), is_taken, "{result:?}");
        }
    }

    #[test]
    fn next_update_and_number_are_checked() {
        let signer = Signer::new();
        let field = |text| Err(CrlVerifyError::Field(text));
        assert_eq!(signer.verify(&[&time(), &extensions(&[&number(&[5])])]), field("it has no nextUpdate"));
        assert_eq!(signer.verify(&[&time()]), field("it has no nextUpdate"));
        assert_eq!(signer.verify(&[&time(), &time()]), Ok(Vec::new()), "some authorities give none");
        assert_eq!(signer.verify_extensions(&[&extension(35, &[], &[0x30, 0x00])]), Ok(Vec::new()));
        assert_eq!(signer.verify_extensions(&[&number(&[5]), &number(&[6])]), field("it has two CRL numbers"));
        assert_eq!(signer.verify_extensions(&[&number(&[0x80])]), field("its CRL number is negative"));
        assert_eq!(signer.verify_extensions(&[&number(&[1; 9])]), field("its CRL number is larger than 63 bits"));
    }

    #[test]
    fn impossible_serials_are_refused() {
        let signer = Signer::new();
        for (bytes, error) in [
            (&[][..], SerialError::NotPositive),
            (&[0], SerialError::NotPositive),
            (&[0x80], SerialError::NotPositive),
            (&[1; 21], SerialError::TooLong),
        ] {
            assert_eq!(signer.verify_entries(&[&entry(bytes, &[])]), Err(CrlVerifyError::Serial(error)));
        }
    }

    #[test]
    fn truncated_entries_are_refused() {
        let signer = Signer::new();
        for bad in
            [element(SEQUENCE, &[]), element(SEQUENCE, &[2, 1, 1]), entry(&[1], &[0x05, 0x00]), element(0x31, &[])]
        {
            assert!(matches!(signer.verify_entries(&[&bad]), Err(CrlVerifyError::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn other_versions_and_algorithms_are_refused() {
        let signer = Signer::new();
        let (time, extensions) = (time(), extensions(&[&number(&[5])]));
        let verify = |head: &[&[u8]]| signer.verify_body(&[head, &[&signer.name, &time, &time, &extensions]].concat());
        assert!(verify(&[&[2, 1, 1], ECDSA_WITH_SHA256]).is_ok());
        assert_eq!(verify(&[&[2, 1, 0], ECDSA_WITH_SHA256]), Err(CrlVerifyError::Field("its version is not 2")));
        assert!(matches!(verify(&[ECDSA_WITH_SHA256]), Err(CrlVerifyError::Malformed(_))), "version 1 has no field");
        let other = element(SEQUENCE, &[0x06, 0x01, 0x2a]);
        assert_eq!(verify(&[&[2, 1, 1], &other]), Err(CrlVerifyError::Field("its two algorithm fields differ")));
    }
}

/// CRLs of a foreign authority, made by OpenSSL.
mod foreign {
    use super::*;

    /// The `crl_extensions` section of an ordinary CRL.
    const ORDINARY: &str = "authorityKeyIdentifier = keyid:always";

    /// Makes an authority with this key, and its CRL with these serial numbers.
    fn crl(key: &[&str], extensions: &str, numbered: bool, serials: &[&str]) -> (CrlIssuer, Vec<u8>) {
        let files = Files::new();
        let numbers = if numbered { "crlnumber = number" } else { "" };
        files.write(
            "ca.cnf",
            format!(
                "[req]\nprompt = no\ndistinguished_name = dn\nx509_extensions = authority\n\
                 [dn]\nO = Elsewhere\nCN = Foreign CA\n\
                 [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
                 subjectKeyIdentifier = hash\n\
                 [ca]\ndefault_ca = foreign\n\
                 [foreign]\ndatabase = index\n{numbers}\ndefault_md = sha256\n\
                 default_crl_days = 1\ncrl_extensions = list\n\
                 certificate = ca.pem\nprivate_key = ca.key\n\
                 [list]\n{extensions}\n[partial]\nonlyuser = TRUE\n"
            ),
        );
        let mut index = String::new();
        for (serial, reason) in serials.iter().zip(["", ",keyCompromise", ",superseded"].into_iter().cycle()) {
            writeln!(index, "R\t301124090000Z\t261124090000Z{reason}\t{serial}\tunknown\t/CN=a")
                .expect("a String takes any text");
        }
        files.write("index", index);
        files.write("number", "0100\n");
        files.openssl(&[&["genpkey", "-out", "ca.key", "-algorithm"], key].concat());
        files.openssl(&["req", "-x509", "-new", "-config", "ca.cnf", "-key", "ca.key", "-out", "ca.pem"]);
        files.openssl(&["x509", "-in", "ca.pem", "-outform", "DER", "-out", "ca.der"]);
        files.openssl(&["ca", "-gencrl", "-config", "ca.cnf", "-out", "list.pem"]);
        files.openssl(&["crl", "-in", "list.pem", "-outform", "DER", "-out", "list.der"]);
        (issuer(&files.read("ca.der")), files.read("list.der"))
    }

    const RSA: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    const SERIALS: &[&str] =
        &["01", "80", "FF00FF", "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "0123456789ABCDEF0123456789ABCDEF"];

    #[test]
    fn crls_of_other_kinds_of_key_are_read() {
        let expected: BTreeSet<Serial> = SERIALS.iter().map(|serial| serial.parse().unwrap()).collect();
        for key in [RSA, &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], &["ED25519"]] {
            let (issuer, list) = crl(key, ORDINARY, true, SERIALS);
            let read = VerifiedCrl::verify(&list, &issuer).unwrap_or_else(|error| panic!("{key:?}: {error}"));
            assert_eq!(read.number(), CrlNumber::new(0x100).unwrap());
            assert_eq!(read.serials().collect::<BTreeSet<_>>(), expected);
            assert_eq!(read.next_update().since(read.this_update()), DAY);
            assert!(read.this_update() > Timestamp::from_unix(1_700_000_000));
        }
    }

    #[test]
    fn another_parser_reads_the_same_entries() {
        let (issuer, list) = crl(RSA, ORDINARY, true, SERIALS);
        let ours: Vec<Serial> = VerifiedCrl::verify(&list, &issuer).unwrap().serials().collect();
        let (_, theirs) = CertificateRevocationList::from_der(&list).unwrap();
        let theirs: Vec<Serial> = theirs
            .iter_revoked_certificates()
            .map(|entry| Serial::from_der_integer(entry.raw_serial()).unwrap())
            .collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn deltas_and_partial_crls_are_refused() {
        for extension in ["2.5.29.27 = critical, DER:020101", "issuingDistributionPoint = critical, @partial"] {
            let (issuer, list) = crl(RSA, &format!("{ORDINARY}\n{extension}"), true, SERIALS);
            let result = VerifiedCrl::verify(&list, &issuer).map(|crl| crl.count());
            assert_eq!(result, Err(CrlVerifyError::CriticalExtension), "{extension}");
        }
    }

    #[test]
    fn crls_without_a_number_are_ordered_by_this_update() {
        let (issuer, list) = crl(RSA, ORDINARY, false, SERIALS);
        let read = VerifiedCrl::verify(&list, &issuer).unwrap();
        assert_eq!((read.number().get(), read.is_numbered()), (read.this_update().unix(), false));
        assert_eq!(read.count(), SERIALS.len());
        let (issuer, list) = crl(RSA, ORDINARY, true, SERIALS);
        assert!(VerifiedCrl::verify(&list, &issuer).unwrap().is_numbered());
    }
}
