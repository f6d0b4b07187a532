//! A bounded map that drops entries that were not used lately.
//!
//! It never interprets what it stores.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, mem};

/// Two halves: entries that were inserted or used lately, and older ones. When the young half is full, the old half is
/// dropped. That needs no list in order of use, and takes the same time with any number of entries.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    bound: usize,
    /// What an entry counts for: one, or its bytes.
    weigh: fn(&V) -> usize,
    /// The weight of everything that was inserted into the young half.
    weight: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// Keeps at least the `bound` entries that were inserted or used last, and at most twice as many.
    pub(crate) fn new(bound: usize) -> Self {
        Self::weighing(bound, |_| 1)
    }

    /// Keeps entries with a weight of at most twice the `bound`.
    pub(crate) fn weighing(bound: usize, weigh: fn(&V) -> usize) -> Self {
        Self { bound, weigh, weight: 0, young: HashMap::new(), old: HashMap::new() }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let weight = (self.weigh)(&value);
        if self.weight + weight > self.bound {
            self.old = mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        if let Some(before) = self.young.insert(key, value) {
            self.weight -= (self.weigh)(&before);
        }
    }

    pub(crate) fn take<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let young = self.young.remove(key);
        self.weight -= young.as_ref().map_or(0, self.weigh);
        // Also from the old half, so that an entry that was inserted twice does not come back.
        let old = self.old.remove(key);
        young.or(old)
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Generations<K, V> {
    pub(crate) fn recall(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(*key, value.clone());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_entries_are_kept_and_at_most_twice_the_bound() {
        let mut generations = Generations::new(10);
        for number in 0..100 {
            generations.insert(number, number);
            assert_eq!(generations.recall(&0), Some(0), "it is used all the time");
            assert!(generations.young.len() + generations.old.len() <= 20);
        }
        assert_eq!((generations.recall(&1), generations.recall(&99)), (None, Some(99)));
        assert_eq!((generations.take(&99), generations.take(&99), generations.recall(&99)), (Some(99), None, None));
    }

    #[test]
    fn weighed_entries_are_bounded_by_their_weight() {
        let mut generations = Generations::weighing(100, Vec::len);
        let weigh = |half: &HashMap<usize, Vec<u8>>| half.values().map(Vec::len).sum::<usize>();
        for number in 0..100 {
            generations.insert(number, vec![0; number]);
            if number % 3 == 0 {
                assert_eq!(generations.take(&number).map(|value| value.len()), Some(number));
            }
            assert!(weigh(&generations.young) <= 100 && weigh(&generations.old) <= 100, "{number}");
            assert_eq!(weigh(&generations.young), generations.weight, "{number}");
        }
        generations.insert(98, vec![0; 50]);
        generations.insert(98, vec![0; 40]);
        assert_eq!((generations.weight, generations.take(&98).map(|value| value.len())), (40, Some(40)));
    }

    #[test]
    fn an_entry_that_was_inserted_twice_is_removed_once() {
        let mut generations = Generations::new(1);
        for (key, value) in [(1, "first"), (2, "other"), (1, "second")] {
            generations.insert(key, value);
        }
        assert_eq!((generations.take(&1), generations.take(&1)), (Some("second"), None));
    }
}
