//! What is known of one instance: that it is there, which CRLs it has confirmed and when, and what of that is yet to be written down.
//!
//! It never asks what time it is, and never believes more than a confirmation says.

use std::{collections::VecDeque, time::Duration};

use pki::{crl::CrlNumber, time::Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

use crate::{issuer::Issuer, store::RelyingParty};

/// How many confirmations of each list are remembered, for whoever asks when a number was reached.
const REMEMBERED: usize = 64;
/// How much longer than it said an instance that is gone is expected: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// An instance, remembered from before or heard of now.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) record: RelyingParty,
    /// Dropping one ends that stream.
    pub(super) streams: Vec<oneshot::Sender<()>>,
    /// Another instance has proven to be its successor while it still had a stream. It goes with the last of them, unless it is heard
    /// again.
    pub(super) is_superseded: bool,
    /// Whether it was said in the log that it claims a number which was never given.
    pub(super) has_claimed: bool,
    pub(super) unwritten: Unwritten,
    root: Track,
    issuing: Track,
    /// Whether it has confirmed anything to this daemon.
    has_confirmed: bool,
    /// How many connections it said it has ended since its start; none if it said so to the daemon before this one, which attributed
    /// them.
    ended: Option<u64>,
}

/// How urgently an instance is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unwritten {
    Nothing,
    Presence,
    Change,
}

/// What an instance says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// The numbers that it enforces, as far as they are known here.
    pub(super) root: Option<CrlNumber>,
    pub(super) issuing: Option<CrlNumber>,
    /// A number that was never given here.
    pub(super) claims: Option<CrlNumber>,
    pub(super) admits_until: Option<Timestamp>,
    pub(super) grace: u64,
    pub(super) open_connections: u64,
    /// Since its start.
    pub(super) ended: u64,
}

/// What was confirmed of one issuer's list.
#[derive(Debug, Default)]
struct Track(VecDeque<Confirmed>);

#[derive(Clone, Copy, Debug)]
struct Confirmed {
    number: CrlNumber,
    at: Instant,
    /// None: not known.
    ended: Option<u64>,
}

/// That an instance enforces a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enforced {
    /// Microseconds from the commit to the confirmation; none if it was confirmed before.
    pub(crate) after_micros: Option<u64>,
    /// How many open connections it ended, if that is known.
    pub(crate) ended: Option<u64>,
}

impl Instance {
    /// One that was never heard of before.
    pub(super) fn new(record: RelyingParty) -> Self {
        Self { ended: Some(0), ..Self::remembered(record) }
    }

    /// The same run with another certificate. It has confirmed nothing under that yet.
    pub(super) fn under_next_certificate(&self, record: RelyingParty) -> Self {
        Self { ended: self.ended, ..Self::remembered(record) }
    }

    /// One that the database knows.
    pub(super) fn remembered(record: RelyingParty) -> Self {
        Self {
            record,
            streams: Vec::new(),
            is_superseded: false,
            has_claimed: false,
            unwritten: Unwritten::Nothing,
            root: Track::default(),
            issuing: Track::default(),
            has_confirmed: false,
            ended: None,
        }
    }

    /// Whether it has said to this daemon what it enforces; one whose certificate is revoked is not asked.
    pub(super) fn has_confirmed(&self) -> bool {
        self.record.certificate_revoked || self.has_confirmed
    }

    /// Whether it is known what it enforces at present, and that nothing of it was forgotten here. One whose certificate is revoked is
    /// not heard any more.
    pub(super) fn is_heard(&self) -> bool {
        self.has_confirmed() && (self.record.certificate_revoked || self.record.claims.is_none())
    }

