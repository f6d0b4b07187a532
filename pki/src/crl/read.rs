//! Reads the parts of a CRL in place: entries, extensions, numbers and times (RFC 5280 section 5).
//!
//! It never checks a signature, and never allocates per entry.

use time::{Date, Month, PrimitiveDateTime, Time};

use super::{
    encoding::{CRL_NUMBER, DELTA_CRL_INDICATOR, FRESHEST_CRL, ISSUING_DISTRIBUTION_POINT, REASON_CODE, URI},
    entry::{RevocationReason, RevokedEntry},
    error::CrlVerifyError,
    number::CrlNumber,
    scope::Scope,
};
use crate::{
    der::{self, DerError, Reader},
    serial::Serial,
    time::Timestamp,
};

/// `removeFromCRL` in a `CRLReason` (RFC 5280 section 5.3.1)
const REMOVE_FROM_CRL: u8 = 8;

/// The kind of CRL to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Complete,
    Delta,
}

/// Reads all fields of an entry that [`read_entry`] has already accepted.
pub(super) fn read_revoked(entries: &mut Reader<'_>) -> Result<RevokedEntry, CrlVerifyError> {
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
pub(super) fn read_entry(entries: &mut Reader<'_>, kind: Kind) -> Result<(), CrlVerifyError> {
    let mut entry = entries.sequence()?;
    let serial = Serial::from_der_integer(entry.expect(der::INTEGER)?)?;
    read_moment(&mut entry)?;
    if let Some(extensions) = entry.optional(der::SEQUENCE)? {
        for_each_extension(extensions, |oid, critical, value| {
            // The critical extension is the certificate issuer of an indirect CRL: the serial number belongs to another
            // authority.
            if critical {
                return Err(CrlVerifyError::CriticalExtension);
            }
            // removeFromCRL is allowed in a delta only. In a complete CRL every entry counts as revoked, whatever its
            // reason.
            if kind == Kind::Delta && oid == REASON_CODE {
                let mut inner = Reader::new(value);
                let reason = inner.expect(der::ENUMERATED)?;
                inner.finish()?;
                match reason {
                    [REMOVE_FROM_CRL] => return Err(CrlVerifyError::TakenBack(serial)),
                    [_] => {}
                    _ => return Err(CrlVerifyError::Field("a reason in it is not one byte")),
                }
            }
            Ok(())
        })?;
    }
    entry.finish()?;
    Ok(())
}

/// The extensions of a CRL that are evaluated.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) number: Option<CrlNumber>,
    pub(super) base: Option<CrlNumber>,
    pub(super) delta_urls: Vec<String>,
    /// Whether the CRL has the expected issuing distribution point.
    has_point: bool,
}

impl Extensions {
    pub(super) fn read(extensions: &[u8], kind: Kind, scope: &Scope) -> Result<Self, CrlVerifyError> {
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
            // The indicator must be critical (RFC 5280 section 5.2.4). If it is not, the CRL is refused all the same:
            // treating a delta as complete would readmit the certificates that it does not list.
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

/// The HTTP URIs in `CRLDistributionPoints` (RFC 5280 section 4.2.1.13). Other kinds of location are skipped.
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
        // Any value except FALSE counts as critical, so an unreadable value leads to refusal.
        let critical = extension.optional(der::BOOLEAN)?.is_some_and(|value| value != [0]);
        visit(oid, critical, extension.expect(der::OCTET_STRING)?)?;
        extension.finish()?;
    }
    Ok(())
}

/// `CRLNumber ::= INTEGER (0..MAX)`, of which 63 bits are supported.
fn read_number(value: &[u8]) -> Result<CrlNumber, CrlVerifyError> {
    let mut inner = Reader::new(value);
    let bytes = inner.expect(der::INTEGER)?;
    inner.finish()?;
    match bytes {
        [] => Err(CrlVerifyError::Field("its CRL number is empty")),
        [first, ..] if first & 0x80 != 0 => Err(CrlVerifyError::Field("its CRL number is negative")),
        _ if bytes.len() > 8 => Err(CrlVerifyError::Field("its CRL number is larger than 63 bits")),
        _ => {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte));
            Ok(CrlNumber::new(number).expect("the sign of the first byte was checked"))
        }
    }
}

/// A `Time` as seconds.
pub(super) fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, CrlVerifyError> {
    read_moment(reader).map(|moment| Timestamp::from_unix(moment.assume_utc().unix_timestamp()))
}

/// `UTCTime` (`YYMMDDHHMMSSZ`, years 1950 to 2049) or `GeneralizedTime` (`YYYYMMDDHHMMSSZ`), RFC 5280 section 4.1.2.5.
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
        let read = |bytes: &[u8]| read_number(&der::encode(der::INTEGER, bytes));
        assert_eq!(read(&[0x01, 0x00]), Ok(CrlNumber::new(256).unwrap()));
        assert!(read(&[]).is_err() && read(&[0xff]).is_err() && read(&[1; 9]).is_err());
    }
}
