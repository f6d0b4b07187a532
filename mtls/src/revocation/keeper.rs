//! Keeps one CRL of the live set current. It fetches the delta, or the complete CRL if a delta is not enough, and puts
//! it in force. It stores the last good ones on disk, so that a relying party can start while the authority is down.
//!
//! It never judges a CRL; [`LiveSet`] does.

use std::time::Duration;

use edge::{clock::Clock, files::FileError};
use pki::{
    certificate::IssuerId,
    crl::{CrlNumber, CrlVerifyError},
    time::Timestamp,
    wire::{Current, Listing},
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Barrier, InstallError, Installed, Link, LiveSet, Location, Origin,
    behind::Behind,
    bound,
    kept::{ListFiles, Lists, Restored},
    live::Losses,
    location::{FetchError, Fetched, Fetcher},
};

/// The delay before an announced CRL that could not be put in force is fetched again. It doubles with each failure.
const RETRY: Duration = Duration::from_millis(100);
/// The upper limit of that delay. The cause may last, such as a clock that is an hour behind.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// How long the first fetch waits for the feed, so that the authority itself can be queried.
const FEED_PATIENCE: Duration = Duration::from_secs(2);

/// What a keeper has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of the CRL that is in force *and* on disk, so that a restart does not lose it. `None` while the
    /// authority has another CRL with that number.
    pub(crate) settled: Option<CrlNumber>,
    /// How many open connections were ended since the start.
    pub(crate) ended: u64,
}

/// One CRL: where it is fetched from, where it is stored, and who is notified.
#[derive(Debug)]
pub(crate) struct Keeper {
    live: LiveSet,
    /// The link to the authority, if there is a feed.
    link: Option<Link>,
    complete: Fetcher,
    delta: Option<Fetcher>,
    files: ListFiles,
    interval: Duration,
    clock: Clock,
    announced: watch::Receiver<Option<Current>>,
    progress: watch::Sender<Progress>,
    recovered: watch::Sender<u64>,
    fetches_failed: Counter,
    in_force: watch::Sender<Option<CrlNumber>>,
    reach: Reach,
    /// Whether a delta is in force, so that the complete CRL alone contains less.
    is_extended: bool,
    refused: Option<InstallError>,
    /// The number of the CRL on disk.
    kept: Option<CrlNumber>,
    unkept: Option<Unkept>,
    /// Whether the last attempt to write failed.
    disk_fails: bool,
    /// A delta that is in force without its own complete CRL, which is being fetched.
    without_base: Option<Vec<u8>>,
    /// Fetches that complete CRL.
    bases: JoinSet<(Fetcher, Result<Fetched, FetchError>)>,
    /// The number of an offered CRL that lacks enforced revocations.
    lacking: Option<CrlNumber>,
    /// The last query that the authority answered: in which opening of the feed, and which numbers.
    vouched: Option<(u64, Vec<CrlNumber>)>,
}

/// What is in force and not on disk yet. If the disk fails for longer, it combines several CRLs.
#[derive(Debug)]
struct Unkept {
    installed: Installed,
    files: Lists,
}

impl Lists {
    fn complete(der: Vec<u8>) -> Self {
        Self { complete: Some(der), delta: None }
    }

    fn delta(der: Vec<u8>) -> Self {
        Self { complete: None, delta: Some(der) }
    }

    /// Slow: it verifies signatures over long CRLs.
    fn put_in_force(
        &self,
        live: &LiveSet,
        announced: Option<&Current>,
        now: Timestamp,
    ) -> Result<Installed, InstallError> {
        let check = |der: &Vec<u8>, listing: Option<&Listing>| {
            listing.map_or(Ok(()), |listing| live.check_announced(der, listing))
        };
        if let Some(complete) = &self.complete {
            check(complete, announced.map(|announced| &announced.complete))?;
        }
        if let Some(delta) = &self.delta {
            check(delta, announced.and_then(|announced| announced.delta.as_ref()))?;
        }
        match (&self.complete, &self.delta) {
            (Some(complete), Some(delta)) => live.install_with_delta(complete, delta, now),
            (Some(complete), None) => live.install(complete, now),
            (None, Some(delta)) => live.install_delta(delta, now),
            (None, None) => Ok(Installed::Unchanged),
        }
    }
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Everything,
    WithoutDelta,
    Nothing,
}

