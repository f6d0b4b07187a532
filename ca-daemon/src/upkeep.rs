//! What the daemon does by the clock: CRLs are followed by the next long before they are stale, and the daemon's own
//! server certificate is replaced long before it expires.
//!
//! It never revokes anything.

use std::{sync::Arc, time::Duration};

use mtls::{
    clock::Clock,
    identity::{Identity, IdentityError, ServerIdentity},
    random,
};
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
    feed::{Announced, Feed},
    settings::{CrlKind, Issuer},
    store::{Status, StoreError},
};

/// How long the daemon's own certificate lives; its key is never on a disk and ends with the process.
const IDENTITY_LIFETIME: Duration = Duration::from_hours(24 * 7);
/// The bounds on the pause between two looks at the clock. It is looked at even when nothing is due: a machine that
/// slept or was set right has skipped time.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// How long after the start relying parties are waited for before anything is published by the clock: longer than it takes
/// them to connect again.
const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// How long revocations are gathered before a large complete CRL is signed.
const COALESCING: Duration = Duration::from_secs(3);

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
    let issued = authority.issue_own(order, Serial::from_random(random::octets()), now).await?;
    let mut chain = authority.chain(issued.der);
    // Whoever has only the root's fingerprint, as out of a token, has to see the root to recognize it.
    chain.push(authority.certificate(Issuer::Root).clone());
    Ok(Identity::new(chain, key)?)
}

/// Waits until every relying party that is known has said what it enforces. A database that was restored from an older copy
/// would otherwise publish a list with a higher number before it hears that it has forgotten something, and relying parties
/// would forget that, too.
pub(crate) async fn first_contact(feed: &Feed) {
    let _ = tokio::time::timeout(FIRST_CONTACT, feed.all_heard()).await;
}

/// Publishes the CRLs whose time has come and whose key is here. Not so while a relying party enforces what this database
/// does not know: then it is for a person to decide, and the list that is in force there stays in force until its nextUpdate.
pub(crate) async fn publish_due(authority: &Authority, now: Timestamp) -> Result<(), PublishError> {
    for issuer in Issuer::ALL.into_iter().filter(|issuer| authority.can_publish(*issuer)) {
        // A database from before there were deltas has none, though its next complete CRL will point to one.
        let lacks_delta =
            issuer.delta_path().is_some() && authority.store().head(issuer, CrlKind::Delta).await?.is_none();
        let due = successor_due(authority, issuer, now).await?;
        if now >= due || (lacks_delta && due != Timestamp::MAX) {
            authority.publish(issuer, now).await?;
        }
    }
    Ok(())
}

/// Says whose CRL somebody has to sign elsewhere, and by when.
pub(crate) async fn warn_of_absent_keys(authority: &Authority) -> Result<(), StoreError> {
    for issuer in Issuer::ALL.into_iter().filter(|issuer| !authority.can_publish(*issuer)) {
        let next_update = authority.store().crl_head(issuer).await?.next_update;
        let command = "ca-daemon crl --root --resign --root-key FILE";
        warn!(%issuer, %next_update, command, "the issuer's key is not here; run the command before nextUpdate");
    }
    Ok(())
}

/// The certificate that the daemon presents, and how long it is good for.
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

    /// Presents another certificate if this one nears its end, if it is not valid yet because the clock was ahead when
    /// it was issued, or if it was revoked: whoever revokes everything with the authority's own name is not to be left
    /// without an authority.
    async fn keep_good(&mut self, authority: &Authority, now: Timestamp) -> Result<(), OwnIdentityError> {
        let record = authority.store().by_serial(&self.serial, now).await.map_err(IssueError::from)?;
        let good_for_long = self.validity.contains(now) && now < self.replace_at;
        // Of an issuing CA that is revoked no other is better.
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

/// Keeps the certificate good that the daemon presents. It is looked at whenever something was revoked, which may be it.
/// Runs until it is dropped.
pub(crate) async fn keep_presentable(authority: Arc<Authority>, feed: Feed, mut presented: Presented, clock: Clock) {
    let mut announced = feed.announced();
    loop {
        announced.mark_unchanged();
        if let Err(error) = presented.keep_good(&authority, clock.now()).await {
            error!(%error, "the daemon's own certificate could not be replaced; it is tried again");
        }
        let pause = presented.replace_at.since(clock.now()).clamp(*PAUSE.start(), *PAUSE.end());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = announced.changed() => {}
        }
    }
}

