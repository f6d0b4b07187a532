//! What the live set answers from: the lists of each issuer, from each place that they are taken from, and which of them may not be
//! relied on.
//!
//! It never decides which list takes the place of which.

use std::sync::Arc;

use edge::clock::Lead;
use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::CrlNumber,
    time::Timestamp,
};

use super::{list::IssuerList, serials::SerialSet};

/// Where lists are taken from. Each place has a sequence of numbers of its own: if two places have two lists of one issuer with one
/// number, what either says counts, and not what was read first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source(pub(crate) usize);

/// The lists of every issuer of which one has arrived, or has been lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot(Vec<OfIssuer>);

#[derive(Clone, Debug)]
struct OfIssuer {
    issuer: IssuerId,
    /// One for each place; hardly ever more than one.
    slots: Vec<Slot>,
    /// How many certificates they revoke together.
    revoked: usize,
}

/// What one place has said of one issuer.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    source: Source,
    pub(super) list: Option<Arc<IssuerList>>,
    pub(super) withheld: Option<Withheld>,
}

/// Why a list is not relied on: it says less than what was in force before the restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Withheld {
    /// A list with this number, or a higher one, is relied on.
    pub(super) settled: CrlNumber,
    /// What became of the list that was in force.
    pub(super) why: Arc<str>,
}

/// What is known of one issuer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lists<'a>(&'a [Slot]);

impl Snapshot {
    /// There are as many as a chain has authorities: to compare two or three takes less than to hash one.
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

    /// When the lists of each issuer are stale, by a clock with this lead.
    pub(super) fn good_until(&self, lead: Lead) -> impl Iterator<Item = Timestamp> {
        self.0.iter().filter_map(move |known| Lists(&known.slots).good_until(lead))
    }

    /// Changes what this place has said of this issuer.
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
    /// Whether any place says so.
    pub(super) fn revoke(self, certificate: &VerifiedId) -> bool {
        self.lists().any(|list| list.revokes(certificate))
    }

    /// Why one of them is not relied on.
    pub(super) fn withheld(self) -> Option<&'a Withheld> {
        self.0.iter().find_map(|slot| slot.withheld.as_ref())
    }

    /// The list that is stale first. All of them have to be fresh: each was given because it may revoke somebody whom the others do
    /// not, and a list that is not kept current any more does not say whom it would revoke now.
    pub(super) fn stale_first(self) -> Option<&'a IssuerList> {
        self.lists().min_by_key(|list| list.next_update)
    }

    /// When the first of them is stale, by a clock with this lead.
    pub(super) fn good_until(self, lead: Lead) -> Option<Timestamp> {
        self.lists().map(|list| list.good_until(lead)).min()
    }

    /// When the last of them was issued.
    pub(super) fn this_update(self) -> Option<Timestamp> {
        self.lists().map(|list| list.this_update).max()
    }

    fn lists(self) -> impl Iterator<Item = &'a IssuerList> {
        self.0.iter().filter_map(|slot| slot.list.as_deref())
    }

    /// Each certificate once, however many lists have it.
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
