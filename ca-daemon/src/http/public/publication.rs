//! The public CRLs and certificates of the authorities (RFC 5280 sections 4.2.1.13 and 4.2.2.1).
//!
//! It never serves a CRL that is not the current one: another process may have just written a new one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::response::Response;
use http::HeaderMap;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    crl::CrlNumber,
};
use tokio::sync::Mutex;

use crate::{
    authority::Authority,
    http::{
        App, HttpError,
        public::{
            conditional::{Modified, Representation},
            lists,
        },
    },
    issuer::{CrlKind, Issuer},
    store::{CrlRecord, Store, StoreError},
};

/// A file to serve, with its headers.
#[derive(Debug)]
pub(in crate::http) struct Published {
    root: OfIssuer,
    issuing: OfIssuer,
}

#[derive(Debug)]
struct OfIssuer {
    certificate: Representation,
    complete: Cached,
    delta: Cached,
    servers: Cached,
}

/// The CRL that was current at the last request.
#[derive(Debug, Default)]
struct Cached {
    crl: ArcSwapOption<(CrlNumber, Representation)>,
    /// Held while the next one is read, so that concurrent requests share one copy.
    reading: Mutex<()>,
    earlier: Arc<lists::Earlier>,
}

impl Cached {
    fn with_number(&self, number: CrlNumber) -> Option<Arc<(CrlNumber, Representation)>> {
        self.crl.load_full().filter(|crl| crl.0 == number)
    }
}

impl Published {
    pub(in crate::http) fn new(authority: &Authority) -> Self {
        let of = |issuer| OfIssuer {
            certificate: certificate_representation(authority.certificate(issuer)),
            complete: Cached::default(),
            delta: Cached::default(),
            servers: Cached::default(),
        };
        Self { root: of(Issuer::Root), issuing: of(Issuer::Issuing) }
    }

    fn of(&self, issuer: Issuer) -> &OfIssuer {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => &self.issuing,
        }
    }

    /// The current CRL of this kind. It is read from the database only if its number has changed.
    async fn crl(
        &self,
        store: &Store,
        issuer: Issuer,
        kind: CrlKind,
    ) -> Result<Option<Arc<(CrlNumber, Representation)>>, StoreError> {
        let cached = match kind {
            CrlKind::Complete => &self.of(issuer).complete,
            CrlKind::Delta => &self.of(issuer).delta,
            CrlKind::Servers => &self.of(issuer).servers,
        };
        let Some(head) = store.head(issuer, kind).await? else { return Ok(None) };
        if let Some(crl) = cached.with_number(head.number) {
            return Ok(Some(crl));
        }
        let _reading = cached.reading.lock().await;
        let Some(head) = store.head(issuer, kind).await? else { return Ok(None) };
        if let Some(crl) = cached.with_number(head.number) {
            return Ok(Some(crl));
        }
        let Some(crl) = store.signed(issuer, kind).await? else { return Ok(None) };
        let fresh = Arc::new((crl.head.number, crl_representation(crl)));
        if let Some(earlier) = cached.crl.swap(Some(Arc::clone(&fresh))) {
            cached.earlier.keep(&earlier.1.body);
        }
        Ok(Some(fresh))
    }
}

pub(in crate::http) async fn crl(
    app: &App,
    issuer: Issuer,
    kind: CrlKind,
    request: &http::request::Parts,
) -> Result<Response, HttpError> {
    let crl = app.published.crl(app.authority.store(), issuer, kind).await?;
    let crl = crl.ok_or_else(|| HttpError::NotFound(request.uri.path().to_owned()))?;
    Ok(crl.1.answer(&request.headers))
}

pub(in crate::http) fn certificate(app: &App, issuer: Issuer, request: &HeaderMap) -> Response {
    app.published.of(issuer).certificate.answer(request)
}

fn crl_representation(crl: CrlRecord) -> Representation {
    let head = crl.head;
    Representation {
        // The number is for people. The digest distinguishes CRLs if a restored database uses a number again.
        etag: format!("\"{}-{}\"", head.number, digest(&crl.der)),
        modified: if head.previous_update >= Some(head.this_update) {
            Modified::AgainWithin(head.this_update)
        } else {
            Modified::At(head.this_update)
        },
        body: Arc::new(crl.der),
        media_type: "application/pkix-crl",
        // A cache may keep it but has to revalidate every time, so that no cache delays a revocation.
        cache_control: "no-cache",
    }
}

fn certificate_representation(der: &[u8]) -> Representation {
    let since = CertificateInfo::from_der(der).map(|info| info.validity.not_before);
    Representation {
        etag: format!("\"{}\"", digest(der)),
        modified: Modified::At(since.expect("an authority's certificate was read when it was opened")),
        body: Arc::new(der.to_vec()),
        media_type: "application/pkix-cert",
        cache_control: "max-age=3600",
    }
}

/// The first 16 digits of the SHA-256: enough, because nobody gains from a collision.
fn digest(octets: &[u8]) -> String {
    let first = Fingerprint::of(octets).0.first_chunk().copied().expect("SHA-256 has more than 8 bytes");
    format!("{:016x}", u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests::Fixture;

    #[tokio::test]
    async fn concurrent_requests_share_one_copy() {
        let fixture = Fixture::new().await;
        let (published, store) = (Published::new(&fixture.authority), fixture.authority.store());
        let ask = || published.crl(store, Issuer::Issuing, CrlKind::Complete);
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        let [one, two, three] = [one, two, three].map(|crl| crl.unwrap().unwrap());
        assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&two, &three));
    }
}
