//! What a verifier saw in the handshake that a task drives. rustls's errors say why a certificate was refused, not whose it was, and each
//! of them stands for one alert; a log line needs more.
//!
//! Nothing depends on it: outside of an acceptor nobody collects it.

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
    /// The certificate of whoever asks, verified or not.
    pub(crate) client: Option<Arc<CertificateInfo>>,
    /// What is on its verified path, if it has one and may come in.
    pub(crate) presented: Option<Arc<VerifiedChain>>,
    pub(crate) refusal: Option<Refusal>,
    /// Why there is no path, where the error says less.
    pub(crate) why: Option<String>,
    /// The certificate is good, and whoever presents it did not sign the handshake with its key.
    pub(crate) is_without_key: bool,
}

/// Writes something down, if somebody collects it.
pub(crate) fn note(change: impl FnOnce(&mut Seen)) {
    let _ = SEEN.try_with(|seen| change(&mut seen.borrow_mut()));
}
