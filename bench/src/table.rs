//! The answer to one question: a table of what was measured, beside the goal, with a verdict in words.
//!
//! It never fails because of a number; it says by how much one fell short.

use std::fmt::Write as _;

use crate::{
    plot::Figure,
    rounds::{Rounds, Statistic, Unit},
};

/// What a number should come to at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    statistic: Statistic,
    bound: f64,
}

/// What became of a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed(String),
}

impl Goal {
    /// In the unit of what is measured.
    pub(crate) fn at_most(statistic: Statistic, bound: f64) -> Self {
        Self { statistic, bound }
    }

    fn show(self, rounds: &Rounds) -> String {
        format!("{} <= {}", self.statistic, rounds.unit().show(self.bound))
    }

    fn judge(self, rounds: &Rounds) -> Verdict {
        let value = rounds.statistic(self.statistic);
        if value <= self.bound && !rounds.is_empty() {
            return Verdict::Met;
        }
        if rounds.is_empty() {
            return Verdict::Missed("missed: nothing was measured".to_owned());
        }
        let percent = (value / self.bound - 1.0) * 100.0;
        Verdict::Missed(format!("missed by {percent:.0} % ({} {})", self.statistic, rounds.unit().show(value)))
    }
}

/// One line: what was measured, and what it should come to.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    rounds: Rounds,
    goals: Vec<Goal>,
}

/// One question and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
    figures: Vec<Figure>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), notes: Vec::new(), figures: Vec::new() }
    }

    /// Adds a line without a goal.
    pub(crate) fn row(&mut self, what: impl Into<String>, rounds: Rounds) {
        self.judged(what, rounds, []);
    }

    /// Adds a line with goals.
    pub(crate) fn judged(&mut self, what: impl Into<String>, rounds: Rounds, goals: impl Into<Vec<Goal>>) {
        self.rows.push(Row { what: what.into(), rounds, goals: goals.into() });
    }

    /// Adds a sentence below the table: how it was measured, or what a reader must know to judge it.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a drawing of what is in it.
    pub(crate) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// What was measured, by name.
    pub(crate) fn measured(&self) -> impl Iterator<Item = (&str, &Rounds)> {
        self.rows.iter().map(|row| (&*row.what, &row.rounds))
    }

    /// The goals that were missed, in words.
    pub(crate) fn missed(&self) -> Vec<String> {
        let judged = self.rows.iter().flat_map(|row| row.goals.iter().map(move |goal| (row, goal)));
        judged
            .filter_map(|(row, goal)| match goal.judge(&row.rounds) {
                Verdict::Met => None,
                Verdict::Missed(by) => {
                    Some(format!("{}: {}: goal {} {by}", self.title, row.what, goal.show(&row.rounds)))
                }
            })
            .collect()
    }

    /// Every goal: of what, the goal, what was measured, and whether that is enough.
    pub(crate) fn goals(&self) -> impl Iterator<Item = [String; 4]> {
        let judged = self.rows.iter().flat_map(|row| row.goals.iter().map(move |goal| (row, goal)));
        judged.map(|(row, goal)| {
            let rounds = &row.rounds;
            let verdict = match goal.judge(rounds) {
                Verdict::Met => "met".to_owned(),
                Verdict::Missed(_) => "**missed**".to_owned(),
            };
            let value = rounds.unit().show(rounds.statistic(goal.statistic));
            [row.what.clone(), goal.show(rounds), value, verdict]
        })
    }

    /// The ratios in it, in words: what ours comes to over what is beside it.
    pub(crate) fn ratios(&self) -> impl Iterator<Item = String> {
        let ratios = self.rows.iter().filter(|row| row.rounds.unit() == Unit::Ratio);
        ratios.map(|row| format!("{:>8}  {}: {}", row.rounds.unit().show(row.rounds.median()), self.title, row.what))
    }

    /// The table in Markdown, aligned so that it can be read as it is.
    pub(crate) fn to_markdown(&self) -> String {
        let header = ["", "p50", "p99", "min", "max", "rounds", "goal", "verdict"].map(str::to_owned);
        let mut lines = vec![header];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> =
            (0..8).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        let mut text = format!("### {}\n\n", self.title);
        for (index, line) in lines.iter().enumerate() {
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                let _ = if (1..=5).contains(&column) {
                    write!(text, "| {cell:>width$} ")
                } else {
                    write!(text, "| {cell:<width$} ")
                };
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    let _ =
                        if (1..=5).contains(&column) { write!(text, "|{dashes}:") } else { write!(text, "|{dashes}-") };
                }
                text.push_str("|\n");
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let Self { what, rounds, goals } = self;
        let show = |value| if rounds.is_empty() { "-".to_owned() } else { rounds.unit().show(value) };
        let shown: Vec<_> = goals.iter().map(|goal| goal.show(rounds)).collect();
        let verdicts: Vec<_> = goals
            .iter()
            .map(|goal| match goal.judge(rounds) {
                Verdict::Met => "met".to_owned(),
                Verdict::Missed(by) => format!("**{by}**"),
            })
            .collect();
        let verdict = if verdicts.iter().all(|verdict| verdict == "met") {
            verdicts.first().cloned().unwrap_or_default()
        } else {
            verdicts.join("; ")
        };
        [
            what.clone(),
            show(rounds.median()),
            show(rounds.p99()),
            show(rounds.min()),
            show(rounds.max()),
            rounds.len().to_string(),
            shown.join(", "),
            verdict,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_is_missed_says_by_how_much() {
        let mut table = Table::new("Question");
        let rounds = Rounds::of(Unit::Seconds, [0.010, 0.012, 0.015]);
        let goals = [Goal::at_most(Statistic::Median, 0.012), Goal::at_most(Statistic::P99, 0.010)];
        table.judged("cut", rounds, goals);
        table.judged("nothing", Rounds::new(Unit::Seconds), [Goal::at_most(Statistic::Median, 1.0)]);
        let missed = table.missed();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert_eq!(missed[0], "Question: cut: goal p99 <= 10.00 ms missed by 50 % (p99 15.00 ms)");
        assert!(missed[1].ends_with("nothing was measured"), "{missed:?}");
        let text = table.to_markdown();
        assert!(text.contains("| cut ") && text.contains("| met; **missed by 50 %"), "{text}");
    }
}
