//! A peer that returns to a service or a client. Its path was verified before, but everything else is checked again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edge::{clock::Clock, errors::find};
use mtls::tls::mutual_tls;
use pki::key::KeyPair;
use rustls::{AlertDescription, CertificateError, ClientConfig, HandshakeKind, client::Resumption};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::common::{Authority, Client, DAY, Service, start};

#[tokio::test]
async fn a_returning_client_is_checked_again() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client_from("client_1", start(), DAY / 2);
    let (valid, clock, of_clients) = (issued.info.validity, &service.clock, Clock::manual(start()));
    // Each time a client without earlier sessions.
    let come_with = |key: &KeyPair| Client::presenting(&authority, issued.chain.clone(), key, &of_clients);
    for times in 1..=2 {
        assert_eq!(come_with(&issued.key).get(service.address).await.status, 200);
        assert_eq!(service.accepted("full"), times);
    }

    let thief = come_with(&KeyPair::generate().unwrap());
    assert_eq!(thief.refused(service.address).await.alert(), AlertDescription::DecryptError);
    for (at, reason) in [
        (valid.not_before.minus(Duration::from_secs(1)), "not_yet_valid"),
        (valid.not_after.plus(Duration::from_secs(1)), "expired"),
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
async fn a_returning_client_below_a_revoked_authority_is_refused() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    let come = || Client::presenting(&authority, issued.chain.clone(), &issued.key, &service.clock);
    assert_eq!(come().get(service.address).await.status, 200);
    service.install(&authority.root_crl(2, &[authority.issuing.info().id.serial]));
    assert_eq!(come().refused(service.address).await.alert(), AlertDescription::CertificateRevoked);
}

/// A client's verdict on the server at this address with this expected name, in a full handshake.
async fn judge(client: &ClientConfig, address: SocketAddr, name: &'static str) -> Option<CertificateError> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    match TlsConnector::from(Arc::new(client.clone())).connect(name, stream).await {
        Ok(stream) => {
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            None
        }
        Err(error) => match find::<rustls::Error>(&error) {
            Some(rustls::Error::InvalidCertificate(why)) => Some(why.clone()),
            _ => panic!("{error}"),
        },
    }
}

#[tokio::test]
async fn a_known_server_is_checked_again_for_time_and_name() {
    let authority = Authority::new();
    let (service, clock) = (Service::start(&authority).await, Clock::manual(start()));
    let mut client =
        mutual_tls(&authority.client("client_1").identity(), authority.root.certificate(), &clock).unwrap();
    // A resumed session would skip the verifier.
    client.resumption = Resumption::disabled();
    for _ in 1..=2 {
        assert_eq!(judge(&client, service.address, "localhost").await, None);
    }
    let other_name = judge(&client, service.address, "other.fleet").await;
    assert!(matches!(other_name, Some(CertificateError::NotValidForNameContext { .. })), "{other_name:?}");
    clock.set(start().plus(DAY * 61));
    let expired = judge(&client, service.address, "localhost").await;
    assert!(matches!(expired, Some(CertificateError::ExpiredContext { .. })), "{expired:?}");
    clock.set(start());
    assert_eq!(judge(&client, service.address, "localhost").await, None);
}
