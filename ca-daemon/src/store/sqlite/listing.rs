//! Lists of certificates, which may be millions: found by an index where few are asked for, and read a page at a time.
//!
//! It never holds the database at one moment in time while somebody reads a page; what changes meanwhile may be seen or not.

use pki::{name::NamePattern, time::Timestamp, token::TokenId};
use serde::Serialize;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{CertificateRecord, IssuerRevocation, Store, StoreError, certificates::select_certificates, records};

/// How many certificates are read at a time.
const PAGE: usize = 1_000;
/// What an index finds is remembered by its ids. Where it finds more than this, the table is read from its beginning instead: that
/// takes less memory, and the first page comes sooner.
const FEW: usize = if cfg!(test) { 3_000 } else { 100_000 };

/// Which certificates to list. Every part that is given has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<NamePattern>,
    pub(crate) status: Option<Wanted>,
    /// Enrolled with this token.
    pub(crate) token: Option<TokenId>,
    pub(crate) issued_after: Option<Timestamp>,
    pub(crate) issued_before: Option<Timestamp>,
    /// Valid now and not any more after this.
    pub(crate) expiring_by: Option<Timestamp>,
}

/// A status to ask for; see [`Status`](super::Status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Valid,
    Revoked,
    Expired,
    IssuerRevoked,
}

/// How many certificates are valid, by profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Live {
    pub(crate) client: u64,
    pub(crate) server: u64,
}

/// Certificates that pass a filter, oldest first.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    store: &'a Store,
    filter: Filter,
    issuer: Option<IssuerRevocation>,
    now: Timestamp,
    rest: Rest,
}

/// What was not read yet.
#[derive(Debug)]
enum Rest {
    /// The certificates with these ids.
    Found(std::vec::IntoIter<i64>),
    /// Whatever passes after this id.
    After(i64),
}

impl Store {
    /// The certificates that pass the filter, oldest first, a page at a time.
    pub(crate) async fn pages(&self, filter: Filter, now: Timestamp) -> Result<Pages<'_>, StoreError> {
        let issuer = self.issuer_revocation().await?;
        // One revocation of the issuer takes the place of all that would be valid.
        let is_nothing = match filter.status {
            Some(Wanted::Valid) => issuer.is_some(),
            Some(Wanted::IssuerRevoked) => issuer.is_none(),
            _ => filter.expiring_by.is_some() && issuer.is_some(),
        };
        let found = match () {
            () if is_nothing => Some(Vec::new()),
            () if filter.has_index() => self.find(&filter, now).await?,
            () => None,
        };
        let rest = found.map_or(Rest::After(0), |ids| Rest::Found(ids.into_iter()));
        Ok(Pages { store: self, filter, issuer, now, rest })
    }

    /// All of them at once.
    pub(crate) async fn list(&self, filter: &Filter, now: Timestamp) -> Result<Vec<CertificateRecord>, StoreError> {
        let mut pages = self.pages(filter.clone(), now).await?;
        let mut all = Vec::new();
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// How many certificates are neither revoked nor expired, whatever became of their issuer. Reads all of them.
    pub(crate) async fn live(&self, now: Timestamp) -> Result<Live, StoreError> {
        let query = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE profile = 'client'), count(*) FILTER (WHERE profile = 'server')
             FROM certificates c
             WHERE not_after >= ? AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)",
        );
        let (client, server): (i64, i64) = query.bind(now.unix()).fetch_one(&self.reader).await?;
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(Live { client: count(client), server: count(server) })
    }

    /// The ids of what passes, in order; none if they are too many.
    async fn find(&self, filter: &Filter, now: Timestamp) -> Result<Option<Vec<i64>>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(if filter.is_of_revocations() {
            // CROSS JOIN, because the planner would else begin with the certificates, which are more.
            "SELECT c.id FROM revocations r CROSS JOIN certificates c ON c.serial = r.serial WHERE TRUE"
        } else {
            "SELECT c.id FROM certificates c LEFT JOIN revocations r ON r.serial = c.serial WHERE TRUE"
        });
        filter.push_to(&mut query, now);
        query.push(" LIMIT ").push_bind(i64::try_from(FEW).unwrap_or(i64::MAX) + 1);
        let mut ids: Vec<i64> = query.build_query_scalar().fetch_all(&self.reader).await?;
        ids.sort_unstable();
        Ok((ids.len() <= FEW).then_some(ids))
    }
}

