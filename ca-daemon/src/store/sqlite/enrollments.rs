//! Enrollments and renewals: whatever waits is recorded together, in one transaction with one sync of the disk.
//!
//! Nobody is answered before the commit, and who is refused harms nobody else.

use std::{collections::HashMap, slice, sync::Arc, time::Duration};

use pki::{
    certificate::CertificateInfo, issuing::IssuedCertificate, name::CommonName, policy::Approved, serial::Serial,
    time::Timestamp, token::TokenId,
};
use rustls_pki_types::CertificateDer;
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Store, StoreError, TokenRecord, TokenRefusal, Uncertifiable, Writing, begin,
    beneath::Beneath,
    certificates, records, strays,
    successions::{self, Predecessor, PredecessorRefusal},
    tokens,
    uncertifiable::Obstacles,
};

/// How many are recorded together at most: what they take is a small part of a second.
const TOGETHER: usize = 256;
/// How many wait to be recorded, before others wait to wait.
const WAITING: usize = 1024;
/// Between two transactions while more is waiting. Another process, which may want to revoke, can only try again and again; without a
/// gap it would find the database locked each time.
const GAP: Duration = Duration::from_millis(1);

/// What somebody has to show for a certificate.
#[derive(Clone, Debug)]
pub(crate) enum Entitlement {
    /// A token's secret.
    Token(TokenId),
    /// The certificate that is renewed, which this authority has signed.
    Predecessor(Box<IssuedCertificate>),
}

/// The same, as far as it tells one from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Basis {
    Token(TokenId),
    Predecessor(Serial),
}

/// A certificate that was signed for somebody, and is worth nothing until it is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) by: Entitlement,
    pub(crate) order: Approved,
    pub(crate) issued: IssuedCertificate,
    pub(crate) now: Timestamp,
}

impl Candidate {
    fn key(&self) -> Key {
        let basis = match &self.by {
            Entitlement::Token(id) => Basis::Token(id.clone()),
            Entitlement::Predecessor(certificate) => Basis::Predecessor(certificate.info.id.serial),
        };
        (basis, self.issued.info.spki_sha256)
    }

    fn token(&self) -> Option<&TokenId> {
        match &self.by {
            Entitlement::Token(id) => Some(id),
            Entitlement::Predecessor(_) => None,
        }
    }

    fn predecessor(&self) -> Option<&IssuedCertificate> {
        match &self.by {
            Entitlement::Token(_) => None,
            Entitlement::Predecessor(certificate) => Some(certificate),
        }
    }
}

