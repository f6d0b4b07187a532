//! How the connection of a revoked client ends: no more of an answer is sent, and the revocation is confirmed only
//! after that.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use http_body_util::BodyExt as _;
use mtls::{relying_party::Options, revocation::Installed};
use rustix::io::ioctl_fionread;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Handle,
};

use crate::common::{
    Authority, Client, Http, Issued, Service, Surroundings, eventually,
    feed::FeedServer,
    publisher::Publisher,
    raw::{self, RawHttp2},
    start,
};

const REVOKED: &str = "the client's certificate, or one above it, is revoked";
/// Larger than any answer here.
const WIDE: u32 = u32::MAX >> 1;

/// Every HTTP/2 client receives GOAWAY, and nothing else.
#[tokio::test]
async fn a_revoked_client_receives_goaway_and_nothing_else() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    let client = Client::new(&authority, &issued, Http::Two, &service.clock);
    let mut idle = RawHttp2::open(&client, service.address, WIDE).await;
    idle.start(1, "/").await;
    assert_eq!(idle.next().await.unwrap().kind, raw::DATA);
    let mut busy = RawHttp2::open(&client, service.address, WIDE).await;
    busy.start(1, "/endless").await;
    busy.start(3, "/held").await;

    let installed = service.live().install(&authority.crl(2, &[&issued]), service.clock.now()).unwrap();
    assert!(matches!(installed, Installed::Replaced { ended: 2, .. }), "{installed:?}");
    service.release();
    for connection in [&mut idle, &mut busy] {
        let frames = connection.rest().await;
        assert_eq!(frames.iter().map(raw::Frame::farewell).collect::<Vec<_>>(), [Some(REVOKED)], "{frames:?}");
    }
    eventually("both are gone", || service.live().open_connections() == 0).await;
}

/// The client opens its window only after GOAWAY.
#[tokio::test]
async fn after_goaway_an_opened_window_releases_nothing() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    for (number, path) in [(2, "/"), (3, "/large"), (4, "/held")] {
        let issued = authority.client("client_1");
        let client = Client::new(&authority, &issued, Http::Two, &service.clock);
        let mut connection = RawHttp2::open(&client, service.address, 0).await;
        connection.start(1, path).await;
        service.release();
        service.install(&authority.crl(number, &[&issued]));
        assert_eq!(connection.next().await.unwrap().farewell(), Some(REVOKED), "{path}");
        // The service may have closed the connection by now.
        for stream in [0, 1] {
            let _ = connection.send(raw::WINDOW_UPDATE, 0, stream, &(1_u32 << 20).to_be_bytes()).await;
        }
        let frames = connection.rest().await;
        assert!(frames.is_empty(), "{path}: {frames:?}");
        eventually("it is gone", || service.live().open_connections() == 0).await;
    }
}

/// However many streams wait for their windows, the client receives GOAWAY and `close_notify`.
#[tokio::test]
async fn stalled_streams_do_not_keep_goaway_and_close_notify_from_a_revoked_client() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    for (number, window) in [(2, 0), (3, 1), (4, 1000)] {
        let issued = authority.client("client_1");
        let client = Client::new(&authority, &issued, Http::Two, &service.clock);
        let mut connection = RawHttp2::open(&client, service.address, window).await;
        for stream in 0..16 {
            connection.start(2 * stream + 1, "/large").await;
        }
        service.install(&authority.crl(number, &[&issued]));
        let frames = connection.rest().await;
        assert_eq!(frames.last().and_then(raw::Frame::farewell), Some(REVOKED), "window {window}: {frames:?}");
        assert!(connection.has_ended_properly().await, "window {window}");
        eventually("it is gone", || service.live().open_connections() == 0).await;
    }
}

/// A client with small buffers that reads only when it is told to.
async fn with_little_room(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

/// Reads everything that has arrived. Returns how many bytes.
async fn read_to_end(mut stream: TcpStream) -> (u64, io::Result<()>) {
    let (mut count, mut bytes) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => return (count, Ok(())),
            Ok(read) => count += read as u64,
            Err(error) => return (count, Err(error)),
        }
    }
}

/// The answer waits in TLS and in the kernel for a client that does not read.
#[tokio::test]
async fn a_client_that_reads_later_finds_only_what_had_arrived_before() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    let client = Client::new(&authority, &issued, Http::One, &service.clock);
    let mut stream = client.shake_hands(with_little_room(service.address).await).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (stream, _) = stream.into_inner();
    eventually("the answer begins", || ioctl_fionread(&stream).unwrap() > 2048).await;

    service.install(&authority.crl(2, &[&issued]));
    eventually("the connection is gone", || service.live().open_connections() == 0).await;
    let there = ioctl_fionread(&stream).unwrap();
    let (read, _) = read_to_end(stream).await;
    assert_eq!(read, there, "something came after the connection was gone");
}

/// Linux's state of the service's end of a TCP connection (`TCP_FIN_WAIT1` is 4), and how many bytes are not
/// acknowledged.
fn kernel(service: &Service, client: SocketAddr) -> Option<(u8, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ports = [service.address.port(), client.port()].map(|port| format!(":{port:04X}"));
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        if !(fields[1].ends_with(&ports[0]) && fields[2].ends_with(&ports[1])) {
            return None;
        }
        let unsent = fields[4].split(':').next().unwrap();
        Some((u8::from_str_radix(fields[3], 16).unwrap(), u64::from_str_radix(unsent, 16).unwrap()))
    })
}

