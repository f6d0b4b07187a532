//! A service that shuts down: who has come before is answered, and nobody keeps it from ending.

use http_body_util::BodyExt as _;
use tokio::net::TcpStream;

use crate::common::{Authority, Client, Http, Service, eventually};

/// The kernel completes the connection, and the service, whose task runs on this thread, does not see it yet.
fn in_the_queue(service: &Service) -> TcpStream {
    let stream = std::net::TcpStream::connect(service.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// A client that has connected has mostly sent its request by the time that it hears of anything.
#[tokio::test]
async fn who_has_connected_before_a_shutdown_is_answered() {
    let authority = Authority::new();
    for http in [Http::One, Http::Two] {
        let service = Service::start(&authority).await;
        let client = Client::new(&authority, &authority.client("client_1"), http, &service.clock);
        let in_handshake = TcpStream::connect(service.address).await.unwrap();
        let mut without_request = client.open(service.address).await;
        // It was the last to connect, so that the others were taken out of the queue.
        let mut between_requests = client.open(service.address).await;
        assert_eq!(between_requests.get().await.unwrap().status, 200);
        let in_queue = in_the_queue(&service);

        service.shut_down();
        let mut in_queue = client.open_over(in_queue).await;
        let mut in_handshake = client.open_over(in_handshake).await;
        for connection in [&mut in_queue, &mut in_handshake, &mut without_request] {
            assert_eq!(connection.get().await.unwrap().status, 200, "{http:?}");
        }
        assert!(TcpStream::connect(service.address).await.is_err(), "it listens no more");
        eventually("every connection ends", || {
            [&in_queue, &in_handshake, &without_request, &between_requests].iter().all(|open| open.is_closed())
        })
        .await;
        eventually("the service ends", || service.has_ended()).await;
    }
}

/// What is being answered is answered to its end.
#[tokio::test]
async fn a_request_in_flight_outlives_the_listener() {
    let authority = Authority::new();
    for http in [Http::One, Http::Two] {
        let service = Service::start(&authority).await;
        let client = Client::new(&authority, &authority.client("client_1"), http, &service.clock);
        let mut connection = client.open(service.address).await;
        let in_flight = connection.start("/held").await.unwrap();
        service.shut_down();
        eventually("it listens no more", || std::net::TcpStream::connect(service.address).is_err()).await;
        service.release();
        assert_eq!(in_flight.collect().await.unwrap().to_bytes(), "at last", "{http:?}");
        eventually("the service ends", || service.has_ended()).await;
        eventually("its connection ends", || connection.is_closed()).await;
    }
}

/// Whoever says nothing, or never gets enough, is cut off.
#[tokio::test]
async fn nobody_keeps_a_service_from_ending() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let silent = TcpStream::connect(service.address).await.unwrap();
    let asks_nothing = client.open(service.address).await;
    let mut greedy = client.open(service.address).await;
    let mut endless = greedy.start("/endless").await.unwrap();
    service.shut_down();
    eventually("the service ends", || service.has_ended()).await;
    assert!(!matches!(endless.frame().await, Some(Ok(_))), "what was in flight goes on");
    eventually("every connection ends", || asks_nothing.is_closed() && greedy.is_closed()).await;
    drop(silent);
}
