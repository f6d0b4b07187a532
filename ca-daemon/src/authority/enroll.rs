//! Enrollment: a token and a request become a certificate, once.
//!
//! It never hands out a certificate that is not durable, and never the same token's use twice.

use pki::{
    issuing::IssuingError,
    policy::Denial,
    profile::Profile,
    serial::Serial,
    time::Timestamp,
    token::{Secret, TokenId},
};
use rustls_pki_types::CertificateDer;
use tracing::info;

use super::{Authority, request::RequestError};
use crate::store::{Candidate, Enrollment, Entitlement, Refusal, StoreError, TokenRecord, TokenRefusal, Uncertifiable};

/// Why somebody was not enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// The authority says no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Something broke while signing.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// Something broke while storing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A denial, and whose token it was.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Denied {
    /// The token as presented; its id says nothing about its secret.
    pub(crate) token: TokenId,
    pub(crate) why: EnrollDenial,
}

/// Why the authority says no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollDenial {
    /// No such token was ever created here.
    #[error("this authority did not issue that token; check that it was copied whole and is for this authority")]
    UnknownToken,
    /// The token exists and cannot be used.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// The request is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No token helps.
    #[error(transparent)]
    Uncertifiable(#[from] Uncertifiable),
    /// The token does not grant what is asked for.
    #[error(transparent)]
    Policy(#[from] Denial),
}

impl From<Refusal> for EnrollDenial {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Token(refusal) => refusal.into(),
            Refusal::Uncertifiable(why) => why.into(),
            Refusal::Predecessor(_) => unreachable!("an enrollment has no predecessor"),
        }
    }
}

impl EnrollDenial {
    /// The kind of denial in a few words that do not change: for problem documents, metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::UnknownToken => "token-unknown",
            Self::Token(TokenRefusal::Revoked { .. }) => "token-revoked",
            Self::Token(TokenRefusal::UsedUp { .. }) => "token-used-up",
            Self::Token(TokenRefusal::Expired { .. }) => "token-expired",
            Self::Uncertifiable(Uncertifiable::Issuer(_)) => "issuer-revoked",
            Self::Uncertifiable(Uncertifiable::Key { .. }) => "key-compromised",
            Self::Request(error) => error.reason(),
            Self::Policy(denial) => match denial {
                Denial::Profile { .. } => "profile-not-granted",
                Denial::Name { .. } => "name-not-granted",
                Denial::Host { .. } => "host-not-granted",
                Denial::Subject { .. } => "subject-invalid",
                Denial::Malformed(_) => "name-invalid",
                Denial::Hosts(_) => "hosts-invalid",
                Denial::NotRenewable(_) => "not-renewable",
            },
        }
    }
}

impl Authority {
    /// Whether this secret is one of ours at all, before anything else is read of who presents it.
    pub(crate) async fn check_token(&self, secret: &Secret) -> Result<(), EnrollError> {
        self.token(secret).await.map(drop)
    }

    async fn token(&self, secret: &Secret) -> Result<TokenRecord, EnrollError> {
        let hash = secret.hash();
        match self.store.token_to_enroll(&hash.id()).await? {
            Some(token) if token.hash.matches(&hash) => Ok(token),
            _ => Err(Denied { token: hash.id(), why: EnrollDenial::UnknownToken }.into()),
        }
    }

    /// Enrolls whoever holds a token's secret and the key in the request; the answer is the certificate's chain.
    ///
    /// The same key with the same token and names gets the same certificate again, so that a lost answer costs nothing;
    /// `serial` is then not used.
    pub(crate) async fn enroll(
        &self,
        secret: &Secret,
        profile: Profile,
        csr: &str,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, EnrollError> {
        let token = self.token(secret).await?;
        let id = token.id();
        let denied = |why| Denied { token: id.clone(), why };
        token.check_not_revoked().map_err(|refusal| denied(refusal.into()))?;
        let request = self.read_request(csr).await.map_err(|error| denied(error.into()))?;
        let order = self.policy.approve(&token.grant, profile, request);
        // Who comes again is recognized by the transaction, too; few do, and for them it is signed in vain.
        if let Err(refusal) = token.check(now) {
            let Ok(order) = &order else { return Err(denied(refusal.into()).into()) };
            if let Some(why) = self.store.uncertifiable(order.public_key().spki_sha256()).await? {
                return Err(denied(why.into()).into());
            }
            let earlier = self.store.enrolled(&id, order, now).await?;
            let certificate = earlier.ok_or_else(|| denied(refusal.into()))?;
            return Ok(self.repeat(&id, certificate));
        }
        let order = order.map_err(|denial| denied(denial.into()))?;
        // Signed before the transaction: the write lock is held for the disk only.
        let issued = self.issuing.issue(&order, serial, now)?;
        let subject = order.subject().clone();
        match self.store.enroll(Candidate { by: Entitlement::Token(id.clone()), order, issued, now }).await? {
            Enrollment::Recorded(certificate) => {
                info!(%serial, %subject, %profile, token = %id, "certificate issued");
                Ok(self.chain(certificate))
            }
            Enrollment::Repeated(certificate) => Ok(self.repeat(&id, certificate)),
            Enrollment::Refused(refusal) => Err(denied(refusal.into()).into()),
        }
    }

    fn repeat(&self, token: &TokenId, certificate: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        info!(%token, "the same enrollment again, answered with the same certificate");
        self.chain(certificate)
    }
}
