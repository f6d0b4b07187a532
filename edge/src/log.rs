//! A program's log on standard error: the filter, and a writer that never blocks the program.
//!
//! It never waits for a reader of the log. Lines that do not fit into a bounded buffer are dropped and counted, and the
//! count is logged as soon as the log is read again. (`tracing-appender` drops and counts as well, but prints the count
//! with `eprintln!` when the program ends, and then blocks.)

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    ffi::OsStr,
    io::{self, IsTerminal as _, Write},
    mem, panic,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::warn;
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt::{MakeWriter, writer::BoxMakeWriter},
};

/// How many bytes may wait for a reader: some thousand lines.
const CAPACITY: usize = 1024 * 1024;
/// The longest line, in bytes. Strangers can choose parts of it.
const LONGEST: usize = 16 * 1024;
/// How long the end of a program waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log filter is not valid.
#[derive(Debug, thiserror::Error)]
#[error(
    "{variable}={wanted} is not a log filter ({complaint}); give off, error, warn, info, debug or trace, or \
     MODULE=LEVEL, separated by commas"
)]
pub struct FilterError {
    variable: &'static str,
    wanted: String,
    complaint: String,
}

/// The filter in the environment variable, or `default` if it is not set.
pub fn filter(variable: &'static str, default: &str) -> Result<EnvFilter, FilterError> {
    let wanted = std::env::var_os(variable).unwrap_or_default();
    let wanted = if wanted.is_empty() { default.to_owned() } else { wanted.to_string_lossy().into_owned() };
    read_filter(&wanted).map_err(|complaint| FilterError { variable, wanted, complaint })
}

/// A misspelled level would be taken for a module's name, and nothing else would be logged.
fn read_filter(wanted: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    match wanted.split(',').find(|part| !part.contains('=') && !is_level(part)) {
        Some(part) => Err(format!("{part:?} is no level")),
        None => EnvFilter::try_new(wanted).map_err(|error| error.to_string()),
    }
}

/// Logs to this writer from now on. Call it once.
pub fn subscribe(filter: EnvFilter, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let is_colored = is_colored(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_colored)
        // A failed write would be reported on standard error, with a panic if that fails as well.
        .log_internal_errors(false)
        .with_writer(BoxMakeWriter::new(writer))
        .init();
}

/// Whether lines have colors, for this value of `NO_COLOR` (<https://no-color.org>). An empty value counts as not set.
fn is_colored(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// The log of a daemon. Dropping it waits up to a second until everything is written.
#[derive(Debug)]
pub struct Log(Writer);

impl Log {
    /// Logs to standard error from now on, including panics. Call it once.
    #[must_use]
    pub fn start(filter: EnvFilter) -> Self {
        let writer = Writer::start(io::stderr());
        let (log, panics) = (writer.clone(), writer.clone());
        subscribe(filter, move || log.clone());
        // The default hook writes to standard error itself, and blocks.
        panic::set_hook(Box::new(move |panic| {
            let trace = Backtrace::capture();
            let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
            panics.add(format!("thread {:?} {panic}{trace}\n", thread::current().name().unwrap_or("?")).as_bytes());
        }));
        Self(writer)
    }

    /// Writes a line after everything that was logged.
    pub fn print(&self, line: &str) {
        self.0.add(format!("{line}\n").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.drain(PATIENCE);
    }
}

/// Writes a line to standard output without waiting for a reader. A failure is logged.
pub fn announce(line: String) {
    let write = move || {
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            warn!(%error, line, "could not be written to standard output");
        }
    };
    if let Err(error) = thread::Builder::new().name("output".to_owned()).spawn(write) {
        warn!(%error, "no thread can be started, and standard output stays empty");
    }
}

/// Accepts lines for a stream that another thread writes to. Clones share it.
#[derive(Clone, Debug)]
struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there is something to write.
    filled: Condvar,
    /// Signalled when everything is written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// How many lines were dropped since the last one that was accepted.
    dropped: u64,
    is_writing: bool,
}

impl Writer {
    fn start(out: impl Write + Send + 'static) -> Self {
        let writer = Self(Arc::default());
        let shared = Arc::clone(&writer.0);
        // Without the thread nothing is logged, and the failure cannot be reported.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(out));
        writer
    }

