//! Keeps one list of the live set current: asks for the delta, or for the complete CRL where a delta does not do, puts it in
//! force, and keeps the last good ones on disk so that a relying party can start while the authority is down.
//!
//! It never judges a CRL; [`LiveSet`] does.

use std::time::Duration;

use pki::{certificate::IssuerId, crl::CrlNumber, time::Timestamp};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::{
    InstallError, Installed, LiveSet, Location,
    kept::{ListFiles, Lists, Restored},
    location::{FetchError, Fetched, Fetcher},
};
use crate::{clock::Clock, files::FileError};

/// How long until an announced CRL that could not be put in force is asked for again; it doubles with each failure ...
const RETRY: Duration = Duration::from_millis(100);
/// ... up to this: what stands in the way may be a clock that is an hour behind.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// What a keeper has brought about so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of the CRL that is in force *and* on the disk: what a restart does not lose. None while the authority has another
    /// list with that number.
    pub(crate) settled: Option<CrlNumber>,
    /// How many open connections were ended since the start.
    pub(crate) ended: u64,
}

/// One list: where it comes from, where it is kept, and who is told.
#[derive(Debug)]
pub(crate) struct Keeper {
    live: LiveSet,
    complete: Fetcher,
    delta: Option<Fetcher>,
    files: ListFiles,
    interval: Duration,
    clock: Clock,
    announced: watch::Receiver<Option<CrlNumber>>,
    progress: watch::Sender<Progress>,
    recovered: watch::Sender<u64>,
    reach: Reach,
    /// Whether what is in force came with a delta, so that the complete CRL that is known says less.
    is_extended: bool,
    refused: Option<InstallError>,
    /// The number of what is on the disk.
    kept: Option<CrlNumber>,
    unkept: Option<Unkept>,
    /// Whether the last attempt to write failed.
    disk_fails: bool,
}

/// What is in force and not on the disk yet; where the disk fails for longer, from several lists.
#[derive(Debug)]
struct Unkept {
    installed: Installed,
    files: Lists,
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Everything,
    WithoutDelta,
    Nothing,
}

/// What a keeper is told and tells.
#[derive(Debug)]
pub(crate) struct Channels {
    /// The newest number that somebody says exists.
    pub(crate) announced: watch::Receiver<Option<CrlNumber>>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Counts the outages that are over: who publishes can be reached again.
    pub(crate) recovered: watch::Sender<u64>,
}

impl Keeper {
    /// A keeper whose list is what it was when this relying party last ran, if that is on the disk and can be believed.
    pub(crate) fn restore(
        live: LiveSet,
        location: Location,
        files: ListFiles,
        interval: Duration,
        clock: Clock,
        channels: Channels,
    ) -> Self {
        let Channels { announced, progress, recovered } = channels;
        let complete = Fetcher::new(location);
        let mut keeper = Self {
            live,
            complete,
            delta: None,
            files,
            interval,
            clock,
            announced,
            progress,
            recovered,
            reach: Reach::Everything,
            is_extended: false,
            refused: None,
            kept: None,
            unkept: None,
            disk_fails: false,
        };
        if let Some(Restored { installed, is_extended }) = keeper.files.restore(&keeper.live) {
            keeper.is_extended = is_extended;
            keeper.learn_delta(&installed);
            // After a crash, more may be on the disk than was settled.
            match keeper.files.write(&Lists::default(), in_force(&installed)) {
                Ok(()) => keeper.note(&installed),
                Err(error) => keeper.fail_to_keep(Unkept { installed, files: Lists::default() }, &error),
            }
        }
        keeper
    }

