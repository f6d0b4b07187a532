//! Selects the presented certificates that can be on a path to a trust anchor. The others are dropped before a path is
//! built, because webpki tries every order of them and parses each again at each step.
//!
//! It never decides that a path is valid. webpki checks times, usages and names.

use std::borrow::Cow;

use pki::certificate::{has_signed, spki_of_anchor};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use webpki::{Cert, EndEntityCert};

/// The most certificates above a peer's own: the longest path that webpki accepts.
pub(crate) const MOST_ABOVE: usize = 6;
/// The most bytes of these together.
pub(crate) const MOST_BYTES_ABOVE: usize = 12 * 1024;
/// The most bytes of a peer's own certificate. It is enough for a server with a hundred names of the greatest length.
pub(crate) const MOST_BYTES: usize = 32 * 1024;

/// The chain is larger than any of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error("{0} certificates were presented above the peer's own; at most {MOST_ABOVE} are looked at")]
    Certificates(usize),
    #[error("the certificates above the peer's own have {0} bytes; at most {MOST_BYTES_ABOVE} are looked at")]
    BytesAbove(usize),
    #[error("the peer's own certificate has {0} bytes; at most {MOST_BYTES} are looked at")]
    Bytes(usize),
}

impl Excess {
    /// Checks the size of a chain. It comes before anything is parsed.
    pub(crate) fn check(end_entity: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Self> {
        if above.len() > MOST_ABOVE {
            return Err(Self::Certificates(above.len()));
        }
        let bytes = above.iter().map(|certificate| certificate.len()).sum();
        if bytes > MOST_BYTES_ABOVE {
            return Err(Self::BytesAbove(bytes));
        }
        if end_entity.len() > MOST_BYTES { Err(Self::Bytes(end_entity.len())) } else { Ok(()) }
    }
}

/// Trust anchors, as issuers.
#[derive(Debug)]
pub(crate) struct Anchors(Vec<Issuer>);

/// A possible issuer: the contents of its name, and its `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Issuer {
    name: Vec<u8>,
    spki: Vec<u8>,
}

impl Issuer {
    fn of(certificate: &Cert<'_>) -> Self {
        Self { name: certificate.subject().to_owned(), spki: certificate.subject_public_key_info().to_vec() }
    }
}

/// A certificate that may be on a path.
struct Candidate<'a> {
    certificate: EndEntityCert<'a>,
    der: &'a CertificateDer<'a>,
}

impl Anchors {
    pub(crate) fn new(roots: &RootCertStore) -> Self {
        let anchor = |root: &rustls_pki_types::TrustAnchor<'_>| Issuer {
            name: root.subject.to_vec(),
            spki: spki_of_anchor(&root.subject_public_key_info),
        };
        Self(roots.roots.iter().map(anchor).collect())
    }

    /// The certificates above a peer's own that may be on a path from it to one of these anchors. `None` if there can
    /// be no path.
    pub(crate) fn candidates<'a>(
        &self,
        end_entity: &Cert<'_>,
        above: &'a [CertificateDer<'a>],
    ) -> Option<Vec<CertificateDer<'a>>> {
        let mut wanted = vec![end_entity.issuer()];
        let mut rest: Vec<Candidate<'a>> = Vec::new();
        for der in above {
            let Ok(certificate) = EndEntityCert::try_from(der) else { continue };
            // A duplicate, or a certificate that is a trust anchor, adds paths but no better ones.
            if !rest.iter().any(|other| other.der == der) && !self.0.contains(&Issuer::of(&certificate)) {
                rest.push(Candidate { certificate, der });
            }
        }
        // By name, from the peer's own certificate upwards.
        let mut found: Vec<Candidate<'a>> = Vec::new();
        loop {
            let (named, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|candidate| wanted.contains(&candidate.certificate.subject()));
            rest = others;
            if named.is_empty() {
                break;
            }
            found.extend(named);
            wanted =
                std::iter::once(end_entity.issuer()).chain(found.iter().map(|it| it.certificate.issuer())).collect();
        }
        if !self.0.iter().any(|anchor| wanted.contains(&&*anchor.name)) {
            return None;
        }
        // One certificate of each name makes one path, in which webpki checks each signature once. With several of one
        // name, strangers could make many paths.
        let is_ambiguous = |it: &Candidate<'_>| {
            found.iter().filter(|other| other.certificate.subject() == it.certificate.subject()).count() > 1
        };
        let found = if found.iter().any(is_ambiguous) { self.signed(found) } else { found };
        Some(found.into_iter().map(|candidate| candidate.der.clone()).collect())
    }

    /// The certificates that lead to an anchor by their signatures. The search starts at the anchors, so a stranger's
    /// certificate is never used as an issuer unless a known issuer has signed it.
    fn signed<'a>(&self, mut rest: Vec<Candidate<'a>>) -> Vec<Candidate<'a>> {
        let mut found: Vec<Candidate<'a>> = Vec::new();
        let mut issuers = Cow::Borrowed(&*self.0);
        loop {
            let (signed, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|candidate| {
                let name = candidate.certificate.issuer();
                issuers.iter().any(|issuer| issuer.name == name && has_signed(&issuer.spki, candidate.der))
            });
            rest = others;
            if signed.is_empty() {
                return found;
            }
            // Each issuer is tried once.
            issuers = signed.iter().map(|candidate| Issuer::of(&candidate.certificate)).collect();
            found.extend(signed);
        }
    }
}

