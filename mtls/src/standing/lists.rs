//! The CRLs by which a client checks servers: that of the root, and the list of servers of its issuing CA. They are
//! fetched from the authority that the client enrolled with, or from the distribution points, and stored on disk for
//! the next start.
//!
//! It never fetches a CRL of clients from our authority, however many are revoked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use edge::files::{self, Access, FileError};
use http::{HeaderValue, Uri, header};
use http_body_util::Full;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    crl::{CrlIssuer, ISSUING_CRL_PATH, ROOT_CRL_PATH, SERVERS_CRL_PATH, servers_crl_url},
    time::Timestamp,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use url::Url;

use super::{AuthorityStanding, ServerRefusal, ServerStanding};
use crate::{
    connect::contact::{self, Connector, Contact},
    errors::error_chain,
    revocation::{Fetched, InstallError, Installed, LiveSet, bound, conditional, der_of, read_answer},
    tls::{
        connecting,
        issuers::{ChainError, ChainIssuer},
    },
};

/// Timeout to connect, and for unacknowledged data.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time limit for fetching all CRLs at the start, if the stored ones are current.
const WITH_CURRENT: Duration = Duration::from_secs(1);
/// The time limit if they are not, or if the client is running already.
const WITHOUT_CURRENT: Duration = Duration::from_secs(30);

/// An authority, and which of its CRLs covers servers.
pub(super) struct Scoped {
    pub(super) signs: CrlIssuer,
    /// Its distribution point.
    point: String,
}

/// The CRLs that cover the servers below these authorities. The nearest authority has signed the servers: its list of
/// servers, if it publishes one, otherwise its complete CRL. The authorities above sign only CAs.
pub(super) fn scoped(issuers: Vec<ChainIssuer>) -> Result<Vec<Scoped>, ChainError> {
    let scope = |(place, ChainIssuer { signs, subject }): (usize, ChainIssuer)| {
        let point = complete_point(&subject)?;
        Ok(match servers_crl_url(&point).filter(|_| place == 0) {
            Some(point) => Scoped { signs: signs.of_point(point.clone()), point },
            None => Scoped { signs, point },
        })
    };
    issuers.into_iter().enumerate().map(scope).collect()
}

fn complete_point(subject: &CertificateInfo) -> Result<String, ChainError> {
    let point = subject.complete_crl_url().map(str::to_owned);
    point.ok_or_else(|| ChainError::NoCrlLocation(subject.display_name()))
}

/// A CRL could not be fetched. The one in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The host does not answer.
    #[error("{url} cannot be fetched: {cause}")]
    Fetch {
        /// The URL.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The received CRL is refused.
    #[error("the CRL from {url} is refused: {source}")]
    Install {
        /// The URL.
        url: String,
        /// The reason.
        source: InstallError,
    },
    /// The host is the authority itself, and is revoked.
    #[error("nothing more is fetched from {url}: {source}")]
    Authority {
        /// The URL.
        url: String,
        /// The reason, from the CRLs.
        source: ServerRefusal,
    },
    /// It took too long.
    #[error("the CRLs could not be fetched within {} s", .0.as_secs())]
    Slow(Duration),
}

/// The CRLs of a client. The owner refreshes them, or runs [`Self::keep_current`].
#[derive(Debug)]
pub struct Lists {
    standing: ServerStanding,
    authority: AuthorityStanding,
    connector: Connector,
    all: Vec<List>,
    interval: Duration,
}

impl Lists {
    pub(super) fn new(
        standing: &ServerStanding,
        issuers: &[Scoped],
        root: Fingerprint,
        url: Option<&Url>,
        directory: &Path,
    ) -> Result<Self, ChainError> {
        let authority = AuthorityStanding::new(standing.0.live.clone(), standing.0.clock.clone());
        let tls = connecting::to_list(root, &standing.0.clock, Arc::new(authority.clone()))?;
        let list = |issuer| Ok(List::new(&standing.0.live, issuer, Some(directory))?.at_authority(url).restored());
        let all = issuers.iter().map(list).collect::<Result<_, ChainError>>()?;
        let connector = contact::connector(tls, PATIENCE);
        Ok(Self { standing: standing.clone(), authority, connector, all, interval: Duration::MAX })
    }

