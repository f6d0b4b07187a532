//! Policy approves orders: it compares the proposals of a request with the grant of a token.
//!
//! It never signs and never reads the store. Only this module makes an [`Approved`] order.

use std::{fmt, time::Duration};

use rcgen::SanType;
use serde::{Deserialize, Serialize};

use crate::{
    certificate::CertificateInfo,
    csr::{CertificateRequest, host_name},
    key::PublicKey,
    name::{CommonName, Host, HostPattern, NameError, NamePattern, Organization, TrustDomain},
    profile::Profile,
};

/// The most hosts in one certificate.
const MAX_HOSTS: usize = 100;

/// Which profiles a token grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileGrant {
    /// Client certificates only.
    Client,
    /// Server certificates only.
    Server,
    /// Both, as the bootstrap token does.
    Any,
}

impl ProfileGrant {
    fn allows(self, profile: Profile) -> bool {
        matches!((self, profile), (Self::Any, _) | (Self::Client, Profile::Client) | (Self::Server, Profile::Server))
    }

    /// `client`, `server` or `any`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for ProfileGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which profiles.
    pub profile: ProfileGrant,
    /// Which common names.
    pub names: NamePattern,
    /// Which hosts a server certificate may carry. None: no server certificate at all.
    pub hosts: Vec<HostPattern>,
}

/// Policy denies the order. The request is readable, but its sender may not have what it proposes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is not for this profile.
    #[error("profile {asked} is not granted by this token; granted: {granted}")]
    Profile {
        /// What was asked for.
        asked: Profile,
        /// What the token is for.
        granted: ProfileGrant,
    },
    /// The common name does not match the token's pattern.
    #[error("name \"{name}\" is not granted by this token; granted: {granted}")]
    Name {
        /// The proposed name.
        name: CommonName,
        /// The token's pattern.
        granted: NamePattern,
    },
    /// A host matches none of the token's patterns.
    #[error("host {host} is not granted by this token; granted: {}", list(granted))]
    Host {
        /// The proposed host.
        host: Host,
        /// The token's patterns.
        granted: Vec<HostPattern>,
    },
    /// Not exactly one common name, or more than one organization.
    #[error("the request's subject has {count} {attribute}; it must have {expected}")]
    Subject {
        /// Which attribute.
        attribute: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        expected: &'static str,
    },
    /// A proposed name is malformed.
    #[error(transparent)]
    Malformed(#[from] NameError),
    /// A server certificate needs at least one host and has a limited number of them.
    #[error("a server certificate carries 1 to {MAX_HOSTS} hosts (DNS names or addresses); the request has {0}")]
    Hosts(usize),
    /// What the certificate says is not what would be certified today.
    #[error("the certificate says what this authority would not certify today ({0}); enroll with a token")]
    NotRenewable(String),
}

fn list(patterns: &[HostPattern]) -> String {
    if patterns.is_empty() {
        return "none".to_owned();
    }
    patterns.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(", ")
}

/// The rules that apply to every token.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Client names are unique in it.
    pub trust_domain: TrustDomain,
}

/// An order that policy has approved: the only thing that the issuer signs.
#[derive(Clone, Debug)]
pub struct Approved {
    pub(crate) profile: Profile,
    pub(crate) subject: CommonName,
    pub(crate) organization: Option<Organization>,
    pub(crate) names: Vec<SanType>,
    pub(crate) public_key: PublicKey,
    pub(crate) lifetime: Duration,
}

impl Approved {
    /// Client or server.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The approved common name.
    #[must_use]
    pub fn subject(&self) -> &CommonName {
        &self.subject
    }

    /// The key that will be certified.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether this certificate carries what was approved and nothing else: the same profile, key, subject and names.
    #[must_use]
    pub fn is_met_by(&self, certificate: &CertificateInfo) -> bool {
        certificate.profile == Some(self.profile)
            && certificate.spki == self.public_key.spki()
            && certificate.common_name.as_deref() == Some(self.subject.as_str())
            && certificate.organization.as_deref() == self.organization.as_ref().map(Organization::as_str)
            && self.has_names_of(certificate)
    }