    /// Whether it cannot admit anybody any more, and is not to be expected.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.streams.is_empty() && self.record.admits_until.is_some_and(|until| until.plus(CLOCK_SKEW) < now)
    }

    /// Until when it can admit somebody by a list from before the daemon's start, the last of which is good until `lists_end`.
    pub(super) fn latest(&self, lists_end: Timestamp) -> Timestamp {
        lists_end.plus(Duration::from_secs(self.record.grace))
    }

    /// What is known of it, and what is to be said of it while it is expected: that it would be over by now is not known if it was not
    /// heard since the daemon's start.
    pub(super) fn record_at(&self, lists_end: Timestamp, now: Timestamp) -> RelyingParty {
        let mut record = self.record.clone();
        if self.is_over(now) {
            record.admits_until = record.admits_until.max(Some(self.latest(lists_end)));
        }
        record
    }

    pub(super) fn change(&mut self) {
        self.unwritten = Unwritten::Change;
    }

    /// It was heard of.
    pub(super) fn touch(&mut self, address: &str, now: Timestamp) {
        address.clone_into(&mut self.record.address);
        self.record.last_seen = now;
        self.unwritten = self.unwritten.max(Unwritten::Presence);
    }

    /// Takes its word.
    pub(super) fn confirm(&mut self, word: &Word, at: Instant) {
        self.has_confirmed = true;
        let record = &mut self.record;
        let before = (record.crl_number, record.root_crl_number, record.claims, record.admits_until);
        let after = (word.issuing, word.root, word.claims, word.admits_until);
        (record.crl_number, record.root_crl_number, record.claims, record.admits_until) = after;
        (record.grace, record.open_connections) = (word.grace, word.open_connections);
        if before != after {
            self.change();
        }
        let ended = self.ended.map(|known| word.ended.saturating_sub(known));
        self.ended = self.ended.max(Some(word.ended));
        // What was ended is the work of the list that is new. A repetition is a sign of life, and late news of the last one.
        let said = [(Issuer::Root, word.root), (Issuer::Issuing, word.issuing)];
        let said =
            said.map(|(issuer, number)| number.map(|number| (issuer, number, self.track(issuer).is_news(number))));
        let has_news = said.iter().flatten().any(|(.., is_news)| *is_news);
        for (issuer, number, is_news) in said.into_iter().flatten() {
            let ended = if is_news || !has_news { ended } else { Some(0) };
            self.track_mut(issuer).confirm(number, ended, at);
        }
    }

    /// Whether it enforces the issuer's CRL with this number, which was committed at this moment.
    pub(super) fn enforces(&self, issuer: Issuer, number: CrlNumber, committed: Instant) -> Option<Enforced> {
        let enforced = match issuer {
            Issuer::Root => self.record.root_crl_number,
            Issuer::Issuing => self.record.crl_number,
        };
        // Whoever went back to an older CRL, after a restart from an old copy, does not enforce it any more.
        if enforced.is_none_or(|enforced| enforced < number) {
            return None;
        }
        let reached = self.track(issuer).0.iter().find(|confirmed| confirmed.number >= number);
        Some(match reached {
            Some(Confirmed { at, ended, .. }) if *at >= committed => {
                let after = at.duration_since(committed).as_micros();
                Enforced { after_micros: Some(u64::try_from(after).unwrap_or(u64::MAX)), ended: *ended }
            }
            _ => Enforced { after_micros: None, ended: None },
        })
    }

    fn track(&self, issuer: Issuer) -> &Track {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => &self.issuing,
        }
    }

    fn track_mut(&mut self, issuer: Issuer) -> &mut Track {
        match issuer {
            Issuer::Root => &mut self.root,
            Issuer::Issuing => &mut self.issuing,
        }
    }
}

impl Track {
    fn is_news(&self, number: CrlNumber) -> bool {
        self.0.back().is_none_or(|last| last.number != number)
    }

    fn confirm(&mut self, number: CrlNumber, ended: Option<u64>, at: Instant) {
        if self.is_news(number) {
            self.0.push_back(Confirmed { number, at, ended });
            while self.0.len() > REMEMBERED {
                self.0.pop_front();
            }
        } else if let Some(last) = self.0.back_mut() {
            last.ended = last.ended.zip(ended).map(|(before, more)| before.saturating_add(more));
        }
    }
}
