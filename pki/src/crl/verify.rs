//! Verifies a CRL that somebody sent: its form, its issuer and its signature, once.
//!
//! It holds on to the CRL's octets and little else; entries are read in place, so that a list of a million
//! entries takes no memory beyond its own. Only direct CRLs are understood, complete ones and deltas to them, and of partial ones
//! only that of the one distribution point that is asked for by name ([`CrlIssuer::of_point`]). Any other is refused, and so is any
//! other critical extension (RFC 5280 section 5.2).

use std::ops::Deref;

use time::{Date, Month, PrimitiveDateTime, Time};

use super::{
    CRL_NUMBER, CrlNumber, DELTA_CRL_INDICATOR, FRESHEST_CRL, ISSUING_DISTRIBUTION_POINT, REASON_CODE,
    RevocationReason, RevokedEntry, scope::Scope,
};
use crate::{
    certificate::{CertificateInfo, DistinguishedName, IssuerId},
    der::{self, DerError, Reader},
    serial::{Serial, SerialError},
    signature::{self, SignatureError},
    time::Timestamp,
};

/// `removeFromCRL` in a `CRLReason` (RFC 5280 section 5.3.1)
const REMOVE_FROM_CRL: u8 = 8;
/// `[6] IMPLICIT IA5String`, a URI in a `GeneralName`
const URI: u8 = 0x86;

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

    /// The same authority, of which only the list is believed that covers the certificates with this distribution point, and says so
    /// in a critical `issuingDistributionPoint` (RFC 5280 section 5.2.5) that says nothing else. Its complete list is refused in the
    /// place of that one.
    #[must_use]
    pub fn of_point(self, uri: impl Into<String>) -> Self {
        Self { scope: Scope::Point(uri.into()), ..self }
    }

    /// What `verify` makes of a list with the issuer that signed it. The list says the name only, and several authorities may have it:
    /// one that was re-keyed, or a root and the CA beneath it. So each of that name is tried until a signature holds.
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

/// A delta CRL (RFC 5280 section 5.2.4) whose form and signature were checked. What it has in common with a complete CRL is read
/// through it.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Complete,
    Delta,
}

