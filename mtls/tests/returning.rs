//! A client that comes back: its path was verified before, and nothing else is taken for granted.

use std::time::Duration;

use mtls::clock::Clock;
use pki::key::KeyPair;
use rustls::AlertDescription;

use crate::common::{Authority, Client, DAY, Service, start};

#[tokio::test]
async fn who_comes_back_is_judged_anew() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client_from("client_1", start(), DAY / 2);
    let (valid, clock, of_clients) = (issued.info.validity, &service.clock, Clock::manual(start()));
    // Each time a client that knows of no earlier session.
    let come_with = |key: &KeyPair| Client::presenting(&authority, issued.chain.clone(), key, &of_clients);
    for times in 1..=2 {
        assert_eq!(come_with(&issued.key).get(service.address).await.status, 200);
        assert_eq!(service.accepted("Full"), times);
    }

    let thief = come_with(&KeyPair::generate().unwrap());
    assert_eq!(thief.refused(service.address).await.alert(), AlertDescription::DecryptError);
    for (at, reason) in [
        (valid.not_before.minus(Duration::from_secs(1)), "NotYetValid"),
        (valid.not_after.plus(Duration::from_secs(1)), "Expired"),
    ] {
        clock.set(at);
        let refused = come_with(&issued.key).refused(service.address).await;
        assert_eq!(refused.alert(), AlertDescription::CertificateExpired, "{reason}");
        assert_eq!(service.handshakes_refused(reason), 1);
    }

    clock.set(start());
    assert_eq!(come_with(&issued.key).get(service.address).await.status, 200);
    service.install(&authority.crl(2, &[&issued]));
    let refused = come_with(&issued.key).refused(service.address).await;
    assert_eq!(refused.alert(), AlertDescription::CertificateRevoked);
}

#[tokio::test]
async fn who_comes_back_beneath_a_revoked_authority_is_refused() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    let come = || Client::presenting(&authority, issued.chain.clone(), &issued.key, &service.clock);
    assert_eq!(come().get(service.address).await.status, 200);
    service.install(&authority.root_crl(2, &[authority.issuing.info().id.serial]));
    assert_eq!(come().refused(service.address).await.alert(), AlertDescription::CertificateRevoked);
}