    pub(super) fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Fetches every CRL once. If the stored ones are current, it takes at most a second, because they would be enough.
    pub async fn refresh(&mut self) -> Result<(), RefreshError> {
        self.ask(if self.standing.is_current() { WITH_CURRENT } else { WITHOUT_CURRENT }).await
    }

    /// Fetches every CRL once an interval, and ends connections when the CRLs are not current any more. Never returns.
    pub async fn keep_current(self) {
        let standing = self.standing.clone();
        // In parallel, so that a long interval or a slow answer does not delay the end of connections.
        tokio::join!(self.keep_asking(), standing.watch_age());
    }

    async fn keep_asking(mut self) {
        let mut complained = false;
        loop {
            sleep(self.interval).await;
            match self.ask(WITHOUT_CURRENT).await {
                Ok(()) => complained = false,
                // Logs one line when it begins to fail, not one for each attempt.
                Err(error) if !std::mem::replace(&mut complained, true) => {
                    warn!(error = error_chain(&error), "the CRLs of servers cannot be fetched");
                }
                Err(_) => {}
            }
        }
    }

    /// Fetches all CRLs. CRLs of one host share a connection. A CRL that fails or is slow must not affect the next one:
    /// each has its share of the remaining time. Returns the first error when all were tried.
    async fn ask(&mut self, patience: Duration) -> Result<(), RefreshError> {
        let Self { standing, authority, connector, all, .. } = self;
        let deadline = Instant::now() + patience;
        let mut lists_left = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let (mut contact, mut asked) = (None, Ok(()));
        for list in all {
            let share = deadline.saturating_duration_since(Instant::now()) / lists_left;
            lists_left -= 1;
            let refreshed = timeout(share, list.refresh_over(contact.take(), connector, standing.now())).await;
            match refreshed.unwrap_or(Err(RefreshError::Slow(patience))) {
                Ok(open) => contact = Some(open),
                Err(error) => asked = asked.and(Err(error)),
            }
            // The fetched CRL may revoke the authority itself. Then nothing more is fetched from it.
            let itself = authority.check();
            itself.map_err(|source| RefreshError::Authority { url: list.uri.to_string(), source })?;
        }
        asked
    }
}

/// One CRL: where it is fetched from, and where it is stored.
#[derive(Debug)]
pub(super) struct List {
    live: LiveSet,
    uri: Uri,
    /// Where it is stored. `None` if it is not.
    file: Option<PathBuf>,
    /// The entity tag of the last one that was fetched.
    entity_tag: Option<HeaderValue>,
}

impl List {
    /// From its distribution point.
    pub(super) fn new(live: &LiveSet, issuer: &Scoped, directory: Option<&Path>) -> Result<Self, ChainError> {
        let uri = issuer.point.parse().map_err(|_| ChainError::NoCrlLocation(issuer.signs.id().to_string()))?;
        let name = format!("{}.crl", Fingerprint::of(issuer.point.as_bytes()).short());
        let file = directory.map(|directory| directory.join(name));
        Ok(Self { live: live.only(&issuer.signs), uri, file, entity_tag: None })
    }

    /// From the authority's own address, if that is configured and it is one of the authority's CRLs.
    pub(super) fn at_authority(self, authority: Option<&Url>) -> Self {
        let path = [ROOT_CRL_PATH, ISSUING_CRL_PATH, SERVERS_CRL_PATH];
        let path = path.into_iter().find(|path| self.uri.path().ends_with(path));
        let url = authority.zip(path).and_then(|(authority, path)| authority.join(path).ok());
        let uri = url.and_then(|url| url.as_str().parse().ok());
        Self { uri: uri.unwrap_or_else(|| self.uri.clone()), ..self }
    }

    /// Puts in force what was in force when a client last ran, if it is valid.
    pub(super) fn restored(self) -> Self {
        if let Some(file) = &self.file {
            restore(&self.live, file);
        }
        self
    }