#[cfg(test)]
mod tests {
    use pki::{
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::KeyPair,
        serial::Serial,
        time::Timestamp,
    };

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_795_510_800)
    }

    fn subject(name: &str) -> AuthoritySubject {
        AuthoritySubject { organization: "Tests".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn nowhere() -> Publication {
        let nowhere = String::new;
        Publication { crl_url: nowhere(), delta_crl_url: None, servers_crl_url: None, certificate_url: nowhere() }
    }

    fn root(name: &str) -> CertificateAuthority {
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([1; 16]));
        CertificateAuthority::new_root(&subject(name), key, serial, now(), nowhere()).unwrap()
    }

    fn beneath(root: &CertificateAuthority, name: &str) -> CertificateAuthority {
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([2; 16]));
        root.new_issuing(&subject(name), key, serial, now(), nowhere()).unwrap()
    }

    /// How many of these are left for a certificate whose issuer name is that of the last of them. `None` if there is
    /// no path.
    fn left(
        trusted: &[&CertificateAuthority],
        of: &CertificateAuthority,
        above: &[&CertificateAuthority],
    ) -> Option<usize> {
        let mut roots = RootCertStore::empty();
        for root in trusted {
            roots.add(root.certificate().clone()).unwrap();
        }
        let own = beneath(of, "Own");
        let own = EndEntityCert::try_from(own.certificate()).unwrap();
        let above: Vec<_> = above.iter().map(|authority| authority.certificate().clone()).collect();
        let candidates = Anchors::new(&roots).candidates(&own, &above)?;
        assert!(candidates.iter().all(|candidate| above.contains(candidate)));
        Some(candidates.len())
    }

    #[test]
    fn certificates_that_cannot_be_on_a_path_are_dropped() {
        let (ours, namesake, other) = (root("Fleet"), root("Fleet"), root("Elsewhere"));
        let [good, again] = [beneath(&ours, "Fleet"), beneath(&ours, "Fleet")];
        let [false_one, elsewhere] = [beneath(&namesake, "Fleet"), beneath(&other, "Elsewhere")];
        let left = |of: &CertificateAuthority, above: &[&CertificateAuthority]| left(&[&ours], of, above);
        assert_eq!(left(&good, &[&good]), Some(1));
        assert_eq!(left(&good, &[&ours, &good, &elsewhere, &other]), Some(1), "a trust anchor, and another name");
        assert_eq!(left(&good, &[&good, &good, &good]), Some(1), "duplicates");
        assert_eq!(
            left(&good, &[&false_one, &again, &good, &false_one]),
            Some(2),
            "our CA has signed two of that name"
        );
        assert_eq!(left(&good, &[]), None, "its issuer is missing");
        assert_eq!(left(&ours, &[]), Some(0), "signed by our root itself");
        assert_eq!(left(&elsewhere, &[&elsewhere, &other]), None);
        // One certificate of each name, so they make one path. webpki checks its signatures.
        assert_eq!(left(&false_one, &[&false_one]), Some(1));
    }

    #[test]
    fn a_chain_that_is_larger_than_any_path_is_refused() {
        let certificate = |bytes| CertificateDer::from(vec![0; bytes]);
        let check = |own, above: &[usize]| {
            Excess::check(&certificate(own), &above.iter().map(|bytes| certificate(*bytes)).collect::<Vec<_>>())
        };
        assert_eq!(check(MOST_BYTES, &[MOST_BYTES_ABOVE / MOST_ABOVE; MOST_ABOVE]), Ok(()));
        assert_eq!(check(1, &[1; MOST_ABOVE + 1]), Err(Excess::Certificates(MOST_ABOVE + 1)));
        assert_eq!(check(1, &[MOST_BYTES_ABOVE, 1]), Err(Excess::BytesAbove(MOST_BYTES_ABOVE + 1)));
        assert_eq!(check(MOST_BYTES + 1, &[]), Err(Excess::Bytes(MOST_BYTES + 1)));
    }
}
