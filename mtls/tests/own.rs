//! A service whose own certificate, or that of a CA above it, is revoked. It serves nobody, is not ready, and logs this
//! once.

use mtls::revocation::{Barrier, NotReady};
use pki::certificate::VerifiedId;
use rustls::AlertDescription;

use crate::common::{
    Authority, Client, Http, Issued, Log, Service, Surroundings, eventually, keep_crl,
    raw::{Frame, RawHttp2},
    start,
};

const OWN: [&str; 2] = ["ERROR", "this service's own certificate is revoked"];
const ABOVE: [&str; 2] = ["ERROR", "the certificate of a CA above this service is revoked"];

/// A service with this identity and no CRL yet.
async fn service(authority: &Authority, issued: &Issued, surroundings: Surroundings) -> Service {
    let options = surroundings.options();
    Service::with(&issued.identity(), authority.root.certificate(), options, surroundings).await
}

fn barred_by(service: &Service) -> Option<VerifiedId> {
    match service.live().ready(start()) {
        Ok(()) => None,
        Err(NotReady::Barred(Barrier::OwnCertificate(certificate))) => Some(certificate),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_service_whose_own_certificate_is_revoked_serves_nobody_until_it_has_another() {
    let (authority, log) = (Authority::new(), Log::capture());
    let own = authority.server("service0");
    let service = service(&authority, &own, Surroundings::default()).await;
    service.install(&authority.root_crl(1, &[]));
    service.install(&authority.crl(1, &[]));
    assert_eq!(barred_by(&service), None);
    let client = |name: &str| Client::new(&authority, &authority.client(name), Http::Two, &service.clock);
    let mut streaming = RawHttp2::open(&client("client_1"), service.address, 1 << 20).await;
    streaming.start(1, "/endless").await;
    let mut idle = client("client_2").open(service.address).await;
    assert_eq!(idle.get().await.unwrap().status, 200);

    for number in [2, 3] {
        service.install(&authority.crl(number, &[&own]));
        assert_eq!(barred_by(&service), Some(own.id()));
        let alert = client("client_3").refused(service.address).await.alert();
        assert_eq!(alert, AlertDescription::AccessDenied);
    }
    let said = streaming.rest().await;
    let reason = "the service's own certificate, or one above it, is revoked";
    assert_eq!(said.iter().map(Frame::farewell).collect::<Vec<_>>(), [Some(reason)], "{said:?}");
    eventually("the idle connection ends", || idle.is_closed()).await;
    assert_eq!(service.handshakes_refused("barred"), 2);
    let logged = log.lines(&OWN);
    assert!(logged.len() == 1 && logged[0].contains("enroll it again"), "{logged:?}");

    // Another identity that is revoked as well changes nothing.
    let worse = authority.server("service0");
    service.install(&authority.crl(4, &[&own, &worse]));
    service.relying_party.identity().replace(&worse.identity()).unwrap();
    assert_eq!(barred_by(&service), Some(worse.id()));
    service.relying_party.identity().replace(&authority.server("service0").identity()).unwrap();
    assert_eq!(barred_by(&service), None);
    assert_eq!(client("client_1").get(service.address).await.status, 200);
    assert_eq!((log.lines(&["ERROR"]).len(), log.lines(&["INFO", "it serves again"]).len()), (1, 1));
}

#[tokio::test]
async fn a_service_below_a_revoked_ca_is_not_ready() {
    let (authority, log) = (Authority::new(), Log::capture());
    let service = Service::start(&authority).await;
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let mut open = client.open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    let issuing = authority.issuing_id();
    service.install(&authority.root_crl(2, &[issuing.serial]));
    assert_eq!(barred_by(&service), Some(issuing));
    eventually("the open connection ends", || open.is_closed()).await;
    assert_eq!(client.refused(service.address).await.alert(), AlertDescription::CertificateRevoked);
    assert_eq!((log.lines(&ABOVE).len(), log.lines(&OWN).len()), (1, 0), "{:?}", log.lines(&["ERROR"]));
}

/// The stored CRLs are enough to detect it.
#[tokio::test]
async fn a_service_that_starts_with_a_revoked_certificate_is_not_ready() {
    let (authority, log, surroundings) = (Authority::new(), Log::capture(), Surroundings::default());
    let own = authority.server("service0");
    let (directory, issuing) = (surroundings.crl_directory.path(), authority.issuing.info());
    keep_crl(directory, &issuing.crl_urls[0], authority.root.info(), 1, &authority.root_crl(1, &[]));
    let of_everybody = &authority.client("any").info.crl_urls[0];
    keep_crl(directory, of_everybody, issuing, 1, &authority.crl(1, &[&own]));
    let service = service(&authority, &own, surroundings).await;
    assert_eq!(barred_by(&service), Some(own.id()));
    let client = Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    assert_eq!(client.refused(service.address).await.alert(), AlertDescription::AccessDenied);
    assert_eq!(log.lines(&OWN).len(), 1, "{:?}", log.lines(&["ERROR"]));
}
