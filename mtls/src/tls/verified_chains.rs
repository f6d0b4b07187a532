//! The certification paths of the chains that peers present: found once and remembered, so that a peer that comes back costs neither
//! two signatures nor the reading of its certificates again.
//!
//! It never says that a peer may come in: whether the chain is valid at this moment is asked each time, so is the live set where
//! there is one, and the proof that the peer holds the key is never skipped.

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

/// How many chains are remembered, and at most twice as many, of about a kilobyte each.
const CHAINS: usize = 4096;
/// The longest chain that is remembered, in octets: one that is longer is verified each time.
const OCTETS: usize = 8 * 1024;

/// Verified chains, and what verifies them; what a path's validity depends on besides their octets is the time, and the trust anchor,
/// which a validator has one of.
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
    /// The name that is expected of a server.
    pub(crate) name: Option<&'a ServerName<'a>>,
}

/// Why nobody comes in with a chain.
#[derive(Debug)]
pub(crate) enum NoPath<R> {
    /// None of its paths is valid now.
    Invalid(Error),
    /// This one is, and was refused, as was every other.
    Refused { presented: Arc<VerifiedChain>, why: R },
}

/// SHA-256 over every octet of a chain and where each of its certificates ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ChainDigest([u8; 32]);

impl ChainDigest {
    /// None of a chain that is too long to be remembered.
    fn of<'a, 'b: 'a>(chain: impl Iterator<Item = &'a CertificateDer<'b>>) -> Option<Self> {
        let mut digest = Context::new(&SHA256);
        let mut octets = 0;
        for certificate in chain {
            octets += certificate.len();
            digest.update(&certificate.len().to_be_bytes());
            digest.update(certificate);
        }
        let digest = digest.finish().as_ref().try_into().expect("SHA-256 has 32 octets");
        (octets <= OCTETS).then_some(Self(digest))
    }

    /// That of the same chain under the name that a client expects of it, which is a part of what is verified.
    fn under(self, name: &ServerName<'_>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.0);
        digest.update(name.to_str().as_bytes());
        Self(digest.finish().as_ref().try_into().expect("SHA-256 has 32 octets"))
    }
}

impl VerifiedChains {
    pub(crate) fn new(validator: PathValidator, clock: Clock) -> Self {
        Self { validator, clock, known: Mutex::new(Generations::new(CHAINS)) }
    }

    /// The path of a chain, validated now or earlier, that `check` does not refuse.
    pub(crate) fn find<R>(
        &self,
        chain: Chain<'_>,
        now: UnixTime,
        check: impl Fn(&VerifiedChain) -> Result<(), R>,
    ) -> Result<Arc<VerifiedChain>, NoPath<R>> {
        let digest = ChainDigest::of(iter::once(chain.end_entity).chain(chain.above));
        let key = digest.map(|digest| chain.name.map_or(digest, |name| digest.under(name)));
        // Everything that the validation came to was said by the same bytes under the same name, but for the time.
        let known = key.and_then(|key| self.recall(&key)).filter(|known| known.validity.contains(self.clock.now()));
        let known = match known {
            Some(known) => known,
            None => self.validate(chain, digest, now, |_| true).map_err(NoPath::Invalid)?,
        };
        let Err(why) = check(&known) else { return Ok(known) };
        // What is refused may be a cross-certificate that there is no need of.
        if chain.above.len() >= known.ids.len()
            && let Ok(other) = self.validate(chain, digest, now, |presented| check(presented).is_ok())
        {
            return Ok(other);
        }
        Err(NoPath::Refused { presented: known, why })
    }

    /// The path of a session that was resumed: its first handshake was a full one, and mostly its path is remembered. Whether it is valid
    /// still, and revoked by now, is for the caller to ask.
    pub(crate) fn of_earlier(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<VerifiedChain>, Error> {
        let digest = ChainDigest::of(chain.iter());
        if let Some(presented) = digest.and_then(|digest| self.recall(&digest)) {
            return Ok(presented);
        }
        let (end_entity, above) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let now = unix_time(&self.clock)?;
        self.validate(Chain { end_entity, above, name: None }, digest, now, |_| true)
    }

    /// Nothing else fills the memory.
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
            // Without the name for the sessions that are resumed, which are known by it already.
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
        // Nothing in here can panic half-way, so a poisoned lock protects whole maps all the same.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_its_certificates_and_where_they_end() {
        let certificate = |octets: &'static [u8]| CertificateDer::from(octets);
        let digest = |chain: &[CertificateDer<'_>]| ChainDigest::of(chain.iter());
        let chain = [certificate(b"ab"), certificate(b"c")];
        assert!(digest(&chain).is_some() && digest(&chain) == digest(&chain.clone()));
        assert_ne!(digest(&chain), digest(&[certificate(b"a"), certificate(b"bc")]));
        assert_ne!(digest(&chain), digest(&chain[..1]));
        assert!(digest(&[CertificateDer::from(vec![0; OCTETS + 1])]).is_none());
    }

    #[test]
    fn a_chain_under_another_name_is_something_else() {
        let chain = [CertificateDer::from(&b"ab"[..])];
        let under = |name: &'static str| ChainDigest::of(chain.iter()).unwrap().under(&name.try_into().unwrap());
        assert_eq!(under("service.fleet"), under("service.fleet"));
        assert_ne!(under("service.fleet"), under("other.fleet"));
        assert_ne!(under("10.0.0.1"), under("10.0.0.2"));
    }
}
