//! The client's side of TLS: which servers it trusts, and which identity it presents.
//!
//! It never sends anything.

use std::sync::Arc;

use edge::clock::Clock;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    time::Timestamp,
};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WantsClientCert, verify_server_name},
    server::ParsedCertificate,
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    clock::TlsClock,
    identity::{Identity, IdentityError, check_root},
    provider::provider,
    server_verifier::{Judge, KnownRoots},
    validation::PathValidator,
    verified_chains::{Chain, VerifiedChains},
    verifier::{CheckServer, Verifier},
};
use crate::errors::refused;

/// A client that trusts servers below `root` and presents `identity`. It remembers verified chains, and shares them
/// with its clones. So make one, and clone it for each connection.
///
/// It does not check whether a server is revoked: [`ServerStanding::tls`](crate::standing::ServerStanding::tls) makes
/// one that does. A root that is not valid now is an error.
pub fn mutual_tls(
    identity: &Identity,
    root: &CertificateDer<'static>,
    clock: &Clock,
) -> Result<ClientConfig, IdentityError> {
    check_root(root, clock.now())?;
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    presenting(identity, KnownRoots::new(Arc::new(roots), clock.clone()), clock)
}

/// A client with the trust anchors of these chains, which checks every server with the judge.
pub(crate) fn judging(
    identity: &Identity,
    clock: &Clock,
    chains: Arc<VerifiedChains>,
    judge: Arc<dyn Judge>,
) -> Result<ClientConfig, IdentityError> {
    presenting(identity, KnownRoots::judged(chains, judge), clock)
}

/// A client for the first contact with an authority. It has only the fingerprint of the authority's root, and presents
/// no certificate.
///
/// Whether the authority is revoked has to be checked afterwards.
pub fn pinned(root: Fingerprint, clock: &Clock) -> Result<ClientConfig, Error> {
    Ok(verifying(PinnedRoot { root, judge: None }, clock)?.with_no_client_auth())
}

/// A client that fetches CRLs from the authority. It presents no certificate, and refuses an authority that is known to
/// be revoked.
pub(crate) fn to_list(root: Fingerprint, clock: &Clock, judge: Arc<dyn Judge>) -> Result<ClientConfig, Error> {
    let tls = verifying(PinnedRoot { root, judge: Some(judge) }, clock)?;
    Ok(asking_each_time(tls.with_no_client_auth()))
}

/// A certificate holder's client for its authority. It presents the certificate. It connects to the authority only, and
/// refuses it if it is known to be revoked.
pub(crate) fn to_authority(
    identity: Arc<dyn ResolvesClientCert>,
    root: Fingerprint,
    clock: &Clock,
    judge: Arc<dyn Judge>,
) -> Result<ClientConfig, Error> {
    let tls = verifying(PinnedRoot { root, judge: Some(judge) }, clock)?;
    Ok(asking_each_time(tls.with_client_cert_resolver(identity)))
}

/// Presents this identity to every server.
pub(crate) fn one(identity: &Identity) -> Result<Arc<dyn ResolvesClientCert>, IdentityError> {
    Ok(Arc::new(OneIdentity(Arc::new(identity.certified_key()?))))
}

fn presenting(
    identity: &Identity,
    check: impl CheckServer + 'static,
    clock: &Clock,
) -> Result<ClientConfig, IdentityError> {
    Ok(verifying(check, clock)?.with_client_cert_resolver(one(identity)?))
}

fn verifying(
    check: impl CheckServer + 'static,
    clock: &Clock,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(TlsClock::new(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(check))))
}

/// A resumed session would skip the check.
fn asking_each_time(mut tls: ClientConfig) -> ClientConfig {
    tls.resumption = Resumption::disabled();
    tls
}

/// The server is not the expected authority. Nothing was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTheAuthority {
    /// Its chain does not end in the expected root.
    #[error("the server does not present the root certificate with the SHA-256 fingerprint {expected}")]
    OtherRoot {
        /// The fingerprint of the expected root.
        expected: Fingerprint,
    },
    /// It is another server of the authority's fleet.
    #[error("the server's certificate is of the right root, but not the authority's own")]
    OtherServer,
}

/// Presents one certificate, whatever issuers the server accepts. The server then refuses it with a clear reason.
#[derive(Debug)]
struct OneIdentity(Arc<CertifiedKey>);

impl ResolvesClientCert for OneIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Finds the root with the expected fingerprint in the presented chain, and verifies that chain against it as usual.
/// Then it requires that the server is the authority itself, and not known to be revoked.
#[derive(Debug)]
struct PinnedRoot {
    root: Fingerprint,
    judge: Option<Arc<dyn Judge>>,
}

impl CheckServer for PinnedRoot {
    fn check(&self, chain: Chain<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let Chain { end_entity, above: intermediates, .. } = chain;
        let other_root = || refused(NotTheAuthority::OtherRoot { expected: self.root });
        let root = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.root)
            .ok_or_else(other_root)?;
        check_root(root, Timestamp::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))).map_err(refused)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let verified = PathValidator::of_servers(Arc::new(roots))
            .validate(end_entity, intermediates, now, |_| true)
            // A chain to another root is another authority, even if it contains the expected root.
            .map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    other_root()
                }
                error => error,
            })?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        // The root certifies every server of the fleet, but a token is for the authority only.
        match CertificateInfo::from_der(end_entity) {
            Ok(info) if info.is_of_authority() => {}
            _ => return Err(refused(NotTheAuthority::OtherServer)),
        }
        self.judge.as_ref().map_or(Ok(()), |judge| judge.judge(&verified))
    }
}
