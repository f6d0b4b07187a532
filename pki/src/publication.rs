//! Where an authority publishes its CRLs and its own certificate.
//!
//! It never fetches or serves any of them.

/// Where an authority publishes, below its CRL URL, the list of its root.
pub const ROOT_CRL_PATH: &str = "/crl/root.crl";
/// Where it publishes, below its CRL URL, the list of everything that its issuing CA has revoked.
pub const ISSUING_CRL_PATH: &str = "/crl/issuing.crl";
/// Where it publishes the list that covers servers only. A client that wants to know about one server does not have to
/// fetch the list of all clients.
pub const SERVERS_CRL_PATH: &str = "/crl/servers.crl";

/// The distribution point of the list that covers servers only, beside that of the complete list. None where the
/// complete list does not lie where our authority publishes it: another CA has no such list.
#[must_use]
pub fn servers_crl_url(crl_url: &str) -> Option<String> {
    crl_url.strip_suffix(ISSUING_CRL_PATH).map(|base| format!("{base}{SERVERS_CRL_PATH}"))
}

/// Where an authority's own certificate and its CRLs can be fetched; what it signs says so.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The CRL, in DER (RFC 5280 section 4.2.1.13).
    pub crl_url: String,
    /// The delta CRL, in DER; it goes into the complete CRL (RFC 5280 section 5.2.6, `freshestCRL`) and nowhere else.
    pub delta_crl_url: Option<String>,
    /// The CRL that covers servers only, in DER. Servers' certificates name it first, and the complete one second, for
    /// whoever asks for everything.
    pub servers_crl_url: Option<String>,
    /// The certificate, in DER (RFC 5280 section 4.2.2.1, `caIssuers`).
    pub certificate_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_authoritys_complete_list_has_one_for_servers_beside_it() {
        let beside = |url| servers_crl_url(url);
        assert_eq!(beside("http://ca:8480/crl/issuing.crl").as_deref(), Some("http://ca:8480/crl/servers.crl"));
        assert_eq!(beside("http://ca/pki/crl/issuing.crl").as_deref(), Some("http://ca/pki/crl/servers.crl"));
        assert_eq!(beside("http://crl.example/corporate.crl"), None);
    }
}
