//! Finds the constraints in an authority's certificate by which path validation will refuse clients.
//!
//! It never validates a path. It reports in advance what webpki will refuse.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A constraint in an authority's certificate that path validation refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Name constraints of a kind that webpki cannot compare.
    #[error("name constraints on {0}: no certificate that has such a name")]
    Names(&'static str),
    /// A critical extension that webpki does not support.
    #[error("the critical extension {0}, which is not understood: no certificate")]
    Extension(String),
    /// An extended key usage that does not include client certificates.
    #[error("an extended key usage without clientAuth (anyExtendedKeyUsage is not enough): no certificate of a client")]
    Usage,
}

/// The constraints in this authority's certificate that will be refused. In a root, only name constraints count (RFC
/// 5280 section 6.1.1 (d)).
#[must_use]
pub fn unusable(authority: &[u8], is_root: bool) -> Vec<Unusable> {
    let Ok((_, authority)) = X509Certificate::from_der(authority) else { return Vec::new() };
    let mut found = Vec::new();
    if let Ok(Some(constraints)) = authority.name_constraints() {
        let subtrees = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
        for subtree in subtrees.into_iter().flatten().flatten() {
            let kind = match subtree.base {
                GeneralName::DNSName(_) | GeneralName::IPAddress(_) => continue,
                GeneralName::URI(_) => "URIs",
                GeneralName::RFC822Name(_) => "mail addresses",
                GeneralName::DirectoryName(_) => "directory names",
                _ => "other names",
            };
            if !found.contains(&Unusable::Names(kind)) {
                found.push(Unusable::Names(kind));
            }
        }
    }
    if is_root {
        return found;
    }
    for extension in authority.extensions().iter().filter(|extension| extension.critical) {
        let name = match extension.oid.to_id_string().as_str() {
            // keyUsage, subjectAltName, basicConstraints, nameConstraints, cRLDistributionPoints, extKeyUsage
            "2.5.29.15" | "2.5.29.17" | "2.5.29.19" | "2.5.29.30" | "2.5.29.31" | "2.5.29.37" => continue,
            "2.5.29.32" => "certificatePolicies".to_owned(),
            "2.5.29.33" => "policyMappings".to_owned(),
            "2.5.29.36" => "policyConstraints".to_owned(),
            "2.5.29.54" => "inhibitAnyPolicy".to_owned(),
            oid => oid.to_owned(),
        };
        found.push(Unusable::Extension(name));
    }
    if authority.extended_key_usage().is_ok_and(|usage| usage.is_some_and(|usage| !usage.value.client_auth)) {
        found.push(Unusable::Usage);
    }
    found
}