/// HTTP has finished with the connection, but the kernel has not.
#[tokio::test]
async fn a_revocation_discards_what_the_kernel_holds_of_a_finished_connection() {
    const FIN_WAIT_1: u8 = 4;
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let (issued, other) = (authority.client("client_1"), authority.client("other_1"));
    let ask = async |issued| {
        let client = Client::new(&authority, issued, Http::One, &service.clock);
        let mut stream = client.shake_hands(with_little_room(service.address).await).await.unwrap();
        stream.write_all(b"GET /medium HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let address = stream.get_ref().0.local_addr().unwrap();
        let is_over = || kernel(&service, address).is_some_and(|(state, unsent)| state == FIN_WAIT_1 && unsent > 8192);
        eventually("the service has closed it", is_over).await;
        stream
    };
    let (revoked, mut slow) = (ask(&issued).await, ask(&other).await);
    assert_eq!(service.live().open_connections(), 2, "something can still be sent");

    service.install(&authority.crl(2, &[&issued]));
    eventually("it is gone", || service.live().open_connections() == 1).await;
    let (revoked, _) = revoked.into_inner();
    let there = ioctl_fionread(&revoked).unwrap();
    assert_eq!(read_to_end(revoked).await.0, there, "something came after the connection was gone");
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 65536, "a slow client receives all of it");
    drop(slow);
    eventually("it is gone, too", || service.live().open_connections() == 0).await;
}

/// A service with the feed of this publisher's authority.
async fn with_feed(publisher: &Publisher) -> (Authority, FeedServer, Service) {
    let (authority, surroundings) = (publisher.authority(), Surroundings::default());
    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let options = Options { feed: Some(server.url()), ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let service = Service::with(&identity, authority.root.certificate(), options, surroundings).await;
    (authority, server, service)
}

/// Wakes a worker of this runtime every few milliseconds until it is dropped. The worker that polled the sockets may be
/// blocked by the handler, and tokio lets another worker poll them only when it wakes.
struct Waker(Arc<AtomicBool>);

impl Waker {
    fn start() -> Self {
        let (runtime, is_over) = (Handle::current(), Arc::<AtomicBool>::default());
        let waker = Self(Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                drop(runtime.spawn(async {}));
                thread::sleep(Duration::from_millis(5));
            }
        });
        waker
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Only the confirmation waits for the blocked connection. Everything else continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_delays_the_confirmation_and_its_answer_is_never_sent() {
    let _waker = Waker::start();
    for http in [Http::One, Http::Two] {
        let publisher = Publisher::start().await;
        let (authority, server, mut service) = with_feed(&publisher).await;
        let _tasks = service.keep_current();
        let (blocking, other) = (authority.client("blocking_1"), authority.client("other_1"));
        let list = blocking.info.crl_urls[0].as_str();
        eventually("the first CRL is confirmed", || server.confirmed_last(list) == Some(1)).await;
        let client = |issued| Client::new(&authority, issued, http, &service.clock);
        let mut connection = client(&blocking).open(service.address).await;
        let asking = tokio::spawn(async move { connection.start("/blocks").await?.collect().await });
        eventually("the handler blocks", || service.gate.came() == 1).await;
        let mut open = client(&other).open(service.address).await;
        assert_eq!(open.get().await.unwrap().status, 200);

        let is_revoked = |issued: &Issued| service.live().check(&[issued.id()], start()).is_err();
        for (number, revoked) in [(2, &[&blocking][..]), (3, &[&blocking, &other])] {
            publisher.publish(|published| published.issuing = authority.crl(number, revoked));
            server.announce(&[(list, number)]);
            eventually("it is in force", || is_revoked(revoked.last().unwrap())).await;
        }
        eventually("the other connection ends", || open.is_closed()).await;
        for _ in 0..10 {
            let before = server.requests().1;
            eventually("a heartbeat is answered", || {
                server.announce(&[(list, 3)]);
                server.requests().1 > before
            })
            .await;
            assert_eq!(server.confirmed(list), Some(1), "{http:?}: confirmed while a connection continues");
        }

        service.gate.open();
        eventually("it is confirmed", || server.confirmed_last(list) == Some(3)).await;
        assert!(asking.await.unwrap().is_err(), "{http:?}: the answer was sent");
    }
}

/// An answer of known length is cut off as well.
#[tokio::test]
async fn an_answer_of_known_length_is_not_finished() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    for (number, http) in [(2, Http::One), (3, Http::Two)] {
        let issued = authority.client("client_1");
        let client = Client::new(&authority, &issued, http, &service.clock);
        let mut connection = client.open(service.address).await;
        let body = connection.start("/large").await.unwrap();
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(crate::common::LARGE as u64), "{http:?}");
        service.install(&authority.crl(number, &[&issued]));
        assert!(body.collect().await.is_err(), "{http:?}");
        tokio::time::timeout(Duration::from_mins(1), async { while connection.get().await.is_ok() {} }).await.unwrap();
    }
}
