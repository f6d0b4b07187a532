//! A whole daemon, and relying parties that are made of TLS, HTTP/2 and a few lines of JSON only: what an author of a
//! relying party can rely on.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, client::conn::http2::SendRequest, header, http::request::Builder,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::tls::Identity;
use pki::{
    certificate::Fingerprint,
    crl::{CrlNumber, RevocationReason},
    instance::{self, InstanceId},
    key::{KeyPair, PublicKey},
    name::Host,
    policy::OperatorOrder,
    profile::Profile,
    serial::Serial,
    time::Timestamp,
    token::Secret,
    wire::{
        CONFIRM_PATH, Confirmation, FEED_PATH, FeedEvent, GOODBYE_PATH, HAND_OVER_PATH, INSTANCE_HEADER, KNOWN_NUMBERS,
        KNOWN_PATH, KnownAnswer, KnownQuestion, PREDECESSORS_HEADER, ROLL_CALL_PATH, RollCallAnswer,
    },
};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    authority::tests::{Fixture, now},
    cli::tests::execute,
    feed::Forgotten,
    operator::{
        Answers, Called, Confirmed, DaemonConnection, Expected, Forget, ForgetOutcome, Published, Question,
        RelyingParties, RollCall, Wait,
    },
    store::RelyingParty,
};

mod instances;
mod own;
mod restored;
mod timer;
mod words;

/// The number of the first CRL after the founding. More in the same second count up from it.
const SECOND: i64 = 1_795_510_800;
/// The limit for anything that happens by itself. It is much longer than needed, because machines are busy.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same for a question to the daemon, in milliseconds.
const PATIENT: u64 = 60_000;
const ISSUING: &str = "http://localhost:8480/crl/issuing.crl";

struct Running {
    addresses: Listen,
    clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<io::Result<()>>,
}

fn any_port() -> Listen {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listen { https: any, http: any, operations: any }
}

impl Running {
    async fn start(fixture: &Fixture) -> Self {
        Self::start_at(fixture, now()).await
    }

    async fn start_at(fixture: &Fixture, now: Timestamp) -> Self {
        let authority = Authority::open(&fixture.directory).await.unwrap();
        Self::start_with(authority, fixture, now, Pace::default()).await
    }

