//! Enrollment with a server of the test, which plays the authority or an impostor.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use axum_server::Handle;
use edge::{
    clock::Clock,
    files::{self, Access, FileError},
};
use futures_util::stream;
use mtls::{
    authority::{EnrollError, Enrolled, FindTokenError, IdentityFiles, TokenSources, enroll},
    standing::{Options, ServerStanding},
    tls::IdentityError,
};
use pki::{
    certificate::Fingerprint,
    csr::{CertificateRequest, Proposal},
    issuing::{CertificateAuthority, Publication},
    key::{KeyPair, PublicKey},
    pem,
    profile::Profile,
    token::{Secret, Token},
    wire::{ENROLL_PATH, EnrollRequest, EnrollResponse, PROBLEM_JSON, Problem},
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use crate::common::{
    Authority, DAY, Issued,
    authority::{copy, next_serial, order},
    listen,
    lists::Lists,
    start,
    tls::Tls,
};

const SECRET: [u8; 32] = [7; 32];

/// The server at the token's address.
struct Server {
    address: SocketAddr,
    desk: Arc<Desk>,
    handle: Handle<SocketAddr>,
}

/// The received requests, and the answers to the next ones. The last answer is repeated.
struct Desk {
    received: Mutex<Vec<Received>>,
    answers: Mutex<Vec<Reply>>,
}

#[derive(Clone, Debug)]
struct Received {
    bearer: String,
    public_key: PublicKey,
}

type Reply = Box<dyn Fn(&CertificateRequest) -> Response + Send>;

impl Server {
    async fn presenting(chain: Vec<CertificateDer<'static>>, key: &KeyPair, lists: Lists, answers: Vec<Reply>) -> Self {
        let desk = Arc::new(Desk { received: Mutex::default(), answers: Mutex::new(answers) });
        let handle = Handle::new();
        let routes =
            Router::new().route(ENROLL_PATH, post(receive)).with_state(Arc::clone(&desk)).merge(lists.routes());
        let server =
            axum_server::from_tcp(listen()).unwrap().handle(handle.clone()).acceptor(Tls::presenting(chain, key));
        tokio::spawn(server.serve(routes.into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { address, desk, handle }
    }

    /// The authority itself.
    async fn of(authority: &Authority, answers: Vec<Reply>) -> Self {
        let own = authority.own().with_root(authority);
        Self::presenting(own.chain, &own.key, Lists::of(authority), answers).await
    }

    fn token(&self, root: Fingerprint) -> Token {
        let url = format!("https://{}", self.address).parse().unwrap();
        Token { url, root, secret: Secret::from_bytes(SECRET) }
    }

    fn received(&self) -> Vec<Received> {
        self.desk.received.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, Json(request): Json<EnrollRequest>) -> Response {
    let csr = CertificateRequest::from_der(&pem::read_csr(&request.csr).unwrap()).unwrap();
    let bearer = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    desk.received.lock().unwrap().push(Received { bearer, public_key: csr.public_key().clone() });
    let mut answers = desk.answers.lock().unwrap();
    if answers.len() > 1 { answers.remove(0)(&csr) } else { answers[0](&csr) }
}

/// The authority's answer: a certificate for the requested key.
fn certificate(authority: &Arc<Authority>) -> Reply {
    let authority = Arc::clone(authority);
    Box::new(move |csr| {
        let order = order(Profile::Client, "client_1", Vec::new(), csr.public_key().clone(), DAY);
        let issued = authority.issuing.issue(&order, next_serial(), start()).unwrap();
        answer(&[issued.der, authority.issuing.certificate().clone()], authority.root.certificate())
    })
}

fn answer(chain: &[CertificateDer<'_>], root: &CertificateDer<'_>) -> Response {
    Json(EnrollResponse { chain: pem::chain(chain), root: pem::certificate(root), renewal: None }).into_response()
}

fn denied(status: StatusCode, detail: &'static str) -> Reply {
    Box::new(move |_| {
        let (kind, title) = ("/problems/token-expired".to_owned(), "The token has expired".to_owned());
        let problem = Problem { kind, title, status: status.as_u16(), detail: detail.to_owned() };
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Json(problem)).into_response()
    })
}

fn text(status: StatusCode, body: String) -> Reply {
    Box::new(move |_| (status, body.clone()).into_response())
}

/// The connection ends in the middle of the answer.
fn lost() -> Reply {
    Box::new(|_| {
        let body = stream::iter([Ok(Bytes::from_static(b"{\"chain\":\"")), Err(std::io::Error::other("cut"))]);
        Body::from_stream(body).into_response()
    })
}

struct Machine {
    directory: TempDir,
    files: IdentityFiles,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path(), Profile::Client);
        Self { directory, files }
    }

    async fn enroll(&self, token: &Token) -> Result<Enrolled, EnrollError> {
        let proposal = Proposal { common_name: "client_1".parse().unwrap(), organization: None, hosts: Vec::new() };
        enroll(&self.files, token, Profile::Client, &proposal, &Clock::manual(start())).await
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        // The identity's own files are symbolic links into the directory of their generation.
        let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
        let mut names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_token_becomes_a_certificate_for_a_key_that_never_left() {
    let authority = Arc::new(Authority::new());
    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let machine = Machine::new();
    assert!(machine.files.load().unwrap().is_none());
    let enrolled = machine.enroll(&server.token(authority.fingerprint())).await.unwrap();
    assert_eq!(machine.names(), ["ca.crt", "ca.url", "client.crt", "client.key"]);
    assert_eq!(fs::metadata(machine.files.key()).unwrap().mode() & 0o777, 0o600);

    let received = server.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].bearer, format!("Bearer {}", *Secret::from_bytes(SECRET).to_bearer()));
    let key = mtls::tls::load_key(machine.files.key()).unwrap();
    assert_eq!(received[0].public_key.spki(), key.spki());
    let loaded = machine.files.load().unwrap().unwrap();
    assert_eq!(loaded.identity.chain(), enrolled.identity.chain());
    assert_eq!(&loaded.root, authority.root.certificate());
}

/// A server that is not the authority never receives a request, and so never receives the secret.
#[tokio::test]
async fn the_secret_is_sent_to_the_authority_only() {
    let (authority, other) = (Arc::new(Authority::new()), Authority::named("Elsewhere", "http://127.0.0.1:1"));
    let namesake = Authority::new();
    let root = authority.root.certificate().clone();
    let with_root = |mut issued: Issued| {
        issued.chain.push(root.clone());
        issued
    };
    let with_more = |issued: Issued| {
        let mut issued = with_root(issued);
        issued.chain.extend((0..5).map(|_| authority.client("other").chain.swap_remove(0)));
        issued
    };
    // The end entity of another authority, below this one's own issuing certificate.
    let spliced = |issued: Issued| Issued {
        chain: vec![issued.chain[0].clone(), authority.issuing.certificate().clone(), root.clone()],
        ..issued
    };
    // A client of the fleet that acts as an authority.
    let usurper = {
        let client = authority.client("usurper_1");
        let nowhere = Publication {
            crl_url: "http://127.0.0.1:1".into(),
            certificate_url: "http://127.0.0.1:1".into(),
            delta_crl_url: None,
            servers_crl_url: None,
        };
        let signs = CertificateAuthority::load(client.chain[0].clone(), copy(&client.key), nowhere).unwrap();
        let key = KeyPair::generate().unwrap();
        let public_key = PublicKey::from_spki(&key.spki()).unwrap();
        let order = order(Profile::Server, "ca", pki::name::Host::local(), public_key, DAY);
        let leaf = signs.issue(&order, next_serial(), start()).unwrap();
        Issued { chain: [vec![leaf.der], client.chain].concat(), key, info: leaf.info }
    };
    let self_signed =
        Issued { chain: vec![other.root.certificate().clone()], key: copy(&other.root_key), ..other.server("ca") };
    let table = [
        ("another authority", other.own(), true),
        ("another authority with its root", other.own().with_root(&other), true),
        ("another authority that sends the root as well", with_root(other.own()), true),
        ("another authority of the same name", with_root(namesake.own()), true),
        ("a spliced chain", spliced(namesake.own()), true),
        ("a self-signed root that sends the root as well", with_root(self_signed), true),
        ("the authority without its root", authority.own(), true),
        ("a server of the fleet at the authority's address", with_root(authority.server("localhost")), true),
        ("a client as an authority", with_root(usurper), false),
        ("more certificates than any path has", with_more(authority.own()), false),
        ("a client as a server", with_root(authority.client("client_1")), false),
        (
            "a server of another name",
            with_root(authority.server_for("web", vec!["web.example".parse().unwrap(), "127.0.0.2".parse().unwrap()])),
            false,
        ),
    ];
    for (who, presented, is_other) in table {
        let answers = vec![certificate(&authority)];
        let server = Server::presenting(presented.chain, &presented.key, Lists::of(&authority), answers).await;
        let machine = Machine::new();
        let error = machine.enroll(&server.token(authority.fingerprint())).await.unwrap_err();
        assert!(server.received().is_empty(), "{who} received the request");
        match error {
            EnrollError::OtherAuthority { .. } => assert!(is_other, "{who}: {error}"),
            EnrollError::NotTrusted { .. } => assert!(!is_other, "{who}: {error}"),
            _ => panic!("{who}: {error}"),
        }
        assert!(error.to_string().contains("The token was not sent"), "{who}: {error}");
        assert_eq!(machine.names(), ["client.key.pending"], "{who}");
        assert!(!error.to_string().contains(Secret::from_bytes(SECRET).to_bearer().as_str()));
    }
    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let error = Machine::new().enroll(&server.token(other.fingerprint())).await.unwrap_err();
    assert!(matches!(error, EnrollError::OtherAuthority { .. }) && server.received().is_empty(), "{error}");
    assert!(error.to_string().contains(&other.fingerprint().to_string()), "{error}");
}

/// An impostor with a stolen key of the authority collects no token once the certificate is revoked, nor if it sends no
/// CRL about it.
#[tokio::test]
async fn the_secret_is_not_sent_to_an_authority_that_is_revoked_or_of_unknown_status() {
    let authority = Arc::new(Authority::new());
    let own = authority.own().with_root(&authority);
    let (issuing, next) = (authority.issuing.info().id.serial, start().minus(DAY));
    let stale = authority.servers_crl_between(1, next.minus(DAY), next, &[]);
    for (what, is_revoked, root, servers) in [
        ("itself", true, Some(authority.root_crl(1, &[])), Some(authority.servers_crl(1, &[&own]))),
        ("its CA", true, Some(authority.root_crl(1, &[issuing])), Some(authority.servers_crl(1, &[]))),
        ("no list of servers", false, Some(authority.root_crl(1, &[])), None),
        ("no CRL of CAs", false, None, Some(authority.servers_crl(1, &[]))),
        ("a stale CRL", false, Some(authority.root_crl(1, &[])), Some(stale)),
        ("the complete CRL", false, Some(authority.root_crl(1, &[])), Some(authority.crl(1, &[]))),
    ] {
        let lists = Lists::of(&authority);
        lists.give(|given| (given.root, given.servers) = (root, servers));
        let answers = vec![certificate(&authority)];
        let server = Server::presenting(own.chain.clone(), &own.key, lists, answers).await;
        let error = Machine::new().enroll(&server.token(authority.fingerprint())).await.unwrap_err();
        assert!(server.received().is_empty(), "{what}: it saw the request");
        assert!(error.to_string().contains("The token was not sent"), "{what}: {error}");
        match error {
            EnrollError::Revoked { .. } => assert!(is_revoked, "{what}: {error}"),
            EnrollError::UnknownStanding { .. } => assert!(!is_revoked, "{what}: {error}"),
            _ => panic!("{what}: {error}"),
        }
    }
}

/// A machine that has enrolled before has stored CRLs. An older CRL that is still current must not override them.
#[tokio::test]
async fn an_older_crl_does_not_get_the_secret_for_an_authority_that_is_known_to_be_revoked() {
    let authority = Arc::new(Authority::new());
    let (stolen, replaced) = (authority.own().with_root(&authority), authority.own().with_root(&authority));
    let presenting = async |own: &Issued, number, revoked: &[&Issued]| {
        let lists = Lists::of(&authority);
        lists.give(|given| given.servers = Some(authority.servers_crl(number, revoked)));
        Server::presenting(own.chain.clone(), &own.key, lists, vec![certificate(&authority)]).await
    };
    let machine = Machine::new();
    let server = presenting(&replaced, 2, &[&stolen]).await;
    let Enrolled { identity, root, .. } = machine.enroll(&server.token(authority.fingerprint())).await.unwrap();
    let thief = presenting(&stolen, 1, &[]).await;
    let token = thief.token(authority.fingerprint());
    for _ in 0..2 {
        let error = machine.enroll(&token).await.unwrap_err();
        assert!(thief.received().is_empty(), "it saw the request");
        assert!(matches!(error, EnrollError::Revoked { .. }), "{error}");
    }
    let directory = machine.files.crl_directory().to_owned();
    let options = Options { clock: Clock::manual(start()), ..Options::new(directory) };
    let (standing, _) = ServerStanding::new(&identity, &root, options).unwrap();
    let in_force: Vec<_> = standing.live_set().freshness().into_iter().filter_map(|known| known.list).collect();
    assert!(in_force.iter().any(|list| (list.number.get(), list.revoked) == (2, 1)), "{in_force:?}");
}

/// A service has stored the complete CRLs.
#[tokio::test]
async fn an_older_crl_does_not_get_the_secret_of_a_service_either() {
    let authority = Arc::new(Authority::new());
    let stolen = authority.own().with_root(&authority);
    let thief =
        Server::presenting(stolen.chain.clone(), &stolen.key, Lists::of(&authority), vec![certificate(&authority)]);
    let thief = thief.await;
    let token = thief.token(authority.fingerprint());
    let proposal = Proposal { common_name: "service0".parse().unwrap(), organization: None, hosts: Vec::new() };
    for (what, kind, list) in [
        ("the complete CRL", "crl", authority.crl(2, &[&stolen])),
        ("the delta", "delta.crl", authority.delta(3, 2, &[&stolen])),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path(), Profile::Server);
        fs::create_dir(files.crl_directory()).unwrap();
        let name = Fingerprint::of(stolen.info.complete_crl_url().unwrap().as_bytes()).short();
        let file = |kind| files.crl_directory().join(format!("{name}.{kind}"));
        fs::write(file("crl"), authority.crl(2, &[])).unwrap();
        fs::write(file(kind), list).unwrap();
        let error = enroll(&files, &token, Profile::Server, &proposal, &Clock::manual(start())).await.unwrap_err();
        assert!(thief.received().is_empty(), "{what}: it saw the request");
        assert!(matches!(error, EnrollError::Revoked { .. }), "{what}: {error}");
    }
}

/// The first request needs no CRL that is not present.
#[tokio::test]
async fn enrollment_stores_the_crls() {
    let authority = Arc::new(Authority::new());
    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let machine = Machine::new();
    let Enrolled { identity, root, .. } = machine.enroll(&server.token(authority.fingerprint())).await.unwrap();
    drop(server);
    let directory = machine.files.crl_directory().to_owned();
    let options = Options { clock: Clock::manual(start()), ..Options::new(directory) };
    let (standing, _) = ServerStanding::new(&identity, &root, options).unwrap();
    assert!(standing.is_current());
}

#[tokio::test]
async fn enrollment_with_an_absent_or_expired_authority_fails() {
    let authority = Arc::new(Authority::new());
    let address = listen().local_addr().unwrap();
    let url = format!("https://{address}").parse().unwrap();
    let token = Token { url, root: authority.fingerprint(), secret: Secret::from_bytes(SECRET) };
    let error = Machine::new().enroll(&token).await.unwrap_err();
    assert!(
        error.to_string().contains("ca-daemon serve") && error.to_string().contains(&address.to_string()),
        "{error}"
    );

    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let machine = Machine::new();
    let proposal = Proposal { common_name: "client_1".parse().unwrap(), organization: None, hosts: Vec::new() };
    let late = Clock::manual(start().plus(DAY * 61));
    let token = server.token(authority.fingerprint());
    let error = enroll(&machine.files, &token, Profile::Client, &proposal, &late).await.unwrap_err();
    assert!(matches!(error, EnrollError::NotTrusted { .. }) && server.received().is_empty(), "{error}");
}

#[tokio::test]
async fn a_denial_is_reported_and_the_next_attempt_may_succeed() {
    let authority = Arc::new(Authority::new());
    let answers = vec![denied(StatusCode::FORBIDDEN, "the token expired at noon"), certificate(&authority)];
    let server = Server::of(&authority, answers).await;
    let (machine, token) = (Machine::new(), server.token(authority.fingerprint()));
    let error = machine.enroll(&token).await.unwrap_err();
    assert!(matches!(&error, EnrollError::Denied(problem) if problem.kind == "/problems/token-expired"), "{error}");
    assert!(error.to_string().contains("the token expired at noon"), "{error}");
    assert!(machine.names().is_empty(), "nothing was issued for the key");
    machine.enroll(&token).await.unwrap();
    assert_eq!(machine.names(), ["ca.crt", "ca.url", "client.crt", "client.key"]);
}

#[tokio::test]
async fn a_lost_answer_is_requested_again_with_the_same_key() {
    let authority = Arc::new(Authority::new());
    let answers = vec![
        lost(),
        text(StatusCode::BAD_GATEWAY, "<html>".into()),
        denied(StatusCode::REQUEST_TIMEOUT, "the request took longer than 30 s"),
        certificate(&authority),
    ];
    let server = Server::of(&authority, answers).await;
    let (machine, token) = (Machine::new(), server.token(authority.fingerprint()));
    for _ in 0..3 {
        let error = machine.enroll(&token).await.unwrap_err();
        assert!(matches!(error, EnrollError::Answer { .. } | EnrollError::Unreachable { .. }), "{error}");
        assert!(machine.files.is_interrupted());
        assert_eq!(machine.names(), ["client.key.pending"]);
        assert_eq!(fs::metadata(machine.file("client.key.pending")).unwrap().mode() & 0o777, 0o600);
    }
    machine.enroll(&token).await.unwrap();
    assert!(!machine.files.is_interrupted());
    let keys: Vec<_> = server.received().into_iter().map(|received| received.public_key).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{}", keys.len());
    let next = Machine::new();
    next.enroll(&token).await.unwrap();
    assert_ne!(server.received()[4].public_key, keys[0], "every machine makes its own key");
}

/// The answer was lost and the certificate exists. Then another token or name is tried.
#[tokio::test]
async fn a_denial_keeps_the_key_of_a_lost_answer() {
    let authority = Arc::new(Authority::new());
    let answers = vec![lost(), denied(StatusCode::FORBIDDEN, "another name"), certificate(&authority)];
    let server = Server::of(&authority, answers).await;
    let (machine, token) = (Machine::new(), server.token(authority.fingerprint()));
    assert!(machine.enroll(&token).await.is_err());
    assert!(matches!(machine.enroll(&token).await, Err(EnrollError::Denied(_))));
    machine.enroll(&token).await.unwrap();
    let keys: Vec<_> = server.received().into_iter().map(|received| received.public_key).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(machine.names(), ["ca.crt", "ca.url", "client.crt", "client.key"]);
}

#[tokio::test]
async fn only_one_process_enrolls_in_a_directory_at_a_time() {
    let authority = Arc::new(Authority::new());
    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let (machine, token) = (Machine::new(), server.token(authority.fingerprint()));
    let other = files::lock_directory(machine.directory.path()).unwrap().unwrap();
    assert!(matches!(machine.enroll(&token).await, Err(EnrollError::Underway(_))));
    assert!(machine.names().is_empty() && server.received().is_empty());
    drop(other);
    machine.enroll(&token).await.unwrap();
}

/// The answer is stored in three steps. The machine may lose power after each of them.
#[tokio::test]
async fn an_interrupted_store_is_completed_by_the_next_attempt() {
    let authority = Arc::new(Authority::new());
    let server = Server::of(&authority, vec![certificate(&authority)]).await;
    let token = server.token(authority.fingerprint());
    let machine = Machine::new();
    machine.enroll(&token).await.unwrap();
    let (chain, key) = (machine.files.chain(), machine.files.key());

    // Everything but the removal of the pending key.
    fs::copy(key, machine.file("client.key.pending")).unwrap();
    assert!(machine.files.load().unwrap().is_some() && machine.files.is_interrupted());
    machine.enroll(&token).await.unwrap();
    assert_eq!(server.received()[0].public_key, server.received()[1].public_key);

    // The chain is missing.
    fs::copy(key, machine.file("client.key.pending")).unwrap();
    fs::remove_file(chain).unwrap();
    assert!(machine.files.load().unwrap().is_none());
    machine.enroll(&token).await.unwrap();
    assert!(machine.files.load().unwrap().is_some());

    // The chain is that of an earlier key.
    let other = KeyPair::generate().unwrap();
    files::write(key, other.to_pem().as_bytes(), Access::Private).unwrap();
    files::write(&machine.file("client.key.pending"), other.to_pem().as_bytes(), Access::Private).unwrap();
    assert!(matches!(machine.files.load(), Err(IdentityError::Mismatch(_))) && machine.files.is_interrupted());
    machine.enroll(&token).await.unwrap();
    let enrolled = machine.files.load().unwrap().unwrap();
    assert!(enrolled.identity.info().is_for_key(&other));
    assert_eq!(machine.names(), ["ca.crt", "ca.url", "client.crt", "client.key"]);

    // A pending key that others could read is not secret any more.
    files::write(&machine.file("client.key.pending"), other.to_pem().as_bytes(), Access::Public).unwrap();
    let error = machine.enroll(&token).await.unwrap_err();
    assert!(matches!(error, EnrollError::Identity(IdentityError::File(FileError::NotPrivate { .. }))), "{error}");

    // An invalid pending key is refused as well, with the next step in the error.
    files::write(&machine.file("client.key.pending"), b"", Access::Private).unwrap();
    let error = machine.enroll(&token).await.unwrap_err();
    assert!(matches!(error, EnrollError::PendingKey { .. }) && error.to_string().contains("remove"), "{error}");
}

#[tokio::test]
async fn a_wrong_answer_is_not_stored() {
    let (authority, other) = (Arc::new(Authority::new()), Authority::new());
    let for_another_key = authority.client("client_1");
    let (good_root, other_root) = (authority.root.certificate().clone(), other.root.certificate().clone());
    let root = good_root.clone();
    let issuing = authority.issuing.certificate().clone();
    let another_root: Reply = {
        let authority = Arc::clone(&authority);
        Box::new(move |csr| {
            let order = order(Profile::Client, "client_1", Vec::new(), csr.public_key().clone(), DAY);
            let issued = authority.issuing.issue(&order, next_serial(), start()).unwrap();
            answer(&[issued.der, issuing.clone()], &other_root)
        })
    };
    let another_key: Reply = Box::new(move |_| answer(&for_another_key.chain, &root));
    let no_chain: Reply = Box::new(move |_| answer(&[], &good_root));
    let huge = text(StatusCode::OK, "x".repeat(1024 * 1024));
    let bad = [
        (another_root, "not the one that the token names"),
        (another_key, "does not belong to the certificate"),
        (no_chain, "PEM"),
        (text(StatusCode::OK, "<html>hello</html>".into()), "no usable answer"),
        (text(StatusCode::OK, String::new()), "no usable answer"),
        (text(StatusCode::OK, "{\"chain\":\"\",\"root\":\"\"}".into()), "PEM"),
        (huge, "no usable answer"),
        (denied(StatusCode::INTERNAL_SERVER_ERROR, "the database is full"), "the database is full"),
        (text(StatusCode::FOUND, String::new()), "302"),
    ];
    for (reply, why) in bad {
        let server = Server::of(&authority, vec![certificate(&authority), reply]).await;
        let (machine, token) = (Machine::new(), server.token(authority.fingerprint()));
        machine.enroll(&token).await.unwrap();
        let contents = |name: &str| fs::read(machine.file(name)).unwrap();
        let before = ["ca.crt", "ca.url", "client.crt", "client.key"].map(contents);
        let error = machine.enroll(&token).await.unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(
            ["ca.crt", "ca.url", "client.crt", "client.key"].map(contents),
            before,
            "{why}: the existing files stay"
        );
        assert!(machine.files.load().unwrap().is_some());
    }
}

#[test]
fn a_token_is_found_in_each_of_its_places() {
    let directory = tempfile::tempdir().unwrap();
    let token = |octet| {
        let url = "https://localhost:8440".parse().unwrap();
        Token { url, root: Fingerprint([1; 32]), secret: Secret::from_bytes([octet; 32]) }
    };
    let write = |path: &Path, octet| files::write(path, token(octet).encode().as_bytes(), Access::Private).unwrap();
    let ca = directory.path().join("ca");
    let environment = Some(token(9).encode().parse().unwrap());
    let mut sources = TokenSources { ca_directory: Some(ca.clone()), environment, ..TokenSources::default() };
    let error = sources.find().unwrap_err();
    assert!(matches!(error, FindTokenError::None(_)) && error.to_string().contains("--token-file"), "{error}");

    fs::create_dir(&ca).unwrap();
    write(&ca.join("bootstrap.token"), 1);
    assert_eq!(sources.find().unwrap(), token(1), "the argument overrides the environment");
    assert_eq!(TokenSources { ca_directory: None, ..sources.clone() }.find().unwrap(), token(9));
    let file = directory.path().join("token");
    sources.file = Some(file.clone());
    assert!(sources.find().unwrap_err().to_string().contains(file.to_str().unwrap()), "no other token is used instead");
    write(&file, 2);
    assert_eq!(sources.find().unwrap(), token(2));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(sources.find().unwrap_err().to_string().contains("chmod 600"));
    sources.text = Some(token(3).encode().parse().unwrap());
    assert_eq!(sources.find().unwrap(), token(3));
    let damaged = token(3).encode()[..60].to_owned();
    sources.text = Some(damaged.parse().unwrap());
    assert!(!format!("{sources:?}").contains(&damaged[20..]));
    let error = sources.find().unwrap_err().to_string();
    assert!(error.contains("--token") && !error.contains(&damaged[20..]), "{error}");
}
