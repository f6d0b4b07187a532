//! The standing of the authority itself, checked over connections to the authority. Its CRLs are signed, so it cannot
//! forge them. But an impostor with a stolen certificate must not collect tokens, nor hold back revocations.
//!
//! It never refuses an authority whose status is still unknown if the connection fetches the CRLs.

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

/// The authority at the other end of a connection, and the live set that decides about it. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityStanding {
    live: LiveSet,
    clock: Clock,
    /// The chain that it presented last.
    chain: Arc<Mutex<Arc<[VerifiedId]>>>,
}

impl AuthorityStanding {
    pub(crate) fn new(live: LiveSet, clock: Clock) -> Self {
        Self { live, clock, chain: Arc::new(Mutex::new(Arc::default())) }
    }

    /// Whether the authority at the last connection is revoked now.
    pub(crate) fn check(&self) -> Result<(), ServerRefusal> {
        let chain = Arc::clone(&self.lock());
        match judge(&self.live, &chain, self.clock.now()) {
            Err(ServerRefusal::Unknown(_)) => Ok(()),
            judged => judged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[VerifiedId]>> {
        // No code panics while it holds the lock.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judge for AuthorityStanding {
    /// Accepts the authority if there is no CRL yet, or only a stale one: the CRL is fetched over this connection.
    fn judge(&self, chain: &VerifiedChain) -> Result<(), Error> {
        *self.lock() = Arc::clone(&chain.ids);
        self.check().map_err(refused)
    }
}

/// Why an authority is refused at the first contact.
#[derive(Debug, thiserror::Error)]
pub enum FirstContactError {
    /// Its CRLs cannot be fetched, or are refused.
    #[error(transparent)]
    Lists(#[from] RefreshError),
    /// They revoke it, or do not cover it.
    #[error(transparent)]
    Refused(#[from] ServerRefusal),
    /// Its chain has no CRLs that could be fetched.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// The CRLs that this machine has stored in earlier runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeptLists<'a> {
    /// A client's directory, with the CRLs that cover servers.
    OfClient(&'a Path),
    /// A service's directory, with the complete CRLs. They are only read here.
    OfService(&'a Path),
}

/// Fetches the CRLs that cover the authority over the connection to that authority, and checks the authority by them.
/// They are signed by the chain that leads to its root, which is known. An impostor may send older CRLs that are still
/// current, so the CRLs that were stored here before count as well.
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
        // It is known to be revoked, whatever could not be fetched.
        Err(revoked @ ServerRefusal::Revoked(_)) => Err(revoked.into()),
        judged => {
            refreshed?;
            Ok(judged?)
        }
    }
}

/// The stored revocations of a service that ran with this directory. The CRLs may be stale by now, but a revocation is
/// permanent.
fn complete_lists(issuers: &[ChainIssuer], directory: &Path) -> LiveSet {
    let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect());
    for issuer in issuers {
        let Ok(location) = issuer.distribution_point() else { continue };
        ListFiles::new(directory, &location).recall(&live.only(&issuer.signs));
    }
    live
}
