//! The URLs at which an authority publishes its CRLs and its own certificate.
//!
//! It never fetches or serves any of them.

/// Path of the root's CRL.
pub const ROOT_CRL_PATH: &str = "/crl/root.crl";
/// Path of the complete CRL of the issuing CA.
pub const ISSUING_CRL_PATH: &str = "/crl/issuing.crl";
/// Path of the CRL that covers servers only. With it, a client that verifies one server does not have to fetch the CRL
/// of all clients.
pub const SERVERS_CRL_PATH: &str = "/crl/servers.crl";

/// The distribution point of the list of servers, derived from that of the complete CRL. `None` if the complete CRL is
/// not at the path at which our authority publishes it: other CAs have no list of servers.
#[must_use]
pub fn servers_crl_url(crl_url: &str) -> Option<String> {
    crl_url.strip_suffix(ISSUING_CRL_PATH).map(|base| format!("{base}{SERVERS_CRL_PATH}"))
}

/// The URLs of an authority's own certificate and its CRLs. They are written into the certificates that it signs.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The CRL, in DER (RFC 5280 section 4.2.1.13).
    pub crl_url: String,
    /// The delta CRL, in DER. Only the complete CRL contains this URL (RFC 5280 section 5.2.6, `freshestCRL`).
    pub delta_crl_url: Option<String>,
    /// The CRL that covers servers only, in DER. Server certificates have this URL first and that of the complete CRL
    /// second, for relying parties that need everything.
    pub servers_crl_url: Option<String>,
    /// The certificate, in DER (RFC 5280 section 4.2.2.1, `caIssuers`).
    pub certificate_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_servers_is_derived_from_our_complete_list_only() {
        let beside = |url| servers_crl_url(url);
        assert_eq!(beside("http://ca:8480/crl/issuing.crl").as_deref(), Some("http://ca:8480/crl/servers.crl"));
        assert_eq!(beside("http://ca/pki/crl/issuing.crl").as_deref(), Some("http://ca/pki/crl/servers.crl"));
        assert_eq!(beside("http://crl.example/corporate.crl"), None);
    }
}
