//! CRLs that lack revocations which are enforced: the certificates have expired, or the authority was restored from an
//! older copy.

use http::StatusCode;
use mtls::relying_party::{Options, RelyingParty};
use pki::pem;
use tokio::task::JoinSet;

use crate::common::{
    Authority, Issued, Log, Surroundings, authority::Founding, eventually, feed::FeedServer, publisher::Publisher,
    start,
};

struct Scene {
    publisher: Publisher,
    authority: Authority,
    server: FeedServer,
    log: Log,
    surroundings: Surroundings,
    revoked: Issued,
    /// The complete CRL and the delta that are enforced at first.
    signed: [Vec<u8>; 2],
}

impl Scene {
    /// A service that enforces number 6, which revokes a client. The authority's feed is open or closed.
    async fn with_feed(is_closed: bool) -> (Self, RelyingParty, JoinSet<()>) {
        let publisher = Publisher::start().await;
        let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
        let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
        server.close(is_closed);
        server.vouch_from(Some(6));
        let revoked = authority.client("revoked_1");
        let signed = [authority.crl(5, &[&revoked]), authority.delta(6, 5, &[])];
        publisher.publish(|published| {
            let [complete, delta] = signed.clone();
            (published.issuing, published.delta) = (complete, Some(delta));
        });
        let surroundings = Surroundings::default();
        let scene = Self { log: Log::capture(), publisher, authority, server, surroundings, revoked, signed };
        let options = Options { feed: Some(scene.server.url()), ..scene.surroundings.options() };
        let identity = scene.authority.server("service0").identity();
        let (relying_party, upkeep) =
            RelyingParty::new(&identity, scene.authority.root.certificate(), options).unwrap();
        let tasks = upkeep.start();
        eventually("the CRL is in force", || in_force(&relying_party) == Some((6, 1))).await;
        (scene, relying_party, tasks)
    }

    fn url(&self) -> &str {
        &self.revoked.info.crl_urls[0]
    }

    fn refuses_revoked(&self, relying_party: &RelyingParty) -> bool {
        relying_party.live_set().check(std::slice::from_ref(&self.revoked.id()), start()).is_err()
    }

    fn publish(&self, number: i64, base: i64, revoked: &[&Issued], since: &[&Issued]) {
        self.publisher.publish(|published| {
            published.issuing = self.authority.crl(number, revoked);
            published.delta = Some(self.authority.delta(number, base, since));
        });
    }
}

fn in_force(relying_party: &RelyingParty) -> Option<(i64, usize)> {
    relying_party.live_set().freshness()[0].list.map(|list| (list.number.get(), list.revoked))
}

#[tokio::test]
async fn no_revocation_is_given_up_before_the_authority_has_it() {
    let (scene, relying_party, _tasks) = Scene::with_feed(false).await;
    // Restored from a copy that is older than what the service enforces.
    scene.server.vouch_from(None);
    // The base of the delta is not present, so the complete CRL is fetched. It lacks the revocation.
    scene.publish(20, 20, &[], &[]);
    eventually("it is refused", || scene.log.has(&["WARN", "CRL refused", "number 20", "lacks revocations"])).await;
    eventually("the CRLs are handed over", || !scene.server.handed_over().is_empty()).await;
    assert_eq!(in_force(&relying_party), Some((6, 1)));
    assert!(scene.refuses_revoked(&relying_party));
    let mut enforced = Vec::new();
    let handed_over = scene.server.handed_over().concat();
    scene.signed.iter().for_each(|der| enforced.push(handed_over.contains(&pem::crl(der))));
    assert_eq!(enforced, [true, true], "the complete CRL and the delta");
    assert!(scene.server.questions(scene.url()).iter().all(|numbers| *numbers == [5, 6] || *numbers == [5]));

    // The authority has accepted them. The CRL that was published before still lacks the revocation.
    scene.server.vouch_from(Some(21));
    let asked = scene.server.questions(scene.url()).len();
    eventually("it queries again", || scene.server.questions(scene.url()).len() > asked + 2).await;
    assert_eq!(in_force(&relying_party), Some((6, 1)));
    scene.publish(21, 21, &[&scene.revoked], &[]);
    eventually("the next CRL is in force", || in_force(&relying_party) == Some((21, 1))).await;
    assert!(scene.refuses_revoked(&relying_party));
    eventually("it is logged", || scene.log.lines(&["INFO", "nothing that was enforced is lacking"]).len() == 1).await;
    assert_eq!(scene.log.lines(&["WARN", "lacks revocations"]).len(), 1, "{:?}", scene.log.lines(&["CRL"]));
}

