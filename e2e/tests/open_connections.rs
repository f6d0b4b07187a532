//! What a revoked client still has when its certificate is revoked: an open connection, and a session to resume.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{fs, sync::Arc};

use e2e::{Client, Fleet, wait_until};
use edge::clock::Clock;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Response, StatusCode, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use mtls::tls::{Identity, mutual_tls};
use pki::pem;
use rustls::{ClientConfig, client::Resumption};
use tokio::runtime::Runtime;

type Connection = HttpClient<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A client's TLS configuration; connections made with clones share tickets.
fn tls(client: &Client) -> ClientConfig {
    let identity = Identity::load(&client.file("client.crt"), &client.file("client.key")).unwrap();
    let root = pem::read_certificate(fs::read(client.file("ca.crt")).unwrap()).unwrap();
    let mut tls = mutual_tls(&identity, &root, &Clock::system()).unwrap();
    tls.resumption = Resumption::in_memory_sessions(8);
    tls
}

fn connection(tls: &ClientConfig) -> Connection {
    let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only().enable_all_versions().build();
    HttpClient::builder(TokioExecutor::new()).build(https)
}

/// One request: status and body, or why there was none.
fn get(runtime: &Runtime, connection: &Connection, url: &str) -> Result<(StatusCode, String), String> {
    runtime.block_on(async {
        let response: Response<_> = connection.get(url.parse().unwrap()).await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    })
}

#[test]
fn an_open_connection_and_a_session_to_resume_are_worth_nothing_after_a_revocation() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &[]).url();
    let runtime = Arc::new(Runtime::new().unwrap());
    let (revoked, other) = (tls(&fleet.enroll("client_1")), tls(&fleet.enroll("client_2")));
    let (open, others_open) = (connection(&revoked), connection(&other));
    for connection in [&open, &others_open] {
        let (status, body) = get(&runtime, connection, &url).unwrap();
        assert!(status == StatusCode::OK && body.contains("HTTP/2.0"), "{status} {body}");
    }
    // A second connection of the same client resumes its session, which is what makes the rest of this a test.
    let resumed = |fleet: &mut Fleet| {
        let metrics = fleet.service(0).operations("metrics").1;
        let line = metrics.lines().find(|line| line.contains("tls_handshakes_total") && line.contains("resumed"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0)
    };
    assert_eq!(resumed(&mut fleet), 0);
    let _ = get(&runtime, &connection(&revoked), &url).unwrap();
    assert_eq!(resumed(&mut fleet), 1);

    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    // What was open is ended; a client that connects again in its place is refused.
    wait_until("the open connection is worth nothing", || get(&runtime, &open, &url).err());
    let error = get(&runtime, &connection(&revoked), &url).unwrap_err();
    assert!(!error.contains("ConnectionRefused"), "{error}");
    wait_until("the refusal is logged", || {
        let log = fleet.service(0).process.log();
        (log.contains("handshake refused") && log.contains("is revoked")).then_some(())
    });
    assert_eq!(resumed(&mut fleet), 1, "the resumed session of the revoked client was not accepted");

    let (status, _) = get(&runtime, &others_open, &url).unwrap();
    assert_eq!(status, StatusCode::OK, "nobody else notices");
}
