//! Reads the fields of a certificate from its DER.
//!
//! It never decides whether a certificate is trusted. That needs a verifier with a trust anchor and a time.

mod constraints;
mod distinguished_name;

use std::{fmt, net::IpAddr};

use rcgen::PublicKeyData;
use serde::Serialize;
use x509_parser::prelude::{DistributionPointName, FromDer, GeneralName, ParsedExtension, X509Certificate};

pub use self::{
    constraints::{Unusable, unusable},
    distinguished_name::DistinguishedName,
};
use crate::{
    der::{self, DerError, Reader},
    digest::{sha256, short_hex},
    excerpt::{self, Excerpt},
    name::{TrustDomain, Visible},
    profile::Profile,
    publication::servers_crl_url,
    serial::{Serial, SerialError},
    signature,
    time::{Timestamp, Validity},
};

/// A certificate's identity: a serial number is unique for its issuer only (RFC 5280 section 4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateId {
    /// The issuer's distinguished name.
    pub issuer: DistinguishedName,
    /// The serial number.
    pub serial: Serial,
}

impl CertificateId {
    /// Reads only issuer and serial number from a DER certificate, because every handshake does it.
    pub fn from_der(certificate: &[u8]) -> Result<Self, CertificateError> {
        let fields = || {
            let mut body = Reader::new(certificate).sequence()?.sequence()?;
            body.optional(der::context(0))?;
            let serial = body.expect(der::INTEGER)?;
            body.expect(der::SEQUENCE)?;
            Ok((serial, body.any()?.encoded))
        };
        let (serial, issuer) = fields().map_err(|_: DerError| CertificateError::NotACertificate)?;
        Ok(Self { issuer: DistinguishedName::from_der(issuer), serial: Serial::from_der_integer(serial)? })
    }
}

/// An issuer: its name and its key. The name alone is not enough: a CA that was re-keyed keeps its name, and a CA may
/// have the name of the CA above it. Each key signs CRLs of its own. Clones share one copy of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuerId {
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub spki_sha256: [u8; 32],
    /// Its distinguished name.
    pub name: DistinguishedName,
}

impl IssuerId {
    /// The authority that this certificate is for.
    #[must_use]
    pub fn of(certificate: &CertificateInfo) -> Self {
        Self { spki_sha256: certificate.spki_sha256, name: certificate.subject.clone() }
    }

    /// The first 8 bytes of the key's digest in hexadecimal. It distinguishes keys of the same name; it is too short to
    /// identify a key securely.
    #[must_use]
    pub fn short_key(&self) -> String {
        short_hex(&self.spki_sha256)
    }

    /// The authority of a trust anchor. `name` and `spki` are the contents without their outer SEQUENCE, as webpki
    /// stores them.
    #[must_use]
    pub fn of_anchor(name: &[u8], spki: &[u8]) -> Self {
        let whole = |contents| der::encode(der::SEQUENCE, contents);
        Self { spki_sha256: sha256(&whole(spki)), name: DistinguishedName::from_der(&whole(name)) }
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (key {})", self.name, self.short_key())
    }
}

/// A certificate on a verified path. The issuer is the one whose key verified the signature; a certificate itself has
/// only its issuer's name ([`CertificateId`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifiedId {
    /// The authority whose key verified the signature.
    pub issuer: IssuerId,
    /// The serial number.
    pub serial: Serial,
}

/// The SHA-256 digest of a certificate's DER, written as `openssl x509 -fingerprint -sha256` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of this certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(certificate))
    }

    /// The first 8 bytes in hexadecimal. It distinguishes files; it is too short to identify a certificate securely.
    #[must_use]
    pub fn short(&self) -> String {
        short_hex(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The fields of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateInfo {
    /// The subject's distinguished name.
    pub subject: DistinguishedName,
    /// Issuer and serial number.
    pub id: CertificateId,
    /// The subject's common name, if it has one that is text.
    pub common_name: Option<String>,
    /// The subject's organization, if it has one that is text.
    pub organization: Option<String>,
    /// The subject alternative names: DNS names, addresses, URIs and mail addresses as text.
    pub names: Vec<String>,
    /// From when until when.
    pub validity: Validity,
    /// Client or server, if it has exactly one of the two usages.
    pub profile: Option<Profile>,
    /// The HTTP locations of the CRL that covers it (RFC 5280 section 4.2.1.13).
    pub crl_urls: Vec<String>,
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub spki_sha256: [u8; 32],
    pub(crate) spki: Vec<u8>,
    /// The subject key identifier (RFC 5280 section 4.2.1.2), if it has one.
    pub(crate) key_id: Option<Vec<u8>>,
    /// What its key may sign.
    pub may_sign: MaySign,
}

/// The key usages of a certificate. All are `true` if the extension is absent (RFC 5280 section 4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaySign {
    /// Handshakes and other short-lived data (`digitalSignature`).
    pub handshakes: bool,
    /// Certificates (`keyCertSign`).
    pub certificates: bool,
    /// CRLs (`cRLSign`).
    pub crls: bool,
}

impl MaySign {
    fn read(certificate: &X509Certificate<'_>) -> Self {
        match certificate.key_usage() {
            Ok(Some(usage)) => Self {
                handshakes: usage.value.digital_signature(),
                certificates: usage.value.key_cert_sign(),
                crls: usage.value.crl_sign(),
            },
            Ok(None) => Self { handshakes: true, certificates: true, crls: true },
            Err(_) => Self { handshakes: false, certificates: false, crls: false },
        }
    }
}

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("not an X.509 certificate")]
    NotACertificate,
    /// Its serial number is out of bounds.
    #[error(transparent)]
    Serial(#[from] SerialError),
}

