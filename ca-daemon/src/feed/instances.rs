//! The instances of a service that speak under one name. A service that was restarted is another instance, and takes the place of
//! the one before. Two that are alive at once were given one name by mistake: then the name enforces what both enforce.
//!
//! It never asks what time it is, and never takes one's word for the other's.

use std::{collections::VecDeque, time::Duration};

use pki::{crl::CrlNumber, time::Timestamp, wire::FEED_HEARTBEAT};
use tokio::time::Instant;

use crate::settings::Issuer;

/// An instance that was silent for so long while another spoke is gone.
const SILENCE: Duration = Duration::from_secs(FEED_HEARTBEAT.as_secs() * 2);
/// How many instances that were replaced are remembered, and how many may speak at once: more than anybody has.
const REMEMBERED: usize = 32;

/// What an instance has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    root: Claim,
    issuing: Claim,
    pub(super) exposure: Exposure,
    pub(super) open_connections: u64,
}

/// Until when an instance lets clients in, should it hear nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    pub(super) admits_until: Option<Timestamp>,
    /// How many seconds of that are grace.
    pub(super) grace: u64,
}

/// What is said of one issuer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) number: Option<CrlNumber>,
    /// The number was never given by this authority, so it says nothing about what was revoked since.
    pub(super) is_foreign: bool,
}

/// All of one name, the one heard last at the end.
#[derive(Debug, Default)]
pub(super) struct Instances {
    alive: Vec<Instance>,
    replaced: VecDeque<String>,
    /// Whether several were seen alive at once. Each counts from then on, for as long as it may let clients in.
    is_shared: bool,
}

#[derive(Debug)]
struct Instance {
    id: String,
    word: Word,
    first: Instant,
    last: Instant,
}

impl Word {
    pub(super) fn new(claim: impl Fn(Issuer) -> Claim, exposure: Exposure, open_connections: u64) -> Self {
        Self { root: claim(Issuer::Root), issuing: claim(Issuer::Issuing), exposure, open_connections }
    }

    pub(super) fn of(&self, issuer: Issuer) -> Claim {
        match issuer {
            Issuer::Root => self.root,
            Issuer::Issuing => self.issuing,
        }
    }

    /// What is true of both.
    fn and(self, other: Self) -> Self {
        let claim = |issuer| {
            let (one, other) = (self.of(issuer), other.of(issuer));
            Claim { number: one.number.min(other.number), is_foreign: one.is_foreign || other.is_foreign }
        };
        Self::new(
            claim,
            self.exposure.and(other.exposure),
            self.open_connections.saturating_add(other.open_connections),
        )
    }
}

impl Exposure {
    fn and(self, other: Self) -> Self {
        let admits_until = self.admits_until.zip(other.admits_until).map(|(one, other)| one.max(other));
        Self { admits_until, grace: self.grace.max(other.grace) }
    }
}

impl Instances {
    /// Takes an instance's word while the name has so many streams open. What all that are alive enforce, and whether it
    /// has become clear just now that there are several.
    pub(super) fn hear(&mut self, id: &str, word: Word, streams: usize, at: Instant, now: Timestamp) -> (Word, bool) {
        let was_shared = self.is_shared;
        let known = self.alive.iter().position(|instance| instance.id == id).map(|index| self.alive.remove(index));
        // Whoever speaks again after another one began to has not been replaced by it.
        self.is_shared |= self.replaced.iter().any(|replaced| replaced == id)
            || known.as_ref().is_some_and(|known| self.alive.iter().any(|other| other.first > known.last));
        if self.is_shared {
            // One whose list is stale by now refuses everybody, wherever it is.
            self.alive.retain(|other| other.word.exposure.admits_until.is_none_or(|until| now <= until));
        } else {
            let is_gone = |other: &mut Instance| streams <= 1 || at.duration_since(other.last) > SILENCE;
            self.replaced.extend(self.alive.extract_if(.., is_gone).map(|gone| gone.id));
            self.replaced.drain(..self.replaced.len().saturating_sub(REMEMBERED));
        }
        self.alive.drain(..self.alive.len().saturating_sub(REMEMBERED));
        let all = self.alive.iter().fold(word, |all, other| all.and(other.word));
        let first = known.map_or(at, |known| known.first);
        self.alive.push(Instance { id: id.to_owned(), word, first, last: at });
        (all, self.is_shared && !was_shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_510_800;

    struct Name(Instances, Instant);

    impl Name {
        fn new() -> Self {
            Self(Instances::default(), Instant::now())
        }

        /// What counts once this instance has said at this second that it enforces this number.
        fn hear(&mut self, id: &str, number: i64, streams: usize, second: u64) -> (Option<i64>, bool) {
            let at = |seconds| Timestamp::from_unix(NOW).plus(Duration::from_secs(seconds));
            let claim = |_| Claim { number: CrlNumber::new(number), is_foreign: false };
            let exposure = Exposure { admits_until: Some(at(second + 3600)), grace: 0 };
            let word = Word::new(claim, exposure, 1);
            let (all, is_new) = self.0.hear(id, word, streams, self.1 + Duration::from_secs(second), at(second));
            (all.of(Issuer::Issuing).number.map(CrlNumber::get), is_new)
        }
    }

    #[test]
    fn one_that_was_restarted_takes_the_place_of_the_one_before() {
        let mut name = Name::new();
        assert_eq!(name.hear("a", 5, 1, 0), (Some(5), false));
        assert_eq!(name.hear("b", 4, 1, 1), (Some(4), false), "from an older disk");
        assert_eq!(name.hear("b", 6, 1, 2), (Some(6), false));
        // The stream of the one before is not known to be dead yet.
        assert_eq!(name.hear("c", 7, 2, 3), (Some(6), false));
        assert_eq!(name.hear("c", 7, 2, 7), (Some(6), false));
        assert_eq!(name.hear("c", 7, 2, 13), (Some(7), false));
    }

    #[test]
    fn of_two_with_one_name_neither_speaks_for_the_other() {
        let mut name = Name::new();
        assert_eq!(name.hear("a", 5, 1, 0), (Some(5), false));
        assert_eq!(name.hear("b", 5, 2, 1), (Some(5), false));
        assert_eq!(name.hear("a", 6, 2, 2), (Some(5), true), "said once");
        assert_eq!(name.hear("b", 6, 2, 3), (Some(6), false));
        // One is cut off: its silence is no consent.
        assert_eq!(name.hear("a", 7, 1, 60), (Some(6), false));
        assert_eq!(name.hear("a", 7, 1, 3604), (Some(7), false), "by now it refuses everybody");
    }

    #[test]
    fn two_with_one_name_are_told_apart_by_turns_when_neither_was_seen_beside_the_other() {
        let mut name = Name::new();
        assert_eq!(name.hear("a", 5, 1, 0), (Some(5), false));
        assert_eq!(name.hear("b", 6, 1, 1), (Some(6), false));
        assert_eq!(name.hear("a", 6, 1, 2), (Some(6), true));
        assert_eq!(name.hear("a", 7, 1, 3), (Some(6), false));
    }
}
