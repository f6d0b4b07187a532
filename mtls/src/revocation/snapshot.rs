//! The data behind the live set: the CRLs of each issuer, from each source, and which of them may not be relied on.
//!
//! It never decides which CRL replaces which.

use std::sync::Arc;

use edge::clock::Lead;
use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::CrlNumber,
    time::Timestamp,
};

use super::{list::IssuerList, serials::SerialSet};

/// Where CRLs are fetched from. Each source has its own sequence of CRL numbers. If two sources have different CRLs of
/// one issuer with the same number, the revocations of both count, in whatever order they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source(pub(crate) usize);

/// The CRLs of every issuer for which one has arrived or was lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot(Vec<OfIssuer>);

#[derive(Clone, Debug)]
struct OfIssuer {
    issuer: IssuerId,
    /// One for each source. There is rarely more than one.
    slots: Vec<Slot>,
    /// How many certificates they revoke together.
    revoked: usize,
}

/// The CRL of one issuer from one source.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    source: Source,
    pub(super) list: Option<Arc<IssuerList>>,
    pub(super) withheld: Option<Withheld>,
}

/// Why a CRL is not relied on: it has less than what was in force before the restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Withheld {
    /// A CRL with this number or a higher one is relied on.
    pub(super) settled: CrlNumber,
    /// What happened to the CRL that was in force.
    pub(super) why: Arc<str>,
}

/// What is known of one issuer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lists<'a>(&'a [Slot]);

impl Snapshot {
    /// A chain has two or three authorities, and comparing that many is faster than hashing one.
    pub(super) fn of(&self, issuer: &IssuerId) -> Option<Lists<'_>> {
        self.find(issuer).map(|known| Lists(&known.slots))
    }

    /// How many certificates of this issuer are revoked.
    pub(super) fn revoked(&self, issuer: &IssuerId) -> usize {
        self.find(issuer).map_or(0, |known| known.revoked)
    }

    pub(super) fn slot(&self, issuer: &IssuerId, source: Source) -> Option<&Slot> {
        self.find(issuer)?.slots.iter().find(|slot| slot.source == source)
    }

    /// When the CRLs of each issuer become stale, by a clock with this lead.
    pub(super) fn good_until(&self, lead: Lead) -> impl Iterator<Item = Timestamp> {
        self.0.iter().filter_map(move |known| Lists(&known.slots).good_until(lead))
    }

    /// Changes the slot of this issuer and source.
    pub(super) fn change(&mut self, issuer: &IssuerId, source: Source, change: impl FnOnce(&mut Slot)) {
        let place = self.0.iter().position(|known| known.issuer == *issuer).unwrap_or_else(|| {
            self.0.push(OfIssuer { issuer: issuer.clone(), slots: Vec::new(), revoked: 0 });
            self.0.len() - 1
        });
        let of_issuer = &mut self.0[place];
        let place = of_issuer.slots.iter().position(|slot| slot.source == source).unwrap_or_else(|| {
            of_issuer.slots.push(Slot { source, list: None, withheld: None });
            of_issuer.slots.len() - 1
        });
        change(&mut of_issuer.slots[place]);
        of_issuer.revoked = Lists(&of_issuer.slots).count_revoked();
    }

    fn find(&self, issuer: &IssuerId) -> Option<&OfIssuer> {
        self.0.iter().find(|known| known.issuer == *issuer)
    }
}

impl<'a> Lists<'a> {
    /// Whether any of the CRLs revokes it.
    pub(super) fn revoke(self, certificate: &VerifiedId) -> bool {
        self.lists().any(|list| list.revokes(certificate))
    }

    /// Why one of them is not relied on. `None` if all are.
    pub(super) fn withheld(self) -> Option<&'a Withheld> {
        self.0.iter().find_map(|slot| slot.withheld.as_ref())
    }

    /// The CRL that becomes stale first. All of them must be fresh: each was configured because it may revoke
    /// certificates that the others do not, and a stale CRL lacks recent revocations.
    pub(super) fn stale_first(self) -> Option<&'a IssuerList> {
        self.lists().min_by_key(|list| list.next_update)
    }

    /// When the first of them becomes stale, by a clock with this lead.
    pub(super) fn good_until(self, lead: Lead) -> Option<Timestamp> {
        self.lists().map(|list| list.good_until(lead)).min()
    }

    /// When the last of them was signed.
    pub(super) fn this_update(self) -> Option<Timestamp> {
        self.lists().map(|list| list.this_update).max()
    }

    fn lists(self) -> impl Iterator<Item = &'a IssuerList> {
        self.0.iter().filter_map(|slot| slot.list.as_deref())
    }

    /// Counts each certificate once, however many CRLs have it.
    fn count_revoked(self) -> usize {
        let mut lists = self.lists();
        let Some(first) = lists.next() else { return 0 };
        let mut seen: Vec<&SerialSet> = first.sets().collect();
        let mut count = first.revoked;
        for set in lists.flat_map(IssuerList::sets) {
            count += set.count_outside(&seen);
            seen.push(set);
        }
        count
    }
}
