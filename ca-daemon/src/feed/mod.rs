//! The feed: who is listening, what the newest CRL numbers are, and which of them each relying party has confirmed.
//!
//! It never carries what is revoked, only that there is something to fetch; and it never knows HTTP.

mod confirmation_times;
mod instance;
mod registry;
mod roll_call;
mod subscription;
mod unheard;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use edge::clock::Clock;
use pki::{
    crl::CrlNumber,
    instance::InstanceId,
    serial::Serial,
    time::Timestamp,
    wire::{Confirmation, Current, FeedEvent, Listing},
};
use prometheus_client::metrics::histogram::Histogram;
use tokio::{sync::watch, time::Instant};
use tracing::error;

use self::{
    confirmation_times::ConfirmationTimes,
    instance::{Instance, Unwritten, Word},
    registry::Registry,
    roll_call::RollCalls,
};
pub(crate) use self::{
    instance::Enforced, registry::Forgotten, subscription::SubscribeError, unheard::not_heard, writing::keep_told,
};
use crate::{
    issuer::{CrlKind, Issuer},
    settings::Settings,
    store::{Contents, InstanceKey, Newest, RelyingParty, Store, StoreError},
};

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
    confirmation_times: ConfirmationTimes,
    registry: Mutex<Registry>,
    /// Until when a list is good that was signed before this daemon began, at the latest.
    lists_end: Timestamp,
    /// How long a list of the issuing CA is good.
    list_lifetime: Duration,
    /// Counts the confirmations, and whoever came or went.
    confirmed: watch::Sender<u64>,
    is_closed: watch::Sender<bool>,
    /// Counts what was handed over and taken back.
    taken_back: watch::Sender<u64>,
    roll_calls: Mutex<RollCalls>,
    /// Held while it is written down who is there: whoever is forgotten meanwhile would be written down again.
    writing: tokio::sync::Mutex<()>,
    /// Counts the answers to roll calls.
    roll_answered: watch::Sender<u64>,
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
    /// The last order to renew certificates.
    renewal_order: i64,
    /// The last roll call that somebody waits for.
    roll_call: Option<u64>,
}

impl Announced {
    fn new(urls: &Urls, root: Newest, issuing: Newest, renewal_order: i64, roll_call: Option<u64>) -> Self {
        let crls = BTreeMap::from([
            (urls.root.clone(), current(Issuer::Root, &root)),
            (urls.issuing.clone(), current(Issuer::Issuing, &issuing)),
        ]);
        let renewal_order = u64::try_from(renewal_order).ok().filter(|order| *order > 0);
        let event = FeedEvent { crls, renewal_order, roll_call };
        let mut line = serde_json::to_vec(&event).expect("addresses and numbers serialize");
        line.push(b'\n');
        let renewal_order = renewal_order.and_then(|order| i64::try_from(order).ok()).unwrap_or(0);
        Self { line: line.into(), root, issuing, renewal_order, roll_call }
    }

    /// The same with another roll call.
    fn asking(&self, urls: &Urls, roll_call: Option<u64>) -> Self {
        Self::new(urls, self.root.clone(), self.issuing.clone(), self.renewal_order, roll_call)
    }

    fn of(&self, issuer: Issuer) -> &Newest {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => &self.issuing,
        }
    }

    /// How many bytes the lists have altogether, as far as that is known.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |newest: &Newest| {
            let lists = [newest.complete_contents, newest.delta.and_then(|(_, contents)| contents)];
            lists.into_iter().flatten().map(|contents| contents.size).sum::<u64>()
        };
        of(&self.root) + of(&self.issuing)
    }
}

/// An instance as its certificate and its secret name it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) serial: Serial,
    pub(crate) instance: InstanceId,
    pub(crate) address: String,
    /// When its certificate ends, and with it its place on the feed.
    pub(crate) not_after: Timestamp,
}

impl Member {
    fn key(&self) -> InstanceKey {
        InstanceKey { serial: self.serial, instance: self.instance }
    }

    /// What is known of it when it comes for the first time.
    pub(crate) fn first_record(&self, now: Timestamp) -> RelyingParty {
        RelyingParty {
            name: self.name.clone(),
            serial: self.serial,
            instance: self.instance,
            address: self.address.clone(),
            crl_number: None,
            root_crl_number: None,
            claims: None,
            admits_until: None,
            grace: 0,
            open_connections: 0,
            first_seen: now,
            connected_since: None,
            last_seen: now,
            certificate_revoked: false,
        }
    }
}

/// An instance and whether it enforces the CRL that was asked about.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) party: RelyingParty,
    pub(crate) enforced: Option<Enforced>,
}

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    /// This database has given it: a list with a higher one that it has given contains what this one revokes.
    Ours,
    /// It was given after the copy was made that this database was restored from, and taken back. It says nothing of
    /// numbers that were given here, whichever is higher.
    TakenBack,
    Unknown,
}

