//! The feed: who is listening, what the newest CRL numbers are, and which of them each relying party has confirmed.
//!
//! It never carries what is revoked, only that there is something to fetch; and it never knows HTTP.

mod instances;
mod party;
mod roll_call;
mod subscription;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use mtls::clock::Clock;
use pki::{
    crl::CrlNumber,
    serial::Serial,
    time::Timestamp,
    wire::{Confirmation, Current, FeedEvent, Listing},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tracing::error;

pub(crate) use self::party::Enforced;
use self::{
    instances::{Claim, Exposure, Word},
    party::{Party, Unwritten},
    roll_call::RollCalls,
};
use crate::{
    settings::{Issuer, Settings},
    store::{Ahead, Contents, Newest, RelyingParty, Store, StoreError},
};

/// How often it is looked whether some process changed the database without telling the daemon.
const LOOK_OUT: Duration = Duration::from_millis(100);
/// After how long it is written down who came, who went and who confirmed ...
const WRITE_SOON: Duration = Duration::from_secs(1);
/// ... and that somebody is still there: a sync of the disk for each heartbeat would be a waste.
const WRITE_LATE: Duration = Duration::from_secs(30);
/// The furthest that a relying party's word moves the CRL number: far more than a backup can be old, and far from the
/// end of all numbers.
const FURTHEST_AHEAD: i64 = 1 << 32;
/// The pause between two such moves. Each is a write, and a relying party that says a higher number all the time would keep whoever
/// wants to revoke from the database.
const RAISE_PAUSE: Duration = Duration::from_millis(100);

/// The feed of one daemon; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    /// The distribution points, as certificates name them.
    urls: Urls,
    announced: watch::Sender<Announced>,
    parties: Mutex<BTreeMap<String, Party>>,
    /// Counts the confirmations.
    confirmed: watch::Sender<u64>,
    is_closed: watch::Sender<bool>,
    /// Counts what was handed over and taken back.
    taken_back: watch::Sender<u64>,
    roll_calls: Mutex<RollCalls>,
    /// Held while it is written down who is there: whoever is forgotten meanwhile would be written down again.
    writing: tokio::sync::Mutex<()>,
    /// Counts the answers to roll calls.
    roll_answered: watch::Sender<u64>,
    /// When a relying party's word last moved the CRL number.
    raised: tokio::sync::Mutex<Option<Instant>>,
    /// The id of the last revocation that the feed has looked at; one look at a time.
    looked_at: tokio::sync::Mutex<i64>,
}

#[derive(Debug)]
struct Urls {
    root: String,
    issuing: String,
}

impl Urls {
    fn of(&self, issuer: Issuer) -> &String {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => &self.issuing,
        }
    }
}

/// What the feed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// A line of the feed.
    line: Bytes,
    pub(crate) root: Newest,
    pub(crate) issuing: Newest,
    /// The last roll call that somebody waits for.
    roll_call: Option<u64>,
}

impl Announced {
    fn new(urls: &Urls, root: Newest, issuing: Newest, roll_call: Option<u64>) -> Self {
        let crls = BTreeMap::from([
            (urls.root.clone(), current(Issuer::Root, &root)),
            (urls.issuing.clone(), current(Issuer::Issuing, &issuing)),
        ]);
        let mut line = serde_json::to_vec(&FeedEvent { crls, roll_call }).expect("addresses and numbers serialize");
        line.push(b'\n');
        Self { line: line.into(), root, issuing, roll_call }
    }

    fn of(&self, issuer: Issuer) -> &Newest {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => &self.issuing,
        }
    }
}

/// A relying party as its certificate names it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) serial: Serial,
    pub(crate) address: String,
    /// When its certificate ends, and with it its place on the feed.
    pub(crate) not_after: Timestamp,
}

/// A relying party and whether it enforces the CRL that was asked about.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) party: RelyingParty,
    pub(crate) enforced: Option<Enforced>,
}

/// What became of the order to forget a relying party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Forgotten {
    Done,
    Unknown,
    /// It is on the feed right now, and would be back at once.
    Connected,
}

