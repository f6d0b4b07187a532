//! How a command prints to standard output: aligned columns or text for people, JSON for programs.
//!
//! It never prints a secret that the command was not asked for.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout, Write},
    sync::LazyLock,
    time::Duration,
};

use edge::errors::problem;
use mtls::errors::error_chain;
use pki::time::Timestamp;
use serde::Serialize;

use crate::cli::ui::{
    columns,
    spool::{Printed, Spool},
};

/// How many things are listed by name for people.
pub(in crate::cli) const NAMED: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output could not be written: {0}")]
pub(in crate::cli) struct Unwritten(#[from] io::Error);

/// Where a command's results go.
pub(in crate::cli) struct Output(Format);

impl Output {
    pub(in crate::cli) fn new(json: bool) -> Self {
        Self(if json { Format::Json } else { Format::Text })
    }

    /// Prints `value` as JSON if `--json` was given, else what `text` makes of it.
    pub(in crate::cli) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut printed = match self.0 {
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Text => text(value),
        };
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        self.raw(printed.as_bytes())
    }

    /// The same as one line, returned instead of printed. JSON has no line breaks.
    pub(in crate::cli) fn as_line<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<String> {
        Ok(match self.0 {
            Format::Json => serde_json::to_string(value)?,
            Format::Text => text(value),
        })
    }

    /// Prints a list that need not fit into memory: a table with these columns, or a JSON array.
    pub(in crate::cli) fn list<const N: usize>(&self, columns: [&'static str; N]) -> List<N> {
        List {
            out: BufWriter::new(io::stdout()),
            format: self.0,
            is_for_people: self.is_for_people(),
            columns,
            widths: None,
        }
    }

    /// Prints bytes unchanged.
    #[expect(clippy::unused_self, reason = "printing requires the output")]
    pub(in crate::cli) fn raw(&self, octets: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        Ok(stdout.write_all(octets).and_then(|()| stdout.flush()).map_err(Unwritten)?)
    }

    /// For commands that print while they work.
    pub(in crate::cli) fn reporter(&self) -> Reporter {
        Reporter { format: self.0, is_for_people: self.is_for_people(), spool: Spool::new(io::stdout()) }
    }

    pub(in crate::cli) fn is_json(&self) -> bool {
        self.0 == Format::Json
    }

    /// Whether the output is for people.
    pub(in crate::cli) fn is_for_people(&self) -> bool {
        self.0 == Format::Text && io::stdout().is_terminal()
    }

    /// Prose to print: wrapped on a terminal, unchanged otherwise.
    pub(in crate::cli) fn prose(&self, text: String) -> String {
        if self.is_for_people() { columns::prose(&text) } else { text }
    }
}

/// The output of a command that must not stop because printing fails.
pub(in crate::cli) struct Reporter {
    format: Format,
    is_for_people: bool,
    spool: Spool,
}

impl Reporter {
    /// Prints at once for people. Programs get one document at the end.
    pub(in crate::cli) fn say(&self, text: &str) {
        if self.is_for_people {
            self.spool.print(columns::prose(text));
        } else if self.format == Format::Text {
            self.spool.print(text);
        }
    }

    /// Whether the output has to fit a terminal.
    pub(in crate::cli) fn is_for_people(&self) -> bool {
        self.is_for_people
    }

    /// Ends the report: returns when everything is printed, or when `interrupted` resolves. For programs, the whole
    /// report is printed here.
    pub(in crate::cli) async fn end<T: Serialize>(self, report: &T, interrupted: impl Future) -> Printed {
        if self.format == Format::Json {
            match serde_json::to_string_pretty(report) {
                Ok(text) => self.spool.print(text + "\n"),
                Err(error) => return Printed::Lost(error.to_string()),
            }
        }
        tokio::select! {
            printed = self.spool.flush() => printed,
            _ = interrupted => Printed::Enough,
        }
    }
}

/// A list that is printed while it is read.
pub(in crate::cli) struct List<const N: usize, W: Write = Stdout> {
    out: BufWriter<W>,
    format: Format,
    is_for_people: bool,
    columns: [&'static str; N],
    /// The widest cell of each column so far; none before the first page.
    widths: Option<[usize; N]>,
}

impl<const N: usize, W: Write> List<N, W> {
    /// Prints the next rows.
    pub(in crate::cli) fn add<T: Serialize>(
        &mut self,
        page: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> anyhow::Result<()> {
        let is_first = self.widths.is_none();
        let widths = self.widths.get_or_insert([0; N]);
        if self.format == Format::Json {
            for (index, item) in page.iter().enumerate() {
                let item = serde_json::to_string_pretty(item)?.replace('\n', "\n  ");
                write!(self.out, "{}\n  {item}", if is_first && index == 0 { "[" } else { "," }).map_err(Unwritten)?;
            }
            return Ok(());
        }
        let header = is_first.then(|| self.columns.map(str::to_owned));
        let rows: Vec<_> = header.into_iter().chain(page.iter().map(cells)).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns::columns_of(cell));
            }
        }
        let line = if self.is_for_people { columns::line_or_two } else { columns::line };
        for row in &rows {
            writeln!(self.out, "{}", line(row, widths)).map_err(Unwritten)?;
        }
        Ok(())
    }

    /// Prints the end of the list.
    pub(in crate::cli) fn end(mut self) -> anyhow::Result<()> {
        match (self.format, self.widths) {
            (Format::Json, None) => writeln!(self.out, "[]").map_err(Unwritten)?,
            (Format::Json, Some(_)) => writeln!(self.out, "\n]").map_err(Unwritten)?,
            (Format::Text, None) => self.add::<()>(&[], |()| [(); N].map(|()| String::new()))?,
            (Format::Text, Some(_)) => {}
        }
        Ok(self.out.flush().map_err(Unwritten)?)
    }
}

