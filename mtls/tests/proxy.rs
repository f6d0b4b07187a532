//! The PROXY protocol end to end: from which addresses the client's address is accepted.

use mtls::serve::proxy::ProxyFrom;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::common::{Authority, Client, Http, Log, Service, Surroundings, eventually};

/// `PROXY` from 203.0.113.9:5555 to 127.0.0.1:8443.
const FROM_CLIENT: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x15\xb3\x20\xfb";
/// `LOCAL`: the balancer connects for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

async fn behind_a_balancer(authority: &Authority) -> Service {
    let proxy_from = ProxyFrom::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let service = Service::start_in(authority, Surroundings { proxy_from, ..Surroundings::default() }).await;
    service.install(&authority.root_crl(1, &[]));
    service.install(&authority.crl(1, &[]));
    service
}

async fn connected(service: &Service, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

#[tokio::test]
async fn a_balancer_sends_the_address_of_the_client() {
    let authority = Authority::new();
    let service = behind_a_balancer(&authority).await;
    let log = Log::capture();
    let issued = authority.client("client_1");
    let client = Client::new(&authority, &issued, Http::Two, &service.clock);
    // A type-length-value extension of an unknown type (section 2.2.7).
    let extended = [&FROM_CLIENT[..14], b"\0\x11", &FROM_CLIENT[16..], b"\xee\0\x02hi"].concat();
    for header in [FROM_CLIENT, &extended] {
        let answer = client.open_over(connected(&service, header).await).await.get().await.unwrap();
        assert_eq!(answer.body, "HTTP/2.0 client_1 203.0.113.9:5555");
    }
    let answer = client.open_over(connected(&service, LOCAL).await).await.get().await.unwrap();
    assert!(answer.body.starts_with("HTTP/2.0 client_1 127.0.0.1:"), "{}", answer.body);

    // Byte by byte, as a network may deliver it.
    let mut stream = connected(&service, b"").await;
    stream.set_nodelay(true).unwrap();
    for octet in FROM_CLIENT {
        stream.write_all(&[*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.open_over(stream).await.get().await.unwrap().status, 200);

    service.install(&authority.crl(2, &[&issued]));
    client.refused_over(connected(&service, FROM_CLIENT).await).await;
    eventually("it is logged", || log.has(&["handshake refused", "client_1", "from=203.0.113.9:5555"])).await;
}

#[tokio::test]
async fn a_balancer_without_the_header_is_refused() {
    let authority = Authority::new();
    let service = behind_a_balancer(&authority).await;
    let log = Log::capture();
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let version_1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 8443\r\n";
    let too_long = [&FROM_CLIENT[..14], &[0xff, 0xff]].concat();
    let too_short = [&FROM_CLIENT[..14], &[0, 4], &FROM_CLIENT[16..20]].concat();
    let version_3 = [&FROM_CLIENT[..12], b"\x31", &FROM_CLIENT[13..]].concat();
    let bad: [&[u8]; 5] = [b"", version_1, &too_long, &too_short, &version_3];
    for (refused, header) in (1..).zip(bad) {
        let refusal = client.refused_over(connected(&service, header).await).await;
        assert_eq!(refusal.kind, None);
        eventually("it is counted", || service.handshakes_refused("proxy_header") == refused).await;
    }
    assert_eq!(log.lines(&["handshake refused", "from=127.0.0.1:", "PROXY header"]).len(), 5, "{:?}", log.lines(&[]));
}

/// As a balancer's probe and an aborted connection do. The address is known even if the peer resets at once.
#[tokio::test]
async fn a_balancer_that_disconnects_at_once_is_not_logged_as_refused() {
    let authority = Authority::new();
    let service = behind_a_balancer(&authority).await;
    let log = Log::capture();
    let reset = TcpStream::connect(service.address).await.unwrap();
    reset.set_zero_linger().unwrap();
    drop(reset);
    eventually("it is counted", || service.handshakes_refused("disconnected") == 1).await;
    drop(connected(&service, &FROM_CLIENT[..20]).await);
    eventually("it is counted", || service.handshakes_refused("disconnected") == 2).await;
    assert!(log.lines(&["handshake refused"]).is_empty(), "{:?}", log.lines(&[]));
}

/// A client that is not a balancer must not choose the address that is logged for it.
#[tokio::test]
async fn from_other_addresses_the_header_is_an_invalid_handshake() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    client.refused_over(connected(&service, FROM_CLIENT).await).await;
    eventually("it is counted", || service.handshakes_refused("protocol") == 1).await;
    assert!(log.lines(&["203.0.113.9"]).is_empty());
}
