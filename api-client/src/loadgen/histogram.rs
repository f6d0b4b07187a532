//! Draws latencies as a text histogram.
//!
//! It never measures anything.

use std::{fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;

use super::summary::Short;

/// The length of the longest bar.
const WIDTH: u64 = 40;
/// The upper bound of a line is that of the line before it times this.
const STEP: f64 = 1.6;

/// One line for each range of latencies (in microseconds). The bounds grow by a constant factor. Empty ranges at both
/// ends are left out.
pub(crate) fn draw(latencies: &Histogram<u64>) -> String {
    let mut lines = Vec::new();
    let mut from = latencies.min();
    for iteration in latencies.iter_log(from.max(1), STEP) {
        lines.push((from, iteration.value_iterated_to(), iteration.count_since_last_iteration()));
        from = iteration.value_iterated_to().saturating_add(1);
    }
    let longest = lines.iter().map(|line| line.2).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (_, to, count) in lines.into_iter().skip_while(|line| line.2 == 0) {
        // Every bar that is not empty has a length of at least one, because the slowest requests are few and important.
        let bar = usize::try_from((count * WIDTH).div_ceil(longest)).unwrap_or(0);
        let to = Short(Duration::from_micros(to)).to_string();
        let _ = write!(text, "\n  up to {to:>8}  {count:>9}  {}", "#".repeat(bar));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_one_line() {
        let mut latencies = Histogram::new_with_max(1_000_000, 3).unwrap();
        for (micros, times) in [(90, 700), (110, 250), (2_500, 49), (80_000, 1)] {
            latencies.record_n(micros, times).unwrap();
        }
        let text = draw(&latencies);
        let counts: Vec<u64> = text.lines().filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 1_000, "{text}");
        assert_eq!(text.lines().filter(|line| line.ends_with('#')).count(), 3, "{text}");
        assert!(text.lines().any(|line| line.ends_with(&"#".repeat(40))), "{text}");
    }
}
