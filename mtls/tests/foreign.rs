//! Services that rely on a foreign CA, made with the `openssl` program. Its CRLs are in a file or at a URL, and there
//! is no feed.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use edge::clock::Clock;
use mtls::{
    relying_party::{CrlLocations, Options, RelyingParty, RelyingPartyError, Upkeep},
    revocation::Location,
    standing::{self, ServerStanding},
    tls::{ChainError, Identity, IdentityError, PathValidator, mutual_tls},
};
use pki::{certificate::CertificateInfo, pem, time::Timestamp};
use rustls::{AlertDescription, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::common::{
    Client, Http, Log, Service, Surroundings, eventually,
    foreign::{ForeignCa, P256, P384, RSA},
    publisher::Publisher,
};

/// A CRL file that another program writes.
struct CrlFile {
    directory: TempDir,
}

impl CrlFile {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("list.crl")
    }

    fn write_in_place(&self, contents: &[u8]) {
        fs::write(self.path(), contents).unwrap();
    }

    fn replace(&self, contents: &[u8]) {
        let temporary = self.directory.path().join("list.new");
        fs::write(&temporary, contents).unwrap();
        fs::rename(temporary, self.path()).unwrap();
    }
}

/// A service below this root that fetches CRLs from these locations, and its tasks.
async fn service(identity: &Identity, root: &CertificateDer<'static>, crls: Vec<Location>) -> (Service, JoinSet<()>) {
    // The clock by which openssl signs.
    let surroundings = Surroundings { clock: Clock::system(), ..Surroundings::default() };
    let options = Options { crls: CrlLocations::Given(crls), ..surroundings.options() };
    let mut service = Service::with(identity, root, options, surroundings).await;
    let tasks = service.keep_current();
    let (live, clock) = (service.live().clone(), service.clock.clone());
    eventually("its CRLs are in force", || live.ready(clock.now()).is_ok()).await;
    (service, tasks)
}

fn client(identity: &Identity, root: &CertificateDer<'static>) -> Client {
    Client::with(mutual_tls(identity, root, &Clock::system()).unwrap(), Http::Two)
}

fn der(text: &[u8]) -> Vec<u8> {
    pem::read_crl(text).unwrap()
}

#[tokio::test]
async fn a_crl_file_is_read_again_however_it_is_written_and_whatever_signs_it() {
    for (key, encode) in [(P256, der as fn(&[u8]) -> Vec<u8>), (P384, <[u8]>::to_vec), (RSA, der)] {
        let (ca, file, log) = (ForeignCa::root(key), CrlFile::new(), Log::capture());
        file.write_in_place(&encode(&ca.crl()));
        let root = &ca.certificate();
        let locations = vec![Location::File(file.path())];
        let (service, _tasks) = service(&ca.issue("service", "server"), root, locations).await;
        let names = ["client_1", "client_2", "client_3"];
        let clients = names.map(|name| ca.issue(name, "client"));
        let mut open = Vec::new();
        for identity in &clients {
            let mut connection = client(identity, root).open(service.address).await;
            assert_eq!(connection.get().await.unwrap().status, 200);
            open.push(connection);
        }

        ca.revoke("client_1");
        file.replace(&encode(&ca.crl()));
        eventually("its connection ends", || open[0].is_closed()).await;
        for connection in &mut open[1..] {
            assert_eq!(connection.get().await.unwrap().status, 200, "the other connection continues");
        }

        // An incomplete file, and invalid ones.
        ca.revoke("client_2");
        let next = encode(&ca.crl());
        // The empty one first, because an incomplete file may be empty, too. Each is logged once.
        for bad in [&b""[..], &next[..next.len() / 2], &[0x30, 0x80, 0, 0]] {
            let logged = || log.lines(&["WARN", "list.crl"]).len();
            let before = logged();
            file.write_in_place(bad);
            eventually("it is logged", || logged() > before).await;
            assert_eq!(open[1].get().await.unwrap().status, 200);
            let refused = client(&clients[0], root).refused(service.address).await;
            assert_eq!(refused.alert(), AlertDescription::CertificateRevoked);
        }
        file.write_in_place(&next);
        eventually("its connection ends", || open[1].is_closed()).await;
        assert_eq!(open[2].get().await.unwrap().status, 200);
        assert_eq!(client(&clients[2], root).get(service.address).await.status, 200);
    }
}

