//! Revoked servers: how a client detects them, from which CRLs, and what happens to its connections and sessions.

use std::{error::Error, net::SocketAddr, path::Path, time::Duration};

use axum::{Router, body::Body, routing::get};
use axum_server::Handle;
use edge::{clock::Clock, errors::find};
use futures_util::stream;
use http::{Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mtls::{
    errors::error_chain,
    revocation::InstallError,
    standing::{Lists as Kept, OnMissingCrl, Options, RefreshError, ServerRefusal, ServerStanding, WatchedConnector},
};
use pki::{crl::CrlVerifyError, serial::Serial};
use rustls::{ClientConfig, HandshakeKind, client::Resumption};
use tempfile::TempDir;

use crate::common::{
    Authority, DAY, Issued,
    authority::Founding,
    eventually, listen,
    lists::{Given, ListServer, Lists},
    publisher::Publisher,
    start,
    tls::Tls,
};

/// A server with a server certificate.
struct Server {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
}

impl Server {
    async fn presenting(issued: &Issued) -> Self {
        let handle = Handle::new();
        let endless = || {
            stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Some((Ok::<_, std::io::Error>("more"), ()))
            })
        };
        let routes = Router::new()
            .route("/", get(async || "answered"))
            .route("/endless", get(async move || Body::from_stream(endless())));
        let server = axum_server::from_tcp(listen()).unwrap().handle(handle.clone());
        let server = server.acceptor(Tls::presenting(issued.chain.clone(), &issued.key));
        tokio::spawn(server.serve(routes.into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { address, handle }
    }

    fn url(&self, path: &str) -> Uri {
        format!("https://{}{path}", self.address).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

type Connector = WatchedConnector<HttpsConnector<HttpConnector>>;

/// A client's machine: an identity, and the directory for its CRLs.
struct Machine {
    authority: Authority,
    own: Issued,
    directory: TempDir,
    clock: Clock,
}

impl Machine {
    fn of(authority: Authority) -> Self {
        let own = authority.client("client_1");
        Self { authority, own, directory: tempfile::tempdir().unwrap(), clock: Clock::manual(start()) }
    }

    fn new() -> Self {
        Self::of(Authority::new())
    }

    /// A server that presents this, and a server for the CRLs of the machine's authority.
    async fn facing(&self, presented: &Issued) -> (Server, ListServer) {
        (Server::presenting(presented).await, ListServer::of(&self.authority).await)
    }

    fn options(&self, server: &ListServer) -> Options {
        Options {
            authority: Some(server.url()),
            clock: self.clock.clone(),
            ..Options::new(self.crl_directory().into())
        }
    }

    fn crl_directory(&self) -> &Path {
        self.directory.path()
    }

    fn start(&self, options: Options) -> (ServerStanding, Kept) {
        ServerStanding::new(&self.own.identity(), self.authority.root.certificate(), options).unwrap()
    }

    fn tls(&self, standing: &ServerStanding) -> ClientConfig {
        standing.tls(&self.own.identity()).unwrap()
    }
}

fn http(tls: &ClientConfig, standing: &ServerStanding) -> Client<Connector, Empty<Bytes>> {
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only().enable_all_versions().build();
    Client::builder(TokioExecutor::new()).build(standing.connector(connector))
}

type Failed = Box<dyn Error + Send + Sync>;

async fn ask(http: &Client<Connector, Empty<Bytes>>, url: Uri) -> Result<Response<Incoming>, Failed> {
    Ok(http.get(url).await?)
}

/// A request of a new client over its own connection.
async fn visit(machine: &Machine, standing: &ServerStanding, server: &Server) -> Result<String, Failed> {
    let http = http(&machine.tls(standing), standing);
    let body = ask(&http, server.url("/")).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The error with which an endless answer ends.
async fn end_of(streaming: &mut Incoming) -> hyper::Error {
    let ended = async {
        loop {
            if let Err(error) = streaming.frame().await.expect("it ends with an error") {
                break error;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), ended).await.expect("the connection ends")
}

/// The refusal of our own verifier, from a failed handshake or later.
#[track_caller]
fn refusal(failed: &Failed) -> ServerRefusal {
    ServerRefusal::find(failed.as_ref()).cloned().unwrap_or_else(|| panic!("no refusal of ours: {failed:?}"))
}

#[track_caller]
fn assert_revoked(result: Result<String, Failed>, what: &str) {
    let failed = result.expect_err(what);
    assert!(matches!(refusal(&failed), ServerRefusal::Revoked(_)), "{what}: {failed:?}");
    assert!(error_chain(failed.as_ref()).contains("is revoked"), "{what}: {}", error_chain(failed.as_ref()));
}

#[track_caller]
fn assert_unknown(result: Result<String, Failed>, what: &str) {
    let failed = result.expect_err(what);
    assert!(matches!(refusal(&failed), ServerRefusal::Unknown(_)), "{what}: {failed:?}");
}

#[tokio::test]
async fn a_server_is_accepted_unless_it_or_its_ca_is_revoked() {
    let machine = Machine::new();
    let (authority, one, other) =
        (&machine.authority, machine.authority.server("one"), machine.authority.server("other"));
    let issuing: Serial = authority.issuing.info().id.serial;
    let (server, list_server) = machine.facing(&one).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    let lists = &list_server.lists;

    assert_unknown(visit(&machine, &standing, &server).await, "no list");
    kept.refresh().await.unwrap();
    assert!(standing.is_current());
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered");
    lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&other])));
    kept.refresh().await.unwrap();
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered", "another one is revoked");
    lists.give(|given| given.servers = Some(authority.servers_crl(3, &[&other, &one])));
    kept.refresh().await.unwrap();
    assert_revoked(visit(&machine, &standing, &server).await, "the server");
    lists.give(|given| {
        given.servers = Some(authority.servers_crl(4, &[]));
        given.root = Some(authority.root_crl(2, &[issuing]));
    });
    // The authority itself is below that CA.
    assert!(matches!(kept.refresh().await, Err(RefreshError::Authority { .. })));
    assert_revoked(visit(&machine, &standing, &server).await, "its CA");
}

/// An attacker may present anything. Nothing is parsed of a chain that is longer than any valid path.
#[tokio::test]
async fn a_server_with_a_longer_chain_than_any_path_is_refused() {
    let machine = Machine::new();
    let list_server = ListServer::of(&machine.authority).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    kept.refresh().await.unwrap();
    for (more, why) in [(5, None), (6, Some("7 certificates were presented above the peer's own"))] {
        let mut server = machine.authority.server("one");
        server.chain.extend((0..more).map(|_| machine.authority.client("other").chain.swap_remove(0)));
        let server = Server::presenting(&server).await;
        let visited = visit(&machine, &standing, &server).await;
        match (visited, why) {
            (Ok(answer), None) => assert_eq!(answer, "answered"),
            (Err(failed), Some(why)) => {
                let text = error_chain(failed.as_ref());
                assert!(text.contains(why), "{text}");
            }
            (visited, why) => panic!("{why:?}: {visited:?}"),
        }
    }
}

#[tokio::test]
async fn only_the_crls_of_servers_and_cas_are_fetched() {
    let machine = Machine::new();
    let list_server = ListServer::of(&machine.authority).await;
    let (_, mut kept) = machine.start(machine.options(&list_server));
    let asked = |status| vec![("/crl/servers.crl".to_owned(), status), ("/crl/root.crl".to_owned(), status)];
    kept.refresh().await.unwrap();
    assert_eq!(list_server.lists.asked(), asked(200));
    kept.refresh().await.unwrap();
    assert_eq!(list_server.lists.asked(), asked(304), "an unchanged CRL is not sent again");
}

#[tokio::test]
async fn only_current_crls_that_cover_servers_are_accepted() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let one = authority.server("one");
    let (server, list_server) = machine.facing(&one).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    let stranger = Authority::named("Elsewhere", "http://127.0.0.1:1/crl");
    let namesake = Authority::new();
    let stale = authority.servers_crl_between(1, start().minus(DAY * 2), start().minus(DAY), &[]);
    for (what, list) in [
        ("the complete CRL", Some(authority.crl(1, &[]))),
        ("that of another authority", Some(stranger.servers_crl(1, &[]))),
        ("that of a namesake", Some(namesake.servers_crl(1, &[]))),
        ("a stale one", Some(stale)),
        ("none", None),
        ("junk", Some(b"<html>".to_vec())),
    ] {
        list_server.lists.give(|given| given.servers = list);
        assert!(kept.refresh().await.is_err(), "{what}");
        assert_unknown(visit(&machine, &standing, &server).await, what);
    }
    list_server.lists.give(|given| given.servers = Some(authority.crl(1, &[])));
    let Err(RefreshError::Install { source: InstallError::Verify(why), .. }) = kept.refresh().await else {
        panic!("the complete CRL was accepted");
    };
    let expected = "http://127.0.0.1:1/crl/servers.crl".to_owned();
    assert_eq!(why, CrlVerifyError::OtherScope { expected });
}

