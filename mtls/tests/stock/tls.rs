//! Broken TLS (RFC 8446) before anything is encrypted, one connection for each case.

use std::net::SocketAddr;

use testkit::tls::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, record};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Both;
use crate::common::PATIENCE;

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const PSK_KEY_EXCHANGE_MODES: u16 = 45;
const KEY_SHARE: u16 = 51;
const X25519: u16 = 29;

/// What the client receives, record by record, until the service closes the connection or answers the first message.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    /// Level and description.
    Alert(u8, u8),
    /// The type of a handshake message, and for a `ServerHello` whether it is a `HelloRetryRequest`.
    Message(u8, bool),
    Record(u8),
    Closed,
}

/// A `ClientHello` (RFC 8446 section 4.1.2), in its parts.
#[derive(Clone)]
struct Hello {
    version: u16,
    session_id: Vec<u8>,
    ciphers: Vec<u16>,
    compression: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// A valid one.
    fn right() -> Self {
        // The base point of Curve25519 is a valid public key.
        let mut point = vec![0; 32];
        point[0] = 9;
        let extensions = vec![
            (SERVER_NAME, list(&[&[0], &list(b"localhost")[..]].concat())),
            (SUPPORTED_GROUPS, list(&X25519.to_be_bytes())),
            (SIGNATURE_ALGORITHMS, list(&[0x04, 0x03, 0x08, 0x07])),
            (SUPPORTED_VERSIONS, vec![2, 3, 4]),
            (PSK_KEY_EXCHANGE_MODES, vec![1, 1]),
            (KEY_SHARE, share(X25519, &point)),
        ];
        Self { version: 0x0303, session_id: vec![7; 32], ciphers: vec![0x1301], compression: vec![0], extensions }
    }

    fn change(change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut hello = Self::right();
        change(&mut hello);
        record(HANDSHAKE, &hello.message())
    }

    /// Replaces the extension of this type, or appends it.
    fn with(id: u16, value: &[u8]) -> Vec<u8> {
        Self::change(|hello| match hello.extensions.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => *old = value.to_vec(),
            None => hello.extensions.push((id, value.to_vec())),
        })
    }

    fn without(id: u16) -> Vec<u8> {
        Self::change(|hello| hello.extensions.retain(|(other, _)| *other != id))
    }

    fn body(&self) -> Vec<u8> {
        let ciphers: Vec<u8> = self.ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
        let extensions: Vec<u8> =
            self.extensions.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &list(value)].concat()).collect();
        [
            &self.version.to_be_bytes()[..],
            &[0x5a; 32],
            &short_list(&self.session_id),
            &list(&ciphers),
            &short_list(&self.compression),
            &list(&extensions),
        ]
        .concat()
    }

    fn message(&self) -> Vec<u8> {
        message(1, &self.body())
    }
}