/// Why a CRL is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlVerifyError {
    /// Not a CRL.
    #[error("not a CRL: {0}")]
    Malformed(#[from] DerError),
    /// A field of it does not follow RFC 5280.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Field(&'static str),
    /// A serial number in it is out of bounds.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Serial(#[from] SerialError),
    /// Another authority's CRL.
    #[error("the CRL was issued by {found}, not by {expected}")]
    OtherIssuer {
        /// Whose CRL was wanted.
        expected: DistinguishedName,
        /// Whose it is.
        found: DistinguishedName,
    },
    /// There is no authority whose CRL would be believed.
    #[error("no authority is known whose CRL could be believed")]
    NoIssuer,
    /// A critical extension, or one that narrows the list: its meaning is unknown here, so the list as a whole is.
    #[error(
        "the CRL has a critical extension that is not supported, or is not complete (a delta, partial or indirect)"
    )]
    CriticalExtension,
    /// Another one of the authority's lists in the place of the partial one that was asked for.
    #[error("the CRL is not the one that covers the certificates with the distribution point {expected}")]
    OtherScope {
        /// The distribution point.
        expected: String,
    },
    /// A complete CRL in the place of a delta.
    #[error("the CRL is complete, and a delta to one was expected")]
    NotDelta,
    /// A delta that removes an entry: whoever was refused would be admitted again. Here, what is revoked stays revoked.
    #[error("the delta CRL takes back the revocation of {0} (removeFromCRL), and revocations are permanent")]
    TakenBack(Serial),
    /// Forged or damaged.
    #[error("the CRL's signature does not hold: {0}")]
    Signature(#[from] SignatureError),
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

    /// Its number. RFC 5280 section 5.2.3 demands one, and some authorities give none: their lists are in the order of their thisUpdate,
    /// and their number is that, in seconds since 1970.
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

/// All that an entry says, where [`read_entry`] has read it before.
fn read_revoked(entries: &mut Reader<'_>) -> Result<RevokedEntry, CrlVerifyError> {
    let mut entry = entries.sequence()?;
    let serial = Serial::from_der_integer(entry.expect(der::INTEGER)?)?;
    let revoked_at = read_time(&mut entry)?;
    let mut reason = RevocationReason::default();
    if let Some(extensions) = entry.optional(der::SEQUENCE)? {
        for_each_extension(extensions, |oid, _, value| {
            if oid == REASON_CODE
                && let Ok([code]) = Reader::new(value).expect(der::ENUMERATED)
            {
                reason = RevocationReason::from_code(*code).unwrap_or_default();
            }
            Ok(())
        })?;
    }
    Ok(RevokedEntry { serial, revoked_at, reason })
}

/// `SEQUENCE { userCertificate INTEGER, revocationDate Time, crlEntryExtensions OPTIONAL }`
fn read_entry(entries: &mut Reader<'_>, kind: Kind) -> Result<(), CrlVerifyError> {
    let mut entry = entries.sequence()?;
    let serial = Serial::from_der_integer(entry.expect(der::INTEGER)?)?;
    read_moment(&mut entry)?;
    if let Some(extensions) = entry.optional(der::SEQUENCE)? {
        for_each_extension(extensions, |oid, critical, value| {
            // A critical one is the certificate issuer of an indirect CRL: the serial would be another authority's.
            if critical {
                return Err(CrlVerifyError::CriticalExtension);
            }
            // Only a delta may say removeFromCRL. In a complete CRL no reason makes an entry less revoked.
            if kind == Kind::Delta && oid == REASON_CODE {
                let mut inner = Reader::new(value);
                let reason = inner.expect(der::ENUMERATED)?;
                inner.finish()?;
                match reason {
                    [REMOVE_FROM_CRL] => return Err(CrlVerifyError::TakenBack(serial)),
                    [_] => {}
                    _ => return Err(CrlVerifyError::Field("a reason in it is not one octet")),
                }
            }
            Ok(())
        })?;
    }
    entry.finish()?;
    Ok(())
}

/// The extensions of a CRL that mean something here.
#[derive(Default)]
struct Extensions {
    number: Option<CrlNumber>,
    base: Option<CrlNumber>,
    delta_urls: Vec<String>,
    /// Whether the list has the issuing distribution point that was expected.
    has_point: bool,
}

impl Extensions {
    fn read(extensions: &[u8], kind: Kind, scope: &Scope) -> Result<Self, CrlVerifyError> {
        let mut read = Self::default();
        if extensions.is_empty() {
            return scope.check_absent().map(|()| read);
        }
        let mut outer = Reader::new(extensions);
        let list = outer.sequence_contents()?;
        outer.finish()?;
        for_each_extension(list, |oid, critical, value| {
            if oid == DELTA_CRL_INDICATOR && kind == Kind::Delta {
                if !critical {
                    return Err(CrlVerifyError::Field("its delta CRL indicator is not critical"));
                }
                if read.base.replace(read_number(value)?).is_some() {
                    return Err(CrlVerifyError::Field("it has two delta CRL indicators"));
                }
                return Ok(());
            }
            if oid == ISSUING_DISTRIBUTION_POINT {
                scope.check_point(critical, value)?;
                if std::mem::replace(&mut read.has_point, true) {
                    return Err(CrlVerifyError::Field("it has two issuing distribution points"));
                }
                return Ok(());
            }
            // The indicator has to be critical (RFC 5280 section 5.2.4); where a CA forgot it, taking the list for complete would
            // readmit whoever it leaves out.
            if critical || oid == DELTA_CRL_INDICATOR {
                return Err(CrlVerifyError::CriticalExtension);
            }
            if oid == CRL_NUMBER && read.number.replace(read_number(value)?).is_some() {
                return Err(CrlVerifyError::Field("it has two CRL numbers"));
            }
            if oid == FRESHEST_CRL {
                read_uris(value, &mut read.delta_urls)?;
            }
            Ok(())
        })?;
        if !read.has_point {
            scope.check_absent()?;
        }
        Ok(read)
    }
}

/// The HTTP URIs in `CRLDistributionPoints` (RFC 5280 section 4.2.1.13); other kinds of location are left out.
fn read_uris(points: &[u8], uris: &mut Vec<String>) -> Result<(), DerError> {
    let mut outer = Reader::new(points);
    let mut points = outer.sequence()?;
    outer.finish()?;
    while !points.is_empty() {
        let Some(name) = points.sequence()?.optional(der::context(0))? else { continue };
        let Some(full_name) = Reader::new(name).optional(der::context(0))? else { continue };
        let mut names = Reader::new(full_name);
        while !names.is_empty() {
            let name = names.any()?;
            if name.tag == URI && name.contents.starts_with(b"http://") && name.contents.is_ascii() {
                uris.extend(String::from_utf8(name.contents.to_vec()));
            }
        }
    }
    Ok(())
}

/// Calls `visit` with each extension's identifier, criticality and value (RFC 5280 section 4.1.2.9).
fn for_each_extension<'a>(
    extensions: &'a [u8],
    mut visit: impl FnMut(&'a [u8], bool, &'a [u8]) -> Result<(), CrlVerifyError>,
) -> Result<(), CrlVerifyError> {
    let mut list = Reader::new(extensions);
    while !list.is_empty() {
        let mut extension = list.sequence()?;
        let oid = extension.expect(der::OID)?;
        // Any other value than FALSE counts as critical: that refuses what it cannot read.
        let critical = extension.optional(der::BOOLEAN)?.is_some_and(|value| value != [0]);
        visit(oid, critical, extension.expect(der::OCTET_STRING)?)?;
        extension.finish()?;
    }
    Ok(())
}