#[tokio::test]
async fn stored_crls_are_used_while_they_are_current() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let (one, revoked) = (authority.server("one"), authority.server("revoked"));
    let (server, bad) = (Server::presenting(&one).await, Server::presenting(&revoked).await);
    let list_server = ListServer::of(authority).await;
    list_server.lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&revoked])));
    let options = machine.options(&list_server);
    machine.start(options.clone()).1.refresh().await.unwrap();
    list_server.goes_down();

    let (standing, mut kept) = machine.start(options.clone());
    assert!(matches!(kept.refresh().await, Err(RefreshError::Fetch { .. })));
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered", "the authority may be down");
    assert_revoked(visit(&machine, &standing, &bad).await, "by the stored CRL");
    machine.clock.set(start().plus(DAY * 2));
    assert_unknown(visit(&machine, &standing, &server).await, "the CRL is stale");
    // If no CRL can be fetched, a server that is known to be revoked is still refused.
    let (standing, _) = machine.start(Options { on_missing_crl: OnMissingCrl::Accept, ..options.clone() });
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered");
    assert_revoked(visit(&machine, &standing, &bad).await, "revoked and stale");
    let elsewhere = Options { crl_directory: machine.directory.path().join("none"), ..options };
    let (standing, _) = machine.start(Options { on_missing_crl: OnMissingCrl::Accept, ..elsewhere });
    assert_eq!(visit(&machine, &standing, &bad).await.unwrap(), "answered", "the unknown status is accepted");
}

