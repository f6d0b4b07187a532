//! The timed tasks of the daemon: they sign the next CRLs long before the current ones are stale, and replace the
//! daemon's own certificate long before it expires.
//!
//! They never revoke anything.

use std::{sync::Arc, time::Duration};

use edge::{clock::Clock, random};
use mtls::tls::{Identity, IdentityError, ServerIdentity};
use pki::{
    key::{KeyError, KeyPair, PublicKey, PublicKeyError},
    policy::OperatorOrder,
    profile::Profile,
    serial::Serial,
    time::{Timestamp, Validity},
};
use tracing::{error, info, warn};

use crate::{
    authority::{Authority, IssueError, PublishError},
    feed::{self, Announced, Feed},
    issuer::{CrlKind, Issuer},
    metrics::Metrics,
    store::{CrlHead, Newest, Status, StoreError},
};

/// How long the daemon's own certificate is valid. Its key is never on a disk and ends with the process.
const IDENTITY_LIFETIME: Duration = Duration::from_hours(24 * 7);
/// The shortest pause between two checks of the clock.
const PAUSE: Duration = Duration::from_secs(1);
/// How near its end a CRL is signed again although not every relying party has reported: this fraction of its life, or
/// this duration if that is longer. Until then, a relying party that enforces more than this database knows can come
/// back and hand it over, and an operator can read the log. A tenth of the default lifetime is enough time to retry a
/// publication that fails.
const NEAR_ITS_END: (u32, Duration) = (10, Duration::from_secs(5));

/// How long the tasks wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// For relying parties, after the start and after revocations were taken back, before a CRL is published by the
    /// clock. It is longer than they take to reconnect.
    pub(crate) first_contact: Duration,
    /// The longest pause between two checks of the clock, even if nothing is due: time jumps when a machine sleeps or
    /// its clock is corrected.
    pub(crate) look: Duration,
    /// For further revocations, before one large complete CRL is signed for all of them.
    pub(crate) coalescing: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_contact: Duration::from_secs(20),
            look: Duration::from_secs(30),
            coalescing: Duration::from_secs(3),
        }
    }
}

/// Why the daemon has no certificate of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnIdentityError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Issues a certificate to the daemon itself, for a new key.
pub(crate) async fn own_identity(authority: &Authority, now: Timestamp) -> Result<Identity, OwnIdentityError> {
    let key = KeyPair::generate()?;
    let settings = authority.settings();
    let order = OperatorOrder {
        profile: Profile::Server,
        subject: settings.server_name(),
        organization: Some(settings.organization.clone()),
        hosts: settings.hosts.clone(),
        public_key: PublicKey::from_spki(&key.spki())?,
        lifetime: IDENTITY_LIFETIME,
    };
    let issued = authority.issue_own(order, Serial::from_random(random::bytes()), now).await?;
    let mut chain = authority.chain(issued.der);
    // A client with only the root's fingerprint, from a token, needs the root itself to recognise it.
    chain.push(authority.certificate(Issuer::Root).clone());
    Ok(Identity::new(chain, key)?)
}

/// Which relying parties have reported that could show that this database is an older copy. A restored authority must
/// not publish a higher number before it has received what it lacks: relying parties would then drop those revocations,
/// too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// The daemon is starting; no relying party has reported.
    Starting,
    /// Some known relying parties did not report in time, or none is known.
    Partial,
    /// Every known relying party has reported what it enforces, and all of it is known here.
    Full,
}

impl Contact {
    /// Waits a limited time until every known relying party has reported what it enforces.
    async fn made(feed: &Feed, pace: Pace) -> Self {
        let _ = tokio::time::timeout(pace.first_contact, feed.all_heard()).await;
        Self::now(feed)
    }

    fn now(feed: &Feed) -> Self {
        if feed.unheard().is_empty() && feed.has_relying_parties() { Self::Full } else { Self::Partial }
    }
}

/// Publishes the CRLs that are due and whose key is here. If the database lacks revocations that were published,
/// nothing is published: an operator has to decide, and the CRL in force at relying parties stays valid until its
/// `nextUpdate`.
pub(crate) async fn publish_due(authority: &Authority, contact: Contact, now: Timestamp) -> Result<(), PublishError> {
    for issuer in Issuer::ALL.into_iter().filter(|issuer| authority.can_publish(*issuer)) {
        // A database of an older release has no delta and no list of servers, but its next complete CRL will refer to
        // them.
        let lacks = async |kind, path: Option<_>| -> Result<bool, StoreError> {
            Ok(path.is_some() && authority.store().head(issuer, kind).await?.is_none())
        };
        let is_incomplete =
            lacks(CrlKind::Delta, issuer.delta_path()).await? || lacks(CrlKind::Servers, issuer.servers_path()).await?;
        let due = successor_due(authority, issuer, contact, now).await?;
        if now >= due || (is_incomplete && due != Timestamp::MAX) {
            authority.publish(issuer, now).await?;
        }
    }
    Ok(())
}

