//! What relying parties report about themselves, and what it changes.

use pki::{issuing::CertificateAuthority, policy::Policy};

use super::*;

#[tokio::test]
async fn an_invalid_confirmation_is_refused_and_does_not_prevent_a_start() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    for number in ["-1", "-9223372036854775808", "9223372036854775808", "null", "\"1\""] {
        let word =
            format!("{{\"crls\":{{\"{ISSUING}\":{number}}},\"admitsUntil\":null,\"ended\":0,\"openConnections\":0}}");
        assert_eq!(peer.confirm_with(word.into_bytes()).await, StatusCode::BAD_REQUEST, "{number}");
    }
    // Added to what was counted before.
    for ended in [u64::MAX, u64::MAX] {
        assert_eq!(peer.confirm(1, ended).await, StatusCode::NO_CONTENT);
    }
    daemon.stop().await;
    Running::start(&fixture).await.stop().await;
    assert_eq!(execute(&fixture.directory, &Clock::manual(now()), &["--json", "relying-parties"]).await, 0);
}

/// With the issuing CA's key, an attacker can make certificates with any name and serial number. If the CA is revoked
/// for that, such certificates must not confirm for a relying party.
#[tokio::test]
async fn below_a_revoked_issuing_ca_only_recorded_certificates_confirm() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let recorded = service(&fixture, "service0", 30).await;
    let settings = fixture.authority.settings();
    let stolen = CertificateAuthority::load(
        fixture.authority.certificate(Issuer::Issuing).clone(),
        mtls::tls::load_key(&fixture.directory.key(Issuer::Issuing)).unwrap(),
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
    let _thiefs_feed = thief.feed().await.unwrap();
    assert_eq!(thief.confirm(1, 0).await, StatusCode::NO_CONTENT, "it is not known yet");
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
