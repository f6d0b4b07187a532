//! The live set: the revocations in force, as one immutable snapshot behind an atomic pointer. It is the only place
//! that decides whether a peer is revoked.
//!
//! It never fetches or stores anything, and it never reads the clock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use edge::clock::Lead;
use pki::{
    certificate::{Fingerprint, IssuerId, VerifiedId},
    crl::{CrlIssuer, CrlNumber, CrlVerifyError, VerifiedCrl, VerifiedDelta, VerifiedList},
    time::Timestamp,
    wire::Listing,
};
use prometheus_client::metrics::{counter::Counter, family::Family};

use super::{
    barriers::{Barrier, Barriers},
    connections::{Connections, Registration},
    end::{EndLabels, EndReason},
    list::{Base, IssuerList, TooMany},
    own::{self, OwnChain},
    serials::SerialSet,
    snapshot::{Lists, Snapshot, Source, Withheld},
    staleness::{OnStaleCrl, Stale},
    verdicts::{Freshness, InstallError, Installed, ListInForce, NotReady, Refusal},
};

/// How far the clock of a CRL's issuer may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The revocations of every trusted issuer. Clones share one set.
///
/// A check neither locks nor allocates, and takes the same time with one entry or a million.
#[derive(Clone, Debug)]
pub struct LiveSet {
    issuers: Arc<[CrlIssuer]>,
    source: Source,
    on_stale_crl: OnStaleCrl,
    snapshot: Arc<ArcSwap<Snapshot>>,
    // Held while a CRL is compared with its predecessor and replaces it. Readers never wait for it.
    writing: Arc<Mutex<()>>,
    /// Counts the swaps that may have revoked a certificate.
    revocations: Arc<AtomicU64>,
    connections: Connections,
    barriers: Barriers,
    own: OwnChain,
    losses: Losses,
    /// The lead of the clock, as noted last.
    lead: Arc<AtomicI64>,
}

/// Whether a CRL with a higher number may lack revocations that are enforced. A revocation is permanent. So entries
/// only disappear because the certificate has expired, or because the authority was restored from an older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// Only the numbers are compared, because there is no authority that could be queried.
    Allowed,
    /// Nothing may be missing.
    Refused,
    /// The authority vouches that its CRLs from a number on contain all enforced revocations, except those of expired
    /// certificates.
    Vouched {
        /// The number in force, which it was queried about.
        enforced: CrlNumber,
        /// The first number that it vouches for.
        from: CrlNumber,
    },
}

impl LiveSet {
    /// An empty set. Certificates of an issuer are refused until its CRL has arrived, and when that is stale.
    #[must_use]
    pub fn new(issuers: Vec<CrlIssuer>) -> Self {
        Self {
            issuers: issuers.into(),
            source: Source::default(),
            on_stale_crl: OnStaleCrl::Refuse,
            snapshot: Arc::default(),
            writing: Arc::default(),
            revocations: Arc::default(),
            connections: Connections::default(),
            barriers: Barriers::default(),
            own: OwnChain::default(),
            losses: Losses::Allowed,
            lead: Arc::default(),
        }
    }

    /// Sets what happens when a CRL is stale.
    #[must_use]
    pub fn on_stale_crl(self, on_stale_crl: OnStaleCrl) -> Self {
        Self { on_stale_crl, ..self }
    }

    /// The same set, but it accepts only CRLs of this issuer, even if others are trusted. A location that belongs to
    /// one authority must not supply CRLs of another.
    pub(crate) fn only(&self, issuer: &CrlIssuer) -> Self {
        Self { issuers: [issuer.clone()].into(), ..self.clone() }
    }

    /// The same set, for CRLs from this source.
    pub(crate) fn from(&self, source: Source) -> Self {
        Self { source, ..self.clone() }
    }

    /// The same set, with this rule for CRLs that lack enforced revocations.
    pub(crate) fn with_losses(&self, losses: Losses) -> Self {
        Self { losses, ..self.clone() }
    }

    /// The numbers of the CRLs that make up what is enforced for the first issuer. The last one is the number in force
    /// now, or before the restart.
    pub(crate) fn made_of(&self) -> Vec<CrlNumber> {
        let snapshot = self.snapshot.load();
        let slot = self.issuers().next().and_then(|issuer| snapshot.slot(issuer, self.source));
        let list = slot.and_then(|slot| slot.list.as_ref());
        let mut numbers = list.map(|list| list.made_of()).unwrap_or_default();
        numbers.extend(slot.and_then(|slot| slot.withheld.as_ref()).map(|withheld| withheld.settled));
        numbers
    }

