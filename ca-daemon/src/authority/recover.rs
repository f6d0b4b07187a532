//! Recovery of a database that was restored from an older copy: it takes back revocations from CRLs that this authority
//! signed, which relying parties hand over or an operator imports.
//!
//! It never accepts a revocation without this authority's own signature.

use pki::{
    certificate::{CertificateError, CertificateInfo},
    crl::{CrlIssuer, CrlNumber, CrlVerifyError, VerifiedCrl, VerifiedDelta, VerifiedList},
    issuing::IssuedCertificate,
    pem,
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
use tokio::task::spawn_blocking;
use tracing::error;

use super::Authority;
use crate::{
    issuer::Issuer,
    store::{SignedList, StoreError, TakenBack},
};

/// Why a CRL was not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeBackError {
    /// Another issuer's, forged, or damaged.
    #[error("this authority has not signed that CRL: {0}")]
    NotOurs(#[from] CrlVerifyError),
    /// The text has no CRL.
    #[error("the file has no readable CRL")]
    NoCrl,
    /// CRL numbers are limited, so no CRL could follow this one.
    #[error(
        "CRL number {0} is so high that no number is left for later CRLs; nothing was taken back. Revoke the serial \
         numbers in it instead: ca-daemon revoke --unknown --serial S"
    )]
    LastNumber(CrlNumber),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Records what these CRLs revoke and the database does not have: all of them, or none. They are in DER; complete
    /// or delta; of the root or the issuing CA. The next CRL publishes it, with a number higher than theirs.
    pub(crate) async fn take_back(&self, crls: Vec<Vec<u8>>) -> Result<Vec<TakenBack>, TakeBackError> {
        let issuing = CertificateInfo::from_der(self.certificate(Issuer::Issuing)).map_err(|_| TakeBackError::NoCrl)?;
        let mut issuers = Vec::new();
        for issuer in Issuer::ALL {
            let info = CertificateInfo::from_der(self.certificate(issuer)).map_err(|_| TakeBackError::NoCrl)?;
            issuers.extend(CrlIssuer::from_certificate(&info).map(|signer| (issuer, signer)));
        }
        // Verifying a signature over a million entries would block an async thread.
        let read = move || crls.iter().map(|der| read(der, &issuers)).collect::<Result<Vec<_>, _>>();
        let mut lists = spawn_blocking(read).await.expect("reading a CRL does not panic")?;
        if let Some(last) = lists.iter().find(|list| list.number > CrlNumber::HIGHEST_TAKEN_BACK) {
            return Err(TakeBackError::LastNumber(last.number));
        }
        // A delta has to come after its base.
        lists.sort_by_key(|list| (list.base.is_some(), list.number));
        let taken = self.store.take_back(&lists, issuing.validity.not_after).await?;
        for TakenBack { issuer, number, revocations, .. } in taken.iter().filter(|list| !list.was_known) {
            error!(
                %issuer,
                crl_number = %number,
                revocations,
                "this database is an older copy and has taken back revocations that it lacked"
            );
        }
        Ok(taken)
    }
}

impl Authority {
    /// A certificate that this authority has issued, by issuer name and signature, even if the database does not have
    /// it. Certificates of CAs are refused.
    pub(crate) fn recognise(&self, certificate: &CertificateDer<'_>) -> Option<IssuedCertificate> {
        let issuing = CertificateInfo::from_der(self.certificate(Issuer::Issuing)).ok()?;
        if !issuing.has_signed(certificate) {
            return None;
        }
        let info = CertificateInfo::from_der(certificate).ok()?;
        Some(IssuedCertificate { profile: info.profile?, info, der: certificate.clone().into_owned() })
    }

    /// How long a revocation stays in CRLs if only the serial number is known. Nothing that the issuing CA has issued
    /// is valid after this.
    pub(crate) fn last_end(&self) -> Result<Timestamp, CertificateError> {
        Ok(CertificateInfo::from_der(self.certificate(Issuer::Issuing))?.validity.not_after)
    }
}

/// Every CRL in PEM text.
pub(crate) fn read_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, TakeBackError> {
    pem::read_crls(text).map_err(|_| TakeBackError::NoCrl)
}

/// Verifies a CRL that one of the two authorities has signed.
fn read(der: &[u8], issuers: &[(Issuer, CrlIssuer)]) -> Result<SignedList, CrlVerifyError> {
    CrlIssuer::find(issuers, |(issuer, signer)| {
        let signed = |list: &VerifiedList<'_>, base| SignedList {
            issuer: *issuer,
            number: list.number(),
            base,
            revoked: list.entries().collect(),
        };
        match VerifiedCrl::verify(der, signer) {
            // The complete parser reports a delta like this.
            Err(CrlVerifyError::CriticalExtension) => {
                VerifiedDelta::verify(der, signer).map(|delta| signed(&delta, Some(delta.base())))
            }
            complete => complete.map(|list| signed(&list, None)),
        }
    })
}
