//! Certificates of foreign authorities, made with OpenSSL: what is read, and which constraints are reported.

mod common;

use common::Files;
use pki::certificate::{CertificateInfo, unusable};

/// A self-signed authority with these extensions, in DER.
fn authority(arguments: &[&str], extensions: &[&str]) -> Vec<u8> {
    let files = Files::new();
    let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "a.key"];
    let names = ["-subj", "/CN=a", "-outform", "DER", "-out", "a.der", "-addext", "basicConstraints=critical,CA:TRUE"];
    let extensions: Vec<_> = extensions.iter().flat_map(|extension| ["-addext", extension]).collect();
    files.openssl(&[&make[..], &names, arguments, &extensions].concat());
    files.read("a.der")
}

#[test]
fn a_root_may_have_serial_number_zero() {
    let root = CertificateInfo::from_der(&authority(&["-set_serial", "0"], &[])).unwrap();
    assert_eq!((root.id.serial.to_string().as_str(), root.display_name().as_str()), ("00", "a"));
    let root = CertificateInfo::from_der(&authority(&["-set_serial", "7"], &[])).unwrap();
    assert_eq!(root.id.serial.to_string(), "07");
    assert!(CertificateInfo::from_der(&authority(&["-set_serial", "-7"], &[])).is_err(), "no number is negative");
}

#[test]
fn constraints_that_refuse_clients_are_reported() {
    let said = |extensions: &[&str], is_root| {
        let said = unusable(&authority(&[], extensions), is_root);
        said.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let dns = "nameConstraints=critical,permitted;DNS:.example,permitted;IP:10.0.0.0/255.0.0.0";
    for fine in [&[][..], &["keyUsage=critical,keyCertSign,cRLSign"], &[dns], &["extendedKeyUsage=clientAuth"]] {
        assert_eq!(said(fine, false), [""; 0], "{fine:?}");
    }
    let policies = "certificatePolicies=critical,2.5.29.32.0";
    for (extension, expected) in [
        ("nameConstraints=critical,permitted;URI:.example", "name constraints on URIs"),
        ("nameConstraints=excluded;email:example.org", "name constraints on mail addresses"),
        (policies, "the critical extension certificatePolicies"),
        ("policyConstraints=critical,requireExplicitPolicy:0", "the critical extension policyConstraints"),
        ("1.2.3.4=critical,DER:0500", "the critical extension 1.2.3.4"),
        ("extendedKeyUsage=anyExtendedKeyUsage", "an extended key usage without clientAuth"),
    ] {
        let said = said(&[extension], false);
        assert!(matches!(&said[..], [one] if one.starts_with(expected)), "{extension}: {said:?}");
    }
    assert_eq!(said(&[policies, "extendedKeyUsage=anyExtendedKeyUsage"], true), [""; 0], "of a root, names count only");
    assert_eq!(said(&["nameConstraints=permitted;URI:.example"], true).len(), 1);
    assert!(unusable(b"junk", false).is_empty());
}
