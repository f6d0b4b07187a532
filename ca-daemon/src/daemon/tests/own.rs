//! The authority's own server certificate, and the issuing CA above it.

use pki::certificate::CertificateInfo;

use super::*;

/// The serial number of the certificate that the daemon presents.
async fn presented(daemon: &Running, fixture: &Fixture) -> Serial {
    let root = Fingerprint::of(fixture.authority.certificate(Issuer::Root));
    let mut config = mtls::tls::pinned(root, &daemon.clock).unwrap();
    config.resumption = rustls::client::Resumption::disabled();
    let stream = TcpStream::connect(daemon.addresses.https).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    CertificateInfo::from_der(&certificates[0]).unwrap().id.serial
}

#[tokio::test]
async fn the_daemons_own_certificate_is_replaced_as_soon_as_it_is_revoked() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let replacements = async {
        let mut serial = presented(&daemon, &fixture).await;
        // By the clock alone, each would take half a minute.
        for _ in 0..5 {
            revoke_elsewhere(&fixture, serial).await;
            let revoked = serial;
            while serial == revoked {
                serial = presented(&daemon, &fixture).await;
            }
        }
    };
    timeout(Duration::from_mins(1), replacements).await.expect("it is not replaced at once");
    daemon.stop().await;
}

#[tokio::test]
async fn under_a_revoked_issuing_ca_the_daemon_runs_and_is_not_ready() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    assert!(daemon.readiness().await.starts_with("HTTP/1.1 200"), "{}", daemon.readiness().await);
    let other = Authority::open(&fixture.directory).await.unwrap();
    let root = other.root_signer().unwrap();
    other.revoke_issuing(RevocationReason::CaCompromise, root, now()).await.unwrap();
    other.store().close().await;
    let check = async |daemon: &Running| {
        let readiness = daemon.readiness().await;
        assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
        assert!(readiness.contains("issuer-revoked") && readiness.contains("ca-daemon init --dir DIR"), "{readiness}");
        presented(daemon, &fixture).await
    };
    let before = check(&daemon).await;
    daemon.stop().await;
    // It starts again, to publish the root's CRL and to report that it is revoked.
    let daemon = Running::start(&fixture).await;
    assert_ne!(check(&daemon).await, before);
    daemon.stop().await;
}