/// `CRLNumber ::= INTEGER (0..MAX)`, of which 63 bits are supported.
fn read_number(value: &[u8]) -> Result<CrlNumber, CrlVerifyError> {
    let mut inner = Reader::new(value);
    let octets = inner.expect(der::INTEGER)?;
    inner.finish()?;
    match octets {
        [] => Err(CrlVerifyError::Field("its CRL number is empty")),
        [first, ..] if first & 0x80 != 0 => Err(CrlVerifyError::Field("its CRL number is negative")),
        _ if octets.len() > 8 => Err(CrlVerifyError::Field("its CRL number is larger than 63 bits")),
        _ => Ok(CrlNumber(octets.iter().fold(0, |number, octet| number << 8 | i64::from(*octet)))),
    }
}

/// A `Time` as seconds.
fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, CrlVerifyError> {
    read_moment(reader).map(|moment| Timestamp::from_unix(moment.assume_utc().unix_timestamp()))
}

/// `UTCTime` (`YYMMDDHHMMSSZ`, years 1950 to 2049) or `GeneralizedTime` (`YYYYMMDDHHMMSSZ`), as RFC 5280 section 4.1.2.5 has them.
fn read_moment(reader: &mut Reader<'_>) -> Result<PrimitiveDateTime, CrlVerifyError> {
    const INVALID: CrlVerifyError = CrlVerifyError::Field("a time is not in the form of RFC 5280 section 4.1.2.5");
    let element = reader.any()?;
    let digits = element.contents.strip_suffix(b"Z").ok_or(INVALID)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let number = |digits: &[u8]| digits.iter().fold(0u16, |number, digit| number * 10 + u16::from(digit - b'0'));
    let (year, rest) = match (element.tag, digits.len()) {
        (der::UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (der::GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return Err(INVALID),
    };
    let field = |index: usize| u8::try_from(number(&rest[2 * index..2 * index + 2])).map_err(|_| INVALID);
    let month = Month::try_from(field(0)?).map_err(|_| INVALID)?;
    let date = Date::from_calendar_date(i32::from(year), month, field(1)?).map_err(|_| INVALID)?;
    let time = Time::from_hms(field(2)?, field(3)?, field(4)?).map_err(|_| INVALID)?;
    Ok(PrimitiveDateTime::new(date, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Result<Timestamp, CrlVerifyError> {
        read_time(&mut Reader::new(&der::encode(tag, text.as_bytes())))
    }

    #[test]
    fn times_are_read_in_both_forms_and_no_other() {
        let expected = Timestamp::from_unix(1_795_510_800);
        assert_eq!(time(der::UTC_TIME, "261124090000Z"), Ok(expected));
        assert_eq!(time(der::GENERALIZED_TIME, "20261124090000Z"), Ok(expected));
        for bad in ["2611240900Z", "261124090000", "261124090000+0000", "261324090000Z", "26112409000aZ", ""] {
            assert!(time(der::UTC_TIME, bad).is_err(), "{bad}");
        }
        assert!(time(der::GENERALIZED_TIME, "20261124090000.5Z").is_err());
        assert!(time(der::INTEGER, "261124090000Z").is_err());
    }

    #[test]
    fn numbers_are_positive_and_fit() {
        let read = |octets: &[u8]| read_number(&der::encode(der::INTEGER, octets));
        assert_eq!(read(&[0x01, 0x00]), Ok(CrlNumber(256)));
        assert!(read(&[]).is_err() && read(&[0xff]).is_err() && read(&[1; 9]).is_err());
    }
}
