//! A daemon whose database is an older copy than the CRLs that relying parties enforce.

use pki::{
    crl::{DeltaDraft, RevokedEntry},
    issuing::CertificateAuthority,
    pem,
};

use super::*;
use crate::issuer::CrlKind;

/// An instance that is in the database, and its secret.
pub(super) fn known(identity: &Identity, octet: u8) -> (RelyingParty, Secret) {
    let secret = Secret::from_bytes([octet; 32]);
    let record = RelyingParty {
        name: identity.info().display_name(),
        serial: identity.info().id.serial,
        instance: InstanceId::of(&secret),
        address: "127.0.0.1:1".to_owned(),
        crl_number: Some(CrlNumber::FIRST),
        root_crl_number: None,
        claims: None,
        admits_until: None,
        grace: 0,
        open_connections: 0,
        first_seen: now(),
        connected_since: None,
        last_seen: now(),
        certificate_revoked: false,
    };
    (record, secret)
}

#[tokio::test]
async fn an_unproven_claim_changes_nothing() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(1));
    for claimed in [SECOND + 57, 5_000_000_000, i64::MAX] {
        assert_eq!(peer.confirm(claimed, 0).await, StatusCode::CONFLICT, "the daemon asks for that CRL");
    }
    assert!(daemon.readiness().await.starts_with("HTTP/1.1 200"));
    let mut answers = ask(&fixture, wait(1, 0)).await;
    let missing = loop {
        match answers.next().await.unwrap().unwrap() {
            Confirmed::Missing(missing) => break missing,
            Confirmed::Enforced { .. } => panic!("a number of another history does not confirm this CRL number 1"),
            _ => {}
        }
    };
    assert_eq!(missing.len(), 1);
    // The numbers continue as before, by the clock.
    let client = fixture.issue("client_1", 20).await;
    assert_eq!(revoke_elsewhere(&fixture, client).await, SECOND);
    feed.until(SECOND).await;
    tasks::publish_due(&fixture.authority, Contact::Full, now().plus(Duration::from_hours(9))).await.unwrap();
    assert_eq!(fixture.published().await.0.get(), SECOND + 9 * 3600);
    daemon.stop().await;
}

#[tokio::test]
async fn lost_revocations_are_taken_back_from_a_relying_party() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let (service, other) = (service(&fixture, "service0", 30).await, service(&fixture, "service1", 31).await);
    let (records, [secret, others_secret]): (Vec<_>, [_; 2]) = {
        let [(one, secret), (two, others_secret)] = [known(&service, 1), known(&other, 2)];
        (vec![one, two], [secret, others_secret])
    };
    let known = fixture.issue("client_1", 20).await;
    fixture.authority.store().record_relying_parties(&records, &[]).await.unwrap();
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let stranger = fixture.issue("client_2", 21).await;
    revoke_elsewhere(&fixture, known).await;
    let complete = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    let number = revoke_elsewhere(&fixture, stranger).await;
    let delta = fixture.authority.store().signed(Issuer::Issuing, CrlKind::Delta).await.unwrap().unwrap().der;
    let fixture = fixture.restored_from(&copy).await;

    // Nine hours later, so that a new CRL is due at the start.
    let daemon = Running::start_at(&fixture, now().plus(Duration::from_hours(9))).await;
    let mut peer = Peer { secret, ..daemon.connect(&service, &fixture).await };
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(1), "nothing is published before a relying party has reported");
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::FORBIDDEN, "the daemon has not asked for it");
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);

    assert_eq!(peer.hand_over("no CRL").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::FORBIDDEN, "it was asked once");
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    let elsewhere = Fixture::new().await.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    assert_eq!(
        peer.hand_over(&pem::crl(&elsewhere)).await,
        StatusCode::UNPROCESSABLE_ENTITY,
        "signed by another issuer"
    );
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    assert_eq!(peer.hand_over(&(pem::crl(&delta) + &pem::crl(&complete))).await, StatusCode::NO_CONTENT);
    // Another instance may enforce more, and is waited for.
    let mut other = Peer { secret: others_secret, ..daemon.connect(&other, &fixture).await };
    let mut others_feed = other.feed().await.unwrap();
    assert_eq!(others_feed.next().await, Some(1));
    assert_eq!(peer.confirm(number, 0).await, StatusCode::NO_CONTENT, "it is known now");
    assert_eq!(fixture.published().await.0, CrlNumber::FIRST);
    assert_eq!(other.confirm(number, 0).await, StatusCode::NO_CONTENT);
    while others_feed.next().await.is_some_and(|newest| newest <= number) {}
    let (published, mut revoked) = fixture.published().await;
    assert!(published.get() > number, "{published}");
    revoked.sort();
    assert_eq!(revoked, [known, stranger]);
    feed.until(published.get()).await;
    assert!(daemon.readiness().await.starts_with("HTTP/1.1 200"));
    let client = identity(&fixture, Profile::Client, "client_3", 22).await;
    let mut client = daemon.connect(&client, &fixture).await;
    assert_eq!(client.hand_over(&pem::crl(&complete)).await, StatusCode::FORBIDDEN);
    daemon.stop().await;
}

