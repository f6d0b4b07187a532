//! PEM text (RFC 7468): writes it for files and the wire, and reads what other tools write.
//!
//! It never writes private keys; [`crate::key::KeyPair::to_pem`] does. Text around the sections is skipped. It may be
//! in any encoding and may contain explanations, byte order marks and any line ends.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, pem::PemObject};
use zeroize::Zeroizing;

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

/// The text does not contain the expected PEM sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No complete section.
    #[error("no PEM section {0:?} that can be read")]
    None(&'static str),
    /// More than one section where only one is allowed.
    #[error("more than one PEM section {0:?}; put each into a file of its own")]
    Several(&'static str),
}

/// All certificates in the text, in order; at least one.
pub fn read_chain(pem: impl AsRef<[u8]>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let error = PemError::None("CERTIFICATE");
    let pem = plain(pem.as_ref());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| error)?;
    if chain.is_empty() { Err(error) } else { Ok(chain) }
}

/// The only certificate in the text.
pub fn read_certificate(pem: impl AsRef<[u8]>) -> Result<CertificateDer<'static>, PemError> {
    let mut chain = read_chain(pem)?;
    if chain.len() > 1 { Err(PemError::Several("CERTIFICATE")) } else { Ok(chain.swap_remove(0)) }
}

/// The only certificate signing request in the text.
pub fn read_csr(pem: impl AsRef<[u8]>) -> Result<CertificateSigningRequestDer<'static>, PemError> {
    let none = PemError::None("CERTIFICATE REQUEST");
    let pem = plain(pem.as_ref());
    let mut requests = CertificateSigningRequestDer::pem_slice_iter(&pem);
    let request = requests.next().ok_or(none)?.map_err(|_| none)?;
    if requests.next().is_some() { Err(PemError::Several("CERTIFICATE REQUEST")) } else { Ok(request) }
}

/// The text with normalized lines. It may contain a secret.
pub(crate) fn plain(pem: &[u8]) -> Zeroizing<Vec<u8>> {
    /// Labels that other tools use: Java's keytool and older versions of Windows and OpenSSL.
    const OTHER_LABELS: [(&[u8], &[u8]); 2] =
        [(b"NEW CERTIFICATE REQUEST", b"CERTIFICATE REQUEST"), (b"X509 CERTIFICATE", b"CERTIFICATE")];
    // Allocated with its final capacity, because growing would leave a copy of a secret in memory.
    let mut plain = Zeroizing::new(Vec::with_capacity(pem.len() + 1));
    for line in pem.split(|byte| matches!(byte, b'\n' | b'\r')) {
        // Concatenated files can have a byte order mark in the middle.
        let line = without_mark(line).trim_ascii();
        let label = |edge: &[u8]| line.strip_prefix(edge)?.strip_suffix(b"-----");
        let other = |edge: &'static [u8]| {
            let label = label(edge)?;
            OTHER_LABELS.iter().find(|(other, _)| *other == label).map(|(_, usual)| [edge, usual, b"-----"])
        };
        match other(b"-----BEGIN ").or_else(|| other(b"-----END ")) {
            Some(parts) => parts.iter().for_each(|part| plain.extend_from_slice(part)),
            None => plain.extend_from_slice(line),
        }
        plain.push(b'\n');
    }
    plain
}

/// The text without the byte order mark that some editors write at the start.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Whether this is a CRL in PEM instead of DER.
#[must_use]
pub fn is_crl(bytes: &[u8]) -> bool {
    // DER begins with a SEQUENCE. The check avoids searching a large CRL for text.
    bytes.first().is_some_and(|first| *first != SEQUENCE)
        && bytes.windows(CRL_BEGIN.len()).any(|window| window == CRL_BEGIN)
}

/// Every CRL in the text, as DER; at least one.
pub fn read_crls(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let none = PemError::None("X509 CRL");
    let crls = CertificateRevocationListDer::pem_slice_iter(without_mark(pem));
    let crls: Vec<_> = crls.map(|crl| crl.map(|crl| crl.to_vec())).collect::<Result<_, _>>().map_err(|_| none)?;
    if crls.is_empty() { Err(none) } else { Ok(crls) }
}

