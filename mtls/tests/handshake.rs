//! Which clients are admitted, which are refused with which alert, and what is counted and logged.

use edge::clock::Clock;
use pki::{
    issuing::{CertificateAuthority, Publication},
    key::{KeyPair, PublicKey},
    profile::Profile,
};
use rustls::{AlertDescription, HandshakeKind};

use crate::common::{Authority, Client, DAY, Http, Issued, Log, Service, Surroundings, authority, eventually, start};

/// Connects a client to a service that must refuse it. Checks the alert, the counter and the name in the log.
async fn assert_refused(service: &Service, log: &Log, client: &Client, expected: Expected<'_>) {
    let Expected { alert, reason, name, why } = expected;
    let before = service.handshakes_refused(reason);
    assert_eq!(client.refused(service.address).await.alert(), alert, "{name}");
    eventually(name, || service.handshakes_refused(reason) == before + 1).await;
    let lines = log.lines(&["handshake refused", name, why]);
    assert_eq!(lines.len(), 1, "{name} in {:?}", log.lines(&[]));
    assert!(lines[0].contains("from=127.0.0.1:"), "{lines:?}");
    assert_eq!(service.accepted("full"), 0, "{name}");
}

struct Expected<'a> {
    alert: AlertDescription,
    reason: &'a str,
    /// The name in the certificate, as logged.
    name: &'a str,
    why: &'a str,
}

#[tokio::test]
async fn other_clients_are_refused_with_the_alert_for_the_reason() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let (clock, log) = (&service.clock, Log::capture());
    let present = |issued: &Issued| Client::presenting(&authority, issued.chain.clone(), &issued.key, clock);

    let revoked = authority.client("revoked_1");
    service.install(&authority.crl(2, &[&revoked]));
    let expired = authority.client_from("expired_1", start().minus(DAY * 2), DAY);
    let future = authority.client_from("future_1", start().plus(DAY), DAY);
    let server = authority.server("server_1");
    let stranger = Authority::named("Elsewhere", "http://127.0.0.1:1").client("stranger_1");
    // Of an authority with the same names and other keys.
    let namesake = Authority::new().client("namesake_1");
    let forged = Issued {
        chain: vec![Authority::new().client("forged_1").chain.swap_remove(0), authority.issuing.certificate().clone()],
        ..Authority::new().client("unused")
    };

    assert_refused(
        &service,
        &log,
        &Client::anonymous(&authority, clock),
        Expected {
            alert: AlertDescription::CertificateRequired,
            reason: "no_certificate",
            name: "",
            why: "no client certificate was presented",
        },
    )
    .await;
    let table = [
        (&revoked, AlertDescription::CertificateRevoked, "revoked", "revoked_1", "is revoked"),
        (&expired, AlertDescription::CertificateExpired, "expired", "expired_1", "has expired"),
        (&future, AlertDescription::CertificateExpired, "not_yet_valid", "future_1", "is not valid yet"),
        (&server, AlertDescription::UnsupportedCertificate, "wrong_usage", "server_1", "is not for clients"),
        (&stranger, AlertDescription::UnknownCA, "unknown_issuer", "stranger_1", "was not issued by"),
        (&namesake, AlertDescription::UnknownCA, "unknown_issuer", "namesake_1", "was not issued by"),
        (&forged, AlertDescription::UnknownCA, "unknown_issuer", "forged_1", "was not issued by"),
    ];
    for (issued, alert, reason, name, why) in table {
        assert_refused(&service, &log, &present(issued), Expected { alert, reason, name, why }).await;
    }
    assert_eq!(service.live().open_connections(), 0);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    let stolen = authority.client("stolen_1");
    let thief = Client::presenting(&authority, stolen.chain, &KeyPair::generate().unwrap(), &service.clock);
    let expected = Expected {
        alert: AlertDescription::DecryptError,
        reason: "no_key",
        name: "stolen_1",
        why: "does not hold the certificate's key",
    };
    assert_refused(&service, &log, &thief, expected).await;
}

#[tokio::test]
async fn a_client_is_not_accepted_as_an_authority_nor_an_authority_as_a_client() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let mut client = authority.client("client_1");
    let nowhere = Publication {
        crl_url: "http://127.0.0.1:1/".into(),
        certificate_url: "http://127.0.0.1:1/".into(),
        delta_crl_url: None,
        servers_crl_url: None,
    };
    let usurper = CertificateAuthority::load(client.chain[0].clone(), authority::copy(&client.key), nowhere).unwrap();
    let key = KeyPair::generate().unwrap();
    let public_key = PublicKey::from_spki(&key.spki()).unwrap();
    let order = authority::order(Profile::Client, "beneath_1", Vec::new(), public_key, DAY);
    client.chain.insert(0, usurper.issue(&order, authority::next_serial(), start()).unwrap().der);
    let beneath = Client::presenting(&authority, client.chain, &key, &service.clock);
    beneath.refused(service.address).await.alert();

    let chain = vec![authority.issuing.certificate().clone()];
    let issuing = Client::presenting(&authority, chain, &authority.issuing_key, &service.clock);
    issuing.refused(service.address).await.alert();
    let chain = vec![authority.root.certificate().clone()];
    let root = Client::presenting(&authority, chain, &authority.root_key, &service.clock);
    root.refused(service.address).await.alert();
    assert_eq!(service.accepted("full"), 0);
}

