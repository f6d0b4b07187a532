//! Certificate signing requests: read, and their keys judged, before anybody decides about them.
//!
//! It never approves one.

use pki::{
    csr::{self, CertificateRequest, CsrError},
    pem::{self, PemError},
};
use tokio::task::spawn_blocking;

use super::Authority;

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// It is not PEM.
    #[error("the request has {0}")]
    Pem(#[from] PemError),
    /// It is no request, or for a key that is not certified.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// A certificate for it would let the authority's key be used in everybody's place.
    #[error("the request is for the authority's own key; make another key")]
    AuthorityKey,
}

impl RequestError {
    /// In a few words that do not change: for problem documents, metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Pem(_) | Self::Csr(_) => "csr-invalid",
            Self::AuthorityKey => "authority-key",
        }
    }
}

impl Authority {
    /// Reads a request and judges its key.
    pub(super) async fn read_request(&self, csr: &str) -> Result<CertificateRequest, RequestError> {
        let der = pem::read_csr(csr)?;
        // Whoever sends the slowest keys that there are takes one processor at most, and no thread that others wait for.
        let request = if csr::takes_long(&der) {
            let _turn = self.slow_keys.lock().await;
            spawn_blocking(move || CertificateRequest::from_der(&der))
                .await
                .expect("reading a request does not panic")?
        } else {
            CertificateRequest::from_der(&der)?
        };
        if self.own_keys.contains(&request.public_key().spki_sha256()) {
            return Err(RequestError::AuthorityKey);
        }
        Ok(request)
    }
}
