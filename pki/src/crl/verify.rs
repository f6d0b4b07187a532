//! Verifies a received CRL once: its form, its issuer and its signature.
//!
//! It never copies the entries: they are read in place, so a CRL of a million entries needs no memory beyond its own
//! bytes. It accepts direct CRLs only: complete ones, deltas, and the partial one with the expected distribution point
//! ([`CrlIssuer::of_point`]). All others are refused, and so is every unknown critical extension (RFC 5280 section
//! 5.2).

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

/// Who may sign a CRL, by name and public key, and what the CRL has to cover.
#[derive(Clone, Debug)]
pub struct CrlIssuer {
    id: IssuerId,
    spki: Vec<u8>,
    /// Not part of the issuer's identity: it selects one of the issuer's CRLs.
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

    /// The same issuer, but only its CRL of the certificates with this distribution point is accepted. The CRL must
    /// have a critical `issuingDistributionPoint` (RFC 5280 section 5.2.5) with this name and nothing else. The
    /// issuer's complete CRL is refused.
    #[must_use]
    pub fn of_point(self, uri: impl Into<String>) -> Self {
        Self { scope: Scope::Point(uri.into()), ..self }
    }

    /// Returns the result of `verify` for the issuer that signed the CRL. A CRL has only the issuer's name, and several
    /// authorities can share one: a re-keyed CA, or a root and the CA below it. So each authority of that name is tried
    /// until a signature is valid.
    pub fn find<I, T>(
        issuers: impl IntoIterator<Item = I>,
        verify: impl Fn(I) -> Result<T, CrlVerifyError>,
    ) -> Result<T, CrlVerifyError> {
        let mut refused = CrlVerifyError::NoIssuer;
        for issuer in issuers {
            match verify(issuer) {
                Err(error @ CrlVerifyError::Signature(_)) => refused = error,
                // An invalid signature by an issuer with the right name is the better error.
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

/// A complete CRL with checked form and signature. It dereferences to the fields that it shares with a delta.
#[derive(Clone, Debug)]
pub struct VerifiedCrl<'a> {
    list: VerifiedList<'a>,
    delta_urls: Vec<String>,
}

/// A delta CRL (RFC 5280 section 5.2.4) with checked form and signature. It dereferences to the fields that it shares
/// with a complete CRL.
///
/// It can be combined with a complete CRL of the same issuer if that CRL's number is at least [`Self::base`] and lower
/// than its own. The result has the content of a complete CRL with the delta's number.
#[derive(Clone, Debug)]
pub struct VerifiedDelta<'a> {
    list: VerifiedList<'a>,
    base: CrlNumber,
}

/// The fields that complete CRLs and deltas share.
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
    /// Verifies a complete CRL in DER, signed by this issuer.
    pub fn verify(crl: &'a [u8], issuer: &CrlIssuer) -> Result<Self, CrlVerifyError> {
        let (list, extensions) = VerifiedList::verify(crl, issuer, Kind::Complete)?;
        Ok(Self { list, delta_urls: extensions.delta_urls })
    }

    /// The HTTP locations of its deltas (RFC 5280 section 5.2.6, `freshestCRL`). Empty if there are no deltas.
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
    /// Verifies a delta CRL in DER, signed by this issuer.
    pub fn verify(crl: &'a [u8], issuer: &CrlIssuer) -> Result<Self, CrlVerifyError> {
        let (list, extensions) = VerifiedList::verify(crl, issuer, Kind::Delta)?;
        Ok(Self { list, base: extensions.base.ok_or(CrlVerifyError::NotDelta)? })
    }

    /// The number of the complete CRL that it refers to; not higher than its own.
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
    /// The issuer: its name, and the key that verified the signature.
    #[must_use]
    pub fn issuer(&self) -> &IssuerId {
        &self.issuer
    }

    /// Its number. RFC 5280 section 5.2.3 requires one, but some authorities write none. Then the number is the CRL's
    /// thisUpdate in seconds since 1970, which orders their CRLs.
    #[must_use]
    pub fn number(&self) -> CrlNumber {
        self.number
    }

    /// Whether the CRL has a number of its own. Without one, two CRLs can have equal numbers.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.is_numbered
    }

    /// When it was issued.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// Until when it is valid.
    #[must_use]
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// The number of revoked certificates.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Its signature. It identifies the CRL.
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

        // The signature is checked before the entries, so that an unsigned list does not cost a scan of a million
        // entries.
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

    /// The revoked serial numbers, in the order of the CRL.
    #[must_use]
    pub fn serials(&self) -> impl ExactSizeIterator<Item = Serial> + use<'a> {
        let mut rest = Reader::new(self.entries);
        (0..self.count).map(move |_| {
            let serial = rest.sequence().and_then(|mut entry| entry.expect(der::INTEGER));
            let serial = serial.expect("every entry was read when the CRL was verified");
            Serial::from_der_integer(serial).expect("every serial was read when the CRL was verified")
        })
    }

    /// All entries, in the order of the CRL. An unknown reason becomes [`RevocationReason::Unspecified`].
    pub fn entries(&self) -> impl Iterator<Item = RevokedEntry> + use<'a> {
        let mut rest = Reader::new(self.entries);
        std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| read_revoked(&mut rest).expect("every entry was read when the CRL was verified"))
        })
    }
}