    fn has_names_of(&self, certificate: &CertificateInfo) -> bool {
        self.names.iter().map(san_text).eq(certificate.names.iter().cloned().map(Some))
    }
}

/// As [`CertificateInfo::names`] has it; none for a kind of name that is never approved.
fn san_text(name: &SanType) -> Option<String> {
    match name {
        SanType::DnsName(text) | SanType::URI(text) => Some(text.to_string()),
        SanType::IpAddress(address) => Some(address.to_string()),
        _ => None,
    }
}

/// An order of an operator on the authority's host. Only its form is checked.
#[derive(Clone, Debug)]
pub struct OperatorOrder {
    /// Client or server.
    pub profile: Profile,
    /// The subject's common name.
    pub subject: CommonName,
    /// The subject's organization.
    pub organization: Option<Organization>,
    /// The hosts of a server certificate; a client's are not used.
    pub hosts: Vec<Host>,
    /// The key to be certified.
    pub public_key: PublicKey,
    /// The lifetime; the issuer's own expiry is the limit.
    pub lifetime: Duration,
}

impl Policy {
    /// Compares a request with the grant of its token.
    pub fn approve(&self, grant: &Grant, profile: Profile, request: CertificateRequest) -> Result<Approved, Denial> {
        if !grant.profile.allows(profile) {
            return Err(Denial::Profile { asked: profile, granted: grant.profile });
        }
        let subject: CommonName = match request.common_names.as_slice() {
            [name] => name.parse()?,
            names => {
                return Err(Denial::Subject { attribute: "common names", count: names.len(), expected: "exactly one" });
            }
        };
        if !grant.names.allows(&subject) {
            return Err(Denial::Name { name: subject, granted: grant.names.clone() });
        }
        let organization = match request.organizations.as_slice() {
            [] => None,
            [name] => Some(name.parse()?),
            names => {
                return Err(Denial::Subject {
                    attribute: "organizations",
                    count: names.len(),
                    expected: "at most one",
                });
            }
        };
        let mut hosts: Vec<Host> = Vec::new();
        if profile == Profile::Server {
            if request.hosts.len() > MAX_HOSTS {
                return Err(Denial::Hosts(request.hosts.len()));
            }
            hosts = request.hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?;
        }
        if let Some(host) = hosts.iter().find(|host| !grant.hosts.iter().any(|pattern| pattern.allows(host))) {
            return Err(Denial::Host { host: host.clone(), granted: grant.hosts.clone() });
        }
        self.by_operator(OperatorOrder {
            profile,
            subject,
            organization,
            hosts,
            public_key: request.public_key,
            lifetime: Profile::LIFETIME,
        })
    }

    /// Approves the authority's own server certificate. Its URI is granted to nobody else, so that no server of the
    /// fleet, not even one on the authority's host, can impersonate the authority.
    pub fn for_authority(&self, order: OperatorOrder) -> Result<Approved, Denial> {
        let uri = self.trust_domain.authority_uri().try_into().expect("a trust domain is checked to be ASCII");
        let mut approved = self.by_operator(order)?;
        approved.names.push(SanType::URI(uri));
        Ok(approved)
    }

    /// Approves the successor of a certificate with this key: the same profile, subject and names, if today's rules
    /// would still approve them.
    pub fn approve_successor(
        &self,
        predecessor: &CertificateInfo,
        public_key: PublicKey,
        lifetime: Duration,
    ) -> Result<Approved, Denial> {
        let not_today = |what: &str| Denial::NotRenewable(what.to_owned());
        let profile = predecessor.profile.ok_or_else(|| not_today("no profile"))?;
        let name = predecessor.common_name.as_deref().ok_or_else(|| not_today("no common name"))?;
        let organization = predecessor.organization.as_deref().map(str::parse).transpose()?;
        let hosts = match profile {
            Profile::Client => Vec::new(),
            // The authority's own certificate has a URI as well, but it is never renewed by a request.
            Profile::Server => predecessor.names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        };
        let subject = name.parse()?;
        let order = OperatorOrder { profile, subject, organization, hosts, public_key, lifetime };
        let approved = self.by_operator(order)?;
        if approved.has_names_of(predecessor) { Ok(approved) } else { Err(not_today("other names")) }
    }

