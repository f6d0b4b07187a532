//! How a failure is answered: the only place where errors become status codes and problem documents (RFC 9457).
//!
//! It never tells a stranger more than what to do next; what broke inside is in the log.

use axum::{
    extract::rejection::JsonRejection,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use mtls::serve::limits;
use pki::{
    serial::Serial,
    time::Timestamp,
    wire::{INSTANCE_HEADER, MAX_PREDECESSORS, PREDECESSORS_HEADER, PROBLEM_JSON, Problem},
};
use tracing::error;

use crate::{
    authority::{EnrollDenial, EnrollError, RenewDenial, RenewError, RequestError, TakeBackError},
    feed::{ConfirmError, SubscribeError},
    issuer::Issuer,
    store::{Ahead, IssuerRevocation, StoreError},
};

/// Why a request gets no proper answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("the request carries no enrollment token; send its secret as Authorization: Bearer SECRET")]
    NoToken,
    #[error(
        "the request's body cannot be read: {}; send profile and csr as JSON, at most {} bytes",
        .0.body_text(),
        limits::MAX_BODY
    )]
    Body(JsonRejection),
    #[error("the request's body is longer than {most} bytes, and is not read")]
    BodyTooLarge { most: usize },
    #[error("the request's body broke off; send it again")]
    BodyCutOff,
    #[error("what the relying party says cannot be read: {}", .0.body_text())]
    Word(JsonRejection),
    #[error("this is for relying parties; connect with a certificate of the profile server from this authority")]
    NoCertificate,
    #[error("this is for relying parties, and the certificate of {name} is not of the profile server")]
    NotARelyingParty { name: String },
    #[error("the certificate with serial {serial} was revoked at {at}; enroll for another")]
    PeerRevoked { serial: Serial, at: Timestamp },
    #[error("the issuing CA is revoked, and there is no record of the certificate with serial {serial}")]
    PeerUnknown { serial: Serial },
    #[error("the certificate with serial {serial} is not valid now; enroll for another")]
    PeerExpired { serial: Serial },
    #[error("which instance is this? Send the secret that it drew at its start in the header {INSTANCE_HEADER}")]
    NoInstance,
    #[error(
        "the header {PREDECESSORS_HEADER} cannot be read; send the secrets of at most {MAX_PREDECESSORS} earlier instances, separated by commas"
    )]
    Predecessors,
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    #[error("this relying party hands over CRLs already; wait for the answer")]
    HandingOver,
    #[error("this authority has not asked for CRLs; say first what is enforced, and hand over what it does not know")]
    NotAskedFor,
    #[error(
        "what is handed over is larger than this authority's lists can be, {most} bytes; give it the list yourself: \
         ca-daemon crl --import FILE"
    )]
    HandedOverTooLarge { most: usize },
    #[error(transparent)]
    TakeBack(#[from] TakeBackError),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error("this is for the holder of a certificate; connect with the certificate that is to be renewed")]
    NothingToRenew,
    #[error("the request's body cannot be read: {}; send csr as JSON, at most {} bytes", .0.body_text(), limits::MAX_BODY)]
    RenewBody(JsonRejection),
    #[error(transparent)]
    Renew(#[from] RenewError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database cannot be read: {0}")]
    Unready(#[source] StoreError),
    #[error("the database cannot be written: {0}")]
    Unwritable(#[source] StoreError),
    #[error(
        "the {issuer} CRL is stale since {since}; can the daemon write its database, and is the issuer's key there?"
    )]
    Stale { issuer: Issuer, since: Timestamp },
    #[error(
        "the {issuer} CRL is from the future: it was issued at {this_update} by a clock that was ahead; if this clock is \
         right, the next CRL mends it: can the daemon write its database, and is the issuer's key there?"
    )]
    FromTheFuture { issuer: Issuer, this_update: Timestamp },
    #[error(transparent)]
    Ahead(#[from] Ahead),
    #[error(transparent)]
    IssuerRevoked(IssuerRevocation),
    #[error("there is nothing at {0}")]
    NotFound(String),
    #[error("{1} does not answer {0}")]
    MethodNotAllowed(Method, String),
    #[error("the request took longer than {} s; try again", limits::REQUEST_TIMEOUT.as_secs())]
    TimedOut,
}

