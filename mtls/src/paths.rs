//! The chains whose certification path was verified here before: a peer that comes back costs neither two signatures nor the
//! reading of its certificates again.
//!
//! It never says that a peer may come in: whether the chain is valid at this moment is asked each time, so is the live set where
//! there is one, and the proof that the peer holds the key is never skipped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use pki::time::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::{generations::Generations, peer::Presented};

/// How many chains are remembered, and at most twice as many, of about a kilobyte each.
const CHAINS: usize = 4096;
/// The longest chain that is remembered, in octets: one that is longer is verified each time.
const OCTETS: usize = 8 * 1024;

/// Verified chains; what a path's validity depends on besides their octets is the time, and the trust anchor, which a verifier has
/// one of.
#[derive(Debug)]
pub(crate) struct VerifiedPaths(Mutex<Generations<ChainDigest, Arc<Presented>>>);

/// SHA-256 over every octet of a chain and where each of its certificates ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChainDigest([u8; 32]);

impl ChainDigest {
    /// None of a chain that is too long to be remembered.
    pub(crate) fn of<'a, 'b: 'a>(chain: impl Iterator<Item = &'a CertificateDer<'b>>) -> Option<Self> {
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
    pub(crate) fn under(self, name: &ServerName<'_>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.0);
        digest.update(name.to_str().as_bytes());
        Self(digest.finish().as_ref().try_into().expect("SHA-256 has 32 octets"))
    }
}

impl VerifiedPaths {
    pub(crate) fn recall(&self, chain: &ChainDigest) -> Option<Arc<Presented>> {
        self.lock().recall(chain)
    }

    /// The same, if all of its certificates are valid now.
    pub(crate) fn recall_valid(&self, chain: &ChainDigest, now: Timestamp) -> Option<Arc<Presented>> {
        self.recall(chain).filter(|presented| presented.validity.contains(now))
    }

    /// To be called for chains only whose path was verified: nobody else can fill the memory.
    pub(crate) fn remember(&self, chain: ChainDigest, presented: Arc<Presented>) {
        self.lock().insert(chain, presented);
    }

    fn lock(&self) -> MutexGuard<'_, Generations<ChainDigest, Arc<Presented>>> {
        // Nothing in here can panic half-way, so a poisoned lock protects whole maps all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for VerifiedPaths {
    fn default() -> Self {
        Self(Mutex::new(Generations::new(CHAINS)))
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
