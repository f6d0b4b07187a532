//! Checks whether a process is ready, for the health check of a container without a shell or curl: one GET of `/readyz`
//! over plain HTTP.
//!
//! It never tries twice.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Timeout to connect, to send, and for each read of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 16 * 1024;

/// Why a process is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not answer.
    #[error("http://{address} does not answer: {source}")]
    Silent {
        /// Its address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// It answers that it is not ready.
    #[error("{}", .0.trim_end())]
    NotReady(String),
}

/// Returns `Ok` if the process whose operations listener has this address is ready. For an unspecified address
/// (`0.0.0.0`, `::`), as in `--listen`, it connects to the loopback address.
pub fn ready(address: SocketAddr) -> Result<(), ProbeError> {
    let address = reachable(address);
    let answer = ask(address).map_err(|source| ProbeError::Silent { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    match (status, body) {
        ("200", _) => Ok(()),
        (_, "") => Err(ProbeError::NotReady(head.lines().next().unwrap_or("an empty answer").to_owned())),
        (_, body) => Err(ProbeError::NotReady(body.to_owned())),
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0, so that the answer ends with the connection. In one write, because `write!` to a socket sends a packet
    // for each part.
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A listener that sends the same answer to every request.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Reads everything: closing a socket with unread bytes resets the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).unwrap();
                assert_ne!(read, 0, "the request is complete");
                request.extend_from_slice(&bytes[..read]);
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_process_is_ready_if_it_answers_200() {
        ready(answering("HTTP/1.0 200 OK\r\n\r\nready\n")).unwrap();
        let why = ready(answering("HTTP/1.0 503 Service Unavailable\r\n\r\nnot ready: no CRL\n")).unwrap_err();
        assert_eq!(why.to_string(), "not ready: no CRL");
        let why = ready(answering("HTTP/1.0 500 Internal Server Error\r\n\r\n")).unwrap_err();
        assert_eq!(why.to_string(), "HTTP/1.0 500 Internal Server Error");
        assert!(ready(answering("")).is_err());
    }

    #[test]
    fn a_process_that_does_not_answer_is_not_ready() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let why = ready(address).unwrap_err();
        assert!(matches!(why, ProbeError::Silent { .. }), "{why}");
    }

    #[test]
    fn a_listener_on_every_address_is_probed_on_the_loopback() {
        for (listens, asked) in
            [("0.0.0.0:8081", "127.0.0.1:8081"), ("[::]:8081", "[::1]:8081"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
