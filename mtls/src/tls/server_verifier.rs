//! What a client asks of a server's chain: that it leads to a trusted root, found once for each chain, and what a judge says of it.
//!
//! It never takes its own word for it that a server is not revoked: who has lists gives it a [`Judge`].

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

/// Says whether a server with a verified chain may be talked to.
pub(crate) trait Judge: fmt::Debug + Send + Sync {
    /// The error is the one that ends the handshake.
    fn judge(&self, chain: &VerifiedChain) -> Result<(), Error>;
}

/// Accepts servers whose certificate chains to a trusted root, bears the name that was asked for, is for servers, is valid now, and where
/// there is a judge, passes it.
#[derive(Debug)]
pub(crate) struct KnownRoots {
    chains: Arc<VerifiedChains>,
    judge: Option<Arc<dyn Judge>>,
}

impl KnownRoots {
    /// Without a judge: whether a server is revoked is not asked.
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock) -> Self {
        Self { chains: Arc::new(VerifiedChains::new(PathValidator::of_servers(roots), clock)), judge: None }
    }

    /// Trusts whom these chains trust, and asks the judge.
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
