//! OpenSSL, GnuTLS, webpki and a linter judge what the authority makes. Our own parser is not used as a judge.

mod common;

use std::{
    env,
    path::{Path, PathBuf},
};

use common::{DAY, Fleet, Verdict, now, revoked, serial};
use pki::{
    certificate::{CertificateId, CertificateInfo, Fingerprint},
    crl::RevocationReason,
    csr::CertificateRequest,
    profile::Profile,
    time::Timestamp,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

const KINDS: [(Profile, &str, &str); 2] =
    [(Profile::Client, "sslclient", "sslserver"), (Profile::Server, "sslserver", "sslclient")];

mod openssl {
    use super::*;

    #[test]
    fn accepts_both_kinds_for_their_own_purpose_only() {
        let fleet = Fleet::new();
        for (profile, purpose, other_purpose) in KINDS {
            let name = profile.as_str();
            fleet.enroll(profile, name, 3);
            fleet.openssl_verify(name, purpose, now()).accepts();
            fleet.openssl_verify(name, other_purpose, now()).refuses("certificate purpose");
        }
    }

    #[test]
    fn sees_each_end_of_the_validity() {
        let fleet = Fleet::new();
        fleet.enroll(Profile::Client, "client", 3);
        let without_crls = |at: Timestamp| {
            let at = at.unix().to_string();
            fleet.ask(
                "openssl",
                &[
                    "verify",
                    "-x509_strict",
                    "-attime",
                    &at,
                    "-CAfile",
                    "root.crt",
                    "-untrusted",
                    "issuing.crt",
                    "client.crt",
                ],
            )
        };
        let second = DAY / 86400;
        without_crls(now().minus(60 * second)).accepts();
        without_crls(now().minus(61 * second)).refuses("certificate is not yet valid");
        // OpenSSL excludes the last second; RFC 5280 section 4.1.2.5 includes it.
        without_crls(now().plus(90 * DAY).minus(second)).accepts();
        without_crls(now().plus(90 * DAY + second)).refuses("certificate has expired");
    }

    #[test]
    fn refuses_what_is_revoked_and_nothing_else() {
        let fleet = Fleet::new();
        for (profile, purpose, _) in KINDS {
            let name = profile.as_str();
            for (number, reason) in (10..).zip(RevocationReason::ALL) {
                fleet.publish(vec![revoked(number, reason), revoked(99, reason)]);
                fleet.enroll(profile, name, number);
                fleet.openssl_verify(name, purpose, now()).refuses("certificate revoked");
                fleet.enroll(profile, name, 3);
                fleet.openssl_verify(name, purpose, now()).accepts();
            }
        }
    }

    #[test]
    fn refuses_everything_below_a_revoked_issuing_ca() {
        let fleet = Fleet::new();
        fleet.enroll(Profile::Client, "client", 3);
        fleet.publish_root(vec![revoked(2, RevocationReason::CaCompromise)]);
        fleet.openssl_verify("client", "sslclient", now()).refuses("certificate revoked");
    }

    #[test]
    fn refuses_a_stale_crl() {
        let fleet = Fleet::new();
        fleet.enroll(Profile::Client, "client", 3);
        fleet.openssl_verify("client", "sslclient", now().plus(DAY * 9 / 10)).accepts();
        fleet.openssl_verify("client", "sslclient", now().plus(DAY * 2)).refuses("CRL has expired");
    }

    #[test]
    fn verifies_the_signatures_of_crls() {
        let fleet = Fleet::new();
        fleet.publish(RevocationReason::ALL.into_iter().zip(10..).map(|(reason, n)| revoked(n, reason)).collect());
        let verify = |crl: &str, issuer: &str| {
            fleet.ask("openssl", &["crl", "-verify", "-noout", "-in", crl, "-CAfile", issuer]).said
        };
        assert!(verify("root.crl", "root.crt").contains("verify OK"));
        assert!(verify("issuing.crl", "issuing.crt").contains("verify OK"));
        assert!(!verify("issuing.crl", "root.crt").contains("verify OK"));
    }

    /// RFC 5280 section 4.1.2.5: `UTCTime` until 2049, `GeneralizedTime` from 2050 on.
    #[test]
    fn reads_times_on_both_sides_of_2050() {
        let new_year_2050 = Timestamp::from_unix(2_524_608_000);
        for now in [new_year_2050.minus(DAY), new_year_2050.plus(DAY)] {
            let fleet = Fleet::at(now);
            fleet.enroll(Profile::Client, "client", 3);
            fleet.publish(vec![revoked(9, RevocationReason::Superseded)]);
            fleet.openssl_verify("client", "sslclient", now).accepts();
            linter::certificate(&fleet, "client");
            linter::certificate(&fleet, "root");
            linter::crl(&fleet, "issuing", "CRL");
            fleet.publish_delta(3, 2, vec![revoked(9, RevocationReason::Superseded)]);
            linter::crl(&fleet, "issuing-delta", "CRL");
        }
    }

    #[test]
    fn reads_the_profiles_fields_in_an_end_entity_certificate() {
        let fleet = Fleet::new();
        for (profile, usage, names) in [
            (Profile::Client, "TLS Web Client Authentication", "URI:spiffe://fleet.example/client/client"),
            (
                Profile::Server,
                "TLS Web Server Authentication",
                "DNS:localhost, DNS:db.fleet.example, IP Address:127.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1",
            ),
        ] {
            fleet.enroll(profile, profile.as_str(), 3);
            let text = text(&fleet, profile.as_str());
            let value = |extension: &str| value(&text, extension);
            assert_eq!(value("Subject Alternative Name:"), names, "not critical: the subject is not empty");
            assert_eq!(value("Extended Key Usage:"), usage);
            assert_eq!(value("Key Usage: critical"), "Digital Signature");
            assert_eq!(value("Basic Constraints: critical"), "CA:FALSE");
            assert_eq!(value("Authority Key Identifier:"), value_of(&fleet, "issuing", "Subject Key Identifier:"));
            assert_ne!(value("Authority Key Identifier:"), value("Subject Key Identifier:"));
            assert!(text.contains("URI:http://ca.example:8480/crl/issuing.crl"));
            let names_servers_list = text.contains("URI:http://ca.example:8480/crl/servers.crl");
            assert_eq!(names_servers_list, profile == Profile::Server);
            assert!(text.contains("CA Issuers - URI:http://ca.example:8480/ca/issuing.crt"));
            assert!(text.contains("Not Before: Nov 24 08:59:00 2026 GMT"));
            assert!(text.contains("Not After : Feb 22 09:00:00 2027 GMT"));
            // OpenSSL before 3.2 prints spaces around the equals sign.
            let subject = format!("Subject: O=My Organization, CN={profile}\n");
            assert!(text.replace(" = ", "=").contains(&subject), "{text}");
            assert!(text.contains("Version: 3 (0x2)") && text.contains("Signature Algorithm: ecdsa-with-SHA256"));
            assert_eq!(text.matches("\n            X509v3 ").count(), 7, "one each of the above, and no other: {text}");
        }
    }

    #[test]
    fn reads_the_constraints_of_root_and_issuing_ca() {
        let fleet = Fleet::new();
        let (root, issuing) = (text(&fleet, "root"), text(&fleet, "issuing"));
        for authority in [&root, &issuing] {
            assert_eq!(value(authority, "Key Usage: critical"), "Certificate Sign, CRL Sign");
            assert!(!authority.contains("Extended Key Usage") && !authority.contains("Subject Alternative Name"));
        }
        assert_eq!(value(&root, "Basic Constraints: critical"), "CA:TRUE");
        assert_eq!(value(&issuing, "Basic Constraints: critical"), "CA:TRUE, pathlen:0");
        assert_eq!(value(&issuing, "Authority Key Identifier:"), value(&root, "Subject Key Identifier:"));
        assert!(issuing.contains("URI:http://ca.example:8480/crl/root.crl"), "the root's CRL covers it");
        assert!(issuing.contains("CA Issuers - URI:http://ca.example:8480/ca/root.crt"));
        assert!(root.contains("Not After : Nov 21 09:00:00 2036 GMT"));
        assert!(issuing.contains("Not After : Nov 23 09:00:00 2031 GMT"));
    }

    #[test]
    fn reads_the_drafted_fields_of_a_crl() {
        let fleet = Fleet::new();
        fleet.publish(RevocationReason::ALL.into_iter().zip(10..).map(|(reason, n)| revoked(n, reason)).collect());
        let text = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "issuing.crl"]).accepts();
        assert_eq!(value(&text, "Authority Key Identifier:"), value_of(&fleet, "issuing", "Subject Key Identifier:"));
        assert_eq!(value(&text, "CRL Number:"), "2");
        assert!(text.contains("Version 2 (0x1)"));
        assert!(text.contains("Last Update: Nov 24 09:00:00 2026 GMT"));
        assert!(text.contains("Next Update: Nov 25 09:00:00 2026 GMT"));
        assert_eq!(text.matches("Revocation Date: Nov 23 09:00:00 2026 GMT").count(), 7);
        assert_eq!(text.matches("CRL Reason Code").count(), 6, "none for the first, which is unspecified: {text}");
        let serials = text.lines().filter_map(|line| line.trim().strip_prefix("Serial Number: "));
        assert_eq!(
            serials.map(str::to_lowercase).collect::<Vec<_>>(),
            (10..17).map(|n| serial(n).to_string()).collect::<Vec<_>>()
        );
        let first = text.find("Reason Code").expect("there are reasons");
        for (reason, count) in
            [("Key Compromise", 1), ("CA Compromise", 1), ("Privilege Withdrawn", 1), ("Unspecified", 0)]
        {
            assert_eq!(text[first..].matches(reason).count(), count, "{reason}");
        }
        let empty = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "root.crl"]).accepts();
        assert!(empty.contains("No Revoked Certificates."));
    }

    /// RFC 5280 section 6.3.3: a certificate's status comes from a CRL of a distribution point in the certificate.
    #[test]
    fn judges_servers_by_their_own_list_and_clients_by_the_complete_one_only() {
        let fleet = Fleet::new();
        fleet.enroll(Profile::Server, "server", 3);
        fleet.enroll(Profile::Client, "client", 4);
        fleet.publish_servers(vec![revoked(9, RevocationReason::KeyCompromise)]);
        fleet.openssl_verify_with("servers", "server", now()).accepts();
        fleet.openssl_verify_with("servers", "client", now()).refuses("different CRL scope");
        fleet.openssl_verify_with("issuing", "server", now()).accepts();
        fleet.publish_servers(vec![revoked(3, RevocationReason::KeyCompromise)]);
        fleet.openssl_verify_with("servers", "server", now()).refuses("certificate revoked");
        fleet.openssl_verify_with("servers", "server", now().plus(DAY * 2)).refuses("CRL has expired");
        let text = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "servers.crl"]).accepts();
        assert!(text.contains("X509v3 Issuing Distribution Point: critical"), "{text}");
        assert!(text.contains("URI:http://ca.example:8480/crl/servers.crl") && !text.contains("Only"), "{text}");
        let verify = ["crl", "-verify", "-noout", "-in", "servers.crl", "-CAfile", "issuing.crt"];
        assert!(fleet.ask("openssl", &verify).accepts().contains("verify OK"));
    }

    #[test]
    fn finds_revocations_that_are_only_in_the_delta() {
        let fleet = Fleet::new();
        fleet.enroll(Profile::Client, "client", 3);
        fleet.enroll(Profile::Client, "other", 4);
        let complete = || fleet.publish(vec![revoked(9, RevocationReason::Superseded)]);
        complete();
        let both = || ["client", "other"].map(|name| fleet.openssl_verify_with_delta(name, now()).accepted);
        for (number, base) in [(3, 2), (3, 1), (40, 2)] {
            fleet.publish_delta(number, base, vec![revoked(3, RevocationReason::KeyCompromise)]);
            fleet.openssl_verify_with_delta("client", now()).refuses("certificate revoked");
            fleet.openssl_verify_with_delta("other", now()).accepts();
            fleet.openssl_verify("client", "sslclient", now()).accepts();
        }
        // A delta that was issued with the complete CRL, or before any revocation, changes nothing.
        for base in [1, 2] {
            fleet.publish_delta(2, base, Vec::new());
            assert_eq!(both(), [true, true]);
        }
        // A delta whose base is later than this complete CRL does not apply, as documented for `VerifiedDelta`.
        fleet.publish_delta(4, 3, vec![revoked(3, RevocationReason::KeyCompromise)]);
        assert_eq!(both(), [true, true]);
        // A delta never removes a revocation that the complete CRL has.
        fleet.publish(vec![revoked(3, RevocationReason::Superseded)]);
        fleet.publish_delta(3, 2, Vec::new());
        fleet.openssl_verify_with_delta("client", now()).refuses("certificate revoked");
        // A stale CRL stays stale with a delta.
        complete();
        fleet.publish_delta(3, 2, Vec::new());
        fleet.openssl_verify_with_delta("client", now().plus(DAY * 2)).refuses("CRL has expired");
    }

    #[test]
    fn reads_the_drafted_fields_of_a_delta() {
        let fleet = Fleet::new();
        fleet.publish_delta(300, 128, vec![revoked(9, RevocationReason::KeyCompromise)]);
        let text = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "issuing-delta.crl"]).accepts();
        assert_eq!(value(&text, "Delta CRL Indicator: critical"), "128");
        assert_eq!(value(&text, "CRL Number:"), "300");
        assert_eq!(value(&text, "Authority Key Identifier:"), value_of(&fleet, "issuing", "Subject Key Identifier:"));
        assert!(text.contains("Last Update: Nov 24 09:00:00 2026 GMT"));
        assert!(text.contains("Next Update: Nov 25 09:00:00 2026 GMT"));
        assert!(text.contains("Key Compromise") && text.to_lowercase().contains(&serial(9).to_string()));
        assert!(!text.contains("Freshest CRL"), "RFC 5280 section 5.2.6: not in a delta");
        let verify = ["crl", "-verify", "-noout", "-in", "issuing-delta.crl", "-CAfile", "issuing.crt"];
        assert!(fleet.ask("openssl", &verify).accepts().contains("verify OK"));

        let text = fleet.ask("openssl", &["crl", "-noout", "-text", "-in", "issuing.crl"]).accepts();
        assert!(text.contains("X509v3 Freshest CRL: \n"), "not critical: {text}");
        assert!(text.contains("URI:http://ca.example:8480/crl/issuing-delta.crl"));
    }

    #[test]
    fn agrees_on_serial_and_fingerprint() {
        let fleet = Fleet::new();
        let issued = fleet.enroll(Profile::Client, "client", 3);
        let printed = fleet
            .ask("openssl", &["x509", "-noout", "-serial", "-fingerprint", "-sha256", "-in", "client.crt"])
            .accepts();
        assert!(printed.contains(&format!("serial={}\n", issued.info.id.serial.to_string().to_uppercase())));
        assert!(
            printed.to_lowercase().contains(&format!("fingerprint={}", Fingerprint::of(&issued.der)).to_lowercase())
        );
        assert_eq!(CertificateId::from_der(&issued.der), Ok(issued.info.id));
    }

    fn text(fleet: &Fleet, name: &str) -> String {
        fleet.ask("openssl", &["x509", "-noout", "-text", "-in", &format!("{name}.crt")]).accepts()
    }

    /// The line after the extension's name in OpenSSL's output.
    fn value<'a>(text: &'a str, extension: &str) -> &'a str {
        let name = format!("X509v3 {extension}");
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != name);
        lines.nth(1).unwrap_or_else(|| panic!("no {name:?} in {text}"))
    }

    fn value_of(fleet: &Fleet, name: &str, extension: &str) -> String {
        value(&text(fleet, name), extension).to_owned()
    }
}

