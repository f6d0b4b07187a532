//! What has moved since a table was written.
//!
//! It never calls a difference a regression: machines differ, and a reader knows which one it was.

use std::{collections::HashMap, fmt::Write as _};

use crate::{rounds::parse, table::Table};

/// One line for each measurement that lies outside of what it was before, in all of its rounds.
pub(crate) fn moved(before: &str, tables: &[Table]) -> String {
    let before = read(before);
    let mut text = String::new();
    for table in tables {
        for (what, rounds) in table.measured() {
            let Some((median, min, max)) = before.get(&(table.title(), what)) else { continue };
            if rounds.is_empty() || (rounds.min() <= *max && rounds.max() >= *min) {
                continue;
            }
            let (unit, title) = (rounds.unit(), table.title());
            let percent = (rounds.median() / median - 1.0) * 100.0;
            let (was, is) = (unit.show(*median), unit.show(rounds.median()));
            let _ = writeln!(text, "- {title}: {what}: {was} -> {is} ({percent:+.0} %)");
        }
    }
    if text.is_empty() { "nothing has moved by more than its noise\n".to_owned() } else { text }
}

/// Median, least and most of every line, by the table's title and the line's name.
fn read(markdown: &str) -> HashMap<(&str, &str), (f64, f64, f64)> {
    let (mut title, mut lines) = ("", HashMap::new());
    for line in markdown.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            title = heading;
        }
        if let [_, what, median, _, min, max, ..] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
            && let (Some(median), Some(min), Some(max)) = (parse(median), parse(min), parse(max))
        {
            lines.insert((title, what), (median, min, max));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::{Rounds, Unit};

    fn table(values: [f64; 3]) -> Table {
        let mut table = Table::new("Handshakes");
        table.row("CPU", Rounds::of(Unit::Seconds, values));
        table.row("new", Rounds::of(Unit::Ratio, values));
        table
    }

    #[test]
    fn what_overlaps_has_not_moved() {
        let before = table([1e-3, 2e-3, 3e-3]).to_markdown();
        assert!(moved(&before, &[table([3e-3, 3.5e-3, 4e-3])]).contains("nothing has moved"));
        let text = moved(&before, &[table([4e-3, 5e-3, 6e-3])]);
        assert!(text.contains("- Handshakes: CPU: 2.00 ms -> 5.00 ms (+150 %)"), "{text}");
        assert!(moved("", &[table([4e-3, 5e-3, 6e-3])]).contains("nothing has moved"), "there was nothing before");
    }
}
