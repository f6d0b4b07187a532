//! Issuing by the operator's order, and for the authority itself.
//!
//! It never returns a certificate before its row is durable.

use pki::{
    issuing::{IssuedCertificate, IssuingError},
    policy::{Approved, Denial, OperatorOrder},
    serial::Serial,
    time::Timestamp,
};
use tracing::info;

use super::Authority;
use crate::store::{Recorded, StoreError, Uncertifiable};

/// Why an operator's order was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error(transparent)]
    Uncertifiable(#[from] Uncertifiable),
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Issues what an operator orders on this machine. The certificate is durable before it is returned.
    pub(crate) async fn issue(
        &self,
        order: OperatorOrder,
        serial: Serial,
        now: Timestamp,
    ) -> Result<IssuedCertificate, IssueError> {
        let (order, issued) = self.sign(self.policy.by_operator(order)?, serial, now)?;
        match self.store.record(&issued, now).await? {
            Recorded::Refused(why) => Err(why.into()),
            Recorded::Done => Ok(note_issued(&order, issued)),
        }
    }

    /// Issues the certificate that the authority itself presents, also if the issuing CA is revoked: the authority has
    /// to serve that revocation.
    pub(crate) async fn issue_own(
        &self,
        order: OperatorOrder,
        serial: Serial,
        now: Timestamp,
    ) -> Result<IssuedCertificate, IssueError> {
        let (order, issued) = self.sign(self.policy.for_authority(order)?, serial, now)?;
        self.store.record_own(&issued, now).await?;
        Ok(note_issued(&order, issued))
    }

    fn sign(
        &self,
        order: Approved,
        serial: Serial,
        now: Timestamp,
    ) -> Result<(Approved, IssuedCertificate), IssuingError> {
        let issued = self.issuing.issue(&order, serial, now)?;
        Ok((order, issued))
    }
}

fn note_issued(order: &Approved, issued: IssuedCertificate) -> IssuedCertificate {
    info!(serial = %issued.info.id.serial, subject = %order.subject(), profile = %issued.profile, "certificate issued");
    issued
}