/// What became of an enrollment or a renewal.
#[derive(Clone, Debug)]
pub(crate) enum Enrollment {
    /// The certificate is on the disk, and a token's use is counted or the predecessor noted.
    Recorded(CertificateDer<'static>),
    /// The same key got this one before, on the same grounds and for the same names.
    Repeated(CertificateDer<'static>),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why an enrollment is refused that a token was good for when it began, or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// In the meantime the token became unusable.
    Token(TokenRefusal),
    /// The certificate gets no successor.
    Predecessor(PredecessorRefusal),
    /// No token helps.
    Uncertifiable(Uncertifiable),
}

/// Somebody who waits to be enrolled.
#[derive(Debug)]
struct Waiting {
    candidate: Candidate,
    answer: oneshot::Sender<Result<Enrollment, StoreError>>,
}

/// The connection that writes, and what lies beneath it.
type Writer<'a> = (&'a SqlitePool, &'a Arc<Beneath>);

/// Where enrollments wait for their common transaction; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Queue(mpsc::Sender<Waiting>);

impl Queue {
    /// A queue whose enrollments are written with this pool's connection, until the last clone is gone.
    pub(super) fn new(writer: SqlitePool, beneath: Arc<Beneath>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(work_off(waiting, writer, beneath));
        Self(queue)
    }

    /// How many wait for the next transaction.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }
}

async fn work_off(mut queue: mpsc::Receiver<Waiting>, writer: SqlitePool, beneath: Arc<Beneath>) {
    while let Some(first) = queue.recv().await {
        let begun = begin(&writer, &beneath).await;
        let mut batch = vec![first];
        // Whoever has come while somebody else was writing is in the same transaction.
        while batch.len() < TOGETHER
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        // Who has gone away keeps the token's use.
        batch.retain(|waiting| !waiting.answer.is_closed());
        settle((&writer, &beneath), begun, batch).await;
        if !queue.is_empty() {
            sleep(GAP).await;
        }
    }
}

impl Store {
    /// Counts a use of the token, or notes whose place is taken, and records the certificate, in one transaction; unless that is not
    /// allowed, or the same key has one already: two requests at once must not become two certificates.
    ///
    /// Whoever stops waiting for the answer may have been enrolled all the same, and is answered when asking again.
    pub(crate) async fn enroll(&self, candidate: Candidate) -> Result<Enrollment, StoreError> {
        let (answer, answered) = oneshot::channel();
        // Neither fails but when the runtime ends, and everything with it.
        let ended = || StoreError::Database(sqlx::Error::PoolClosed);
        let token = candidate.token().cloned();
        self.enrollments.0.send(Waiting { candidate, answer }).await.map_err(|_| ended())?;
        let enrollment = answered.await.map_err(|_| ended())?;
        if let (Some(token), Ok(Enrollment::Refused(Refusal::Token(_)))) = (token, &enrollment) {
            self.tokens.forget(&token);
        }
        enrollment
    }

    /// The newest valid certificate that was enrolled with this token for the same key and the same names.
    pub(crate) async fn enrolled(
        &self,
        token: &TokenId,
        order: &Approved,
        now: Timestamp,
    ) -> Result<Option<CertificateDer<'static>>, StoreError> {
        // Nor is what may be lost handed out again.
        self.check_beneath()?;
        let mut connection = self.reader.acquire().await?;
        let key = (Basis::Token(token.clone()), order.public_key().spki_sha256());
        let mut found = find_enrolled(&mut connection, [(order.subject(), key.1)], now).await?;
        find_met(found.remove(&key).unwrap_or_default(), order, now)
    }
}

/// Records what can be, and answers everybody. Where the table refuses one of them, which no check foresees, each is tried
/// alone: the others are not to suffer from it.
async fn settle(writer: Writer<'_>, begun: Result<Writing, StoreError>, batch: Vec<Waiting>) {
    let (candidates, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.candidate, waiting.answer)).unzip();
    let decided = match begun {
        Ok(tx) => record(tx, &candidates).await,
        Err(error) => Err(error),
    };
    let decisions = match decided {
        Ok(decisions) => decisions,
        Err(error) if error.is_constraint() && candidates.len() > 1 => one_by_one(writer, &candidates).await,
        Err(error) => {
            let error = Arc::new(error);
            candidates.iter().map(|_| Err(StoreError::Together(Arc::clone(&error)))).collect()
        }
    };
    for ((candidate, decision), answer) in candidates.into_iter().zip(decisions).zip(answers) {
        // Whoever does not wait any more will ask again.
        let _ = answer.send(decision.map(|decision| decision.of(candidate)));
    }
}

async fn one_by_one((writer, beneath): Writer<'_>, candidates: &[Candidate]) -> Vec<Result<Decision, StoreError>> {
    let mut decisions = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let decided = match begin(writer, beneath).await {
            Ok(tx) => record(tx, slice::from_ref(candidate)).await,
            Err(error) => Err(error),
        };
        decisions.push(decided.and_then(|mut decisions| decisions.remove(0)));
    }
    decisions
}