#[tokio::test]
async fn lost_revocations_are_taken_back_from_files() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let known = fixture.issue("client_1", 20).await;
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let stranger = fixture.issue("client_2", 21).await;
    // A delta to a complete CRL that the copy does not have.
    revoke_elsewhere(&fixture, known).await;
    let base = fixture.authority.store().crl(Issuer::Issuing).await.unwrap();
    let signer = CertificateAuthority::load(
        fixture.authority.certificate(Issuer::Issuing).clone(),
        mtls::tls::load_key(&fixture.directory.key(Issuer::Issuing)).unwrap(),
        fixture.authority.settings().publication(Issuer::Issuing),
    );
    let entry = RevokedEntry { serial: stranger, revoked_at: now(), reason: RevocationReason::Superseded };
    let delta = DeltaDraft {
        number: base.head.number.next(),
        base: base.head.number,
        this_update: now(),
        next_update: now().plus(Duration::from_hours(24)),
        revoked: vec![entry],
    };
    let delta = signer.unwrap().sign_delta(&delta).unwrap();
    let fixture = fixture.restored_from(&copy).await;
    let files = ["complete.crl", "delta.crl"].map(|name| before.path().join(name));
    std::fs::write(&files[0], pem::crl(&base.der)).unwrap();
    std::fs::write(&files[1], &delta).unwrap();
    let [complete, delta] = files.each_ref().map(|file| file.to_str().unwrap());
    let clock = Clock::manual(now());
    let import = async |arguments: &[&str]| {
        execute(&fixture.directory, &clock, &[&["--json", "crl", "--import"], arguments].concat()).await
    };
    assert_eq!(import(&[delta]).await, 4, "what it adds to is missing");
    assert_eq!(fixture.published().await, (CrlNumber::FIRST, Vec::new()), "all or nothing");
    assert_eq!(import(&[delta, complete]).await, 0);
    let (number, mut revoked) = fixture.published().await;
    revoked.sort();
    assert_eq!(revoked, [known, stranger]);
    assert_eq!(import(&[complete, delta]).await, 0);
    assert_eq!(fixture.published().await.0, number, "nothing new, so nothing was published");
}

#[tokio::test]
async fn an_unused_number_is_noticed_below_higher_ones() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let service = service(&fixture, "service0", 30).await;
    let (forgotten, other) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let number = revoke_elsewhere(&fixture, forgotten).await;
    let complete = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    let fixture = fixture.restored_from(&copy).await;
    // A revocation before any relying party has reported.
    let later = now().plus(Duration::from_mins(10));
    let newest = fixture.authority.revoke(&[other], RevocationReason::Unspecified, later).await.unwrap().crl;
    assert!(newest.get() > number);

    let daemon = Running::start_at(&fixture, later).await;
    let mut peer = daemon.connect(&service, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT, "that number was used");
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::NO_CONTENT);
    assert_eq!(peer.confirm(number, 0).await, StatusCode::NO_CONTENT);
    let mut revoked = fixture.authority.store().revoked_after(0).await.unwrap().0;
    revoked.sort();
    assert_eq!(revoked, [forgotten, other]);
    while feed.next().await.is_some_and(|announced| announced <= newest.get()) {}
    let (_, mut revoked) = fixture.published().await;
    revoked.sort();
    assert_eq!(revoked, [forgotten, other]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_relying_party_that_only_a_crl_revokes_is_removed_from_the_feed() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    // Neither its certificate nor its revocation is in the copy.
    let revoked = service(&fixture, "service0", 30).await;
    let number = revoke_elsewhere(&fixture, revoked.info().id.serial).await;
    let complete = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    let fixture = fixture.restored_from(&copy).await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&revoked, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::NO_CONTENT);
    while feed.next().await.is_some() {}
    assert_eq!(peer.feed().await.err().map(|(status, _)| status), Some(StatusCode::FORBIDDEN));
    assert_eq!(peer.confirm(1, 0).await, StatusCode::FORBIDDEN);
    daemon.stop().await;
}

