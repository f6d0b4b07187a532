//! The settings that an authority is founded with: its name, its addresses, and where it publishes.
//!
//! They never contain a key, and never change after the founding.

use std::time::Duration;

use pki::{
    certificate::Fingerprint,
    issuing::Publication,
    name::{AuthorityName, CommonName, Host, Organization, TrustDomain},
};
use url::Url;

use crate::issuer::Issuer;

/// How long a CRL of the root is valid: it covers issuing CAs only, and the root's key may be offline.
const ROOT_CRL_LIFETIME: Duration = Duration::from_hours(24 * 365);

/// The settings of an authority.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) organization: Organization,
    pub(crate) name: AuthorityName,
    /// Where enrollment is served.
    pub(crate) url: Url,
    /// Where CRLs and authority certificates are served.
    pub(crate) crl_url: Url,
    pub(crate) trust_domain: TrustDomain,
    /// The hosts of the authority's own server certificate.
    pub(crate) hosts: Vec<Host>,
    /// From thisUpdate to nextUpdate of the issuing CA's CRLs.
    pub(crate) crl_lifetime: Duration,
    /// The fingerprint of the root.
    pub(crate) root: Fingerprint,
}

impl Settings {
    /// Where this issuer's certificate and CRL are published.
    pub(crate) fn publication(&self, issuer: Issuer) -> Publication {
        publication(&self.crl_url, issuer)
    }

    /// From thisUpdate to nextUpdate.
    pub(crate) fn crl_lifetime(&self, issuer: Issuer) -> Duration {
        match issuer {
            Issuer::Root => ROOT_CRL_LIFETIME,
            Issuer::Issuing => self.crl_lifetime,
        }
    }

    /// The common name of the authority's own server certificate: the host that clients connect to, if it is a valid
    /// name (an IPv6 address is not).
    pub(crate) fn server_name(&self) -> CommonName {
        let host = self.url.host_str().and_then(|host| host.parse().ok());
        host.unwrap_or_else(|| "ca-daemon".parse().expect("letters and a hyphen are a name"))
    }
}

/// As [`Settings::publication`], for an authority that is being founded.
pub(crate) fn publication(crl_url: &Url, issuer: Issuer) -> Publication {
    let base = crl_url.as_str().trim_end_matches('/');
    Publication {
        crl_url: format!("{base}{}", issuer.crl_path()),
        delta_crl_url: issuer.delta_path().map(|path| format!("{base}{path}")),
        servers_crl_url: issuer.servers_path().map(|path| format!("{base}{path}")),
        certificate_url: format!("{base}{}", issuer.certificate_path()),
    }
}
