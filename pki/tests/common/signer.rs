//! An authority that signs any CRL, for CRLs with a valid signature and contents that are not allowed.

use pki::{
    certificate::CertificateInfo,
    crl::{CrlIssuer, CrlVerifyError, VerifiedCrl, VerifiedDelta},
    key::KeyPair,
    serial::Serial,
};
use testkit::{
    authority::root,
    signed::{ECDSA_WITH_SHA256, SEQUENCE, element, sign},
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const CRITICAL: &[u8] = &[0x01, 0x01, 0xff];

pub(crate) fn issuer(certificate: &[u8]) -> CrlIssuer {
    let certificate = CertificateInfo::from_der(certificate).expect("a certificate");
    CrlIssuer::from_certificate(&certificate).expect("it may sign CRLs")
}

/// An authority that signs any CRL.
pub(crate) struct Signer {
    pub(crate) key: KeyPair,
    pub(crate) issuer: CrlIssuer,
    pub(crate) name: Vec<u8>,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let (root, key) = root();
        let (_, certificate) = X509Certificate::from_der(root.certificate()).expect("a certificate");
        let name = certificate.subject().as_raw().to_owned();
        Self { key, issuer: issuer(root.certificate()), name }
    }

    /// Verifies a CRL whose fields after the issuer's name are `fields`.
    pub(crate) fn verify(&self, fields: &[&[u8]]) -> Result<Vec<Serial>, CrlVerifyError> {
        self.verify_body(&[&[&[2, 1, 1], ECDSA_WITH_SHA256, &self.name[..]], fields].concat())
    }

    pub(crate) fn verify_body(&self, body: &[&[u8]]) -> Result<Vec<Serial>, CrlVerifyError> {
        let crl = sign(&element(SEQUENCE, &body.concat()), &self.key);
        VerifiedCrl::verify(&crl, &self.issuer).map(|crl| crl.serials().collect())
    }

    /// Verifies a CRL without entries that has these extensions.
    pub(crate) fn verify_extensions(&self, list: &[&[u8]]) -> Result<Vec<Serial>, CrlVerifyError> {
        self.verify(&[&time(), &time(), &extensions(list)])
    }

    /// Verifies a CRL that has these entries.
    pub(crate) fn verify_entries(&self, list: &[&[u8]]) -> Result<Vec<Serial>, CrlVerifyError> {
        self.verify(&[&time(), &time(), &element(SEQUENCE, &list.concat()), &extensions(&[&number(&[5])])])
    }

    /// Signs a CRL with these entries and extensions.
    pub(crate) fn sign(&self, entries: &[&[u8]], list: &[&[u8]]) -> Vec<u8> {
        let entries = if entries.is_empty() { Vec::new() } else { element(SEQUENCE, &entries.concat()) };
        let body = [&[2, 1, 1], ECDSA_WITH_SHA256, &self.name, &time(), &time(), &entries, &extensions(list)];
        sign(&element(SEQUENCE, &body.concat()), &self.key)
    }

    /// Verifies a delta with these entries and extensions: number, base and serials.
    pub(crate) fn verify_delta(
        &self,
        entries: &[&[u8]],
        list: &[&[u8]],
    ) -> Result<(i64, i64, Vec<Serial>), CrlVerifyError> {
        let crl = self.sign(entries, list);
        VerifiedDelta::verify(&crl, &self.issuer)
            .map(|delta| (delta.number().get(), delta.base().get(), delta.serials().collect()))
    }
}

pub(crate) fn time() -> Vec<u8> {
    element(0x17, b"261124090000Z")
}

pub(crate) fn extensions(list: &[&[u8]]) -> Vec<u8> {
    element(0xa0, &element(SEQUENCE, &list.concat()))
}

/// An extension of id-ce (2.5.29).
pub(crate) fn extension(id: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&[0x06, 0x03, 0x55, 0x1d, id], critical, &element(0x04, value)].concat())
}

pub(crate) fn number(bytes: &[u8]) -> Vec<u8> {
    extension(20, &[], &element(0x02, bytes))
}

/// The extension that makes a CRL a delta.
pub(crate) fn base(bytes: &[u8]) -> Vec<u8> {
    extension(27, CRITICAL, &element(0x02, bytes))
}

pub(crate) fn entry(serial: &[u8], rest: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&element(0x02, serial), &time()[..], rest].concat())
}