fn short_list(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// Bytes with a length prefix of two bytes.
fn list(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn share(group: u16, key: &[u8]) -> Vec<u8> {
    list(&[&group.to_be_bytes()[..], &list(key)].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

type Case = (&'static str, Vec<u8>);

fn of_records() -> Vec<Case> {
    let hello = Hello::right().message();
    let in_records = |size: usize| hello.chunks(size).flat_map(|chunk| record(HANDSHAKE, chunk)).collect::<Vec<_>>();
    vec![
        ("a valid hello", record(HANDSHAKE, &hello)),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("SSL 2.0", [&[0x80, 0x2e, 1, 3, 1, 0, 3, 0, 0, 0, 32, 0, 0, 1][..], &[7; 34]].concat()),
        ("zeros", vec![0; 512]),
        ("5.1 an unknown record", record(99, b"what?")),
        ("5.1 an empty handshake record", record(HANDSHAKE, b"")),
        (
            "5.1 an empty record between two others",
            [record(HANDSHAKE, &hello[..9]), record(HANDSHAKE, b""), record(HANDSHAKE, &hello[9..])].concat(),
        ),
        ("5.1 a record above 2^14 + 256 bytes", record(HANDSHAKE, &vec![1; (1 << 14) + 257])),
        ("5.1 a hello in records of one byte", in_records(1)),
        ("5.1 a hello in records of 100 bytes", in_records(100)),
        (
            "5.1 another record within a hello",
            [record(HANDSHAKE, &hello[..9]), record(APPLICATION_DATA, b"data"), record(HANDSHAKE, &hello[9..])]
                .concat(),
        ),
        ("5.1 version 3.0 of the record", [&[HANDSHAKE, 3, 0], &list(&hello)[..]].concat()),
        ("5.1 version 9.9 of the record", [&[HANDSHAKE, 9, 9], &list(&hello)[..]].concat()),
        ("5 application data first", record(APPLICATION_DATA, b"data")),
        ("5 ChangeCipherSpec first", record(CHANGE_CIPHER_SPEC, &[1])),
        ("5 ChangeCipherSpec of another value", [record(HANDSHAKE, &hello), record(CHANGE_CIPHER_SPEC, &[2])].concat()),
        (
            "5 ChangeCipherSpec within a hello",
            [record(HANDSHAKE, &hello[..9]), record(CHANGE_CIPHER_SPEC, &[1]), record(HANDSHAKE, &hello[9..])].concat(),
        ),
        ("6 an alert first", record(ALERT, &[2, 40])),
        ("6 close_notify first", record(ALERT, &[1, 0])),
        ("6 an alert of one byte", record(ALERT, &[2])),
        ("6 an alert of an unknown level", record(ALERT, &[9, 40])),
        ("4 Finished first", record(HANDSHAKE, &message(20, &[0; 32]))),
        ("4 ServerHello of a client", record(HANDSHAKE, &message(2, &Hello::right().body()))),
        ("4 KeyUpdate first", record(HANDSHAKE, &message(24, &[0]))),
        ("4 an unknown message", record(HANDSHAKE, &message(99, b"what?"))),
        ("4 a message of 2^24 - 1 bytes", record(HANDSHAKE, &[1, 255, 255, 255, 3, 3])),
        ("4 two hellos", [record(HANDSHAKE, &hello), record(HANDSHAKE, &hello)].concat()),
        ("4 two hellos in one record", record(HANDSHAKE, &[&hello[..], &hello].concat())),
    ]
}

fn of_hellos() -> Vec<Case> {
    let cut_off = |length: usize| record(HANDSHAKE, &message(1, &Hello::right().body()[..length]));
    let padding = |length| Hello::with(21, &vec![0; length]);
    vec![
        ("4.1.2 an empty hello", record(HANDSHAKE, &message(1, b""))),
        ("4.1.2 a hello that ends in its random", cut_off(20)),
        ("4.1.2 a hello that ends in its extensions", cut_off(90)),
        (
            "4.1.2 bytes after the extensions",
            record(HANDSHAKE, &message(1, &[&Hello::right().body()[..], b"more"].concat())),
        ),
        ("4.1.2 no extensions at all", Hello::change(|hello| hello.extensions.clear())),
        ("4.1.2 version 3.0", Hello::change(|hello| hello.version = 0x0300)),
        ("4.1.2 version 3.4", Hello::change(|hello| hello.version = 0x0304)),
        ("4.1.2 a session id of 33 bytes", Hello::change(|hello| hello.session_id = vec![7; 33])),
        ("4.1.2 no session id", Hello::change(|hello| hello.session_id.clear())),
        ("4.1.2 no cipher suite", Hello::change(|hello| hello.ciphers.clear())),
        ("4.1.2 unknown cipher suites", Hello::change(|hello| hello.ciphers = vec![0x0a0a, 0xffff])),
        ("4.1.2 cipher suites of TLS 1.2", Hello::change(|hello| hello.ciphers = vec![0xc02b, 0xc02f])),
        ("4.1.2 no compression method", Hello::change(|hello| hello.compression.clear())),
        ("4.1.2 compression", Hello::change(|hello| hello.compression = vec![1])),
        ("4.1.2 compression as well", Hello::change(|hello| hello.compression = vec![0, 1])),
        (
            "4.2 the same extension twice",
            Hello::change(|hello| hello.extensions.push((SUPPORTED_VERSIONS, vec![2, 3, 4]))),
        ),
        ("4.2 an unknown extension", Hello::with(0x7a7a, b"what?")),
        ("4.2 an extension of 10 KiB", padding(10 * 1024)),
        (
            "4.2 thousand unknown extensions",
            Hello::change(|hello| hello.extensions.extend((0x4000..0x43e8).map(|id| (id, vec![])))),
        ),
        ("4.2.1 TLS 1.2 only", Hello::with(SUPPORTED_VERSIONS, &[2, 3, 3])),
        ("4.2.1 no versions", Hello::without(SUPPORTED_VERSIONS)),
        ("4.2.1 an empty list of versions", Hello::with(SUPPORTED_VERSIONS, &[0])),
        ("4.2.1 half a version", Hello::with(SUPPORTED_VERSIONS, &[3, 3, 4, 3])),
        ("4.2.1 a version to come, too", Hello::with(SUPPORTED_VERSIONS, &[4, 3, 9, 3, 4])),
        ("4.2.2 an unknown cookie", Hello::with(COOKIE, &list(b"cookie"))),
        ("4.2.3 no signature algorithms", Hello::without(SIGNATURE_ALGORITHMS)),
        ("4.2.3 an empty list of signature algorithms", Hello::with(SIGNATURE_ALGORITHMS, &list(b""))),
        ("4.2.3 unknown signature algorithms", Hello::with(SIGNATURE_ALGORITHMS, &list(&[0xfe, 0xfe]))),
        ("4.2.3 half a signature algorithm", Hello::with(SIGNATURE_ALGORITHMS, &list(&[4]))),
        ("4.2.7 no groups", Hello::without(SUPPORTED_GROUPS)),
        ("4.2.7 unknown groups", Hello::with(SUPPORTED_GROUPS, &list(&[0x7a, 0x7a]))),
        ("4.2.8 no key share", Hello::without(KEY_SHARE)),
        ("4.2.8 an empty list of key shares", Hello::with(KEY_SHARE, &list(b""))),
        ("4.2.8 a key share of an unknown group", Hello::with(KEY_SHARE, &share(0x7a7a, b"key"))),
        ("4.2.8 a key share of no bytes", Hello::with(KEY_SHARE, &share(X25519, b""))),
        ("4.2.8 a key share of 31 bytes", Hello::with(KEY_SHARE, &share(X25519, &[9; 31]))),
        ("4.2.8 a key share of zeros", Hello::with(KEY_SHARE, &share(X25519, &[0; 32]))),
        ("4.2.8 two key shares of one group", Hello::with(KEY_SHARE, &list(&share(X25519, &[9; 32])[2..].repeat(2)))),
        ("4.2.9 no modes of pre-shared keys", Hello::without(PSK_KEY_EXCHANGE_MODES)),
        ("4.2.9 unknown modes of pre-shared keys", Hello::with(PSK_KEY_EXCHANGE_MODES, &[1, 99])),
        ("4.2.10 early data without a pre-shared key", Hello::with(EARLY_DATA, b"")),
        ("4.2.11 an unknown pre-shared key", Hello::with(PRE_SHARED_KEY, &offered())),
        ("4.2.11 a pre-shared key without its binder", Hello::with(PRE_SHARED_KEY, &offered()[..20])),
        (
            "4.2.11 a pre-shared key before the last extension",
            Hello::change(|hello| hello.extensions.insert(0, (PRE_SHARED_KEY, offered()))),
        ),
        ("6066 no server name", Hello::without(SERVER_NAME)),
        ("6066 an empty server name", Hello::with(SERVER_NAME, &list(&[0, 0, 0]))),
        ("6066 an address as server name", Hello::with(SERVER_NAME, &list(&[&[0], &list(b"127.0.0.1")[..]].concat()))),
        ("6066 an invalid server name", Hello::with(SERVER_NAME, &list(&[&[0], &list(b"\xff\x00..")[..]].concat()))),
        ("6066 an unknown type of name", Hello::with(SERVER_NAME, &list(&[&[9], &list(b"localhost")[..]].concat()))),
        ("7301 an unknown protocol", Hello::with(ALPN, &list(&short_list(b"gopher")))),
        ("7301 an empty protocol", Hello::with(ALPN, &list(&short_list(b"")))),
        ("7301 HTTP/2", Hello::with(ALPN, &list(&short_list(b"h2")))),
    ]
}

/// One pre-shared key and its binder.
fn offered() -> Vec<u8> {
    let identity = [&list(&[7; 16])[..], &[0; 4]].concat();
    [list(&identity), list(&short_list(&[0; 32]))].concat()
}

async fn react(address: SocketAddr, bytes: &[u8]) -> Vec<Reaction> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The service may refuse before everything is sent. Nothing more follows from the client.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut reactions = Vec::new();
    loop {
        let (mut header, mut payload) = ([0; 5], Vec::new());
        let record = async {
            stream.read_exact(&mut header).await?;
            payload.resize(usize::from(u16::from_be_bytes([header[3], header[4]])), 0);
            stream.read_exact(&mut payload).await
        };
        if timeout(PATIENCE, record).await.expect("a record or the end arrives").is_err() {
            reactions.push(Reaction::Closed);
            return reactions;
        }
        reactions.push(match (header[0], &payload[..]) {
            (ALERT, [level, description]) => Reaction::Alert(*level, *description),
            // The random of a HelloRetryRequest is a constant (RFC 8446 section 4.1.3).
            (HANDSHAKE, message) => Reaction::Message(message[0], message.get(6..8) == Some(&[0xcf, 0x21])),
            // After a ServerHello, records are encrypted. Their number depends on the length of the chain.
            (APPLICATION_DATA, _) if reactions.contains(&Reaction::Record(APPLICATION_DATA)) => continue,
            (kind, _) => Reaction::Record(kind),
        });
    }
}

#[tokio::test]
async fn broken_tls_has_the_same_consequences_as_with_stock_rustls() {
    let both = Both::start().await;
    let cases: Vec<Case> = [of_records(), of_hellos()].into_iter().flatten().collect();
    let (mut different, mut tolerated) = (Vec::new(), 0);
    for (name, bytes) in &cases {
        let (ours, stock) = (react(both.service.address, bytes).await, react(both.stock, bytes).await);
        tolerated += usize::from(stock.contains(&Reaction::Message(2, false)));
        if ours != stock {
            different.push(format!("{name}: {ours:?}, and stock rustls {stock:?}"));
        }
    }
    assert!((1..cases.len()).contains(&tolerated), "{tolerated} of {} cases are tolerated", cases.len());
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), cases.len(), different.join("\n"));
}
