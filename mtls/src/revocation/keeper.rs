//! Keeps one list of the live set current: asks for the delta, or for the complete CRL where a delta does not do, puts it in
//! force, and keeps the last good ones on disk so that a relying party can start while the authority is down.
//!
//! It never judges a CRL; [`LiveSet`] does.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pki::crl::CrlNumber;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    InstallError, Installed, LiveSet, Location,
    location::{FetchError, Fetched, Fetcher},
};
use crate::{
    clock::Clock,
    files::{self, Access, FileError},
};

/// How long until an announced CRL that could not be put in force is asked for again.
const RETRY: Duration = Duration::from_millis(100);

/// The files that keep the last good CRLs of one list, DER.
#[derive(Clone, Debug)]
pub(crate) struct ListFiles {
    pub(crate) complete: PathBuf,
    pub(crate) delta: PathBuf,
}

/// What a keeper has brought about so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of the CRL that is in force *and* on the disk: what a restart does not lose.
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
    outage: bool,
    refused: Option<InstallError>,
    unkept: Option<Unkept>,
    /// Whether the last attempt to write failed.
    disk_fails: bool,
}

/// What is in force and not on the disk yet; where the disk fails for longer, from several lists.
#[derive(Debug)]
struct Unkept {
    installed: Installed,
    files: Kept,
}

/// What belongs into the files of a list, where they are not as they should be.
#[derive(Clone, Debug, Default)]
struct Kept {
    complete: Option<Arc<Vec<u8>>>,
    delta: Option<Arc<Vec<u8>>>,
}