/// The date of a point in time, which fits into a line of 80 columns.
pub(in crate::cli) fn day(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once(' ').map_or(text.as_str(), |(day, _)| day).to_owned()
}

/// Prints the error as the last line on standard error.
pub(in crate::cli) fn complain(error: &anyhow::Error, json: bool, exit_code: u8, kind: &'static str) {
    let message = error_chain(error.as_ref());
    if json {
        document(&problem(kind, &message, exit_code));
    } else {
        remark(&format!("error: {message}"));
    }
}

/// Prints a remark to standard error, so that standard output has only the result.
pub(in crate::cli) fn remark(text: &str) {
    if io::stderr().is_terminal() {
        standard_error().print(columns::prose(text));
    } else {
        document(text);
    }
}

/// Prints a line to standard error unchanged, because JSON is not wrapped.
pub(in crate::cli) fn document(text: &str) {
    standard_error().print(format!("{text}\n"));
}

/// Waits until standard error has everything, as long as its reader reads.
pub(in crate::cli) async fn end_remarks() {
    // If that cannot be written, there is no place to report it.
    let _ = standard_error().flush().await;
}

/// The standard error of this process. It must not delay a revocation either, so it has a spool.
fn standard_error() -> &'static Spool {
    static SPOOL: LazyLock<Spool> = LazyLock::new(|| Spool::new(io::stderr()));
    &SPOOL
}

/// A writer for the log of a command.
pub(in crate::cli) struct Log;

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        standard_error().print(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the reader closed the pipe, as `head` does.
pub(in crate::cli) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unwritten>().is_some_and(|Unwritten(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Several values in one cell.
pub(in crate::cli) fn joined(values: &[impl ToString]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A duration in its largest unit.
pub(in crate::cli) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(format: Format, pages: &[&[&str]]) -> String {
        let mut printed = Vec::new();
        let (out, columns) = (BufWriter::new(&mut printed), ["NAME", "LENGTH"]);
        let mut list = List { out, format, is_for_people: false, columns, widths: None };
        for page in pages {
            list.add(page, |name| [(*name).to_owned(), name.len().to_string()]).unwrap();
        }
        list.end().unwrap();
        String::from_utf8(printed).unwrap()
    }

    #[test]
    fn a_list_in_pages_is_one_list() {
        let pages: [&[&str]; 2] = [&["a", "b"], &["longer"]];
        assert_eq!(
            listed(Format::Text, &pages),
            "NAME  LENGTH\na     1\nb     1\nlonger  6\n",
            "columns grow with what is in them"
        );
        assert_eq!(listed(Format::Text, &[]), "NAME  LENGTH\n");
        for (pages, all) in [(&pages[..], &["a", "b", "longer"][..]), (&[], &[])] {
            assert_eq!(listed(Format::Json, pages), serde_json::to_string_pretty(all).unwrap() + "\n");
        }
    }
}
