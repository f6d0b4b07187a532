//! A set of serial numbers that is built once and then only asked: small, and as fast with a million entries as with one.
//!
//! It never allocates after it was built.

use std::collections::HashSet;

use pki::serial::Serial;

/// At most twice as many numbers share a bucket on average: one or two cache lines for them, one more for the bucket's place.
const BUCKET: usize = 2;
/// Odd, so that multiplying by it maps numbers one to one; its high bits depend on all bits of what it multiplies.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A set of serial numbers.
///
/// Numbers of up to 16 octets, which is all that this system and most others issue, take 16 octets each: spread by a
/// multiplication, sorted, and found through an index of their highest bits. Longer ones are few or none.
#[derive(Debug)]
pub(crate) struct SerialSet {
    /// Spread and sorted.
    numbers: Box<[u128]>,
    /// Where the numbers with these highest bits begin; one more entry at the end.
    index: Box<[u32]>,
    /// How far a number is shifted to leave its highest bits.
    shift: u32,
    long: HashSet<Serial>,
}

impl SerialSet {
    pub(crate) fn contains(&self, serial: &Serial) -> bool {
        match serial.to_u128() {
            Some(number) => self.contains_spread(spread(number)),
            None => self.long.contains(serial),
        }
    }

    /// Whether each of its numbers is in one of these sets.
    pub(crate) fn is_within(&self, sets: &[&Self]) -> bool {
        self.numbers.iter().all(|number| sets.iter().any(|set| set.contains_spread(*number)))
            && self.long.iter().all(|serial| sets.iter().any(|set| set.long.contains(serial)))
    }

    fn contains_spread(&self, number: u128) -> bool {
        let bucket = bucket_of(number, self.shift);
        match (self.index.get(bucket), self.index.get(bucket + 1)) {
            (Some(&from), Some(&to)) => self.numbers[from as usize..to as usize].binary_search(&number).is_ok(),
            _ => false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len() + self.long.len()
    }
}

impl Default for SerialSet {
    fn default() -> Self {
        std::iter::empty().collect()
    }
}

impl FromIterator<Serial> for SerialSet {
    fn from_iter<I: IntoIterator<Item = Serial>>(serials: I) -> Self {
        let serials = serials.into_iter();
        let mut numbers = Vec::with_capacity(serials.size_hint().0);
        let mut long = HashSet::new();
        for serial in serials {
            match serial.to_u128() {
                Some(number) => numbers.push(spread(number)),
                None => _ = long.insert(serial),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let bits = (numbers.len() / BUCKET).max(1).ilog2();
        let shift = u128::BITS - bits;
        let mut index = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for bucket in 0..=1_usize << bits {
            at += numbers[at..].iter().take_while(|number| bucket_of(**number, shift) < bucket).count();
            index.push(u32::try_from(at).expect("a CRL of 256 MiB has fewer than four thousand million entries"));
        }
        Self { numbers: numbers.into(), index: index.into(), shift, long }
    }
}

fn spread(number: u128) -> u128 {
    number.wrapping_mul(SPREAD)
}

fn bucket_of(number: u128, shift: u32) -> usize {
    // With one bucket only there is nothing to shift by: 128 bits at once would overflow.
    usize::try_from(number.checked_shr(shift).unwrap_or(0)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(number: u128) -> Serial {
        Serial::from_magnitude(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn has_what_was_put_in_and_nothing_else() {
        for count in [0, 1, 7, 8, 9, 63, 64, 1_000, 50_000] {
            let set: SerialSet = (1..=count).map(|number| serial(number * 3)).collect();
            assert_eq!(set.len(), usize::try_from(count).unwrap());
            for number in 1..=count {
                assert!(set.contains(&serial(number * 3)), "{number} of {count}");
                assert!(!set.contains(&serial(number * 3 - 1)), "{number} of {count}");
            }
        }
    }

    #[test]
    fn knows_serials_of_every_length_and_counts_each_once() {
        let short = serial(1);
        let long = Serial::from_magnitude(&[0x7f; 20]).unwrap();
        let highest = serial(u128::MAX);
        assert!(!SerialSet::default().contains(&highest));
        let set: SerialSet = [short, long, highest, short, long].into_iter().collect();
        assert_eq!(set.len(), 3);
        assert!(set.contains(&short) && set.contains(&long) && set.contains(&highest));
        assert!(!set.contains(&Serial::from_magnitude(&[0x7e; 20]).unwrap()));
    }

    #[test]
    fn is_within_others_where_each_number_is_in_one_of_them() {
        let long = |octet| Serial::from_magnitude(&[octet; 20]).unwrap();
        let set: SerialSet = [serial(1), serial(2), long(0x7f)].into_iter().collect();
        let (one, two): (SerialSet, SerialSet) =
            ([serial(1), long(0x7f)].into_iter().collect(), [serial(2), serial(3), long(0x7e)].into_iter().collect());
        assert!(set.is_within(&[&one, &two]) && set.is_within(&[&set]));
        assert!(!set.is_within(&[&one]) && !set.is_within(&[&two]) && !set.is_within(&[]));
        assert!(SerialSet::default().is_within(&[]));
    }
}
