//! Whether the servers that a client talks to are revoked: a live set of the client's own, its lists, and the connections that end
//! when one of them revokes their server.
//!
//! It never judges a list, and never decides who is revoked; [`LiveSet`] does.

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

/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to a server of which no current CRL says anything. One that is revoked is refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingCrl {
    /// It is refused: whether it was revoked is not known.
    #[default]
    Refuse,
    /// It is talked to all the same, for where no CRL can be fetched: a server that was revoked then still passes.
    Accept,
}

/// What may be chosen about a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// The HTTPS address of the authority that the client enrolled with, if it is known: the lists are fetched there. Otherwise they
    /// are fetched where the certificates say.
    pub authority: Option<Url>,
    /// Where the last good lists are kept; made if it is not there.
    pub crl_directory: PathBuf,
    /// How often the lists are asked for while the client runs.
    pub crl_refresh: Duration,
    /// What happens to a server of which no current list says anything.
    pub on_missing_crl: OnMissingCrl,
    /// What time it is.
    pub clock: Clock,
}

impl Options {
    /// What most clients want: lists from where the certificates say, asked for every ten seconds and kept in this directory; a server
    /// of which nothing is known is refused.
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

/// Why a server is not talked to, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerRefusal {
    /// Its certificate, or that of a CA above it, is revoked.
    #[error("the server is revoked: {0}")]
    Revoked(Refusal),
    /// No current list says whether it is revoked.
    #[error("whether the server is revoked is not known: {0}")]
    Unknown(Refusal),
}

impl ServerRefusal {
    /// The refusal that an error is about, if it is one: of a handshake, or of a connection that has ended.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Self> {
        find(error).or_else(|| refusal(error)?.downcast_ref())
    }
}

/// The standing of servers, as one client knows it; clones share it.
#[derive(Clone, Debug)]
pub struct ServerStanding(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    live: LiveSet,
    on_missing_crl: OnMissingCrl,
    clock: Clock,
    /// Those of the verifier, too.
    paths: Arc<VerifiedChains>,
    /// Ends the open connections when the lists are not current any more.
    lapse: Mutex<CancellationToken>,
}

impl ServerStanding {
    /// For a client with this identity: its own chain says which authorities there are. The lists that were in force when a client
    /// last ran with this directory are in force again on return, if they can be believed.
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

    /// A client that presents `identity`, trusts servers beneath the root of this standing, and asks about each of them in the handshake.
    /// TLS sessions are forgotten when somebody is revoked. Connections that stay open need [`Self::connector`] as well, and so do those
    /// that resume a session.
    pub fn tls(&self, identity: &Identity) -> Result<ClientConfig, IdentityError> {
        let mut tls = connecting::judging(identity, &self.0.clock, Arc::clone(&self.0.paths), Arc::new(self.clone()))?;
        tls.resumption = Resumption::store(Arc::new(ClientSessions::new(self.0.live.clone())));
        Ok(tls)
    }

    /// Makes the connections of this connector end when their server is revoked, and asks about those that resume a session.
    pub fn connector<C>(&self, connector: C) -> WatchedConnector<C> {
        WatchedConnector::new(connector, self.clone())
    }

    /// Whether every list is here and current.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.live.ready(self.now()).is_ok()
    }

    /// What is revoked at this moment, as far as servers and CAs go.
    #[must_use]
    pub fn live_set(&self) -> &LiveSet {
        &self.0.live
    }

    /// Whether a server with these certificates may be talked to at this moment.
    pub(crate) fn check(&self, chain: &[VerifiedId]) -> Result<(), ServerRefusal> {
        match judge(&self.0.live, chain, self.now()) {
            Err(ServerRefusal::Unknown(_)) if self.0.on_missing_crl == OnMissingCrl::Accept => Ok(()),
            judged => judged,
        }
    }

    /// Puts a connection under the standing, if its server may be talked to. Under it first and asked second, so that whichever
    /// revocation the question misses finds the connection.
    fn watch(&self, chain: &[CertificateDer<'static>]) -> Result<Watch, Error> {
        let presented = self.0.paths.of_earlier(chain)?;
        let lapse = self.lapse().child_token();
        let (ids, not_after) = (Arc::clone(&presented.ids), presented.validity.not_after);
        let registration = self.0.live.watch(Arc::clone(&ids), not_after);
        let watch = Watch::new(self.clone(), ids, registration, lapse);
        self.check(&presented.ids).map_err(refused)?;
        // Nor did anybody ask that of a session that was resumed.
        if self.now() > not_after { Err(CertificateError::Expired.into()) } else { Ok(watch) }
    }

    /// Ends open connections soon after their server's chain has expired, or the lists are not current any more; for ever.
    async fn watch_age(&self) {
        loop {
            sleep(LOOK).await;
            self.0.live.end_overdue(EndReason::Expired, self.now());
            self.end_if_lapsed();
        }
    }

    /// Ends every open connection if the lists are not current any more: then nothing is known of any server.
    fn end_if_lapsed(&self) {
        if self.0.on_missing_crl == OnMissingCrl::Refuse && !self.is_current() {
            std::mem::take(&mut *self.lapse()).cancel();
        }
    }

    fn lapse(&self) -> MutexGuard<'_, CancellationToken> {
        // Nothing in here can panic half-way.
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

/// What a live set says of a server with these certificates. Each is asked about by itself: where nothing is known of one of them,
/// another one may be revoked all the same.
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
