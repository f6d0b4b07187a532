//! What the daemon publishes by itself, and what it waits for first.

use pki::pem;

use super::*;

/// Waits for no relying party, and checks the clock all the time.
const IMPATIENT: Pace =
    Pace { first_contact: Duration::ZERO, look: Duration::from_millis(20), coalescing: Duration::ZERO };

fn hours(hours: u64) -> Timestamp {
    now().plus(Duration::from_hours(hours))
}

/// Waits this long for every known relying party, and for the CRLs of one that claims to enforce more.
const WAITED: Duration = Duration::from_secs(6);

async fn impatient(fixture: &Fixture, now: Timestamp) -> Running {
    let authority = Authority::open(&fixture.directory).await.unwrap();
    Running::start_with(authority, fixture, now, IMPATIENT).await
}

async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_late_service_that_the_copy_has_is_waited_for() {
    let fixture = Fixture::new().await;
    let service = service(&fixture, "service0", 30).await;
    let client = fixture.issue("client_1", 20).await;
    let (record, _) = restored::known(&service, 1);
    fixture.authority.store().record_relying_parties(&[record], &[]).await.unwrap();
    come_back_late(fixture, service, client, "no report since the start from service0").await;
}

#[tokio::test]
async fn a_service_that_the_copy_lacks_is_waited_for() {
    let fixture = Fixture::new().await;
    let service = service(&fixture, "service0", 30).await;
    let client = fixture.issue("client_1", 20).await;
    come_back_late(fixture, service, client, "no relying party was ever on the feed").await;
}

/// The copy is older than a third of a CRL's life when it is restored. The mark is restored with it, as with a backup
/// of the whole directory, so it shows nothing.
async fn come_back_late(fixture: Fixture, service: Identity, client: Serial, said: &str) {
    let before = tempfile::tempdir().unwrap();
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let mark = std::fs::read(fixture.directory.mark()).unwrap();
    let number = revoke_elsewhere(&fixture, client).await;
    let enforced = pem::crl(&fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der);
    std::fs::write(fixture.directory.mark(), mark).unwrap();
    let fixture = fixture.restored_from(&copy).await;

    let authority = Authority::open(&fixture.directory).await.unwrap();
    let pace = Pace { first_contact: WAITED, ..IMPATIENT };
    let daemon = Running::start_with(authority, &fixture, hours(9), pace).await;
    let readiness = daemon.readiness().await;
    assert!(readiness.starts_with("HTTP/1.1 200") && readiness.contains(said), "{readiness}");
    let mut peer = Peer { secret: Secret::from_bytes([1; 32]), ..daemon.connect(&service, &fixture).await };
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(1));
    for heartbeat in 0..2 {
        assert_eq!(feed.next().await, Some(1), "{heartbeat}: a third of a life, and the time to wait, were long over");
    }
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    assert_eq!(peer.hand_over(&enforced).await, StatusCode::NO_CONTENT);
    assert_eq!(peer.confirm(number, 0).await, StatusCode::NO_CONTENT);
    while feed.next().await.is_some_and(|newest| newest <= number) {}
    let (published, revoked) = fixture.published().await;
    assert!(published.get() > number);
    assert_eq!(revoked, [client]);
    until("all have reported", async || daemon.readiness().await.ends_with("\r\n\r\nready\n")).await;
    daemon.stop().await;
}

