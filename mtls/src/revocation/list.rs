//! The revocations of one issuer that are in force: a complete CRL and what deltas added to it.
//!
//! It never decides whether a CRL may be put in force.

use std::sync::Arc;

use edge::clock::Lead;
use pki::{
    certificate::VerifiedId,
    crl::{CrlNumber, VerifiedCrl, VerifiedList},
    time::Timestamp,
    wire::KNOWN_NUMBERS,
};

use super::serials::SerialSet;

/// The revocations of one issuer: a complete CRL and what a delta added to it (RFC 5280 section 5.2.4).
#[derive(Debug)]
pub(super) struct IssuerList {
    pub(super) number: CrlNumber,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
    /// The lead of the clock when it was put in force.
    pub(super) lead: Lead,
    pub(super) base: Arc<Base>,
    /// Revocations from deltas whose own base is not present. There usually are none.
    pub(super) earlier: Option<Arc<Earlier>>,
    /// The entries of the last delta.
    pub(super) since_base: SerialSet,
    /// How many certificates it revokes. An entry of both base and delta counts once.
    pub(super) revoked: usize,
}

/// The revocations that were in force when a delta moved on to a later base. The delta does not repeat them.
#[derive(Debug)]
pub(super) struct Earlier {
    /// The numbers of these deltas.
    pub(super) numbers: Vec<CrlNumber>,
    pub(super) revoked: SerialSet,
}

/// More deltas have moved on without their bases than one query to the authority may contain.
#[derive(Debug)]
pub(super) struct TooMany;

/// A complete CRL. Every list that a delta makes from it shares it.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) number: CrlNumber,
    pub(super) revoked: SerialSet,
    pub(super) delta_url: Option<String>,
    /// To check that the same number is the same CRL.
    pub(super) signature: Box<[u8]>,
}

impl Base {
    pub(super) fn of(crl: &VerifiedCrl<'_>) -> Arc<Self> {
        let delta_url = crl.delta_urls().first().cloned();
        let signature = crl.signature().into();
        Arc::new(Self { number: crl.number(), revoked: crl.serials().collect(), delta_url, signature })
    }
}

impl IssuerList {
    pub(super) fn new(
        list: &VerifiedList<'_>,
        base: Arc<Base>,
        earlier: Option<Arc<Earlier>>,
        since_base: SerialSet,
        lead: Lead,
    ) -> Self {
        let earlier_set = earlier.iter().map(|earlier| &earlier.revoked);
        let before_delta: Vec<_> = [&base.revoked].into_iter().chain(earlier_set.clone()).collect();
        let beside_base: usize = earlier_set.map(|set| set.count_outside(&[&base.revoked])).sum();
        let revoked = base.revoked.len() + beside_base + since_base.count_outside(&before_delta);
        Self {
            number: list.number(),
            this_update: list.this_update(),
            next_update: list.next_update(),
            lead,
            base,
            earlier,
            since_base,
            revoked,
        }
    }

    /// The last second in which it is fresh, by a clock with this lead: its nextUpdate, or earlier by as much as the
    /// clock was set back since the CRL arrived. Setting the clock back must not extend it.
    pub(super) fn good_until(&self, lead: Lead) -> Timestamp {
        self.next_update.minus(lead.set_back_since(self.lead))
    }

    pub(super) fn revokes(&self, certificate: &VerifiedId) -> bool {
        self.sets().any(|set| set.contains(&certificate.serial))
    }

    /// Its revocations without those of the last delta.
    pub(super) fn before_delta(&self) -> impl Iterator<Item = &SerialSet> {
        self.earlier.as_ref().map(|earlier| &earlier.revoked).into_iter().chain([&self.base.revoked])
    }

    /// Whether the other revokes everything that this one does. A shared base is not compared.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let others: Vec<_> = other.sets().collect();
        let shared = Arc::ptr_eq(&self.base, &other.base).then_some(&self.base.revoked);
        let mut sets = self.sets().filter(|set| shared.is_none_or(|shared| !std::ptr::eq(*set, shared)));
        sets.all(|set| set.is_within(&others))
    }

    /// What stays in force besides a delta whose later base is not present.
    pub(super) fn with_delta_before(&self, next: &SerialSet) -> Result<Option<Arc<Earlier>>, TooMany> {
        let known: Vec<_> = self.before_delta().chain([next]).collect();
        if self.since_base.is_within(&known) {
            return Ok(self.earlier.clone());
        }
        let (mut numbers, revoked) = match &self.earlier {
            Some(earlier) => (earlier.numbers.clone(), earlier.revoked.union(&self.since_base)),
            None => (Vec::new(), self.since_base.union(&SerialSet::default())),
        };
        numbers.push(self.number);
        // A query contains these numbers, the base, the number in force, and the one that was settled before a restart.
        if numbers.len() + 3 > KNOWN_NUMBERS {
            return Err(TooMany);
        }
        Ok(Some(Arc::new(Earlier { numbers, revoked })))
    }

    /// The numbers of the CRLs that it was made from, its own last.
    pub(super) fn made_of(&self) -> Vec<CrlNumber> {
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.numbers.iter().copied());
        let mut numbers: Vec<_> = [self.base.number].into_iter().chain(earlier).chain([self.number]).collect();
        numbers.dedup();
        numbers
    }

    /// Whether it may revoke certificates that the previous one did not. A different base is not compared, and counts
    /// as more.
    pub(super) fn may_revoke_more(&self, before: &Self) -> bool {
        !Arc::ptr_eq(&self.base, &before.base) || !self.since_base.is_within(&before.sets().collect::<Vec<_>>())
    }

    /// All its sets, the smallest first.
    pub(super) fn sets(&self) -> impl Iterator<Item = &SerialSet> {
        [&self.since_base].into_iter().chain(self.before_delta())
    }
}