    /// Approves an operator's order. The names follow from the profile: a client is named by a URI in the trust domain,
    /// because a client's name need not be a DNS name; a server is named by its hosts.
    pub fn by_operator(&self, order: OperatorOrder) -> Result<Approved, Denial> {
        let names = match order.profile {
            Profile::Client => vec![self.trust_domain.client_uri(&order.subject).try_into().map(SanType::URI)],
            Profile::Server if (1..=MAX_HOSTS).contains(&order.hosts.len()) => {
                let mut hosts: Vec<&Host> = Vec::new();
                for host in &order.hosts {
                    if !hosts.contains(&host) {
                        hosts.push(host);
                    }
                }
                hosts.into_iter().map(host_name).collect()
            }
            Profile::Server => return Err(Denial::Hosts(order.hosts.len())),
        };
        Ok(Approved {
            profile: order.profile,
            subject: order.subject,
            organization: order.organization,
            names: names.into_iter().collect::<Result<_, _>>().expect("names and hosts are checked to be ASCII"),
            public_key: order.public_key,
            lifetime: order.lifetime,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPair;

    fn grant(profile: ProfileGrant, names: &str, hosts: &[&str]) -> Grant {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Grant { profile, names: names.parse().unwrap(), hosts }
    }

    fn request(common_names: &[&str], organizations: &[&str], hosts: &[&str]) -> CertificateRequest {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CertificateRequest {
            public_key: PublicKey::from_spki(&KeyPair::generate().unwrap().spki()).unwrap(),
            common_names: texts(common_names),
            organizations: texts(organizations),
            hosts: texts(hosts),
        }
    }

    fn approve(grant: &Grant, profile: Profile, request: CertificateRequest) -> Result<Approved, Denial> {
        Policy { trust_domain: "fleet.example".parse().unwrap() }.approve(grant, profile, request)
    }

    /// The one line that whoever asked is answered.
    fn denial(grant: &Grant, profile: Profile, request: CertificateRequest) -> String {
        approve(grant, profile, request).unwrap_err().to_string()
    }

    #[test]
    fn a_client_is_named_by_its_uri_and_by_nothing_that_it_asks_for() {
        let approved = approve(
            &grant(ProfileGrant::Client, "*", &[]),
            Profile::Client,
            request(&["c_1"], &["Org"], &["a.example"]),
        )
        .unwrap();
        assert_eq!(approved.names, [SanType::URI("spiffe://fleet.example/client/c_1".try_into().unwrap())]);
        assert_eq!((approved.profile(), approved.subject().as_str()), (Profile::Client, "c_1"));
        assert_eq!(approved.organization.unwrap().as_str(), "Org");
        assert_eq!(approved.lifetime, Profile::LIFETIME);
    }

    #[test]
    fn a_server_is_named_by_the_hosts_that_its_token_grants() {
        let approved = approve(
            &grant(ProfileGrant::Any, "web-*", &["*.edge.fleet", "10.0.0.0/8"]),
            Profile::Server,
            request(&["web-1"], &[], &["A.edge.fleet", "10.1.2.3"]),
        );
        let names =
            [SanType::DnsName("a.edge.fleet".try_into().unwrap()), SanType::IpAddress("10.1.2.3".parse().unwrap())];
        assert_eq!(approved.unwrap().names, names);
    }

    #[test]
    fn a_host_is_named_once_however_often_it_is_asked_for() {
        let names = |hosts: &[&str]| {
            let grant = grant(ProfileGrant::Any, "*", &["10.0.0.0/8", "a.example"]);
            approve(&grant, Profile::Server, request(&["a"], &[], hosts)).map(|approved| approved.names)
        };
        let ten = SanType::IpAddress("10.0.0.1".parse().unwrap());
        assert_eq!(
            names(&["10.0.0.1", "a.example", "::ffff:10.0.0.1", "A.example", "10.0.0.1"]),
            Ok(vec![ten, SanType::DnsName("a.example".try_into().unwrap())])
        );
        assert!(names(&["::ffff:11.0.0.1"]).is_err());
    }

    #[test]
    fn every_denial_says_what_was_asked_and_what_is_allowed() {
        let bootstrap = grant(ProfileGrant::Any, "*", &["*"]);
        let client_only = grant(ProfileGrant::Client, "*", &["*"]);
        let server_only = grant(ProfileGrant::Server, "*", &["*"]);
        let edge = grant(ProfileGrant::Any, "web-*", &["*.edge.fleet", "10.0.0.0/8"]);
        let hostless = grant(ProfileGrant::Any, "*", &[]);
        let (client, server) = (Profile::Client, Profile::Server);

        let table = [
            (
                &client_only,
                server,
                request(&["a"], &[], &["a.example"]),
                "profile server is not granted by this token; granted: client",
            ),
            (
                &server_only,
                client,
                request(&["a"], &[], &[]),
                "profile client is not granted by this token; granted: server",
            ),
            (&edge, client, request(&["db-7"], &[], &[]), "name \"db-7\" is not granted by this token; granted: web-*"),
            (
                &edge,
                server,
                request(&["web-1"], &[], &["a.edge.fleet", "db.fleet"]),
                "host db.fleet is not granted by this token; granted: *.edge.fleet, 10.0.0.0/8",
            ),
            (
                &edge,
                server,
                request(&["web-1"], &[], &["192.0.2.1"]),
                "host 192.0.2.1 is not granted by this token; granted: *.edge.fleet, 10.0.0.0/8",
            ),
            (
                &hostless,
                server,
                request(&["a"], &[], &["a.example"]),
                "host a.example is not granted by this token; granted: none",
            ),
            (
                &bootstrap,
                client,
                request(&[], &[], &[]),
                "the request's subject has 0 common names; it must have exactly one",
            ),
            (
                &bootstrap,
                client,
                request(&["a", "b"], &[], &[]),
                "the request's subject has 2 common names; it must have exactly one",
            ),
            (
                &bootstrap,
                client,
                request(&["a"], &["x", "y"], &[]),
                "the request's subject has 2 organizations; it must have at most one",
            ),
            (
                &bootstrap,
                server,
                request(&["a"], &[], &[]),
                "a server certificate carries 1 to 100 hosts (DNS names or addresses); the request has 0",
            ),
            (
                &bootstrap,
                server,
                request(&["a"], &[], &["a.example"; 101]),
                "a server certificate carries 1 to 100 hosts (DNS names or addresses); the request has 101",
            ),
        ];
        for (grant, profile, request, expected) in table {
            assert_eq!(denial(grant, profile, request), expected);
        }
    }

    #[test]
    fn names_are_judged_before_they_are_compared() {
        let bootstrap = grant(ProfileGrant::Any, "*", &["*"]);
        for bad in ["", "*", "a\nb", "\u{e9}", "mail@example.org", &"x".repeat(300)] {
            let result = approve(&bootstrap, Profile::Client, request(&[bad], &[], &[]));
            assert!(matches!(result, Err(Denial::Malformed(_))), "{bad:?}");
        }
        for bad in ["*.example", "a_b", "example.org."] {
            let result = approve(&bootstrap, Profile::Server, request(&["a"], &[], &[bad]));
            assert!(matches!(result, Err(Denial::Malformed(_))), "{bad:?}");
        }
        let result = approve(&bootstrap, Profile::Client, request(&["a"], &["x\0y"], &[]));
        assert!(matches!(result, Err(Denial::Malformed(_))));
    }
}
