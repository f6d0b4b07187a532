//! Signs the authorities' own certificates, end-entity certificates and CRLs (RFC 5280 sections 4 and 5).
//!
//! It never signs an order that policy has not approved, and never chooses serial numbers, CRL numbers or times: they
//! are arguments.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType, IsCa,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::CertificateDer;

use crate::{
    certificate::{CertificateError, CertificateInfo},
    crl::{CrlDraft, CrlError, DeltaDraft, EncodedEntries, RevokedEntries, SignedCrl, sign},
    csr::distinguished_name,
    name::{AuthorityName, Organization},
    policy::Approved,
    profile::Profile,
    serial::Serial,
    time::{Timestamp, Validity},
};

pub use crate::publication::Publication;

/// Lifetime of a root: ten years.
const ROOT_LIFETIME: Duration = Duration::from_hours(87600);
/// Lifetime of an issuing CA: five years.
const ISSUING_LIFETIME: Duration = Duration::from_hours(43800);

/// The names of an authority.
#[derive(Clone, Debug)]
pub struct AuthoritySubject {
    /// The organization in both subjects.
    pub organization: Organization,
    /// The first part of both common names.
    pub name: AuthorityName,
}

/// An authority's signing key. It may be in a file, in another program or in a device.
struct AuthorityKey(Box<dyn SigningKey + Send + Sync>);

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A certificate authority: its certificate and its signing key.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    info: CertificateInfo,
    issuer: rcgen::Issuer<'static, AuthorityKey>,
    publication: Publication,
}

/// An end-entity certificate that has just been signed.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its fields.
    pub info: CertificateInfo,
    /// Its profile.
    pub profile: Profile,
}

