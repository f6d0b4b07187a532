//! Verifies a CRL that somebody sent: its form, its issuer and its signature, once.
//!
//! It holds on to the CRL's octets and little else; entries are read in place, so that a list of a million entries
//! takes no memory beyond its own. Only direct CRLs are understood, complete ones and deltas to them, and of partial
//! ones only that of the one distribution point that is asked for by name ([`CrlIssuer::of_point`]). Any other is
//! refused, and so is any other critical extension (RFC 5280 section 5.2).

use std::ops::Deref;

use super::{
    entry::RevokedEntry,
    error::CrlVerifyError,
    number::CrlNumber,
    read::{Extensions, Kind, read_entry, read_revoked, read_time},
    scope::Scope,
};
use crate::{
    certificate::{CertificateInfo, DistinguishedName, IssuerId},
    der::{self, Reader},
    serial::Serial,
    signature,
    time::Timestamp,
};

/// Who may sign a CRL, an authority's name and public key, and what the CRL has to cover.
#[derive(Clone, Debug)]
pub struct CrlIssuer {
    id: IssuerId,
    spki: Vec<u8>,
    /// No part of who the issuer is: it says which of its lists is believed here.
    scope: Scope,
}

impl CrlIssuer {
    /// The authority that this certificate names, if it may sign CRLs (RFC 5280 section 6.3.3 (f)).
    #[must_use]
    pub fn from_certificate(certificate: &CertificateInfo) -> Option<Self> {
        certificate.may_sign.crls.then(|| Self {
            id: IssuerId::of(certificate),
            spki: certificate.spki.clone(),
            scope: Scope::Everything,
        })
    }

    /// The same authority, of which only the list is believed that covers the certificates with this distribution
    /// point, and says so in a critical `issuingDistributionPoint` (RFC 5280 section 5.2.5) that says nothing else. Its
    /// complete list is refused in the place of that one.
    #[must_use]
    pub fn of_point(self, uri: impl Into<String>) -> Self {
        Self { scope: Scope::Point(uri.into()), ..self }
    }

    /// What `verify` makes of a list with the issuer that signed it. The list says the name only, and several
    /// authorities may have it: one that was re-keyed, or a root and the CA beneath it. So each of that name is tried
    /// until a signature holds.
    pub fn find<I, T>(
        issuers: impl IntoIterator<Item = I>,
        verify: impl Fn(I) -> Result<T, CrlVerifyError>,
    ) -> Result<T, CrlVerifyError> {
        let mut refused = CrlVerifyError::NoIssuer;
        for issuer in issuers {
            match verify(issuer) {
                Err(error @ CrlVerifyError::Signature(_)) => refused = error,
                // Says less than a signature that does not hold, which is of an issuer with the right name.
                Err(error @ CrlVerifyError::OtherIssuer { .. }) => {
                    if !matches!(refused, CrlVerifyError::Signature(_)) {
                        refused = error;
                    }
                }
                result => return result,
            }
        }
        Err(refused)
    }

    /// The issuer's name and key.
    #[must_use]
    pub fn id(&self) -> &IssuerId {
        &self.id
    }
}

/// A complete CRL whose form and signature were checked. What it has in common with a delta is read through it.
#[derive(Clone, Debug)]
pub struct VerifiedCrl<'a> {
    list: VerifiedList<'a>,
    delta_urls: Vec<String>,
}

/// A delta CRL (RFC 5280 section 5.2.4) whose form and signature were checked. What it has in common with a complete
/// CRL is read through it.
///
/// Added to a complete CRL of the same issuer, it is what a complete CRL of its number would say, if the complete one's
/// number is not lower than [`Self::base`] (and lower than its own, or there is nothing to add).
#[derive(Clone, Debug)]
pub struct VerifiedDelta<'a> {
    list: VerifiedList<'a>,
    base: CrlNumber,
}

/// What a complete CRL and a delta both say.
#[derive(Clone, Debug)]
pub struct VerifiedList<'a> {
    issuer: IssuerId,
    number: CrlNumber,
    is_numbered: bool,
    this_update: Timestamp,
    next_update: Timestamp,
    entries: &'a [u8],
    count: usize,
    signature: &'a [u8],
}

impl<'a> VerifiedCrl<'a> {
    /// Checks a complete CRL in DER against the authority that is expected to have signed it.
    pub fn verify(crl: &'a [u8], issuer: &CrlIssuer) -> Result<Self, CrlVerifyError> {
        let (list, extensions) = VerifiedList::verify(crl, issuer, Kind::Complete)?;
        Ok(Self { list, delta_urls: extensions.delta_urls })
    }

    /// The HTTP locations of the deltas to it (RFC 5280 section 5.2.6, `freshestCRL`); none if there are no deltas.
    #[must_use]
    pub fn delta_urls(&self) -> &[String] {
        &self.delta_urls
    }
}

impl<'a> Deref for VerifiedCrl<'a> {
    type Target = VerifiedList<'a>;

