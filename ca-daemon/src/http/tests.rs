//! The routes over real sockets, as a foreign client uses them. The whole story is in `e2e`.

use std::{net::SocketAddr, time::Duration};

use pki::crl::RevocationReason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::authority::tests::{Fixture, now, request};

struct Served {
    fixture: Fixture,
    clock: Clock,
    public: SocketAddr,
    private: SocketAddr,
    operations: SocketAddr,
}

async fn serve(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

impl Served {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let clock = Clock::manual(now());
        let authority = Arc::clone(&fixture.authority);
        let feed = Feed::open(authority.store().clone(), authority.settings(), clock.clone()).await.unwrap();
        let app = App::new(authority, feed, clock.clone());
        let public = serve(public_routes(app.clone())).await;
        let private = serve(private_routes(app.clone())).await;
        let operations = serve(operations_routes(app)).await;
        Self { fixture, clock, public, private, operations }
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        exchange(self.public, &format!("GET {path} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n{headers}\r\n")).await
    }

    async fn metrics(&self, headers: &str) -> String {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n{headers}\r\n");
        exchange(self.operations, &head).await
    }

    async fn enroll(&self, headers: &str, body: &str) -> String {
        let length = body.len();
        let head = format!(
            "POST {ENROLL_PATH} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        exchange(self.private, &format!("{head}{body}")).await
    }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| *key == name).map_or_else(|| panic!("no {name} in {answer}"), |(_, value)| value)
}

