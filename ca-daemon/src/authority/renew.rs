//! Renewal: the holder of a certificate gets its successor, with another key and another end.
//!
//! It never asks for a token, and never renews what is revoked.

use std::time::Duration;

use pki::{
    certificate::CertificateInfo,
    issuing::{IssuedCertificate, IssuingError},
    policy::Denial,
    profile::Profile,
    renewal::Window,
    serial::Serial,
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
use tracing::info;

use super::{Authority, request::RequestError};
use crate::store::{Candidate, Enrollment, Entitlement, PredecessorRefusal, Refusal, StoreError, Uncertifiable};

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// The authority says no.
    #[error(transparent)]
    Denied(#[from] RenewDenial),
    /// Something broke while signing.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// Something broke while storing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the authority says no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewDenial {
    /// The request is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The certificate gets no successor.
    #[error(transparent)]
    Predecessor(#[from] PredecessorRefusal),
    /// Its time is over.
    #[error("the certificate with serial {serial} ended at {at}; enroll for another with a token")]
    Expired { serial: Serial, at: Timestamp },
    /// Nobody gets a certificate for this key, or from this authority.
    #[error(transparent)]
    Uncertifiable(#[from] Uncertifiable),
    /// Today's rules would not certify it.
    #[error(transparent)]
    Policy(#[from] Denial),
    /// Revocations are known to be missing here, and its own may be among them.
    #[error(
        "this authority was restored from an older copy and lacks revocations, so nothing is renewed until it has them \
         back; try again later"
    )]
    Lacking,
}

impl RenewDenial {
    /// The kind of denial in a few words that do not change: for problem documents, metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Request(error) => error.reason(),
            Self::Predecessor(PredecessorRefusal::Revoked { .. }) => "certificate-revoked",
            Self::Predecessor(PredecessorRefusal::NotTheSame { .. }) => "certificate-unknown",
            Self::Expired { .. } => "certificate-expired",
            Self::Uncertifiable(Uncertifiable::Issuer(_)) => "issuer-revoked",
            Self::Uncertifiable(Uncertifiable::Key { .. }) => "key-compromised",
            Self::Policy(_) => "not-renewable",
            Self::Lacking => "database-outdated",
        }
    }
}

impl Authority {
    /// Issues the successor of a certificate to its holder, who has proven that in the handshake; the answer is the successor's chain, and
    /// when to renew that.
    ///
    /// The same key gets the same successor again, so that a lost answer costs nothing; `serial` is then not used.
    pub(crate) async fn renew(
        &self,
        predecessor: IssuedCertificate,
        csr: &str,
        serial: Serial,
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, Window), RenewError> {
        let (id, validity) = (predecessor.info.id.serial, predecessor.info.validity);
        if now > validity.not_after {
            return Err(RenewDenial::Expired { serial: id, at: validity.not_after }.into());
        }
        let request = self.read_request(csr).await.map_err(RenewDenial::from)?;
        let lifetime = self.lifetime_of_successor(&predecessor);
        let key = request.public_key().clone();
        let order = self.policy.approve_successor(&predecessor.info, key, lifetime).map_err(RenewDenial::from)?;
        if self.store.is_ahead().await? {
            return Err(RenewDenial::Lacking.into());
        }
        // Signed before the transaction: the write lock is held for the disk only.
        let issued = self.issuing.issue(&order, serial, now)?;
        let subject = order.subject().clone();
        let by = Entitlement::Predecessor(Box::new(predecessor));
        let window = Window::of(issued.info.validity);
        match self.store.enroll(Candidate { by, order, issued, now }).await? {
            Enrollment::Recorded(certificate) => {
                info!(%serial, %subject, predecessor = %id, "certificate renewed");
                Ok((self.chain(certificate), window))
            }
            Enrollment::Repeated(certificate) => {
                info!(predecessor = %id, "the same renewal again, answered with the same certificate");
                let window = CertificateInfo::from_der(&certificate).map_or(window, |info| Window::of(info.validity));
                Ok((self.chain(certificate), window))
            }
            Enrollment::Refused(refusal) => Err(denial(refusal).into()),
        }
    }

    /// As long as its predecessor was meant to live. One that ends with the issuing CA was cut off, and says nothing.
    fn lifetime_of_successor(&self, predecessor: &IssuedCertificate) -> Duration {
        let validity = predecessor.info.validity;
        let is_cut_off = validity.not_after >= self.issuing.info().validity.not_after;
        if is_cut_off { Profile::LIFETIME.max(validity.lifetime()) } else { validity.lifetime() }
    }
}

fn denial(refusal: Refusal) -> RenewDenial {
    match refusal {
        Refusal::Predecessor(why) => why.into(),
        Refusal::Uncertifiable(why) => why.into(),
        Refusal::Token(_) => unreachable!("a renewal needs no token"),
    }
}
