//! A set of serial numbers that is built once and then only queried. It is small, and a lookup takes the same time with
//! one entry or a million.
//!
//! It never allocates after it was built.

use std::collections::HashSet;

use pki::serial::Serial;

/// One slot in this many stays free. With fewer free slots, numbers are stored further from their homes. With more, a
/// million numbers take more than 20 MB.
const CROWD: usize = 9;
/// How many numbers share a word of the filter on average. About one in twenty-five numbers that are not in the set
/// passes the filter.
const SHARE: usize = 8;
/// How many slots are compared at once, without a branch that the processor could mispredict. They fill one or two
/// cache lines.
const NEAR: usize = 6;
/// 2^128 divided by the golden ratio. It is odd, so multiplying by it maps numbers one to one. The high bits of the
/// product depend on all bits of the input, so consecutive numbers end up far apart.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A set of serial numbers.
///
/// Numbers of up to 16 bytes, which almost every issuer uses, are spread by a multiplication and stored in one sorted
/// table. The home of a number is proportional to it: 0 maps to the start of the table, and 2^128 to its end. A number
/// is stored at its home, or a little below if higher numbers took the room. So one small range of memory decides
/// whether the number is in the set, and usually only that range is read from beyond the processor's caches. A free
/// slot repeats the number below it, which keeps the table sorted throughout.
///
/// Most queried numbers are not in the set. A filter rejects most of them. It takes one byte for each number in the
/// set, so it stays in the processor's caches.
///
/// Longer numbers are few or none. They are in a hash set.
#[derive(Debug)]
pub(crate) struct SerialSet {
    /// Some bits are set in one word for each number.
    filter: Box<[u64]>,
    table: Box<[u128]>,
    /// The number of homes.
    homes: usize,
    /// The slot of the lowest home. Below it are the numbers that others crowded out.
    lowest: usize,
    /// How many numbers are in the table.
    count: usize,
    long: HashSet<Serial>,
}

impl SerialSet {
    pub(crate) fn contains(&self, serial: &Serial) -> bool {
        match serial.to_u128() {
            Some(number) => self.contains_spread(spread(number)),
            None => self.long.contains(serial),
        }
    }

    /// Whether each of its numbers is in at least one of these sets.
    pub(crate) fn is_within(&self, sets: &[&Self]) -> bool {
        self.outside(sets).next().is_none() && self.long_outside(sets).next().is_none()
    }

    /// How many of its numbers are in none of these sets.
    pub(crate) fn count_outside(&self, sets: &[&Self]) -> usize {
        self.outside(sets).count() + self.long_outside(sets).count()
    }

    fn outside<'a>(&'a self, sets: &'a [&Self]) -> impl Iterator<Item = u128> {
        // A free slot repeats the number below it.
        let mut below = 0;
        let numbers = self.table.iter().filter(move |number| std::mem::replace(&mut below, **number) != **number);
        numbers.copied().filter(|number| !sets.iter().any(|set| set.contains_spread(*number)))
    }

    fn long_outside<'a>(&'a self, sets: &'a [&Self]) -> impl Iterator<Item = &'a Serial> {
        self.long.iter().filter(|serial| !sets.iter().any(|set| set.long.contains(serial)))
    }

    fn contains_spread(&self, number: u128) -> bool {
        if self.filter[home(number, self.filter.len())] & bits(number) != bits(number) {
            return false;
        }
        let up_to_home = &self.table[..=self.lowest + home(number, self.homes)];
        let near = up_to_home.last_chunk::<NEAR>().expect("the lowest home has as many places below it");
        let above = near.iter().filter(|other| high(**other) > high(number)).count();
        match near.iter().rev().nth(above) {
            Some(found) if *found == number => true,
            Some(other) if high(*other) < high(number) => false,
            _ => is_further_below(up_to_home, number),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count + self.long.len()
    }
}

