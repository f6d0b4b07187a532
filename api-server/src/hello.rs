//! The routes for clients: who they are, as the service sees them, and whether it is healthy.

use std::net::SocketAddr;

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
    routing::get,
};
use mtls::serve::Peer;
use pki::{
    name::CommonName,
    serial::Serial,
    time::Timestamp,
    wire::{PROBLEM_JSON, Problem},
};
use serde::Serialize;

/// The routes for clients.
pub(crate) fn routes(service: CommonName) -> Router {
    Router::new()
        .route("/hello", get(hello))
        .route("/healthy", get(healthy))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(service)
}

/// The body of /hello.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hello<'a> {
    service: &'a CommonName,
    protocol: String,
    common_name: Option<&'a str>,
    serial: Serial,
    names: &'a [String],
    not_after: Timestamp,
    client_address: SocketAddr,
}

/// A prepared answer: it is the same for all requests of a connection in one version of HTTP.
struct Said {
    version: Version,
    json: Bytes,
}

async fn hello(State(service): State<CommonName>, version: Version, Extension(peer): Extension<Peer>) -> Response {
    let say = || say_hello(&service, version, &peer);
    let json = match peer.keep(|| Said { version, json: say() }) {
        Some(said) if said.version == version => said.json.clone(),
        _ => say(),
    };
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn say_hello(service: &CommonName, version: Version, peer: &Peer) -> Bytes {
    let certificate = peer.certificate();
    let hello = Hello {
        service,
        protocol: format!("{version:?}"),
        common_name: certificate.common_name.as_deref(),
        serial: certificate.id.serial,
        names: &certificate.names,
        not_after: certificate.validity.not_after,
        client_address: peer.address(),
    };
    serde_json::to_vec(&hello).expect("an answer is plain text and numbers").into()
}

async fn healthy() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "healthy" }))
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", "no such path; use GET /hello")
}

async fn method_not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "only GET and HEAD are allowed")
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    let problem = Problem {
        kind: format!("/problems/{kind}"),
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
    };
    (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Json(problem)).into_response()
}
