//! Layout of text for a terminal: aligned columns without borders, wrapped cells, wrapped prose.
//!
//! It never prints, and never truncates.

use std::cmp::Reverse;

/// The columns of the narrowest terminal that is supported.
pub(in crate::cli) const WIDTH: usize = 80;
/// Between two columns.
const GAP: usize = 2;
/// How much the continuation of a line is indented.
const INDENT: usize = 2;

/// The width of a text, in columns.
pub(in crate::cli) fn columns_of(text: &str) -> usize {
    text.chars().count()
}

/// One line. Each cell except the last is padded to its column's width.
pub(in crate::cli) fn line<const N: usize>(cells: &[impl AsRef<str>; N], widths: &[usize; N]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, &width)| format!("{:width$}{:GAP$}", cell.as_ref(), ""));
    cells.collect::<String>().trim_end().to_owned()
}

/// If a row is wider than [`WIDTH`], its last cell goes on a line of its own.
pub(in crate::cli) fn line_or_two<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let whole = line(cells, widths);
    let Some((last, rest)) = cells.split_last().filter(|_| columns_of(&whole) > WIDTH) else { return whole };
    let mut first: [&str; N] = [""; N];
    first.iter_mut().zip(rest).for_each(|(cell, text)| *cell = text);
    format!("{}\n{:INDENT$}{last}", line(&first, widths), "")
}

/// A table of at most [`WIDTH`] columns. Cells are wrapped at spaces, and the longest words are broken if that is not
/// enough.
pub(in crate::cli) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
    let widths = widths(&rows);
    let mut table = String::new();
    for row in &rows {
        let mut cells = [const { Vec::new() }; N];
        for ((cell, text), &width) in cells.iter_mut().zip(row).zip(&widths) {
            *cell = wrapped(text, width, width);
        }
        for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let of_line = cells.each_ref().map(|cell| cell.get(index).map_or("", String::as_str));
            table += &line(&of_line, &widths);
            table.push('\n');
        }
    }
    table
}

fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    let (mut widths, mut words) = ([0; N], [1; N]);
    for row in rows {
        for ((width, word), cell) in widths.iter_mut().zip(&mut words).zip(row) {
            *width = columns_of(cell).max(*width);
            *word = cell.split(' ').map(columns_of).max().unwrap_or(0).max(*word);
        }
    }
    let room = WIDTH.saturating_sub(GAP * N.saturating_sub(1));
    for least in [words, [1; N]] {
        while widths.iter().sum::<usize>() > room {
            let shrinkable = widths.iter_mut().zip(least).filter(|(width, least)| **width > *least);
            // The first of the widest columns.
            let Some((widest, _)) = shrinkable.min_by_key(|(width, _)| Reverse(**width)) else { break };
            *widest -= 1;
        }
    }
    widths
}

/// Prose. Lines longer than [`WIDTH`] are continued on the next line, indented. A command at the end of a line stays
/// whole, so that it can be copied.
pub(in crate::cli) fn prose(text: &str) -> String {
    let mut fitted = String::new();
    for line in text.lines() {
        let indent = line.chars().take_while(|character| *character == ' ').count();
        let (before, command) = match line.find(": ca-daemon ") {
            Some(at) if columns_of(line) > WIDTH => (&line[..=at], Some(&line[at + 2..])),
            _ => (line, None),
        };
        let further = indent + INDENT;
        let mut lines = wrapped(&before[indent..], WIDTH - indent, WIDTH.saturating_sub(further)).into_iter();
        fitted.extend([format!("{:indent$}{}\n", "", lines.next().unwrap_or_default())]);
        fitted.extend(lines.chain(command.map(str::to_owned)).map(|line| format!("{:further$}{line}\n", "")));
    }
    fitted
}

/// The text in lines of these widths, broken at spaces, and in words that are wider than a line.
fn wrapped(text: &str, first: usize, others: usize) -> Vec<String> {
    let (mut lines, mut line, mut room) = (Vec::new(), String::new(), first.max(1));
    for mut word in text.split(' ') {
        loop {
            let taken = columns_of(&line);
            let gap = usize::from(taken > 0);
            if taken + gap + columns_of(word) <= room {
                line.extend((0..gap).map(|_| ' '));
                line += word;
                break;
            }
            if taken == 0 {
                let end = word.char_indices().nth(room).map_or(word.len(), |(end, _)| end);
                let (start, rest) = word.split_at(end);
                line += start;
                word = rest;
            }
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
            room = others.max(1);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str) -> bool {
        text.lines().all(|line| columns_of(line) <= WIDTH)
    }

    #[test]
    fn a_table_has_room_on_a_terminal() {
        let hosts = "localhost 127.0.0.1 ::1 api.example 10.98.76.0/24";
        let row = ["0123456789ab", "server", "service0", hosts, "1 of 1", "2026-11-28 09:00:00Z", "usable"];
        let header = ["ID", "PROFILE", "NAMES", "HOSTS", "USED", "EXPIRES", "STATUS"];
        let wide = table(header, [row.map(str::to_owned)]);
        assert!(fits(&wide), "{wide}");
        assert!(
            row.iter().flat_map(|cell| cell.split(' ')).all(|word| wide.contains(word)),
            "words stay whole:\n{wide}"
        );
        assert_eq!(table(["A", "B"], [["1", "2"].map(str::to_owned)]), "A  B\n1  2\n");
        let name = "n".repeat(64);
        let row = ["0123456789ab", "server", &name, hosts, "1 of 1", "2026-11-28 09:00:00Z", "usable"];
        let longest = table(header, [row.map(str::to_owned)]);
        assert!(fits(&longest) && longest.matches('n').count() >= 64, "{longest}");
        assert!(longest.contains("10.98.76.0/24"), "the longest word is broken, and no other:\n{longest}");
    }

    #[test]
    fn a_last_cell_without_room_is_below_its_row() {
        let widths = [32, 6, 7, 10, 64];
        let row = |name: &str| ["0".repeat(32), "client".into(), "valid".into(), "2026-11-28".into(), name.into()];
        assert_eq!(line_or_two(&row("short"), &widths).lines().count(), 1);
        let long = line_or_two(&row(&"n".repeat(64)), &widths);
        assert!(fits(&long) && long.ends_with(&format!("2026-11-28\n  {}", "n".repeat(64))), "{long}");
    }

    #[test]
    fn wrapped_prose_is_indented_and_a_command_stays_whole() {
        let short = "  service0    3 ms      1\n";
        assert_eq!(prose(short), short);
        let long = format!("  service0    not confirmed: {}end\n", "word ".repeat(20));
        let fitted = prose(&long);
        assert!(fits(&fitted) && fitted.starts_with("  service0    not confirmed: word"), "{fitted}");
        assert!(fitted.lines().nth(1).unwrap().starts_with("    word"), "{fitted}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&fitted), words(&long), "nothing is lost");
        let serial = "0".repeat(32);
        let command = format!("client_1 (serial {serial}) is compromised: ca-daemon revoke --serial {serial}\n");
        assert!(prose(&command).ends_with(&format!("compromised:\n  ca-daemon revoke --serial {serial}\n")));
    }
}
