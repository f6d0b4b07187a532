//! The verifier of client certificates: path validation, once for each chain, and then the live set.
//!
//! It never decides about revocation itself. It sees full handshakes only: a resumed session skips every verifier, so
//! the acceptor checks the live set again after each handshake.

use std::sync::Arc;

use edge::clock::Clock;
use pki::{
    certificate::{CertificateInfo, Unusable, unusable},
    excerpt::{self, Excerpt},
};
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    errors::is_refusal,
    revocation::{LiveSet, Refusal},
    tls::{
        aside::aside,
        seen::note,
        validation::{PathValidator, told},
        verified_chain::VerifiedChain,
        verified_chains::{Chain, NoPath, VerifiedChains},
        verifier::CheckClient,
    },
};

/// Accepts clients whose certificate chains to a trusted root, is for clients, is valid now, and is not revoked.
#[derive(Debug)]
pub(crate) struct LiveClientVerifier {
    hints: Vec<DistinguishedName>,
    paths: VerifiedChains,
    live: LiveSet,
    clock: Clock,
    /// Constraints of the root certificates that refuse clients, in words.
    constraints: Vec<String>,
}

impl LiveClientVerifier {
    pub(crate) fn new(roots: RootCertStore, live: LiveSet, clock: Clock) -> Self {
        Self {
            hints: roots.subjects(),
            paths: VerifiedChains::new(PathValidator::of_clients(Arc::new(roots)), clock.clone()),
            live,
            clock,
            constraints: Vec::new(),
        }
    }

    /// Adds the constraints of this root's certificate to the reasons for a refusal.
    pub(crate) fn naming_constraints(mut self, root: &CertificateDer<'_>) -> Self {
        self.constraints.extend(constraints(root, true));
        self
    }

    /// The constraints that may have refused this chain. Path validation does not report them.
    fn constraints(&self, chain: Chain<'_>, error: &Error) -> Option<String> {
        let above = || aside(|| chain.above.iter().flat_map(|above| constraints(above, false)).collect::<Vec<_>>());
        let found = match error {
            error if is_refusal::<webpki::Error>(error) => [&*self.constraints, &above()].concat(),
            // A CA with an extended key usage.
            Error::InvalidCertificate(CertificateError::InvalidPurpose) => above(),
            _ => return None,
        };
        (!found.is_empty()).then(|| Excerpt(found.join("; "), excerpt::TEXT).to_string())
    }

    /// The path of a resumed session, as in [`VerifiedChains::of_earlier`].
    pub(crate) fn path_of_earlier(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<VerifiedChain>, Error> {
        self.paths.of_earlier(chain)
    }

    fn path(&self, chain: Chain<'_>, now: UnixTime) -> Result<Arc<VerifiedChain>, Error> {
        match self.paths.find(chain, now, |presented| self.live.check(&presented.ids, self.clock.now())) {
            Ok(presented) => {
                note(|seen| seen.client = Some(Arc::clone(&presented.info)));
                Ok(presented)
            }
            Err(NoPath::Invalid(error)) => {
                let constraints = self.constraints(chain, &error);
                let error = told(error, chain.end_entity);
                note(|seen| {
                    if let (Some(why), Some(constraints)) = (&mut seen.why, constraints) {
                        *why = format!("{why}; {constraints}");
                    }
                });
                Err(error)
            }
            Err(NoPath::Refused { presented, why }) => {
                let error = why.as_certificate_error();
                note(|seen| (seen.client, seen.refusal) = (Some(Arc::clone(&presented.info)), Some(why)));
                Err(error.into())
            }
        }
    }
}

/// The constraints of an authority's certificate that refuse the clients below it, in words.
pub(crate) fn constraints(authority: &CertificateDer<'_>, is_root: bool) -> Vec<String> {
    let name = CertificateInfo::from_der(authority).map(|info| info.shown_name()).unwrap_or_default();
    let said = |constraint: Unusable| format!("the certificate of {name:?} has {constraint} below it is let in");
    unusable(authority, is_root).into_iter().map(said).collect()
}

impl Refusal {
    fn as_certificate_error(&self) -> CertificateError {
        match self {
            Self::Revoked(_) => CertificateError::Revoked,
            // The client's certificate is valid and its CA is known: `access_denied` (RFC 8446 section 6.2).
            Self::Barred(_) | Self::NoCrl(_) | Self::Withheld { .. } | Self::StaleCrl { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
        }
    }
}

impl CheckClient for LiveClientVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let presented = self.path(Chain { end_entity, above: intermediates, name: None }, now)?;
        note(|seen| seen.presented = Some(presented));
        Ok(())
    }

    fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }
}

#[cfg(test)]
mod tests {
    use pki::{
        certificate::{IssuerId, VerifiedId},
        crl::{CrlDraft, CrlIssuer, CrlNumber},
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::{KeyPair, PublicKey},
        policy::{OperatorOrder, Policy},
        profile::Profile,
        serial::Serial,
        time::Timestamp,
    };
    use std::{cell::RefCell, time::Duration};

    use super::*;
    use crate::tls::seen::SEEN;

    /// Another client's certificate is public. Presenting it beside one's own must not attribute the connection to it.
    #[tokio::test]
    async fn a_connection_is_tallied_under_the_certificates_of_its_path_only() {
        let now = Timestamp::from_unix(1_795_510_800);
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let publication = Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([1; 16]));
        let root = CertificateAuthority::new_root(&subject, key, serial, now, publication).unwrap();
        let policy = Policy { trust_domain: "fleet.example".parse().unwrap() };
        let issue = |name: &str, serial| {
            let key = KeyPair::generate().unwrap();
            let order = OperatorOrder {
                profile: Profile::Client,
                subject: name.parse().unwrap(),
                organization: None,
                hosts: Vec::new(),
                public_key: PublicKey::from_spki(&key.spki()).unwrap(),
                lifetime: Duration::from_hours(1),
            };
            let order = policy.by_operator(order).unwrap();
            root.issue(&order, Serial::from_random([serial; 16]), now).unwrap().der
        };
        let (alice, bob) = (issue("alice", 2), issue("bob", 3));
        let live = LiveSet::new(vec![CrlIssuer::from_certificate(root.info()).unwrap()]);
        let next_update = now.plus(Duration::from_hours(1));
        let draft = CrlDraft { number: CrlNumber::FIRST, this_update: now, next_update, revoked: Vec::new() };
        live.install(&root.sign_crl(&draft).unwrap(), now).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.certificate().clone()).unwrap();
        let verifier = LiveClientVerifier::new(roots.clone(), live.clone(), Clock::manual(now));

        let seconds = u64::try_from(now.unix()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        // The first time validates the path. The second time it is remembered, as for a session.
        for _ in 0..2 {
            let seen = SEEN.scope(RefCell::default(), async {
                verifier.check(&alice, std::slice::from_ref(&bob), at).unwrap();
                SEEN.with(RefCell::take).presented.unwrap()
            });
            let seen = seen.await;
            let _registration = live.watch(Arc::clone(&seen.ids), seen.validity.not_after);
            let of_alice = VerifiedId { issuer: IssuerId::of(root.info()), serial: Serial::from_random([2; 16]) };
            assert_eq!(live.tally(), ([(of_alice, 1)].into(), 1));
        }
        // If the path is not remembered, it is validated again.
        let forgetful = LiveClientVerifier::new(roots, live.clone(), Clock::manual(now));
        for verifier in [&verifier, &forgetful] {
            let earlier = verifier.path_of_earlier(&[alice.clone(), bob.clone()]).unwrap();
            assert_eq!(earlier.ids.len(), 1);
        }
        let distrusting = LiveClientVerifier::new(RootCertStore::empty(), live, Clock::manual(now));
        assert!(distrusting.path_of_earlier(&[alice, bob]).is_err());
    }
}
