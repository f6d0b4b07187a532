//! How long a list may be that is fetched, before anything of it is verified: whoever is on the way may answer with anything.
//!
//! It never believes a length that the answer itself says.

use edge::memory;
use pki::wire::Listing;
use tokio::sync::Semaphore;

use super::LiveSet;

/// What a list needs beside its entries, and what a list may be longer than the one before it, in bytes at least.
const SLACK: u64 = 64 * 1024;
/// The most bytes that one entry takes: a serial number of 20 bytes, a time and a reason.
const ENTRY: u64 = 64;
/// The part of the memory that a complete list may take of which nothing is known ...
const PART: u64 = 4;
/// ... which it may be longer than the one in force twice over ...
const MORE_PART: u64 = 32;
/// ... and which a delta may take.
const DELTA_PART: u64 = 64;

/// Bodies up to so many bytes are read at once; of longer ones, one at a time ...
pub(super) const SHORT: u64 = 256 * 1024;
/// ... from the authority itself ...
pub(super) static FROM_AUTHORITY: Semaphore = Semaphore::const_new(1);
/// ... and one from elsewhere: who keeps that one waiting does not keep the other.
pub(crate) static FROM_ELSEWHERE: Semaphore = Semaphore::const_new(1);

/// The most bytes of a complete list: what was announced, or else what follows from the list in force.
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

/// The next list may lie there already, which is a little longer.
fn as_announced(size: u64) -> u64 {
    size.saturating_add(size / 4).saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_is_announced_or_in_force_bounds_what_is_read() {
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