/// What became of each, in the same order. If it fails as a whole, nothing of it is left behind.
async fn record(mut tx: Writing, candidates: &[Candidate]) -> Result<Vec<Result<Decision, StoreError>>, StoreError> {
    let mut ledger = Ledger::read(&mut tx, candidates).await?;
    let decisions: Vec<_> = candidates.iter().map(|candidate| ledger.decide(candidate)).collect();
    let decided = candidates.iter().zip(&decisions);
    let recorded: Vec<_> = decided
        .filter(|(_, decision)| matches!(decision, Ok(Decision::Record)))
        .map(|(candidate, _)| candidate)
        .collect();
    if !recorded.is_empty() {
        tokens::count_uses(&mut tx, &ledger.uses).await?;
        let renewed = recorded.iter().filter_map(|candidate| Some((*candidate, candidate.predecessor()?)));
        for (Candidate { now, .. }, predecessor) in renewed.clone() {
            if !ledger.predecessors.contains_key(&predecessor.info.id.serial) {
                strays::adopt(&mut tx, predecessor, *now).await?;
            }
        }
        // A successor belongs to the token of the first of its line: whoever revokes what a token enrolled means it, too.
        let rows = recorded.iter().map(|candidate| (&candidate.issued, ledger.token_of(candidate), candidate.now));
        certificates::insert(&mut tx, &rows.collect::<Vec<_>>()).await?;
        for (Candidate { issued, .. }, predecessor) in renewed {
            successions::insert(&mut tx, issued.info.id.serial, predecessor).await?;
        }
        tx.commit().await?;
    }
    Ok(decisions)
}

/// What is to become of an enrollment.
#[derive(Debug)]
enum Decision {
    Record,
    Repeat(CertificateDer<'static>),
    Refuse(Refusal),
}

impl Decision {
    fn of(self, candidate: Candidate) -> Enrollment {
        match self {
            Self::Record => Enrollment::Recorded(candidate.issued.der),
            Self::Repeat(certificate) => Enrollment::Repeated(certificate),
            Self::Refuse(refusal) => Enrollment::Refused(refusal),
        }
    }
}

/// Of one enrollment: on what grounds, and the SHA-256 of the key.
type Key = (Basis, [u8; 32]);
/// What was enrolled, the newest first.
type Earlier = HashMap<Key, Vec<CertificateDer<'static>>>;

/// What the tables say at the beginning of the transaction, and what the enrollments in it have added.
struct Ledger {
    tokens: HashMap<TokenId, TokenRecord>,
    predecessors: HashMap<Serial, Predecessor>,
    obstacles: Obstacles,
    earlier: Earlier,
    /// How often each token was used in this transaction.
    uses: HashMap<TokenId, u32>,
}

impl Ledger {
    async fn read(connection: &mut SqliteConnection, candidates: &[Candidate]) -> Result<Self, StoreError> {
        let tokens = tokens::get_all(connection, candidates.iter().filter_map(Candidate::token)).await?;
        let renewed = candidates.iter().filter_map(|candidate| Some(candidate.predecessor()?.info.id.serial));
        let predecessors = successions::predecessors(connection, renewed.clone()).await?;
        let keys = candidates.iter().flat_map(|candidate| {
            let of_predecessor = candidate.predecessor().map(|predecessor| predecessor.info.spki_sha256);
            [Some(candidate.key().1), of_predecessor].into_iter().flatten()
        });
        let obstacles = Obstacles::read(connection, keys).await?;
        let first = candidates.iter().map(|candidate| candidate.now).min().unwrap_or(Timestamp::MIN);
        let enrolled = candidates.iter().filter(|candidate| candidate.token().is_some());
        let asked = enrolled.map(|candidate| (candidate.order.subject(), candidate.key().1));
        let mut earlier = find_enrolled(connection, asked, first).await?;
        for successor in successions::successors(connection, renewed, first).await? {
            let key = (Basis::Predecessor(successor.predecessor), successor.spki_sha256);
            earlier.entry(key).or_default().push(successor.der);
        }
        let tokens = tokens.into_iter().map(|token| (token.id(), token)).collect();
        Ok(Self { tokens, predecessors, obstacles, earlier, uses: HashMap::new() })
    }

    fn token_of<'a>(&'a self, candidate: &'a Candidate) -> Option<&'a TokenId> {
        let of_predecessor =
            |predecessor: &IssuedCertificate| self.predecessors.get(&predecessor.info.id.serial)?.token.as_ref();
        candidate.token().or_else(|| of_predecessor(candidate.predecessor()?))
    }

