//! Whether the servers that a client connects to are revoked: a live set of the client's own, its CRLs, and the
//! connections that end when their server is revoked.
//!
//! It never judges a CRL, and never decides who is revoked; [`LiveSet`] does.

mod authority;
mod lists;
mod sessions;
mod watched;

use std::{
    error,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge::{clock::Clock, errors::find};
use pki::{
    certificate::{Fingerprint, VerifiedId},
    time::Timestamp,
};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, client::Resumption};
use rustls_pki_types::CertificateDer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use self::authority::{AuthorityStanding, KeptLists, first_contact};
pub use self::{
    authority::FirstContactError,
    lists::{Lists, RefreshError},
    watched::{WatchedConnector, WatchedStream},
};
use self::{sessions::ClientSessions, watched::Watch};
use crate::{
    errors::{refusal, refused},
    revocation::{EndReason, LiveSet, Refusal},
    tls::{
        connecting,
        identity::{Identity, IdentityError, check_root},
        issuers::{ChainError, issuers},
        server_verifier::Judge,
        validation::PathValidator,
        verified_chain::VerifiedChain,
        verified_chains::VerifiedChains,
    },
};

/// How often expiry is checked.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to a server that no current CRL covers. A revoked one is refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingCrl {
    /// It is refused, because it may have been revoked.
    #[default]
    Refuse,
    /// It is accepted. This is for places where no CRL can be fetched. A revoked server is then accepted as well.
    Accept,
}

/// The options of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// The HTTPS address of the authority that the client enrolled with, if it is known. CRLs are fetched there, and
    /// otherwise from the distribution points.
    pub authority: Option<Url>,
    /// Where the last good CRLs are stored. The directory is created if it does not exist.
    pub crl_directory: PathBuf,
    /// How often the CRLs are fetched while the client runs.
    pub crl_refresh: Duration,
    /// What happens to a server that no current CRL covers.
    pub on_missing_crl: OnMissingCrl,
    /// The source of the current time.
    pub clock: Clock,
}

impl Options {
    /// The defaults: CRLs from the distribution points, fetched every ten seconds and stored in this directory. A
    /// server that no current CRL covers is refused.
    #[must_use]
    pub fn new(crl_directory: PathBuf) -> Self {
        Self {
            authority: None,
            crl_directory,
            crl_refresh: Duration::from_secs(10),
            on_missing_crl: OnMissingCrl::Refuse,
            clock: Clock::system(),
        }
    }
}

/// Why a server is refused, or its connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerRefusal {
    /// Its certificate, or that of a CA above it, is revoked.
    #[error("the server is revoked: {0}")]
    Revoked(Refusal),
    /// No current CRL covers it, so it may be revoked.
    #[error("whether the server is revoked is not known: {0}")]
    Unknown(Refusal),
}

impl ServerRefusal {
    /// The refusal in an error's chain, if there is one. The error may be of a handshake, or of a connection that has
    /// ended.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Self> {
        find(error).or_else(|| refusal(error)?.downcast_ref())
    }
}

/// The status of servers for one client. Clones share it.
#[derive(Clone, Debug)]
pub struct ServerStanding(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    live: LiveSet,
    on_missing_crl: OnMissingCrl,
    clock: Clock,
    /// Shared with the verifier.
    paths: Arc<VerifiedChains>,
    /// Cancelled to end the open connections when the CRLs are not current any more.
    lapse: Mutex<CancellationToken>,
}

