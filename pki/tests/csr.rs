//! Requests made by OpenSSL: which are accepted, and why the others are refused. No request decides more than its names
//! and its key.

mod common;

use common::{Files, Fleet, approve, new_key, now, serial};
use pki::{
    csr::{CertificateRequest, CsrError},
    key::{PublicKeyError, Weakness},
    policy::Denial,
    profile::Profile,
};
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, DnValue};
use testkit::signed::{SEQUENCE, element, sign};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Makes a request with OpenSSL: this kind of key, this `[req]` section and these arguments.
fn request(key: &[&str], config: &str, arguments: &[&str]) -> Vec<u8> {
    let files = Files::new();
    files.write("req.cnf", format!("[req]\nprompt = no\nstring_mask = utf8only\nutf8 = yes\n{config}"));
    files.openssl(&[&["genpkey", "-out", "key.pem", "-algorithm"], key].concat());
    let make = ["req", "-new", "-config", "req.cnf", "-key", "key.pem", "-outform", "DER", "-out", "request.der"];
    files.openssl(&[&make, arguments].concat());
    files.read("request.der")
}

/// A request whose subject section has these lines.
fn request_by(subject: &str) -> Vec<u8> {
    request(P256, &format!("distinguished_name = dn\n[dn]\n{subject}"), &[])
}

fn named(key: &[&str], digest: &str) -> Result<CertificateRequest, CsrError> {
    // Edwards curves have a built-in digest.
    let digest = if key[0].starts_with("ED") { &[][..] } else { &[digest] };
    CertificateRequest::from_der(&request(key, "distinguished_name = dn\n[dn]\nCN = client_1", digest))
}