/// Logs what an operator has to do before anything is published again.
pub(crate) async fn warn_of_loss(authority: &Authority) -> Result<(), StoreError> {
    for issuer in Issuer::ALL {
        if let Some(ahead) = authority.store().newest(issuer).await?.ahead {
            error!("{ahead}");
        }
    }
    Ok(())
}

/// Logs which issuer's CRL has to be signed elsewhere, and by when.
pub(crate) async fn warn_of_absent_keys(authority: &Authority) -> Result<(), StoreError> {
    for issuer in Issuer::ALL.into_iter().filter(|issuer| !authority.can_publish(*issuer)) {
        let next_update = authority.store().crl_head(issuer).await?.next_update;
        let command = "ca-daemon crl --root --resign --root-key FILE";
        warn!(%issuer, %next_update, command, "the issuer's key is not here; run the command before nextUpdate");
    }
    Ok(())
}

/// The certificate that the daemon presents, and when it has to be replaced.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) identity: ServerIdentity,
    serial: Serial,
    validity: Validity,
    replace_at: Timestamp,
}

impl Presented {
    pub(crate) fn new(identity: &Identity) -> Result<Self, IdentityError> {
        Ok(Self {
            identity: ServerIdentity::new(identity)?,
            serial: identity.info().id.serial,
            validity: identity.info().validity,
            replace_at: replacement_due(identity),
        })
    }

    /// Replaces the certificate if it is near its end, if it is not valid yet because the clock was ahead when it was
    /// issued, or if it was revoked: an operator who revokes everything with the authority's own name still needs a
    /// working authority.
    async fn keep_good(&mut self, authority: &Authority, now: Timestamp) -> Result<(), OwnIdentityError> {
        let record = authority.store().by_serial(&self.serial, now).await.map_err(IssueError::from)?;
        let good_for_long = self.validity.contains(now) && now < self.replace_at;
        // If the issuing CA is revoked, a new certificate would not be better.
        let is_good = |status| matches!(status, Status::Valid | Status::IssuerRevoked { .. });
        if good_for_long && record.is_some_and(|record| is_good(record.status)) {
            return Ok(());
        }
        let identity = own_identity(authority, now).await?;
        self.identity.replace(&identity)?;
        self.serial = identity.info().id.serial;
        self.validity = identity.info().validity;
        self.replace_at = replacement_due(&identity);
        info!(serial = %self.serial, "the daemon's own certificate was replaced");
        Ok(())
    }
}

/// Keeps the daemon's own certificate usable. It is checked after every revocation, because it may be the one that was
/// revoked. Runs until it is dropped.
pub(crate) async fn keep_presentable(
    authority: Arc<Authority>,
    feed: Feed,
    mut presented: Presented,
    clock: Clock,
    pace: Pace,
    metrics: Arc<Metrics>,
) {
    let mut announced = feed.announced();
    loop {
        announced.mark_unchanged();
        // After its files were replaced, which was logged, the database can take no more writes.
        if authority.store().check_beneath().is_ok()
            && let Err(error) = presented.keep_good(&authority, clock.now()).await
        {
            error!(%error, "replacing the daemon's own certificate failed and will be retried");
        }
        metrics.presents(presented.validity.not_after);
        let pause = presented.replace_at.since(clock.now()).max(PAUSE).min(pace.look);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = announced.changed() => {}
        }
    }
}

/// Retries after a write has failed, in case nothing else writes. Runs until it is dropped.
pub(crate) async fn keep_writable(authority: Arc<Authority>) {
    let mut is_unwritable = authority.store().is_unwritable();
    while is_unwritable.wait_for(|is_off| *is_off).await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        // The store records the result.
        let _ = authority.store().try_to_write().await;
    }
}

