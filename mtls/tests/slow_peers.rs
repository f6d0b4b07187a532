//! Peers that cost time or memory are cut off within limits, while others are served.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode};
use mtls::{serve::proxy::ProxyFrom, tls::mutual_tls};
use rustls::ClientConnection;
use testkit::http2::{EMPTY_SETTINGS, PREFACE};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::common::{Authority, Client, Http, PATIENCE, Service, Surroundings};

/// Reads until the other side ends the connection.
async fn is_cut(mut stream: impl AsyncRead + Unpin, who: &str) {
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "{who} was not cut off");
}

/// Every limit here is ten seconds. They are in one test, so that they pass at the same time.
#[tokio::test]
async fn slow_peers_are_cut_off_and_other_peers_are_served() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let proxy_from = ProxyFrom::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let behind = Service::start_in(&authority, Surroundings { proxy_from, ..Surroundings::default() }).await;
    let issued = authority.client("client_1");
    let client = Client::new(&authority, &issued, Http::One, &service.clock);
    let address = service.address;

    let silent = async { is_cut(TcpStream::connect(address).await.unwrap(), "a silent peer").await };
    let without_header = async { is_cut(TcpStream::connect(behind.address).await.unwrap(), "a silent balancer").await };
    let half_a_hello = async {
        let tls = mutual_tls(&issued.identity(), authority.root.certificate(), &service.clock).unwrap();
        let mut hello = Vec::new();
        let mut connection = ClientConnection::new(Arc::new(tls), "localhost".try_into().unwrap()).unwrap();
        connection.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
        is_cut(stream, "half a handshake").await;
    };
    let dripping = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let drip = async {
            // A record with an announced length of 512 bytes. The bytes arrive slowly, so that no single read waits for
            // long.
            stream.write_all(&[0x16, 3, 1, 2, 0]).await?;
            loop {
                stream.write_all(&[1]).await?;
                sleep(Duration::from_millis(100)).await;
            }
            #[expect(unreachable_code, reason = "it fixes the type of the loop's errors")]
            std::io::Result::Ok(())
        };
        assert!(timeout(PATIENCE, drip).await.is_ok(), "a dripping handshake was not cut off");
    };
    let stalled = async { is_cut(client.connect(address).await.unwrap(), "a connection without a request").await };
    let half_a_request = async {
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
        is_cut(stream, "half a request").await;
    };
    let without_streams = async {
        let client = Client::new(&authority, &issued, Http::Two, &service.clock);
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
        is_cut(stream, "an HTTP/2 connection without a request").await;
    };
    let mut cut = std::pin::pin!(async {
        tokio::join!(silent, without_header, half_a_hello, dripping, stalled, half_a_request, without_streams)
    });

    let other = Client::new(&authority, &authority.client("other_1"), Http::Two, &service.clock);
    let mut open = other.open(address).await;
    loop {
        tokio::select! {
            _ = &mut cut => break,
            () = sleep(Duration::from_millis(200)) => {
                assert_eq!(open.get().await.unwrap().status, 200);
                assert_eq!(other.get(address).await.status, 200);
            }
        }
    }
    assert_eq!(service.handshakes_refused("timeout"), 3);
    assert_eq!(behind.handshakes_refused("timeout"), 1);
}

#[tokio::test]
async fn endless_headers_are_refused_and_other_peers_are_served() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let other = Client::new(&authority, &authority.client("other_1"), Http::Two, &service.clock);
    let mut open = other.open(service.address).await;
    let mut headers = HeaderMap::new();
    for number in 0..32 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        headers.insert(name, HeaderValue::from_bytes(&[b'x'; 2048]).unwrap());
    }
    for http in [Http::One, Http::Two] {
        let client = Client::new(&authority, &authority.client("greedy_1"), http, &service.clock);
        // A request that cannot be read completely may also end the connection.
        if let Ok(answer) = client.open(service.address).await.get_with(headers.clone()).await {
            assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{http:?}");
        }
        assert_eq!(open.get().await.unwrap().status, 200);
    }
}