mod gnutls {
    use super::*;

    /// certtool has no option for the time, so this fleet uses the current time.
    fn fleet() -> Fleet {
        #[expect(clippy::disallowed_methods, reason = "certtool asks the clock, and cannot be given a time")]
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Fleet::at(Timestamp::MIN.plus(since_1970))
    }

    #[test]
    fn accepts_chains_and_crls() {
        let fleet = fleet();
        fleet.publish(vec![revoked(9, RevocationReason::KeyCompromise)]);
        for (profile, ..) in KINDS {
            verify_chain(&fleet, profile).accepts();
        }
        for authority in ["root", "issuing"] {
            let crl = (format!("{authority}.crl"), format!("{authority}.crt"));
            let said =
                fleet.ask("certtool", &["--verify-crl", "--load-ca-certificate", &crl.1, "--infile", &crl.0]).accepts();
            assert!(said.contains("Verification output: Verified"), "{said}");
        }
    }

    #[test]
    fn refuses_what_is_revoked() {
        let fleet = fleet();
        fleet.publish(vec![revoked(3, RevocationReason::Unspecified)]);
        verify_chain(&fleet, Profile::Client).refuses("revoked");
    }

    #[test]
    fn reads_the_list_that_covers_servers_only() {
        let fleet = fleet();
        fleet.publish_servers(vec![revoked(9, RevocationReason::KeyCompromise)]);
        let verify = ["--verify-crl", "--load-ca-certificate", "issuing.crt", "--infile", "servers.crl"];
        let said = fleet.ask("certtool", &verify).accepts();
        assert!(said.contains("Verification output: Verified"), "{said}");
    }