/// What a keeper is told and tells.
#[derive(Debug)]
pub(crate) struct Channels {
    /// The newest number that somebody says exists.
    pub(crate) announced: watch::Receiver<Option<CrlNumber>>,
    pub(crate) progress: watch::Sender<Progress>,
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
        let Channels { announced, progress } = channels;
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
            outage: false,
            refused: None,
            unkept: None,
            disk_fails: false,
        };
        keeper.restore_file(&keeper.files.complete.clone(), LiveSet::restore);
        keeper.restore_file(&keeper.files.delta.clone(), LiveSet::restore_delta);
        keeper
    }

    /// A file that cannot be read or believed is reported and otherwise ignored: without a CRL nobody is let in.
    fn restore_file(
        &mut self,
        file: &std::path::Path,
        restore: impl FnOnce(&LiveSet, &[u8]) -> Result<Installed, InstallError>,
    ) {
        match files::read(file) {
            Ok(der) => match restore(&self.live, &der) {
                Ok(installed) => {
                    if let Installed::Replaced { number, revoked, .. } = &installed {
                        info!(%number, revoked, file = %file.display(), "last good CRL restored");
                    }
                    self.note(installed);
                }
                // What a delta says is in the complete CRL that came after it.
                Err(InstallError::LowerNumber { .. }) => {}
                Err(error) => {
                    warn!(error = error.to_string(), file = %file.display(), "the stored CRL is not believed");
                }
            },
            Err(FileError::Missing(_)) => {}
            Err(error) => warn!(%error, "the stored CRL cannot be read"),
        }
    }

    /// Keeps the list current, for ever: asks once an interval, and at once when a newer number is announced.
    pub(crate) async fn run(mut self) {
        loop {
            let due = Instant::now() + self.interval;
            self.keep().await;
            let had_delta = self.delta.is_some();
            // One line when it begins: the same every second would hide what else is in the log.
            if let Err(error) = self.refresh().await
                && !std::mem::replace(&mut self.outage, true)
            {
                warn!(
                    %error,
                    source = %self.complete.location(),
                    "no CRL can be fetched; clients are judged by the one in force until it is stale"
                );
            }
            // The complete CRL has just said where its delta lies, and may itself be older than that.
            if !had_delta && self.delta.is_some() {
                continue;
            }
            let settled = self.progress.borrow().settled;
            if *self.announced.borrow() > settled {
                // What was announced is not to be had yet.
                sleep_until(due.min(Instant::now() + RETRY)).await;
                continue;
            }
            let news = async {
                if self.announced.wait_for(|announced| *announced > settled).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let _ = timeout_at(due, news).await;
        }
    }

    /// Asks once. A delta first: it is small. The complete CRL where there is no delta, or where the delta's base is not here.
    async fn refresh(&mut self) -> Result<(), FetchError> {
        let delta = match &mut self.delta {
            None => return self.refresh_complete().await,
            Some(delta) => match delta.fetch().await {
                Ok(fetched) => fetched,
                Err(_) => return self.refresh_complete().await,
            },
        };
        self.answered();
        let Fetched::News(delta) = delta else { return Ok(()) };
        let delta = Arc::new(delta);
        let installed = self.install({
            let delta = Arc::clone(&delta);
            move |live, now| live.install_delta(&delta, now)
        });
        match installed.await {
            Err(InstallError::MissingBase { .. }) => self.refresh_both(delta).await,
            Ok(installed) => {
                self.settle(installed, Kept { delta: Some(delta), ..Kept::default() }).await;
                Ok(())
            }
            Err(error) => {
                self.refuse(error);
                Ok(())
            }
        }
    }

    async fn refresh_complete(&mut self) -> Result<(), FetchError> {
        let fetched = self.complete.fetch().await?;
        self.answered();
        let Fetched::News(der) = fetched else { return Ok(()) };
        let der = Arc::new(der);
        let installed = self.install({
            let der = Arc::clone(&der);
            move |live, now| live.install(&der, now)
        });
        match installed.await {
            Ok(installed) => self.settle(installed, Kept { complete: Some(der), ..Kept::default() }).await,
            Err(error) => self.refuse(error),
        }
        Ok(())
    }

    /// A delta whose base is not here, with the complete CRL that it goes with: put in force together, as the complete CRL alone may be
    /// older than what is in force.
    async fn refresh_both(&mut self, delta: Arc<Vec<u8>>) -> Result<(), FetchError> {
        self.complete.forget();
        let Fetched::News(der) = self.complete.fetch().await? else { return Ok(()) };
        let der = Arc::new(der);
        let installed = self.install({
            let (der, delta) = (Arc::clone(&der), Arc::clone(&delta));
            move |live, now| live.install_with_delta(&der, &delta, now)
        });
        match installed.await {
            Ok(installed) => self.settle(installed, Kept { complete: Some(der), delta: Some(delta) }).await,
            Err(error) => self.refuse(error),
        }
        Ok(())
    }

    /// A location answers: an outage, if there was one, is over.
    fn answered(&mut self) {
        if std::mem::take(&mut self.outage) {
            info!(source = %self.complete.location(), "CRLs can be fetched again");
        }
    }

    /// Verifying a signature over a long list does not belong on an async thread.
    async fn install(
        &self,
        install: impl FnOnce(&LiveSet, pki::time::Timestamp) -> Result<Installed, InstallError> + Send + 'static,
    ) -> Result<Installed, InstallError> {
        let (live, now) = (self.live.clone(), self.clock.now());
        spawn_blocking(move || install(&live, now)).await.expect("installing a CRL does not panic")
    }

    /// What is in force now goes to disk, and then it is settled.
    async fn settle(&mut self, mut installed: Installed, mut files: Kept) {
        self.refused = None;
        let Installed::Replaced { number, revoked, ended, .. } = &mut installed else { return };
        info!(%number, revoked, ended, source = %self.complete.location(), "CRL in force");
        if let Some(Unkept { installed: Installed::Replaced { ended: earlier, .. }, files: older }) = self.unkept.take()
        {
            *ended += earlier;
            // The complete CRL that could not be written is what this delta adds to.
            files.complete = files.complete.or(older.complete);
            files.delta = files.delta.or(older.delta);
        }
        self.unkept = Some(Unkept { installed, files });
        self.keep().await;
    }

    /// Writes what is not on the disk yet, if there is anything.
    async fn keep(&mut self) {
        let Some(Unkept { files: kept, .. }) = &self.unkept else { return };
        let (files, kept) = (self.files.clone(), kept.clone());
        let written = spawn_blocking(move || {
            let write =
                |file, der: Option<Arc<Vec<u8>>>| der.map_or(Ok(()), |der| files::write(file, &der, Access::Public));
            // The complete CRL first: a delta without its base is of no use to the next start.
            write(&files.complete, kept.complete)?;
            write(&files.delta, kept.delta)
        });
        match written.await.expect("writing a file does not panic") {
            Ok(()) => {
                if std::mem::take(&mut self.disk_fails) {
                    info!(source = %self.complete.location(), "the CRL in force is kept for the next start again, and confirmed");
                }
                if let Some(Unkept { installed, .. }) = self.unkept.take() {
                    self.note(installed);
                }
            }
            // It is tried again all the time, and one line says so.
            Err(error) if !std::mem::replace(&mut self.disk_fails, true) => warn!(
                %error,
                source = %self.complete.location(),
                "the CRL is in force, but cannot be kept for the next start, and so is not confirmed; make room on the disk"
            ),
            Err(_) => {}
        }
    }

    fn note(&mut self, installed: Installed) {
        if let Installed::Replaced { number, ended, delta_url, .. } = installed {
            self.progress.send_modify(|progress| {
                progress.settled = Some(number);
                progress.ended += u64::try_from(ended).unwrap_or(u64::MAX);
            });
            if let Some(uri) = delta_url.and_then(|url| url.parse::<http::Uri>().ok())
                && self.delta.as_ref().is_none_or(|delta| *delta.location() != Location::Url(uri.clone()))
            {
                self.delta = Some(self.complete.beside(Location::Url(uri)));
            }
        }
    }

    fn refuse(&mut self, error: InstallError) {
        self.complete.forget();
        if let Some(delta) = &mut self.delta {
            delta.forget();
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