/// Runs until it is dropped.
pub(crate) async fn keep_up(authority: Arc<Authority>, feed: Feed, clock: Clock) {
    first_contact(&feed).await;
    if let Err(error) = publish_due(&authority, clock.now()).await {
        error!(%error, "no new CRL could be published; it is tried again");
    }
    let mut taken_back = feed.taken_back();
    loop {
        let next = match next_due(&authority, clock.now()).await {
            Ok(due) => due,
            Err(error) => {
                error!(%error, "the database cannot be read");
                clock.now()
            }
        };
        let pause = next.since(clock.now()).clamp(*PAUSE.start(), *PAUSE.end());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Others may enforce more than the one who came first: everybody hands over before anything is published.
            _ = taken_back.changed() => first_contact(&feed).await,
        }
        let now = clock.now();
        if let Err(error) = publish_due(&authority, now).await {
            error!(%error, "no new CRL could be published; it is tried again");
        }
    }
}

/// Signs the complete CRL that revocations left behind because it is large, a moment after them and once for all of them.
/// Runs until it is dropped.
pub(crate) async fn catch_up(authority: Arc<Authority>, feed: Feed, clock: Clock) {
    first_contact(&feed).await;
    let mut announced = feed.announced();
    loop {
        let is_behind = |now: &Announced| now.issuing.complete < now.issuing.number && now.issuing.ahead.is_none();
        if announced.wait_for(is_behind).await.is_err() {
            return;
        }
        tokio::time::sleep(COALESCING).await;
        if let Err(error) = authority.publish(Issuer::Issuing, clock.now()).await {
            error!(%error, "the complete CRL could not be signed; it is tried again");
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

/// When the first CRL that can be signed here is due.
async fn next_due(authority: &Authority, now: Timestamp) -> Result<Timestamp, StoreError> {
    let mut next = Timestamp::MAX;
    for issuer in Issuer::ALL.into_iter().filter(|issuer| authority.can_publish(*issuer)) {
        next = next.min(successor_due(authority, issuer, now).await?);
    }
    Ok(next)
}

/// When the issuer's next CRL is due; never, as far as the clock goes, while somebody enforces what is not known here.
async fn successor_due(authority: &Authority, issuer: Issuer, now: Timestamp) -> Result<Timestamp, StoreError> {
    let newest = authority.store().newest(issuer).await?;
    if newest.ahead.is_some() {
        Ok(Timestamp::MAX)
    } else if newest.is_overtaken {
        Ok(now)
    } else {
        Ok(authority.store().crl_head(issuer).await?.successor_due(now))
    }
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
    async fn a_crl_is_followed_by_the_next_after_a_third_of_its_life() {
        let fixture = Fixture::new().await;
        let number = async || fixture.authority.store().crl_head(Issuer::Issuing).await.unwrap().number;
        publish_due(&fixture.authority, hours(7)).await.unwrap();
        assert_eq!(number().await, CrlNumber::FIRST);
        publish_due(&fixture.authority, hours(8)).await.unwrap();
        assert_eq!(number().await, CrlNumber::new(hours(8).unix()).unwrap());
        assert_eq!(next_due(&fixture.authority, hours(8)).await.unwrap(), hours(16));
    }

    #[tokio::test]
    async fn what_a_clock_that_was_ahead_signed_is_replaced_once_it_is_set_right() {
        let fixture = Fixture::new().await;
        let authority = &fixture.authority;
        let mut presented = Presented::new(&own_identity(authority, hours(1000)).await.unwrap()).unwrap();
        let ahead = presented.serial;
        for issuer in Issuer::ALL {
            authority.publish(issuer, hours(1000)).await.unwrap();
        }
        assert_eq!(next_due(authority, now()).await.unwrap(), now());
        publish_due(authority, now()).await.unwrap();
        for issuer in Issuer::ALL {
            assert_eq!(authority.store().crl_head(issuer).await.unwrap().this_update, now(), "{issuer}");
        }
        assert_eq!(next_due(authority, now()).await.unwrap(), hours(8));
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
