//! Publishing an issuer's next CRL.
//!
//! It never revokes anything.

use std::sync::Arc;

use pki::{issuing::CertificateAuthority, time::Timestamp};
use tracing::info;

use super::Authority;
use crate::{
    issuer::Issuer,
    store::{CrlRecord, Period, StoreError},
};

/// Why no CRL was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Only the root's key can sign the root's CRL.
    #[error(
        "the root's key is not in the authority's directory; give its file: \
         ca-daemon crl --root --resign --root-key FILE"
    )]
    NoRootKey,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Signs and publishes the issuer's next CRL with the key in the authority's directory.
    pub(crate) async fn publish(&self, issuer: Issuer, now: Timestamp) -> Result<CrlRecord, PublishError> {
        let signer = match issuer {
            Issuer::Root => self.root_signer.clone().ok_or(PublishError::NoRootKey)?,
            Issuer::Issuing => Arc::clone(&self.issuing),
        };
        self.publish_with(issuer, signer, now).await
    }

    /// As [`Self::publish`], with a signer whose key is stored elsewhere.
    pub(crate) async fn publish_with(
        &self,
        issuer: Issuer,
        signer: Arc<CertificateAuthority>,
        now: Timestamp,
    ) -> Result<CrlRecord, PublishError> {
        let period = Period { this_update: now, lifetime: self.settings.crl_lifetime(issuer) };
        let crl = self.store.publish(issuer, period, signer).await?;
        info!(%issuer, crl_number = %crl.head.number, next_update = %crl.head.next_update, "CRL published");
        Ok(crl)
    }
}
