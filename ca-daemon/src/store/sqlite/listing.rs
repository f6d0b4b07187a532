//! Lists of certificates, possibly millions: selective queries use an index, and results are read a page at a time.
//!
//! It never keeps a snapshot of the database between two pages: changes in between may or may not be seen.

use pki::{name::NamePattern, time::Timestamp, token::TokenId};
use serde::Serialize;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{CertificateRecord, IssuerRevocation, Store, StoreError, certificates::select_certificates, records};

/// How many certificates are read at a time.
const PAGE: usize = 1_000;
/// The most ids that are kept from an index lookup. If there are more, the table is scanned instead: that takes less
/// memory, and the first page comes sooner.
const FEW: usize = if cfg!(test) { 3_000 } else { 100_000 };

/// Which certificates to list. All conditions that are given have to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<NamePattern>,
    pub(crate) status: Option<Wanted>,
    /// Enrolled with this token.
    pub(crate) token: Option<TokenId>,
    pub(crate) issued_after: Option<Timestamp>,
    pub(crate) issued_before: Option<Timestamp>,
    /// Valid now, and expired after this.
    pub(crate) expiring_by: Option<Timestamp>,
}

/// A status to filter by; see [`Status`](super::Status).
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

/// What is still to be read.
#[derive(Debug)]
enum Rest {
    /// The certificates with these ids.
    Found(std::vec::IntoIter<i64>),
    /// All that pass the filter with an id above this one.
    After(i64),
}

impl Store {
    /// The certificates that pass the filter, oldest first, a page at a time.
    pub(crate) async fn pages(&self, filter: Filter, now: Timestamp) -> Result<Pages<'_>, StoreError> {
        let issuer = self.issuer_revocation().await?;
        // If the issuing CA is revoked, certificates that would be valid have the status `IssuerRevoked`.
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

    /// All of them in one vector.
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

    /// How many certificates are neither revoked nor expired, even if the issuing CA is revoked. Scans the table.
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

    /// The ids of those that pass, in order; none if there are more than [`FEW`].
    async fn find(&self, filter: &Filter, now: Timestamp) -> Result<Option<Vec<i64>>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(if filter.is_of_revocations() {
            // CROSS JOIN fixes the order: otherwise the planner begins with the certificates, which are more.
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
    /// The next page. An empty page is the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<CertificateRecord>, StoreError> {
        let rows = match &mut self.rest {
            Rest::Found(ids) => {
                let ids: Vec<_> = ids.take(PAGE).collect();
                let sql = select_certificates!("", "WHERE c.id IN (SELECT value FROM json_each(?)) ORDER BY c.id");
                sqlx::query(sql).bind(records::to_json(&ids)).fetch_all(&self.store.reader).await?
            }
            Rest::After(id) => {
                // NOT INDEXED: rows from an index would have to be sorted again for each page.
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
    /// Whether an index finds few more rows than pass the filter.
    fn has_index(&self) -> bool {
        let prefix = self.name.as_ref().map(|pattern| split(&pattern.to_string()).0.len());
        prefix.is_some_and(|length| length > 0)
            || self.token.is_some()
            || self.expiring_by.is_some()
            || matches!(self.status, Some(Wanted::Revoked | Wanted::Expired))
    }

    /// Whether only the table of revocations narrows the search.
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
                    // In a NamePattern, `*` is the only character that is special in GLOB.
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
            // The plus prevents the use of the index on `not_after`: most of the table would match.
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

/// The part of a pattern before its first star, and the part after it, if it has a star.
fn split(pattern: &str) -> (&str, Option<&str>) {
    pattern.split_once('*').map_or((pattern, None), |(prefix, rest)| (prefix, Some(rest)))
}