/// Why signing failed, or why an authority could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IssuingError {
    /// The authority's own certificate has expired or is not yet valid.
    #[error(
        "the authority's certificate is valid from {} to {}, and it is {now}",
        validity.not_before, validity.not_after
    )]
    NotValid {
        /// When the authority's certificate is valid.
        validity: Validity,
        /// The current time.
        now: Timestamp,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {0}")]
    KeyMismatch(String),
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The library returned an error.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
    /// The CRL cannot be signed.
    #[error(transparent)]
    Crl(#[from] CrlError),
}

impl CertificateAuthority {
    /// Makes a self-signed root. Its CRL covers the issuing CAs below it.
    pub fn new_root(
        subject: &AuthoritySubject,
        key: impl SigningKey + Send + Sync + 'static,
        serial: Serial,
        now: Timestamp,
        publication: Publication,
    ) -> Result<Self, IssuingError> {
        let params = authority_params(
            subject,
            "Root CA",
            BasicConstraints::Unconstrained,
            serial,
            Validity::starting(now, ROOT_LIFETIME),
        );
        let certificate = params.self_signed(&key)?.der().clone();
        Self::load(certificate, key, publication)
    }

    /// Makes an issuing CA below this one. It can sign end-entity certificates only (path length 0).
    pub fn new_issuing(
        &self,
        subject: &AuthoritySubject,
        key: impl SigningKey + Send + Sync + 'static,
        serial: Serial,
        now: Timestamp,
        publication: Publication,
    ) -> Result<Self, IssuingError> {
        self.check_valid(now)?;
        let validity = Validity::starting(now, ISSUING_LIFETIME).within(self.info.validity);
        let mut params = authority_params(subject, "Issuing CA", BasicConstraints::Constrained(0), serial, validity);
        self.add_issuer_extensions(&mut params, [self.publication.crl_url.clone()]);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Self::load(certificate, key, publication)
    }

    /// Loads an existing authority. Fails if the key does not belong to the certificate.
    pub fn load(
        certificate: CertificateDer<'static>,
        key: impl SigningKey + Send + Sync + 'static,
        publication: Publication,
    ) -> Result<Self, IssuingError> {
        let info = CertificateInfo::from_der(&certificate)?;
        if !info.is_for_key(&key) {
            return Err(IssuingError::KeyMismatch(info.display_name()));
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, AuthorityKey(Box::new(key)))?;
        Ok(Self { certificate, info, issuer, publication })
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The fields of the authority's own certificate.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// Signs an end-entity certificate. Names and key come from the order, everything else from the profile.
    pub fn issue(&self, order: &Approved, serial: Serial, now: Timestamp) -> Result<IssuedCertificate, IssuingError> {
        self.check_valid(now)?;
        let validity = Validity::starting(now, order.lifetime).within(self.info.validity);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(serial.magnitude()));
        params.not_before = validity.not_before.to_offset();
        params.not_after = validity.not_after.to_offset();
        params.distinguished_name = distinguished_name(&order.subject, order.organization.as_ref());
        params.subject_alt_names.clone_from(&order.names);
        // rcgen writes the subject key identifier only when it also writes basic constraints.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = Profile::key_usages();
        params.extended_key_usages = vec![order.profile.extended_key_usage()];
        let servers_crl = self.publication.servers_crl_url.clone().filter(|_| order.profile == Profile::Server);
        self.add_issuer_extensions(&mut params, servers_crl.into_iter().chain([self.publication.crl_url.clone()]));
        let der = params.signed_by(order.public_key.parsed(), &self.issuer)?.der().clone();
        let info = CertificateInfo::from_der(&der)?;
        Ok(IssuedCertificate { der, info, profile: order.profile })
    }

    /// Signs a complete CRL (RFC 5280 section 5) and returns its DER.
    pub fn sign_crl(&self, draft: &CrlDraft<impl RevokedEntries>) -> Result<Vec<u8>, IssuingError> {
        let CrlDraft { number, this_update, next_update, ref revoked } = *draft;
        let revoked = revoked.entries().collect();
        Ok(self.sign_encoded_crl(CrlDraft { number, this_update, next_update, revoked })?.der)
    }

    /// Like [`Self::sign_crl`], but with encoded entries. Their buffer becomes the CRL.
    pub fn sign_encoded_crl(&self, draft: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError> {
        self.check_valid(draft.this_update)?;
        Ok(sign::complete(&self.crl_signer()?, draft, self.publication.delta_crl_url.as_deref())?)
    }

    /// Signs the complete CRL that covers servers only, and returns its DER. The caller has to select the entries of
    /// servers.
    pub fn sign_servers_crl(&self, draft: &CrlDraft<impl RevokedEntries>) -> Result<Vec<u8>, IssuingError> {
        let CrlDraft { number, this_update, next_update, ref revoked } = *draft;
        self.check_valid(this_update)?;
        let point = self.publication.servers_crl_url.as_deref().ok_or(CrlError::NoServersList)?;
        let draft = CrlDraft { number, this_update, next_update, revoked: revoked.entries().collect() };
        Ok(sign::of_point(&self.crl_signer()?, draft, point)?.der)
    }

    /// Signs a delta CRL (RFC 5280 section 5.2.4) and returns its DER.
    pub fn sign_delta(&self, draft: &DeltaDraft<impl RevokedEntries>) -> Result<Vec<u8>, IssuingError> {
        self.check_valid(draft.this_update)?;
        let DeltaDraft { number, base, this_update, next_update, ref revoked } = *draft;
        let revoked = revoked.entries().collect();
        let draft = DeltaDraft { number, base, this_update, next_update, revoked };
        Ok(sign::delta(&self.crl_signer()?, draft)?.der)
    }

    fn crl_signer(&self) -> Result<sign::Signer<'_>, IssuingError> {
        if !self.info.may_sign.crls {
            return Err(rcgen::Error::IssuerNotCrlSigner.into());
        }
        // RFC 5280 section 4.2.1.2 does not prescribe how the identifier is derived, so it is copied from the
        // certificate. A foreign CA may have none; then any identifier that depends on the key will do.
        let key_id = self.info.key_id.as_deref().unwrap_or(&self.info.spki_sha256[..20]);
        Ok(sign::Signer { name: &self.info.subject, key_id, key: &*self.issuer.key().0 })
    }

    fn check_valid(&self, now: Timestamp) -> Result<(), IssuingError> {
        let validity = self.info.validity;
        if validity.contains(now) { Ok(()) } else { Err(IssuingError::NotValid { validity, now }) }
    }

    fn add_issuer_extensions(&self, params: &mut CertificateParams, crl_urls: impl IntoIterator<Item = String>) {
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            crl_urls.into_iter().map(|url| CrlDistributionPoint { uris: vec![url] }).collect();
        params.custom_extensions.push(authority_information_access(&self.publication.certificate_url));
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.info.subject)
    }
}

