//! What is written in the end: the tables and figures, what was asked for beside what came of it, and on what machine.
//!
//! It never leaves out what fell short.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::table::Table;

/// Written by hand, from profiles: what stands in the way of the goals that are missed.
const PROFILES: &str = include_str!("../PROFILES.md");

/// Writes the tables to this file, and the figures beside it.
pub(crate) fn write(out: &Path, facts: &str, tables: &[Table], unanswered: &[String]) -> anyhow::Result<()> {
    let beside = |name: String| -> PathBuf { out.with_file_name(name) };
    for figure in tables.iter().flat_map(Table::figures) {
        let file = beside(figure.path());
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        figure.draw(&file)?;
    }
    let mut answers = String::new();
    for table in tables {
        let _ = writeln!(answers, "{}", table.to_markdown());
        for figure in table.figures() {
            let _ = writeln!(answers, "![{}]({})\n", figure.title, figure.path());
        }
    }
    let text = format!(
        "# Results\n\nWritten by `make bench`; every number is from one run on this machine, and none is asserted anywhere. Contenders take turns, \
         round after round, so that a drifting machine hurts all alike; p50, min and max are those of the rounds. CPU is that of the server \
         alone, out of `/proc`, as client and server share the cores. The peers' configurations are in [`peers`](peers).\n\n\
         ## The machine\n\n{facts}\n## What fell short\n\n{}\n{PROFILES}\n## Goals\n\n{}\n## The answers\n\n{answers}",
        missed(tables, unanswered),
        goals(tables),
    );
    fs::write(out, text.trim_end().to_owned() + "\n").with_context(|| out.display().to_string())
}

/// The goals that were missed, and the questions that were not answered, as a list.
pub(crate) fn missed(tables: &[Table], unanswered: &[String]) -> String {
    let unanswered = unanswered.iter().map(|why| format!("- Not answered: {why}\n"));
    let missed = tables.iter().flat_map(Table::missed).map(|missed| format!("- {missed}\n"));
    let missed: Vec<_> = unanswered.chain(missed).collect();
    if missed.is_empty() { "Every goal is met.\n".to_owned() } else { missed.concat() }
}

/// Every goal and what came of it, as a table.
fn goals(tables: &[Table]) -> String {
    let mut text = "| | goal | measured | |\n| --- | --- | ---: | --- |\n".to_owned();
    for (title, table) in tables.iter().map(|table| (table.title(), table)) {
        for [what, goal, value, verdict] in table.goals() {
            let _ = writeln!(text, "| {title}: {what} | {goal} | {value} | {verdict} |");
        }
    }
    text
}
