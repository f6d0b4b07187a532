//! What happens to a client after it was admitted: its resumed sessions and its open connections.

use http::StatusCode;
use http_body_util::BodyExt as _;
use mtls::revocation::Installed;
use pki::serial::Serial;
use rustls::{AlertDescription, HandshakeKind};

use crate::common::{Authority, Client, DAY, Http, Log, PATIENCE, Service, eventually, start};

#[tokio::test]
async fn a_session_is_resumed_until_its_client_is_revoked() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    let issued = authority.client("client_1");
    let client = Client::new(&authority, &issued, Http::One, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);

    let mut resumed = client.open(service.address).await;
    assert_eq!(resumed.kind, HandshakeKind::Resumed);
    assert!(resumed.get().await.unwrap().body.contains("client_1"), "the peer is known without its certificate");
    assert_eq!((service.accepted("full"), service.accepted("resumed")), (1, 1));

    service.install(&authority.crl(2, &[&issued]));
    let refused = client.refused(service.address).await;
    assert_eq!(refused.kind, Some(HandshakeKind::Full), "its session was dropped, so that it receives the reason");
    assert_eq!(refused.alert(), AlertDescription::CertificateRevoked);
    eventually("the refusal is counted", || service.handshakes_refused("revoked") == 1).await;
    assert!(log.has(&["handshake refused", "client_1", "is revoked", "from=127.0.0.1:"]), "{:?}", log.lines(&[]));
    assert_eq!((service.accepted("full"), service.accepted("resumed")), (1, 1));
}

/// A CRL with the same entries is no reason for a full handshake.
#[tokio::test]
async fn sessions_survive_a_crl_without_new_revocations() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    let client = Client::new(&authority, &authority.client("client_1"), Http::One, &service.clock);
    let kind = async || client.open(service.address).await.kind;
    let delta = |number, revoked: &[&_]| {
        service.live().install_delta(&authority.delta(number, 1, revoked), service.clock.now()).unwrap();
    };
    delta(2, &[&one]);
    // A session is available once an answer was read on the previous connection.
    assert_eq!(client.get(service.address).await.status, 200);
    delta(3, &[&one]);
    assert_eq!(kind().await, HandshakeKind::Resumed);
    assert_eq!(client.get(service.address).await.status, 200);
    delta(4, &[&one, &two]);
    assert_eq!(kind().await, HandshakeKind::Full);
}

#[tokio::test]
async fn a_session_of_a_client_below_a_revoked_authority_is_not_resumed() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let mut open = client.open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    service.install(&authority.root_crl(2, &[authority.issuing.info().id.serial]));
    assert_eq!(client.refused(service.address).await.alert(), AlertDescription::CertificateRevoked);
    eventually("the refusal is counted", || service.handshakes_refused("revoked") == 1).await;
    assert!(open.get().await.is_err(), "the open connection below it has ended");
}

#[tokio::test]
async fn a_session_is_not_resumed_beyond_the_certificate_or_without_a_fresh_crl() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client_from("client_1", start(), DAY / 2);
    let client = Client::new(&authority, &issued, Http::One, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);
    service.clock.set(issued.info.validity.not_after.plus(std::time::Duration::from_secs(1)));
    assert_eq!(client.refused(service.address).await.kind, Some(HandshakeKind::Resumed));
    eventually("the refusal is counted", || service.handshakes_refused("expired") == 1).await;

    let client = Client::new(&authority, &authority.client("client_2"), Http::One, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);
    service.clock.set(start().plus(DAY).plus(std::time::Duration::from_secs(1)));
    assert_eq!(client.refused(service.address).await.kind, Some(HandshakeKind::Resumed));
    eventually("the refusal is counted", || service.handshakes_refused("no_fresh_crl") == 1).await;
    assert_eq!(service.accepted("resumed"), 0);
}