/// A dead relying party that was not forgotten is waited for after a start, but not until a CRL becomes stale.
#[tokio::test]
async fn a_crl_near_its_end_is_replaced_during_the_wait_for_a_relying_party() {
    let fixture = Fixture::new().await;
    let service = service(&fixture, "service0", 30).await;
    let (record, _) = restored::known(&service, 1);
    fixture.authority.store().record_relying_parties(&[record], &[]).await.unwrap();
    let authority = Authority::open(&fixture.directory).await.unwrap();
    let pace = Pace { first_contact: Duration::from_hours(1), ..IMPATIENT };
    let daemon = Running::start_with(authority, &fixture, hours(21), pace).await;
    daemon.clock.set(hours(22));
    until("the next one is published", async || fixture.published().await.0.get() == hours(22).unix()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn without_reports_a_crl_is_replaced_only_near_its_end() {
    let fixture = Fixture::new().await;
    let daemon = impatient(&fixture, hours(9)).await;
    daemon.clock.set(hours(22));
    until("the next one is published", async || fixture.published().await.0.get() == hours(22).unix()).await;
    daemon.stop().await;
    // A daemon that is started near the end of a CRL, or after it, does not wait either.
    for late in [47, 100] {
        impatient(&fixture, hours(late)).await.stop().await;
        assert_eq!(fixture.published().await.0.get(), hours(late).unix());
    }
}

#[tokio::test]
async fn a_large_complete_crl_is_signed_a_moment_after_the_revocations() {
    let fixture = Fixture::new().await;
    let other = fixture.coalescing_above(2).await;
    for serial in 20..25 {
        let client = fixture.issue("client", serial).await;
        other.revoke(&[client], RevocationReason::Unspecified, now()).await.unwrap();
    }
    let newest = async || fixture.authority.store().newest(Issuer::Issuing).await.unwrap();
    assert!(newest().await.complete < newest().await.number, "it was left behind");
    let daemon = Running::start_with(fixture.coalescing_above(2).await, &fixture, now(), IMPATIENT).await;
    until("it is signed", async || newest().await.complete == newest().await.number).await;
    assert_eq!(fixture.published().await.1.len(), 5);
    daemon.stop().await;
}

/// Other instances may enforce more than the first one that hands over. A CRL without that would have a higher number.
#[tokio::test]
async fn nothing_is_published_before_all_have_handed_over() {
    let fixture = Fixture::new().await;
    let services = [service(&fixture, "service0", 30).await, service(&fixture, "service1", 31).await];
    let [forgotten, also, new] =
        [fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await, fixture.issue("client_3", 22).await];
    let before = tempfile::tempdir().unwrap();
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let mark = std::fs::read(fixture.directory.mark()).unwrap();
    let mut lists = Vec::new();
    for client in [forgotten, also] {
        let number = revoke_elsewhere(&fixture, client).await;
        lists.push((number, pem::crl(&fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der)));
    }
    std::fs::write(fixture.directory.mark(), mark).unwrap();
    let fixture = fixture.restored_from(&copy).await;

    // No instance is known, then two that enforce what the copy has. They show when the first contact is over.
    let patient = Pace { first_contact: Duration::from_mins(10), coalescing: Duration::from_secs(2), ..IMPATIENT };
    let large = fixture.coalescing_above(0).await;
    let daemon = Running::start_with(fixture.coalescing_above(0).await, &fixture, hours(9), patient).await;
    let mut peers = Vec::new();
    for identity in &services {
        let mut peer = daemon.connect(identity, &fixture).await;
        let feed = peer.feed().await.unwrap();
        assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
        peers.push((peer, feed));
    }
    for (_, feed) in &mut peers {
        feed.until(hours(9).unix()).await;
    }
    let newest = async || fixture.authority.store().newest(Issuer::Issuing).await.unwrap();
    until("the complete one is there, too", async || newest().await.complete == newest().await.number).await;
    for ((peer, _), (number, _)) in peers.iter_mut().zip(&lists) {
        assert_eq!(peer.confirm(*number, 0).await, StatusCode::CONFLICT);
    }
    assert_eq!(peers[0].0.hand_over(&lists[0].1).await, StatusCode::NO_CONTENT);
    assert_eq!(peers[0].0.confirm(lists[0].0, 0).await, StatusCode::NO_CONTENT);
    // A revocation leaves the complete CRL to the daemon, which does not sign it either.
    let complete = newest().await.complete;
    let revoked = large.revoke(&[new], RevocationReason::Unspecified, hours(9)).await.unwrap().crl.get();
    peers[1].1.until(revoked).await;
    assert_eq!(peers[1].1.next().await, Some(revoked), "a heartbeat");
    assert_eq!(newest().await.complete, complete);

    assert_eq!(peers[1].0.hand_over(&lists[1].1).await, StatusCode::NO_CONTENT);
    assert_eq!(peers[1].0.confirm(lists[1].0, 0).await, StatusCode::NO_CONTENT);
    until("what was taken back is published", async || fixture.published().await.1.len() == 3).await;
    daemon.stop().await;
}
