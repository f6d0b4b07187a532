//! A bounded map that forgets what was not asked for lately.
//!
//! It knows nothing of what it keeps.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, mem};

/// What was put in or asked for lately, and what was before that: the older half goes when the newer one is full. That takes no list of
/// who came when, and the same time with any number of entries.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    bound: usize,
    /// What an entry counts for: one, or its bytes.
    weigh: fn(&V) -> usize,
    /// All that was put into the young half.
    weight: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// Keeps at least the `bound` entries that were put in or asked for last, and at most twice as many altogether.
    pub(crate) fn new(bound: usize) -> Self {
        Self::weighing(bound, |_| 1)
    }

    /// Keeps no more than twice the `bound` altogether, of what is weighed.
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
        // What was put in twice must not come back.
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
    fn what_is_asked_for_is_kept_and_no_more_than_twice_the_bound_altogether() {
        let mut generations = Generations::new(10);
        for number in 0..100 {
            generations.insert(number, number);
            assert_eq!(generations.recall(&0), Some(0), "it is asked for all the time");
            assert!(generations.young.len() + generations.old.len() <= 20);
        }
        assert_eq!((generations.recall(&1), generations.recall(&99)), (None, Some(99)));
        assert_eq!((generations.take(&99), generations.take(&99), generations.recall(&99)), (Some(99), None, None));
    }

    #[test]
    fn what_is_weighed_is_bounded_by_its_weight() {
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
    fn what_was_put_in_twice_is_taken_once() {
        let mut generations = Generations::new(1);
        for (key, value) in [(1, "first"), (2, "other"), (1, "second")] {
            generations.insert(key, value);
        }
        assert_eq!((generations.take(&1), generations.take(&1)), (Some("second"), None));
    }
}
