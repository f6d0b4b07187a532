//! A service that shuts down: earlier connections are answered, and no client can prevent the end.

use http_body_util::BodyExt as _;
use tokio::net::TcpStream;

use crate::common::{Authority, Client, Http, Service, eventually};

/// The kernel completes the connection. The service's task runs on this thread, so it does not notice it yet.
fn in_the_queue(service: &Service) -> TcpStream {
    let stream = std::net::TcpStream::connect(service.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// A client that has connected has usually sent its request before it learns of the shutdown.
#[tokio::test]
async fn clients_that_connected_before_a_shutdown_are_answered() {
    let authority = Authority::new();
    for http in [Http::One, Http::Two] {
        let service = Service::start(&authority).await;
        let client = Client::new(&authority, &authority.client("client_1"), http, &service.clock);
        let in_handshake = TcpStream::connect(service.address).await.unwrap();
        let mut without_request = client.open(service.address).await;
        // The last one to connect, so the others were taken out of the queue.
        let mut between_requests = client.open(service.address).await;
        assert_eq!(between_requests.get().await.unwrap().status, 200);
        let in_queue = in_the_queue(&service);

        service.shut_down();
        let mut in_queue = client.open_over(in_queue).await;
        let mut in_handshake = client.open_over(in_handshake).await;
        for connection in [&mut in_queue, &mut in_handshake, &mut without_request] {
            assert_eq!(connection.get().await.unwrap().status, 200, "{http:?}");
        }
        assert!(TcpStream::connect(service.address).await.is_err(), "it does not listen any more");
        eventually("every connection ends", || {
            [&in_queue, &in_handshake, &without_request, &between_requests].iter().all(|open| open.is_closed())
        })
        .await;
        eventually("the service ends", || service.has_ended()).await;
    }
}

/// A request in flight is answered to its end.
#[tokio::test]
async fn a_request_in_flight_outlives_the_listener() {
    let authority = Authority::new();
    for http in [Http::One, Http::Two] {
        let service = Service::start(&authority).await;
        let client = Client::new(&authority, &authority.client("client_1"), http, &service.clock);
        let mut connection = client.open(service.address).await;
        let in_flight = connection.start("/held").await.unwrap();
        service.shut_down();
        eventually("it does not listen any more", || std::net::TcpStream::connect(service.address).is_err()).await;
        service.release();
        assert_eq!(in_flight.collect().await.unwrap().to_bytes(), "at last", "{http:?}");
        eventually("the service ends", || service.has_ended()).await;
        eventually("its connection ends", || connection.is_closed()).await;
    }
}

/// Silent clients, and clients with endless answers, are cut off.
#[tokio::test]
async fn no_client_prevents_the_end_of_a_service() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let silent = TcpStream::connect(service.address).await.unwrap();
    let asks_nothing = client.open(service.address).await;
    let mut greedy = client.open(service.address).await;
    let mut endless = greedy.start("/endless").await.unwrap();
    service.shut_down();
    eventually("the service ends", || service.has_ended()).await;
    assert!(!matches!(endless.frame().await, Some(Ok(_))), "the request in flight continues");
    eventually("every connection ends", || asks_nothing.is_closed() && greedy.is_closed()).await;
    drop(silent);
}
