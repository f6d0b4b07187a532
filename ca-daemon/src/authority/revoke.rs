//! Revoking certificates, and the issuing CA itself.
//!
//! It never un-revokes: a revocation is permanent.

use std::sync::Arc;

#[cfg(test)]
use pki::serial::Serial;
use pki::{
    certificate::{CertificateError, CertificateInfo},
    crl::RevocationReason,
    issuing::CertificateAuthority,
    time::Timestamp,
};
use tracing::info;

use super::Authority;
use crate::{
    issuer::Issuer,
    store::{Condemned, Period, Revocation, Revoked, StoreError, Target},
};

/// Why the issuing CA was not revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeIssuingError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// As [`Self::revoke_target`], for a list of serial numbers.
    #[cfg(test)]
    pub(crate) async fn revoke(
        &self,
        serials: &[Serial],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        self.revoke_target(Target { serials, ..Target::default() }, reason, now).await
    }

    /// Revokes certificates permanently, and publishes the CRL with these revocations.
    pub(crate) async fn revoke_target(
        &self,
        target: Target<'_>,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let period = Period { this_update: now, lifetime: self.settings.crl_lifetime(Issuer::Issuing) };
        let revoked = self.store.revoke(target, reason, period, Arc::clone(&self.issuing)).await?;
        for (serial, _) in revoked.outcomes.iter().filter(|(_, outcome)| *outcome == Revocation::New) {
            info!(%serial, %reason, crl_number = %revoked.crl, "certificate revoked");
        }
        for token in &revoked.tokens {
            info!(%token, "token revoked");
        }
        Ok(revoked)
    }

    /// Revokes the issuing CA permanently with the root's next CRL. Every certificate that it ever issued becomes
    /// invalid.
    pub(crate) async fn revoke_issuing(
        &self,
        reason: RevocationReason,
        root: Arc<CertificateAuthority>,
        now: Timestamp,
    ) -> Result<(CertificateInfo, Revoked), RevokeIssuingError> {
        let issuing = CertificateInfo::from_der(self.issuing.certificate())?;
        let condemned = Condemned { serial: issuing.id.serial, not_after: issuing.validity.not_after };
        let period = Period { this_update: now, lifetime: self.settings.crl_lifetime(Issuer::Root) };
        let revoked = self.store.revoke_authority(condemned, reason, period, root).await?;
        info!(serial = %condemned.serial, %reason, crl_number = %revoked.crl, "issuing CA revoked");
        Ok((issuing, revoked))
    }
}