    /// Fetches it over this connection if that is to its host, and otherwise over a new one.
    async fn refresh_over(
        &mut self,
        open: Option<(Uri, Contact)>,
        connector: &Connector,
        now: Timestamp,
    ) -> Result<(Uri, Contact), RefreshError> {
        let is_here = |uri: &Uri| (uri.scheme(), uri.authority()) == (self.uri.scheme(), self.uri.authority());
        let mut contact = match open {
            Some((uri, contact)) if is_here(&uri) => contact,
            _ => Contact::open(connector, &self.uri).await.map_err(|error| self.unfetched(&error))?,
        };
        self.refresh(&mut contact, now).await?;
        Ok((self.uri.clone(), contact))
    }

    /// Fetches it, if it differs from the one in force.
    pub(super) async fn refresh(&mut self, contact: &mut Contact, now: Timestamp) -> Result<(), RefreshError> {
        let request = conditional(self.uri.clone(), self.entity_tag.as_ref(), Full::default());
        let mut request = request.map_err(|error| self.unfetched(&error))?;
        if self.entity_tag.is_none()
            && let Some(since) = self.this_update()
            && let Ok(since) = HeaderValue::from_str(&httpdate::fmt_http_date(since))
        {
            // For the restored CRL: our authority sends the time of issue as Last-Modified.
            request.headers_mut().insert(header::IF_MODIFIED_SINCE, since);
        }
        let response = contact.send(request).await.map_err(|error| self.unfetched(&error))?;
        let most = bound::of_complete(None, &self.live);
        let (entity_tag, fetched) =
            read_answer(response, most, &bound::FROM_ELSEWHERE).await.map_err(|error| self.unfetched(&error))?;
        if let Fetched::News(list) = fetched {
            self.install(list, now).await?;
            self.entity_tag = entity_tag;
        }
        Ok(())
    }

    /// Verifying a long CRL and writing it must not block an async thread.
    async fn install(&self, list: Vec<u8>, now: Timestamp) -> Result<(), RefreshError> {
        let (live, file, url) = (self.live.clone(), self.file.clone(), self.uri.to_string());
        let install = move || {
            let der =
                der_of(list).map_err(|error| RefreshError::Fetch { url: url.clone(), cause: error.to_string() })?;
            // Another process may have stored a newer one meanwhile.
            if let Some(file) = &file {
                restore(&live, file);
            }
            let installed =
                live.install(&der, now).map_err(|source| RefreshError::Install { url: url.clone(), source })?;
            if let Installed::Replaced { number, revoked, ended, .. } = installed {
                info!(%number, revoked, ended, source = url, "CRL in force");
                if let Some(Err(error)) = file.map(|file| keep(&file, &der)) {
                    warn!(%error, "the CRL is in force, but cannot be kept for the next start");
                }
            }
            Ok(())
        };
        spawn_blocking(install).await.expect("installing a CRL does not panic")
    }

    fn this_update(&self) -> Option<SystemTime> {
        let list = self.live.freshness().into_iter().find_map(|freshness| freshness.list);
        list.map(|list| SystemTime::UNIX_EPOCH + list.this_update.since(Timestamp::MIN))
    }

    fn unfetched(&self, error: &(dyn std::error::Error + 'static)) -> RefreshError {
        RefreshError::Fetch { url: self.uri.to_string(), cause: error_chain(error) }
    }
}

fn restore(live: &LiveSet, file: &Path) {
    match files::read(file).map(|der| live.restore(&der)) {
        // A lower number is no error: a newer CRL may be in force that could not be written.
        Ok(Ok(_) | Err(InstallError::LowerNumber { .. })) => {}
        Ok(Err(error)) => warn!(%error, file = %file.display(), "the stored CRL is refused"),
        Err(error) if !error.is_missing() => warn!(%error, "the stored CRL cannot be read"),
        Err(_) => {}
    }
}

fn keep(file: &Path, der: &[u8]) -> Result<(), FileError> {
    if let Some(directory) = file.parent() {
        files::create_directory(directory, Access::Public)?;
    }
    files::write(file, der, Access::Public)
}
