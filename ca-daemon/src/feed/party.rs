//! What is known of one relying party: that it is there, which CRLs it has confirmed and when, and what of that is yet to be
//! written down.
//!
//! It never asks what time it is, and never believes more than a confirmation says.

use std::collections::VecDeque;

use pki::{crl::CrlNumber, serial::Serial, time::Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

use super::instances::{Instances, Word};
use crate::{settings::Issuer, store::RelyingParty};

/// How many confirmations of each list are remembered, for whoever asks when a number was reached.
const REMEMBERED: usize = 64;

/// A relying party, remembered from before or heard of now.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) record: RelyingParty,
    pub(super) streams: Vec<OpenStream>,
    instances: Instances,
    root: Track,
    issuing: Track,
    /// Whether it has confirmed anything to this daemon.
    has_confirmed: bool,
    pub(super) unwritten: Unwritten,
}

/// How urgently a party is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unwritten {
    Nothing,
    Presence,
    Change,
}

/// One stream of the feed.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) serial: Serial,
    /// Dropping it ends the stream.
    pub(super) lifeline: oneshot::Sender<()>,
}

/// What was confirmed of one issuer's list.
#[derive(Debug, Default)]
struct Track {
    confirmations: VecDeque<Confirmed>,
    /// Its number was never given by this authority, so it says nothing about what was revoked since.
    is_foreign: bool,
}

#[derive(Clone, Copy, Debug)]
struct Confirmed {
    number: CrlNumber,
    at: Instant,
    ended: u64,
    is_foreign: bool,
}

/// That a relying party enforces a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enforced {
    /// Microseconds from the commit to the confirmation; none if it was confirmed before.
    pub(crate) after_micros: Option<u64>,
    /// How many open connections it ended.
    pub(crate) ended: u64,
}

impl Party {
    pub(super) fn new(record: RelyingParty) -> Self {
        Self {
            record,
            streams: Vec::new(),
            instances: Instances::default(),
            root: Track::default(),
            issuing: Track::default(),
            has_confirmed: false,
            unwritten: Unwritten::Nothing,
        }
    }

    /// Says of one issuer's list whether its number was never given by this authority.
    pub(super) fn set_foreign(&mut self, issuer: Issuer, is_foreign: bool) {
        self.track_mut(issuer).is_foreign = is_foreign;
    }

    /// Whether it is known what it enforces at present, and that nothing of it was forgotten here.
    pub(super) fn is_heard(&self) -> bool {
        self.has_confirmed && !self.has_foreign()
    }

    /// Whether it has said to this daemon what it enforces.
    pub(super) fn has_confirmed(&self) -> bool {
        self.has_confirmed
    }

    /// Whether it enforces a number that was never given by this authority, as far as the database knows.
    pub(super) fn has_foreign(&self) -> bool {
        self.root.is_foreign || self.issuing.is_foreign
    }

    /// Takes the word of one of its instances, which says that it has ended so many connections. Whether it has become clear just
    /// now that there are several at once.
    pub(super) fn confirm(&mut self, instance: &str, word: Word, ended: u64, at: Instant, now: Timestamp) -> bool {
        let (word, is_shared) = self.instances.hear(instance, word, self.streams.len(), at, now);
        self.has_confirmed = true;
        let numbers = [Issuer::Issuing, Issuer::Root].map(|issuer| word.of(issuer).number);
        let record = &mut self.record;
        if [record.crl_number, record.root_crl_number] != numbers {
            [record.crl_number, record.root_crl_number] = numbers;
            self.unwritten = Unwritten::Change;
        }
        (record.admits_until, record.grace) = (word.exposure.admits_until, word.exposure.grace);
        record.open_connections = word.open_connections;
        for issuer in Issuer::ALL {
            self.set_foreign(issuer, word.of(issuer).is_foreign);
        }
        // What was ended is the work of the list that is new. A repetition is a sign of life, and late news of the last one.
        let number = |issuer| word.of(issuer).number;
        let is_news = Issuer::ALL.map(|issuer| number(issuer).is_some_and(|number| self.track(issuer).is_news(number)));
        let has_news = is_news.contains(&true);
        for (issuer, is_news) in Issuer::ALL.into_iter().zip(is_news) {
            if let Some(number) = number(issuer) {
                let ended = if is_news || !has_news { ended } else { 0 };
                self.track_mut(issuer).confirm(number, ended, at);
            }
        }
        is_shared
    }

    /// Whether it enforces the issuer's CRL with this number, which was committed at this moment.
    pub(super) fn enforces(&self, issuer: Issuer, number: CrlNumber, committed: Instant) -> Option<Enforced> {
        let enforced = match issuer {
            Issuer::Root => self.record.root_crl_number,
            Issuer::Issuing => self.record.crl_number,
        };
        let track = self.track(issuer);
        // Whoever went back to an older CRL, after a restart from an old copy, does not enforce it any more.
        if track.is_foreign || enforced.is_none_or(|enforced| enforced < number) {
            return None;
        }
        let reached = track.confirmations.iter().find(|confirmed| confirmed.number >= number && !confirmed.is_foreign);
        Some(match reached {
            Some(Confirmed { at, ended, .. }) if *at >= committed => {
                let after = at.duration_since(committed).as_micros();
                Enforced { after_micros: Some(u64::try_from(after).unwrap_or(u64::MAX)), ended: *ended }
            }
            _ => Enforced { after_micros: None, ended: 0 },
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
        self.confirmations.back().is_none_or(|last| last.number != number || last.is_foreign != self.is_foreign)
    }

    fn confirm(&mut self, number: CrlNumber, ended: u64, at: Instant) {
        if self.is_news(number) {
            self.confirmations.push_back(Confirmed { number, at, ended, is_foreign: self.is_foreign });
            while self.confirmations.len() > REMEMBERED {
                self.confirmations.pop_front();
            }
        } else if let Some(last) = self.confirmations.back_mut() {
            last.ended = last.ended.saturating_add(ended);
        }
    }
}