#[tokio::test]
async fn a_crl_that_another_process_wrote_is_served_at_once() {
    let served = Served::new().await;
    let path = Issuer::Issuing.crl_path();
    let first = served.get(path, "").await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert_eq!(header(&first, "content-type"), "application/pkix-crl");
    assert_eq!(header(&first, "last-modified"), "Tue, 24 Nov 2026 09:00:00 GMT");
    let condition = format!("if-none-match: {}\r\n", header(&first, "etag"));
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 304"));

    let other = Authority::open(&served.fixture.directory).await.unwrap();
    let serial = served.fixture.issue("client_1", 20).await;
    other.revoke(&[serial], RevocationReason::Unspecified, now()).await.unwrap();
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 200"));
    // Both were signed within one second, so the date alone proves nothing.
    let condition = "if-modified-since: Tue, 24 Nov 2026 09:00:00 GMT\r\n";
    assert!(served.get(path, condition).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_revocation_is_not_hidden_by_a_clock_that_was_ahead() {
    let served = Served::new().await;
    let path = Issuer::Issuing.crl_path();
    let serial = served.fixture.issue("client_1", 20).await;
    let authority = &served.fixture.authority;
    authority.publish(Issuer::Issuing, now().plus(Duration::from_hours(1))).await.unwrap();
    let from_ahead = served.get(path, "").await;
    let condition = format!("if-modified-since: {}\r\n", header(&from_ahead, "last-modified"));
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 304"));
    let set_right = now().plus(Duration::from_mins(1));
    authority.revoke(&[serial], RevocationReason::Unspecified, set_right).await.unwrap();
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_delta_is_served_beside_the_complete_crl() {
    let served = Served::new().await;
    let path = Issuer::Issuing.delta_path().unwrap();
    let first = served.get(path, "").await;
    assert_eq!(header(&first, "content-type"), "application/pkix-crl");
    let condition = format!("if-none-match: {}\r\n", header(&first, "etag"));
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 304"));
    let serial = served.fixture.issue("client_1", 20).await;
    served.fixture.authority.revoke(&[serial], RevocationReason::Unspecified, now()).await.unwrap();
    assert!(served.get(path, &condition).await.starts_with("HTTP/1.1 200"));
    assert!(served.get("/crl/root-delta.crl", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_stale_crl_turns_readiness_off() {
    let served = Served::new().await;
    assert!(served.get("/readyz", "").await.starts_with("HTTP/1.1 200"));
    served.clock.set(now().plus(Duration::from_hours(24)));
    assert!(served.get("/readyz", "").await.starts_with("HTTP/1.1 200"), "nextUpdate itself is in time");
    served.clock.set(now().plus(Duration::from_secs(24 * 3600 + 1)));
    let answer = served.get("/readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("issuing CRL is stale"), "{answer}");
    served.fixture.authority.publish(Issuer::Issuing, served.clock.now()).await.unwrap();
    assert!(served.get("/readyz", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_crl_from_the_future_turns_readiness_off() {
    let served = Served::new().await;
    let issued = now();
    served.clock.set(issued.minus(Duration::from_mins(1)));
    assert!(served.get("/readyz", "").await.starts_with("HTTP/1.1 200"), "relying parties allow for a minute");
    served.clock.set(issued.minus(Duration::from_secs(61)));
    let answer = served.get("/readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("/problems/crl-from-the-future"), "{answer}");
}

#[tokio::test]
async fn problems_are_documents() {
    let served = Served::new().await;
    let key = pki::key::KeyPair::generate().unwrap();
    let body = |name: &str| {
        let csr = request(&key, name, Vec::new());
        serde_json::json!({ "profile": "client", "csr": csr }).to_string()
    };
    let json = "content-type: application/json\r\n";
    let bearer = format!("authorization: Bearer {}\r\n{json}", served.fixture.bootstrap.to_bearer().as_str());
    let other = pki::token::Secret::from_bytes([8; 32]);
    let unknown = format!("authorization: Bearer {}\r\n{json}", other.to_bearer().as_str());
    let untyped = bearer.replace(json, "");
    let large = "x".repeat(limits::MAX_BODY + 1);
    for (headers, body, status, kind) in [
        (bearer.as_str(), body("client_1").as_str(), "200", ""),
        (json, body("client_1").as_str(), "401", "/problems/token-missing"),
        (unknown.as_str(), body("client_1").as_str(), "401", "/problems/token-unknown"),
        (untyped.as_str(), body("client_1").as_str(), "415", "/problems/media-type"),
        (bearer.as_str(), "{}", "400", "/problems/json-invalid"),
        (bearer.as_str(), "{\"profile\":\"client\",\"csr\":\"\"}", "422", "/problems/csr-invalid"),
        (bearer.as_str(), large.as_str(), "413", "/problems/body-too-large"),
    ] {
        let answer = served.enroll(headers, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(kind), "{status}: {answer}");
    }
    assert!(served.get("/v2", "").await.contains("/problems/not-found"));
    let answer =
        exchange(served.private, &format!("GET {ENROLL_PATH} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 405") && header(&answer, "allow") == "POST", "{answer}");

    let metrics = served.metrics("").await;
    for line in [
        "ca_certificates_issued_total{profile=\"client\"} 1",
        "ca_enrollments_denied_total{reason=\"token-unknown\"} 1",
        "ca_crl_next_update_seconds{issuer=\"issuing\"} 86400",
        "ca_http_request_duration_seconds_count{route=\"other\",status=\"404\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn relying_parties_are_named_to_operators_only() {
    let served = Served::new().await;
    let member = crate::feed::Member {
        name: "secret-service".to_owned(),
        serial: served.fixture.issue("secret-service", 20).await,
        instance: pki::instance::InstanceId::of(&pki::token::Secret::from_bytes([1; 32])),
        address: "192.0.2.1".to_owned(),
        not_after: now().plus(Duration::from_hours(24)),
    };
    let record = member.first_record(now());
    served.fixture.authority.store().record_relying_parties(&[record], &[]).await.unwrap();
    let authority = Arc::clone(&served.fixture.authority);
    let feed = Feed::open(authority.store().clone(), authority.settings(), served.clock.clone()).await.unwrap();
    let app = App::new(authority, feed, served.clock.clone());
    let served = Served {
        public: serve(public_routes(app.clone())).await,
        operations: serve(operations_routes(app)).await,
        ..served
    };
    let ready = served.get("/readyz", "").await;
    assert!(ready.ends_with("\r\n\r\nready\n"), "{ready}");
    assert!(served.get("/metrics", "").await.starts_with("HTTP/1.1 404"));
    let head = "GET /readyz HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n";
    let ready = exchange(served.operations, head).await;
    assert!(ready.contains("ready\nno report since the start from secret-service; "), "{ready}");

    let metrics = served.metrics("").await;
    assert_eq!(header(&metrics, "content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let last_seen =
        format!("ca_relying_party_last_seen_seconds{{relying_party=\"secret-service\"}} {}\n", now().unix());
    for line in [
        &last_seen,
        "ca_relying_party_connected_instances{relying_party=\"secret-service\"} 0\n",
        "# TYPE ca_certificates_issued_total counter\n",
        "# TYPE ca_build_info gauge\n",
        "\nprocess_open_fds ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let metrics = served.metrics("accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert_eq!(header(&metrics, "content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.contains("# TYPE ca_certificates_issued counter\n") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn certificates_of_the_authorities_are_public() {
    let served = Served::new().await;
    for issuer in Issuer::ALL {
        let answer = served.get(issuer.certificate_path(), "").await;
        assert_eq!(header(&answer, "content-type"), "application/pkix-cert");
        let length = served.fixture.authority.certificate(issuer).len();
        assert_eq!(header(&answer, "content-length"), length.to_string());
    }
}

#[tokio::test]
async fn lists_are_served_in_plain_http_and_over_tls() {
    let served = Served::new().await;
    for path in ["/crl/root.crl", "/crl/issuing.crl", "/crl/issuing-delta.crl", "/crl/servers.crl"] {
        for address in [served.public, served.private] {
            let get = async |headers: &str| {
                let head = format!("GET {path} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n{headers}\r\n");
                exchange(address, &head).await
            };
            let answer = get("").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/pkix-crl"), "{path}: {answer}");
            let etag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an entity tag").to_owned();
            let again = get(&format!("if-none-match: {etag}\r\n")).await;
            assert!(again.starts_with("HTTP/1.1 304"), "{path}: {again}");
        }
    }
}
