//! A series of measurements of one thing, and what is said of it.
//!
//! It never leaves out a measurement.

use std::{fmt, time::Duration};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds, shown in whatever fits.
    Seconds,
    /// Octets, shown as MB: millions of them; fewer than a tenth of that as kB.
    Octets,
    /// So many in a second.
    PerSecond,
    /// One number over another.
    Ratio,
    /// How much of a whole, which is 1; shown in percent.
    Share,
}

impl Unit {
    /// A number of this unit as people read it, with about three significant figures.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value.abs() >= 1.0 => format!("{value:.2} s"),
            Self::Seconds if value.abs() >= 1e-3 => format!("{} ms", figures(value * 1e3)),
            Self::Seconds if value.abs() >= 1e-6 => format!("{} us", figures(value * 1e6)),
            Self::Seconds => format!("{:.1} ns", value * 1e9),
            Self::Octets if value < 1e5 => format!("{:.2} kB", value / 1e3),
            Self::Octets => format!("{:.1} MB", value / 1e6),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Ratio => format!("{value:.3}x"),
            Self::Share => format!("{:.1} %", value * 100.0),
        }
    }
}

/// The number of such a text, in the unit's own terms; none if it is no number.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = text[..text.len() - unit.len()].parse().ok()?;
    let factor = match unit {
        " s" | "/s" | "x" => 1.0,
        " %" => 1e-2,
        " ms" => 1e-3,
        " us" => 1e-6,
        " ns" => 1e-9,
        " kB" => 1e3,
        " MB" => 1e6,
        // As they were shown in earlier results.
        " MiB" => f64::from(1 << 20),
        _ => return None,
    };
    Some(value * factor)
}

fn figures(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Measurements of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    unit: Unit,
    values: Vec<f64>,
}

/// What is said of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    Median,
    P99,
    Max,
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Median => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
        })
    }
}

impl Rounds {
    pub(crate) fn new(unit: Unit) -> Self {
        Self { unit, values: Vec::new() }
    }

    pub(crate) fn of(unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        Self { unit, values: values.into_iter().collect() }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        self.values.extend(values);
    }

    pub(crate) fn add_time(&mut self, took: Duration) {
        self.add(took.as_secs_f64());
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    pub(crate) fn statistic(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::Median => self.median(),
            Statistic::P99 => self.p99(),
            Statistic::Max => self.max(),
        }
    }

    /// This over that, round by round: rounds that lie beside each other met the same machine.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self::of(Unit::Ratio, self.values.iter().zip(&other.values).map(|(this, that)| this / that))
    }

    /// The smallest value that so much of the series is not above (nearest rank); 0 of nothing.
    fn quantile(&self, quantile: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "series have fewer than 2^52 values")]
        let rank = (quantile * sorted.len() as f64).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is small and not negative")]
        let index = (rank as usize).saturating_sub(1);
        sorted.get(index).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_series() {
        let rounds = Rounds::of(Unit::Seconds, (1..=200).rev().map(f64::from));
        let said = (rounds.min(), rounds.median(), rounds.p99(), rounds.max());
        assert_eq!(said.0.total_cmp(&1.0).is_eq(), said.3.total_cmp(&200.0).is_eq());
        assert_eq!(format!("{said:?}"), "(1.0, 100.0, 198.0, 200.0)");
        assert_eq!(Rounds::of(Unit::Seconds, [7.0]).p99().to_string(), "7");
    }

    #[test]
    fn numbers_are_shown_in_what_fits() {
        let shown = [12e-9, 214e-6, 4.5e-3, 2.0].map(|value| Unit::Seconds.show(value));
        assert_eq!(shown, ["12.0 ns", "214 us", "4.50 ms", "2.00 s"]);
        let read = shown.each_ref().map(|text| Unit::Seconds.show(parse(text).unwrap()));
        assert_eq!(read, shown);
        assert_eq!(parse(&Unit::Share.show(0.5)), Some(0.5));
        assert_eq!((parse(&Unit::Octets.show(20e6)), parse("1.0 MiB")), (Some(20e6), Some(1_048_576.0)));
        assert_eq!((&*Unit::Octets.show(1234.0), parse("1.23 kB")), ("1.23 kB", Some(1230.0)));
        assert_eq!((parse("-"), parse("12 apples"), parse("0.345x")), (None, None, Some(0.345)));
    }
}