/// Why what an instance says is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    #[error(
        "this instance is not on the feed with this certificate, so its word is not taken; open the feed with the same certificate and \
         secret, and say it again"
    )]
    NotOnTheFeed,
    /// It is noted as what this instance says, and as nothing else.
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
        let (root, issuing, renewal_order) = read_newest(&store).await?;
        let announced = Announced::new(&urls, root, issuing, renewal_order, None);
        let mut registry = Registry::new(store.relying_parties().await?);
        // Whoever is written down as connected was connected to the daemon before this one, and may have confirmed
        // since then whatever there was.
        let latest = latest_good(&store).await?;
        for instance in registry.all_mut().filter(|instance| instance.record.connected_since.is_some()) {
            let record = &mut instance.record;
            record.connected_since = None;
            let latest = latest.plus(Duration::from_secs(record.grace));
            record.admits_until = record.admits_until.map(|until| until.max(latest));
            instance.change();
        }
        Ok(Self(Arc::new(Shared {
            registry: Mutex::new(registry),
            lists_end: clock.now().plus(settings.crl_lifetime),
            list_lifetime: settings.crl_lifetime,
            confirmation_times: ConfirmationTimes::new(&announced),
            announced: watch::Sender::new(announced),
            confirmed: watch::Sender::new(0),
            is_closed: watch::Sender::new(false),
            taken_back: watch::Sender::new(0),
            roll_calls: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            roll_answered: watch::Sender::new(0),
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
        let (root, issuing, renewal_order) = read_newest(&self.0.store).await?;
        self.0.confirmation_times.announced([root.number, issuing.number]);
        self.0.announced.send_if_modified(|known| {
            let fresh = Announced::new(&self.0.urls, root, issuing, renewal_order, known.roll_call);
            let is_news = *known != fresh;
            *known = fresh;
            is_news
        });
        let (revoked, last) = self.0.store.revoked_after(*looked_at).await?;
        *looked_at = last;
        self.put_off(&revoked.into_iter().collect());
        Ok(())
    }

    /// Ends the streams of those whose certificate is one of these, which are revoked. They are not waited for any
    /// more.
    pub(crate) fn put_off(&self, revoked: &HashSet<Serial>) {
        if revoked.is_empty() {
            return;
        }
        for instance in self.registry().all_mut().filter(|instance| revoked.contains(&instance.record.serial)) {
            instance.record.certificate_revoked = true;
            instance.streams.clear();
            instance.change();
        }
        self.note_change();
    }

    /// Takes an instance's word for what it enforces, while it is on the feed.
    pub(crate) async fn confirm(&self, member: &Member, confirmation: &Confirmation) -> Result<(), ConfirmError> {
        let at = Instant::now();
        let mut known = BTreeMap::new();
        let mut claimed = None;
        for issuer in Issuer::ALL {
            let Some(number) = confirmation.crls.get(self.0.urls.of(issuer)).copied() else { continue };
            match self.history(issuer, number).await? {
                History::Ours => {
                    known.insert(issuer.as_str(), number);
                }
                // It enforces something that is known, and nothing that was given a number here since this database was
                // copied, however low: what that is, the next list says.
                History::TakenBack => {}
                History::Unknown => claimed = Some((issuer, number)),
            }
        }
        let word = Word {
            root: known.get(Issuer::Root.as_str()).copied(),
            issuing: known.get(Issuer::Issuing.as_str()).copied(),
            claims: claimed.map(|(_, number)| number),
            admits_until: confirmation.admits_until,
            grace: confirmation.grace,
            open_connections: confirmation.open_connections,
            ended: confirmation.ended,
        };
        {
            let mut registry = self.registry();
            let now = self.0.clock.now();
            let instance = registry.connected(member, now).ok_or(ConfirmError::NotOnTheFeed)?;
            self.0.confirmation_times.confirmed(&instance.record, &word, at);
            instance.confirm(&word, at);
            if std::mem::take(&mut instance.is_superseded) {
                subscription::complain_of_copy(&member.name, member.instance);
            }
            if let Some((issuer, number)) = claimed
                && !std::mem::replace(&mut instance.has_claimed, true)
            {
                let (relying_party, instance) = (&member.name, member.instance.short());
                error!(
                    relying_party, instance, %issuer, %number,
                    "a relying party says that it enforces a CRL that this database never gave a number to. That changes nothing until \
                     it hands over the signed list; if it does not, look at that service"
                );
            }
        }
        self.note_change();
        claimed.map_or(Ok(()), |(_, number)| Err(ConfirmError::Unknown { number }))
    }

    async fn history(&self, issuer: Issuer, number: CrlNumber) -> Result<History, StoreError> {
        if number == self.0.announced.borrow().of(issuer).number {
            return Ok(History::Ours);
        }
        Ok(match self.0.store.contained_from(issuer, number).await? {
            None => History::Unknown,
            Some(contained_from) if contained_from == number => History::Ours,
            Some(_) => History::TakenBack,
        })
    }

    /// Whose lists are announced under this distribution point.
    pub(crate) fn issuer_at(&self, url: &str) -> Option<Issuer> {
        Issuer::ALL.into_iter().find(|issuer| self.0.urls.of(*issuer) == url)
    }

    /// Commits lists that are taken back, and wakes whoever publishes: before the commit, so that a revocation that is
    /// found in the database is known to come from there, and after it, so that it is published.
    pub(crate) async fn taking_back<T, E>(&self, commit: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.note_taken_back();
        let taken = commit.await?;
        self.note_taken_back();
        Ok(taken)
    }

    fn note_taken_back(&self) {
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
            if self.registry().all().all(Instance::is_heard) || confirmed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Who of those that are known has said nothing since the daemon was started. That somebody has to refuse everybody
    /// by now is no reason to leave it out: a copy does not know how it went on.
    pub(crate) fn unheard(&self) -> Vec<String> {
        let registry = self.registry();
        let missing = registry.all().filter(|instance| !instance.has_confirmed());
        let names: BTreeSet<_> = missing.map(|instance| instance.record.name.clone()).collect();
        names.into_iter().collect()
    }

    /// Whether anybody is known who may enforce something that this database has forgotten.
    pub(crate) fn has_relying_parties(&self) -> bool {
        self.registry().all().next().is_some()
    }

    /// All instances that are expected to enforce what is revoked, by name.
    pub(crate) fn relying_parties(&self) -> Vec<RelyingParty> {
        let (lists_end, now) = (self.0.lists_end, self.0.clock.now());
        self.registry().expected(lists_end, now).into_iter().map(|it| it.record_at(lists_end, now)).collect()
    }

    /// Who enforces the issuer's CRL with this number, which was committed at this moment.
    pub(crate) fn progress(&self, issuer: Issuer, number: CrlNumber, committed: Instant) -> Vec<Progress> {
        let (lists_end, now) = (self.0.lists_end, self.0.clock.now());
        let progress = |instance: &Instance| Progress {
            enforced: instance.enforces(issuer, number, committed),
            party: instance.record_at(lists_end, now),
        };
        self.registry().expected(lists_end, now).into_iter().map(progress).collect()
    }

    /// How long confirmations took.
    pub(crate) fn confirmation_times(&self) -> Histogram {
        self.0.confirmation_times.histogram()
    }

    /// The newest CRL of the issuer was committed at this moment, by another process.
    pub(crate) fn note_committed(&self, issuer: Issuer, number: CrlNumber, at: Instant) {
        self.0.confirmation_times.committed(issuer, number, at);
    }

    /// Changes with each confirmation, and with whoever comes or goes.
    pub(crate) fn confirmations(&self) -> watch::Receiver<u64> {
        self.0.confirmed.subscribe()
    }

    fn note_change(&self) {
        self.0.confirmed.send_modify(|count| *count += 1);
    }

    /// Expects nothing more of the disconnected instances of this name, or of the one whose id begins like this.
    pub(crate) async fn forget(&self, name: &str, id: Option<&str>) -> Result<Forgotten, StoreError> {
        let forgotten = self.registry().forget(name, id);
        self.note_change();
        self.write_now().await?;
        Ok(forgotten)
    }

    /// Ends every stream, and lets no new one begin.
    pub(crate) fn close(&self) {
        self.0.is_closed.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> watch::Receiver<bool> {
        self.0.is_closed.subscribe()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// The newest lists of the root and of the issuing CA, and the last order to renew.
async fn read_newest(store: &Store) -> Result<(Newest, Newest, i64), StoreError> {
    let order = store.last_renewal_order().await?;
    Ok((store.newest(Issuer::Root).await?, store.newest(Issuer::Issuing).await?, order))
}

/// Until when the issuing CA's newest lists are good.
async fn latest_good(store: &Store) -> Result<Timestamp, StoreError> {
    let complete = store.crl_head(Issuer::Issuing).await?.next_update;
    let delta = store.head(Issuer::Issuing, CrlKind::Delta).await?;
    Ok(delta.map_or(complete, |delta| delta.next_update.max(complete)))
}

/// As [`Feed::forget`], where no daemon runs: then nobody is connected.
pub(crate) async fn forget_without_daemon(
    store: &Store,
    name: &str,
    id: Option<&str>,
) -> Result<Forgotten, StoreError> {
    let mut registry = Registry::new(store.relying_parties().await?);
    let forgotten = registry.forget(name, id);
    let (_, gone) = registry.take_unwritten(Unwritten::Change);
    store.record_relying_parties(&[], &gone).await?;
    Ok(forgotten)
}