    fn verify_chain(fleet: &Fleet, profile: Profile) -> Verdict {
        let leaf = fleet.enroll(profile, profile.as_str(), 3).der;
        fleet.write("chain.crt", pki::pem::chain(&[leaf, fleet.issuing.certificate().clone()]));
        let purpose = match profile {
            Profile::Client => "1.3.6.1.5.5.7.3.2",
            Profile::Server => "1.3.6.1.5.5.7.3.1",
        };
        fleet.ask(
            "certtool",
            &[
                "--verify",
                "--verify-purpose",
                purpose,
                "--load-ca-certificate",
                "root.crt",
                "--load-crl",
                "issuing.crl",
                "--infile",
                "chain.crt",
            ],
        )
    }
}

mod rustls_webpki {
    use super::*;

    #[test]
    fn accepts_both_kinds_for_their_own_purpose_only() {
        let fleet = Fleet::new();
        let crls = [fleet.publish(vec![revoked(9, RevocationReason::KeyCompromise)]), fleet.publish_root(Vec::new())];
        for (profile, ..) in KINDS {
            let leaf = fleet.enroll(profile, profile.as_str(), 3).der;
            assert_eq!(verify(&fleet, &leaf, &crls, usage(profile), now()), Ok(()));
            let other = if profile == Profile::Client { Profile::Server } else { Profile::Client };
            let refusal = verify(&fleet, &leaf, &crls, usage(other), now());
            assert!(matches!(refusal, Err(webpki::Error::RequiredEkuNotFoundContext(_))), "{refusal:?}");
        }
    }