/// Search for the few numbers that many others crowded out. A hostile issuer could choose numbers that all have one
/// home. So the steps double: the number of steps grows with the logarithm of the number of entries, whatever the
/// entries are. The table is at most a little over twice as long as there are numbers.
#[cold]
fn is_further_below(up_to_home: &[u128], number: u128) -> bool {
    let highest = up_to_home.len() - 1;
    let mut leap = NEAR;
    while highest.checked_sub(leap).is_some_and(|place| up_to_home[place] > number) {
        leap *= 2;
    }
    up_to_home[highest.saturating_sub(leap)..].binary_search(&number).is_ok()
}

impl Default for SerialSet {
    fn default() -> Self {
        std::iter::empty().collect()
    }
}

impl FromIterator<Serial> for SerialSet {
    fn from_iter<I: IntoIterator<Item = Serial>>(serials: I) -> Self {
        let serials = serials.into_iter();
        let (expected, _) = serials.size_hint();
        let mut table = Vec::with_capacity(homes_of(expected) + NEAR);
        let mut long = HashSet::new();
        for serial in serials {
            match serial.to_u128() {
                Some(number) => table.push(spread(number)),
                None => _ = long.insert(serial),
            }
        }
        Self::of_spread(table, long)
    }
}

impl SerialSet {
    /// The union of two sets.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let tables = self.table.iter().chain(&other.table);
        let long = self.long.union(&other.long).copied().collect();
        Self::of_spread(tables.copied().filter(|number| *number != 0).collect(), long)
    }

    /// Builds a set of numbers that are spread already, in any order.
    fn of_spread(mut table: Vec<u128>, long: HashSet<Serial>) -> Self {
        table.sort_unstable();
        table.dedup();
        let count = table.len();
        let words = count / SHARE + 1;
        let mut filter = vec![0; words];
        for number in &table {
            filter[home(*number, words)] |= bits(*number);
        }
        let homes = homes_of(count);
        // All numbers that are lower than a number must find room below its home.
        let crowded_out = table.iter().enumerate().map(|(lower, number)| lower.saturating_sub(home(*number, homes)));
        let lowest = crowded_out.max().unwrap_or(0).max(NEAR - 1);
        table.resize(lowest + homes, 0);
        // From the highest down, each number moves to its home or below the previous one. It never overwrites a number
        // that has not moved yet.
        let mut free = table.len();
        for from in (0..count).rev() {
            let number = table[from];
            let place = (lowest + home(number, homes)).min(free - 1);
            table[place..free].fill(number);
            free = place;
        }
        // No serial number is zero.
        table[..free].fill(0);
        Self { filter: filter.into(), table: table.into(), homes, lowest, count, long }
    }
}

fn spread(number: u128) -> u128 {
    number.wrapping_mul(SPREAD)
}

fn homes_of(count: usize) -> usize {
    count + count / CROWD + 1
}

/// The home of a spread number, if there are this many homes.
fn home(number: u128, homes: usize) -> usize {
    let place = (u128::from(high(number)) * homes as u128) >> 64;
    usize::try_from(place).expect("it is less than the number of homes")
}

/// Up to three bits of a word. They are taken from bits of the number that do not select the word.
fn bits(number: u128) -> u64 {
    let low = high(number);
    [0, 6, 12].into_iter().fold(0, |bits, from| bits | 1 << (low >> from & 63))
}

