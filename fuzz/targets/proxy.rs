//! Any bytes are read as a PROXY header or refused. Nothing after the header is read, and the address is the one in the
//! header.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    task::{Context, Poll, Waker},
};

use mtls::serve::proxy::{ProxyError, ProxyFrom, parse};

pub(crate) fn check(data: &[u8]) {
    let balancer = SocketAddr::from(([127, 0, 0, 1], 1234));
    let network = format!("{}/32", balancer.ip()).parse().expect("a network");
    let mut rest = data;
    let Some(result) = now(ProxyFrom::new(vec![network]).client_address(&mut rest, balancer)) else {
        panic!("what is in memory can be read at once");
    };
    let header = &data[..data.len() - rest.len()];
    match result {
        Ok(address) => {
            let length = 16 + usize::from(u16::from_be_bytes([data[14], data[15]]));
            assert_eq!(header.len(), length, "the header and nothing after it");
            assert_eq!(parse(header).expect("it was read just now").unwrap_or(balancer), address);
            assert_eq!(address, by_hand(header).unwrap_or(balancer));
        }
        Err(ProxyError::Malformed | ProxyError::TooLong | ProxyError::Io(_)) => assert!(header.len() <= 16 + 1024),
    }
    let _ = parse(data);

    // Nothing is read from other addresses.
    let mut rest = data;
    let stranger = SocketAddr::from(([192, 0, 2, 1], 1234));
    let address = now(ProxyFrom::default().client_address(&mut rest, stranger)).and_then(Result::ok);
    assert!(address == Some(stranger) && rest == data);
}

/// The source of a `PROXY` command, parsed by `proxy-protocol.txt` section 2.2.
fn by_hand(header: &[u8]) -> Option<SocketAddr> {
    const PROXY: u8 = 0x21;
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    match (header[12], header[13] >> 4) {
        (PROXY, 1) => {
            let source: [u8; 4] = header[16..20].try_into().expect("four bytes");
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(source)), port(24)))
        }
        (PROXY, 2) => {
            let source: [u8; 16] = header[16..32].try_into().expect("sixteen bytes");
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(source)), port(48)))
        }
        _ => None,
    }
}

/// Polls a future once. `None` if it has to wait.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
