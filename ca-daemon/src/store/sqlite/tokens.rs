//! Enrollment tokens: their hashes, what they grant, and how often they were used.
//!
//! It never sees a token's secret.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pki::{serial::Serial, time::Timestamp, token::TokenId};
use sqlx::SqliteConnection;

use super::{Store, StoreError, TokenRecord, records};

/// The result of an order to revoke a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRevocation {
    New,
    AlreadyRevoked { at: Timestamp },
}

/// The most tokens that are cached in memory.
const HELD: usize = 1_000;

/// Tokens as they were when they were read. A token never becomes usable again after it was revoked, used up or
/// expired. So a cached token may be unusable by now, which the transaction that counts the use checks again; but one
/// that is unusable here is never usable.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<HashMap<TokenId, TokenRecord>>>);

impl Held {
    fn get(&self, id: &TokenId) -> Option<TokenRecord> {
        self.lock().get(id).cloned()
    }

    fn put(&self, token: TokenRecord) {
        let mut held = self.lock();
        if held.len() >= HELD {
            held.clear();
        }
        held.insert(token.id(), token);
    }

    /// The next attempt with this token reads it again, and is refused before anything is signed.
    pub(super) fn forget(&self, id: &TokenId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, TokenRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The token with this id, possibly from the cache. It may have been used or revoked since: [`Self::enroll`] checks
    /// that.
    pub(crate) async fn token_to_enroll(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        if let Some(held) = self.tokens.get(id) {
            return Ok(Some(held));
        }
        let token = self.token(id).await?;
        if let Some(token) = &token {
            self.tokens.put(token.clone());
        }
        Ok(token)
    }

    /// Records a new token.
    pub(crate) async fn create_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        put(&mut tx, token).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The token with this id.
    pub(crate) async fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        get(&mut *self.reader.acquire().await?, id).await
    }

    /// Every token, oldest first.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY created_at, rowid").fetch_all(&self.reader).await?;
        rows.iter().map(records::token).collect()
    }

    /// Revokes a token permanently; none if it does not exist.
    pub(crate) async fn revoke_token(
        &self,
        id: &TokenId,
        now: Timestamp,
    ) -> Result<Option<TokenRevocation>, StoreError> {
        let mut tx = self.begin().await?;
        let Some(token) = get(&mut tx, id).await? else { return Ok(None) };
        if let Some(at) = token.revoked_at {
            return Ok(Some(TokenRevocation::AlreadyRevoked { at }));
        }
        sqlx::query("UPDATE tokens SET revoked_at = ? WHERE id = ?")
            .bind(now.unix())
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Some(TokenRevocation::New))
    }
}

/// Revokes the named tokens, and those that enrolled these certificates and could enroll more. Returns the ids of all
/// that it revoked.
pub(super) async fn revoke_usable(
    connection: &mut SqliteConnection,
    enrolled: &[Serial],
    named: &[TokenId],
    now: Timestamp,
) -> Result<Vec<TokenId>, StoreError> {
    let query = sqlx::query(
        "UPDATE tokens SET revoked_at = ?1
         WHERE revoked_at IS NULL
           AND (id IN (SELECT value FROM json_each(?2))
                OR used < uses AND expires_at >= ?1
                   AND id IN (SELECT c.token_id FROM json_each(?3) AS asked CROSS JOIN certificates AS c
                              ON c.serial = unhex(asked.value) WHERE c.token_id IS NOT NULL))
         RETURNING id",
    );
    let query = query.bind(now.unix()).bind(records::to_json(&named)).bind(records::serials_to_json(enrolled));
    query.fetch_all(connection).await?.iter().map(|row| records::parse(row, "id")).collect()
}

pub(super) async fn get(connection: &mut SqliteConnection, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM tokens WHERE id = ?").bind(id.as_str()).fetch_optional(connection).await?;
    row.as_ref().map(records::token).transpose()
}

/// The tokens with these ids, as far as they exist.
pub(super) async fn get_all(
    connection: &mut SqliteConnection,
    ids: impl IntoIterator<Item = &TokenId>,
) -> Result<Vec<TokenRecord>, StoreError> {
    let ids = records::to_json(&ids.into_iter().collect::<Vec<_>>());
    let query = sqlx::query("SELECT * FROM tokens WHERE id IN (SELECT value FROM json_each(?))").bind(ids);
    query.fetch_all(connection).await?.iter().map(records::token).collect()
}

/// A constraint of the table refuses more uses than allowed.
pub(super) async fn count_uses(
    connection: &mut SqliteConnection,
    uses: &HashMap<TokenId, u32>,
) -> Result<(), StoreError> {
    let query = "UPDATE tokens SET used = used + spent.value FROM json_each(?) AS spent WHERE tokens.id = spent.key";
    sqlx::query(query).bind(records::to_json(uses)).execute(connection).await?;
    Ok(())
}

pub(super) async fn put(connection: &mut SqliteConnection, token: &TokenRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens (id, secret_sha256, granted, created_at, expires_at, uses, used, revoked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id().as_str())
    .bind(token.hash.as_bytes().as_slice())
    .bind(records::to_json(&token.grant))
    .bind(token.created_at.unix())
    .bind(token.expires_at.unix())
    .bind(i64::from(token.uses.allowed))
    .bind(i64::from(token.uses.used))
    .bind(token.revoked_at.map(Timestamp::unix))
    .execute(connection)
    .await?;
    Ok(())
}