impl CertificateInfo {
    /// Reads a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(CertificateError::NotACertificate);
        }
        let validity = certificate.validity();
        let subject = DistinguishedName::from_der(certificate.subject().as_raw());
        let issuer = DistinguishedName::from_der(certificate.issuer().as_raw());
        let serial = match Serial::from_der_integer(certificate.raw_serial()) {
            // Many old roots have serial number zero. It is accepted because no CRL lists a root.
            Err(SerialError::NotPositive) if certificate.raw_serial() == [0] && subject == issuer => {
                Serial::OF_OLD_ROOTS
            }
            serial => serial?,
        };
        Ok(Self {
            subject,
            id: CertificateId { issuer, serial },
            common_name: first_text(certificate.subject().iter_common_name()),
            organization: first_text(certificate.subject().iter_organization()),
            names: subject_alternative_names(&certificate),
            validity: Validity {
                not_before: Timestamp::from_unix(validity.not_before.timestamp()),
                not_after: Timestamp::from_unix(validity.not_after.timestamp()),
            },
            profile: profile(&certificate),
            crl_urls: crl_urls(&certificate),
            spki_sha256: sha256(certificate.public_key().raw),
            spki: certificate.public_key().raw.to_owned(),
            key_id: certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_owned()),
                _ => None,
            }),
            may_sign: MaySign::read(&certificate),
        })
    }

    /// Whether this authority signed the certificate, by name and by key. This is not path validation: it checks
    /// neither validity nor what the authority may sign.
    #[must_use]
    pub fn has_signed(&self, certificate: &[u8]) -> bool {
        CertificateId::from_der(certificate).is_ok_and(|id| id.issuer.is_same(&self.subject))
            && signature::verify(certificate, &self.spki).is_ok()
    }

    /// Whether this key pair's public half is the certified one.
    #[must_use]
    pub fn is_for_key(&self, key: &impl PublicKeyData) -> bool {
        self.spki == key.subject_public_key_info()
    }

    /// The URL of the CRL with everything that the issuer has revoked: the first `http://` distribution point that is
    /// not the list of servers.
    #[must_use]
    pub fn complete_crl_url(&self) -> Option<&str> {
        let is_partial = |url: &String| self.crl_urls.iter().any(|of| servers_crl_url(of).as_ref() == Some(url));
        self.crl_urls.iter().find(|url| !is_partial(url)).map(String::as_str)
    }

    /// Whether this is an authority's own server certificate. It has the URI that policy grants to nobody else. The
    /// chain to a trusted root has to be verified as well.
    #[must_use]
    pub fn is_of_authority(&self) -> bool {
        self.profile == Some(Profile::Server) && self.names.iter().any(|name| TrustDomain::is_authority_uri(name))
    }

    /// The common name, or the whole subject if there is none, cut to the length that is shown of a name.
    #[must_use]
    pub fn shown_name(&self) -> String {
        Excerpt(self.display_name(), excerpt::NAME).to_string()
    }

    /// The common name, or the whole subject if there is none, with invisible characters escaped.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.common_name.as_ref().map_or_else(|| self.subject.to_string(), |name| Visible(name).to_string())
    }
}

/// Encodes the contents of a trust anchor's `SubjectPublicKeyInfo`, as webpki stores them, as DER.
#[must_use]
pub fn spki_of_anchor(contents: &[u8]) -> Vec<u8> {
    der::encode(der::SEQUENCE, contents)
}

/// Whether the key in this `SubjectPublicKeyInfo` signed the certificate. It does not check what the key may sign.
#[must_use]
pub fn has_signed(spki: &[u8], certificate: &[u8]) -> bool {
    signature::verify(certificate, spki).is_ok()
}

fn first_text<'a, 'b: 'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'b>>,
) -> Option<String> {
    attributes.next().and_then(|attribute| attribute.as_str().ok()).map(str::to_owned)
}

fn subject_alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name_text).collect()
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

/// An `iPAddress` of a certificate (RFC 5280 section 4.2.1.6).
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn profile(certificate: &X509Certificate<'_>) -> Option<Profile> {
    let usage = certificate.extended_key_usage().ok()??.value;
    match (usage.client_auth, usage.server_auth) {
        (true, false) => Some(Profile::Client),
        (false, true) => Some(Profile::Server),
        _ => None,
    }
}

fn crl_urls(certificate: &X509Certificate<'_>) -> Vec<String> {
    let points = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
        _ => None,
    });
    points
        .flatten()
        .filter_map(|point| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("http://") => Some((*uri).to_owned()),
            _ => None,
        })
        .collect()
}