    /// Everything is looked at again that was before the certificate was signed.
    fn decide(&mut self, candidate: &Candidate) -> Result<Decision, StoreError> {
        if let Err(refusal) = self.check_standing(candidate)? {
            return Ok(Decision::Refuse(refusal));
        }
        let Candidate { order, issued, now, .. } = candidate;
        // Before what was enrolled earlier: a compromised key gets nothing, not even again what it has.
        let keys = [Some(&issued.info), candidate.predecessor().map(|predecessor| &predecessor.info)];
        for info in keys.into_iter().flatten() {
            if let Err(why) = self.obstacles.check(&info.spki_sha256) {
                return Ok(Decision::Refuse(Refusal::Uncertifiable(why)));
            }
        }
        let earlier = self.earlier.entry(candidate.key()).or_default();
        if let Some(met) = find_met(earlier.iter().cloned(), order, *now)? {
            return Ok(Decision::Repeat(met));
        }
        earlier.insert(0, issued.der.clone());
        if let Some(id) = candidate.token() {
            let token = self.tokens.get_mut(id).ok_or_else(disappeared)?;
            if let Err(refusal) = token.check(*now) {
                self.earlier.remove(&candidate.key());
                return Ok(Decision::Refuse(Refusal::Token(refusal)));
            }
            token.uses.used += 1;
            *self.uses.entry(id.clone()).or_default() += 1;
        }
        Ok(Decision::Record)
    }

    /// Whether what somebody has to show was not revoked.
    fn check_standing(&self, candidate: &Candidate) -> Result<Result<(), Refusal>, StoreError> {
        Ok(match &candidate.by {
            Entitlement::Token(id) => {
                self.tokens.get(id).ok_or_else(disappeared)?.check_not_revoked().map_err(Refusal::Token)
            }
            Entitlement::Predecessor(presented) => match self.predecessors.get(&presented.info.id.serial) {
                Some(known) => known.check(presented).map_err(Refusal::Predecessor),
                // A restored database may not know it; the handshake has verified that it is one of ours.
                None => Ok(()),
            },
        })
    }
}

fn disappeared() -> StoreError {
    StoreError::damaged("token_id", &"a token has disappeared")
}

/// The certificates with one of these names and the key beside it that are valid then.
async fn find_enrolled(
    connection: &mut SqliteConnection,
    asked: impl IntoIterator<Item = (&CommonName, [u8; 32])>,
    now: Timestamp,
) -> Result<Earlier, StoreError> {
    let (names, keys): (Vec<&str>, Vec<[u8; 32]>) = asked.into_iter().map(|(name, key)| (name.as_str(), key)).unzip();
    // CROSS JOIN, because the planner would else begin with what ends after now, which is most of the table.
    let rows = sqlx::query(
        "SELECT c.token_id, c.spki_sha256, c.der FROM json_each(?1) AS asked CROSS JOIN certificates AS c
             ON c.common_name = asked.value
             AND substr(c.spki_sha256, 1, 8) = substr(?2, asked.key * 32 + 1, 8)
         WHERE c.token_id IS NOT NULL AND c.not_after >= ?3
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
         ORDER BY c.id DESC",
    )
    .bind(records::to_json(&names))
    .bind(keys.concat())
    .bind(now.unix())
    .fetch_all(connection)
    .await?;
    let mut found = Earlier::new();
    for row in &rows {
        let key = (Basis::Token(records::parse(row, "token_id")?), records::octets(row, "spki_sha256")?);
        found.entry(key).or_default().push(row.try_get::<Vec<u8>, _>("der")?.into());
    }
    Ok(found)
}

/// The first one that carries what was approved, and is valid then.
fn find_met(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    order: &Approved,
    now: Timestamp,
) -> Result<Option<CertificateDer<'static>>, StoreError> {
    for der in certificates {
        let info = CertificateInfo::from_der(&der).map_err(|error| StoreError::damaged("der", &error))?;
        if info.validity.not_after >= now && order.is_met_by(&info) {
            return Ok(Some(der));
        }
    }
    Ok(None)
}
