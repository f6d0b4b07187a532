//! The client's side of TLS: whom it trusts, and as whom it appears.
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

/// A client that trusts servers beneath `root` and presents `identity`. What it has verified of a server once is remembered by it and by its
/// clones: make one, and clone it for each connection.
///
/// It does not ask whether a server is revoked: [`ServerStanding::tls`](crate::standing::ServerStanding::tls) makes one that does. A root that is not valid now is an error.
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

/// One that trusts whom these chains trust, and asks the judge about every server.
pub(crate) fn judging(
    identity: &Identity,
    clock: &Clock,
    chains: Arc<VerifiedChains>,
    judge: Arc<dyn Judge>,
) -> Result<ClientConfig, IdentityError> {
    presenting(identity, KnownRoots::judged(chains, judge), clock)
}

/// A client for the first contact with an authority: it knows nothing of it but its root's fingerprint, and presents nobody.
///
/// Whether the authority is revoked has to be asked afterwards.
pub fn pinned(root: Fingerprint, clock: &Clock) -> Result<ClientConfig, Error> {
    Ok(verifying(PinnedRoot { root, judge: None }, clock)?.with_no_client_auth())
}

/// A client that fetches lists from the authority: it presents nobody, and refuses an authority that is known to be revoked.
pub(crate) fn to_list(root: Fingerprint, clock: &Clock, judge: Arc<dyn Judge>) -> Result<ClientConfig, Error> {
    let tls = verifying(PinnedRoot { root, judge: Some(judge) }, clock)?;
    Ok(asking_each_time(tls.with_no_client_auth()))
}

/// A relying party on the feed of its authority: it presents its own identity, and speaks to the authority itself only, unless that is
/// known to be revoked.
pub(crate) fn to_authority(
    identity: &Identity,
    root: Fingerprint,
    clock: &Clock,
    judge: Arc<dyn Judge>,
) -> Result<ClientConfig, IdentityError> {
    presenting(identity, PinnedRoot { root, judge: Some(judge) }, clock).map(asking_each_time)
}

fn presenting(
    identity: &Identity,
    check: impl CheckServer + 'static,
    clock: &Clock,
) -> Result<ClientConfig, IdentityError> {
    let resolver = OneIdentity(Arc::new(identity.certified_key()?));
    Ok(verifying(check, clock)?.with_client_cert_resolver(Arc::new(resolver)))
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

/// A resumed session would skip the question.
fn asking_each_time(mut tls: ClientConfig) -> ClientConfig {
    tls.resumption = Resumption::disabled();
    tls
}

/// The server is not the authority that was expected. Nothing was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTheAuthority {
    /// Its chain does not end in the root that was expected.
    #[error("the server does not present the root certificate with the SHA-256 fingerprint {expected}")]
    OtherRoot {
        /// The fingerprint of the root that was expected.
        expected: Fingerprint,
    },
    /// It is some server of the authority's fleet.
    #[error("the server's certificate is of the right root, but not the authority's own")]
    OtherServer,
}

/// Presents one certificate, whatever issuers the server hints at: the server says clearly why it refuses.
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

/// Takes the root with the expected fingerprint out of the presented chain, verifies that chain against it as usual, and
/// then demands that the server is the authority itself, and not known to be revoked.
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
            // A chain to another root is another authority, whatever it carries along.
            .map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    other_root()
                }
                error => error,
            })?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        // The root vouches for every server of the fleet; a token is for the authority alone.
        match CertificateInfo::from_der(end_entity) {
            Ok(info) if info.is_of_authority() => {}
            _ => return Err(refused(NotTheAuthority::OtherServer)),
        }
        self.judge.as_ref().map_or(Ok(()), |judge| judge.judge(&verified))
    }
}