/// A keeper's channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// The newest CRLs that the authority has announced.
    pub(crate) announced: watch::Receiver<Option<Current>>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Counts the outages that are over: the source can be reached again.
    pub(crate) recovered: watch::Sender<u64>,
    pub(crate) fetches_failed: Counter,
}

impl Keeper {
    /// A keeper with the CRL that was in force when this relying party last ran, if it is on disk and valid.
    pub(crate) fn restore(
        live: LiveSet,
        origin: Origin,
        files: ListFiles,
        interval: Duration,
        clock: Clock,
        channels: Channels,
    ) -> Self {
        let Channels { announced, progress, recovered, fetches_failed } = channels;
        let link = origin.link.clone();
        // The CRLs on disk were in force once, so restoring them loses nothing, whichever of them was written before a
        // crash.
        live.note_lead(clock.lead());
        let restored = files.restore(&live);
        // With a link, a CRL may lack enforced revocations only if the authority vouches for it.
        let live = if link.is_some() { live.with_losses(Losses::Refused) } else { live };
        let mut keeper = Self {
            live,
            link,
            complete: Fetcher::new(origin),
            delta: None,
            files,
            interval,
            clock,
            announced,
            progress,
            recovered,
            fetches_failed,
            in_force: watch::Sender::new(None),
            reach: Reach::Everything,
            is_extended: false,
            refused: None,
            kept: None,
            unkept: None,
            disk_fails: false,
            without_base: None,
            bases: JoinSet::new(),
            lacking: None,
            vouched: None,
        };
        if let Some(Restored { installed, is_extended }) = restored {
            keeper.note_list();
            keeper.is_extended = is_extended;
            keeper.learn_delta(&installed);
            // After a crash, the CRLs on disk may be newer than the settled number.
            match keeper.files.write(&Lists::default(), in_force(&installed)) {
                Ok(()) => keeper.note(&installed),
                Err(error) => keeper.fail_to_keep(Unkept { installed, files: Lists::default() }, &error),
            }
        }
        keeper
    }

    /// Keeps the CRL current. Fetches once an interval, and at once when a newer number is announced. Never returns.
    pub(crate) async fn run(self) {
        let behind = self.link.as_ref().and_then(|_| {
            let [issuer] = <[_; 1]>::try_from(self.live.freshness()).ok()?;
            let (announced, in_force) = (self.announced.clone(), self.in_force.subscribe());
            Some(Behind { live: self.live.clone(), issuer: issuer.issuer, announced, in_force })
        });
        match behind {
            Some(behind) => _ = tokio::join!(behind.watch(), self.keep_current()),
            None => self.keep_current().await,
        }
    }

