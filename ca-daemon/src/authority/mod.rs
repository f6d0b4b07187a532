//! The authority's use cases, one method each: enroll, issue, revoke, publish, and what tokens need.
//!
//! It never knows SQL or HTTP, never reads the clock and never draws randomness.

mod enroll;
mod recover;
mod renew;
mod request;
#[cfg(test)]
pub(crate) mod tests;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use edge::files;
use pki::{
    certificate::{CertificateError, CertificateInfo, Fingerprint},
    crl::RevocationReason,
    issuing::{CertificateAuthority, IssuedCertificate, IssuingError},
    policy::{Approved, Denial, Grant, OperatorOrder, Policy},
    serial::Serial,
    time::Timestamp,
    token::{Secret, Token, TokenId},
};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use tracing::info;

pub(crate) use self::{
    enroll::{EnrollDenial, EnrollError},
    recover::{TakeBackError, read_pem},
    renew::{RenewDenial, RenewError},
    request::RequestError,
};
use crate::{
    home::directory::{Directory, DirectoryError},
    issuer::Issuer,
    settings::Settings,
    store::{
        Condemned, CrlRecord, Period, Recorded, Revocation, Revoked, Store, StoreError, Target, TokenRecord,
        TokenRevocation, Uncertifiable, Uses,
    },
};

/// A certificate authority that is ready to work.
#[derive(Debug)]
pub(crate) struct Authority {
    store: Store,
    settings: Settings,
    policy: Policy,
    root: CertificateDer<'static>,
    /// The root with its key, unless the key is kept elsewhere.
    root_signer: Option<Arc<CertificateAuthority>>,
    issuing: Arc<CertificateAuthority>,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the root and of the issuing CA.
    own_keys: [[u8; 32]; 2],
    /// Held while a key is judged that takes long.
    slow_keys: Mutex<()>,
}

/// Why an authority cannot start to work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an operator's order was not carried out.
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

/// Why no CRL was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Only the root's key can sign the root's CRL.
    #[error(
        "the root's key is not in the authority's directory; say where it is: \
         ca-daemon crl --root --resign --root-key FILE"
    )]
    NoRootKey,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the issuing CA was not revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeIssuingError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new token is to be good for.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) grant: Grant,
    pub(crate) lifetime: Duration,
    pub(crate) uses: NonZeroU32,
}

impl Authority {
    /// Opens the authority in this directory.
    pub(crate) async fn open(directory: &Directory) -> Result<Self, OpenError> {
        directory.check()?;
        let store = Store::open(&directory.database()).await?;
        let settings = store.settings().await?;
        let root = directory.load_certificate(Issuer::Root)?;
        if Fingerprint::of(&root) != settings.root {
            return Err(DirectoryError::OtherRoot(directory.certificate(Issuer::Root)).into());
        }
        let load = |issuer| directory.load_authority(issuer, &directory.key(issuer), &settings).map(Arc::new);
        let issuing = load(Issuer::Issuing)?;
        let root_signer = if files::exists(&directory.key(Issuer::Root)).map_err(DirectoryError::from)? {
            Some(load(Issuer::Root)?)
        } else {
            None
        };
        let policy = Policy { trust_domain: settings.trust_domain.clone() };
        let root_info = CertificateInfo::from_der(&root).map_err(|error| DirectoryError::Authority {
            path: directory.certificate(Issuer::Root),
            source: error.into(),
        })?;
        let own_keys = [root_info.spki_sha256, issuing.info().spki_sha256];
        Ok(Self { store, settings, policy, root, root_signer, issuing, own_keys, slow_keys: Mutex::default() })
    }

    /// For reading; every change is a use case of its own.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The issuer's own certificate.
    pub(crate) fn certificate(&self, issuer: Issuer) -> &CertificateDer<'static> {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => self.issuing.certificate(),
        }
    }

    /// Issues what an operator at this machine orders. The certificate is durable before
    /// it is returned.
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

    /// Issues the certificate that the authority itself presents, also if the issuing CA is revoked: it says so to whoever asks.
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

    /// The certificate and those above it, up to but without the root.
    pub(crate) fn chain(&self, end_entity: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        vec![end_entity, self.issuing.certificate().clone()]
    }

    /// As [`Self::revoke_target`], of certificates that are known one by one.
    #[cfg(test)]
    pub(crate) async fn revoke(
        &self,
        serials: &[Serial],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        self.revoke_target(Target { serials, ..Target::default() }, reason, now).await
    }

    /// Revokes certificates, for good, and publishes the CRL that says so.
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

    /// Revokes the issuing CA with the root's next CRL: everything that it ever issued ends, and for good.
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

    /// The root with its key, if that is in the authority's directory.
    pub(crate) fn root_signer(&self) -> Option<Arc<CertificateAuthority>> {
        self.root_signer.clone()
    }

    /// Signs and publishes the issuer's next CRL with the key in the authority's directory.
    pub(crate) async fn publish(&self, issuer: Issuer, now: Timestamp) -> Result<CrlRecord, PublishError> {
        let signer = match issuer {
            Issuer::Root => self.root_signer.clone().ok_or(PublishError::NoRootKey)?,
            Issuer::Issuing => Arc::clone(&self.issuing),
        };
        self.publish_with(issuer, signer, now).await
    }

    /// As [`Self::publish`], with a signer whose key lies elsewhere.
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

    /// Whether this process can sign the issuer's CRLs.
    pub(crate) fn can_publish(&self, issuer: Issuer) -> bool {
        issuer == Issuer::Issuing || self.root_signer.is_some()
    }

    /// Makes a token to hand out, and the record that [`Self::create_token`] makes it work with.
    pub(crate) fn new_token(&self, order: TokenOrder, secret: Secret, now: Timestamp) -> (Token, TokenRecord) {
        new_token(&self.settings, order, secret, now)
    }

    /// Lets a token enroll from now on.
    pub(crate) async fn create_token(&self, record: &TokenRecord) -> Result<(), StoreError> {
        self.store.create_token(record).await?;
        info!(token = %record.id(), profile = %record.grant.profile, expires_at = %record.expires_at, "token created");
        Ok(())
    }

    /// Makes a token useless, for good; what was enrolled with it stays valid.
    pub(crate) async fn revoke_token(
        &self,
        id: &TokenId,
        now: Timestamp,
    ) -> Result<Option<TokenRevocation>, StoreError> {
        let revocation = self.store.revoke_token(id, now).await?;
        if revocation == Some(TokenRevocation::New) {
            info!(token = %id, "token revoked");
        }
        Ok(revocation)
    }
}

fn note_issued(order: &Approved, issued: IssuedCertificate) -> IssuedCertificate {
    info!(serial = %issued.info.id.serial, subject = %order.subject(), profile = %issued.profile, "certificate issued");
    issued
}

/// The token to hand out and the record to keep.
pub(crate) fn new_token(
    settings: &Settings,
    order: TokenOrder,
    secret: Secret,
    now: Timestamp,
) -> (Token, TokenRecord) {
    let record = TokenRecord {
        hash: secret.hash(),
        grant: order.grant,
        created_at: now,
        expires_at: now.plus(order.lifetime),
        uses: Uses { allowed: order.uses.get(), used: 0 },
        revoked_at: None,
    };
    (Token { url: settings.url.clone(), root: settings.root, secret }, record)
}
