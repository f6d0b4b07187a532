//! Limits on the size of a fetched CRL. They apply before anything is verified, because an attacker on the network can
//! answer with anything.
//!
//! It never relies on a length that the response itself claims.

use edge::memory;
use pki::wire::Listing;
use tokio::sync::Semaphore;

use super::LiveSet;

/// Bytes that a CRL needs besides its entries. It is also the least by which a CRL may be longer than the one before
/// it.
const SLACK: u64 = 64 * 1024;
/// The most bytes of one entry: a serial number of 20 bytes, a time and a reason.
const ENTRY: u64 = 64;
/// The fraction of memory (1/4) that a complete CRL may take if nothing is known about its size.
const PART: u64 = 4;
/// The fraction of memory (1/32) by which a complete CRL may exceed twice the one in force.
const MORE_PART: u64 = 32;
/// The fraction of memory (1/64) that a delta may take.
const DELTA_PART: u64 = 64;

/// Bodies up to this many bytes are read without waiting. Longer ones are read one at a time.
pub(super) const SHORT: u64 = 256 * 1024;
/// One long body from the authority at a time.
pub(super) static FROM_AUTHORITY: Semaphore = Semaphore::const_new(1);
/// One long body from other sources at a time. It is separate, so that a slow distribution point cannot delay the
/// authority's answer.
pub(crate) static FROM_ELSEWHERE: Semaphore = Semaphore::const_new(1);

/// The most bytes of a complete CRL: from the announced size, or else from the size of the CRL in force.
pub(crate) fn of_complete(announced: Option<&Listing>, live: &LiveSet) -> u64 {
    let entries =
        live.freshness().into_iter().filter_map(|freshness| freshness.list).map(|list| list.revoked as u64).max();
    complete(announced.and_then(|listing| listing.size), entries, memory::limit())
}

/// The most bytes of a delta.
pub(crate) fn of_delta(announced: Option<&Listing>) -> u64 {
    delta(announced.and_then(|listing| listing.size), memory::limit())
}

fn complete(announced: Option<u64>, entries: Option<u64>, memory: u64) -> u64 {
    let most = memory / PART;
    match (announced, entries) {
        (Some(size), _) => as_announced(size),
        (None, Some(entries)) => most.min(entries.saturating_mul(2 * ENTRY) + (memory / MORE_PART).max(SLACK)),
        (None, None) => most,
    }
}

fn delta(announced: Option<u64>, memory: u64) -> u64 {
    announced.map_or((memory / DELTA_PART).max(SLACK), as_announced)
}

/// The next CRL may have been published already, and may be a little longer.
fn as_announced(size: u64) -> u64 {
    size.saturating_add(size / 4).saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_announced_crl_or_the_one_in_force_bounds_the_length() {
        let memory = 256 * MIB;
        for (announced, entries, most) in [
            (Some(MIB), Some(1_000_000), MIB * 5 / 4 + SLACK),
            (None, None, 64 * MIB),
            (None, Some(0), 8 * MIB),
            (None, Some(100_000), 8 * MIB + 12_800_000),
            (None, Some(10_000_000), 64 * MIB),
        ] {
            assert_eq!(complete(announced, entries, memory), most, "{announced:?} {entries:?}");
        }
        assert_eq!((delta(None, memory), delta(Some(100), memory)), (4 * MIB, 125 + SLACK));
    }
}