#[tokio::test]
async fn taken_back_revocations_are_in_every_crl_from_the_next_number_on() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let service = service(&fixture, "service0", 30).await;
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let forgotten = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, forgotten).await;
    let complete = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    let fixture = fixture.restored_from(&copy).await;
    // A higher number is used before any instance reports what is missing.
    let other = fixture.issue("client_2", 21).await;
    let later = now().plus(Duration::from_mins(1));
    let lacking = fixture.authority.revoke(&[other], RevocationReason::Unspecified, later).await.unwrap().crl.get();
    assert!(lacking > number);

    let daemon = Running::start_at(&fixture, later).await;
    let mut peer = daemon.connect(&service, &fixture).await;
    assert_eq!(peer.known(&[1, lacking]).await, Some(lacking), "later CRLs contain what this one revoked");
    assert_eq!(peer.known(&[number]).await, None);
    assert_eq!(peer.known(&[number, lacking]).await, None, "all of it has to be known");
    assert_eq!(peer.known(&[]).await, None);
    assert_eq!(peer.known(&[lacking; KNOWN_NUMBERS + 1]).await, None, "too many are not looked up");
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::NO_CONTENT);
    let from = peer.known(&[number, lacking]).await.unwrap();
    assert!(from > lacking, "{from}: what was published before lacks it");
    fixture.authority.publish(Issuer::Issuing, later).await.unwrap();
    let (published, mut revoked) = fixture.published().await;
    revoked.sort();
    assert!(published.get() >= from);
    assert_eq!(revoked, [forgotten, other]);

    let client = identity(&fixture, Profile::Client, "client_3", 22).await;
    let mut client = daemon.connect(&client, &fixture).await;
    assert_eq!(client.ask_known(b"{\"crls\":{}}".to_vec()).await.status(), StatusCode::FORBIDDEN);
    let large = vec![b' '; 16 * 1024];
    assert_eq!(peer.ask_known(large).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    daemon.stop().await;
}

/// With many revocations, numbers run ahead of the clock. If the mark is missing as well, a lost number may be higher
/// than one that was used since, and that one does not contain its revocations.
#[tokio::test]
async fn a_taken_back_crl_does_not_contain_later_revocations() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let service = service(&fixture, "service0", 30).await;
    let [lost, client] = [fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await];
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    let ahead = now().plus(Duration::from_hours(1));
    let number = fixture.authority.revoke(&[lost], RevocationReason::Unspecified, ahead).await.unwrap().crl.get();
    let complete = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    std::fs::remove_file(fixture.directory.mark()).unwrap();
    let fixture = fixture.restored_from(&copy).await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    let since = revoke_elsewhere(&fixture, client).await;
    assert!(since < number);
    assert_eq!(peer.confirm(number, 0).await, StatusCode::CONFLICT);
    assert_eq!(peer.hand_over(&pem::crl(&complete)).await, StatusCode::NO_CONTENT);
    assert_eq!(peer.confirm(number, 0).await, StatusCode::NO_CONTENT);
    let mut answers = ask(&fixture, wait(since, 0)).await;
    loop {
        match answers.next().await.unwrap().unwrap() {
            Confirmed::Missing(missing) => break assert_eq!(missing.len(), 1),
            Confirmed::Enforced { .. } => panic!("its list does not have client_2"),
            _ => {}
        }
    }
    daemon.stop().await;
}

/// A command opens the new file; the daemon still has the old one open.
#[tokio::test]
async fn a_daemon_whose_files_were_replaced_reports_no_confirmations() {
    let (fixture, before) = (Fixture::new().await, tempfile::tempdir().unwrap());
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
    let copy = before.path().join("ca.db");
    fixture.copy_database(&copy).await;
    std::fs::rename(&copy, fixture.directory.database()).unwrap();
    let mut answers = ask(&fixture, wait(1, 0)).await;
    assert!(matches!(answers.next().await.unwrap(), Some(Confirmed::Failed(_))));
    assert_eq!(answers.next().await.unwrap(), None);
    daemon.kill().await;
}
