//! `GET /openapi.json`: the routes of this authority as an OpenAPI 3.1 document.
//!
//! It never describes a route that is not served; a test requests each of them.

use axum::response::{IntoResponse, Response};
use http::header;

/// The path of the document.
pub(in crate::http) const PATH: &str = "/openapi.json";

const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

pub(in crate::http) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
