//! A relying party whose clock is an hour off: which CRLs it accepts, and what happens to its clients.

use std::time::Duration;

use edge::clock::Clock;
use mtls::{relying_party::RelyingParty, revocation::NotReady};
use rustls::AlertDescription;
use tokio::task::JoinSet;

use crate::common::{
    Authority, Client, DAY, Http, Issued, Log, Service, Surroundings, eventually, publisher::Publisher, start,
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A service whose clock shows this time while the authority's shows [`start`].
async fn service(authority: &Authority, clock: Clock) -> (Service, JoinSet<()>) {
    let mut service = Service::start_in(authority, Surroundings { clock, ..Surroundings::default() }).await;
    let tasks = service.keep_current();
    (service, tasks)
}

fn number(relying_party: &RelyingParty) -> Option<i64> {
    relying_party.live_set().freshness()[0].list.map(|list| list.number.get())
}

/// A client whose own clock is right.
fn client(authority: &Authority, issued: &Issued) -> Client {
    Client::new(authority, issued, Http::Two, &Clock::manual(start()))
}

#[tokio::test]
async fn an_hour_ahead_nothing_is_different() {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let (service, _tasks) = service(&authority, Clock::manual(start().plus(HOUR))).await;
    let (good, revoked) = (authority.client("good_1"), authority.client("revoked_1"));
    eventually("its CRLs are in force", || service.live().ready(service.clock.now()).is_ok()).await;
    let mut open = client(&authority, &revoked).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    eventually("its connection ends", || open.is_closed()).await;
    assert_eq!(client(&authority, &good).get(service.address).await.status, 200);
    assert!(!log.has(&["WARN"]), "{:?}", log.lines(&["WARN"]));
}

/// A CRL that is valid for less than that is stale when it arrives. Everybody is refused, and the log names the clocks.
#[tokio::test]
async fn an_hour_ahead_with_a_crl_for_half_an_hour_everybody_is_refused() {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let half_an_hour = authority.crl_between(1, start(), start().plus(MINUTE * 30), &[]);
    publisher.publish(|published| published.issuing = half_an_hour);
    let (service, _tasks) = service(&authority, Clock::manual(start().plus(HOUR))).await;
    let refused = || log.lines(&["WARN", "CRL refused", "check this machine's clock"]).len();
    eventually("it is logged", || refused() == 1).await;
    let ready = service.live().ready(service.clock.now());
    assert!(matches!(ready, Err(NotReady::NoCrl(_))), "{ready:?}");
    let good = authority.client("good_1");
    let alert = client(&authority, &good).refused(service.address).await.alert();
    assert_eq!(alert, AlertDescription::AccessDenied);

    service.clock.set(start());
    eventually("its CRLs are in force", || service.live().ready(start()).is_ok()).await;
    assert_eq!(client(&authority, &good).get(service.address).await.status, 200);
    assert_eq!(refused(), 1);
}

/// A new CRL is from the future, so the previous one stays in force. New clients are not valid yet, and the log names
/// the clocks. Nothing is confirmed meanwhile, so `revoke` reports it.
#[tokio::test]
async fn an_hour_behind_no_revocation_arrives_until_the_clock_is_set() {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let early = start().minus(HOUR * 2);
    publisher.publish(|published| {
        published.root = authority.root_crl_between(1, early, early.plus(DAY * 30), &[]);
        published.issuing = authority.crl_between(1, early, early.plus(DAY), &[]);
    });
    let (service, _tasks) = service(&authority, Clock::manual(start().minus(HOUR))).await;
    eventually("the CRLs from before are in force", || service.live().ready(service.clock.now()).is_ok()).await;
    let old = authority.client_from("old_1", start().minus(DAY), DAY * 2);
    let new = authority.client("new_1");
    let mut open = client(&authority, &old).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    let alert = client(&authority, &new).refused(service.address).await.alert();
    assert_eq!(alert, AlertDescription::CertificateExpired);
    eventually("it is logged", || log.has(&["handshake refused", "new_1", "not valid yet"])).await;

    publisher.publish(|published| published.issuing = authority.crl(2, &[&old]));
    let refused = || log.lines(&["WARN", "CRL refused", "is not valid before", "check this machine's clock"]).len();
    eventually("it is logged", || refused() == 1).await;
    assert_eq!(number(&service.relying_party), Some(1));
    assert_eq!(open.get().await.unwrap().status, 200);

    service.clock.set(start().minus(MINUTE));
    eventually("its connection ends", || open.is_closed()).await;
    assert_eq!(number(&service.relying_party), Some(2));
    assert_eq!(client(&authority, &new).get(service.address).await.status, 200);
    assert_eq!(refused(), 1, "one line, however often it was fetched");
}

/// The time on the clock does not show how much time has passed.
#[tokio::test]
async fn a_crl_is_not_valid_longer_because_the_clock_was_set_back() {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let (service, _tasks) = service(&authority, Clock::manual(start())).await;
    let ready = |at| service.live().ready(at);
    eventually("its CRLs are in force", || ready(start()).is_ok()).await;
    publisher.goes_down().await;
    let mut open = client(&authority, &authority.client("good_1")).open(service.address).await;
    service.clock.pass(HOUR * 23);
    service.clock.set(start());
    let until = start().plus(HOUR);
    eventually("it is noticed", || ready(until.plus(MINUTE)).is_err()).await;
    assert!(ready(until).is_ok(), "an hour is left");
    assert_eq!(open.get().await.unwrap().status, 200);
    service.clock.pass(HOUR + Duration::from_secs(1));
    eventually("its connection ends", || open.is_closed()).await;
    eventually("it is logged", || log.has(&["WARN", "CRL stale", &format!("since={until}")])).await;
    let alert = client(&authority, &authority.client("good_2")).refused(service.address).await.alert();
    assert_eq!(alert, AlertDescription::AccessDenied);
    let said = service.live().freshness()[0].list.map(|list| list.admits_until);
    assert_eq!(said, Some(start().plus(DAY)), "the authority's clock may be right");

    // The next CRL is valid until its nextUpdate.
    service.install(&authority.crl(2, &[]));
    service.install(&authority.root_crl(2, &[]));
    assert_eq!(ready(start().plus(DAY)), Ok(()));
}

/// A certificate that had expired when the CRL was signed is not in it, and must not count as valid again.
#[tokio::test]
async fn nobody_is_admitted_by_a_crl_from_the_future() {
    let publisher = Publisher::start().await;
    let authority = publisher.authority();
    let ended = authority.client_from("ended_1", start(), HOUR);
    let (service, _tasks) = service(&authority, Clock::manual(start())).await;
    eventually("its CRLs are in force", || service.live().ready(start()).is_ok()).await;
    service.install(&authority.crl(2, &[&ended]));
    let later = start().plus(HOUR * 2);
    service.clock.set(later);
    service.install(&authority.crl_between(3, later, later.plus(DAY), &[]));
    assert_eq!(service.live().ready(later), Ok(()));
    service.clock.set(start());
    let refused = client(&authority, &ended).refused(service.address).await;
    assert_eq!(refused.alert(), AlertDescription::AccessDenied);
    let said = service.live().ready(start()).unwrap_err().to_string();
    assert!(said.contains("clock is behind") && said.contains(&later.to_string()), "{said}");
    service.clock.set(later.minus(MINUTE));
    assert_eq!(service.live().ready(service.clock.now()), Ok(()), "clocks may differ by this much");
}
