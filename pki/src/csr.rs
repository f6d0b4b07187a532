//! Certificate signing requests (PKCS #10, RFC 2986). The enrolling program makes them; the authority reads them.
//!
//! It takes only the public key, the proof of possession and the proposed names from a request, because anyone can send
//! one. It never reads requested usages, constraints or validity: the profile decides those.

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::{
    certificate::address,
    der::{self, DerError, Reader},
    key::{KeyPair, PublicKey, PublicKeyError},
    name::{CommonName, Host, Organization},
    signature::{self, SignatureError},
};

// Contents of the OBJECT IDENTIFIERs of the attributes with requested extensions, and of the extension that is read.
/// id-pkcs9-extensionRequest 1.2.840.113549.1.9.14 (RFC 2985 section 5.4.2)
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// `szOID_CERT_EXTENSIONS` 1.3.6.1.4.1.311.2.1.14, the same attribute in requests of older Windows versions
const MICROSOFT_EXTENSION_REQUEST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];
/// id-ce-subjectAltName 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// A request whose sender has proved that it has the private key.
///
/// The names are proposals; policy has not checked them.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    pub(crate) public_key: PublicKey,
    pub(crate) common_names: Vec<String>,
    pub(crate) organizations: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS #10 DER.
    #[error("the certificate signing request is not a PKCS #10 request in DER")]
    NotARequest,
    /// A name is not text.
    #[error("the certificate signing request carries a name that is not text")]
    UnreadableName,
    /// The requested alternative names are misplaced or unreadable. Ignoring them would issue a certificate without
    /// them.
    #[error("the certificate signing request's alternative names cannot be read: {0}")]
    Names(&'static str),
    /// The key's kind or size is not certified.
    #[error("the certificate signing request cannot be accepted: {0}")]
    Key(#[from] PublicKeyError),
    /// The signature is not by the key in the request (RFC 2986 section 4.2).
    #[error("the certificate signing request does not prove possession of its key: {0}")]
    NotProven(#[from] SignatureError),
}

impl CertificateRequest {
    /// Reads a request and verifies the proof of possession.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::NotARequest)?;
        if !rest.is_empty() {
            return Err(CsrError::NotARequest);
        }
        let info = &request.certification_request_info;
        // The key is checked first, because its error is clearer than that of the signature check.
        let public_key = PublicKey::from_spki(info.subject_pki.raw)?;
        let signed = signature::verify(der, info.subject_pki.raw)?;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).map_err(|_| CsrError::UnreadableName)
        };
        Ok(Self {
            public_key,
            common_names: info.subject.iter_common_name().map(text).collect::<Result<_, _>>()?,
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            hosts: requested_hosts(signed)?,
        })
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// Whether checking the key in this request takes long (some ten milliseconds). Only an RSA key does: its modulus is
/// tested for primality.
#[must_use]
pub fn takes_long(der: &[u8]) -> bool {
    X509CertificationRequest::from_der(der).is_ok_and(|(_, request)| {
        matches!(
            request.certification_request_info.subject_pki.parsed(),
            Ok(x509_parser::public_key::PublicKey::RSA(_))
        )
    })
}

/// The DNS names and addresses among the requested alternative names in a `CertificationRequestInfo`. URIs and mail
/// addresses are skipped, because policy never grants them. An unreadable host is an error: a certificate without it
/// would look complete.
fn requested_hosts(info: &[u8]) -> Result<Vec<String>, CsrError> {
    let mut names = None;
    let Some(extensions) = requested_extensions(info)? else { return Ok(Vec::new()) };
    let unreadable = |_: DerError| CsrError::Names("the requested extensions are not a list of extensions");
    let mut rest = Reader::new(extensions);
    while !rest.is_empty() {
        let mut extension = rest.sequence().map_err(unreadable)?;
        let oid = extension.expect(der::OID).map_err(unreadable)?;
        extension.optional(der::BOOLEAN).map_err(unreadable)?;
        let value = extension.expect(der::OCTET_STRING).map_err(unreadable)?;
        extension.finish().map_err(unreadable)?;
        if oid == SUBJECT_ALT_NAME && names.replace(value).is_some() {
            return Err(CsrError::Names("there are two lists of them"));
        }
    }
    names.map_or(Ok(Vec::new()), hosts)
}

/// The contents of the only list of requested extensions.
fn requested_extensions(info: &[u8]) -> Result<Option<&[u8]>, CsrError> {
    let unreadable = |_: DerError| CsrError::Names("the request's attributes are not a list of attributes");
    let attributes = || {
        let mut fields = Reader::new(info).sequence()?;
        fields.expect(der::INTEGER)?;
        fields.expect(der::SEQUENCE)?;
        fields.expect(der::SEQUENCE)?;
        fields.optional(der::context(0))
    };
    let mut rest = Reader::new(attributes().map_err(unreadable)?.unwrap_or_default());
    let mut requested = None;
    while !rest.is_empty() {
        let mut attribute = rest.sequence().map_err(unreadable)?;
        let oid = attribute.expect(der::OID).map_err(unreadable)?;
        if oid != EXTENSION_REQUEST && oid != MICROSOFT_EXTENSION_REQUEST {
            continue;
        }
        let mut values = Reader::new(attribute.expect(der::SET).map_err(unreadable)?);
        let extensions = values.sequence_contents().map_err(unreadable)?;
        if !values.is_empty() || requested.replace(extensions).is_some() {
            return Err(CsrError::Names("extensions are requested twice"));
        }
    }
    Ok(requested)
}

/// The hosts in `GeneralNames` (RFC 5280 section 4.2.1.6).
fn hosts(names: &[u8]) -> Result<Vec<String>, CsrError> {
    /// `[2] IMPLICIT IA5String`
    const DNS_NAME: u8 = 0x82;
    /// `[7] IMPLICIT OCTET STRING`
    const IP_ADDRESS: u8 = 0x87;
    let unreadable = |_: DerError| CsrError::Names("they are not a list of names");
    let mut outer = Reader::new(names);
    let mut rest = outer.sequence().map_err(unreadable)?;
    outer.finish().map_err(unreadable)?;
    let mut hosts = Vec::new();
    while !rest.is_empty() {
        let name = rest.any().map_err(unreadable)?;
        match name.tag {
            DNS_NAME => {
                hosts.push(std::str::from_utf8(name.contents).map_err(|_| CsrError::UnreadableName)?.to_owned());
            }
            IP_ADDRESS => hosts.push(address(name.contents).ok_or(CsrError::UnreadableName)?.to_string()),
            // otherName, rfc822Name, x400Address, directoryName, ediPartyName, URI, registeredID.
            0xa0 | 0x81 | 0xa3 | 0xa4 | 0xa5 | 0x86 | 0x88 => {}
            _ => return Err(CsrError::Names("one is of no known kind")),
        }
    }
    Ok(hosts)
}

/// The names that a request proposes.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The subject's common name.
    pub common_name: CommonName,
    /// The subject's organization.
    pub organization: Option<Organization>,
    /// The hosts of a server; empty for a client.
    pub hosts: Vec<Host>,
}

/// The proposal cannot be encoded as a request.
#[derive(Debug, thiserror::Error)]
#[error("no certificate signing request could be made: {0}")]
pub struct ProposalError(#[from] rcgen::Error);

impl Proposal {
    /// Makes the request and signs it with the key that is to be certified.
    pub fn sign(&self, key: &KeyPair) -> Result<CertificateSigningRequestDer<'static>, ProposalError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&self.common_name, self.organization.as_ref());
        params.subject_alt_names = self.hosts.iter().map(host_name).collect::<Result<_, _>>()?;
        Ok(params.serialize_request(key)?.der().clone())
    }
}

pub(crate) fn distinguished_name(name: &CommonName, organization: Option<&Organization>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization.as_str());
    }
    subject.push(DnType::CommonName, name.as_str());
    subject
}

pub(crate) fn host_name(host: &Host) -> Result<SanType, rcgen::Error> {
    Ok(match host {
        Host::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Host::Ip(address) => SanType::IpAddress(*address),
    })
}
