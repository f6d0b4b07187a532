//! The chains whose certification path was verified here before: a client that comes back costs neither two signatures nor the
//! reading of its certificates again.
//!
//! It never says that a client may come in: whether the chain is valid at this moment is asked each time, so is the live set, and
//! the proof that the client holds the key is never skipped.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;

use crate::peer::Presented;

/// How many chains are remembered at least before the one that was asked for longest ago is forgotten; at most twice as many.
const CHAINS: usize = 4096;
/// The longest chain that is remembered, in octets: one that is longer is verified each time.
const OCTETS: usize = 8 * 1024;

/// Verified chains; what a path's validity depends on besides their octets is the time, and the trust anchor, which a verifier has
/// one of.
#[derive(Debug, Default)]
pub(crate) struct VerifiedPaths(Mutex<Generations<Arc<Presented>>>);

/// What was asked for lately, and what was before that: the older half is forgotten when the newer one is full.
#[derive(Debug)]
struct Generations<T> {
    young: HashMap<ChainDigest, T>,
    old: HashMap<ChainDigest, T>,
}

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
}

impl VerifiedPaths {
    pub(crate) fn recall(&self, chain: &ChainDigest) -> Option<Arc<Presented>> {
        self.lock().recall(chain, CHAINS)
    }

    /// To be called for chains only whose path was verified: nobody else can fill the memory.
    pub(crate) fn remember(&self, chain: ChainDigest, presented: Arc<Presented>) {
        self.lock().insert(chain, presented, CHAINS);
    }

    fn lock(&self) -> MutexGuard<'_, Generations<Arc<Presented>>> {
        // Nothing in here can panic half-way, so a poisoned lock protects whole maps all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Generations<T> {
    fn recall(&mut self, chain: &ChainDigest, bound: usize) -> Option<T> {
        if let Some(remembered) = self.young.get(chain) {
            return Some(remembered.clone());
        }
        let remembered = self.old.remove(chain)?;
        self.insert(*chain, remembered.clone(), bound);
        Some(remembered)
    }

    fn insert(&mut self, chain: ChainDigest, remembered: T, bound: usize) {
        if self.young.len() >= bound {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(chain, remembered);
    }
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
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
    fn what_is_asked_for_is_kept_and_no_more_than_twice_the_bound_altogether() {
        const BOUND: usize = 10;
        let digest = |number: u8| ChainDigest([number; 32]);
        let mut generations = Generations::default();
        for number in 0..100 {
            generations.insert(digest(number), number, BOUND);
            assert_eq!(generations.recall(&digest(0), BOUND), Some(0), "it is asked for all the time");
            assert!(generations.young.len() + generations.old.len() <= 2 * BOUND);
        }
        assert_eq!(generations.recall(&digest(1), BOUND), None);
        assert_eq!(generations.recall(&digest(99), BOUND), Some(99));
    }
}
