//! The certification paths of presented chains, found once and remembered. A returning peer costs neither two
//! signatures nor parsing its certificates again.
//!
//! It never decides that a peer may be admitted. The validity at this moment is checked each time, and so is the live
//! set, if there is one. The proof that the peer has the key is never skipped.

use std::{
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use edge::clock::Clock;
use rustls::{Error, client::verify_server_name, server::ParsedCertificate};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::{
    clock::unix_time, generations::Generations, validation::PathValidator, verified_chain::VerifiedChain,
};

/// How many chains are remembered. It may be up to twice as many, with about a kilobyte each.
const CHAINS: usize = 4096;
/// The longest chain that is remembered, in bytes. A longer one is verified each time.
const MOST_BYTES: usize = 8 * 1024;

/// Verified chains, and what verifies them. A path's validity depends only on the bytes of the chain, the time and the
/// trust anchors. A validator's anchors never change.
#[derive(Debug)]
pub(crate) struct VerifiedChains {
    validator: PathValidator,
    clock: Clock,
    known: Mutex<Generations<ChainDigest, Arc<VerifiedChain>>>,
}

/// A chain as a peer presents it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) end_entity: &'a CertificateDer<'a>,
    pub(crate) above: &'a [CertificateDer<'a>],
    /// The expected name of a server.
    pub(crate) name: Option<&'a ServerName<'a>>,
}

/// Why a chain is refused.
#[derive(Debug)]
pub(crate) enum NoPath<R> {
    /// None of its paths is valid now.
    Invalid(Error),
    /// This path is valid, but it was refused, as were all others.
    Refused { presented: Arc<VerifiedChain>, why: R },
}

/// SHA-256 over every byte of a chain and the ends of its certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ChainDigest([u8; 32]);

impl ChainDigest {
    /// `None` if the chain is too long to be remembered.
    fn of<'a, 'b: 'a>(chain: impl Iterator<Item = &'a CertificateDer<'b>>) -> Option<Self> {
        let mut digest = Context::new(&SHA256);
        let mut bytes = 0;
        for certificate in chain {
            bytes += certificate.len();
            digest.update(&certificate.len().to_be_bytes());
            digest.update(certificate);
        }
        let digest = digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
        (bytes <= MOST_BYTES).then_some(Self(digest))
    }

    /// The digest of the same chain with the server name that a client expects, because the name is verified as well.
    fn under(self, name: &ServerName<'_>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.0);
        digest.update(name.to_str().as_bytes());
        Self(digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl VerifiedChains {
    pub(crate) fn new(validator: PathValidator, clock: Clock) -> Self {
        Self { validator, clock, known: Mutex::new(Generations::new(CHAINS)) }
    }

    /// A path of the chain that `check` accepts, validated now or earlier.
    pub(crate) fn find<R>(
        &self,
        chain: Chain<'_>,
        now: UnixTime,
        check: impl Fn(&VerifiedChain) -> Result<(), R>,
    ) -> Result<Arc<VerifiedChain>, NoPath<R>> {
        let digest = ChainDigest::of(iter::once(chain.end_entity).chain(chain.above));
        let key = digest.map(|digest| chain.name.map_or(digest, |name| digest.under(name)));
        // The result of the validation depends only on these bytes, this name and the time.
        let known = key.and_then(|key| self.recall(&key)).filter(|known| known.validity.contains(self.clock.now()));
        let known = match known {
            Some(known) => known,
            None => self.validate(chain, digest, now, |_| true).map_err(NoPath::Invalid)?,
        };
        let Err(why) = check(&known) else { return Ok(known) };
        // The refused path may contain a cross-certificate, and another path may do without it.
        if chain.above.len() >= known.ids.len()
            && let Ok(other) = self.validate(chain, digest, now, |presented| check(presented).is_ok())
        {
            return Ok(other);
        }
        Err(NoPath::Refused { presented: known, why })
    }

    /// The path of a resumed session. Its first handshake was a full one, so its path is usually remembered. The caller
    /// must check whether it is still valid and not revoked.
    pub(crate) fn of_earlier(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<VerifiedChain>, Error> {
        let digest = ChainDigest::of(chain.iter());
        if let Some(presented) = digest.and_then(|digest| self.recall(&digest)) {
            return Ok(presented);
        }
        let (end_entity, above) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let now = unix_time(&self.clock)?;
        self.validate(Chain { end_entity, above, name: None }, digest, now, |_| true)
    }

    /// Validates a chain, and remembers only valid ones.
    fn validate(
        &self,
        Chain { end_entity, above, name }: Chain<'_>,
        digest: Option<ChainDigest>,
        now: UnixTime,
        is_good: impl Fn(&VerifiedChain) -> bool,
    ) -> Result<Arc<VerifiedChain>, Error> {
        let presented = Arc::new(self.validator.validate(end_entity, above, now, is_good)?);
        if let Some(name) = name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        }
        if let Some(digest) = digest {
            let mut known = self.lock();
            // Also without the name, for resumed sessions: their name was verified already.
            for key in iter::once(digest).chain(name.map(|name| digest.under(name))) {
                known.insert(key, Arc::clone(&presented));
            }
        }
        Ok(presented)
    }

    fn recall(&self, chain: &ChainDigest) -> Option<Arc<VerifiedChain>> {
        self.lock().recall(chain)
    }

    fn lock(&self) -> MutexGuard<'_, Generations<ChainDigest, Arc<VerifiedChain>>> {
        // No code panics while it holds the lock, so a poisoned lock still protects consistent maps.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_covers_the_certificates_and_where_they_end() {
        let certificate = |bytes: &'static [u8]| CertificateDer::from(bytes);
        let digest = |chain: &[CertificateDer<'_>]| ChainDigest::of(chain.iter());
        let chain = [certificate(b"ab"), certificate(b"c")];
        assert!(digest(&chain).is_some() && digest(&chain) == digest(&chain.clone()));
        assert_ne!(digest(&chain), digest(&[certificate(b"a"), certificate(b"bc")]));
        assert_ne!(digest(&chain), digest(&chain[..1]));
        assert!(digest(&[CertificateDer::from(vec![0; MOST_BYTES + 1])]).is_none());
    }

    #[test]
    fn a_chain_with_another_name_has_another_digest() {
        let chain = [CertificateDer::from(&b"ab"[..])];
        let under = |name: &'static str| ChainDigest::of(chain.iter()).unwrap().under(&name.try_into().unwrap());
        assert_eq!(under("service.fleet"), under("service.fleet"));
        assert_ne!(under("service.fleet"), under("other.fleet"));
        assert_ne!(under("10.0.0.1"), under("10.0.0.2"));
    }
}
