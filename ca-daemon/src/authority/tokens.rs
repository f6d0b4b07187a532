//! Enrollment tokens: created, recorded, revoked.
//!
//! It never stores a secret, only its hash.

use std::{num::NonZeroU32, time::Duration};

use pki::{
    policy::Grant,
    time::Timestamp,
    token::{Secret, Token, TokenId},
};
use tracing::info;

use super::Authority;
use crate::{
    settings::Settings,
    store::{StoreError, TokenRecord, TokenRevocation, Uses},
};

/// What a new token allows.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) grant: Grant,
    pub(crate) lifetime: Duration,
    pub(crate) uses: NonZeroU32,
}

impl Authority {
    /// Makes a token, and its record for [`Self::create_token`].
    pub(crate) fn new_token(&self, order: TokenOrder, secret: Secret, now: Timestamp) -> (Token, TokenRecord) {
        new_token(&self.settings, order, secret, now)
    }

    /// Records a token, so that it can enroll from now on.
    pub(crate) async fn create_token(&self, record: &TokenRecord) -> Result<(), StoreError> {
        self.store.create_token(record).await?;
        info!(token = %record.id(), profile = %record.grant.profile, expires_at = %record.expires_at, "token created");
        Ok(())
    }

    /// Revokes a token permanently. Certificates that were enrolled with it stay valid.
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

/// The token to hand out, and its record.
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