    /// Keeps the list current, for ever: asks once an interval, and at once when a newer number is announced.
    pub(crate) async fn run(mut self) {
        let mut retry = RETRY;
        loop {
            let due = Instant::now() + self.interval;
            self.keep().await;
            let had_delta = self.delta.is_some();
            self.announced.mark_unchanged();
            let refreshed = self.refresh().await;
            self.report(refreshed);
            // The complete CRL has just said where its delta lies, and may itself be older than that.
            if !had_delta && self.delta.is_some() {
                continue;
            }
            let settled = self.progress.borrow().settled;
            let is_behind = *self.announced.borrow() > settled;
            let (until, patience) = if is_behind { (due.min(Instant::now() + retry), retry * 2) } else { (due, RETRY) };
            let news = async {
                // What was announced is not to be had yet, if it is behind; what was announced meanwhile may be.
                let heard = if is_behind {
                    self.announced.changed().await
                } else {
                    self.announced.wait_for(|announced| *announced > settled).await.map(drop)
                };
                if heard.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            retry = if timeout_at(until, news).await.is_ok() { RETRY } else { patience.min(MAX_RETRY) };
        }
    }

    /// Asks once. A delta first: it is small. The complete CRL where there is no delta, or where the delta's base is not here. What
    /// kept the delta away where the complete CRL did in its place.
    async fn refresh(&mut self) -> Result<Option<FetchError>, FetchError> {
        let delta = match &mut self.delta {
            None => return self.refresh_complete().await.map(|()| None),
            Some(delta) => match delta.fetch().await {
                Ok(fetched) => fetched,
                Err(error) => return self.refresh_without_delta(error).await.map(Some),
            },
        };
        let Fetched::News(delta) = delta else { return Ok(None) };
        let (installed, delta) = self.install(move |live, now| (live.install_delta(&delta, now), delta)).await;
        match installed {
            Err(InstallError::MissingBase { .. }) => {
                let refreshed = self.refresh_both(delta).await;
                if let (Err(_), Some(delta)) = (&refreshed, &mut self.delta) {
                    // It is not in force, so it has to be brought again though it does not change.
                    delta.forget();
                }
                refreshed?;
            }
            Ok(installed) => self.settle(installed, Lists { delta: Some(delta), ..Lists::default() }).await,
            Err(error) => self.refuse(error),
        }
        Ok(None)
    }

    async fn refresh_complete(&mut self) -> Result<(), FetchError> {
        let Fetched::News(der) = self.complete.fetch().await? else { return Ok(()) };
        match self.install_complete(der).await {
            Ok((installed, kept)) => self.settle(installed, kept).await,
            Err(error) => self.refuse(error),
        }
        Ok(())
    }

    /// The complete CRL in the place of the delta, which is not to be had for this reason. The complete one may lag behind what an
    /// earlier delta has brought: then it is neither news nor an attack, and nothing is known of what came after.
    async fn refresh_without_delta(&mut self, error: FetchError) -> Result<FetchError, FetchError> {
        match self.complete.fetch().await? {
            Fetched::Unchanged if self.is_extended => return Err(error),
            Fetched::Unchanged => {}
            Fetched::News(der) => match self.install_complete(der).await {
                Ok((installed, kept)) => self.settle(installed, kept).await,
                Err(InstallError::LowerNumber { .. }) if self.is_extended => return Err(error),
                Err(refused) => self.refuse(refused),
            },
        }
        Ok(error)
    }

    async fn install_complete(&self, der: Vec<u8>) -> Result<(Installed, Lists), InstallError> {
        let install = move |live: &LiveSet, now| {
            let installed = live.install(&der, now)?;
            Ok((installed, Lists { complete: Some(der), ..Lists::default() }))
        };
        self.install(install).await
    }

    /// A delta whose base is not here, with the complete CRL that it goes with: put in force together, as the complete CRL alone may be
    /// older than what is in force.
    async fn refresh_both(&mut self, delta: Vec<u8>) -> Result<(), FetchError> {
        self.complete.forget();
        let Fetched::News(der) = self.complete.fetch().await? else { return Ok(()) };
        let install = move |live: &LiveSet, now| {
            let installed = live.install_with_delta(&der, &delta, now)?;
            Ok((installed, Lists { complete: Some(der), delta: Some(delta) }))
        };
        match self.install(install).await {
            Ok((installed, kept)) => self.settle(installed, kept).await,
            Err(error) => self.refuse(error),
        }
        Ok(())
    }

    /// One line when something begins or ends: the same every second would hide what else is in the log.
    fn report(&mut self, refreshed: Result<Option<FetchError>, FetchError>) {
        let reach = match &refreshed {
            Ok(None) => Reach::Everything,
            Ok(Some(_)) => Reach::WithoutDelta,
            Err(_) => Reach::Nothing,
        };
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
                warn!(%error, %source, "no CRL can be fetched; clients are judged by the one in force until it is stale");
            }
        }
    }

    /// Verifying a signature over a long list does not belong on an async thread, and nor does freeing one.
    async fn install<T: Send + 'static>(&self, install: impl FnOnce(&LiveSet, Timestamp) -> T + Send + 'static) -> T {
        let (live, now) = (self.live.clone(), self.clock.now());
        spawn_blocking(move || install(&live, now)).await.expect("installing a CRL does not panic")
    }

    /// What is in force now goes to disk, and then it is settled.
    async fn settle(&mut self, mut installed: Installed, mut files: Lists) {
        self.refused = None;
        let source = self.complete.location();
        match &installed {
            Installed::Unchanged => {
                // Whatever else was offered with this number, it is the list that is in force after all.
                self.progress
                    .send_if_modified(|progress| std::mem::replace(&mut progress.settled, self.kept) != self.kept);
                return;
            }
            Installed::Withheld { number, settled, .. } => {
                info!(%number, needed = %settled, %source, "CRL kept, but more was in force before the restart");
            }
            Installed::Replaced { number, revoked, ended, .. } => {
                info!(%number, revoked, ended, %source, "CRL in force");
            }
        }
        self.is_extended = files.delta.is_some();
        self.learn_delta(&installed);
        if let Some(Unkept { installed: before, files: older }) = self.unkept.take() {
            if let (Installed::Replaced { ended, .. }, Installed::Replaced { ended: earlier, .. }) =
                (&mut installed, before)
            {
                *ended += earlier;
            }
            // The complete CRL that could not be written is what this delta adds to.
            files.complete = files.complete.or(older.complete);
            files.delta = files.delta.or(older.delta);
        }
        self.unkept = Some(Unkept { installed, files });
        self.keep().await;
    }

    /// Writes what is not on the disk yet, if there is anything.
    async fn keep(&mut self) {
        let Some(Unkept { installed, files: kept }) = self.unkept.take() else { return };
        let files = self.files.clone();
        let written = spawn_blocking(move || {
            let written = files.write(&kept, in_force(&installed));
            // What was written is freed here.
            let files = if written.is_ok() { Lists::default() } else { kept };
            (written, Unkept { installed, files })
        });
        let (written, unkept) = written.await.expect("writing a file does not panic");
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.disk_fails) {
                    info!(source = %self.complete.location(), "the CRL in force is kept for the next start again, and confirmed");
                }
                self.note(&unkept.installed);
            }
            Err(error) => self.fail_to_keep(unkept, &error),
        }
    }

    fn fail_to_keep(&mut self, unkept: Unkept, error: &FileError) {
        self.unkept = Some(unkept);
        // It is tried again all the time, and one line says so.
        if !std::mem::replace(&mut self.disk_fails, true) {
            warn!(
                %error,
                source = %self.complete.location(),
                "the CRL is in force, but cannot be kept for the next start, and so is not confirmed; make room on the disk"
            );
        }
    }

    /// What is in force, and on the disk now.
    fn note(&mut self, installed: &Installed) {
        let Installed::Replaced { number, ended, .. } = *installed else { return };
        self.kept = Some(number);
        // While the authority has another list with that number, it would be taken for that one.
        let settled = if matches!(self.refused, Some(InstallError::OtherList { .. })) { None } else { Some(number) };
        self.progress.send_modify(|progress| {
            progress.settled = settled;
            progress.ended += u64::try_from(ended).unwrap_or(u64::MAX);
        });
    }

    /// Where the delta lies that is to be asked for, also where the complete CRL is not in force, or cannot be kept: the delta may be what
    /// it lacks.
    fn learn_delta(&mut self, installed: &Installed) {
        let (Installed::Replaced { delta_url, .. } | Installed::Withheld { delta_url, .. }) = installed else { return };
        if let Some(uri) = delta_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok())
            && self.delta.as_ref().is_none_or(|delta| *delta.location() != Location::Url(uri.clone()))
        {
            self.delta = Some(self.complete.beside(Location::Url(uri)));
        }
    }

    fn refuse(&mut self, error: InstallError) {
        self.complete.forget();
        if let Some(delta) = &mut self.delta {
            delta.forget();
        }
        if matches!(error, InstallError::OtherList { .. }) {
            // The authority would take the number for its own list, and it is another one that is in force.
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

/// Whose list is in force with which number.
fn in_force(installed: &Installed) -> Option<(&IssuerId, CrlNumber)> {
    match installed {
        Installed::Replaced { issuer, number, .. } => Some((issuer, *number)),
        Installed::Withheld { .. } | Installed::Unchanged => None,
    }
}
