//! What the passing of time does to open connections: they end like after a revocation when the client's chain expires,
//! or when no CRL is current any more. No request is needed for it.

use std::time::Duration;

use http_body_util::BodyExt as _;
use mtls::revocation::OnStaleCrl;
use pki::time::Timestamp;
use rustls::HandshakeKind;

use crate::common::{
    Authority, Client, DAY, Http, Issued, Log, Service, Surroundings,
    authority::issuing_until,
    eventually,
    raw::{Frame, RawHttp2},
    start,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const NO_CRL: &str = "there is no current CRL to judge the client by";
const EXPIRED: &str = "the client's certificate, or one above it, has expired";

/// A service that checks the clock, with CRLs that are valid until the next day.
async fn service(authority: &Authority, on_stale_crl: OnStaleCrl) -> (Service, tokio::task::JoinSet<()>) {
    let mut service = Service::start_in(authority, Surroundings { on_stale_crl, ..Surroundings::default() }).await;
    service.install(&authority.root_crl(1, &[]));
    service.install(&authority.crl(1, &[]));
    let tasks = service.keep_current();
    (service, tasks)
}

/// A connection with an answer that never ends.
async fn streaming(authority: &Authority, service: &Service, issued: &Issued) -> RawHttp2 {
    let client = Client::new(authority, issued, Http::Two, &service.clock);
    let mut connection = RawHttp2::open(&client, service.address, 1 << 20).await;
    connection.start(1, "/endless").await;
    connection
}

async fn said(connection: &mut RawHttp2) -> Vec<String> {
    let said = connection.rest().await;
    said.iter().map(|frame| Frame::farewell(frame).unwrap_or_else(|| panic!("{said:?}")).to_owned()).collect()
}

/// Sets the clock to this last valid second. Only the connection of a canary ends, whose certificate expired a second
/// earlier.
async fn assert_continues_in(authority: &Authority, service: &Service, last_second: Timestamp) {
    let canary = authority.client_from("canary_1", start(), last_second.minus(SECOND).since(start()));
    let mut canary = Client::new(authority, &canary, Http::One, &service.clock).open(service.address).await;
    assert_eq!(canary.get().await.unwrap().status, 200);
    let log = Log::capture();
    service.clock.set(last_second);
    eventually("it has checked", || log.has(&["connections ended"])).await;
    let ended = log.lines(&["connections ended"]);
    assert!(ended.len() == 1 && ended[0].contains("ended=1 "), "{ended:?}");
}

#[tokio::test]
async fn connections_end_when_no_crl_is_current_and_any_grace_is_over() {
    let authority = Authority::new();
    for (on_stale_crl, until) in [(OnStaleCrl::Refuse, DAY), (OnStaleCrl::Grace(HOUR), DAY + HOUR)] {
        let log = Log::capture();
        let (service, _tasks) = service(&authority, on_stale_crl).await;
        let issued = authority.client("client_1");
        let mut streaming = streaming(&authority, &service, &issued).await;
        let mut idle = Client::new(&authority, &issued, Http::One, &service.clock).open(service.address).await;
        assert_eq!(idle.get().await.unwrap().status, 200);
        assert_continues_in(&authority, &service, start().plus(until)).await;
        assert_eq!(idle.get().await.unwrap().status, 200);

        service.clock.set(start().plus(until + SECOND));
        assert_eq!(said(&mut streaming).await, [NO_CRL], "{on_stale_crl:?}");
        eventually("the other one ends", || idle.is_closed()).await;
        eventually("both are gone", || service.live().open_connections() == 0).await;
        let ended = log.lines(&["connections ended", NO_CRL]);
        assert!(ended.len() == 1 && ended[0].contains("ended=2"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_when_its_clients_certificate_expires_and_no_other_connection_does() {
    let authority = Authority::new();
    let (service, _tasks) = service(&authority, OnStaleCrl::Refuse).await;
    let short = authority.client_from("short_1", start(), DAY / 2);
    let not_after = short.info.validity.not_after;
    let (mut ends, mut idle) = (
        streaming(&authority, &service, &short).await,
        Client::new(&authority, &short, Http::One, &service.clock).open(service.address).await,
    );
    assert_eq!(idle.get().await.unwrap().status, 200);
    let client = Client::new(&authority, &authority.client("long_1"), Http::Two, &service.clock);
    let mut other = client.open(service.address).await;
    let mut goes_on = other.start("/held").await.unwrap();
    // notAfter itself is included.
    assert_continues_in(&authority, &service, not_after).await;

    service.clock.set(not_after.plus(SECOND));
    assert_eq!(said(&mut ends).await, [EXPIRED]);
    eventually("the idle one ends", || idle.is_closed()).await;
    service.release();
    assert_eq!(goes_on.frame().await.unwrap().unwrap().into_data().unwrap(), "at last");
    assert_eq!(other.get().await.unwrap().status, 200);
    eventually("both are gone", || service.live().open_connections() == 1).await;
}

/// The client's own certificate is valid for longer than that of the CA above it.
#[tokio::test]
async fn an_expired_intermediate_ends_open_connections_and_refuses_resumed_sessions() {
    let authority = Authority::new();
    let not_after = start().plus(DAY / 2);
    let mut issued = authority.client("client_1");
    assert!(issued.info.validity.not_after > not_after);
    issued.chain[1] = issuing_until(&authority, not_after);
    let client = |service: &Service, http| Client::new(&authority, &issued, http, &service.clock);

    let (watching, _tasks) = service(&authority, OnStaleCrl::Refuse).await;
    let mut open = streaming(&authority, &watching, &issued).await;
    assert_continues_in(&authority, &watching, not_after).await;
    watching.clock.set(not_after.plus(SECOND));
    assert_eq!(said(&mut open).await, [EXPIRED]);

    // This service does not check the clock by itself, but still checks new connections.
    let service = Service::start(&authority).await;
    let client = client(&service, Http::One);
    let mut open = client.open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    service.clock.set(not_after);
    let mut resumed = client.open(service.address).await;
    assert_eq!((resumed.kind, resumed.get().await.unwrap().status), (HandshakeKind::Resumed, http::StatusCode::OK));
    service.clock.set(not_after.plus(SECOND));
    assert_eq!(open.get().await.unwrap().problem().kind, "/problems/certificate-expired");
    assert_eq!(client.refused(service.address).await.kind, Some(HandshakeKind::Resumed));
    eventually("the refusal is counted", || service.handshakes_refused("expired") == 1).await;
}

/// A clock that is set back readmits nobody, and one that is set forward misses nothing.
#[tokio::test]
async fn a_clock_that_jumps_ends_what_has_expired_by_then() {
    let authority = Authority::new();
    let (service, _tasks) = service(&authority, OnStaleCrl::Refuse).await;
    let mut open = streaming(&authority, &service, &authority.client("client_1")).await;
    service.clock.set(start().plus(DAY * 1000));
    let said = said(&mut open).await;
    assert_eq!(said, [EXPIRED], "the reason that comes first");
    service.clock.set(start());
    let client = Client::new(&authority, &authority.client("client_2"), Http::Two, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);
}