impl ServerStanding {
    /// The standing for a client with this identity, whose chain determines the authorities. The CRLs that were in
    /// force when a client last ran with this directory are in force on return, if they are valid.
    pub fn new(
        identity: &Identity,
        root: &CertificateDer<'static>,
        options: Options,
    ) -> Result<(Self, Lists), ChainError> {
        let Options { authority, crl_directory, crl_refresh, on_missing_crl, clock } = options;
        check_root(root, clock.now())?;
        let issuers = lists::scoped(issuers(identity.chain(), root)?)?;
        let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect());
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let paths = Arc::new(VerifiedChains::new(PathValidator::of_servers(Arc::new(roots)), clock.clone()));
        let standing = Self(Arc::new(Parts { live, on_missing_crl, clock, paths, lapse: Mutex::default() }));
        let lists = Lists::new(&standing, &issuers, Fingerprint::of(root), authority.as_ref(), &crl_directory)?;
        Ok((standing, lists.every(crl_refresh)))
    }

    /// A client that presents `identity`, trusts servers below this standing's root, and checks each of them in the
    /// handshake. TLS sessions are dropped when a server may have been revoked. Connections that stay open, or resume a
    /// session, need [`Self::connector`] as well.
    pub fn tls(&self, identity: &Identity) -> Result<ClientConfig, IdentityError> {
        let mut tls = connecting::judging(identity, &self.0.clock, Arc::clone(&self.0.paths), Arc::new(self.clone()))?;
        tls.resumption = Resumption::store(Arc::new(ClientSessions::new(self.0.live.clone())));
        Ok(tls)
    }

    /// Makes this connector's connections end when their server is revoked, and checks the servers of resumed sessions.
    pub fn connector<C>(&self, connector: C) -> WatchedConnector<C> {
        WatchedConnector::new(connector, self.clone())
    }

    /// Whether every CRL is present and current.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.live.ready(self.now()).is_ok()
    }

    /// The live set, which covers servers and CAs.
    #[must_use]
    pub fn live_set(&self) -> &LiveSet {
        &self.0.live
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whether a client may use a server with these certificates now.
    pub(crate) fn check(&self, chain: &[VerifiedId]) -> Result<(), ServerRefusal> {
        match judge(&self.0.live, chain, self.now()) {
            Err(ServerRefusal::Unknown(_)) if self.0.on_missing_crl == OnMissingCrl::Accept => Ok(()),
            judged => judged,
        }
    }

    /// Registers a connection, if its server is accepted. It is registered first and checked second: a revocation that
    /// the check misses finds the connection.
    fn watch(&self, chain: &[CertificateDer<'static>]) -> Result<Watch, Error> {
        let presented = self.0.paths.of_earlier(chain)?;
        let lapse = self.lapse().child_token();
        let (ids, not_after) = (Arc::clone(&presented.ids), presented.validity.not_after);
        let registration = self.0.live.watch(Arc::clone(&ids), not_after);
        let watch = Watch::new(self.clone(), ids, registration, lapse);
        self.check(&presented.ids).map_err(refused)?;
        // For a resumed session, nothing has checked this yet.
        if self.now() > not_after { Err(CertificateError::Expired.into()) } else { Ok(watch) }
    }

    /// Ends open connections soon after their server's chain has expired, or the CRLs are not current any more. Never
    /// returns.
    async fn watch_age(&self) {
        loop {
            sleep(LOOK).await;
            self.0.live.end_overdue(EndReason::Expired, self.now());
            self.end_if_lapsed();
        }
    }

    /// Ends every open connection if the CRLs are not current any more, because then no server's status is known.
    fn end_if_lapsed(&self) {
        if self.0.on_missing_crl == OnMissingCrl::Refuse && !self.is_current() {
            std::mem::take(&mut *self.lapse()).cancel();
        }
    }

    fn lapse(&self) -> MutexGuard<'_, CancellationToken> {
        // No code panics while it holds the lock.
        self.0.lapse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.0.live.note_lead(self.0.clock.lead());
        self.0.clock.now()
    }
}

impl Judge for ServerStanding {
    fn judge(&self, chain: &VerifiedChain) -> Result<(), Error> {
        self.check(&chain.ids).map_err(refused)
    }
}

/// Checks each certificate separately. If the status of one is unknown, another may still be known to be revoked.
fn judge(live: &LiveSet, chain: &[VerifiedId], now: Timestamp) -> Result<(), ServerRefusal> {
    let mut judged = Ok(());
    for certificate in chain.chunks(1) {
        match live.check(certificate, now) {
            Ok(()) => {}
            Err(refusal @ Refusal::Revoked(_)) => return Err(ServerRefusal::Revoked(refusal)),
            Err(refusal) => judged = judged.and(Err(ServerRefusal::Unknown(refusal))),
        }
    }
    judged
}
