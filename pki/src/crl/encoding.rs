//! Encodes the extensions of a CRL: their identifiers (RFC 5280 sections 5.2 and 5.3) and the distribution points.
//! Writing and comparing use the same form.
//!
//! It never reads a list.

use crate::der::{self, encode};

// Contents of the OBJECT IDENTIFIERs that are both written and read.
/// id-ce-cRLNumber 2.5.29.20
pub(super) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// id-ce-cRLReasons 2.5.29.21
pub(super) const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
/// id-ce-issuingDistributionPoint 2.5.29.28
pub(super) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// id-ce-deltaCRLIndicator 2.5.29.27
pub(super) const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
/// id-ce-freshestCRL 2.5.29.46
pub(super) const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 0x2e];
/// `[6] IMPLICIT IA5String`, a URI in a `GeneralName`
pub(super) const URI: u8 = 0x86;

/// `CRLDistributionPoints` with one URI (RFC 5280 section 4.2.1.13).
pub(super) fn distribution_points(uri: &str) -> Vec<u8> {
    encode(der::SEQUENCE, &distribution_point(uri))
}

/// `IssuingDistributionPoint` with only the name of the distribution point (RFC 5280 section 5.2.5). The encoding is
/// that of one distribution point in `CRLDistributionPoints`.
pub(super) fn issuing_distribution_point(uri: &str) -> Vec<u8> {
    distribution_point(uri)
}

/// `SEQUENCE { distributionPoint [0] { fullName [0] { uniformResourceIdentifier [6] } } }`
fn distribution_point(uri: &str) -> Vec<u8> {
    let full_name = encode(der::context(0), &encode(URI, uri.as_bytes()));
    encode(der::SEQUENCE, &encode(der::context(0), &full_name))
}