#[tokio::test]
async fn an_older_crl_is_refused() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let revoked = authority.server("revoked");
    let (server, list_server) = machine.facing(&revoked).await;
    list_server.lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&revoked])));
    let options = machine.options(&list_server);
    machine.start(options.clone()).1.refresh().await.unwrap();
    list_server.lists.give(|given| given.servers = Some(authority.servers_crl(1, &[])));
    let (standing, mut kept) = machine.start(options);
    assert!(matches!(
        kept.refresh().await,
        Err(RefreshError::Install { source: InstallError::LowerNumber { .. }, .. })
    ));
    assert_revoked(visit(&machine, &standing, &server).await, "an older CRL was replayed");
}

/// Two clients that run at once share the files of their CRLs, and one of them receives older CRLs.
#[tokio::test]
async fn an_older_crl_does_not_replace_what_another_process_has_stored() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let revoked = authority.server("revoked");
    let (server, list_server) = machine.facing(&revoked).await;
    let give = |number, revoked: &[&Issued]| {
        list_server.lists.give(|given| given.servers = Some(authority.servers_crl(number, revoked)));
    };
    let options = machine.options(&list_server);
    let (standing, mut kept) = machine.start(options.clone());
    kept.refresh().await.unwrap();
    give(3, &[&revoked]);
    machine.start(options.clone()).1.refresh().await.unwrap();
    give(2, &[]);
    let refreshed = kept.refresh().await;
    assert!(matches!(refreshed, Err(RefreshError::Install { source: InstallError::LowerNumber { .. }, .. })));
    assert_revoked(visit(&machine, &standing, &server).await, "the stored CRL is used");
    let (standing, _) = machine.start(options);
    assert_revoked(visit(&machine, &standing, &server).await, "the older CRL was stored");
}