/// A copy with the original's time and the same length must still be noticed.
#[tokio::test]
async fn a_new_file_of_the_same_age_and_length_is_read() {
    let (ca, file) = (ForeignCa::root(P256), CrlFile::new());
    let padded = || [ca.crl(), vec![b'\n'; 4096]].concat()[..4096].to_vec();
    file.write_in_place(&padded());
    let age = fs::metadata(file.path()).unwrap().modified().unwrap();
    let locations = vec![Location::File(file.path())];
    let (service, _tasks) = service(&ca.issue("service", "server"), &ca.certificate(), locations).await;
    let mut open = client(&ca.issue("client_1", "client"), &ca.certificate()).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);

    ca.revoke("client_1");
    let copy = file.directory.path().join("copy");
    fs::write(&copy, padded()).unwrap();
    fs::File::options().write(true).open(&copy).unwrap().set_modified(age).unwrap();
    fs::rename(copy, file.path()).unwrap();
    eventually("its connection ends", || open.is_closed()).await;
}

/// Two levels: the root's CRL in a file, and the issuing CA's at a URL.
#[tokio::test]
async fn a_crl_url_is_polled_with_conditional_requests() {
    let (publisher, file) = (Publisher::start().await, CrlFile::new());
    let root = ForeignCa::root(P384);
    let issuing = root.beneath(P256);
    file.write_in_place(&root.crl());
    publisher.publish(|published| published.issuing = der(&issuing.crl()));
    let url = format!("http://{}/issuing.crl", publisher.address).parse().unwrap();
    let locations = vec![Location::Url(url), Location::File(file.path())];
    let (service, _tasks) = service(&issuing.issue("service", "server"), &root.certificate(), locations).await;

    let identity = issuing.issue("client_1", "client");
    let mut open = client(&identity, &root.certificate()).open(service.address).await;
    let mut other = client(&issuing.issue("client_2", "client"), &root.certificate()).open(service.address).await;
    for connection in [&mut open, &mut other] {
        assert_eq!(connection.get().await.unwrap().status, 200);
    }
    let unchanged = publisher.answers().1;
    eventually("it continues to fetch", || publisher.answers().1 > unchanged + 3).await;
    assert_eq!(publisher.answers().0, 1, "an unchanged CRL is not sent again");

    issuing.revoke("client_1");
    publisher.publish(|published| published.issuing = der(&issuing.crl()));
    eventually("its connection ends", || open.is_closed()).await;
    let refused = client(&identity, &root.certificate()).refused(service.address).await;
    assert_eq!(refused.alert(), AlertDescription::CertificateRevoked);
    assert_eq!(other.get().await.unwrap().status, 200);

    root.revoke("issuing");
    file.replace(&root.crl());
    eventually("the connection below a revoked CA ends", || other.is_closed()).await;
}

#[tokio::test]
async fn a_file_with_two_crls_is_refused_with_what_to_do() {
    let (ca, file, log) = (ForeignCa::root(P256), CrlFile::new(), Log::capture());
    file.write_in_place(&ca.crl());
    let locations = vec![Location::File(file.path())];
    let (service, _tasks) = service(&ca.issue("service", "server"), &ca.certificate(), locations).await;
    file.replace(&[ca.crl(), ca.crl()].concat());
    eventually("it is logged", || log.has(&["WARN", "put each into a file of its own", "list.crl"])).await;
    assert_eq!(service.live().freshness()[0].list.unwrap().number.get(), 1);
}