impl Pages<'_> {
    /// The next page; an empty one is the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<CertificateRecord>, StoreError> {
        let rows = match &mut self.rest {
            Rest::Found(ids) => {
                let ids: Vec<_> = ids.take(PAGE).collect();
                let sql = select_certificates!("", "WHERE c.id IN (SELECT value FROM json_each(?)) ORDER BY c.id");
                sqlx::query(sql).bind(records::to_json(&ids)).fetch_all(&self.store.reader).await?
            }
            Rest::After(id) => {
                // NOT INDEXED, because any other order would have to be sorted again for each page.
                let mut query = QueryBuilder::<Sqlite>::new(select_certificates!("NOT INDEXED", "WHERE c.id > "));
                query.push_bind(*id);
                self.filter.push_to(&mut query, self.now);
                query.push(" ORDER BY c.id LIMIT ").push_bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
                let rows = query.build().fetch_all(&self.store.reader).await?;
                if let Some(last) = rows.last() {
                    *id = last.try_get("id")?;
                }
                rows
            }
        };
        rows.iter().map(|row| records::certificate(row, self.issuer, self.now)).collect()
    }
}

impl Filter {
    /// Whether an index finds what passes, or little more than that.
    fn has_index(&self) -> bool {
        let prefix = self.name.as_ref().map(|pattern| split(&pattern.to_string()).0.len());
        prefix.is_some_and(|length| length > 0)
            || self.token.is_some()
            || self.expiring_by.is_some()
            || matches!(self.status, Some(Wanted::Revoked | Wanted::Expired))
    }

    /// Whether the revocations are the only way to find what passes.
    fn is_of_revocations(&self) -> bool {
        let others = Self { status: None, ..self.clone() };
        self.status == Some(Wanted::Revoked) && !others.has_index()
    }

    /// Adds the conditions to a query over certificates `c` and revocations `r`.
    fn push_to(&self, query: &mut QueryBuilder<Sqlite>, now: Timestamp) {
        if let Some(pattern) = &self.name {
            let pattern = pattern.to_string();
            match split(&pattern) {
                (name, None) => {
                    query.push(" AND c.common_name = ").push_bind(name.to_owned());
                }
                (prefix, Some(_)) => {
                    // A NamePattern has no other characters that mean something to GLOB than its stars.
                    query.push(" AND c.common_name GLOB ").push_bind(pattern.clone());
                    if !prefix.is_empty() {
                        query.push(" AND c.common_name BETWEEN ").push_bind(prefix.to_owned());
                        query.push(" AND ").push_bind(format!("{prefix}{}", char::MAX));
                    }
                }
            }
        }
        match self.status {
            None => {}
            // The plus keeps the planner from looking for these by their end: they are most of the table.
            Some(Wanted::Valid | Wanted::IssuerRevoked) => {
                query.push(" AND r.serial IS NULL AND +c.not_after >= ").push_bind(now.unix());
            }
            Some(Wanted::Revoked) => {
                query.push(" AND r.serial IS NOT NULL");
            }
            Some(Wanted::Expired) => {
                query.push(" AND r.serial IS NULL AND c.not_after < ").push_bind(now.unix());
            }
        }
        if let Some(by) = self.expiring_by {
            query.push(" AND r.serial IS NULL AND c.not_after BETWEEN ").push_bind(now.unix());
            query.push(" AND ").push_bind(by.unix());
        }
        if let Some(token) = &self.token {
            query.push(" AND c.token_id = ").push_bind(token.as_str().to_owned());
        }
        if let Some(after) = self.issued_after {
            query.push(" AND c.issued_at >= ").push_bind(after.unix());
        }
        if let Some(before) = self.issued_before {
            query.push(" AND c.issued_at <= ").push_bind(before.unix());
        }
    }
}

/// What a pattern begins with, and what comes after its first star, if it has any.
fn split(pattern: &str) -> (&str, Option<&str>) {
    pattern.split_once('*').map_or((pattern, None), |(prefix, rest)| (prefix, Some(rest)))
}