    #[test]
    fn refuses_what_is_revoked_stale_or_unknown() {
        let fleet = Fleet::new();
        let leaf = fleet.enroll(Profile::Client, "client", 3).der;
        let (root, empty) = (fleet.publish_root(Vec::new()), fleet.publish(Vec::new()));
        for reason in RevocationReason::ALL {
            let crls = [fleet.publish(vec![revoked(3, reason)]), root.clone()];
            assert_eq!(verify(&fleet, &leaf, &crls, KeyUsage::client_auth(), now()), Err(webpki::Error::CertRevoked));
        }
        let refusal = verify(&fleet, &leaf, &[root.clone(), empty], KeyUsage::client_auth(), now().plus(2 * DAY));
        assert!(matches!(refusal, Err(webpki::Error::CrlExpired { .. })), "{refusal:?}");
        let refusal = verify(&fleet, &leaf, &[root], KeyUsage::client_auth(), now());
        assert_eq!(refusal, Err(webpki::Error::UnknownRevocationStatus));
    }

    #[test]
    fn judges_servers_by_their_own_list_and_clients_by_the_complete_one_only() {
        let fleet = Fleet::new();
        let (server, client) = [(Profile::Server, 3), (Profile::Client, 4)]
            .map(|(profile, n)| fleet.enroll(profile, profile.as_str(), n).der)
            .into();
        let root = fleet.publish_root(Vec::new());
        let servers = |revoked| [fleet.publish_servers(revoked), root.clone()];
        let server_auth = || KeyUsage::server_auth();
        assert_eq!(verify(&fleet, &server, &servers(Vec::new()), server_auth(), now()), Ok(()));
        let revoking = servers(vec![revoked(3, RevocationReason::KeyCompromise)]);
        assert_eq!(verify(&fleet, &server, &revoking, server_auth(), now()), Err(webpki::Error::CertRevoked));
        let refusal = verify(&fleet, &client, &revoking, KeyUsage::client_auth(), now());
        assert_eq!(refusal, Err(webpki::Error::UnknownRevocationStatus), "it says nothing of clients");
    }

