//! CRLs that the authority announces on the feed while an attacker on the network holds them back.

use std::time::Duration;

use mtls::{
    relying_party::{Options, RelyingParty},
    revocation::{Barrier, NotReady},
};
use tokio::task::JoinSet;

use crate::common::{
    Authority, Issued, Log, Surroundings,
    authority::{Founding, serial, sign_crl},
    eventually,
    feed::FeedServer,
    publisher::Publisher,
    start,
};

const DAY: Duration = Duration::from_hours(24);

/// A service with a feed and without stored CRLs, and the servers around it.
struct Scene {
    publisher: Publisher,
    authority: Authority,
    server: FeedServer,
    log: Log,
    surroundings: Surroundings,
    revoked: Issued,
    good: Issued,
}

impl Scene {
    async fn new(has_delta: bool) -> Self {
        let publisher = Publisher::start().await;
        let authority = publisher.authority_of(Founding { has_delta, ..Founding::default() });
        let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
        let (revoked, good) = (authority.client("revoked_1"), authority.client("good_1"));
        Self { server, log: Log::capture(), surroundings: Surroundings::default(), revoked, good, publisher, authority }
    }

    fn url(&self) -> &str {
        &self.good.info.crl_urls[0]
    }

    fn start(&self) -> (RelyingParty, JoinSet<()>) {
        let options = Options { feed: Some(self.server.url()), ..self.surroundings.options() };
        let identity = self.authority.server("service0").identity();
        let (relying_party, upkeep) = RelyingParty::new(&identity, self.authority.root.certificate(), options).unwrap();
        let tasks = upkeep.start();
        (relying_party, tasks)
    }
}

fn admits(relying_party: &RelyingParty, client: &Issued) -> bool {
    relying_party.live_set().check(std::slice::from_ref(&client.id()), start()).is_ok()
}

fn in_force(relying_party: &RelyingParty) -> Option<(i64, usize)> {
    relying_party.live_set().freshness()[0].list.map(|list| (list.number.get(), list.revoked))
}

fn is_behind(relying_party: &RelyingParty) -> bool {
    let ready = relying_party.live_set().ready(start());
    matches!(ready, Err(NotReady::Barred(Barrier::Behind { .. })))
}

#[tokio::test]
async fn a_service_with_a_feed_fetches_its_crls_from_the_authority_itself() {
    let scene = Scene::new(false).await;
    // Yesterday's CRL is at the distribution point.
    let newer = scene.authority.crl(2, &[&scene.revoked]);
    scene.server.serve_list(2, Some(newer.clone()));
    scene.server.announce_list(scene.url(), 2, &newer);
    let (relying_party, _tasks) = scene.start();
    eventually("what was announced is in force", || in_force(&relying_party) == Some((2, 1))).await;
    eventually("the good client is let in", || admits(&relying_party, &scene.good)).await;
    assert!(!admits(&relying_party, &scene.revoked));
    assert!(!scene.log.has(&["CRL refused"]), "{:?}", scene.log.lines(&["CRL"]));
    eventually("it is confirmed", || scene.server.confirmed_last(scene.url()) == Some(2)).await;
}

#[tokio::test]
async fn nobody_is_admitted_while_an_older_crl_than_the_announced_one_is_replayed() {
    let scene = Scene::new(false).await;
    let newer = scene.authority.crl(2, &[&scene.revoked]);
    scene.server.announce_list(scene.url(), 2, &newer);
    // Only the feed works. Every fetch returns yesterday's CRL.
    let (relying_party, _tasks) = scene.start();
    eventually("the barrier is raised", || is_behind(&relying_party)).await;
    eventually("the older CRL is in force", || in_force(&relying_party) == Some((1, 0))).await;
    assert!(!admits(&relying_party, &scene.revoked) && !admits(&relying_party, &scene.good));
    let said = relying_party.live_set().ready(start()).unwrap_err().to_string();
    assert!(said.contains("has announced CRL number 2"), "{said}");

    // The barrier must stay when the feed is cut as well.
    scene.server.close(true);
    scene.server.hang_up();
    eventually("the feed is cut", || scene.log.has(&["WARN", "no feed"])).await;
    assert!(is_behind(&relying_party) && !admits(&relying_party, &scene.revoked));

    scene.server.close(false);
    scene.server.announce_list(scene.url(), 2, &newer);
    scene.server.serve_list(2, Some(newer));
    eventually("what was announced is in force", || in_force(&relying_party) == Some((2, 1))).await;
    eventually("the good client is let in", || admits(&relying_party, &scene.good)).await;
    assert!(!admits(&relying_party, &scene.revoked));
    let lines = ["is not in force here: nobody is let in", "that the authority has announced is in force"];
    for line in lines {
        eventually("it is logged once", || scene.log.lines(&[line]).len() == 1).await;
    }
}

