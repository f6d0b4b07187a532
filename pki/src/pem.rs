//! PEM text (RFC 7468) for what this system writes to files and puts on the wire.
//!
//! It never handles private keys; those leave through [`crate::key::KeyPair::to_pem`].

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, pem::PemObject};

use crate::der::SEQUENCE;

const CRL_BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";

/// A certificate as PEM.
#[must_use]
pub fn certificate(der: &CertificateDer<'_>) -> String {
    encode("CERTIFICATE", der)
}

/// Certificates as PEM, one after the other, in the order given.
#[must_use]
pub fn chain(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(certificate).collect()
}

/// A CRL as PEM.
#[must_use]
pub fn crl(der: &[u8]) -> String {
    encode("X509 CRL", der)
}

/// A certificate signing request as PEM.
#[must_use]
pub fn csr(der: &CertificateSigningRequestDer<'_>) -> String {
    encode("CERTIFICATE REQUEST", der)
}

/// The text does not hold the PEM sections that were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// None that is whole.
    #[error("no PEM section {0:?} that can be read")]
    None(&'static str),
    /// More than the one that can be used.
    #[error("more than one PEM section {0:?}; put each into a file of its own")]
    Several(&'static str),
}

/// Every certificate in the text, in order; at least one.
pub fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let error = PemError::None("CERTIFICATE");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| error)?;
    if chain.is_empty() { Err(error) } else { Ok(chain) }
}

/// The first certificate signing request in the text.
pub fn read_csr(pem: &str) -> Result<CertificateSigningRequestDer<'static>, PemError> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| PemError::None("CERTIFICATE REQUEST"))
}

/// Whether this is a CRL in PEM, and not in DER.
#[must_use]
pub fn is_crl(octets: &[u8]) -> bool {
    // DER begins with a SEQUENCE, and a long list is not to be searched for text.
    octets.first().is_some_and(|first| *first != SEQUENCE)
        && octets.windows(CRL_BEGIN.len()).any(|window| window == CRL_BEGIN)
}

/// The only CRL in the text, as DER.
pub fn read_crl(pem: &[u8]) -> Result<Vec<u8>, PemError> {
    let none = PemError::None("X509 CRL");
    let mut crls = CertificateRevocationListDer::pem_slice_iter(pem);
    let crl = crls.next().ok_or(none)?.map_err(|_| none)?;
    if crls.next().is_some() { Err(PemError::Several("X509 CRL")) } else { Ok(crl.to_vec()) }
}

fn encode(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crl_is_read_out_of_text_if_it_is_whole_and_the_only_one() {
        let text = crl(&[0x30, 0x01, 0x00]);
        let with_text = format!("Certificate Revocation List (CRL):\n  Version 2\n{text}");
        for good in [&text, &with_text] {
            assert!(is_crl(good.as_bytes()));
            assert_eq!(read_crl(good.as_bytes()), Ok(vec![0x30, 0x01, 0x00]));
        }
        assert_eq!(read_crl(format!("{text}{text}").as_bytes()), Err(PemError::Several("X509 CRL")));
        assert_eq!(read_crl(&text.as_bytes()[..text.len() - 10]), Err(PemError::None("X509 CRL")));
        let der = [&[0x30, 0x7f], text.as_bytes()].concat();
        for other in [&der[..], b"garbage", b"", b"-----BEGIN CERTIFICATE-----"] {
            assert!(!is_crl(other) && read_crl(&other[..other.len().min(2)]).is_err());
        }
    }
}