    /// webpki does not support deltas. Treating one as complete would readmit the certificates that it does not list.
    #[test]
    fn does_not_take_a_delta_for_a_complete_crl() {
        let fleet = Fleet::new();
        let delta = fleet.publish_delta(3, 2, vec![revoked(9, RevocationReason::KeyCompromise)]);
        let result = OwnedCertRevocationList::from_der(&delta).map(drop);
        assert_eq!(result, Err(webpki::Error::UnsupportedDeltaCrl));
    }

    #[test]
    fn finds_the_names_of_a_server() {
        let fleet = Fleet::new();
        let leaf = fleet.enroll(Profile::Server, "server", 3).der;
        let leaf = EndEntityCert::try_from(&leaf).unwrap();
        for (name, valid) in [("localhost", true), ("127.0.0.1", true), ("2001:db8::1", true), ("server", false)] {
            let name = name.try_into().unwrap();
            assert_eq!(leaf.verify_is_valid_for_subject_name(&name).is_ok(), valid, "{name:?}");
        }
    }

    fn usage(profile: Profile) -> KeyUsage {
        match profile {
            Profile::Client => KeyUsage::client_auth(),
            Profile::Server => KeyUsage::server_auth(),
        }
    }

    fn verify(
        fleet: &Fleet,
        leaf: &CertificateDer<'_>,
        crls: &[Vec<u8>],
        usage: KeyUsage,
        at: Timestamp,
    ) -> Result<(), webpki::Error> {
        let crls: Vec<_> =
            crls.iter().map(|crl| OwnedCertRevocationList::from_der(crl).expect("webpki reads it").into()).collect();
        let crls: Vec<_> = crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls)
            .expect("there are CRLs")
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        let anchor = anchor_from_trusted_cert(fleet.root.certificate()).expect("a root");
        let at = UnixTime::since_unix_epoch(at.since(Timestamp::MIN));
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &[anchor],
                std::slice::from_ref(fleet.issuing.certificate()),
                at,
                usage,
                Some(revocation),
                None,
            )
            .map(drop)
    }
}