    fn deref(&self) -> &VerifiedList<'a> {
        &self.list
    }
}

impl<'a> VerifiedDelta<'a> {
    /// Checks a delta CRL in DER against the authority that is expected to have signed it.
    pub fn verify(crl: &'a [u8], issuer: &CrlIssuer) -> Result<Self, CrlVerifyError> {
        let (list, extensions) = VerifiedList::verify(crl, issuer, Kind::Delta)?;
        Ok(Self { list, base: extensions.base.ok_or(CrlVerifyError::NotDelta)? })
    }

    /// The number of the complete CRL that it adds to; not higher than its own.
    #[must_use]
    pub fn base(&self) -> CrlNumber {
        self.base
    }
}

impl<'a> Deref for VerifiedDelta<'a> {
    type Target = VerifiedList<'a>;

    fn deref(&self) -> &VerifiedList<'a> {
        &self.list
    }
}

impl<'a> VerifiedList<'a> {
    /// Who signed it: the name that it bears, and the key that verified it.
    #[must_use]
    pub fn issuer(&self) -> &IssuerId {
        &self.issuer
    }

    /// Its number. RFC 5280 section 5.2.3 demands one, and some authorities give none: their lists are in the order of
    /// their thisUpdate, and their number is that, in seconds since 1970.
    #[must_use]
    pub fn number(&self) -> CrlNumber {
        self.number
    }

    /// Whether the number stands in it. Of those where it does not, two may have the same.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.is_numbered
    }

    /// When it was issued.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// Until when it may be relied on.
    #[must_use]
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Its signature. An authority has signed one list with it only, so that it tells lists apart.
    #[must_use]
    pub fn signature(&self) -> &'a [u8] {
        self.signature
    }

    fn verify(crl: &'a [u8], issuer: &CrlIssuer, kind: Kind) -> Result<(Self, Extensions), CrlVerifyError> {
        let mut outer = Reader::new(crl);
        let mut signed = outer.sequence()?;
        outer.finish()?;
        let mut body = signed.sequence()?;
        let algorithm_outside = signed.any()?.encoded;

        if body.expect(der::INTEGER)? != [1] {
            return Err(CrlVerifyError::Field("its version is not 2"));
        }
        // RFC 5280 section 5.1.1.2: both algorithm fields are the same.
        if body.any()?.encoded != algorithm_outside {
            return Err(CrlVerifyError::Field("its two algorithm fields differ"));
        }
        let found = DistinguishedName::from_der(body.any()?.encoded);
        if !found.is_same(&issuer.id.name) {
            return Err(CrlVerifyError::OtherIssuer { expected: issuer.id.name.clone(), found });
        }
        let this_update = read_time(&mut body)?;
        let next_update = match body.peek() {
            Some(der::UTC_TIME | der::GENERALIZED_TIME) => read_time(&mut body)?,
            _ => return Err(CrlVerifyError::Field("it has no nextUpdate")),
        };
        let entries = body.optional(der::SEQUENCE)?.unwrap_or_default();
        let extensions = body.optional(der::context(0))?.unwrap_or_default();
        body.finish()?;
        let extensions = Extensions::read(extensions, kind, &issuer.scope)?;
        let number = match extensions.number {
            Some(number) => number,
            None if kind == Kind::Complete && issuer.scope == Scope::Everything => this_update.into(),
            None => return Err(CrlVerifyError::Field("it has no CRL number")),
        };
        let is_numbered = extensions.number.is_some();
        if extensions.base.is_some_and(|base| base > number) {
            return Err(CrlVerifyError::Field("it is a delta to a CRL that is later than itself"));
        }

        // The signature before the entries: what is not signed is not worth a walk through a million of them.
        signature::verify(crl, &issuer.spki)?;
        let signature = signed.bit_string()?;
        let mut count = 0;
        let mut rest = Reader::new(entries);
        while !rest.is_empty() {
            read_entry(&mut rest, kind)?;
            count += 1;
        }
        Ok((
            Self {
                issuer: issuer.id.clone(),
                number,
                is_numbered,
                this_update,
                next_update,
                entries,
                count,
                signature,
            },
            extensions,
        ))
    }

    /// The serial numbers it revokes, in its own order.
    #[must_use]
    pub fn serials(&self) -> impl ExactSizeIterator<Item = Serial> + use<'a> {
        let mut rest = Reader::new(self.entries);
        (0..self.count).map(move |_| {
            let serial = rest.sequence().and_then(|mut entry| entry.expect(der::INTEGER));
            let serial = serial.expect("every entry was read when the CRL was verified");
            Serial::from_der_integer(serial).expect("every serial was read when the CRL was verified")
        })
    }

    /// What it revokes, since when and why, in its own order; a reason that is not known here is
    /// [`RevocationReason::Unspecified`].
    pub fn entries(&self) -> impl Iterator<Item = RevokedEntry> + use<'a> {
        let mut rest = Reader::new(self.entries);
        std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| read_revoked(&mut rest).expect("every entry was read when the CRL was verified"))
        })
    }
}