#[test]
fn every_supported_key_is_read() {
    for (key, digest) in [
        (P256, "-sha256"),
        (P256, "-sha384"),
        (&["EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..], "-sha384"),
        (&["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "-sha256"),
        (&["ED25519"], "-sha256"),
        (&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha256"),
        (&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha512"),
        (&["RSA", "-pkeyopt", "rsa_keygen_bits:4096"], "-sha256"),
    ] {
        let request = named(key, digest).unwrap_or_else(|error| panic!("{key:?} {digest}: {error}"));
        assert_eq!(approve(Profile::Client, request).unwrap().subject().as_str(), "client_1");
    }
}

#[test]
fn a_weak_or_unsupported_key_is_refused_with_its_size() {
    for (bits, option) in
        [(1024, "rsa_keygen_bits:1024"), (2047, "rsa_keygen_bits:2047"), (4104, "rsa_keygen_bits:4104")]
    {
        let error = named(&["RSA", "-pkeyopt", option], "-sha256").unwrap_err();
        assert_eq!(error, CsrError::Key(PublicKeyError::RsaSize { bits }));
        assert!(error.to_string().contains(&format!("the RSA key has {bits} bits; use 2048 to 4096 bits")));
    }
    for key in [
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"][..],
        &["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
        &["ED448"],
        &["RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        assert_eq!(named(key, "-sha256").unwrap_err(), CsrError::Key(PublicKeyError::Unsupported), "{key:?}");
    }
}

#[test]
fn a_small_order_key_does_not_prove_possession() {
    const ED25519: &[u8] = &[0x30, 5, 0x06, 3, 0x2b, 0x65, 0x70];
    let bits = |bytes: &[u8]| element(0x03, &[&[0], bytes].concat());
    // The neutral element of the curve, and a signature that is valid for it over any message.
    let neutral = [&[1][..], &[0; 31]].concat();
    let constant = [&neutral[..], &[0; 32]].concat();
    let spki = element(SEQUENCE, &[ED25519, &bits(&neutral)].concat());
    let body = element(SEQUENCE, &[&[2, 1, 0, 0x30, 0][..], &spki, &[0xa0, 0]].concat());
    let request = element(SEQUENCE, &[&body[..], ED25519, &bits(&constant)].concat());
    let error = CertificateRequest::from_der(&request).unwrap_err();
    assert_eq!(error, CsrError::Key(PublicKeyError::Weak(Weakness::SmallOrder)));
    assert!(error.to_string().contains("anyone can forge signatures"), "{error}");
}

#[test]
fn an_unusable_exponent_is_refused() {
    for exponent in ["3", "17", "65535", "4294967297", "1208925819614629174706189"] {
        let option = format!("rsa_keygen_pubexp:{exponent}");
        let error = named(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", &option], "-sha256").unwrap_err();
        assert_eq!(error, CsrError::Key(PublicKeyError::Weak(Weakness::Exponent)), "{exponent}");
    }
}

#[test]
fn a_request_of_javas_keytool_is_read() {
    let text = include_bytes!("../../fuzz/corpus/pem/keytool.csr");
    assert!(text.starts_with(b"-----BEGIN NEW CERTIFICATE REQUEST-----"));
    let request = CertificateRequest::from_der(&pki::pem::read_csr(text).unwrap()).unwrap();
    let issued = Fleet::new().issue(Profile::Server, "keytool", request, 3);
    assert_eq!(
        (issued.info.display_name().as_str(), &issued.info.names[..]),
        ("client_1", &["db.fleet".to_owned()][..])
    );
}

#[test]
fn a_weak_signature_proves_nothing() {
    let error = named(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha1").unwrap_err();
    assert!(matches!(error, CsrError::NotProven(_)), "{error:?}");
}

#[test]
fn what_is_not_a_request_is_refused() {
    let good = request_by("CN = client_1");
    let pem = pki::pem::csr(&good.clone().into());
    assert_eq!(*pki::pem::read_csr(&pem).unwrap(), good[..], "PEM contains this DER");
    for bad in [&b""[..], b"junk", pem.as_bytes(), &vec![0x30; 1 << 20], &vec![0; 1 << 20], &good[1..]] {
        assert_eq!(CertificateRequest::from_der(bad).unwrap_err(), CsrError::NotARequest);
    }
    assert_eq!(CertificateRequest::from_der(&[&good[..], &[0]].concat()).unwrap_err(), CsrError::NotARequest);
    for length in 0..good.len() {
        assert!(CertificateRequest::from_der(&good[..length]).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn every_changed_byte_is_detected() {
    let good = request(
        P256,
        "distinguished_name = dn\n[dn]\nCN = client_1\nO = Org",
        &["-addext", "subjectAltName=DNS:a.example"],
    );
    for index in 0..good.len() {
        let mut changed = good.clone();
        changed[index] ^= 0x01;
        assert!(CertificateRequest::from_der(&changed).is_err(), "byte {index}");
    }
}

#[test]
fn another_keys_signature_proves_nothing() {
    let (mine, theirs) = (new_key(), new_key());
    let request =
        |signer| sign(&element(SEQUENCE, &[&[2, 1, 0, 0x30, 0][..], &mine.spki(), &[0xa0, 0]].concat()), signer);
    assert!(CertificateRequest::from_der(&request(&mine)).is_ok());
    assert!(matches!(CertificateRequest::from_der(&request(&theirs)), Err(CsrError::NotProven(_))));
}

/// A request for everything that it must not get.
const GREEDY: &str = "
distinguished_name = dn
req_extensions = wishes
[dn]
CN = client_1
O = Org
[wishes]
basicConstraints = critical, CA:TRUE, pathlen:9
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = codeSigning, OCSPSigning, serverAuth, anyExtendedKeyUsage
nameConstraints = permitted;DNS:.example
certificatePolicies = 2.5.29.32.0
crlDistributionPoints = URI:http://evil.example/empty.crl
authorityInfoAccess = OCSP;URI:http://evil.example/
subjectKeyIdentifier = hash
subjectAltName = @names
[names]
DNS.1 = db.fleet.example
email.1 = root@example.org
URI.1 = spiffe://fleet.example/client/root
RID.1 = 1.2.3.4
otherName.1 = 1.3.6.1.4.1.311.20.2.3;UTF8:administrator@example.org
dirName.1 = dn
IP.1 = 10.0.0.1
";

#[test]
fn a_request_proposes_and_the_profile_disposes() {
    let fleet = Fleet::new();
    let greedy = request(P256, GREEDY, &[]);
    for (profile, purpose, names) in [
        (Profile::Client, "sslclient", &["spiffe://fleet.example/client/client_1"][..]),
        (Profile::Server, "sslserver", &["db.fleet.example", "10.0.0.1"]),
    ] {
        let request = CertificateRequest::from_der(&greedy).unwrap();
        let issued = fleet.issue(profile, "greedy", request, 3);
        fleet.openssl_verify("greedy", purpose, now()).accepts();
        assert_eq!(issued.info.names, names);
        assert_eq!(issued.info.id.serial, serial(3));
        assert_eq!(issued.info.profile, Some(profile));
        assert_eq!(issued.info.complete_crl_url(), Some("http://ca.example:8480/crl/issuing.crl"));

        let (_, read) = X509Certificate::from_der(&issued.der).unwrap();
        assert!(!read.is_ca());
        assert_eq!(read.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
        let usage = read.extended_key_usage().unwrap().unwrap().value;
        assert!(!usage.any && !usage.code_signing && !usage.ocsp_signing && usage.other.is_empty());
        assert!(read.name_constraints().unwrap().is_none());
        let names = &read.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.iter().all(|name| {
            matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
                || matches!(name, GeneralName::URI(uri) if *uri == "spiffe://fleet.example/client/client_1")
        }));
        let text = fleet.ask("openssl", &["x509", "-noout", "-text", "-in", "greedy.crt"]).accepts();
        for wish in ["evil", "root", "administrator", "Policies", "OCSP"] {
            assert!(!text.contains(wish), "{wish} was granted: {text}");
        }
    }
}

/// What a request with these attributes, properly signed, proposes as hosts.
fn hosts_of(attributes: &[Vec<u8>]) -> Result<Vec<String>, CsrError> {
    let key = new_key();
    let attributes = element(0xa0, &attributes.concat());
    let name = element(SEQUENCE, &element(0x31, &element(SEQUENCE, b"\x06\x03\x55\x04\x03\x0c\x01a")));
    let body = element(SEQUENCE, &[&[2, 1, 0], &name[..], &key.spki(), &attributes].concat());
    let request = CertificateRequest::from_der(&sign(&body, &key))?;
    let approved = approve(Profile::Server, request).expect("its hosts are granted");
    Ok(Fleet::new().issuing.issue(&approved, serial(3), now()).expect("a certificate is issued").info.names)
}

const EXTENSION_REQUEST: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const OF_WINDOWS: &[u8] = &[0x06, 10, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];

/// An attribute that requests extensions, with these values.
fn attribute(oid: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &[oid, &element(0x31, &values.concat())].concat())
}

/// Extensions with this list of alternative names, once for each.
fn alternative_names(lists: &[&[u8]]) -> Vec<u8> {
    let extension = |names: &&[u8]| {
        element(SEQUENCE, &[&[0x06, 3, 0x55, 0x1d, 0x11][..], &element(0x04, &element(SEQUENCE, names))].concat())
    };
    element(SEQUENCE, &lists.iter().map(extension).collect::<Vec<_>>().concat())
}

#[test]
fn no_host_is_dropped_in_silence() {
    let (a, b) = (&b"\x82\x01a"[..], &b"\x82\x01b"[..]);
    let once = |names: &[u8]| attribute(EXTENSION_REQUEST, &[alternative_names(&[names])]);
    assert_eq!(hosts_of(&[once(&[a, b].concat())]), Ok(vec!["a".to_owned(), "b".to_owned()]));
    let others = [&b"\x81\x01m"[..], b"\x86\x03u:x", b"\x88\x01\x2a", a].concat();
    assert_eq!(hosts_of(&[once(&others)]), Ok(vec!["a".to_owned()]), "other names are not ours to grant");
    assert_eq!(hosts_of(&[attribute(OF_WINDOWS, &[alternative_names(&[a])])]), Ok(vec!["a".to_owned()]));
    let challenge =
        attribute(&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07], &[b"\x0c\x01x".to_vec()]);
    assert_eq!(hosts_of(&[challenge, once(a)]), Ok(vec!["a".to_owned()]));

    let twice = "extensions are requested twice";
    for (attributes, expected) in [
        (vec![once(a), once(b)], twice),
        (vec![once(a), attribute(OF_WINDOWS, &[alternative_names(&[b])])], twice),
        (vec![attribute(EXTENSION_REQUEST, &[alternative_names(&[a]), alternative_names(&[b])])], twice),
        (vec![attribute(EXTENSION_REQUEST, &[alternative_names(&[a, b])])], "there are two lists of them"),
        (vec![once(b"\x82\x05a")], "they are not a list of names"),
        (vec![once(&[a, b"\x8f\x01a"].concat())], "one is of no known kind"),
    ] {
        assert_eq!(hosts_of(&attributes), Err(CsrError::Names(expected)));
    }
    for unreadable in [&b"\x87\x03\x0a\x00\x01"[..], b"\x82\x01\xff", b"\x87\x00"] {
        assert!(hosts_of(&[once(&[a, unreadable].concat())]).is_err(), "{unreadable:x?}");
    }
    assert!(hosts_of(&[attribute(EXTENSION_REQUEST, &[b"\x0c\x01x".to_vec()])]).is_err());
}

#[test]
fn an_ipv4_address_in_the_form_of_ipv6_is_certified_as_what_it_is() {
    let asked = ["-addext", "subjectAltName=IP:::ffff:10.0.0.1,IP:10.0.0.1,DNS:a.example,DNS:A.example"];
    let request = request(P256, "distinguished_name = dn\n[dn]\nCN = client_1", &asked);
    let fleet = Fleet::new();
    let issued = fleet.issue(Profile::Server, "mapped", CertificateRequest::from_der(&request).unwrap(), 3);
    assert_eq!(issued.info.names, ["10.0.0.1", "a.example"]);
}

#[test]
fn a_subject_has_exactly_one_common_name() {
    let count = |subject: &str| {
        let request = CertificateRequest::from_der(&request_by(subject)).unwrap();
        match approve(Profile::Client, request) {
            Err(Denial::Subject { attribute, count, .. }) => (attribute, count),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count("O = Org"), ("common names", 0));
    assert_eq!(count("0.CN = client_1\n1.CN = root"), ("common names", 2));
    assert_eq!(count("CN = client_1\n0.O = Org\n1.O = Other"), ("organizations", 2));
}

/// A request for a name that OpenSSL would not put into one.
fn request_for(common_name: DnValue) -> Result<CertificateRequest, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = rcgen::KeyPair::from_pem(&new_key().to_pem()).expect("its own PEM");
    CertificateRequest::from_der(params.serialize_request(&key).expect("a request").der())
}

#[test]
fn a_name_that_is_no_name_is_denied_in_one_printable_line() {
    let long = "x".repeat(300);
    for bad in
        ["", "*", "mail@example.org", "a/b", "kl\u{fc}ver", "a b", "bell\u{7}", "line\nbreak", "nul\0", "..", &long]
    {
        let request = request_for(DnValue::Utf8String(bad.to_owned())).unwrap();
        let denial = approve(Profile::Client, request).unwrap_err();
        assert!(matches!(denial, Denial::Malformed(_)), "{bad:?}: {denial:?}");
        let message = denial.to_string();
        assert!(!message.contains(char::is_control) && message.len() < 200, "{message}");
    }
    let request = CertificateRequest::from_der(&request_by("CN = kl\u{fc}ver@example.org")).unwrap();
    assert!(matches!(approve(Profile::Client, request), Err(Denial::Malformed(_))), "OpenSSL's way to write it, too");
}

#[test]
fn a_name_in_two_byte_characters_is_refused_or_read_as_what_it_is() {
    let name = DnValue::BmpString("client_1".try_into().unwrap());
    match request_for(name) {
        Err(error) => assert_eq!(error, CsrError::UnreadableName),
        Ok(request) => assert_eq!(approve(Profile::Client, request).unwrap().subject().as_str(), "client_1"),
    }
}

#[test]
fn a_server_without_a_host_is_denied() {
    let request = CertificateRequest::from_der(&request_by("CN = web-1")).unwrap();
    assert_eq!(approve(Profile::Server, request).unwrap_err(), Denial::Hosts(0));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(CertificateRequest::from_der(&bytes).is_err());
    }
}
