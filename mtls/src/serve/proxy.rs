//! The PROXY protocol, version 2: a layer-4 balancer sends the address of its client (HAProxy's `proxy-protocol.txt`,
//! sections 2.2 and 2.3).
//!
//! It never guesses: the header is required from configured addresses, and not read from any others.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The fixed part of a header: signature, command, family and the length of the rest.
const FIXED: usize = 16;
/// The longest variable part in bytes. IP addresses take 36 at most, and the rest is for extensions.
const MAX_VARIABLE: usize = 1024;

/// The balancers that send PROXY headers.
#[derive(Clone, Debug, Default)]
pub struct ProxyFrom(Arc<[IpNet]>);

/// Why a connection's PROXY header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection ended or failed before the header was complete.
    #[error("no PROXY header: {0}")]
    Io(#[from] std::io::Error),
    /// Something else than a version 2 header.
    #[error("not a PROXY protocol version 2 header")]
    Malformed,
    /// Longer than any real header.
    #[error("the PROXY header is longer than {MAX_VARIABLE} bytes")]
    TooLong,
}

impl ProxyFrom {
    /// Requires the header from these networks, and reads none from any others.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// The address of the client of this connection: `connected` itself, or the address in the PROXY header if
    /// `connected` is a configured balancer. Reads exactly the header and nothing after it.
    pub async fn client_address(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        connected: SocketAddr,
    ) -> Result<SocketAddr, ProxyError> {
        let from = connected.ip().to_canonical();
        if !self.0.iter().any(|network| network.contains(&from)) {
            return Ok(connected);
        }
        let mut header = [0; FIXED + MAX_VARIABLE];
        stream.read_exact(&mut header[..FIXED]).await?;
        let variable = variable_length(&header)?;
        stream.read_exact(&mut header[FIXED..FIXED + variable]).await?;
        Ok(parse(&header[..FIXED + variable])?.unwrap_or(connected))
    }
}

/// Parses a whole version 2 header. Returns the client's address, or `None` if the balancer connects for itself (a
/// health check) or for a client without an IP address.
pub fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let header = Header::try_from(header).map_err(|_| ProxyError::Malformed)?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(addresses)) => {
            Some(SocketAddr::new(IpAddr::V4(addresses.source_address), addresses.source_port))
        }
        (Command::Proxy, Addresses::IPv6(addresses)) => {
            Some(SocketAddr::new(IpAddr::V6(addresses.source_address), addresses.source_port))
        }
        _ => None,
    })
}

fn variable_length(fixed: &[u8]) -> Result<usize, ProxyError> {
    if !fixed.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(ProxyError::Malformed);
    }
    let length = usize::from(u16::from_be_bytes([fixed[FIXED - 2], fixed[FIXED - 1]]));
    if length > MAX_VARIABLE { Err(ProxyError::TooLong) } else { Ok(length) }
}

impl fmt::Display for ProxyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&networks.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_CLIENT: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x15\xb3\x20\xfb";
    const HEALTH_CHECK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

    fn balancer() -> ProxyFrom {
        ProxyFrom::new(vec!["127.0.0.0/8".parse().unwrap()])
    }

    #[tokio::test]
    async fn a_configured_balancer_sends_the_address_of_the_client() {
        let connected = "127.0.0.1:1234".parse().unwrap();
        let mut stream = [FROM_CLIENT, b"what follows"].concat();
        let mut reader = stream.as_mut_slice() as &[u8];
        let client = balancer().client_address(&mut reader, connected).await.unwrap();
        assert_eq!(client, "203.0.113.9:5555".parse().unwrap());
        assert_eq!(reader, b"what follows", "nothing after the header is consumed");
        let checked = balancer().client_address(&mut &HEALTH_CHECK[..], connected).await.unwrap();
        assert_eq!(checked, connected, "a health check has no client");
    }

    #[tokio::test]
    async fn an_ipv4_balancer_is_recognized_on_a_dual_stack_socket() {
        let connected = "[::ffff:127.0.0.1]:1234".parse().unwrap();
        let client = balancer().client_address(&mut &FROM_CLIENT[..], connected).await.unwrap();
        assert_eq!(client, "203.0.113.9:5555".parse().unwrap());
    }

    #[tokio::test]
    async fn nothing_is_read_from_other_addresses() {
        let connected = "192.0.2.1:1234".parse().unwrap();
        let mut reader = FROM_CLIENT;
        assert_eq!(balancer().client_address(&mut reader, connected).await.unwrap(), connected);
        assert_eq!(reader, FROM_CLIENT);
    }

    #[tokio::test]
    async fn a_configured_balancer_without_a_header_is_refused() {
        let connected = "127.0.0.1:1234".parse().unwrap();
        let client_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0];
        let too_long = [&FROM_CLIENT[..14], &[0xff, 0xff]].concat();
        for bad in [&client_hello[..], &too_long, &FROM_CLIENT[..20], b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"] {
            assert!(balancer().client_address(&mut &bad[..], connected).await.is_err());
        }
    }
}
