//! Certificate signing requests (PKCS #10, RFC 2986): made by whoever enrolls, read by the authority.
//!
//! Out of a stranger's request only the public key, the proof of its possession and the proposed names are
//! taken. Requested usages, constraints and validity are not even read: the profile decides those.

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};

use crate::{
    certificate::name_text,
    key::{KeyPair, PublicKey, PublicKeyError},
    name::{CommonName, Host, Organization},
    signature::{self, SignatureError},
};

/// A request whose sender has shown that it holds the private key.
///
/// The names are proposals, not yet checked against any rule.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    pub(crate) public_key: PublicKey,
    pub(crate) common_names: Vec<String>,
    pub(crate) organizations: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

/// Why a request cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS #10 DER.
    #[error("the certificate signing request is not a PKCS #10 request in DER")]
    NotARequest,
    /// A name in it is not text.
    #[error("the certificate signing request carries a name that is not text")]
    UnreadableName,
    /// The key is of a kind or size that is not certified.
    #[error("the certificate signing request cannot be accepted: {0}")]
    Key(#[from] PublicKeyError),
    /// The request is not signed by the key that it carries (RFC 2986 section 4.2).
    #[error("the certificate signing request does not prove possession of its key: {0}")]
    NotProven(#[from] SignatureError),
}

impl CertificateRequest {
    /// Reads a request and checks the proof of possession.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::NotARequest)?;
        if !rest.is_empty() {
            return Err(CsrError::NotARequest);
        }
        let info = &request.certification_request_info;
        // The key's size first: its message is clearer than that of the signature check.
        let public_key = PublicKey::from_spki(info.subject_pki.raw)?;
        signature::verify(der, info.subject_pki.raw)?;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).map_err(|_| CsrError::UnreadableName)
        };
        Ok(Self {
            public_key,
            common_names: info.subject.iter_common_name().map(text).collect::<Result<_, _>>()?,
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            hosts: requested_hosts(&request)?,
        })
    }

    /// The key to be certified.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// The DNS names and addresses among the requested alternative names; URIs and mail addresses are not ours to grant.
fn requested_hosts(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, CsrError> {
    use x509_parser::prelude::GeneralName;
    let mut hosts = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            for name in &names.general_names {
                if matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)) {
                    hosts.push(name_text(name).ok_or(CsrError::UnreadableName)?);
                }
            }
        }
    }
    Ok(hosts)
}

/// What a request proposes.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The subject's common name.
    pub common_name: CommonName,
    /// The subject's organization.
    pub organization: Option<Organization>,
    /// The hosts a server is reached by; empty for a client.
    pub hosts: Vec<Host>,
}

/// A proposal could not be put into a request.
#[derive(Debug, thiserror::Error)]
#[error("no certificate signing request could be made: {0}")]
pub struct ProposalError(#[from] rcgen::Error);

impl Proposal {
    /// The request, signed with the key that is to be certified.
    pub fn sign(&self, key: &KeyPair) -> Result<CertificateSigningRequestDer<'static>, ProposalError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&self.common_name, self.organization.as_ref());
        params.subject_alt_names = self.hosts.iter().map(host_name).collect::<Result<_, _>>()?;
        Ok(params.serialize_request(key.inner())?.der().clone())
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
