//! A database that was restored from an older copy gets back what it forgot: out of CRLs that this authority had signed, which
//! relying parties enforce and hand over, or which somebody has kept.
//!
//! It never believes anybody's word for what was revoked; the authority's own signature is what counts.

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

/// Why a list was not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeBackError {
    /// Somebody else's, forged, or damaged.
    #[error("this authority has not signed that: {0}")]
    NotOurs(#[from] CrlVerifyError),
    /// The text holds none.
    #[error("there is no CRL in it that can be read")]
    NoCrl,
    /// No list could follow it, as numbers do not go on for ever.
    #[error(
        "CRL number {0} is so high that no number is left for the lists after it; nothing was taken back. Revoke what it lists by \
         serial number: ca-daemon revoke --unknown --serial S"
    )]
    LastNumber(CrlNumber),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Takes back what these CRLs (DER; complete or delta, of the root or the issuing CA) revoke and the database does not
    /// know: all of them, or none. It is published by the next CRL, whose number is higher than theirs.
    pub(crate) async fn take_back(&self, crls: Vec<Vec<u8>>) -> Result<Vec<TakenBack>, TakeBackError> {
        let issuing = CertificateInfo::from_der(self.certificate(Issuer::Issuing)).map_err(|_| TakeBackError::NoCrl)?;
        let mut issuers = Vec::new();
        for issuer in Issuer::ALL {
            let info = CertificateInfo::from_der(self.certificate(issuer)).map_err(|_| TakeBackError::NoCrl)?;
            issuers.extend(CrlIssuer::from_certificate(&info).map(|signer| (issuer, signer)));
        }
        // A signature over a million entries does not belong on a thread that others wait for.
        let read = move || crls.iter().map(|der| read(der, &issuers)).collect::<Result<Vec<_>, _>>();
        let mut lists = spawn_blocking(read).await.expect("reading a CRL does not panic")?;
        if let Some(last) = lists.iter().find(|list| list.number > CrlNumber::HIGHEST_TAKEN_BACK) {
            return Err(TakeBackError::LastNumber(last.number));
        }
        // What a delta adds to comes before it.
        lists.sort_by_key(|list| (list.base.is_some(), list.number));
        let taken = self.store.take_back(&lists, issuing.validity.not_after).await?;
        for TakenBack { issuer, number, revocations, .. } in taken.iter().filter(|list| !list.was_known) {
            error!(
                %issuer,
                crl_number = %number,
                revocations,
                "this database is an older copy, and has taken back revocations that it did not know"
            );
        }
        Ok(taken)
    }
}

impl Authority {
    /// A certificate that this authority has issued, by its name and signature, though the database may not know it. A CA's is none.
    pub(crate) fn recognise(&self, certificate: &CertificateDer<'_>) -> Option<IssuedCertificate> {
        let issuing = CertificateInfo::from_der(self.certificate(Issuer::Issuing)).ok()?;
        if !issuing.has_signed(certificate) {
            return None;
        }
        let info = CertificateInfo::from_der(certificate).ok()?;
        Some(IssuedCertificate { profile: info.profile?, info, der: certificate.clone().into_owned() })
    }

    /// Until when a revocation stays in CRLs if of the certificate nothing but the serial number is known: nothing that the issuing CA
    /// has issued is valid after it.
    pub(crate) fn last_end(&self) -> Result<Timestamp, CertificateError> {
        Ok(CertificateInfo::from_der(self.certificate(Issuer::Issuing))?.validity.not_after)
    }
}

/// Every CRL in PEM text.
pub(crate) fn read_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, TakeBackError> {
    pem::read_crls(text).map_err(|_| TakeBackError::NoCrl)
}

/// Believes a list that one of the two authorities has signed.
fn read(der: &[u8], issuers: &[(Issuer, CrlIssuer)]) -> Result<SignedList, CrlVerifyError> {
    CrlIssuer::find(issuers, |(issuer, signer)| {
        let signed = |list: &VerifiedList<'_>, base| SignedList {
            issuer: *issuer,
            number: list.number(),
            base,
            revoked: list.entries().collect(),
        };
        match VerifiedCrl::verify(der, signer) {
            // What a delta says in the place of a complete list.
            Err(CrlVerifyError::CriticalExtension) => {
                VerifiedDelta::verify(der, signer).map(|delta| signed(&delta, Some(delta.base())))
            }
            complete => complete.map(|list| signed(&list, None)),
        }
    })
}
