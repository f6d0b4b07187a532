//! Private keys that other tools wrote.

mod common;

use common::Files;
use pki::key::{KeyError, KeyPair};

/// Each kind of key in PKCS#8.
const KINDS: &[&[&str]] = &[
    &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    &["ED25519"],
];

fn spki(files: &Files) -> Vec<u8> {
    files.openssl(&["pkey", "-in", "a.key", "-pubout", "-outform", "DER", "-out", "a.pub"]);
    files.read("a.pub")
}

#[test]
fn every_form_of_a_key_is_read_and_converted_to_pkcs8() {
    let files = Files::new();
    for kind in KINDS {
        files.openssl(&[&["genpkey", "-out", "a.key", "-algorithm"], *kind].concat());
        let mut forms = vec![files.read("a.key")];
        // SEC 1 and PKCS#1. Edwards curves have no such form.
        if kind[0] != "ED25519" {
            files.openssl(&["pkey", "-in", "a.key", "-traditional", "-out", "old.key"]);
            let old = files.read("old.key");
            assert!(old.starts_with(b"-----BEGIN EC PRIVATE") || old.starts_with(b"-----BEGIN RSA PRIVATE"));
            forms.push(old);
        }
        for form in forms {
            let certificate = pki::pem::certificate(&b"\x30\x00"[..].into());
            for text in [
                form.clone(),
                [b"Bag Attributes\n    friendlyName: M\xfcller\nKey Attributes: <No Attributes>\n", &form[..]].concat(),
                [b"\xef\xbb\xbf", &form[..]].concat(),
                [certificate.as_bytes(), &form].concat(),
                [&form, certificate.as_bytes()].concat(),
                String::from_utf8(form.clone()).unwrap().replace('\n', "\r\n").into_bytes(),
            ] {
                let key = KeyPair::from_pem(&text).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                assert_eq!(key.spki(), spki(&files));
                let copy = KeyPair::from_pem(key.to_pem()).expect("PKCS#8");
                assert_eq!(copy.spki(), key.spki());
                assert!(key.to_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
            }
            assert!(matches!(KeyPair::from_pem([&form[..], &form].concat()), Err(KeyError::Several)));
        }
    }
}

#[test]
fn ec_parameters_before_a_key_are_skipped() {
    let files = Files::new();
    files.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "a.key"]);
    let text = files.read("a.key");
    assert!(text.starts_with(b"-----BEGIN EC PARAMETERS-----"));
    assert_eq!(KeyPair::from_pem(&text).unwrap().spki(), spki(&files));
    files.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "a.key"]);
    assert_eq!(KeyPair::from_pem(files.read("a.key")).unwrap().spki(), spki(&files));
}

#[test]
fn an_encrypted_key_is_reported_as_encrypted() {
    let files = Files::new();
    files.openssl(&[&["genpkey", "-out", "a.key", "-algorithm"], KINDS[0]].concat());
    let encrypt = ["pkey", "-in", "a.key", "-aes256", "-passout", "pass:secret"];
    files.openssl(&[&encrypt[..], &["-out", "new.key"]].concat());
    files.openssl(&[&encrypt[..], &["-traditional", "-out", "old.key"]].concat());
    for name in ["new.key", "old.key"] {
        let error = KeyPair::from_pem(files.read(name)).unwrap_err();
        assert!(matches!(error, KeyError::Encrypted), "{name}: {error:?}");
        assert!(error.to_string().contains("is encrypted"), "{error}");
    }
}
