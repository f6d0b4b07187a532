//! A set of serial numbers that is built once and then only asked: small, and as fast with a million entries as with one.
//!
//! It never allocates after it was built.

use std::collections::HashSet;

use pki::serial::Serial;

/// One place stays free for so many numbers. With fewer free ones, numbers lie further from their homes; with more, a million of
/// them takes more than 20 MB.
const CROWD: usize = 9;
/// So many numbers share a word of the filter on average: one in twenty-five or so of those that are not in the set passes it.
const SHARE: usize = 8;
/// As many places are looked at together, without a decision in between that a processor could guess wrong: one or two cache lines.
const NEAR: usize = 6;
/// Odd, so that multiplying by it maps numbers one to one; its high bits depend on all bits of what it multiplies, and numbers
/// that follow each other end up far apart (it is 2^128 divided by the golden ratio).
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A set of serial numbers.
///
/// Numbers of up to 16 octets, which is all that this system and most others issue, are spread by a multiplication, and lie sorted
/// in one table. The home of a number is as far up the table as the number itself is on its way from 0 to 2^128; it lies there or,
/// where higher ones have taken the room, a little below. So one piece of memory says whether it is in the set, and mostly that is
/// all that has to come from further away than the processor's caches. A place that is free repeats the number below it, so that
/// the table is sorted throughout.
///
/// Most numbers that are asked for are not in the set. A filter says so of most of them out of one octet for each number in the
/// set, few enough to stay in the processor's caches.
///
/// Longer numbers are few or none.
#[derive(Debug)]
pub(crate) struct SerialSet {
    /// For each number some bits are set in one word.
    filter: Box<[u64]>,
    table: Box<[u128]>,
    /// How many homes there are ...
    homes: usize,
    /// ... and the place of the lowest; below it are those that others have crowded out.
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

    /// Whether each of its numbers is in one of these sets.
    pub(crate) fn is_within(&self, sets: &[&Self]) -> bool {
        self.outside(sets).next().is_none() && self.long_outside(sets).next().is_none()
    }

    /// How many of its numbers are in none of these sets.
    pub(crate) fn count_outside(&self, sets: &[&Self]) -> usize {
        self.outside(sets).count() + self.long_outside(sets).count()
    }

    fn outside<'a>(&'a self, sets: &'a [&Self]) -> impl Iterator<Item = u128> {
        // A place that is free repeats the number below it.
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

/// For the few that many others have crowded out. An issuer could choose numbers that all have one home: the search takes leaps that
/// double, so that it ends after a number of steps that grows with the logarithm of how many there are, whatever they are; and the
/// table is little more than twice as long as there are numbers.
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
    /// What is in either of two.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let tables = self.table.iter().chain(&other.table);
        let long = self.long.union(&other.long).copied().collect();
        Self::of_spread(tables.copied().filter(|number| *number != 0).collect(), long)
    }

    /// Of numbers that are spread already, in any order.
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
        // All that are lower than a number have to find room below its home.
        let crowded_out = table.iter().enumerate().map(|(lower, number)| lower.saturating_sub(home(*number, homes)));
        let lowest = crowded_out.max().unwrap_or(0).max(NEAR - 1);
        table.resize(lowest + homes, 0);
        // From the highest down, each goes to its home or below the one before: never to where one lies that has not gone yet.
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

/// The home of a spread number among so many.
fn home(number: u128, homes: usize) -> usize {
    let place = (u128::from(high(number)) * homes as u128) >> 64;
    usize::try_from(place).expect("it is less than the number of homes")
}

/// Up to three bits of a word: out of those bits of a number that do not say which word.
fn bits(number: u128) -> u64 {
    let low = high(number);
    [0, 6, 12].into_iter().fold(0, |bits, from| bits | 1 << (low >> from & 63))
}

/// What decides between all numbers but a few in 2^64.
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

    /// The number that becomes this one when it is spread.
    fn unspread(number: u128) -> u128 {
        // Newton's iteration for the inverse modulo 2^128; each step doubles how many low bits are right.
        let inverse =
            (0..7).fold(1_u128, |inverse, _| inverse.wrapping_mul(2_u128.wrapping_sub(SPREAD.wrapping_mul(inverse))));
        number.wrapping_mul(inverse)
    }

    /// Serial numbers as authorities give them, and as one might that means harm: random, one after another, in steps of a power of
    /// two, with homes at one place of the table, and of all lengths; some of them twice.
    fn serials() -> impl Strategy<Value = Vec<Serial>> {
        let one_after_another = (any::<u128>(), 0..128_u32, 1..500_usize).prop_map(|(first, step, count)| {
            (0..count as u128).map(|index| first.wrapping_add(index << step)).collect::<Vec<_>>()
        });
        let of_one_home = (any::<u128>(), 1..500_usize)
            .prop_map(|(first, count)| (0..count as u128).map(|index| unspread(first.saturating_add(index))).collect());
        let numbers = prop_oneof![prop::collection::vec(any::<u128>(), 0..500), one_after_another, of_one_home];
        let of_any_length = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..20);
        (prop::collection::vec(numbers, 0..3), of_any_length).prop_map(|(numbers, of_any_length)| {
            let of_any_length = of_any_length.iter().filter_map(|octets| Serial::from_magnitude(octets).ok());
            let numbers = numbers.concat().into_iter().filter(|number| *number != 0).map(serial);
            let serials: Vec<_> = numbers.chain(of_any_length).collect();
            let again = serials.iter().step_by(7).copied().collect();
            [serials, again].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn has_what_was_put_in_and_nothing_else(serials in serials(), others in serials()) {
            let set: SerialSet = serials.iter().copied().collect();
            let expected: HashSet<_> = serials.iter().copied().collect();
            prop_assert_eq!(set.len(), expected.len());
            prop_assert!(set.table.is_sorted() && set.table.len() <= 2 * set.count + set.count / CROWD + NEAR);
            let beside = serials.iter().filter_map(|serial| serial.to_u128()).flat_map(|number| {
                // What lies beside it in the table, and what does among the serial numbers.
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
            let (set_of_all, one, two, others_too) = (set(&serials), set(one), set(two), set(&[&serials[..], &others].concat()));
            prop_assert!(set_of_all.is_within(&[&one, &two]) && one.is_within(&[&set_of_all]) && set_of_all.is_within(&[&others_too]));
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
