//! How long to wait before another attempt. The pause grows with each failure, and differs between instances that
//! failed at the same time.
//!
//! It never waits itself, and receives its randomness.

use std::{fmt, time::Duration};

/// The pauses between attempts.
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    /// Returns uniformly distributed numbers.
    draw: Box<dyn FnMut() -> u32 + Send + Sync>,
}

impl Backoff {
    /// Pauses of `first` on average, doubled after each.
    pub(crate) fn new(first: Duration, draw: impl FnMut() -> u32 + Send + Sync + 'static) -> Self {
        Self { first, next: first, draw: Box::new(draw) }
    }

    /// The next pause, which is at most `longest` on average.
    pub(crate) fn pause(&mut self, longest: Duration) -> Duration {
        let average = self.next.min(longest);
        self.next = average * 2;
        self.jittered(average)
    }

    /// After a success, the next pause is the first one again.
    pub(crate) fn restart(&mut self) {
        self.next = self.first;
    }

    /// A random duration from half to one and a half times the average, so that a thousand relying parties do not
    /// reconnect at the same time.
    pub(crate) fn jittered(&mut self, average: Duration) -> Duration {
        average.mul_f64(0.5 + f64::from((self.draw)()) / f64::from(u32::MAX))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Backoff").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_success() {
        for (drawn, permille) in [(0, 500), (u32::MAX, 1500)] {
            let mut backoff = Backoff::new(FIRST, move || drawn);
            let expect = |millis: [u64; 3]| millis.map(|millis| Duration::from_micros(millis * permille)).to_vec();
            let three = |backoff: &mut Backoff| (0..3).map(|_| backoff.pause(LONGEST)).collect::<Vec<_>>();
            assert_eq!(three(&mut backoff), expect([100, 200, 400]));
            assert_eq!(three(&mut backoff), expect([800, 1000, 1000]));
            backoff.restart();
            assert_eq!(three(&mut backoff), expect([100, 200, 400]));
        }
    }

    proptest! {
        #[test]
        fn different_numbers_give_different_pauses(one: u16, other: u16, average in 10_u64..100_000) {
            let jittered = |drawn: u16| {
                let drawn = u32::from(drawn) << 16;
                Backoff::new(FIRST, move || drawn).jittered(Duration::from_millis(average))
            };
            // 65,536 different numbers give as many different pauses, in the same order, within half of the average to
            // either side.
            prop_assert_eq!(one.cmp(&other), jittered(one).cmp(&jittered(other)));
            let bounds = Duration::from_millis(average) / 2..=Duration::from_millis(average) * 3 / 2;
            prop_assert!(bounds.contains(&jittered(one)));
        }
    }
}