/// The high 64 bits. They differ for all but a few in 2^64 pairs of numbers.
fn high(number: u128) -> u64 {
    u64::try_from(number >> 64).expect("64 bits are left")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn serial(number: u128) -> Serial {
        Serial::from_magnitude(&number.to_be_bytes()).unwrap()
    }

    /// Inverts the spread.
    fn unspread(number: u128) -> u128 {
        // Newton's iteration for the inverse modulo 2^128. Each step doubles the number of correct low bits.
        let inverse =
            (0..7).fold(1_u128, |inverse, _| inverse.wrapping_mul(2_u128.wrapping_sub(SPREAD.wrapping_mul(inverse))));
        number.wrapping_mul(inverse)
    }

    /// Serial numbers of honest and hostile authorities: random, consecutive, in steps of a power of two, all with one
    /// home, of all lengths, and some of them twice.
    fn serials() -> impl Strategy<Value = Vec<Serial>> {
        let one_after_another = (any::<u128>(), 0..128_u32, 1..500_usize).prop_map(|(first, step, count)| {
            (0..count as u128).map(|index| first.wrapping_add(index << step)).collect::<Vec<_>>()
        });
        let of_one_home = (any::<u128>(), 1..500_usize)
            .prop_map(|(first, count)| (0..count as u128).map(|index| unspread(first.saturating_add(index))).collect());
        let numbers = prop_oneof![prop::collection::vec(any::<u128>(), 0..500), one_after_another, of_one_home];
        let of_any_length = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..20);
        (prop::collection::vec(numbers, 0..3), of_any_length).prop_map(|(numbers, of_any_length)| {
            let of_any_length = of_any_length.iter().filter_map(|bytes| Serial::from_magnitude(bytes).ok());
            let numbers = numbers.concat().into_iter().filter(|number| *number != 0).map(serial);
            let serials: Vec<_> = numbers.chain(of_any_length).collect();
            let again = serials.iter().step_by(7).copied().collect();
            [serials, again].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn contains_exactly_what_was_inserted(serials in serials(), others in serials()) {
            let set: SerialSet = serials.iter().copied().collect();
            let expected: HashSet<_> = serials.iter().copied().collect();
            prop_assert_eq!(set.len(), expected.len());
            prop_assert!(set.table.is_sorted() && set.table.len() <= 2 * set.count + set.count / CROWD + NEAR);
            let beside = serials.iter().filter_map(|serial| serial.to_u128()).flat_map(|number| {
                // Its neighbours in the table, and its neighbours among the serial numbers.
                let spread = spread(number);
                [unspread(spread.wrapping_add(1)), unspread(spread.wrapping_sub(1)), number ^ 1, number.wrapping_add(1)]
            });
            let beside = beside.filter(|number| *number != 0).map(serial);
            for serial in serials.iter().copied().chain(others).chain(beside) {
                prop_assert_eq!(set.contains(&serial), expected.contains(&serial), "{}", serial);
            }
        }

        #[test]
        fn is_within_others_where_each_number_is_in_one_of_them(serials in serials(), others in serials()) {
            let (one, two) = serials.split_at(serials.len() / 2);
            let set = |serials: &[Serial]| serials.iter().copied().collect::<SerialSet>();
            let (set_of_all, one, two) = (set(&serials), set(one), set(two));
            let others_too = set(&[&serials[..], &others].concat());
            prop_assert!(set_of_all.is_within(&[&one, &two]) && one.is_within(&[&set_of_all]));
            prop_assert!(set_of_all.is_within(&[&others_too]));
            let is_within = serials.iter().all(|serial| one.contains(serial));
            prop_assert_eq!(set_of_all.is_within(&[&one]), is_within);
            prop_assert_eq!(set_of_all.is_within(&[]), serials.is_empty());
            let expected: HashSet<_> = serials.iter().filter(|serial| !one.contains(serial)).collect();
            prop_assert_eq!(set_of_all.count_outside(&[&one]), expected.len());
            prop_assert_eq!(set_of_all.count_outside(&[]), set_of_all.len());
            let union = one.union(&two);
            prop_assert!(set_of_all.is_within(&[&union]) && union.is_within(&[&set_of_all]));
            prop_assert_eq!(union.len(), set_of_all.len());
        }
    }

    #[test]
    fn knows_the_least_and_the_greatest_number() {
        let (least, greatest) = (serial(1), serial(u128::MAX));
        let ends = [unspread(1), unspread(u128::MAX)].map(serial);
        assert!(!SerialSet::default().contains(&greatest));
        let set: SerialSet = [least, greatest].into_iter().chain(ends).collect();
        assert!([least, greatest].iter().chain(&ends).all(|serial| set.contains(serial)) && set.len() == 4);
        assert!(!set.contains(&serial(2)) && SerialSet::default().is_within(&[]));
    }
}