#[tokio::test]
async fn an_open_connection_ends_when_its_server_is_revoked_and_no_other() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let (one, other) = (authority.server("one"), authority.server("other"));
    let (server, bystander) = (Server::presenting(&one).await, Server::presenting(&other).await);
    let list_server = ListServer::of(authority).await;
    let options = Options { crl_refresh: Duration::from_millis(10), ..machine.options(&list_server) };
    let (standing, mut kept) = machine.start(options);
    kept.refresh().await.unwrap();
    let polling = tokio::spawn(kept.keep_current());
    let http = http(&machine.tls(&standing), &standing);
    let mut streaming = ask(&http, server.url("/endless")).await.unwrap().into_body();
    let mut unaffected = ask(&http, bystander.url("/endless")).await.unwrap().into_body();
    assert!(streaming.frame().await.unwrap().is_ok() && unaffected.frame().await.unwrap().is_ok());
    assert_eq!(standing.live_set().open_connections(), 2);

    list_server.lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&one])));
    let ended = end_of(&mut streaming).await;
    assert!(error_chain(&ended).contains("the server is revoked"), "{ended:?}");
    eventually("it is gone", || standing.live_set().open_connections() == 1).await;
    assert!(unaffected.frame().await.unwrap().is_ok(), "the other connection continues");
    polling.abort();
}

/// A CRL is fetched even if another one is missing, or is never sent.
#[tokio::test]
async fn each_crl_is_fetched_whether_or_not_another_one_fails() {
    for (what, change) in [
        ("none", (|given| given.servers = None) as fn(&mut Given)),
        ("junk", |given| given.servers = Some(b"<html>".to_vec())),
        ("silence", |given| given.servers_never_come = true),
    ] {
        let machine = Machine::new();
        let authority = &machine.authority;
        let one = authority.server("one");
        let (server, list_server) = machine.facing(&one).await;
        let (standing, mut kept) = machine.start(machine.options(&list_server));
        kept.refresh().await.unwrap();
        let issuing = authority.issuing.info().id.serial;
        list_server.lists.give(|given| given.root = Some(authority.root_crl(2, &[issuing])));
        list_server.lists.give(change);
        assert!(kept.refresh().await.is_err(), "{what}");
        assert_revoked(visit(&machine, &standing, &server).await, what);
    }
}

/// If no server's status is known any more, open connections end as well.
#[tokio::test]
async fn open_connections_end_when_the_crls_are_not_current_any_more() {
    let machine = Machine::new();
    let one = machine.authority.server("one");
    let (server, list_server) = machine.facing(&one).await;
    // Independent of the refresh interval.
    let options = Options { crl_refresh: DAY, ..machine.options(&list_server) };
    let (standing, mut kept) = machine.start(options);
    kept.refresh().await.unwrap();
    let polling = tokio::spawn(kept.keep_current());
    let http = http(&machine.tls(&standing), &standing);
    let mut streaming = ask(&http, server.url("/endless")).await.unwrap().into_body();
    assert!(streaming.frame().await.unwrap().is_ok());
    machine.clock.set(start().plus(DAY * 2));
    let ended = end_of(&mut streaming).await;
    assert!(error_chain(&ended).contains("whether the server is revoked is not known"), "{ended:?}");
    polling.abort();
}

#[tokio::test]
async fn a_session_with_a_revoked_server_is_not_resumed() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let one = authority.server("one");
    let (server, list_server) = machine.facing(&one).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    kept.refresh().await.unwrap();
    // With a client that drops its sessions, and with one that keeps them.
    let forgetting = machine.tls(&standing);
    let mut keeping = machine.tls(&standing);
    keeping.resumption = Resumption::in_memory_sessions(8);
    for tls in [&forgetting, &keeping] {
        assert_eq!(connect(tls, &standing, &server).await.unwrap(), HandshakeKind::Full);
        assert_eq!(connect(tls, &standing, &server).await.unwrap(), HandshakeKind::Resumed);
    }
    list_server.lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&one])));
    kept.refresh().await.unwrap();
    for (tls, in_handshake) in [(&forgetting, true), (&keeping, false)] {
        let failed = connect(tls, &standing, &server).await.unwrap_err();
        assert!(matches!(refusal(&failed), ServerRefusal::Revoked(_)), "{failed:?}");
        // A resumed handshake skips the verifier, and is refused afterwards.
        assert_eq!(find::<std::io::Error>(failed.as_ref()).is_some(), in_handshake, "{failed:?}");
    }
}

