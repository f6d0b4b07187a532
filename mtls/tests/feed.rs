//! The feed, and who does not get to speak on it.

use std::time::Duration;

use mtls::relying_party::{Options, RelyingParty};

use crate::common::{Authority, Issued, Log, Surroundings, eventually, feed::FeedServer, publisher::Publisher, start};

/// A relying party that hears of news on the feed only, or by a poll that comes soon enough.
async fn assert_revocation_arrives(name: &str, polls: bool, presented: impl FnOnce(&Authority) -> Issued) {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let server = FeedServer::presenting(&presented(&authority)).await;
    let surroundings = Surroundings::default();
    let crl_refresh = if polls { Duration::from_millis(10) } else { Duration::from_hours(1) };
    let options = Options { feed: Some(server.url()), crl_refresh, ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let mut relying_party = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let _tasks = relying_party.keep_current();
    let live = relying_party.live_set();
    eventually("its CRLs are in force", || live.ready(start()).is_ok()).await;
    let told = if polls { ["WARN", "no feed", name] } else { ["INFO", "feed open", name] };
    eventually("it is logged", || log.has(&told)).await;

    let revoked = authority.client("revoked_1");
    let list = revoked.info.crl_urls[0].as_str();
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    server.announce(&[(list, 2)]);
    let is_revoked = || live.check(std::slice::from_ref(&revoked.info.id), start()).is_err();
    eventually("the revocation arrives", is_revoked).await;
    if polls {
        assert_eq!(server.requests(), (0, 0), "something was sent to somebody else");
        assert_eq!(log.lines(&["no feed"]).len(), 1, "{:?}", log.lines(&["feed"]));
    } else {
        eventually("it is confirmed", || server.confirmed(list) == Some(2)).await;
    }
}

#[tokio::test]
async fn the_authority_is_heard_on_the_feed() {
    assert_revocation_arrives("", false, |authority| authority.own().with_root(authority)).await;
}

#[tokio::test]
async fn another_server_of_the_fleet_is_not_the_feed() {
    let other_server = |authority: &Authority| authority.server("localhost").with_root(authority);
    assert_revocation_arrives("not the authority's own", true, other_server).await;
}

#[tokio::test]
async fn another_authority_is_not_the_feed() {
    let other = Authority::named("Elsewhere", "http://127.0.0.1:1");
    assert_revocation_arrives("fingerprint", true, |_| other.own().with_root(&other)).await;
    let namesake = Authority::new();
    assert_revocation_arrives("fingerprint", true, |authority| namesake.own().with_root(authority)).await;
}
