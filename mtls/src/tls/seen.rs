//! What a verifier saw in the current task's handshake. rustls's errors only contain enough for one alert: why a
//! certificate was refused, but not which one. A log line needs more.
//!
//! It never affects a decision. Outside of an acceptor it is not collected.

use std::{cell::RefCell, sync::Arc};

use pki::certificate::CertificateInfo;

use crate::{revocation::Refusal, tls::verified_chain::VerifiedChain};

tokio::task_local! {
    /// Of the handshake that this task drives.
    pub(crate) static SEEN: RefCell<Seen>;
}

/// What a verifier saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The client's certificate, verified or not.
    pub(crate) client: Option<Arc<CertificateInfo>>,
    /// The verified path, if there is one and the client may be admitted.
    pub(crate) presented: Option<Arc<VerifiedChain>>,
    pub(crate) refusal: Option<Refusal>,
    /// Why there is no path, if the error has less.
    pub(crate) why: Option<String>,
    /// The certificate is valid, but the peer did not sign the handshake with its key.
    pub(crate) is_without_key: bool,
}

/// Records something, if the current task collects it.
pub(crate) fn note(change: impl FnOnce(&mut Seen)) {
    let _ = SEEN.try_with(|seen| change(&mut seen.borrow_mut()));
}
