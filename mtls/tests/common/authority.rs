//! A test authority with both levels, made with `pki`. It signs whatever a test needs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mtls::tls::Identity;
use pki::{
    certificate::{CertificateInfo, Fingerprint, IssuerId, VerifiedId},
    crl::{CrlDraft, CrlIssuer, CrlNumber, DeltaDraft, RevocationReason, RevokedEntry, servers_crl_url},
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::{KeyPair, PublicKey},
    name::Host,
    policy::{Approved, OperatorOrder, Policy},
    profile::Profile,
    serial::Serial,
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
pub(crate) use testkit::authority::{copy, serial};
use testkit::signed;

use super::{DAY, start};

/// Unique serial numbers across all authorities of this process.
static SERIALS: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Authority {
    pub(crate) root: CertificateAuthority,
    pub(crate) issuing: CertificateAuthority,
    /// Copies of the keys, because the signer does not return its key.
    pub(crate) root_key: KeyPair,
    pub(crate) issuing_key: KeyPair,
    /// When it signs.
    now: Timestamp,
}

/// The parameters of an authority.
#[derive(Clone, Copy)]
pub(crate) struct Founding<'a> {
    pub(crate) name: &'a str,
    /// The URL that is the base of its CRLs: `/root.crl` and `/issuing.crl`. If it ends in `/crl`, servers'
    /// certificates name `/servers.crl` as well.
    pub(crate) base: &'a str,
    /// Whether its CRL names deltas at `/issuing-delta.crl`.
    pub(crate) has_delta: bool,
    /// When it signs everything.
    pub(crate) now: Timestamp,
}

impl Default for Founding<'_> {
    fn default() -> Self {
        // Nothing listens there.
        Self { name: "Fleet", base: "http://127.0.0.1:1/crl", has_delta: false, now: start() }
    }
}

/// A certificate with the one above it, and its key.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
    pub(crate) info: CertificateInfo,
}

impl Authority {
    /// An authority with CRL URLs at which nothing listens.
    pub(crate) fn new() -> Self {
        Self::found(Founding::default())
    }

    pub(crate) fn named(name: &str, base: &str) -> Self {
        Self::found(Founding { name, base, ..Founding::default() })
    }

    pub(crate) fn found(founding: Founding<'_>) -> Self {
        let Founding { name, base, has_delta, now } = founding;
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: name.parse().unwrap() };
        let publication = |file| Publication {
            crl_url: format!("{base}/{file}.crl"),
            certificate_url: format!("{base}/{file}.crt"),
            servers_crl_url: servers_crl_url(&format!("{base}/{file}.crl")),
            delta_crl_url: (has_delta && file == "issuing").then(|| format!("{base}/{file}-delta.crl")),
        };
        // Long ago, so that certificates may have expired by now.
        let founded = now.minus(DAY * 100);
        let (root_key, issuing_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root =
            CertificateAuthority::new_root(&subject, copy(&root_key), next_serial(), founded, publication("root"));
        let root = root.unwrap();
        let issuing =
            root.new_issuing(&subject, copy(&issuing_key), next_serial(), founded, publication("issuing")).unwrap();
        Self { root, issuing, root_key, issuing_key, now }
    }

    /// A client's certificate, valid for 30 days.
    pub(crate) fn client(&self, name: &str) -> Issued {
        self.client_from(name, self.now, DAY * 30)
    }

    pub(crate) fn client_from(&self, name: &str, from: Timestamp, lifetime: Duration) -> Issued {
        self.sign(Profile::Client, name, Vec::new(), from, lifetime)
    }