    async fn keep_current(mut self) {
        if let Some(link) = &self.link {
            let _ = timeout(FEED_PATIENCE, link.opened()).await;
        }
        let mut retry = RETRY;
        loop {
            let due = Instant::now() + self.interval;
            self.keep().await;
            self.ask_about_what_is_in_force().await;
            let had_delta = self.delta.is_some();
            self.announced.mark_unchanged();
            let refreshed = self.refresh().await;
            self.report(refreshed);
            // The complete CRL has just given the delta's location, and may itself be older than the delta.
            if !had_delta && self.delta.is_some() {
                continue;
            }
            self.fetch_base();
            let settled = self.progress.borrow().settled;
            let number = |announced: &Option<Current>| announced.as_ref().map(|announced| announced.number);
            let is_behind = number(&self.announced.borrow()) > settled;
            let (until, patience) = if is_behind { (due.min(Instant::now() + retry), retry * 2) } else { (due, RETRY) };
            let news = async {
                // If the announced CRL cannot be fetched yet, it is fetched again after a delay, or when another one is
                // announced.
                let heard = if is_behind {
                    self.announced.changed().await
                } else {
                    self.announced.wait_for(|announced| number(announced) > settled).await.map(drop)
                };
                if heard.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            retry = tokio::select! {
                () = news => RETRY,
                () = sleep_until(until) => patience.min(MAX_RETRY),
                Some(fetched) = self.bases.join_next() => {
                    if let Ok((afresh, fetched)) = fetched {
                        self.put_beneath(afresh, fetched).await;
                    }
                    patience.min(MAX_RETRY)
                }
            };
        }
    }

    /// Fetches once. The delta is first, because it is small. The complete CRL is fetched if there is no delta, or if
    /// the delta's base is not present. Returns the delta's error if the complete CRL replaced it.
    async fn refresh(&mut self) -> Result<Option<FetchError>, FetchError> {
        let listing = self.listing(|announced| announced.delta.clone());
        let delta = match &mut self.delta {
            None => return self.refresh_complete().await.map(|()| None),
            Some(delta) => match delta.fetch(listing.as_ref(), bound::of_delta(listing.as_ref())).await {
                Ok(fetched) => fetched,
                Err(error) => return self.refresh_without_delta(error).await.map(Some),
            },
        };
        let Fetched::News(delta) = delta else { return Ok(None) };
        match self.install(Lists::delta(delta)).await {
            (Err(InstallError::MissingBase { .. }), lists) => {
                let refreshed = self.refresh_both(lists).await;
                if let (Err(_), Some(delta)) = (&refreshed, &mut self.delta) {
                    // It is not in force, so it must be fetched again even if it does not change.
                    delta.forget();
                }
                refreshed?;
            }
            (installed, lists) => self.take(installed, lists).await,
        }
        Ok(None)
    }

    async fn refresh_complete(&mut self) -> Result<(), FetchError> {
        let Fetched::News(der) = self.fetch_complete().await? else { return Ok(()) };
        let (installed, lists) = self.install(Lists::complete(der)).await;
        self.take(installed, lists).await;
        Ok(())
    }

    /// Fetches the complete CRL because the delta failed with this error. The complete one may be older than what an
    /// earlier delta added. That is neither news nor an attack, but newer revocations are then unknown.
    async fn refresh_without_delta(&mut self, error: FetchError) -> Result<FetchError, FetchError> {
        match self.fetch_complete().await? {
            Fetched::Unchanged if self.is_extended => return Err(error),
            Fetched::Unchanged => {}
            Fetched::News(der) => match self.install(Lists::complete(der)).await {
                (Err(InstallError::LowerNumber { .. }), _) if self.is_extended => return Err(error),
                (installed, lists) => self.take(installed, lists).await,
            },
        }
        Ok(error)
    }

    /// Fetches the complete CRL for a delta whose base is not present, and puts both in force together. The complete
    /// CRL alone may be older than what is in force.
    async fn refresh_both(&mut self, delta: Lists) -> Result<(), FetchError> {
        self.complete.forget();
        let Fetched::News(der) = self.fetch_complete().await? else { return Ok(()) };
        let (installed, lists) = self.install(Lists { complete: Some(der), ..delta }).await;
        self.take(installed, lists).await;
        Ok(())
    }

    /// The announced size and digest of a CRL, while the feed is open. An announcement from before the feed was cut
    /// must not be used: newer CRLs may be far longer.
    fn listing(&self, of: impl FnOnce(&Current) -> Option<Listing>) -> Option<Listing> {
        self.link.as_ref()?.opening()?;
        self.announced.borrow().as_ref().and_then(of)
    }

    async fn fetch_complete(&mut self) -> Result<Fetched, FetchError> {
        let listing = self.listing(|announced| Some(announced.complete.clone()));
        let most = bound::of_complete(listing.as_ref(), &self.live);
        self.complete.fetch(listing.as_ref(), most).await
    }

    /// Fetches the complete CRL for a delta that is in force without it, in a task of its own. It may be long, and only
    /// the next start needs it.
    fn fetch_base(&mut self) {
        if self.without_base.is_none() || !self.bases.is_empty() {
            return;
        }
        let mut afresh = self.complete.afresh();
        let listing = self.listing(|announced| Some(announced.complete.clone()));
        let most = bound::of_complete(listing.as_ref(), &self.live);
        self.bases.spawn(async move {
            let fetched = afresh.fetch(listing.as_ref(), most).await;
            (afresh, fetched)
        });
    }

    async fn put_beneath(&mut self, afresh: Fetcher, fetched: Result<Fetched, FetchError>) {
        // If it failed, the next fetch of the delta repeats it.
        let (Ok(Fetched::News(der)), Some(delta)) = (fetched, self.without_base.clone()) else { return };
        self.complete = afresh;
        let (installed, lists) = self.install(Lists { complete: Some(der), delta: Some(delta) }).await;
        self.take(installed, lists).await;
    }

    /// Logs one line when an outage begins or ends. A line every second would hide the rest of the log.
    fn report(&mut self, refreshed: Result<Option<FetchError>, FetchError>) {
        let reach = match &refreshed {
            Ok(None) => Reach::Everything,
            Ok(Some(_)) => Reach::WithoutDelta,
            Err(_) => Reach::Nothing,
        };
        if reach != Reach::Everything {
            self.fetches_failed.inc();
        }
        let before = std::mem::replace(&mut self.reach, reach);
        if before == reach {
            return;
        }
        let source = self.complete.location();
        if before == Reach::Nothing {
            info!(%source, "CRLs can be fetched again");
            self.recovered.send_modify(|outages| *outages += 1);
        }
        match refreshed {
            Ok(None) if before == Reach::WithoutDelta => info!(%source, "the delta can be fetched again"),
            Ok(None) => {}
            Ok(Some(error)) => {
                warn!(%error, %source, "the delta cannot be fetched, so the complete CRL is, which may come later");
            }
            Err(error) => {
                warn!(%error, %source, "no CRL can be fetched; the one in force is used until it is stale");
            }
        }
    }

    /// Puts CRLs in force, and returns them. If they lack enforced revocations, the authority is queried whether the
    /// certificates have expired.
    async fn install(&self, lists: Lists) -> (Result<Installed, InstallError>, Lists) {
        let (installed, lists) = self.apart(self.live.clone(), lists).await;
        let (Err(InstallError::Lacks { offered, in_force, .. }), Some(link)) = (&installed, &self.link) else {
            return (installed, lists);
        };
        let made_of = self.live.made_of();
        if made_of.last() != Some(in_force) {
            return (installed, lists);
        }
        match link.contained_from(made_of).await {
            Some(from) if *offered >= from => {
                let vouched = Losses::Vouched { enforced: *in_force, from };
                self.apart(self.live.with_losses(vouched), lists).await
            }
            _ => (installed, lists),
        }
    }

    /// Verifying a long CRL, or freeing one, must not block an async thread.
    async fn apart(&self, live: LiveSet, lists: Lists) -> (Result<Installed, InstallError>, Lists) {
        live.note_lead(self.clock.lead());
        let (announced, now) = (self.announced.borrow().clone(), self.clock.now());
        let install = move || (lists.put_in_force(&live, announced.as_ref(), now), lists);
        spawn_blocking(install).await.expect("installing a CRL does not panic")
    }

    async fn take(&mut self, installed: Result<Installed, InstallError>, lists: Lists) {
        match installed {
            Ok(Installed::WithoutItsBase { number, revoked, ended }) => {
                self.refused = None;
                self.is_extended = true;
                self.without_base = lists.delta;
                info!(
                    %number,
                    revoked,
                    ended,
                    source = %self.complete.location(),
                    "CRL in force; it is confirmed when its complete CRL is stored for the next start"
                );
                self.progress.send_modify(|progress| progress.ended += u64::try_from(ended).unwrap_or(u64::MAX));
                self.note_in_force();
            }
            Ok(installed) => self.settle(installed, lists).await,
            Err(error) => self.refuse(error),
        }
    }

    /// A CRL was read from this location, so its issuer is known.
    fn note_list(&self) {
        let location = self.complete.location();
        self.live.unbar(|barrier| matches!(barrier, Barrier::NothingFrom(place) if place == location));
    }

    /// Publishes the number in force, even if it is not on disk yet.
    fn note_in_force(&mut self) {
        self.note_list();
        let number = self.live.number_in_force();
        self.in_force.send_if_modified(|in_force| std::mem::replace(in_force, number) != number);
        if let Some(lacking) = self.lacking.take_if(|lacking| Some(*lacking) <= number) {
            info!(number = %lacking, source = %self.complete.location(), "nothing that was enforced is lacking any \
                 more");
        }
    }

    /// Queries whether the authority has the numbers that are in force and that no confirmation contains: those of the
    /// CRLs that a delta was added to, and those that were not given up. If the authority was restored from an older
    /// copy, it does not have them. Then it receives the CRLs, and publishes a later one.
    async fn ask_about_what_is_in_force(&mut self) {
        let Some((link, opening)) = self.link.as_ref().and_then(|link| Some((link, link.opening()?))) else { return };
        let mut numbers = self.live.made_of();
        if self.lacking.is_none() {
            // The number in force is confirmed, so the authority notices by itself that it does not have it.
            numbers.pop();
        }
        let is_known = || self.vouched.as_ref().is_some_and(|(at, known)| *at == opening && *known == numbers);
        if numbers.is_empty() || (self.lacking.is_none() && is_known()) {
            return;
        }
        let from = link.contained_from(numbers.clone()).await;
        if let (Some(offered), Some(from)) = (self.lacking, from)
            && offered >= from
        {
            // The CRL may be put in force now.
            self.forget_what_was_fetched();
        }
        self.vouched = from.map(|_| (opening, numbers));
    }

    fn forget_what_was_fetched(&mut self) {
        self.complete.forget();
        if let Some(delta) = &mut self.delta {
            delta.forget();
        }
    }

    /// Stores what is in force now. Then it is settled.
    async fn settle(&mut self, mut installed: Installed, mut files: Lists) {
        self.refused = None;
        let source = self.complete.location();
        match &installed {
            Installed::Unchanged => {
                // Another CRL with this number may have been refused in between, but this one is in force.
                self.progress
                    .send_if_modified(|progress| std::mem::replace(&mut progress.settled, self.kept) != self.kept);
                return;
            }
            Installed::Withheld { number, settled, .. } => {
                info!(%number, needed = %settled, %source, "CRL stored, but a newer one was in force before the \
                     restart");
            }
            Installed::Replaced { number, revoked, ended, .. } => {
                info!(%number, revoked, ended, %source, "CRL in force");
            }
            // Nothing is written before its base is present.
            Installed::WithoutItsBase { .. } => return,
        }
        self.is_extended = files.delta.is_some();
        self.without_base = None;
        self.note_in_force();
        self.learn_delta(&installed);
        if let Some(Unkept { installed: before, files: older }) = self.unkept.take() {
            if let (Installed::Replaced { ended, .. }, Installed::Replaced { ended: earlier, .. }) =
                (&mut installed, before)
            {
                *ended += earlier;
            }
            // This delta needs the complete CRL that could not be written.
            files.complete = files.complete.or(older.complete);
            files.delta = files.delta.or(older.delta);
        }
        self.unkept = Some(Unkept { installed, files });
        self.keep().await;
    }

    /// Writes what is not on disk yet.
    async fn keep(&mut self) {
        let Some(Unkept { installed, files: kept }) = self.unkept.take() else { return };
        let files = self.files.clone();
        let written = spawn_blocking(move || {
            let written = files.write(&kept, in_force(&installed));
            // Freed here, off the async threads, if it was written.
            let files = if written.is_ok() { Lists::default() } else { kept };
            (written, Unkept { installed, files })
        });
        let (written, unkept) = written.await.expect("writing a file does not panic");
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.disk_fails) {
                    info!(source = %self.complete.location(), "the CRL in force is kept for the next start again, and \
                         confirmed");
                }
                self.note(&unkept.installed);
            }
            Err(error) => self.fail_to_keep(unkept, &error),
        }
    }

    fn fail_to_keep(&mut self, unkept: Unkept, error: &FileError) {
        self.unkept = Some(unkept);
        // Writing is retried all the time. Only the first failure is logged.
        if !std::mem::replace(&mut self.disk_fails, true) {
            warn!(
                %error,
                source = %self.complete.location(),
                "the CRL is in force, but cannot be kept for the next start, and so is not confirmed; make room on \
                 the disk"
            );
        }
    }

    /// Records what is in force and on disk now.
    fn note(&mut self, installed: &Installed) {
        let Installed::Replaced { number, ended, .. } = *installed else { return };
        self.kept = Some(number);
        self.note_in_force();
        // While the authority has another CRL with that number, a confirmation would be taken for that one.
        let settled = if matches!(self.refused, Some(InstallError::OtherList { .. })) { None } else { Some(number) };
        self.progress.send_modify(|progress| {
            progress.settled = settled;
            progress.ended += u64::try_from(ended).unwrap_or(u64::MAX);
        });
    }

    /// Notes the location of the delta, also if the complete CRL is not in force or cannot be stored: the delta may
    /// have what it lacks.
    fn learn_delta(&mut self, installed: &Installed) {
        let (Installed::Replaced { delta_url, .. } | Installed::Withheld { delta_url, .. }) = installed else { return };
        if let Some(uri) = delta_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok())
            && self.delta.as_ref().is_none_or(|delta| *delta.location() != Location::Url(uri.clone()))
        {
            self.delta = Some(self.complete.beside(Location::Url(uri)));
        }
    }

    fn refuse(&mut self, error: InstallError) {
        if let InstallError::Lacks { offered, .. } = error {
            // It is not fetched again before the authority vouches for it, or the source has another one. Only the
            // first time is logged.
            if self.lacking.replace(offered).is_none() {
                warn!(
                    error = error.to_string(),
                    source = %self.complete.location(),
                    "CRL refused: the revocations that it lacks stay in force, and the authority receives them when \
                     the feed is open"
                );
            }
            return;
        }
        if let InstallError::Verify(CrlVerifyError::OtherIssuer { .. } | CrlVerifyError::Signature(_)) = error {
            // Its issuer, or its issuer's key, is not trusted here, so it cannot revoke any client's certificate.
            self.note_list();
        }
        self.forget_what_was_fetched();
        if matches!(error, InstallError::OtherList { .. }) {
            // The authority has another CRL with this number, and would take the confirmation for that one.
            self.progress.send_if_modified(|progress| progress.settled.take().is_some());
        }
        if self.refused.as_ref() != Some(&error) {
            warn!(
                error = error.to_string(),
                source = %self.complete.location(),
                "CRL refused, the old one stays in force"
            );
            self.refused = Some(error);
        }
    }
}

/// The issuer and the number that is in force.
fn in_force(installed: &Installed) -> Option<(&IssuerId, CrlNumber)> {
    match installed {
        Installed::Replaced { issuer, number, .. } => Some((issuer, *number)),
        Installed::Withheld { .. } | Installed::WithoutItsBase { .. } | Installed::Unchanged => None,
    }
}