#[tokio::test]
async fn plain_http_is_used_while_the_authority_does_not_send_the_crl_itself() {
    let scene = Scene::new(false).await;
    let newer = scene.authority.crl(2, &[&scene.revoked]);
    scene.publisher.publish(|published| published.issuing.clone_from(&newer));
    scene.server.announce_list(scene.url(), 2, &newer);
    let (relying_party, _tasks) = scene.start();
    eventually("what was announced is in force", || in_force(&relying_party) == Some((2, 1))).await;
    eventually("the good client is let in", || admits(&relying_party, &scene.good)).await;
    let line = ["WARN", "does not send the CRL over HTTPS", "/issuing.crl"];
    eventually("it is logged once", || scene.log.lines(&line).len() == 1).await;
}

/// The announced size applies only to that CRL.
#[tokio::test]
async fn an_announcement_before_the_feed_was_cut_does_not_bound_later_polls() {
    let scene = Scene::new(false).await;
    let newer = scene.authority.crl(2, &[]);
    scene.publisher.publish(|published| published.issuing.clone_from(&newer));
    scene.server.announce_list(scene.url(), 2, &newer);
    let (relying_party, _tasks) = scene.start();
    eventually("what was announced is in force", || in_force(&relying_party) == Some((2, 0))).await;

    scene.server.close(true);
    scene.server.hang_up();
    eventually("the feed is cut", || scene.log.has(&["WARN", "no feed"])).await;
    let revoked: Vec<_> =
        (0..5000).map(|number| serial(1 << 32 | number)).chain([scene.revoked.info.id.serial]).collect();
    let many = sign_crl(&scene.authority.issuing, 3, start(), start().plus(DAY), &revoked);
    scene.publisher.publish(|published| published.issuing = many);
    eventually("everybody is revoked", || in_force(&relying_party) == Some((3, 5001))).await;
    assert!(!admits(&relying_party, &scene.revoked));
}

#[tokio::test]
async fn another_crl_with_the_announced_number_is_refused() {
    let scene = Scene::new(false).await;
    let announced = scene.authority.crl(2, &[&scene.revoked]);
    let other = scene.authority.crl(2, &[]);
    scene.publisher.publish(|published| published.issuing = other);
    scene.server.announce_list(scene.url(), 2, &announced);
    // The feed first: a CRL that was in force before it cannot be compared.
    let (relying_party, _tasks) = scene.start();
    eventually("it is refused", || scene.log.has(&["CRL refused", "is not the list that the authority has announced"]))
        .await;
    eventually("the barrier is raised", || {
        !admits(&relying_party, &scene.good) && relying_party.live_set().ready(start()).is_err()
    })
    .await;
    scene.publisher.publish(|published| published.issuing = announced);
    eventually("what was announced is in force", || in_force(&relying_party) == Some((2, 1))).await;
    eventually("the good client is let in", || admits(&relying_party, &scene.good)).await;
}

/// The complete CRL of a delta with a new base may be long, and everything new is in the delta.
#[tokio::test]
async fn a_delta_with_a_new_base_is_in_force_before_its_complete_crl_is_fetched() {
    use crate::common::publisher::Mode;
    let scene = Scene::new(true).await;
    let [one, two, three] = ["one_1", "two_1", "three_1"].map(|name| scene.authority.client(name));
    scene.publisher.publish(|published| published.delta = Some(scene.authority.delta(5, 1, &[&one])));
    let (relying_party, tasks) = scene.start();
    eventually("the delta is confirmed", || scene.server.confirmed_last(scene.url()) == Some(5)).await;

    scene.publisher.publish(|published| {
        published.mode = Mode::WithoutComplete;
        published.delta = Some(scene.authority.delta(11, 4, &[&two]));
    });
    eventually("it is in force", || !admits(&relying_party, &two)).await;
    assert_eq!(in_force(&relying_party), Some((11, 2)), "with the entries of earlier deltas");
    assert!(!admits(&relying_party, &one) && admits(&relying_party, &three));
    scene.publisher.publish(|published| published.delta = Some(scene.authority.delta(12, 4, &[&two, &three])));
    eventually("the next one is in force", || !admits(&relying_party, &three)).await;
    assert!(!admits(&relying_party, &one) && !admits(&relying_party, &two));
    assert_eq!(scene.server.confirmed(scene.url()), Some(5), "a restart would lose it");

    scene.publisher.publish(|published| {
        published.mode = Mode::Normal;
        published.issuing = scene.authority.crl(10, &[&one, &two]);
    });
    eventually("it is confirmed", || scene.server.confirmed_last(scene.url()) == Some(12)).await;
    drop((relying_party, tasks));
    let identity = scene.authority.server("service0").identity();
    let options = scene.surroundings.options();
    let (next, _upkeep) = RelyingParty::new(&identity, scene.authority.root.certificate(), options).unwrap();
    assert_eq!(in_force(&next).map(|(number, _)| number), Some(12));
    assert!([one, two, three].iter().all(|client| !admits(&next, client)));
}
