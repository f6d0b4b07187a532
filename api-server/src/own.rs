//! The service's own certificate, as far as operators ask about it.
//!
//! It never renews it: `mtls` does.

use mtls::tls::ServerIdentity;
use pki::time::Timestamp;

/// The certificate that the service presents, which is another one after a renewal.
#[derive(Clone, Debug)]
pub(crate) enum OwnCertificate {
    Presented(ServerIdentity),
    #[cfg(test)]
    Until(Timestamp),
}

impl OwnCertificate {
    pub(crate) fn not_after(&self) -> Timestamp {
        match self {
            Self::Presented(identity) => identity.validity().not_after,
            #[cfg(test)]
            Self::Until(end) => *end,
        }
    }
}