#[tokio::test]
async fn without_a_fresh_crl_nobody_is_admitted() {
    let authority = Authority::new();
    let service = Service::start_in(&authority, Surroundings::default()).await;
    let log = Log::capture();
    let issued = authority.client("client_1");
    let client = Client::presenting(&authority, issued.chain.clone(), &issued.key, &service.clock);
    let expected =
        |why| Expected { alert: AlertDescription::AccessDenied, reason: "no_fresh_crl", name: "client_1", why };

    assert_refused(&service, &log, &client, expected("there is no CRL of O=Tests, CN=Fleet Issuing CA")).await;
    service.install(&authority.crl(1, &[]));
    assert_refused(&service, &log, &client, expected("there is no CRL of O=Tests, CN=Fleet Root CA")).await;
    service.install(&authority.root_crl(1, &[]));
    service.clock.set(start().plus(DAY * 2));
    assert_refused(&service, &log, &client, expected("is stale since")).await;
    // A client that is revoked by the stale CRL receives that reason.
    service.clock.set(start());
    service.install(&authority.crl(2, &[&issued]));
    service.clock.set(start().plus(DAY * 2));
    let expected = Expected {
        alert: AlertDescription::CertificateRevoked,
        reason: "revoked",
        name: "client_1",
        why: "is revoked",
    };
    assert_refused(&service, &log, &client, expected).await;
}

#[tokio::test]
async fn a_revoked_issuing_ca_revokes_everything_below_it() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    service.install(&authority.root_crl(2, &[authority.issuing.info().id.serial]));
    let client = Client::new(&authority, &authority.client("client_1"), Http::One, &service.clock);
    let expected = Expected {
        alert: AlertDescription::CertificateRevoked,
        reason: "revoked",
        name: "client_1",
        why: &authority.issuing.info().id.serial.to_string(),
    };
    assert_refused(&service, &log, &client, expected).await;
}

#[tokio::test]
async fn a_valid_client_is_served_over_both_versions_of_http() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let issued = authority.client("client_1");
    for (http, version) in [(Http::One, "HTTP/1.1"), (Http::Two, "HTTP/2.0")] {
        let client = Client::new(&authority, &issued, http, &service.clock);
        let mut connection = client.open(service.address).await;
        assert_eq!(connection.kind, HandshakeKind::Full);
        let answer = connection.get().await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(format!("{:?}", answer.version), version);
        assert!(answer.body.starts_with(&format!("{version} client_1 127.0.0.1:")), "{}", answer.body);
        assert_eq!(service.live().open_connections(), 1);
        drop(connection);
        eventually("the connection ends", || service.live().open_connections() == 0).await;
    }
    assert_eq!(service.accepted("full"), 2);
}

/// Sending the root as well is common, and must do no harm.
#[tokio::test]
async fn a_chain_may_end_in_the_root() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let mut issued = authority.client("client_1");
    issued.chain.push(authority.root.certificate().clone());
    let client = Client::presenting(&authority, issued.chain, &issued.key, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200);
}

/// A certificate outside of the path must not circumvent the CRL, and its text must not forge log lines.
#[tokio::test]
async fn extra_certificates_in_a_chain_do_not_help_a_client() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let log = Log::capture();
    let mut revoked = authority.client("revoked_1");
    service.install(&authority.crl(2, &[&revoked]));
    let other = authority.client("other_1");
    revoked.chain.insert(1, other.chain[0].clone());
    let client = Client::presenting(&authority, revoked.chain, &revoked.key, &service.clock);
    assert_eq!(client.refused(service.address).await.alert(), AlertDescription::CertificateRevoked);

    let mut valid = authority.client("valid_1");
    valid.chain.push(certificate_with_a_line_break());
    let client = Client::presenting(&authority, valid.chain, &valid.key, &service.clock);
    assert_eq!(client.get(service.address).await.status, 200, "certificates outside of the path do not count");

    let client = Client::presenting(&authority, vec![certificate_with_a_line_break()], &valid.key, &service.clock);
    client.refused(service.address).await.alert();
    eventually("it is logged", || log.has(&["handshake refused", "elsewhere-n"])).await;
    assert!(!log.lines(&[]).iter().any(|line| line.starts_with("forged")), "{:?}", log.lines(&[]));
}

/// A self-signed certificate whose name contains a line break and `forged`.
fn certificate_with_a_line_break() -> rustls_pki_types::CertificateDer<'static> {
    let other = Authority::named("Elsewhere", "http://127.0.0.1:1").client("elsewhere-not-fleet");
    let mut der = other.chain[0].to_vec();
    let (from, to) = (b"elsewhere-not-fleet", b"elsewhere-n\nforged-");
    let at = der.windows(from.len()).position(|window| window == from).unwrap();
    der[at..at + from.len()].copy_from_slice(&to[..from.len()]);
    der.into()
}

/// The verifier uses the given clock, and not the machine's.
#[tokio::test]
async fn a_certificate_is_valid_from_its_first_second_to_its_last() {
    let authority = Authority::new();
    let surroundings = Surroundings { clock: Clock::manual(start()), ..Surroundings::default() };
    let service = Service::start_in(&authority, surroundings).await;
    let issued = authority.client_from("client_1", start(), DAY);
    let (first, last) = (issued.info.validity.not_before, issued.info.validity.not_after);
    service.install(&authority.crl_between(1, start(), last.plus(DAY), &[]));
    service.install(&authority.root_crl(1, &[]));
    let client = Client::presenting(&authority, issued.chain, &issued.key, &Clock::manual(start()));
    let second = std::time::Duration::from_secs(1);
    for (now, served) in [(first.minus(second), false), (first, true), (last, true), (last.plus(second), false)] {
        service.clock.set(now);
        if served {
            assert_eq!(client.get(service.address).await.status, 200, "{now}");
        } else {
            // This includes resumption: an expired client must not be admitted by it.
            client.refused(service.address).await;
        }
    }
}