    /// The number of the first issuer's CRL. `None` if it may not be relied on.
    pub(crate) fn number_in_force(&self) -> Option<CrlNumber> {
        let snapshot = self.snapshot.load();
        let slot = snapshot.slot(self.issuers().next()?, self.source)?;
        slot.list.as_ref().filter(|_| slot.withheld.is_none()).map(|list| list.number)
    }

    /// Refuses a CRL whose number was announced with another digest.
    pub(crate) fn check_announced(&self, der: &[u8], announced: &Listing) -> Result<(), InstallError> {
        let Some(sha256) = &announced.sha256 else { return Ok(()) };
        if Fingerprint::of(der).to_string() == *sha256 {
            return Ok(());
        }
        match self.identify(der) {
            Ok((issuer, number)) if number == announced.number => Err(InstallError::NotAnnounced { issuer, number }),
            // A CRL with another number was not announced. An invalid CRL is refused later, with a better reason.
            _ => Ok(()),
        }
    }

    /// Admits nobody for this reason until it is lifted. Returns whether the reason is new.
    pub(crate) fn bar(&self, barrier: Barrier) -> bool {
        self.barriers.raise(barrier)
    }

    /// As [`Self::bar`], and ends every open connection.
    pub(crate) fn shut(&self, barrier: Barrier, reason: EndReason) -> bool {
        let is_new = self.bar(barrier);
        // After the barrier is raised: a connection that is not registered yet will meet it.
        self.connections.end_if(reason, |_| true);
        is_new
    }

    /// Ends the reasons that satisfy `is_over`. Returns whether there was one.
    pub(crate) fn unbar(&self, is_over: impl Fn(&Barrier) -> bool) -> bool {
        self.barriers.lift(is_over)
    }

    /// Notes the lead of the clock. A CRL must not be valid longer because the clock was set back.
    pub(crate) fn note_lead(&self, lead: Lead) {
        self.lead.store(lead.millis(), Ordering::Relaxed);
    }

    fn lead(&self) -> Lead {
        Lead::from_millis(self.lead.load(Ordering::Relaxed))
    }

    /// Whether a peer with these certificates may be admitted. Every certificate of its chain is checked, so a revoked
    /// issuing CA revokes everything below it.
    pub fn check(&self, chain: &[VerifiedId], now: Timestamp) -> Result<(), Refusal> {
        let snapshot = self.snapshot.load();
        let (barrier, lead) = (self.barriers.first(), self.lead());
        for certificate in chain {
            let issuer = &certificate.issuer;
            let lists = snapshot.of(issuer).ok_or_else(|| Refusal::NoCrl(issuer.clone()))?;
            // Revoked before stale: a revocation is permanent, however old the CRL is.
            if lists.revoke(certificate) {
                return Err(Refusal::Revoked(certificate.clone()));
            }
            if let Some(Withheld { why, .. }) = lists.withheld() {
                return Err(Refusal::Withheld { issuer: issuer.clone(), why: Arc::clone(why) });
            }
            let good_until = lists.good_until(lead).ok_or_else(|| Refusal::NoCrl(issuer.clone()))?;
            if let Some(behind) = clock_behind(issuer, lists, now) {
                return Err(Refusal::Barred(behind));
            }
            if self.on_stale_crl.stale(good_until, now) == Some(Stale::Refused) {
                return Err(Refusal::StaleCrl { issuer: issuer.clone(), since: good_until });
            }
        }
        // Last, so that a revoked peer receives that reason.
        barrier.map_or(Ok(()), |barrier| Err(Refusal::Barred(barrier)))
    }

    /// Registers a connection. It ends when a certificate of its peer's chain is revoked, and after the last second in
    /// which that chain is valid. This must happen *before* [`Self::check`]: a revocation that the check misses then
    /// finds the connection.
    pub(crate) fn watch(&self, chain: Arc<[VerifiedId]>, not_after: Timestamp) -> Registration {
        self.connections.register(chain, not_after)
    }

