//! What relying parties say of themselves, and how far it counts.

use pki::{issuing::CertificateAuthority, policy::Policy};

use super::*;

/// The name of a service by default, and an identity that was copied: what both have confirmed is enforced, and nothing else.
#[tokio::test]
async fn of_two_relying_parties_with_one_name_none_confirms_for_the_other() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let client = fixture.issue("client_1", 20).await;
    let copied = service(&fixture, "service0", 30).await;
    let others = [&service(&fixture, "service0", 31).await, &copied, &copied];
    let instances = [None, Some("one"), Some("another")];
    let mut peers = Vec::new();
    for (identity, instance) in others.into_iter().zip(instances) {
        let mut peer = daemon.connect(identity, &fixture).await;
        let mut feed = peer.feed().await.unwrap();
        assert_eq!(feed.next().await, Some(1));
        assert_eq!(peer.confirm_as(instance, 1, 0).await, StatusCode::NO_CONTENT);
        peers.push((peer, feed));
    }
    let number = revoke_elsewhere(&fixture, client).await;
    for ((peer, feed), instance) in peers.iter_mut().zip(instances) {
        feed.until(number).await;
        // Not before all of them have said so.
        let mut answers = ask(&fixture, wait(number, 0)).await;
        let enforced = loop {
            match answers.answer().await.unwrap().unwrap() {
                Answer::Enforced { name, .. } => panic!("{name}, {instance:?} has not confirmed"),
                Answer::Missing(missing) => break missing,
                _ => {}
            }
        };
        assert_eq!(enforced.len(), 1);
        assert_eq!(peer.confirm_as(instance, number, 0).await, StatusCode::NO_CONTENT);
    }
    let mut answers = ask(&fixture, wait(number, 60_000)).await;
    while !matches!(answers.answer().await.unwrap().unwrap(), Answer::Enforced { .. }) {}
    daemon.stop().await;
}

#[tokio::test]
async fn a_word_that_is_none_is_refused_and_keeps_no_daemon_from_starting() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    for number in ["-1", "-9223372036854775808", "9223372036854775808", "null", "\"1\""] {
        let word =
            format!("{{\"crls\":{{\"{ISSUING}\":{number}}},\"admitsUntil\":null,\"ended\":0,\"openConnections\":0}}");
        assert_eq!(peer.confirm_with(word.into_bytes()).await, StatusCode::BAD_REQUEST, "{number}");
    }
    // What was counted before is added to.
    for ended in [u64::MAX, u64::MAX] {
        assert_eq!(peer.confirm(1, ended).await, StatusCode::NO_CONTENT);
    }
    daemon.stop().await;
    Running::start(&fixture).await.stop().await;
    assert_eq!(execute(&fixture.directory, &Clock::manual(now()), &["--json", "relying-parties"]).await, 0);
}

/// Whoever has the key of the issuing CA makes certificates of any name and number. When that is why it is revoked, they are not to say
/// for a relying party that it enforces it.
#[tokio::test]
async fn beneath_a_revoked_issuing_ca_nobody_speaks_whose_certificate_was_not_recorded() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let recorded = service(&fixture, "service0", 30).await;
    let settings = fixture.authority.settings();
    let stolen = CertificateAuthority::load(
        fixture.authority.certificate(Issuer::Issuing).clone(),
        mtls::identity::load_key(&fixture.directory.key(Issuer::Issuing)).unwrap(),
        settings.publication(Issuer::Issuing),
    );
    let key = KeyPair::generate().unwrap();
    let order = OperatorOrder {
        profile: Profile::Server,
        subject: "service0".parse().unwrap(),
        organization: None,
        hosts: Host::local(),
        public_key: PublicKey::from_spki(&key.spki()).unwrap(),
        lifetime: Duration::from_hours(48),
    };
    let approved = Policy { trust_domain: settings.trust_domain.clone() }.by_operator(order).unwrap();
    let forged = stolen.unwrap().issue(&approved, recorded.info().id.serial, now()).unwrap();
    let forged = Identity::new(fixture.authority.chain(forged.der), key).unwrap();
    let mut thief = daemon.connect(&forged, &fixture).await;
    assert_eq!(thief.confirm(1, 0).await, StatusCode::NO_CONTENT, "nobody can know yet");
    let mut peer = daemon.connect(&recorded, &fixture).await;
    let _feed = peer.feed().await.unwrap();

    let root = fixture.authority.root_signer().unwrap();
    fixture.authority.revoke_issuing(RevocationReason::CaCompromise, root, now()).await.unwrap();
    assert_eq!(thief.confirm(1, 0).await, StatusCode::FORBIDDEN);
    let (_, body) = thief.feed().await.err().unwrap();
    assert!(body.contains("/problems/certificate-unknown"), "{body}");
    assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
    daemon.stop().await;
}