/// The authority accepts all of what it receives, or none of it.
#[tokio::test]
async fn a_damaged_file_does_not_prevent_the_handover_of_the_rest() {
    let (scene, _relying_party, _tasks) = Scene::with_feed(false).await;
    let delta = pki::certificate::Fingerprint::of(scene.url().as_bytes()).short() + ".delta.crl";
    let delta = scene.surroundings.crl_directory.path().join(delta);
    eventually("the delta is kept", || delta.exists()).await;
    std::fs::write(&delta, Authority::new().delta(6, 5, &[])).unwrap();
    scene.server.vouch_from(None);
    scene.publish(20, 20, &[], &[]);
    eventually("the CRLs are handed over", || !scene.server.handed_over().is_empty()).await;
    let handed_over = &scene.server.handed_over()[0];
    assert!(handed_over.contains(&pem::crl(&scene.signed[0])));
    assert_eq!(handed_over.matches("BEGIN X509 CRL").count(), 2, "and the root's CRL");
}

/// The authority refuses what is handed over. It must still be connected, and expect the service.
#[tokio::test]
async fn the_feed_stays_open_if_a_handover_is_refused() {
    // The CRL is not one of its own, or is too long.
    for refusal in [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::PAYLOAD_TOO_LARGE] {
        let (scene, relying_party, _tasks) = Scene::with_feed(false).await;
        eventually("it has confirmed", || scene.server.confirmed_last(scene.url()) == Some(6)).await;
        scene.server.know_nothing(refusal);
        for _ in 0..3 {
            let before = scene.server.requests().1;
            eventually("it confirms", || {
                scene.server.announce(&[(scene.url(), 6)]);
                scene.server.requests().1 > before
            })
            .await;
        }
        assert_eq!((scene.server.handed_over().len(), scene.server.requests().0), (1, 1));
        assert_eq!(relying_party.live_set().ready(start()), Ok(()));
    }
}

#[tokio::test]
async fn an_expired_certificate_leaves_the_crl_if_the_authority_vouches() {
    let (scene, relying_party, _tasks) = Scene::with_feed(false).await;
    scene.publish(20, 20, &[], &[]);
    eventually("the CRL is in force", || in_force(&relying_party) == Some((20, 0))).await;
    assert!(!scene.refuses_revoked(&relying_party));
    assert!(!scene.log.has(&["CRL refused"]), "{:?}", scene.log.lines(&["CRL"]));
}

#[tokio::test]
async fn no_revocation_is_given_up_while_the_authority_cannot_be_queried() {
    let (scene, relying_party, _tasks) = Scene::with_feed(true).await;
    for number in 20..25 {
        scene.publish(number, number, &[], &[]);
        let asked = scene.publisher.answers();
        eventually("it polls", || scene.publisher.answers() != asked).await;
    }
    eventually("it is refused", || scene.log.has(&["WARN", "CRL refused", "lacks revocations"])).await;
    assert_eq!(in_force(&relying_party), Some((6, 1)));
    assert!(scene.refuses_revoked(&relying_party));
    assert!(scene.server.questions(scene.url()).is_empty());

    scene.server.vouch_from(None);
    scene.server.close(false);
    eventually("the CRLs are handed over", || !scene.server.handed_over().is_empty()).await;
    scene.server.vouch_from(Some(30));
    scene.publish(30, 30, &[&scene.revoked], &[]);
    eventually("the next CRL is in force", || in_force(&relying_party) == Some((30, 1))).await;
    assert!(scene.refuses_revoked(&relying_party));
}

/// A delta of another history may fit a complete CRL of this one by its number. It is added to it, and the authority
/// receives the CRLs that it does not have.
#[tokio::test]
async fn the_base_of_a_delta_of_another_history_is_handed_over() {
    let (scene, relying_party, _tasks) = Scene::with_feed(false).await;
    let other = scene.authority.client("other_1");
    scene.server.vouch_from(None);
    scene.server.hang_up();
    scene.publisher.publish(|published| published.delta = Some(scene.authority.delta(20, 3, &[&other])));
    eventually("the delta is in force", || in_force(&relying_party) == Some((20, 2))).await;
    eventually("the authority is queried", || scene.server.questions(scene.url()).contains(&vec![5])).await;
    eventually("the CRLs are handed over", || !scene.server.handed_over().is_empty()).await;
    // The complete CRL of the authority lacks what was in ours.
    scene.publish(21, 21, &[&other], &[]);
    eventually("it is refused", || scene.log.has(&["WARN", "CRL refused", "lacks revocations"])).await;
    eventually("all of it is queried", || scene.server.questions(scene.url()).contains(&vec![5, 20])).await;
    assert!(scene.refuses_revoked(&relying_party));
}

/// Without a feed, no authority can be queried, so only the numbers are compared.
#[tokio::test]
async fn without_a_feed_the_higher_number_counts() {
    let publisher = Publisher::start().await;
    let (authority, surroundings) = (publisher.authority(), Surroundings::default());
    let revoked = authority.client("revoked_1");
    publisher.publish(|published| published.issuing = authority.crl(5, &[&revoked]));
    let identity = authority.server("service0").identity();
    let options = surroundings.options();
    let (relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
    let _tasks = upkeep.start();
    eventually("the CRL is in force", || in_force(&relying_party) == Some((5, 1))).await;
    publisher.publish(|published| published.issuing = authority.crl(6, &[]));
    eventually("the next CRL is in force", || in_force(&relying_party) == Some((6, 0))).await;
}