#[tokio::test]
async fn the_open_connection_of_a_revoked_client_ends_and_nobody_elses() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    for (number, http) in [(2, Http::One), (3, Http::Two)] {
        let (issued, other) = (authority.client("client_1"), authority.client("other_1"));
        let client = Client::new(&authority, &issued, http, &service.clock);
        let (mut open, mut busy) = (client.open(service.address).await, client.open(service.address).await);
        let mut untouched = Client::new(&authority, &other, http, &service.clock).open(service.address).await;
        for connection in [&mut open, &mut untouched] {
            assert_eq!(connection.get().await.unwrap().status, 200);
        }
        let mut endless = busy.start("/endless").await.unwrap();
        assert!(service.live().open_connections() >= 3);

        let installed = service.live().install(&authority.crl(number, &[&issued]), service.clock.now()).unwrap();
        assert!(matches!(installed, Installed::Replaced { ended: 2, .. }), "{installed:?}");
        let cut = tokio::time::timeout(PATIENCE, endless.frame()).await.expect("it is cut");
        assert!(!matches!(cut, Some(Ok(_))), "the answer continues");
        eventually("both connections end", || open.is_closed() && busy.is_closed()).await;
        assert!(open.get().await.is_err());
        assert_eq!(untouched.get().await.unwrap().status, 200, "the other connection continues");
    }
}

/// A handshake that completes during a swap is seen by the check after it or by the swap. A client connects repeatedly
/// until it is refused, and keeps its connections. None of them may stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_slips_through_a_swap() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    for number in 2..42 {
        let issued = authority.client("client_1");
        let client = Client::new(&authority, &issued, Http::Two, &service.clock);
        let (live, clock) = (service.live().clone(), service.clock.clone());
        let crl = authority.crl(number, &[&issued]);
        let connecting: Vec<_> = (0..4)
            .map(|_| {
                let (client, address) = (client.clone(), service.address);
                tokio::spawn(async move {
                    let mut kept = Vec::new();
                    while let Ok(mut connection) = client.try_open(address).await {
                        // An idle connection would end by itself.
                        let Ok(answer) = connection.get().await else { break };
                        kept.push(connection);
                        if answer.status != StatusCode::OK {
                            break;
                        }
                    }
                    kept
                })
            })
            .collect();
        let connected = usize::try_from(number).unwrap() % 8;
        eventually("some have connected", || service.live().open_connections() >= connected).await;
        tokio::task::spawn_blocking(move || live.install(&crl, clock.now()).unwrap()).await.unwrap();
        let mut kept = Vec::new();
        for connection in connecting {
            kept.extend(connection.await.unwrap());
        }
        eventually("no connection of the revoked client is open", || service.live().open_connections() == 0).await;
        for mut connection in kept {
            assert!(connection.get().await.is_err(), "served in round {number}");
        }
    }
}

#[tokio::test]
async fn an_open_connection_is_not_served_without_a_fresh_crl() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    let mut open =
        Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    service.clock.set(start().plus(DAY));
    assert_eq!(open.get().await.unwrap().status, 200, "nextUpdate itself is included");
    service.clock.set(start().plus(DAY).plus(std::time::Duration::from_secs(1)));
    let answer = open.get().await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.problem().kind, "/problems/no-fresh-crl");
    assert_eq!(service.requests_refused("no_fresh_crl"), 1);
    assert!(log.lines(&["INFO", "request refused"]).is_empty(), "a line for each request");

    // The connection of a valid client still works.
    service.install(&authority.crl_between(2, start().plus(DAY), start().plus(DAY * 2), &[]));
    assert_eq!(open.get().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_open_connection_is_not_served_beyond_its_certificate() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client_from("client_1", start(), DAY / 2);
    let mut open = Client::new(&authority, &issued, Http::Two, &service.clock).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    service.clock.set(issued.info.validity.not_after.plus(std::time::Duration::from_secs(1)));
    let answer = open.get().await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.problem().kind, "/problems/certificate-expired");
}

/// A serial number belongs to its issuer. The same number of another issuer is another certificate.
#[tokio::test]
async fn the_same_serial_of_another_issuer_is_not_meant() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    let serial: Serial = issued.info.id.serial;
    service.install(&authority.root_crl(2, &[serial]));
    let client = Client::new(&authority, &issued, Http::Two, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);
}