/// Why a confirmation was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    #[error("no CRL has the number {number}, nor will one soon: the newest is {newest}")]
    Implausible { number: CrlNumber, newest: CrlNumber },
    /// It is noted as what this relying party says; that it is foreign, too.
    #[error("this authority does not know a CRL with the number {number}; hand it over")]
    Unknown { number: CrlNumber },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Feed {
    pub(crate) async fn open(store: Store, settings: &Settings, clock: Clock) -> Result<Self, StoreError> {
        let urls = Urls {
            root: settings.publication(Issuer::Root).crl_url,
            issuing: settings.publication(Issuer::Issuing).crl_url,
        };
        let looked_at = store.last_revocation().await?;
        let (root, issuing) = read_newest(&store).await?;
        let announced = Announced::new(&urls, root, issuing, None);
        let parties = store.relying_parties().await?.into_iter().map(|record| {
            // Whoever is written down as connected was connected to the daemon before this one.
            let mut party = Party::new(RelyingParty { connected_since: None, ..record });
            party.set_foreign(Issuer::Issuing, party.record.crl_number > Some(announced.issuing.number));
            party.set_foreign(Issuer::Root, party.record.root_crl_number > Some(announced.root.number));
            (party.record.name.clone(), party)
        });
        Ok(Self(Arc::new(Shared {
            parties: Mutex::new(parties.collect()),
            announced: watch::Sender::new(announced),
            confirmed: watch::Sender::new(0),
            is_closed: watch::Sender::new(false),
            taken_back: watch::Sender::new(0),
            roll_calls: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            roll_answered: watch::Sender::new(0),
            raised: tokio::sync::Mutex::default(),
            looked_at: tokio::sync::Mutex::new(looked_at),
            store,
            clock,
            urls,
        })))
    }

    /// The newest numbers, and whoever wants to know when there are newer ones.
    pub(crate) fn announced(&self) -> watch::Receiver<Announced> {
        self.0.announced.subscribe()
    }

    /// Tells everybody if there is a new CRL, and ends the streams of those who are revoked.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let mut looked_at = self.0.looked_at.lock().await;
        let (root, issuing) = read_newest(&self.0.store).await?;
        self.0.announced.send_if_modified(|known| {
            let fresh = Announced::new(&self.0.urls, root, issuing, known.roll_call);
            let is_news = *known != fresh;
            *known = fresh;
            is_news
        });
        let (revoked, last) = self.0.store.revoked_after(*looked_at).await?;
        *looked_at = last;
        let revoked: HashSet<Serial> = revoked.into_iter().collect();
        if !revoked.is_empty() {
            for party in self.parties().values_mut() {
                party.streams.retain(|stream| !revoked.contains(&stream.serial));
            }
        }
        Ok(())
    }

    /// Takes a relying party's word for what it enforces.
    pub(crate) async fn confirm(&self, member: &Member, confirmation: &Confirmation) -> Result<(), ConfirmError> {
        let at = Instant::now();
        let mut foreign = BTreeMap::new();
        for issuer in Issuer::ALL {
            if let Some(number) = confirmation.crls.get(self.0.urls.of(issuer))
                && self.is_foreign(issuer, *number, member).await?
            {
                foreign.insert(issuer.as_str(), *number);
            }
        }
        let claim = |issuer| Claim {
            number: confirmation.crls.get(self.0.urls.of(issuer)).copied(),
            is_foreign: foreign.contains_key(issuer.as_str()),
        };
        let exposure = Exposure { admits_until: confirmation.admits_until, grace: confirmation.grace };
        let word = Word::new(claim, exposure, confirmation.open_connections);
        let serial = member.serial.to_string();
        let instance = confirmation.instance.as_deref().unwrap_or(&serial);
        let (relying_party, now) = (&member.name, self.0.clock.now());
        self.with_party(member, |party| {
            if let Some((issuer, number)) = foreign.first_key_value().filter(|_| !party.has_foreign()) {
                error!(issuer, %number, relying_party, "a relying party enforces a CRL that this database does not know");
            }
            if party.confirm(instance, word, confirmation.ended, at, now) {
                error!(
                    relying_party,
                    "several relying parties have this name, so a revocation is taken for enforced there only when all of \
                     them enforce it; enroll each with a name of its own"
                );
            }
        });
        self.0.confirmed.send_modify(|count| *count += 1);
        foreign.into_values().next().map_or(Ok(()), |number| Err(ConfirmError::Unknown { number }))
    }

    /// Whether the database has never known this number: then it was restored from a copy that is older.
    async fn is_foreign(&self, issuer: Issuer, number: CrlNumber, member: &Member) -> Result<bool, ConfirmError> {
        let newest = || self.0.announced.borrow().of(issuer).number;
        if number == newest() || self.0.store.knows_number(issuer, number).await? {
            return Ok(false);
        }
        self.refresh().await?;
        let newest = newest();
        if number.get() - newest.get() > FURTHEST_AHEAD {
            return Err(ConfirmError::Implausible { number, newest });
        }
        if self.0.store.is_passed(issuer, number).await? {
            return Ok(true);
        }
        let mut raised = self.0.raised.lock().await;
        if let Some(last) = *raised {
            tokio::time::sleep_until(last + RAISE_PAUSE).await;
        }
        // Whoever was first in the queue may have said the same, or more.
        if self.0.store.is_passed(issuer, number).await? {
            return Ok(true);
        }
        *raised = Some(Instant::now());
        let ahead = Ahead { number, by: member.name.clone(), at: self.0.clock.now() };
        if self.0.store.raise(issuer, &ahead).await? {
            error!(%issuer, "{}", describe_ahead(&ahead, newest));
            self.refresh().await?;
        }
        Ok(true)
    }

    /// Whose lists are announced under this distribution point.
    pub(crate) fn issuer_at(&self, url: &str) -> Option<Issuer> {
        Issuer::ALL.into_iter().find(|issuer| self.0.urls.of(*issuer) == url)
    }

    /// Notes that lists were taken back and are to be published.
    pub(crate) fn note_taken_back(&self) {
        self.0.taken_back.send_modify(|count| *count += 1);
    }

    /// Changes whenever lists were taken back.
    pub(crate) fn taken_back(&self) -> watch::Receiver<u64> {
        self.0.taken_back.subscribe()
    }

    /// Resolves once everybody who is known has said what it enforces, in numbers that are known here.
    pub(crate) async fn all_heard(&self) {
        let mut confirmed = self.confirmations();
        loop {
            confirmed.mark_unchanged();
            if self.parties().values().all(Party::is_heard) || confirmed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether anybody is known who may enforce something that this database has forgotten.
    pub(crate) fn has_relying_parties(&self) -> bool {
        !self.parties().is_empty()
    }

    /// Everybody who was ever on the feed and was not forgotten, by name.
    pub(crate) fn relying_parties(&self) -> Vec<RelyingParty> {
        self.parties().values().map(|party| party.record.clone()).collect()
    }

    /// Who enforces the issuer's CRL with this number, which was committed at this moment.
    pub(crate) fn progress(&self, issuer: Issuer, number: CrlNumber, committed: Instant) -> Vec<Progress> {
        let progress = |party: &Party| Progress {
            enforced: party.enforces(issuer, number, committed),
            party: party.record.clone(),
        };
        self.parties().values().map(progress).collect()
    }

    /// Changes with each confirmation.
    pub(crate) fn confirmations(&self) -> watch::Receiver<u64> {
        self.0.confirmed.subscribe()
    }

    pub(crate) async fn forget(&self, name: &str) -> Result<Forgotten, StoreError> {
        let _writing = self.0.writing.lock().await;
        {
            let mut parties = self.parties();
            match parties.get(name) {
                None => return Ok(Forgotten::Unknown),
                Some(party) if !party.streams.is_empty() => return Ok(Forgotten::Connected),
                Some(_) => parties.remove(name),
            };
        }
        self.0.store.forget_relying_party(name).await?;
        Ok(Forgotten::Done)
    }

    /// Ends every stream, and lets no new one begin.
    pub(crate) fn close(&self) {
        self.0.is_closed.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> watch::Receiver<bool> {
        self.0.is_closed.subscribe()
    }

    /// Writes down what is not written yet, if it is as urgent as this.
    async fn write(&self, urgency: Unwritten) -> Result<(), StoreError> {
        let _writing = self.0.writing.lock().await;
        let unwritten: Vec<_> = {
            let mut parties = self.parties();
            let due = parties.values_mut().filter(|party| party.unwritten >= urgency);
            due.map(|party| {
                party.unwritten = Unwritten::Nothing;
                party.record.clone()
            })
            .collect()
        };
        if unwritten.is_empty() {
            return Ok(());
        }
        let written = self.0.store.record_relying_parties(&unwritten).await;
        if written.is_err() {
            let mut parties = self.parties();
            for record in &unwritten {
                if let Some(party) = parties.get_mut(&record.name) {
                    party.unwritten = Unwritten::Change;
                }
            }
        }
        written
    }

    /// Writes down everything.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.write(Unwritten::Presence).await
    }

    fn with_party(&self, member: &Member, change: impl FnOnce(&mut Party)) {
        let now = self.0.clock.now();
        let mut parties = self.parties();
        let party = parties.entry(member.name.clone()).or_insert_with(|| {
            Party::new(RelyingParty {
                name: member.name.clone(),
                serial: member.serial,
                address: member.address.clone(),
                crl_number: None,
                root_crl_number: None,
                admits_until: None,
                grace: 0,
                open_connections: 0,
                first_seen: now,
                connected_since: None,
                last_seen: now,
            })
        });
        let record = &mut party.record;
        record.serial = member.serial;
        record.address.clone_from(&member.address);
        record.last_seen = now;
        party.unwritten = party.unwritten.max(Unwritten::Presence);
        change(party);
    }

    fn parties(&self) -> MutexGuard<'_, BTreeMap<String, Party>> {
        self.0.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks out for what other processes change, and writes down who is there, until it is dropped.
pub(crate) async fn keep_told(feed: Feed) {
    let report = |result: Result<(), StoreError>| {
        if let Err(error) = result {
            error!(%error, "the feed cannot use the database; it is tried again");
        }
    };
    let mut looking = tokio::time::interval(LOOK_OUT);
    let mut soon = tokio::time::interval(WRITE_SOON);
    let mut late = tokio::time::interval(WRITE_LATE);
    for interval in [&mut looking, &mut soon, &mut late] {
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut look_out = None;
    loop {
        tokio::select! {
            _ = looking.tick() => {
                let looked = async {
                    if look_out.is_none() {
                        look_out = Some(feed.0.store.look_out().await?);
                    }
                    let Some(look_out) = look_out.as_mut() else { return Ok(()) };
                    if look_out.has_changed().await? { feed.refresh().await } else { Ok(()) }
                };
                let looked = looked.await;
                if looked.is_err() {
                    look_out = None;
                }
                report(looked);
            }
            _ = soon.tick() => report(feed.write(Unwritten::Change).await),
            _ = late.tick() => report(feed.flush().await),
        }
    }
}

/// What happened, and what a person does about it.
pub(crate) fn describe_ahead(ahead: &Ahead, newest: CrlNumber) -> String {
    let Ahead { number, by, at } = ahead;
    format!(
        "relying party {by} said at {at} that it enforces CRL number {number}, but the newest here is {newest}: this \
         database is an older copy, and does not know what was revoked after number {newest}. Nothing up to number {number} \
         will be published any more, and nothing at all by itself until this is mended. It is, when the relying party hands \
         over that CRL. If it does not: ca-daemon crl --import FILE... with the CRLs that it keeps on its disk, or any copy \
         of them. If there is none: revoke again what was revoked since the copy was made, all at once, or, if nothing was: \
         ca-daemon crl --resign"
    )
}

/// What is announced of an issuer's lists.
fn current(issuer: Issuer, newest: &Newest) -> Current {
    let listing = |path: &str, number, contents: Option<Contents>| Listing {
        path: path.to_owned(),
        number,
        size: contents.map(|contents| contents.size),
        sha256: contents.map(|contents| contents.sha256.to_string()),
    };
    let delta = issuer.delta_path().zip(newest.delta);
    Current {
        number: newest.number,
        complete: listing(issuer.crl_path(), newest.complete, newest.complete_contents),
        delta: delta.map(|(path, (number, contents))| listing(path, number, contents)),
    }
}

async fn read_newest(store: &Store) -> Result<(Newest, Newest), StoreError> {
    Ok((store.newest(Issuer::Root).await?, store.newest(Issuer::Issuing).await?))
}
