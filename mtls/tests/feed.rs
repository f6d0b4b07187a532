//! The feed, and which servers are refused on it.

use std::time::Duration;

use mtls::{
    relying_party::{Options, RelyingParty},
    revocation::{OnStaleCrl, Refusal},
};

use crate::common::{
    Authority, Issued, Log, Surroundings, authority::Founding, eventually, feed::FeedServer, publisher::Publisher,
    start,
};

/// A relying party that receives news on the feed only, or by polls only.
async fn assert_revocation_arrives(name: &str, polls: bool, presented: impl FnOnce(&Authority) -> Issued) {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let server = FeedServer::presenting(&presented(&authority)).await;
    let surroundings = Surroundings::default();
    let crl_refresh = if polls { Duration::from_millis(10) } else { Duration::from_hours(1) };
    let options = Options { feed: Some(server.url()), crl_refresh, ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let _tasks = upkeep.start();
    let live = relying_party.live_set();
    eventually("its CRLs are in force", || live.freshness().iter().all(|list| list.list.is_some())).await;
    let told = if polls { ["WARN", "no feed", name] } else { ["INFO", "feed open", name] };
    eventually("it is logged", || log.has(&told)).await;

    let revoked = authority.client("revoked_1");
    let list = revoked.info.crl_urls[0].as_str();
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    server.announce(&[(list, 2)]);
    let check = || live.check(std::slice::from_ref(&revoked.id()), start());
    let is_revoked = || matches!(check(), Err(Refusal::Revoked(_)));
    eventually("the revocation arrives", is_revoked).await;
    if polls {
        assert_eq!(server.requests(), (0, 0), "something was sent to the wrong server");
        assert_eq!(log.lines(&["no feed"]).len(), 1, "{:?}", log.lines(&["feed"]));
    } else {
        eventually("it is confirmed", || server.confirmed(list) == Some(2)).await;
    }
}

#[tokio::test]
async fn revocations_arrive_on_the_feed() {
    assert_revocation_arrives("", false, |authority| authority.own().with_root(authority)).await;
}

#[tokio::test]
async fn another_server_of_the_fleet_is_refused_on_the_feed() {
    let other_server = |authority: &Authority| authority.server("localhost").with_root(authority);
    assert_revocation_arrives("not the authority's own", true, other_server).await;
}

#[tokio::test]
async fn another_authority_is_refused_on_the_feed() {
    let other = Authority::named("Elsewhere", "http://127.0.0.1:1");
    assert_revocation_arrives("fingerprint", true, |_| other.own().with_root(&other)).await;
    let namesake = Authority::new();
    assert_revocation_arrives("fingerprint", true, |authority| namesake.own().with_root(authority)).await;
}

/// An impostor with the key of a revoked certificate of the authority is refused, and receives nothing.
#[tokio::test]
async fn a_revoked_authority_is_refused_on_the_feed() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority();
    let own = authority.own().with_root(&authority);
    let server = FeedServer::presenting(&own).await;
    let options = Options { feed: Some(server.url()), ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let list = authority.client("any").info.crl_urls[0].clone();
    // Without any CRL the authority is accepted, because this connection delivers the CRLs.
    let mut tasks = upkeep.start();
    eventually("its CRL is confirmed", || server.confirmed_last(&list) == Some(1)).await;
    assert_eq!(relying_party.live_set().open_connections(), 0, "it has no clients");
    publisher.publish(|published| published.issuing = authority.crl(2, &[&own]));
    eventually("the feed breaks off", || log.has(&["WARN", "no feed", "is revoked"])).await;
    let before = server.requests().0;
    tasks.shutdown().await;
    drop(relying_party);
    assert_eq!(server.confirmed(&list), Some(2), "the last confirmation, which its revocation waits for");

    // The next run detects it by the stored CRL, before anything is sent.
    let (_again, upkeep) = RelyingParty::new(
        &identity,
        authority.root.certificate(),
        Options { feed: Some(server.url()), ..surroundings.options() },
    )
    .unwrap();
    let _tasks = upkeep.start();
    eventually("it is refused in the handshake", || log.lines(&["no feed", "is revoked"]).len() > 1).await;
    assert_eq!(server.requests().0, before, "no feed was requested");
}

/// A connected instance that cannot follow must not look disconnected.
#[tokio::test]
async fn a_heartbeat_is_answered_with_the_enforced_number_even_if_a_newer_one_exists() {
    let (publisher, surroundings) = (Publisher::start().await, Surroundings::default());
    let authority = publisher.authority();
    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let on_stale_crl = OnStaleCrl::Grace(Duration::from_hours(2));
    let options = Options { feed: Some(server.url()), on_stale_crl, ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let (_relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let _tasks = upkeep.start();
    let client = authority.client("client_1");
    let list = client.info.crl_urls[0].as_str();
    eventually("it is confirmed", || server.confirmed_last(list) == Some(1)).await;
    assert_eq!(server.said_last("grace"), Some(7200.into()), "the confirmation contains the grace");
    // There is no CRL with this number.
    server.announce(&[(list, 2)]);
    for _ in 0..3 {
        let before = server.requests().1;
        eventually("the heartbeat is answered", || {
            server.announce(&[(list, 2)]);
            server.requests().1 > before
        })
        .await;
        assert_eq!(server.confirmed_last(list), Some(1));
    }
}

/// After a restore, an authority may reuse a number. Then the number does not identify the enforced CRL.
#[tokio::test]
async fn a_number_of_two_different_crls_is_not_confirmed() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    publisher.publish(|published| published.delta = Some(authority.delta(2, 1, &[&one])));
    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let options = Options { feed: Some(server.url()), ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let _tasks = upkeep.start();
    let list = one.info.crl_urls[0].as_str();
    eventually("it is confirmed", || server.confirmed_last(list) == Some(2)).await;

    publisher.publish(|published| published.delta = Some(authority.delta(2, 1, &[&two])));
    eventually("it is not confirmed any more", || server.confirmed_last(list).is_none()).await;
    let said = log.lines(&["WARN", "CRL refused", "is another list than the one with that number"]);
    assert_eq!(said.len(), 1, "{:?}", log.lines(&["CRL"]));
    let live = relying_party.live_set();
    assert!(live.check(std::slice::from_ref(&one.id()), start()).is_err(), "the old CRL stays in force");

    publisher.publish(|published| published.delta = Some(authority.delta(3, 1, &[&one, &two])));
    eventually("the next one is confirmed", || server.confirmed_last(list) == Some(3)).await;
    assert!([one, two].iter().all(|client| live.check(std::slice::from_ref(&client.id()), start()).is_err()));
}