/// The verifier checks the dates, but it sees neither open connections nor resumed sessions.
#[tokio::test]
async fn connections_and_sessions_end_when_the_server_certificate_expires() {
    let machine = Machine::new();
    let (hour, one) = (Duration::from_hours(1), machine.authority.server_of("one", Duration::from_hours(1)));
    let (server, list_server) = machine.facing(&one).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    kept.refresh().await.unwrap();
    let polling = tokio::spawn(kept.keep_current());
    let tls = machine.tls(&standing);
    assert_eq!(connect(&tls, &standing, &server).await.unwrap(), HandshakeKind::Full);
    let http = http(&machine.tls(&standing), &standing);
    let mut streaming = ask(&http, server.url("/endless")).await.unwrap().into_body();
    machine.clock.set(start().plus(hour));
    assert_eq!(connect(&tls, &standing, &server).await.unwrap(), HandshakeKind::Resumed, "its last second");

    machine.clock.set(start().plus(hour + Duration::from_secs(1)));
    let failed = connect(&tls, &standing, &server).await.unwrap_err();
    assert!(error_chain(failed.as_ref()).contains("has expired"), "{failed:?}");
    let ended = end_of(&mut streaming).await;
    assert!(error_chain(&ended).contains("certificate: expired"), "{ended:?}");
    polling.abort();
}

/// Connects, reads until the session ticket has arrived, and returns the kind of handshake.
async fn connect(tls: &ClientConfig, standing: &ServerStanding, server: &Server) -> Result<HandshakeKind, Failed> {
    use hyper_rustls::MaybeHttpsStream;
    use tower::Service as _;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only().enable_http1().build();
    let stream = standing.connector(connector).call(server.url("/")).await?;
    let MaybeHttpsStream::Https(inner) = stream.get_ref() else { panic!("no TLS") };
    let kind = inner.inner().get_ref().1.handshake_kind().unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let request = http::Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
    sender.send_request(request).await?.into_body().collect().await?;
    Ok(kind)
}

/// An impostor with the key of a revoked certificate of the authority must not hold back other revocations.
#[tokio::test]
async fn nothing_is_fetched_from_a_revoked_authority() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let stolen = authority.own().with_root(authority);
    let lists = Lists::of(authority);
    lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&stolen])));
    let thief = ListServer::presenting(&stolen, lists.clone()).await;
    let (_, mut kept) = machine.start(machine.options(&thief));
    assert!(matches!(kept.refresh().await, Err(RefreshError::Authority { .. })), "detected by its own CRL");
    lists.asked();
    let error = kept.refresh().await.unwrap_err();
    assert!(lists.asked().is_empty() && error_chain(&error).contains("is revoked"), "in the handshake: {error:?}");
    let other = authority.server("other").with_root(authority);
    let other = ListServer::presenting(&other, Lists::of(authority)).await;
    let (_, mut kept) =
        machine.start(Options { crl_directory: machine.directory.path().join("none"), ..machine.options(&other) });
    assert!(kept.refresh().await.is_err() && other.lists.asked().is_empty(), "another server of the fleet");
}

/// Without the address of an authority, CRLs come from the distribution points, whatever the CA.
#[tokio::test]
async fn without_an_authority_the_distribution_points_are_used() {
    let publisher = Publisher::start().await;
    let authority = publisher.authority_of(Founding::default());
    let one = authority.server("one");
    let server = Server::presenting(&one).await;
    let machine = Machine::of(authority);
    let options = Options { clock: machine.clock.clone(), ..Options::new(machine.crl_directory().into()) };
    let (standing, mut kept) = machine.start(options);
    kept.refresh().await.unwrap();
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered");
    publisher.publish(|published| published.issuing = machine.authority.crl(2, &[&one]));
    kept.refresh().await.unwrap();
    assert_revoked(visit(&machine, &standing, &server).await, "by the complete CRL, as there is no other");
}