fn authority_params(
    subject: &AuthoritySubject,
    role: &str,
    constraints: BasicConstraints,
    serial: Serial,
    validity: Validity,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, subject.organization.as_str());
    name.push(DnType::CommonName, format!("{} {role}", subject.name));
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial.magnitude()));
    params.not_before = validity.not_before.to_offset();
    params.not_after = validity.not_after.to_offset();
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// `AuthorityInfoAccessSyntax` with one `caIssuers` URI (RFC 5280 section 4.2.2.1).
fn authority_information_access(uri: &str) -> CustomExtension {
    /// id-pe-authorityInfoAccess
    const EXTENSION: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
    /// id-ad-caIssuers 1.3.6.1.5.5.7.48.2, as a DER OBJECT IDENTIFIER
    const CA_ISSUERS: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
    const URI: u8 = 0x86;
    let location = crate::der::encode(URI, uri.as_bytes());
    let description = crate::der::encode(crate::der::SEQUENCE, &[CA_ISSUERS, &location].concat());
    CustomExtension::from_oid_content(EXTENSION, crate::der::encode(crate::der::SEQUENCE, &description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crl::CrlNumber,
        key::{KeyPair, PublicKey},
        policy::{OperatorOrder, Policy},
    };

    const YEAR: Duration = Duration::from_hours(8760);

    fn now() -> Timestamp {
        Timestamp::from_unix(1_795_510_800)
    }

    fn subject() -> AuthoritySubject {
        AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() }
    }

    fn publication() -> Publication {
        Publication {
            crl_url: "http://ca.example/a.crl".into(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: "http://ca.example/a.crt".into(),
        }
    }

    fn root() -> CertificateAuthority {
        let key = KeyPair::generate().unwrap();
        CertificateAuthority::new_root(&subject(), key, Serial::from_random([1; 16]), now(), publication()).unwrap()
    }

    fn issuing(root: &CertificateAuthority, now: Timestamp) -> Result<CertificateAuthority, IssuingError> {
        let key = KeyPair::generate().unwrap();
        root.new_issuing(&subject(), key, Serial::from_random([2; 16]), now, publication())
    }

    fn order(lifetime: Duration) -> Approved {
        let policy = Policy { trust_domain: "fleet.example".parse().unwrap() };
        let order = OperatorOrder {
            profile: Profile::Client,
            subject: "client_1".parse().unwrap(),
            organization: None,
            hosts: Vec::new(),
            public_key: PublicKey::from_spki(&KeyPair::generate().unwrap().spki()).unwrap(),
            lifetime,
        };
        policy.by_operator(order).unwrap()
    }

    #[test]
    fn no_certificate_outlives_its_issuer() {
        let root = root();
        let late = now().plus(YEAR * 9);
        let issuing = issuing(&root, late).unwrap();
        assert_eq!(issuing.info().validity.not_after, root.info().validity.not_after);
        let leaf = issuing.issue(&order(YEAR * 20), Serial::from_random([3; 16]), late).unwrap();
        assert_eq!(leaf.info.validity.not_after, issuing.info().validity.not_after);
    }

    #[test]
    fn validity_starts_a_minute_ago_and_has_the_approved_length() {
        let issuing = issuing(&root(), now()).unwrap();
        let later = now().plus(YEAR);
        let leaf = issuing.issue(&order(Profile::LIFETIME), Serial::from_random([3; 16]), later).unwrap();
        assert_eq!(leaf.info.validity.not_before, later.minus(Duration::from_mins(1)));
        assert_eq!(leaf.info.validity.not_after, later.plus(Profile::LIFETIME));
    }

    #[test]
    fn an_authority_outside_of_its_validity_signs_nothing() {
        let root = root();
        let authority = issuing(&root, now()).unwrap();
        for wrong in [now().minus(Duration::from_mins(2)), now().plus(YEAR * 11)] {
            let draft = CrlDraft {
                number: CrlNumber::FIRST,
                this_update: wrong,
                next_update: wrong.plus(YEAR),
                revoked: Vec::new(),
            };
            let not_valid = |result: Result<(), IssuingError>| matches!(result, Err(IssuingError::NotValid { now, .. }) if now == wrong);
            assert!(not_valid(issuing(&root, wrong).map(drop)));
            assert!(not_valid(authority.issue(&order(YEAR), Serial::from_random([3; 16]), wrong).map(drop)));
            assert!(not_valid(authority.sign_crl(&draft).map(drop)));
            let delta = DeltaDraft {
                number: CrlNumber::FIRST,
                base: CrlNumber::FIRST,
                this_update: wrong,
                next_update: wrong.plus(YEAR),
                revoked: draft.revoked,
            };
            assert!(not_valid(authority.sign_delta(&delta).map(drop)));
        }
    }

    #[test]
    fn a_crl_is_not_stale_from_the_start() {
        let draft = CrlDraft { number: CrlNumber::FIRST, this_update: now(), next_update: now(), revoked: Vec::new() };
        assert!(matches!(root().sign_crl(&draft), Err(IssuingError::Crl(CrlError::Period { .. }))));
        let delta = DeltaDraft {
            number: CrlNumber::FIRST,
            base: CrlNumber::FIRST,
            this_update: now(),
            next_update: now(),
            revoked: Vec::new(),
        };
        assert!(matches!(root().sign_delta(&delta), Err(IssuingError::Crl(CrlError::Period { .. }))));
    }

    #[test]
    fn a_delta_needs_an_earlier_or_equal_base() {
        let delta = |base| DeltaDraft {
            number: CrlNumber::FIRST,
            base,
            this_update: now(),
            next_update: now().plus(YEAR),
            revoked: Vec::new(),
        };
        let root = root();
        assert!(root.sign_delta(&delta(CrlNumber::FIRST)).is_ok());
        let later = root.sign_delta(&delta(CrlNumber::FIRST.next()));
        assert_eq!(later.unwrap_err().to_string(), "delta CRL number 1 cannot be based on the later number 2");
    }

    #[test]
    fn another_certificates_key_is_refused_and_named() {
        let result =
            CertificateAuthority::load(root().certificate().clone(), KeyPair::generate().unwrap(), publication());
        assert_eq!(
            result.unwrap_err().to_string(),
            "the private key does not belong to the certificate of Fleet Root CA"
        );
        let result = CertificateAuthority::load(b"junk".to_vec().into(), KeyPair::generate().unwrap(), publication());
        assert!(matches!(result, Err(IssuingError::Certificate(CertificateError::NotACertificate))));
    }

    #[test]
    fn the_serial_is_the_one_given_also_for_the_same_key() {
        let (issuing, order) = (issuing(&root(), now()).unwrap(), order(YEAR));
        for bytes in [[0xff; 16], [0; 16]] {
            let serial = Serial::from_random(bytes);
            assert_eq!(issuing.issue(&order, serial, now()).unwrap().info.id.serial, serial);
        }
    }
}