    /// A server's certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self, name: &str) -> Issued {
        self.server_for(name, Host::local())
    }

    pub(crate) fn server_for(&self, name: &str, hosts: Vec<Host>) -> Issued {
        self.sign(Profile::Server, name, hosts, self.now, DAY * 60)
    }

    /// A server's certificate that is valid for this long.
    pub(crate) fn server_of(&self, name: &str, lifetime: Duration) -> Issued {
        self.sign(Profile::Server, name, Host::local(), self.now, lifetime)
    }

    /// The authority's own server certificate.
    pub(crate) fn own(&self) -> Issued {
        let key = KeyPair::generate().unwrap();
        let public_key = PublicKey::from_spki(&key.spki()).unwrap();
        let order = OperatorOrder {
            profile: Profile::Server,
            subject: "localhost".parse().unwrap(),
            organization: None,
            hosts: Host::local(),
            public_key,
            lifetime: DAY * 60,
        };
        self.finish(&policy().for_authority(order).unwrap(), key, self.now)
    }

    fn sign(&self, profile: Profile, name: &str, hosts: Vec<Host>, from: Timestamp, lifetime: Duration) -> Issued {
        let key = KeyPair::generate().unwrap();
        let public_key = PublicKey::from_spki(&key.spki()).unwrap();
        let order = order(profile, name, hosts, public_key, lifetime);
        self.finish(&order, key, from)
    }

    fn finish(&self, order: &Approved, key: KeyPair, from: Timestamp) -> Issued {
        let issued = self.issuing.issue(order, next_serial(), from).unwrap();
        Issued { chain: vec![issued.der, self.issuing.certificate().clone()], key, info: issued.info }
    }

    /// The issuing CA's CRL, valid for a day.
    pub(crate) fn crl(&self, number: i64, revoked: &[&Issued]) -> Vec<u8> {
        self.crl_between(number, self.now, self.now.plus(DAY), revoked)
    }

    /// A delta to the issuing CA's CRL number `base`, valid for a day.
    pub(crate) fn delta(&self, number: i64, base: i64, revoked: &[&Issued]) -> Vec<u8> {
        self.delta_between(number, base, self.now, self.now.plus(DAY), revoked)
    }

    pub(crate) fn delta_between(
        &self,
        number: i64,
        base: i64,
        this_update: Timestamp,
        next_update: Timestamp,
        revoked: &[&Issued],
    ) -> Vec<u8> {
        let draft = DeltaDraft {
            number: CrlNumber::new(number).unwrap(),
            base: CrlNumber::new(base).unwrap(),
            this_update,
            next_update,
            revoked: revoked.iter().map(|issued| entry(issued.info.id.serial, this_update)).collect::<Vec<_>>(),
        };
        self.issuing.sign_delta(&draft).unwrap()
    }

    pub(crate) fn crl_between(
        &self,
        number: i64,
        this_update: Timestamp,
        next_update: Timestamp,
        revoked: &[&Issued],
    ) -> Vec<u8> {
        let serials: Vec<_> = revoked.iter().map(|issued| issued.info.id.serial).collect();
        sign_crl(&self.issuing, number, this_update, next_update, &serials)
    }

    /// The issuing CA's list of servers, valid for a day.
    pub(crate) fn servers_crl(&self, number: i64, revoked: &[&Issued]) -> Vec<u8> {
        self.servers_crl_between(number, self.now, self.now.plus(DAY), revoked)
    }

    pub(crate) fn servers_crl_between(
        &self,
        number: i64,
        this_update: Timestamp,
        next_update: Timestamp,
        revoked: &[&Issued],
    ) -> Vec<u8> {
        let revoked = revoked.iter().map(|issued| entry(issued.info.id.serial, this_update)).collect::<Vec<_>>();
        let draft = CrlDraft { number: CrlNumber::new(number).unwrap(), this_update, next_update, revoked };
        self.issuing.sign_servers_crl(&draft).unwrap()
    }

    /// The root's CRL, valid for 30 days.
    pub(crate) fn root_crl(&self, number: i64, revoked: &[Serial]) -> Vec<u8> {
        self.root_crl_between(number, self.now, self.now.plus(DAY * 30), revoked)
    }

    pub(crate) fn root_crl_between(
        &self,
        number: i64,
        this_update: Timestamp,
        next_update: Timestamp,
        revoked: &[Serial],
    ) -> Vec<u8> {
        sign_crl(&self.root, number, this_update, next_update, revoked)
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.root.certificate())
    }

    /// The issuing CA's identity on a verified path.
    pub(crate) fn issuing_id(&self) -> VerifiedId {
        VerifiedId { issuer: IssuerId::of(self.root.info()), serial: self.issuing.info().id.serial }
    }

    /// Both levels as issuers of CRLs.
    pub(crate) fn crl_issuers(&self) -> Vec<CrlIssuer> {
        [&self.issuing, &self.root].map(|authority| CrlIssuer::from_certificate(authority.info()).unwrap()).into()
    }
}

/// Changes the fields of a signed CRL or certificate, and signs it again. The fields of a CRL are: version, algorithm,
/// issuer, thisUpdate, nextUpdate, entries (if there are any) and extensions.
pub(crate) fn altered(authority: &Authority, crl: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut fields = elements(contents(elements(contents(crl))[0]));
    let mut fields: Vec<_> = fields.drain(..).map(<[u8]>::to_vec).collect();
    change(&mut fields);
    signed::sign(&signed::element(signed::SEQUENCE, &fields.concat()), &authority.issuing_key)
}