#[test]
fn a_key_that_anybody_can_sign_for_is_refused_even_if_it_is_certified() {
    // The neutral element of Ed25519's curve, and its base point.
    const NEUTRAL: &str = "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const BASE: &str = "MCowBQYDK2VwAyEAWGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=";
    let ca = ForeignCa::root(P256);
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate()).unwrap();
    let validator = PathValidator::of_clients(Arc::new(roots));
    let issuer = CertificateInfo::from_der(&ca.certificate()).unwrap().spki_sha256;
    let verdict = |name, key| {
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
        let certificate = ca.certify_key(name, &pem);
        // Read after the certificate was made, which is valid from then on.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(Clock::system().now().unix().unsigned_abs()));
        validator.verify_issued_by(&issuer, &certificate, &[], now)
    };
    verdict("client_1", BASE).unwrap();
    let error = verdict("client_2", NEUTRAL).unwrap_err();
    assert!(format!("{error:?}").contains("SmallOrder"), "{error:?}");
}

/// A service below this root at this time.
fn at(ca: &ForeignCa, now: Timestamp) -> Result<(RelyingParty, Upkeep), RelyingPartyError> {
    let surroundings = Surroundings { clock: Clock::manual(now), ..Surroundings::default() };
    let options = Options { crls: CrlLocations::Given(Vec::new()), ..surroundings.options() };
    RelyingParty::new(&ca.issue("service", "server"), &ca.certificate(), options)
}

#[tokio::test]
async fn an_expired_root_is_an_error_at_the_start() {
    let (ca, now) = (ForeignCa::root(P256), Clock::system().now());
    assert!(at(&ca, now.plus(Duration::from_hours(299 * 24))).is_ok());
    for wrong in [now.plus(Duration::from_hours(301 * 24)), now.minus(Duration::from_hours(1))] {
        let error = at(&ca, wrong).unwrap_err();
        assert!(
            matches!(error, RelyingPartyError::Chain(ChainError::Identity(IdentityError::RootNotValid { .. }))),
            "{error}"
        );
        assert!(error.to_string().contains("Foreign Root"), "{error}");
    }
    // A client refuses it as well: it would trust every server below it.
    let (client, root) = (ca.issue("client_1", "client"), ca.certificate());
    let directory = tempfile::tempdir().unwrap();
    for (days, is_good) in [(0, true), (299, true), (301, false)] {
        let clock = Clock::manual(now.plus(Duration::from_hours(days * 24)));
        let plain = mutual_tls(&client, &root, &clock).map(drop).map_err(|error| error.to_string());
        let options = standing::Options { clock, ..standing::Options::new(directory.path().to_owned()) };
        let asking = ServerStanding::new(&client, &root, options).map(drop).map_err(|error| error.to_string());
        for started in [plain, asking] {
            let is_about_the_root =
                |error: &String| error.starts_with("the root certificate Foreign Root is not valid");
            assert_eq!(started.as_ref().err().is_some_and(is_about_the_root), !is_good, "{started:?}");
        }
    }
}

#[tokio::test]
async fn constraints_that_refuse_clients_are_logged_at_the_start_and_for_each_client() {
    let log = Log::capture();
    let _ = at(&ForeignCa::root(P256), Clock::system().now()).unwrap();
    assert!(!log.has(&["is let in"]));
    let _ = at(&ForeignCa::constrained_root(), Clock::system().now()).unwrap();
    assert!(log.has(&["WARN", "Foreign Root", "name constraints on URIs"]));

    let (ca, file) = (ForeignCa::constrained_root(), CrlFile::new());
    file.write_in_place(&ca.crl());
    let root = ca.certificate();
    let locations = vec![Location::File(file.path())];
    let (service, _tasks) = service(&ca.issue("service", "server"), &root, locations).await;
    assert_eq!(client(&ca.issue("client_1", "client"), &root).get(service.address).await.status, 200);
    assert!(!log.has(&["handshake refused"]));
    client(&ca.issue("client_2", "named"), &root).refused(service.address).await;
    eventually("it is logged", || log.has(&["handshake refused", "client_2", "Foreign Root", "constraints on URIs"]))
        .await;
}
