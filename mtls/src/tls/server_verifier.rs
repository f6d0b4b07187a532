//! A client's verification of a server's chain: a path to a trusted root, found once for each chain, and then a judge.
//!
//! It never decides whether a server is revoked. A client with CRLs passes a [`Judge`].

use std::{fmt, sync::Arc};

use edge::clock::Clock;
use rustls::{Error, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};

use super::{
    validation::PathValidator,
    verified_chain::VerifiedChain,
    verified_chains::{Chain, NoPath, VerifiedChains},
    verifier::CheckServer,
};

/// Decides whether the client may connect to a server with a verified chain.
pub(crate) trait Judge: fmt::Debug + Send + Sync {
    /// The error is the one that ends the handshake.
    fn judge(&self, chain: &VerifiedChain) -> Result<(), Error>;
}

/// Accepts servers whose certificate chains to a trusted root, has the expected name, is for servers, and is valid now.
/// If there is a judge, it must accept the chain as well.
#[derive(Debug)]
pub(crate) struct KnownRoots {
    chains: Arc<VerifiedChains>,
    judge: Option<Arc<dyn Judge>>,
}

impl KnownRoots {
    /// Without a judge: revocation is not checked.
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock) -> Self {
        Self { chains: Arc::new(VerifiedChains::new(PathValidator::of_servers(roots), clock)), judge: None }
    }

    /// With the trust anchors of these chains, and the judge.
    pub(crate) fn judged(chains: Arc<VerifiedChains>, judge: Arc<dyn Judge>) -> Self {
        Self { chains, judge: Some(judge) }
    }
}

impl CheckServer for KnownRoots {
    fn check(&self, chain: Chain<'_>, _: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let check = |verified: &VerifiedChain| self.judge.as_ref().map_or(Ok(()), |judge| judge.judge(verified));
        match self.chains.find(chain, now, check) {
            Ok(_) => Ok(()),
            Err(NoPath::Invalid(error) | NoPath::Refused { why: error, .. }) => Err(error),
        }
    }
}