    async fn start_with(authority: Authority, fixture: &Fixture, now: Timestamp, pace: Pace) -> Self {
        let clock = Clock::manual(now);
        let daemon = Daemon::start_with(authority, &fixture.directory, any_port(), clock.clone(), pace).await.unwrap();
        let addresses = daemon.addresses();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(daemon.serve(async move {
            let _ = stopped.await;
        }));
        Self { addresses, clock, stop: Some(stop), served }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, self.served).await.unwrap().unwrap().unwrap();
    }

    async fn try_connect(&self, identity: Option<&Identity>, fixture: &Fixture) -> io::Result<Peer> {
        let root = fixture.authority.certificate(Issuer::Root);
        let mut config = match identity {
            Some(identity) => mtls::tls::mutual_tls(identity, root, &self.clock).unwrap(),
            None => mtls::tls::pinned(Fingerprint::of(root), &self.clock).unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.addresses.https).await?;
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Peer { sender, secret: Secret::from_bytes(edge::random::bytes()), predecessors: Vec::new() })
    }

    async fn connect(&self, identity: &Identity, fixture: &Fixture) -> Peer {
        self.try_connect(Some(identity), fixture).await.unwrap()
    }

    /// Like `kill -9`: nothing more is stored.
    async fn kill(self) {
        self.served.abort();
        let _ = self.served.await;
    }

    async fn readiness(&self) -> String {
        self.operations("readyz").await
    }

    async fn operations(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(self.addresses.operations).await.unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// An instance and its connection.
struct Peer {
    sender: SendRequest<Full<Bytes>>,
    secret: Secret,
    predecessors: Vec<Secret>,
}

impl Peer {
    async fn send(&mut self, request: Builder, body: Vec<u8>) -> Response<Incoming> {
        let request = request.header(INSTANCE_HEADER, self.secret.to_bearer().as_str());
        let request: Request<_> = request.body(Full::from(body)).unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    async fn feed(&mut self) -> Result<Lines, (StatusCode, String)> {
        self.feed_and_standing().await.map(|(lines, _)| lines)
    }

    /// The feed, and which of the predecessors are still expected.
    async fn feed_and_standing(&mut self) -> Result<(Lines, String), (StatusCode, String)> {
        let mut request = Request::get(format!("https://localhost{FEED_PATH}"));
        if !self.predecessors.is_empty() {
            request = request.header(PREDECESSORS_HEADER, instance::write_secrets(&self.predecessors).as_str());
        }
        let response = self.send(request, Vec::new()).await;
        if response.status() == StatusCode::OK {
            let standing = response.headers()[PREDECESSORS_HEADER].to_str().unwrap().to_owned();
            return Ok((Lines(response.into_body()), standing));
        }
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Err((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// `ended` is the total of closed connections since the instance started.
    async fn confirm(&mut self, number: i64, ended: u64) -> StatusCode {
        self.confirm_until(number, ended, now().plus(Duration::from_hours(24))).await
    }

    async fn confirm_until(&mut self, number: i64, ended: u64, until: Timestamp) -> StatusCode {
        let crls = [(ISSUING.to_owned(), CrlNumber::new(number).unwrap())].into();
        let confirmation = Confirmation { crls, admits_until: Some(until), grace: 60, ended, open_connections: 3 };
        self.confirm_with(serde_json::to_vec(&confirmation).unwrap()).await
    }

    async fn confirm_with(&mut self, confirmation: Vec<u8>) -> StatusCode {
        let request =
            Request::post(format!("https://localhost{CONFIRM_PATH}")).header(header::CONTENT_TYPE, "application/json");
        self.send(request, confirmation).await.status()
    }

    async fn goodbye(&mut self) -> StatusCode {
        self.send(Request::post(format!("https://localhost{GOODBYE_PATH}")), Vec::new()).await.status()
    }

    fn id(&self) -> InstanceId {
        InstanceId::of(&self.secret)
    }
}

impl Peer {
    async fn hand_over(&mut self, crls: &str) -> StatusCode {
        let request = Request::post(format!("https://localhost{HAND_OVER_PATH}"));
        self.send(request, crls.as_bytes().to_vec()).await.status()
    }

    /// From which number on CRLs contain what these numbers revoked.
    async fn known(&mut self, numbers: &[i64]) -> Option<i64> {
        let numbers = numbers.iter().map(|number| CrlNumber::new(*number).unwrap()).collect();
        let question = KnownQuestion { crls: [(ISSUING.to_owned(), numbers)].into() };
        let answer = self.ask_known(serde_json::to_vec(&question).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<KnownAnswer>(&body).unwrap().crls[ISSUING].map(CrlNumber::get)
    }

    async fn ask_known(&mut self, question: Vec<u8>) -> Response<Incoming> {
        let request = Request::post(format!("https://localhost{KNOWN_PATH}"));
        self.send(request.header(header::CONTENT_TYPE, "application/json"), question).await
    }

    /// GET of a path on the HTTPS listener.
    async fn get(&mut self, path: &str) -> (StatusCode, Bytes) {
        let answer = self.send(Request::get(format!("https://localhost{path}")), Vec::new()).await;
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn answer_roll_call(&mut self, id: u64, open_connections: u64) -> StatusCode {
        let answer = RollCallAnswer { id, open_connections, ..RollCallAnswer::default() };
        let request = Request::post(format!("https://localhost{ROLL_CALL_PATH}"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.send(request, serde_json::to_vec(&answer).unwrap()).await.status()
    }
}

/// A feed; each frame that the daemon writes is one line.
struct Lines(Incoming);

impl Lines {
    /// The next number of the issuing CA's CRL; none at the end.
    async fn next(&mut self) -> Option<i64> {
        Some(self.event().await?.crls[ISSUING].number.get())
    }

    async fn event(&mut self) -> Option<FeedEvent> {
        let frame = timeout(PATIENCE, self.0.frame()).await.expect("silence")?.ok()?;
        // A stream ends with an empty frame.
        let line = frame.data_ref().filter(|line| !line.is_empty())?;
        Some(serde_json::from_slice(line).unwrap())
    }

    /// The daemon ended the feed properly; one that is cut off after the drain ends with an error.
    async fn has_ended(&mut self) {
        while let Some(frame) = timeout(PATIENCE, self.0.frame()).await.expect("silence") {
            let _ = frame.expect("the daemon ends the feed, and nothing cuts it off");
        }
    }

    /// The id of the next roll call.
    async fn roll_call(&mut self) -> u64 {
        loop {
            if let Some(id) = self.event().await.expect("the feed ended").roll_call {
                return id;
            }
        }
    }

    /// As [`Self::next`], but skips heartbeats and repetitions.
    async fn until(&mut self, number: i64) {
        let heard = async { while self.next().await.expect("the feed ended") != number {} };
        timeout(PATIENCE, heard).await.expect("there are heartbeats only");
    }
}

async fn identity(fixture: &Fixture, profile: Profile, name: &str, serial: u8) -> Identity {
    let key = KeyPair::generate().unwrap();
    let order = OperatorOrder {
        profile,
        subject: name.parse().unwrap(),
        organization: None,
        hosts: if profile == Profile::Server { Host::local() } else { Vec::new() },
        public_key: PublicKey::from_spki(&key.spki()).unwrap(),
        lifetime: Duration::from_hours(48),
    };
    let issued = fixture.authority.issue(order, Serial::from_random([serial; 16]), now()).await.unwrap();
    Identity::new(fixture.authority.chain(issued.der), key).unwrap()
}

async fn service(fixture: &Fixture, name: &str, serial: u8) -> Identity {
    identity(fixture, Profile::Server, name, serial).await
}

/// Revokes like another process: with a store of its own, and without a message to the daemon.
async fn revoke_elsewhere(fixture: &Fixture, serial: Serial) -> i64 {
    let other = Authority::open(&fixture.directory).await.unwrap();
    let number = other.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap().crl.get();
    // The other process ends, because the file may be replaced afterwards.
    other.store().close().await;
    number
}

async fn ask<Q: Question>(fixture: &Fixture, question: Q) -> Answers<Q::Answer> {
    let connection = DaemonConnection::open(&fixture.directory).await.unwrap().expect("a daemon runs");
    connection.ask(question).await.unwrap()
}

async fn relying_parties(fixture: &Fixture) -> Vec<RelyingParty> {
    let Expected::RelyingParties(parties) = ask(fixture, RelyingParties).await.expect().await.unwrap();
    parties
}

fn wait(number: i64, timeout_millis: u64) -> Published {
    let number = CrlNumber::new(number).unwrap();
    Published { wait: Some(Wait { issuer: Issuer::Issuing, number, committed_micros_ago: 0, timeout_millis }) }
}

#[tokio::test]
async fn a_revocation_by_any_process_is_announced() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let client = fixture.issue("client_1", 20).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(1), "at once");
    assert_eq!(revoke_elsewhere(&fixture, client).await, SECOND);
    feed.until(SECOND).await;
    assert_eq!(feed.next().await, Some(SECOND), "a heartbeat");
    daemon.stop().await;
    feed.has_ended().await;
}

#[tokio::test]
async fn a_command_receives_which_instances_enforce_its_revocation() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let client = fixture.issue("client_1", 20).await;
    let mut peers = Vec::new();
    for (name, serial) in [("service0", 30), ("service1", 31)] {
        let mut peer = daemon.connect(&service(&fixture, name, serial).await, &fixture).await;
        let mut feed = peer.feed().await.unwrap();
        assert_eq!(feed.next().await, Some(1));
        assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
        peers.push((peer, feed));
    }
    let number = revoke_elsewhere(&fixture, client).await;
    let mut answers = ask(&fixture, wait(number, PATIENT)).await;
    assert_eq!(answers.next().await.unwrap(), Some(Confirmed::Announced));
    let Some(Confirmed::RelyingParties(expected)) = answers.next().await.unwrap() else { panic!("who is expected?") };
    assert_eq!(expected.len(), 2);
    peers[0].1.until(number).await;
    assert_eq!(peers[0].0.confirm(number, 4).await, StatusCode::NO_CONTENT);
    let Some(Confirmed::Enforced { party, enforced }) = answers.next().await.unwrap() else {
        panic!("no instance confirmed")
    };
    assert_eq!((party.name.as_str(), enforced.ended), ("service0", Some(4)));
    assert!(enforced.after_micros.is_some());
    // A second command that hardly waits still receives what is already known of service0.
    let mut answers = ask(&fixture, wait(number, 1)).await;
    assert_eq!(answers.next().await.unwrap(), Some(Confirmed::Announced));
    let Some(Confirmed::RelyingParties(_)) = answers.next().await.unwrap() else { panic!("who is expected?") };
    let Some(Confirmed::Enforced { party, .. }) = answers.next().await.unwrap() else { panic!("it has confirmed") };
    assert_eq!(party.name, "service0");
    let Some(Confirmed::Missing(missing)) = answers.next().await.unwrap() else { panic!("service1 is missing") };
    assert_eq!(missing.iter().map(|party| party.name.as_str()).collect::<Vec<_>>(), ["service1"]);
    assert_eq!(missing[0].crl_number, CrlNumber::new(1));

    assert_eq!(peers[1].0.confirm(number, 0).await, StatusCode::NO_CONTENT);
    let mut answers = ask(&fixture, wait(number, PATIENT)).await;
    let mut enforced = 0;
    loop {
        match answers.next().await.unwrap().unwrap() {
            Confirmed::Enforced { .. } => enforced += 1,
            Confirmed::Missing(missing) => break assert!(missing.is_empty()),
            _ => {}
        }
    }
    assert_eq!(enforced, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn each_instance_answers_a_roll_call_while_a_command_waits() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peers = Vec::new();
    for (name, serial) in [("service0", 30), ("service1", 31)] {
        let mut peer = daemon.connect(&service(&fixture, name, serial).await, &fixture).await;
        let mut feed = peer.feed().await.unwrap();
        assert_eq!(feed.event().await.unwrap().roll_call, None, "no roll call is open");
        peers.push((peer, feed));
    }
    let mut patient = ask(&fixture, RollCall { timeout_millis: PATIENT }).await;
    let first = peers[0].1.roll_call().await;
    let mut second = ask(&fixture, RollCall { timeout_millis: PATIENT }).await;
    while peers[0].1.roll_call().await == first {}
    assert_eq!(peers[0].0.answer_roll_call(first, 5).await, StatusCode::NO_CONTENT);
    assert_eq!(peers[0].0.answer_roll_call(first, 6).await, StatusCode::NO_CONTENT);
    let present = async |answers: &mut Answers<Called>| match answers.next().await.unwrap() {
        Some(Called::Present { party, answer }) => (party.name, answer.open_connections),
        other => panic!("{other:?}"),
    };
    assert_eq!(present(&mut patient).await, ("service0".to_owned(), 5), "its first answer counts");
    // It hardly waits, and answers from before its question do not count.
    let mut hurried = ask(&fixture, RollCall { timeout_millis: 1 }).await;
    let Some(Called::Missing(silent)) = hurried.next().await.unwrap() else { panic!("an instance answered") };
    assert_eq!(silent.len(), 2);
    // It counts for all three questions, except that the last is over.
    assert_eq!(peers[1].0.answer_roll_call(first + 2, 7).await, StatusCode::NO_CONTENT);
    assert_eq!(present(&mut patient).await, ("service1".to_owned(), 7));
    assert_eq!(patient.next().await.unwrap(), Some(Called::Missing(Vec::new())));
    // service0 had not received the second question when it answered, so its answer does not count for that one.
    assert_eq!(present(&mut second).await, ("service1".to_owned(), 7));

    let client = identity(&fixture, Profile::Client, "client_1", 20).await;
    let mut client = daemon.connect(&client, &fixture).await;
    assert_eq!(client.answer_roll_call(first, 0).await, StatusCode::FORBIDDEN);
    // When no roll call is open, an instance that connects is not asked.
    drop((patient, second, hurried));
    let late = service(&fixture, "service2", 32).await;
    loop {
        let mut late = daemon.connect(&late, &fixture).await;
        if late.feed().await.unwrap().event().await.unwrap().roll_call.is_none() {
            break;
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn revoke_is_done_when_every_relying_party_has_confirmed() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    for (name, serial) in [("client_1", 20), ("client_2", 21)] {
        let _ = fixture.issue(name, serial).await;
    }
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    let revoke = |arguments: &'static [&str]| execute(&fixture.directory, &daemon.clock, arguments);
    let confirming = async {
        feed.until(SECOND).await;
        assert_eq!(peer.confirm(SECOND, 1).await, StatusCode::NO_CONTENT);
    };
    let (code, ()) = tokio::join!(revoke(&["--json", "revoke", "client_1", "--wait", "1m"]), confirming);
    assert_eq!(code, 0);
    assert_eq!(
        revoke(&["--json", "revoke", "client_2", "--wait", "100ms"]).await,
        5,
        "no instance has confirmed the next number"
    );
    assert_eq!(revoke(&["--json", "revoke", "client_2", "--no-wait"]).await, 0);
    assert_eq!(revoke(&["--json", "relying-parties", "forget", "service0"]).await, 4);
    assert_eq!(revoke(&["--json", "relying-parties", "forget", "service1"]).await, 3);
    daemon.stop().await;
    assert_eq!(execute(&fixture.directory, &Clock::manual(now()), &["revoke", "client_2"]).await, 5);
}

#[tokio::test]
async fn only_relying_parties_of_this_authority_are_accepted() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let client = identity(&fixture, Profile::Client, "client_1", 20).await;
    let mut peer = daemon.connect(&client, &fixture).await;
    let (status, body) = peer.feed().await.err().unwrap();
    assert!(status == StatusCode::FORBIDDEN && body.contains("/problems/not-a-relying-party"), "{body}");
    assert_eq!(peer.confirm(1, 0).await, StatusCode::FORBIDDEN);

    let mut peer = daemon.try_connect(None, &fixture).await.unwrap();
    let (status, body) = peer.feed().await.err().unwrap();
    assert!(status == StatusCode::FORBIDDEN && body.contains("/problems/certificate-missing"), "{body}");
    assert_eq!(peer.confirm(1, 0).await, StatusCode::FORBIDDEN);

    let elsewhere = Fixture::new().await;
    let foreign = service(&elsewhere, "service0", 30).await;
    let refused =
        async { daemon.try_connect(Some(&foreign), &fixture).await?.sender.ready().await.map_err(io::Error::other) };
    // In TLS 1.3, a client receives the refusal only when it reads.
    if refused.await.is_ok() {
        let mut peer = daemon.connect(&foreign, &fixture).await;
        let request = Request::get(format!("https://localhost{FEED_PATH}")).body(Full::default()).unwrap();
        assert!(peer.sender.send_request(request).await.is_err());
    }
    assert_eq!(relying_parties(&fixture).await, []);
    daemon.stop().await;
}

#[tokio::test]
async fn a_revoked_or_expired_relying_party_is_removed_from_the_feed() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let revoked = service(&fixture, "service0", 30).await;
    let mut peer = daemon.connect(&revoked, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    let mut other = daemon.connect(&service(&fixture, "service1", 31).await, &fixture).await;
    let mut others_feed = other.feed().await.unwrap();
    revoke_elsewhere(&fixture, revoked.info().id.serial).await;
    while feed.next().await.is_some() {}
    others_feed.until(SECOND).await;
    let (status, body) = peer.feed().await.err().unwrap();
    assert!(status == StatusCode::FORBIDDEN && body.contains("/problems/certificate-revoked"), "{body}");
    assert_eq!(peer.confirm(SECOND, 0).await, StatusCode::FORBIDDEN);
    daemon.clock.set(now().plus(Duration::from_hours(49)));
    while others_feed.next().await.is_some() {}
    let (_, body) = other.feed().await.err().unwrap();
    assert!(body.contains("/problems/certificate-expired"), "{body}");
    daemon.stop().await;
}

#[tokio::test]
async fn relying_parties_outlive_the_daemon_until_they_are_forgotten() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let service = service(&fixture, "service0", 30).await;
    let mut peer = daemon.connect(&service, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(1));
    assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
    let parties = relying_parties(&fixture).await;
    assert_eq!((parties.len(), parties[0].connected_since, parties[0].open_connections), (1, Some(now()), 3));
    let order = || Forget { name: "service0".to_owned(), instance: None };
    let forget = async || ask(&fixture, order()).await.next().await.unwrap();
    assert_eq!(forget().await, Some(ForgetOutcome::Forgotten(Forgotten::Connected)));
    daemon.stop().await;
    feed.has_ended().await;
    assert!(DaemonConnection::open(&fixture.directory).await.unwrap().is_none());

    // What was revoked while no message came is announced first.
    let client = fixture.issue("client_1", 20).await;
    revoke_elsewhere(&fixture, client).await;
    let daemon = Running::start(&fixture).await;
    let parties = relying_parties(&fixture).await;
    assert_eq!((parties[0].name.as_str(), parties[0].connected_since), ("service0", None));
    assert_eq!((parties[0].crl_number, parties[0].grace), (CrlNumber::new(1), 60));
    let mut peer = Peer { secret: peer.secret, ..daemon.connect(&service, &fixture).await };
    let mut feed = peer.feed().await.unwrap();
    assert_eq!(feed.next().await, Some(SECOND));
    let id = peer.id();
    drop((peer, feed));
    while relying_parties(&fixture).await[0].connected_since.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(forget().await, Some(ForgetOutcome::Forgotten(Forgotten::Done(vec![id]))));
    assert_eq!(forget().await, Some(ForgetOutcome::Forgotten(Forgotten::Unknown)));
    daemon.stop().await;
    assert_eq!(fixture.authority.store().relying_parties().await.unwrap(), []);
}

#[tokio::test]
async fn a_directory_has_one_daemon_and_a_leftover_socket_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new().await;
    drop(std::os::unix::net::UnixListener::bind(fixture.directory.socket()).unwrap());
    assert!(DaemonConnection::open(&fixture.directory).await.unwrap().is_none(), "no daemon listens on it");
    let daemon = Running::start(&fixture).await;
    let mode = std::fs::metadata(fixture.directory.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Daemon::start(fixture.directory.path(), any_port(), Clock::manual(now())).await;
    assert!(second.unwrap_err().to_string().contains("another ca-daemon already serves"));
    assert_eq!(relying_parties(&fixture).await, [], "the first daemon still answers");
    daemon.stop().await;
    Running::start(&fixture).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_daemons_that_start_at_once_for_the_first_time_one_does() {
    let fixture = Fixture::new().await;
    let starting: JoinSet<_> = (0..8)
        .map(|_| {
            let path = fixture.directory.path().to_owned();
            async move { Daemon::start(&path, any_port(), Clock::manual(now())).await }
        })
        .collect();
    let (running, refused): (Vec<_>, Vec<_>) = starting.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(running.len(), 1);
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert!(matches!(&error, StartError::Socket(SocketError::Running(_))), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_reconnect_at_once_are_all_told() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut feeds = Vec::new();
    let one = service(&fixture, "service0", 30).await;
    let secret = Secret::from_bytes([7; 32]);
    for _ in 0..200 {
        let mut peer = Peer { secret: secret.clone(), ..daemon.connect(&one, &fixture).await };
        let feed = peer.feed().await.unwrap();
        feeds.push((peer, feed));
    }
    let client = fixture.issue("client_1", 20).await;
    revoke_elsewhere(&fixture, client).await;
    for (_, feed) in &mut feeds {
        feed.until(SECOND).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn announced_crls_are_public_over_https() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let mut feed = peer.feed().await.unwrap();
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    let event = loop {
        let event = feed.event().await.unwrap();
        if event.crls[ISSUING].number.get() == number {
            break event;
        }
    };
    // CRLs are public: a client without a certificate gets them as well.
    let mut stranger = daemon.try_connect(None, &fixture).await.unwrap();
    let mut listings = 0;
    for current in event.crls.values() {
        for listing in [Some(&current.complete), current.delta.as_ref()].into_iter().flatten() {
            let (status, der) = stranger.get(&listing.path).await;
            assert_eq!((status, listing.size), (StatusCode::OK, Some(u64::try_from(der.len()).unwrap())));
            assert_eq!(listing.sha256, Some(Fingerprint::of(&der).to_string()), "{}", listing.path);
            listings += 1;
        }
    }
    assert_eq!(listings, 3, "the root's list, the issuing CA's and its delta");
    let delta = event.crls[ISSUING].delta.as_ref().unwrap();
    assert_eq!((delta.number.get(), event.crls[ISSUING].complete.number.get()), (number, number));
    daemon.stop().await;
}