/// pkilint (`scripts/setup-linter.sh`) checks certificates and CRLs against RFC 5280 and its updates.
mod linter {
    use super::*;

    #[test]
    fn accepts_certificates() {
        let fleet = Fleet::new();
        for (profile, ..) in KINDS {
            fleet.enroll(profile, profile.as_str(), 3);
            certificate(&fleet, profile.as_str());
        }
        certificate(&fleet, "root");
        certificate(&fleet, "issuing");
    }

    #[test]
    fn accepts_the_keys_of_foreign_requests() {
        let fleet = Fleet::new();
        for (number, arguments) in (20..).zip([
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..],
            &["-algorithm", "ED25519"],
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ]) {
            fleet.ask("openssl", &[&["genpkey", "-out", "foreign.key"], arguments].concat()).accepts();
            let request = ["req", "-new", "-key", "foreign.key", "-subj", "/CN=foreign", "-outform", "DER"];
            fleet.ask("openssl", &[&request[..], &["-out", "foreign.csr"]].concat()).accepts();
            let request = CertificateRequest::from_der(&fleet.read("foreign.csr")).unwrap();
            fleet.issue(Profile::Client, "foreign", request, number);
            fleet.openssl_verify("foreign", "sslclient", now()).accepts();
            certificate(&fleet, "foreign");
        }
    }

    #[test]
    fn accepts_crls() {
        let fleet = Fleet::new();
        crl(&fleet, "issuing", "CRL");
        crl(&fleet, "root", "ARL");
        fleet.publish(RevocationReason::ALL.into_iter().zip(10..).map(|(reason, n)| revoked(n, reason)).collect());
        fleet.publish_root(vec![revoked(2, RevocationReason::CaCompromise)]);
        crl(&fleet, "issuing", "CRL");
        crl(&fleet, "root", "ARL");
        fleet.publish_delta(2, 2, Vec::new());
        crl(&fleet, "issuing-delta", "CRL");
        for revoked in [Vec::new(), vec![revoked(9, RevocationReason::KeyCompromise)]] {
            fleet.publish_servers(revoked);
            crl(&fleet, "servers", "CRL");
        }
        fleet.publish_delta(3, 2, RevocationReason::ALL.map(|reason| revoked(9, reason)).to_vec());
        crl(&fleet, "issuing-delta", "CRL");
    }

    /// Proves that the linter reports errors at all.
    #[test]
    fn reports_an_error_in_a_bad_certificate() {
        let fleet = Fleet::new();
        fleet
            .ask(
                "openssl",
                &[
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:1024",
                    "-nodes",
                    "-keyout",
                    "bad.key",
                    "-out",
                    "bad.crt",
                    "-subj",
                    "/CN=bad",
                    "-addext",
                    "keyUsage=keyCertSign",
                    "-addext",
                    "basicConstraints=CA:FALSE",
                ],
            )
            .accepts();
        let verdict = fleet.ask(program("lint_pkix_cert"), &["lint", "-s", "ERROR", "bad.crt"]);
        assert!(!verdict.accepted && verdict.said.contains("ERROR"), "{verdict:?}");
    }

    #[track_caller]
    pub(super) fn certificate(fleet: &Fleet, name: &str) {
        no_finding(
            &fleet.ask(program("lint_pkix_cert"), &["lint", "-f", "JSON", "-s", "ERROR", &format!("{name}.crt")]),
        );
    }

    #[track_caller]
    pub(super) fn crl(fleet: &Fleet, name: &str, kind: &str) {
        let file = format!("{name}.crl");
        let arguments = ["lint", "-f", "JSON", "-s", "ERROR", "-t", kind, "-p", "PKIX", &file];
        no_finding(&fleet.ask(program("lint_crl"), &arguments));
    }

    #[track_caller]
    fn no_finding(verdict: &Verdict) {
        let report: serde_json::Value =
            serde_json::from_str(&verdict.said).unwrap_or_else(|error| panic!("no report ({error}): {}", verdict.said));
        let results = report["results"].as_array().expect("a report has results");
        let findings = results.iter().filter_map(|result| result["finding_descriptions"].as_array()).flatten();
        // Two findings are excluded, for these names only. pkilint (through the package `validators`) knows ten URI
        // schemes, and `spiffe` (SPIFFE-ID section 2) is not one of them. It also requires a dot in a DNS name, but the
        // preferred syntax of RFC 1034 section 3.5 allows a single label.
        let excused = |finding: &serde_json::Value| {
            let message = finding["message"].as_str().unwrap_or_default();
            match finding["code"].as_str() {
                Some("pkix.invalid_uri_syntax") => message.contains("\"spiffe://"),
                Some("pkix.invalid_domain_name_syntax") => message.ends_with("\"localhost\""),
                _ => false,
            }
        };
        let found: Vec<_> = findings.filter(|finding| !excused(finding)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    fn program(name: &str) -> PathBuf {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/linter/bin");
        let directory = env::var_os("PKILINT_DIR").map_or(installed, PathBuf::from);
        let program = directory.join(name);
        assert!(
            program.exists(),
            "{} is not installed; run scripts/setup-linter.sh (`make test` does; `make setup` for the rest)",
            program.display()
        );
        program
    }
}

#[test]
fn an_issued_certificate_reads_back_the_same() {
    let fleet = Fleet::new();
    for (profile, ..) in KINDS {
        let issued = fleet.enroll(profile, profile.as_str(), 3);
        let read = CertificateInfo::from_der(&issued.der).unwrap();
        assert_eq!((read.profile, read.id.serial), (Some(profile), serial(3)));
        assert_eq!(read.complete_crl_url(), Some("http://ca.example:8480/crl/issuing.crl"));
        assert_eq!(read.id.issuer, fleet.issuing.info().subject);
    }
}
