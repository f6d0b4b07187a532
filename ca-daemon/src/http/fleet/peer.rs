//! The certificate holder at the other end of a connection, as the handshake has verified it.
//!
//! It never decides what the holder may do.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts as _};
use http::request::Parts;
use mtls::serve::PeerCertificate;
use pki::{certificate::CertificateInfo, profile::Profile, serial::Serial};
use rustls_pki_types::CertificateDer;

use crate::http::{App, HttpError};

/// A certificate that this authority has signed and that is valid now. Whether it is revoked was not looked up.
pub(in crate::http) struct PeerHolder {
    pub(in crate::http) der: CertificateDer<'static>,
    pub(in crate::http) info: CertificateInfo,
    pub(in crate::http) profile: Profile,
    pub(in crate::http) address: SocketAddr,
}

impl PeerHolder {
    /// Reads the certificate of the connection. `missing` is the error if there is none; `check` may refuse its profile.
    pub(in crate::http) async fn read(
        parts: &mut Parts,
        app: &App,
        missing: fn() -> HttpError,
        check: impl FnOnce(&CertificateInfo) -> Result<Profile, HttpError>,
    ) -> Result<Self, HttpError> {
        let presented = parts.extensions.get().and_then(|PeerCertificate(certificate)| certificate.as_ref());
        let der = CertificateDer::from(presented.ok_or_else(missing)?.to_vec());
        let info = CertificateInfo::from_der(&der).map_err(|_| missing())?;
        let profile = check(&info)?;
        // The handshake was a while ago, or resumed from one that was.
        if !info.validity.contains(app.clock.now()) {
            return Err(HttpError::PeerExpired { serial: info.id.serial });
        }
        let address = ConnectInfo::<SocketAddr>::from_request_parts(parts, app).await;
        let ConnectInfo(address) = address.map_err(|_| missing())?;
        Ok(Self { der, info, profile, address })
    }
}

/// Refuses the holder of a revoked certificate.
pub(in crate::http) async fn check_not_revoked(app: &App, serial: Serial) -> Result<(), HttpError> {
    match app.authority.store().revoked_since(&serial).await? {
        Some(at) => Err(HttpError::PeerRevoked { serial, at }),
        None => Ok(()),
    }
}