/// Publishes CRLs when they are due. Runs until it is dropped.
pub(crate) async fn keep_up(authority: Arc<Authority>, feed: Feed, clock: Clock, pace: Pace) {
    let mut taken_back = feed.taken_back();
    let mut said = None;
    make_contact(&authority, &feed, &clock, pace).await;
    loop {
        let mut contact = Contact::now(&feed);
        if contact == Contact::Full && said != Some(contact) {
            // The relying party that reported last may have CRLs to hand over.
            contact = make_contact(&authority, &feed, &clock, pace).await;
        }
        if said != Some(contact) {
            say(&feed, contact);
            said = Some(contact);
        }
        let now = clock.now();
        if authority.store().check_beneath().is_ok()
            && let Err(error) = publish_due(&authority, contact, now).await
        {
            error!(%error, "publishing the next CRL failed and will be retried");
        }
        let next = next_due(&authority, contact, now).await.unwrap_or(now);
        let pause = next.since(now).max(PAUSE).min(pace.look);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Other relying parties may enforce more than the first one: all hand over before anything is published.
            _ = taken_back.changed() => drop(make_contact(&authority, &feed, &clock, pace).await),
        }
    }
}

/// Waits for the known relying parties. Meanwhile publishes CRLs that are too near their end to wait.
async fn make_contact(authority: &Authority, feed: &Feed, clock: &Clock, pace: Pace) -> Contact {
    let made = Contact::made(feed, pace);
    tokio::pin!(made);
    loop {
        let now = clock.now();
        let next = next_due(authority, Contact::Starting, now).await.unwrap_or(now);
        tokio::select! {
            contact = &mut made => return contact,
            () = tokio::time::sleep(next.since(now).max(PAUSE).min(pace.look)) => {}
        }
        if authority.store().check_beneath().is_ok()
            && let Err(error) = publish_due(authority, Contact::Starting, clock.now()).await
        {
            error!(%error, "publishing the next CRL failed and will be retried");
        }
    }
}

/// Logs which relying parties have not reported, or that all have.
fn say(feed: &Feed, contact: Contact) {
    if contact == Contact::Full {
        info!("every known relying party has reported; CRLs are published as usual");
    } else {
        warn!("{}", feed::not_heard(&feed.unheard()));
    }
}

/// Signs the complete CRL that was coalesced because it is large, a moment after the revocations and once for all of
/// them. Runs until it is dropped.
pub(crate) async fn catch_up(authority: Arc<Authority>, feed: Feed, clock: Clock, pace: Pace) {
    let mut taken_back = feed.taken_back();
    let mut announced = feed.announced();
    Contact::made(&feed, pace).await;
    let is_behind = |newest: &Newest| newest.complete < newest.number && newest.ahead.is_none();
    loop {
        if announced.wait_for(|now: &Announced| is_behind(&now.issuing)).await.is_err() {
            return;
        }
        tokio::time::sleep(pace.coalescing).await;
        // As before any other publication: others may enforce more than the first one that handed over.
        while taken_back.has_changed().unwrap_or(false) {
            taken_back.mark_unchanged();
            Contact::made(&feed, pace).await;
        }
        // After its files were replaced, which was logged, the database can take no more writes.
        if authority.store().check_beneath().is_err() {
            return;
        }
        // Another process may have signed it meanwhile.
        if authority.store().newest(Issuer::Issuing).await.is_ok_and(|newest| !is_behind(&newest)) {
            if let Err(error) = feed.refresh().await {
                error!(%error, "the database cannot be read");
            }
            continue;
        }
        if let Err(error) = authority.publish(Issuer::Issuing, clock.now()).await {
            error!(%error, "signing the complete CRL failed and will be retried");
        }
        if let Err(error) = feed.refresh().await {
            error!(%error, "the database cannot be read");
        }
    }
}

/// When a third of the certificate's life remains.
fn replacement_due(identity: &Identity) -> Timestamp {
    let validity = identity.info().validity;
    validity.not_after.minus(validity.not_after.since(validity.not_before) / 3)
}

/// When the first CRL is due that can be signed here.
async fn next_due(authority: &Authority, contact: Contact, now: Timestamp) -> Result<Timestamp, StoreError> {
    let mut next = Timestamp::MAX;
    for issuer in Issuer::ALL.into_iter().filter(|issuer| authority.can_publish(*issuer)) {
        next = next.min(successor_due(authority, issuer, contact, now).await?);
    }
    Ok(next)
}

/// When the issuer's next CRL is due. The far future while the database is known to lack revocations.
async fn successor_due(
    authority: &Authority,
    issuer: Issuer,
    contact: Contact,
    now: Timestamp,
) -> Result<Timestamp, StoreError> {
    let newest = authority.store().newest(issuer).await?;
    let head = authority.store().crl_head(issuer).await?;
    if newest.ahead.is_some() {
        Ok(Timestamp::MAX)
    } else if newest.is_overtaken && contact != Contact::Starting {
        Ok(now)
    } else if contact == Contact::Full {
        Ok(head.successor_due(now))
    } else if head.this_update > now {
        // Relying parties whose clocks are right refuse it.
        Ok(now)
    } else {
        Ok(head.successor_due(now).max(near_its_end(&head)))
    }
}