    /// Resolves when nothing can be sent any more over the connections that have to end by now, for any reason.
    pub(crate) fn ended_are_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        self.connections.gone()
    }

    /// Ends the connections that may not be served any more because time has passed. Returns how many.
    pub(crate) fn end_overdue(&self, reason: EndReason, now: Timestamp) -> usize {
        if reason == EndReason::Expired {
            return self.connections.end_expired(now);
        }
        let snapshot = self.snapshot.load();
        let lead = self.lead();
        let is_refused = |good_until| self.on_stale_crl.stale(good_until, now) == Some(Stale::Refused);
        if !snapshot.good_until(lead).any(is_refused) {
            return 0;
        }
        self.connections.end_if(reason, |certificate| {
            snapshot.of(&certificate.issuer).and_then(|lists| lists.good_until(lead)).is_none_or(is_refused)
        })
    }

    /// The next time after which [`Self::end_overdue`] may have something to end.
    pub(crate) fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let snapshot = self.snapshot.load();
        let stale = snapshot.good_until(self.lead()).map(|good_until| self.on_stale_crl.admits_until(good_until));
        stale.chain([self.connections.earliest_expiry()]).filter(|deadline| *deadline >= now).min()
    }

    /// Registers the relying party's own chain, in place of the previous one. While one of its certificates is revoked,
    /// nobody is admitted.
    pub(crate) fn watch_own(&self, chain: Vec<VerifiedId>) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.own.replace(chain);
        if !self.judge_own() && self.unbar(|barrier| matches!(barrier, Barrier::OwnCertificate(_))) {
            own::log_good_again();
        }
    }

    /// Whether a certificate of the relying party's own chain is revoked. If so, nobody is served from now on.
    fn judge_own(&self) -> bool {
        let snapshot = self.snapshot.load();
        let is_revoked =
            |certificate: &VerifiedId| snapshot.of(&certificate.issuer).is_some_and(|lists| lists.revoke(certificate));
        let Some(revoked) = self.own.find(is_revoked) else { return false };
        if self.shut(Barrier::OwnCertificate(revoked.id.clone()), EndReason::OwnCertificate) {
            revoked.log();
        }
        true
    }

    /// Changes whenever a certificate may have been revoked.
    pub(crate) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    /// How many connections each certificate has at present, and how many there are altogether.
    pub(crate) fn tally(&self) -> (HashMap<VerifiedId, u64>, u64) {
        self.connections.tally()
    }

    /// Counts the connections that had to end, by reason.
    pub(crate) fn connections_ended(&self) -> Family<EndLabels, Counter> {
        self.connections.ended()
    }

    /// How many connections are registered at present.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Puts a complete CRL in force that just arrived. It must be signed by a trusted issuer and current, and its
    /// number must not be lower than the one in force. Open connections of peers that it revokes end, and no others.
    ///
    /// It verifies a signature over the whole CRL, so it must not run on an async thread.
    pub fn install(&self, crl: &[u8], now: Timestamp) -> Result<Installed, InstallError> {
        let verified = self.verify(|issuer| VerifiedCrl::verify(crl, issuer))?;
        check_current(&verified, now)?;
        self.replace(&verified)
    }

    /// Puts a complete CRL in force that was in force when this relying party last ran. A stale one is accepted, and
    /// [`OnStaleCrl`] applies to it as before the restart. A lower number is refused afterwards.
    pub fn restore(&self, crl: &[u8]) -> Result<Installed, InstallError> {
        self.replace(&self.verify(|issuer| VerifiedCrl::verify(crl, issuer))?)
    }

    /// Adds a delta CRL to the complete CRL in force, with the same conditions as [`Self::install`]. The base is not
    /// read again, so the cost is that of the delta.
    pub fn install_delta(&self, delta: &[u8], now: Timestamp) -> Result<Installed, InstallError> {
        let delta = self.verify(|issuer| VerifiedDelta::verify(delta, issuer))?;
        check_current(&delta, now)?;
        self.extend(&delta, None)
    }

    /// Puts a complete CRL and a delta to it in force together, with the delta's number. The complete CRL alone may be
    /// older than what is in force.
    pub fn install_with_delta(&self, crl: &[u8], delta: &[u8], now: Timestamp) -> Result<Installed, InstallError> {
        let complete = self.verify(|issuer| VerifiedCrl::verify(crl, issuer))?;
        let delta = self.verify(|issuer| VerifiedDelta::verify(delta, issuer))?;
        check_current(&delta, now)?;
        if complete.issuer() != delta.issuer() || complete.number() < delta.base() {
            return Err(InstallError::MissingBase { issuer: delta.issuer().clone(), base: delta.base() });
        }
        if complete.number() > delta.number() {
            // It was published after the delta, and contains it.
            check_current(&complete, now)?;
            return self.replace(&complete);
        }
        let base = Base::of(&complete);
        self.extend(&delta, Some(&base))
    }

    /// As [`Self::restore`], for a delta.
    pub fn restore_delta(&self, delta: &[u8]) -> Result<Installed, InstallError> {
        self.extend(&self.verify(|issuer| VerifiedDelta::verify(delta, issuer))?, None)
    }

    /// How current the CRL of each trusted issuer is.
    #[must_use]
    pub fn freshness(&self) -> Vec<Freshness> {
        let snapshot = self.snapshot.load();
        let lead = self.lead();
        let of = |issuer: &CrlIssuer| {
            let lists = snapshot.of(issuer.id()).filter(|lists| lists.withheld().is_none());
            let list = lists.and_then(Lists::stale_first);
            let revoked = snapshot.revoked(issuer.id());
            let list = list.zip(lists.and_then(|lists| lists.good_until(lead))).map(|(list, good_until)| ListInForce {
                number: list.number,
                this_update: list.this_update,
                next_update: list.next_update,
                revoked,
                good_until,
                admits_until: self.on_stale_crl.admits_until(list.next_update),
            });
            Freshness { issuer: issuer.id().clone(), list }
        };
        self.issuers.iter().map(of).collect()
    }

    pub(crate) fn policy(&self) -> OnStaleCrl {
        self.on_stale_crl
    }

    /// Whether clients should be sent here: every trusted issuer's CRL is present and not stale. A stale CRL turns
    /// readiness off even while some grace is left.
    pub fn ready(&self, now: Timestamp) -> Result<(), NotReady> {
        let snapshot = self.snapshot.load();
        let behind = self.issuers().find_map(|issuer| clock_behind(issuer, snapshot.of(issuer)?, now));
        if let Some(behind) = behind {
            return Err(NotReady::Barred(behind));
        }
        match (self.barriers.first(), self.stale(now)) {
            // A service that was off the feed for too long is not expected any more. The stale CRL is the better
            // reason, because it has the time and the next step.
            (None | Some(Barrier::Unregistered), Some(stale)) => return Err(stale),
            (Some(barrier), _) => return Err(NotReady::Barred(barrier)),
            (None, None) => {}
        }
        match self.freshness().into_iter().find(|freshness| freshness.list.is_none()) {
            Some(Freshness { issuer, .. }) => Err(self.missing(issuer)),
            None => Ok(()),
        }
    }

    /// The first CRL that is stale.
    fn stale(&self, now: Timestamp) -> Option<NotReady> {
        self.freshness().into_iter().find_map(|Freshness { issuer, list }| {
            let since = list?.good_until;
            let clients = self.on_stale_crl.stale(since, now)?;
            Some(NotReady::StaleCrl { issuer, since, clients })
        })
    }

    /// Why no CRL of this issuer is in force.
    fn missing(&self, issuer: IssuerId) -> NotReady {
        let snapshot = self.snapshot.load();
        match snapshot.of(&issuer).and_then(Lists::withheld) {
            Some(Withheld { why, .. }) => NotReady::Withheld { why: Arc::clone(why), issuer },
            None => NotReady::NoCrl(issuer),
        }
    }

    /// Relies on no CRL of this issuer from this source until one with this number or a higher one has arrived. A CRL
    /// with this number was in force before the restart. Returns whether that changed anything; it does not if such a
    /// CRL is in force.
    pub(super) fn withhold(&self, issuer: &IssuerId, settled: CrlNumber, why: &str) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let in_force = snapshot.slot(issuer, self.source).and_then(|slot| slot.list.as_ref());
        if in_force.is_some_and(|list| list.number >= settled) {
            return false;
        }
        snapshot.change(issuer, self.source, |slot| slot.withheld = Some(Withheld { settled, why: why.into() }));
        self.snapshot.store(Arc::new(snapshot));
        true
    }

    /// The issuer and number of a complete CRL or a delta.
    pub(crate) fn identify(&self, list: &[u8]) -> Result<(IssuerId, CrlNumber), CrlVerifyError> {
        let identity = |list: &VerifiedList<'_>| (list.issuer().clone(), list.number());
        self.verify(|issuer| match VerifiedCrl::verify(list, issuer) {
            // It may be a delta.
            Err(CrlVerifyError::CriticalExtension) => VerifiedDelta::verify(list, issuer).map(|delta| identity(&delta)),
            complete => complete.map(|list| identity(&list)),
        })
    }

    /// The issuers whose CRLs are accepted.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &IssuerId> {
        self.issuers.iter().map(CrlIssuer::id)
    }

    fn verify<T>(&self, verify: impl Fn(&CrlIssuer) -> Result<T, CrlVerifyError>) -> Result<T, CrlVerifyError> {
        CrlIssuer::find(self.issuers.iter(), verify)
    }

    fn replace(&self, crl: &VerifiedCrl<'_>) -> Result<Installed, InstallError> {
        // The set is built before the lock is taken.
        let base = Base::of(crl);
        self.swap(crl.issuer(), crl.number(), |in_force| {
            let (is_other, is_here) = match in_force {
                Some(list) if list.base.number == crl.number() => {
                    let differs = list.base.signature != base.signature;
                    // An issuer without CRL numbers may publish two CRLs in one second. Revocations are permanent, so
                    // the later one has more.
                    let is_later = differs && !crl.is_numbered() && list.base.revoked.is_within(&[&base.revoked]);
                    (differs && !is_later, !differs && list.number == crl.number())
                }
                // A delta with the same number is in force already. The next delta may still need this base.
                Some(list) if list.number == crl.number() => (!list.since_base.is_within(&[&base.revoked]), false),
                _ => (false, false),
            };
            if is_other {
                return Err(InstallError::OtherList { issuer: crl.issuer().clone(), number: crl.number() });
            }
            Ok((!is_here).then(|| IssuerList::new(crl, base, None, SerialSet::default(), self.lead())))
        })
    }

    /// Makes a list from a delta and a base: the given one, or the one in force.
    fn extend(&self, delta: &VerifiedDelta<'_>, given: Option<&Arc<Base>>) -> Result<Installed, InstallError> {
        let since_base: SerialSet = delta.serials().collect();
        self.swap(delta.issuer(), delta.number(), |in_force| {
            if let Some(list) = in_force.filter(|list| list.number == delta.number()) {
                // The same number is the same CRL, complete or delta. Entries that only one of them adds must be in the
                // other.
                let is_same = since_base.is_within(&list.sets().collect::<Vec<_>>()) && {
                    let others: Vec<_> = list.before_delta().chain([&since_base]).collect();
                    list.since_base.is_within(&others)
                };
                if !is_same {
                    return Err(InstallError::OtherList { issuer: delta.issuer().clone(), number: delta.number() });
                }
                if given.is_none_or(|_| list.base.number >= delta.base()) {
                    return Ok(None);
                }
            }
            let missing = || InstallError::MissingBase { issuer: delta.issuer().clone(), base: delta.base() };
            // A delta is cumulative, so it fits its base and every later complete CRL (RFC 5280 section 5.2.4).
            let base = given.or(in_force.map(|list| &list.base)).filter(|base| base.number >= delta.base());
            let (base, earlier) = match (base, in_force) {
                (Some(base), Some(list)) if Arc::ptr_eq(base, &list.base) => (base, list.earlier.clone()),
                (Some(base), _) => (base, None),
                // It also fits a list that was made from an older base and later deltas.
                (None, Some(list)) if list.number >= delta.base() && given.is_none() => {
                    (&list.base, list.with_delta_before(&since_base).map_err(|TooMany| missing())?)
                }
                (None, _) => return Err(missing()),
            };
            Ok(Some(IssuerList::new(delta, Arc::clone(base), earlier, since_base, self.lead())))
        })
        .map(|installed| match installed {
            Installed::Replaced { number, revoked, ended, .. } if !self.has_base_of(delta) => {
                Installed::WithoutItsBase { number, revoked, ended }
            }
            installed => installed,
        })
    }

    /// Whether this delta fits the complete CRL in force.
    fn has_base_of(&self, delta: &VerifiedDelta<'_>) -> bool {
        let snapshot = self.snapshot.load();
        let list = snapshot.slot(delta.issuer(), self.source).and_then(|slot| slot.list.as_ref());
        list.is_some_and(|list| list.base.number >= delta.base())
    }

    /// Whether this list may replace what is enforced under the other number.
    fn may_follow(&self, list: &IssuerList, in_force: Option<&IssuerList>, enforced: CrlNumber) -> bool {
        match self.losses {
            Losses::Allowed => true,
            Losses::Vouched { enforced: known, from } if known == enforced && list.number >= from => true,
            Losses::Refused | Losses::Vouched { .. } => {
                // If a list that was in force before the restart is lost, only its number can be queried.
                let is_lost = in_force.is_none_or(|in_force| in_force.number < enforced);
                (!is_lost || list.number <= enforced) && in_force.is_none_or(|in_force| in_force.is_within(list))
            }
        }
    }

    /// Replaces an issuer's list by what `next` makes of it, unless its number is lower. Ends the connections of
    /// certificates that are revoked now.
    fn swap(
        &self,
        issuer: &IssuerId,
        number: CrlNumber,
        next: impl FnOnce(Option<&IssuerList>) -> Result<Option<IssuerList>, InstallError>,
    ) -> Result<Installed, InstallError> {
        // No code panics while it holds the lock, so a poisoned lock still protects a consistent snapshot.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let before = snapshot.slot(issuer, self.source).and_then(|slot| slot.list.clone());
        let in_force = before.as_deref();
        if let Some(in_force) = in_force.map(|list| list.number).filter(|in_force| number < *in_force) {
            return Err(InstallError::LowerNumber { issuer: issuer.clone(), offered: number, in_force });
        }
        let Some(list) = next(in_force)?.map(Arc::new) else { return Ok(Installed::Unchanged) };
        let withheld = snapshot.slot(issuer, self.source).and_then(|slot| slot.withheld.as_ref());
        let enforced = withheld.map(|withheld| withheld.settled).or(in_force.map(|list| list.number));
        if let Some(enforced) = enforced.filter(|enforced| !self.may_follow(&list, in_force, *enforced)) {
            return Err(InstallError::Lacks { issuer: issuer.clone(), offered: number, in_force: enforced });
        }
        // The first CRL of a source may revoke a certificate that the CRLs of other sources do not.
        let revokes_more = in_force.is_none_or(|in_force| list.may_revoke_more(in_force));
        let mut withheld = None;
        snapshot.change(issuer, self.source, |slot| {
            slot.list = Some(Arc::clone(&list));
            slot.withheld.take_if(|withheld| withheld.settled <= number);
            withheld = slot.withheld.as_ref().map(|withheld| withheld.settled);
        });
        // Dropped at the end of this function, when everything is in force: freeing a million numbers takes time.
        let _before = self.snapshot.swap(Arc::new(snapshot));
        if revokes_more {
            self.revocations.fetch_add(1, Ordering::Release);
        }
        // After the swap: a connection that is not registered yet will check the new snapshot.
        let is_revoked = |certificate: &VerifiedId| certificate.issuer == *issuer && list.revokes(certificate);
        let ended = self.connections.end_if(EndReason::Revoked, is_revoked);
        self.judge_own();
        let delta_url = list.base.delta_url.clone();
        Ok(match withheld {
            Some(settled) => Installed::Withheld { number, settled, delta_url },
            None => Installed::Replaced { issuer: issuer.clone(), number, revoked: list.revoked, ended, delta_url },
        })
    }
}

/// The reason to refuse everybody if the clock is behind the thisUpdate of these CRLs. The clock was set back since
/// they arrived, or while this relying party did not run. Certificates that had expired by then are not in the CRLs,
/// and would count as valid.
fn clock_behind(issuer: &IssuerId, lists: Lists<'_>, now: Timestamp) -> Option<Barrier> {
    let this_update = lists.this_update().filter(|this_update| *this_update > now.plus(CLOCK_SKEW))?;
    Some(Barrier::ClockBehind { issuer: issuer.clone(), this_update })
}

fn check_current(list: &VerifiedList<'_>, now: Timestamp) -> Result<(), InstallError> {
    let (number, this_update, next_update) = (list.number(), list.this_update(), list.next_update());
    if this_update > now.plus(CLOCK_SKEW) {
        return Err(InstallError::NotYetValid { number, this_update });
    }
    if next_update < now {
        return Err(InstallError::Stale { number, next_update });
    }
    Ok(())
}
