//! What one issuer has revoked, as the lists say that are in force: a complete CRL, and what deltas added to it.
//!
//! It never decides whether a list may be put in force.

use std::sync::Arc;

use edge::clock::Lead;
use pki::{
    certificate::VerifiedId,
    crl::{CrlNumber, VerifiedCrl, VerifiedList},
    time::Timestamp,
    wire::KNOWN_NUMBERS,
};

use super::serials::SerialSet;

/// What one issuer has revoked: a complete CRL, and what a delta added to it (RFC 5280 section 5.2.4).
#[derive(Debug)]
pub(super) struct IssuerList {
    pub(super) number: CrlNumber,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
    /// That of the clock by which it was put in force.
    pub(super) lead: Lead,
    pub(super) base: Arc<Base>,
    /// What deltas brought whose own base is not here; mostly there is none.
    pub(super) earlier: Option<Arc<Earlier>>,
    /// What the last delta says.
    pub(super) since_base: SerialSet,
    /// How many it revokes: what is in the base and in the delta counts once.
    pub(super) revoked: usize,
}

/// What was in force when a delta moved on to a later base: the delta does not repeat it.
#[derive(Debug)]
pub(super) struct Earlier {
    /// Of the deltas.
    pub(super) numbers: Vec<CrlNumber>,
    pub(super) revoked: SerialSet,
}

/// More deltas have moved on without their bases than the authority can be asked about.
#[derive(Debug)]
pub(super) struct TooMany;

/// A complete CRL; shared by every list that a delta makes of it.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) number: CrlNumber,
    pub(super) revoked: SerialSet,
    pub(super) delta_url: Option<String>,
    /// The same number must be the same list.
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

    /// The last second in which it is fresh, by a clock with this lead: its nextUpdate, or as much earlier as the clock was set back since
    /// the list came. It is not good for longer because of that.
    pub(super) fn good_until(&self, lead: Lead) -> Timestamp {
        self.next_update.minus(lead.set_back_since(self.lead))
    }

    pub(super) fn revokes(&self, certificate: &VerifiedId) -> bool {
        self.sets().any(|set| set.contains(&certificate.serial))
    }

    /// What it revokes, but for what its last delta says.
    pub(super) fn before_delta(&self) -> impl Iterator<Item = &SerialSet> {
        self.earlier.as_ref().map(|earlier| &earlier.revoked).into_iter().chain([&self.base.revoked])
    }

    /// Whether the other revokes everything that this one does. A base that they share is not looked through.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let others: Vec<_> = other.sets().collect();
        let shared = Arc::ptr_eq(&self.base, &other.base).then_some(&self.base.revoked);
        let mut sets = self.sets().filter(|set| shared.is_none_or(|shared| !std::ptr::eq(*set, shared)));
        sets.all(|set| set.is_within(&others))
    }

    /// What stays in force beside a delta that moves on to a base that is not here.
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
        // The base and the number in force are asked about together with them, and what was settled before a restart.
        if numbers.len() + 3 > KNOWN_NUMBERS {
            return Err(TooMany);
        }
        Ok(Some(Arc::new(Earlier { numbers, revoked })))
    }

    /// The numbers of the lists whose revocations it has, its own last.
    pub(super) fn made_of(&self) -> Vec<CrlNumber> {
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.numbers.iter().copied());
        let mut numbers: Vec<_> = [self.base.number].into_iter().chain(earlier).chain([self.number]).collect();
        numbers.dedup();
        numbers
    }

    /// Whether it revokes anybody whom the list before it does not; another base is not looked through.
    pub(super) fn may_revoke_more(&self, before: &Self) -> bool {
        !Arc::ptr_eq(&self.base, &before.base) || !self.since_base.is_within(&before.sets().collect::<Vec<_>>())
    }

    /// What it revokes, the smallest sets first.
    pub(super) fn sets(&self) -> impl Iterator<Item = &SerialSet> {
        [&self.since_base].into_iter().chain(self.before_delta())
    }
}