/// When a CRL is so near its end that the next one waits for no relying party.
fn near_its_end(head: &CrlHead) -> Timestamp {
    let (part, least) = NEAR_ITS_END;
    let life = head.next_update.since(head.this_update);
    head.next_update.minus((life / part).max(least))
}

#[cfg(test)]
mod tests {
    use pki::crl::{CrlNumber, RevocationReason};

    use super::*;
    use crate::authority::tests::{Fixture, now};

    fn hours(hours: u64) -> Timestamp {
        now().plus(Duration::from_hours(hours))
    }

    #[tokio::test]
    async fn a_crl_is_replaced_after_a_third_of_its_life() {
        let fixture = Fixture::new().await;
        let number = async || fixture.authority.store().crl_head(Issuer::Issuing).await.unwrap().number;
        publish_due(&fixture.authority, Contact::Full, hours(7)).await.unwrap();
        assert_eq!(number().await, CrlNumber::FIRST);
        publish_due(&fixture.authority, Contact::Full, hours(8)).await.unwrap();
        assert_eq!(number().await, CrlNumber::new(hours(8).unix()).unwrap());
        assert_eq!(next_due(&fixture.authority, Contact::Full, hours(8)).await.unwrap(), hours(16));
    }

    #[tokio::test]
    async fn with_missing_reports_a_crl_is_replaced_only_near_its_end() {
        let fixture = Fixture::new().await;
        let authority = &fixture.authority;
        let number = async || authority.store().crl_head(Issuer::Issuing).await.unwrap().number;
        for contact in [Contact::Starting, Contact::Partial] {
            publish_due(authority, contact, hours(21)).await.unwrap();
            assert_eq!(number().await, CrlNumber::FIRST);
        }
        let due = hours(24).minus(Duration::from_mins(24 * 6));
        assert_eq!(next_due(authority, Contact::Partial, hours(21)).await.unwrap(), due);
        publish_due(authority, Contact::Starting, due).await.unwrap();
        assert_eq!(number().await, CrlNumber::new(due.unix()).unwrap());
        let short = CrlHead {
            next_update: now().plus(Duration::from_secs(30)),
            ..authority.store().crl_head(Issuer::Root).await.unwrap()
        };
        assert_eq!(near_its_end(&short), now().plus(Duration::from_secs(25)), "time to try it again");
    }

    #[tokio::test]
    async fn a_crl_from_a_clock_that_was_ahead_is_replaced() {
        let fixture = Fixture::new().await;
        let authority = &fixture.authority;
        let mut presented = Presented::new(&own_identity(authority, hours(1000)).await.unwrap()).unwrap();
        let ahead = presented.serial;
        for issuer in Issuer::ALL {
            authority.publish(issuer, hours(1000)).await.unwrap();
        }
        assert_eq!(next_due(authority, Contact::Starting, now()).await.unwrap(), now());
        publish_due(authority, Contact::Starting, now()).await.unwrap();
        for issuer in Issuer::ALL {
            assert_eq!(authority.store().crl_head(issuer).await.unwrap().this_update, now(), "{issuer}");
        }
        assert_eq!(next_due(authority, Contact::Full, now()).await.unwrap(), hours(8));
        presented.keep_good(authority, now()).await.unwrap();
        assert_ne!(presented.serial, ahead);
        assert!(presented.validity.contains(now()));
    }

    #[tokio::test]
    async fn the_daemons_certificate_is_replaced_near_its_end_and_when_it_was_revoked() {
        let fixture = Fixture::new().await;
        let authority = &fixture.authority;
        let mut presented = Presented::new(&own_identity(authority, now()).await.unwrap()).unwrap();
        let first = presented.serial;
        presented.keep_good(authority, hours(24 * 4)).await.unwrap();
        assert_eq!(presented.serial, first);
        presented.keep_good(authority, hours(24 * 5)).await.unwrap();
        let second = presented.serial;
        assert_ne!(second, first);
        authority.revoke(&[second], RevocationReason::Superseded, hours(24 * 5)).await.unwrap();
        presented.keep_good(authority, hours(24 * 5)).await.unwrap();
        let third = presented.serial;
        assert_ne!(third, second);
        let root = authority.root_signer().unwrap();
        authority.revoke_issuing(RevocationReason::Superseded, root, hours(24 * 5)).await.unwrap();
        presented.keep_good(authority, hours(24 * 5)).await.unwrap();
        assert_eq!(presented.serial, third, "no other is better");
        presented.keep_good(authority, hours(24 * 10)).await.unwrap();
        assert_ne!(presented.serial, third);
    }
}
