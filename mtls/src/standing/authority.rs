//! The standing of the authority itself, which is asked over connections to itself: it can say nothing wrong, as what it says is
//! signed, but a stolen certificate of it must not collect tokens, nor keep revocations away.
//!
//! It never refuses an authority of which nothing is known yet where that brings the lists.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edge::clock::Clock;
use pki::certificate::{Fingerprint, VerifiedId};
use rustls::{Error, RootCertStore};
use rustls_pki_types::CertificateDer;
use url::Url;

use super::{
    ServerRefusal, judge,
    lists::{self, List, RefreshError},
};
use crate::{
    connect::contact::Contact,
    errors::refused,
    revocation::{ListFiles, LiveSet},
    tls::{
        clock::unix_time,
        identity::IdentityError,
        issuers::{ChainError, ChainIssuer, issuers},
        server_verifier::Judge,
        validation::PathValidator,
        verified_chain::VerifiedChain,
    },
};

/// The authority at the other end of a connection, and the live set that is asked about it; clones share both.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityStanding {
    live: LiveSet,
    clock: Clock,
    /// What it presented last.
    chain: Arc<Mutex<Arc<[VerifiedId]>>>,
}

impl AuthorityStanding {
    pub(crate) fn new(live: LiveSet, clock: Clock) -> Self {
        Self { live, clock, chain: Arc::new(Mutex::new(Arc::default())) }
    }

    /// Whether the authority that was talked to last is revoked by now.
    pub(crate) fn check(&self) -> Result<(), ServerRefusal> {
        let chain = Arc::clone(&self.lock());
        match judge(&self.live, &chain, self.clock.now()) {
            Err(ServerRefusal::Unknown(_)) => Ok(()),
            judged => judged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[VerifiedId]>> {
        // Nothing in here can panic half-way.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judge for AuthorityStanding {
    /// Passes where there is no list yet, or a stale one: nothing else would bring it.
    fn judge(&self, chain: &VerifiedChain) -> Result<(), Error> {
        *self.lock() = Arc::clone(&chain.ids);
        self.check().map_err(refused)
    }
}

/// Why an authority that is met for the first time is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FirstContactError {
    /// Its lists are not to be had, or not to be believed.
    #[error(transparent)]
    Lists(#[from] RefreshError),
    /// They say that it is revoked, or nothing of it.
    #[error(transparent)]
    Refused(#[from] ServerRefusal),
    /// Its chain is not one that lists can be asked for.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Whose lists a machine keeps, from earlier runs and for later ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeptLists<'a> {
    /// A client's in this directory, which are those that servers are judged by.
    OfClient(&'a Path),
    /// A service's in this directory, which are the complete ones; they say more, and nobody else writes them.
    OfService(&'a Path),
}

/// Fetches the lists that cover the authority at the other end of this connection over this same connection, and judges it by them:
/// they are signed by the chain that leads to its root, which is known. Whoever is at the other end may have older lists that are still
/// current, so what was known here before counts as well.
pub(crate) async fn first_contact(
    contact: &mut Contact,
    root: Fingerprint,
    url: &Url,
    kept: KeptLists<'_>,
    clock: &Clock,
) -> Result<(), FirstContactError> {
    let chain = contact.chain().to_vec();
    let is_root = |certificate: &&CertificateDer<'_>| Fingerprint::of(certificate) == root;
    let root =
        chain.iter().find(is_root).ok_or_else(|| ChainError::from(IdentityError::MissingIssuer(root.to_string())))?;
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).map_err(ChainError::from)?;
    let (own, above) = chain.split_first().ok_or(Error::NoCertificatesPresented).map_err(ChainError::from)?;
    let now = unix_time(clock).map_err(ChainError::from)?;
    let presented = PathValidator::of_servers(Arc::new(roots)).validate(own, above, now, |_| true);
    let presented = presented.map_err(ChainError::from)?;

    let issuers = issuers(&chain, root)?;
    let directory = match kept {
        KeptLists::OfClient(directory) => Some(directory),
        KeptLists::OfService(directory) => {
            let known = complete_lists(&issuers, directory);
            if let Err(revoked @ ServerRefusal::Revoked(_)) = judge(&known, &presented.ids, clock.now()) {
                return Err(revoked.into());
            }
            None
        }
    };
    let issuers = lists::scoped(issuers)?;
    let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect());
    let mut refreshed = Ok(());
    for issuer in &issuers {
        let mut list = List::new(&live, issuer, directory)?.at_authority(Some(url)).restored();
        let asked = list.refresh(contact, clock.now()).await;
        refreshed = refreshed.and(asked);
    }
    match judge(&live, &presented.ids, clock.now()) {
        // Whatever could not be asked besides: it is known.
        Err(revoked @ ServerRefusal::Revoked(_)) => Err(revoked.into()),
        judged => {
            refreshed?;
            Ok(judged?)
        }
    }
}

/// What a service that ran with this directory knew of these authorities' certificates. The lists may be stale by now: who is revoked
/// stays revoked.
fn complete_lists(issuers: &[ChainIssuer], directory: &Path) -> LiveSet {
    let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect());
    for issuer in issuers {
        let Ok(location) = issuer.distribution_point() else { continue };
        ListFiles::new(directory, &location).recall(&live.only(&issuer.signs));
    }
    live
}
