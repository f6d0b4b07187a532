//! Servers that are revoked: what a client finds out, from where, and what becomes of its connections and sessions.

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

/// Somebody with a server's certificate.
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

/// A client's machine: an identity, and where its lists are kept.
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

    /// A server that presents this, and what publishes the lists of the machine's authority.
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

/// A new client's request, over a connection of its own.
async fn visit(machine: &Machine, standing: &ServerStanding, server: &Server) -> Result<String, Failed> {
    let http = http(&machine.tls(standing), standing);
    let body = ask(&http, server.url("/")).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The error that an answer without end ends with.
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

/// What one of ours says in a failed handshake, or after it.
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
async fn a_server_is_talked_to_unless_it_or_its_ca_is_revoked() {
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
    // The authority itself is beneath that CA.
    assert!(matches!(kept.refresh().await, Err(RefreshError::Authority { .. })));
    assert_revoked(visit(&machine, &standing, &server).await, "its CA");
}

/// Whoever is in the middle may present what they like: nothing of it is looked at that is more than a path has.
#[tokio::test]
async fn a_server_that_presents_more_than_any_path_has_is_not_talked_to() {
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
async fn only_the_lists_of_servers_and_cas_are_ever_asked_for() {
    let machine = Machine::new();
    let list_server = ListServer::of(&machine.authority).await;
    let (_, mut kept) = machine.start(machine.options(&list_server));
    let asked = |status| vec![("/crl/servers.crl".to_owned(), status), ("/crl/root.crl".to_owned(), status)];
    kept.refresh().await.unwrap();
    assert_eq!(list_server.lists.asked(), asked(200));
    kept.refresh().await.unwrap();
    assert_eq!(list_server.lists.asked(), asked(304), "what is here already is not sent again");
}

#[tokio::test]
async fn lists_are_believed_that_are_current_and_cover_servers() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let one = authority.server("one");
    let (server, list_server) = machine.facing(&one).await;
    let (standing, mut kept) = machine.start(machine.options(&list_server));
    let stranger = Authority::named("Elsewhere", "http://127.0.0.1:1/crl");
    let namesake = Authority::new();
    let stale = authority.servers_crl_between(1, start().minus(DAY * 2), start().minus(DAY), &[]);
    for (what, list) in [
        ("the complete list", Some(authority.crl(1, &[]))),
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
        panic!("the complete list was believed");
    };
    let expected = "http://127.0.0.1:1/crl/servers.crl".to_owned();
    assert_eq!(why, CrlVerifyError::OtherScope { expected });
}

#[tokio::test]
async fn lists_are_kept_for_as_long_as_they_are_current() {
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
    assert_revoked(visit(&machine, &standing, &bad).await, "by the list that was kept");
    machine.clock.set(start().plus(DAY * 2));
    assert_unknown(visit(&machine, &standing, &server).await, "the list is stale");
    // Where a list is truly out of reach: who is known to be revoked is refused all the same.
    let (standing, _) = machine.start(Options { on_missing_crl: OnMissingCrl::Accept, ..options.clone() });
    assert_eq!(visit(&machine, &standing, &server).await.unwrap(), "answered");
    assert_revoked(visit(&machine, &standing, &bad).await, "revoked and stale");
    let elsewhere = Options { crl_directory: machine.directory.path().join("none"), ..options };
    let (standing, _) = machine.start(Options { on_missing_crl: OnMissingCrl::Accept, ..elsewhere });
    assert_eq!(visit(&machine, &standing, &bad).await.unwrap(), "answered", "nothing is known, and that is accepted");
}

#[tokio::test]
async fn an_older_list_is_not_believed_again() {
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
    assert_revoked(visit(&machine, &standing, &server).await, "an older list was played again");
}

/// Two that run at once keep their lists in one place, and one of them hears of older ones.
#[tokio::test]
async fn an_older_list_does_not_take_the_place_of_what_another_process_has_kept() {
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
    assert_revoked(visit(&machine, &standing, &server).await, "what is on the disk is known");
    let (standing, _) = machine.start(options);
    assert_revoked(visit(&machine, &standing, &server).await, "the older list was kept");
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
    assert!(unaffected.frame().await.unwrap().is_ok(), "nobody else notices");
    polling.abort();
}

/// What one list says does not depend on another one's being there, or being sent.
#[tokio::test]
async fn each_list_is_asked_for_whatever_becomes_of_another() {
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

/// Where nothing is known any more of any server, what is open ends as well.
#[tokio::test]
async fn open_connections_end_when_the_lists_are_not_current_any_more() {
    let machine = Machine::new();
    let one = machine.authority.server("one");
    let (server, list_server) = machine.facing(&one).await;
    // However seldom it asks.
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
    // With the sessions that it forgets by itself, and with those of somebody who keeps them.
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
        // The one that is resumed skips the verifier, and is refused after the handshake.
        assert_eq!(find::<std::io::Error>(failed.as_ref()).is_some(), in_handshake, "{failed:?}");
    }
}

/// The verifier, which asks for the dates, sees neither what is open nor sessions that are resumed.
#[tokio::test]
async fn what_was_begun_with_a_server_ends_when_its_certificate_expires() {
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

/// Makes a connection, reads until the session's ticket has come, and says how hands were shaken.
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

/// Whoever holds the key of a certificate of the authority's own that was revoked cannot keep the revocation of another one away.
#[tokio::test]
async fn a_revoked_authority_is_not_asked() {
    let machine = Machine::new();
    let authority = &machine.authority;
    let stolen = authority.own().with_root(authority);
    let lists = Lists::of(authority);
    lists.give(|given| given.servers = Some(authority.servers_crl(2, &[&stolen])));
    let thief = ListServer::presenting(&stolen, lists.clone()).await;
    let (_, mut kept) = machine.start(machine.options(&thief));
    assert!(matches!(kept.refresh().await, Err(RefreshError::Authority { .. })), "found out by its own list");
    lists.asked();
    let error = kept.refresh().await.unwrap_err();
    assert!(lists.asked().is_empty() && error_chain(&error).contains("is revoked"), "in the handshake: {error:?}");
    let other = authority.server("other").with_root(authority);
    let other = ListServer::presenting(&other, Lists::of(authority)).await;
    let (_, mut kept) =
        machine.start(Options { crl_directory: machine.directory.path().join("none"), ..machine.options(&other) });
    assert!(kept.refresh().await.is_err() && other.lists.asked().is_empty(), "another server of the fleet");
}

/// Without the address of an authority, lists come from where the certificates say, of whichever CA they are.
#[tokio::test]
async fn without_an_authority_the_distribution_points_are_asked() {
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
    assert_revoked(visit(&machine, &standing, &server).await, "by the complete list, as there is no other");
}
