//! Reasons to refuse everybody, whatever the CRLs contain. They come and go while a relying party runs.
//!
//! It never decides that a reason holds. The code that detects a reason raises and lifts it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::CrlNumber,
    time::Timestamp,
};

use super::Location;

/// A reason to admit nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// The authority has not registered this relying party yet, so `revoke` would not wait for it.
    #[error("the authority has not registered this relying party yet, so a revocation would not wait for it")]
    Unregistered,
    /// Its own certificate, or that of a CA above it, is revoked.
    #[error("the certificate {} of this service, or of a CA above it, is revoked; enroll again", .0.serial)]
    OwnCertificate(VerifiedId),
    /// The authority has announced a CRL that is not in force yet.
    #[error("the authority has announced CRL number {announced} of {issuer}, which is not in force here yet")]
    Behind {
        /// Whose CRL.
        issuer: IssuerId,
        /// The announced number.
        announced: CrlNumber,
    },
    /// No CRL has been fetched yet from a configured location.
    #[error("no CRL has come from {0} yet, so it is not known whom that revokes")]
    NothingFrom(Location),
    /// The clock is behind the thisUpdate of the CRL in force.
    #[error(
        "this machine's clock is behind: the CRL of {issuer} that is in force was signed at {this_update}; set the \
         clock, and keep it right"
    )]
    ClockBehind {
        /// Whose CRL.
        issuer: IssuerId,
        /// When it was signed.
        this_update: Timestamp,
    },
}

impl Barrier {
    /// Whether both are the same reason for the same issuer or location. Then the newer one replaces the older one.
    fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Behind { issuer: one, .. }, Self::Behind { issuer: other, .. }) => one == other,
            (Self::NothingFrom(one), Self::NothingFrom(other)) => one == other,
            (Self::Unregistered, Self::Unregistered) | (Self::OwnCertificate(_), Self::OwnCertificate(_)) => true,
            _ => false,
        }
    }
}

/// The reasons that hold at present. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Barriers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether there is any. Usually there is none, and a check needs no lock.
    any: AtomicBool,
    raised: Mutex<Vec<Barrier>>,
}

impl Barriers {
    /// The reason holds from now on. Returns whether it is new.
    pub(super) fn raise(&self, barrier: Barrier) -> bool {
        let mut raised = self.lock();
        let known = raised.iter_mut().find(|known| barrier.replaces(known));
        let is_new = known.is_none();
        if let Some(known) = known {
            *known = barrier;
        } else {
            raised.push(barrier);
        }
        self.0.any.store(true, Ordering::Release);
        is_new
    }

    /// Ends the reasons that satisfy `is_over`. Returns whether there was one.
    pub(super) fn lift(&self, is_over: impl Fn(&Barrier) -> bool) -> bool {
        let mut raised = self.lock();
        let before = raised.len();
        raised.retain(|barrier| !is_over(barrier));
        self.0.any.store(!raised.is_empty(), Ordering::Release);
        raised.len() < before
    }

    /// The reason that was raised first. `None` if none holds.
    pub(super) fn first(&self) -> Option<Barrier> {
        if self.0.any.load(Ordering::Acquire) { self.lock().first().cloned() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Barrier>> {
        // No code panics while it holds the lock, so a poisoned lock still protects a consistent list.
        self.0.raised.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn each_reason_holds_once_and_until_it_is_lifted() {
        let barriers = Barriers::default();
        assert_eq!(barriers.first(), None);
        assert!(barriers.raise(Barrier::Unregistered) && !barriers.raise(Barrier::Unregistered));
        let root = KeyPair::generate().unwrap();
        let publication = Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let (serial, now) = (Serial::from_random([1; 16]), Timestamp::from_unix(1_795_510_800));
        let root = CertificateAuthority::new_root(&subject, root, serial, now, publication).unwrap();
        let issuer = IssuerId::of(root.info());
        let behind = |number| Barrier::Behind { issuer: issuer.clone(), announced: CrlNumber::new(number).unwrap() };
        assert!(barriers.raise(behind(2)) && !barriers.raise(behind(3)), "the newer number counts");
        assert!(barriers.lift(|barrier| *barrier == Barrier::Unregistered));
        assert_eq!(barriers.first(), Some(behind(3)));
        assert!(!barriers.lift(|barrier| *barrier == behind(2)) && barriers.lift(|barrier| *barrier == behind(3)));
        assert_eq!(barriers.first(), None);
    }
}