/// The issuing CA's certificate with this notAfter, signed again by the root with the same key and name.
pub(crate) fn issuing_until(authority: &Authority, not_after: Timestamp) -> CertificateDer<'static> {
    let mut fields = elements(contents(elements(contents(authority.issuing.certificate()))[0]));
    let mut fields: Vec<_> = fields.drain(..).map(<[u8]>::to_vec).collect();
    // Version, serial number, algorithm and issuer precede it (RFC 5280 section 4.1).
    let validity = elements(contents(&fields[4]));
    let digits: String = not_after.to_rfc3339().chars().filter(char::is_ascii_digit).collect();
    let not_after = signed::element(0x17, format!("{}Z", &digits[2..]).as_bytes());
    fields[4] = signed::element(signed::SEQUENCE, &[validity[0], &not_after].concat());
    signed::sign(&signed::element(signed::SEQUENCE, &fields.concat()), &authority.root_key).into()
}

/// Inserts an extension of id-ce (2.5.29) before the others. `list` is `[0] Extensions` or an entry.
pub(crate) fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    let identifier = [0x06, 0x03, 0x55, 0x1d, id];
    signed::element(signed::SEQUENCE, &[&identifier, critical, &signed::element(0x04, value)].concat())
}

/// Adds an extension to a CRL's `[0] Extensions`.
pub(crate) fn add_extension(fields: &mut [Vec<u8>], extension: &[u8]) {
    let extensions = fields.last_mut().unwrap();
    let list = [contents(contents(extensions)), extension].concat();
    *extensions = signed::element(0xa0, &signed::element(signed::SEQUENCE, &list));
}

/// Adds an extension to the first entry of a CRL, which has none.
pub(crate) fn add_entry_extension(fields: &mut [Vec<u8>], extension: &[u8]) {
    let mut entries: Vec<_> = elements(contents(&fields[5])).into_iter().map(<[u8]>::to_vec).collect();
    let extensions = signed::element(signed::SEQUENCE, extension);
    entries[0] = signed::element(signed::SEQUENCE, &[contents(&entries[0]), &extensions].concat());
    fields[5] = signed::element(signed::SEQUENCE, &entries.concat());
}

/// The contents of a DER element.
fn contents(element: &[u8]) -> &[u8] {
    match element[1] {
        length @ ..0x80 => &element[2..2 + usize::from(length)],
        digits => {
            let (digits, rest) = element[2..].split_at(usize::from(digits & 0x7f));
            &rest[..digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))]
        }
    }
}

/// The consecutive DER elements.
fn elements(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let contents = contents(bytes);
        let header = contents.as_ptr() as usize - bytes.as_ptr() as usize;
        let (element, rest) = bytes.split_at(header + contents.len());
        elements.push(element);
        bytes = rest;
    }
    elements
}

impl Issued {
    /// With the root appended, as the authority itself presents its chain.
    pub(crate) fn with_root(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.root.certificate().clone());
        self
    }

    /// Its identity on a verified path.
    pub(crate) fn id(&self) -> VerifiedId {
        let issuer = IssuerId::of(&CertificateInfo::from_der(&self.chain[1]).unwrap());
        VerifiedId { issuer, serial: self.info.id.serial }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.chain.clone(), copy(&self.key)).unwrap()
    }
}

pub(crate) fn sign_crl(
    authority: &CertificateAuthority,
    number: i64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: &[Serial],
) -> Vec<u8> {
    let draft = CrlDraft {
        number: CrlNumber::new(number).unwrap(),
        this_update,
        next_update,
        revoked: revoked.iter().map(|serial| entry(*serial, this_update)).collect::<Vec<_>>(),
    };
    authority.sign_crl(&draft).unwrap()
}

fn entry(serial: Serial, revoked_at: Timestamp) -> RevokedEntry {
    RevokedEntry { serial, revoked_at, reason: RevocationReason::default() }
}

pub(crate) fn order(
    profile: Profile,
    name: &str,
    hosts: Vec<Host>,
    public_key: PublicKey,
    lifetime: Duration,
) -> Approved {
    let subject = name.parse().unwrap();
    policy().by_operator(OperatorOrder { profile, subject, organization: None, hosts, public_key, lifetime }).unwrap()
}

fn policy() -> Policy {
    Policy { trust_domain: "fleet.example".parse().unwrap() }
}

pub(crate) fn next_serial() -> Serial {
    serial(SERIALS.fetch_add(1, Ordering::Relaxed))
}