    fn add(&self, line: &[u8]) {
        const CUT: &[u8] = b" ... (cut)\n";
        let mut state = self.0.lock();
        let (line, end) = if line.len() > LONGEST { (&line[..LONGEST], CUT) } else { (line, &b""[..]) };
        // After a dropped line, further ones are dropped too, so that the count appears where the lines are missing.
        if state.dropped > 0 || state.lines.len() + line.len() + end.len() > CAPACITY {
            state.dropped += 1;
        } else {
            state.lines.extend_from_slice(line);
            state.lines.extend_from_slice(end);
        }
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, at most this long.
    fn drain(&self, patience: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty() || state.dropped > 0;
        drop(self.0.written.wait_timeout_while(self.0.lock(), patience, is_busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never returns. Lines that cannot be written count as dropped.
    fn write_to(&self, mut out: impl Write) {
        loop {
            let (lines, mut dropped) = {
                let mut state = self.lock();
                state.is_writing = false;
                if state.lines.is_empty() && state.dropped == 0 {
                    self.written.notify_all();
                }
                let is_idle = |state: &mut State| state.lines.is_empty() && state.dropped == 0;
                let mut state = self.filled.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
                state.is_writing = true;
                (mem::take(&mut state.lines), mem::take(&mut state.dropped))
            };
            // Line by line, so that lines of several processes on one pipe stay complete.
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                dropped += u64::from(out.write_all(line).is_err());
            }
            if dropped > 0 {
                let notice = format!(
                    "WARN {dropped} lines of the log are missing here: they could not be written, or were not read\n"
                );
                // If that fails too, there is nowhere to report it.
                let _ = out.write_all(notice.as_bytes());
            }
            let _ = out.flush();
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    #[test]
    fn colors_are_for_terminals_without_no_color() {
        for (is_terminal, no_color, expected) in [
            (true, None, true),
            (true, Some(""), true),
            (true, Some("1"), false),
            (true, Some("0"), false),
            (false, None, false),
        ] {
            assert_eq!(is_colored(is_terminal, no_color.map(OsStr::new)), expected, "{is_terminal} {no_color:?}");
        }
    }

    #[test]
    fn a_log_filter_is_validated() {
        for good in ["off", "error", "WARN", "debug", "info,sqlx=warn", "warn,ca_daemon::upkeep=trace"] {
            assert!(read_filter(good).is_ok(), "{good:?} must be accepted");
        }
        for bad in ["verbose", "inf", "info,sqlx", "sqlx=loud", "a=b=c", " "] {
            assert!(read_filter(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn unread_lines_are_dropped_and_counted_and_never_block() {
        let (theirs, ours) = io::pipe().unwrap();
        let writer = Writer::start(ours);
        let line = [b'x'; 1023];
        // More than a pipe and the buffer hold together. This returns although nothing is read.
        for number in 0..8 * 1024 {
            writer.add(&[&line[..], format!(" {number}\n").as_bytes()].concat());
        }
        assert!(writer.0.lock().lines.len() <= CAPACITY);
        writer.drain(Duration::from_millis(1));
        let mut lines = BufReader::new(theirs).lines().map(Result::unwrap);
        let (mut expected, mut missing) = (0, 0);
        // Every line is present, in order, or counted where it is missing.
        while expected + missing < 8 * 1024 {
            let line = lines.next().unwrap();
            if let Some(notice) = line.strip_prefix("WARN ") {
                missing += notice.split(' ').next().unwrap().parse::<usize>().unwrap();
            } else {
                assert!(line.ends_with(&format!("x {}", expected + missing)), "{line}");
                expected += 1;
            }
        }
        assert!(missing > 0, "some must have been dropped");
        writer.add(b"again\n");
        assert_eq!(lines.next().unwrap(), "again");
    }

    #[test]
    fn everything_is_written_by_the_end_and_long_lines_are_cut() {
        let (mut theirs, ours) = io::pipe().unwrap();
        let writer = Writer::start(ours);
        writer.add(b"one\n");
        writer.add(&vec![b'x'; 2 * LONGEST]);
        writer.drain(Duration::from_mins(1));
        let mut read = vec![0; 4 + LONGEST + 11];
        theirs.read_exact(&mut read).unwrap();
        assert!(read.starts_with(b"one\nx") && read.ends_with(b"x ... (cut)\n"));
    }

    /// Fails like a full disk.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_given_up() {
        let writer = Writer::start(Full);
        writer.add(b"one\n");
        writer.drain(Duration::from_mins(1));
        assert!(writer.0.lock().lines.is_empty());
    }
}