impl HttpError {
    /// The status, and the kind of problem in a few words that do not change.
    fn classify(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "token-missing"),
            Self::Body(rejection) | Self::RenewBody(rejection) | Self::Word(rejection) => match rejection.status() {
                status @ StatusCode::UNSUPPORTED_MEDIA_TYPE => (status, "media-type"),
                _ => (StatusCode::BAD_REQUEST, "json-invalid"),
            },
            Self::BodyTooLarge { .. } | Self::HandedOverTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large")
            }
            Self::BodyCutOff => (StatusCode::BAD_REQUEST, "body-cut-off"),
            Self::NoCertificate | Self::NothingToRenew => (StatusCode::FORBIDDEN, "certificate-missing"),
            Self::NotARelyingParty { .. } => (StatusCode::FORBIDDEN, "not-a-relying-party"),
            Self::PeerRevoked { .. } => (StatusCode::FORBIDDEN, "certificate-revoked"),
            Self::PeerUnknown { .. } => (StatusCode::FORBIDDEN, "certificate-unknown"),
            Self::PeerExpired { .. } => (StatusCode::FORBIDDEN, "certificate-expired"),
            Self::NoInstance => (StatusCode::BAD_REQUEST, "instance-missing"),
            Self::Predecessors => (StatusCode::BAD_REQUEST, "predecessors-invalid"),
            Self::Subscribe(SubscribeError::TooMany(_)) => (StatusCode::TOO_MANY_REQUESTS, "too-many-instances"),
            // By this status the relying party knows that it is to open the feed again.
            Self::Confirm(ConfirmError::NotOnTheFeed) => (StatusCode::FORBIDDEN, "not-on-the-feed"),
            // By this status the relying party knows that it is to hand over what it enforces.
            Self::Confirm(ConfirmError::Unknown { .. }) => (StatusCode::CONFLICT, "crl-unknown"),
            Self::HandingOver => (StatusCode::TOO_MANY_REQUESTS, "handing-over"),
            Self::NotAskedFor => (StatusCode::FORBIDDEN, "not-asked-for"),
            Self::TakeBack(TakeBackError::NotOurs(_) | TakeBackError::NoCrl | TakeBackError::LastNumber(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "crl-invalid")
            }
            Self::Enroll(EnrollError::Denied(denied)) => (denial_status(&denied.why), denied.why.reason()),
            Self::Renew(RenewError::Denied(denial)) => (renewal_status(denial), denial.reason()),
            Self::Enroll(EnrollError::Store(error))
            | Self::Renew(RenewError::Store(error))
            | Self::Store(error)
            | Self::TakeBack(TakeBackError::Store(error))
            | Self::Subscribe(SubscribeError::Store(error))
            | Self::Confirm(ConfirmError::Store(error)) => classify_store(error),
            Self::Enroll(EnrollError::Issuing(_)) | Self::Renew(RenewError::Issuing(_)) => INTERNAL,
            Self::Unready(error) if error.is_replaced() => classify_store(error),
            Self::Unready(_) => (StatusCode::SERVICE_UNAVAILABLE, "database-unreadable"),
            Self::Unwritable(_) => (StatusCode::SERVICE_UNAVAILABLE, "database-unwritable"),
            Self::Stale { .. } => (StatusCode::SERVICE_UNAVAILABLE, "crl-stale"),
            Self::FromTheFuture { .. } => (StatusCode::SERVICE_UNAVAILABLE, "crl-from-the-future"),
            Self::IssuerRevoked(_) => (StatusCode::SERVICE_UNAVAILABLE, "issuer-revoked"),
            Self::Ahead(_) => (StatusCode::SERVICE_UNAVAILABLE, "database-outdated"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            Self::MethodNotAllowed(..) => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        }
    }
}

const INTERNAL: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "internal");

fn classify_store(error: &StoreError) -> (StatusCode, &'static str) {
    match error {
        StoreError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "database-busy"),
        StoreError::MissingBase { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "crl-incomplete"),
        StoreError::Replaced(_) => (StatusCode::SERVICE_UNAVAILABLE, "database-replaced"),
        StoreError::Full => (StatusCode::SERVICE_UNAVAILABLE, "database-full"),
        StoreError::Together(error) => classify_store(error),
        _ => INTERNAL,
    }
}

fn denial_status(denial: &EnrollDenial) -> StatusCode {
    match denial {
        EnrollDenial::UnknownToken => StatusCode::UNAUTHORIZED,
        EnrollDenial::Token(_) | EnrollDenial::Uncertifiable(_) => StatusCode::FORBIDDEN,
        EnrollDenial::Request(error) => request_status(error),
        EnrollDenial::Policy(denial) => match denial {
            pki::policy::Denial::Profile { .. }
            | pki::policy::Denial::Name { .. }
            | pki::policy::Denial::Host { .. }
            | pki::policy::Denial::NotRenewable(_) => StatusCode::FORBIDDEN,
            pki::policy::Denial::Subject { .. } | pki::policy::Denial::Malformed(_) | pki::policy::Denial::Hosts(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        },
    }
}

fn renewal_status(denial: &RenewDenial) -> StatusCode {
    match denial {
        RenewDenial::Request(error) => request_status(error),
        RenewDenial::Predecessor(_)
        | RenewDenial::Expired { .. }
        | RenewDenial::Uncertifiable(_)
        | RenewDenial::Policy(_) => StatusCode::FORBIDDEN,
        RenewDenial::Lacking => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn request_status(error: &RequestError) -> StatusCode {
    match error {
        RequestError::AuthorityKey => StatusCode::FORBIDDEN,
        RequestError::Pem(_) | RequestError::Csr(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// `csr-invalid` as people write it: `CSR invalid`.
fn title(kind: &str) -> String {
    let mut title = kind.replace('-', " ");
    title[..1].make_ascii_uppercase();
    title.replace("Csr", "CSR").replace("Crl", "CRL").replace("Json", "JSON")
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, kind) = self.classify();
        let detail = if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(error = %self, "request failed");
            "the authority could not do this; its log says why".to_owned()
        } else {
            self.to_string()
        };
        let (kind, title) = (format!("/problems/{kind}"), title(kind));
        let problem = Problem { kind, title, status: status.as_u16(), detail };
        let body = serde_json::to_string(&problem).expect("four fields of text and numbers serialize");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        match status {
            // RFC 6750 section 3
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