/// The only CRL in the text, as DER.
pub fn read_crl(pem: &[u8]) -> Result<Vec<u8>, PemError> {
    let none = PemError::None("X509 CRL");
    // Not normalized first, because that would copy a large CRL.
    let mut crls = CertificateRevocationListDer::pem_slice_iter(without_mark(pem));
    let crl = crls.next().ok_or(none)?.map_err(|_| none)?;
    if crls.next().is_some() { Err(PemError::Several("X509 CRL")) } else { Ok(crl.to_vec()) }
}

/// Written by hand into one buffer of the right size. The `pem` crate copies the DER first and formats each line, which
/// costs memory and time for a CRL of a million entries.
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
    fn a_crl_in_text_has_to_be_complete_and_the_only_one() {
        let text = crl(&[0x30, 0x01, 0x00]);
        let with_text = format!("Certificate Revocation List (CRL):\n  Version 2\n{text}");
        let (marked, of_windows) = (format!("\u{feff}{text}"), text.replace('\n', "\r\n"));
        for good in [&text, &with_text, &marked, &of_windows] {
            assert!(is_crl(good.as_bytes()));
            assert_eq!(read_crl(good.as_bytes()), Ok(vec![0x30, 0x01, 0x00]));
        }
        let two = format!("{text}{text}");
        assert_eq!(read_crl(two.as_bytes()), Err(PemError::Several("X509 CRL")));
        assert_eq!(read_crls(two.as_bytes()), Ok(vec![vec![0x30, 0x01, 0x00]; 2]));
        assert_eq!(read_crls(b"garbage"), Err(PemError::None("X509 CRL")));
        assert_eq!(read_crl(&text.as_bytes()[..text.len() - 10]), Err(PemError::None("X509 CRL")));
        let der = [&[0x30, 0x7f], text.as_bytes()].concat();
        for other in [&der[..], b"garbage", b"", b"-----BEGIN CERTIFICATE-----"] {
            assert!(!is_crl(other) && read_crl(&other[..other.len().min(2)]).is_err());
        }
    }

    #[test]
    fn text_around_a_section_is_skipped() {
        let der = CertificateDer::from(vec![0x30, 0x01, 0x00]);
        let text = certificate(&der);
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        for good in [
            text.clone().into_bytes(),
            format!("\u{feff}{text}").into_bytes(),
            text.replace('\n', "\r\n").into_bytes(),
            text.replace('\n', "\r").into_bytes(),
            text.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes(),
            format!("  {}", text.replace('\n', " \n  ")).into_bytes(),
            [b"Bag Attributes\n    friendlyName: M\xfcller\n", text.as_bytes(), b"\xff\xfe"].concat(),
            format!("{key}{text}").into_bytes(),
            format!("{text}\u{feff}{key}").into_bytes(),
            text.trim_end().to_owned().into_bytes(),
        ] {
            assert_eq!(read_chain(&good), Ok(vec![der.clone()]), "{}", String::from_utf8_lossy(&good));
        }
        let two = format!("{text}\u{feff}{text}");
        assert_eq!(read_chain(&two).map(|chain| chain.len()), Ok(2));
        assert_eq!(read_certificate(&two), Err(PemError::Several("CERTIFICATE")));
        assert_eq!(read_certificate(&text), Ok(der));
        assert_eq!(read_chain(key), Err(PemError::None("CERTIFICATE")));
    }

    #[test]
    fn only_one_request_is_allowed_under_either_label() {
        let der = CertificateSigningRequestDer::from(vec![0x30, 0x01, 0x00]);
        let text = csr(&der);
        let of_keytool = text.replace("BEGIN ", "BEGIN NEW ").replace("END ", "END NEW ");
        assert_eq!((read_csr(&text), read_csr(&of_keytool)), (Ok(der.clone()), Ok(der)));
        for two in [format!("{text}{text}"), format!("{text}{of_keytool}"), format!("{of_keytool}{text}")] {
            assert_eq!(read_csr(two), Err(PemError::Several("CERTIFICATE REQUEST")));
        }
        assert_eq!(read_csr("-----BEGIN CERTIFICATE REQUEST-----"), Err(PemError::None("CERTIFICATE REQUEST")));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = (read_chain(&bytes), read_csr(&bytes), read_crls(&bytes));
        }
    }
}
