//! What is logged while a test runs.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::Once,
};

use tracing_subscriber::EnvFilter;

thread_local! {
    static TEXT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Every log line of `mtls` on this thread, on which a `#[tokio::test]` runs all of its tasks.
pub(crate) struct Log(());

/// Writes into the log of the thread, if a test reads it.
struct Writer;

impl Log {
    pub(crate) fn capture() -> Self {
        static SUBSCRIBED: Once = Once::new();
        // One for the whole process: a subscriber of each thread loses lines whose first use is on another thread.
        SUBSCRIBED.call_once(|| {
            let filter = EnvFilter::new("mtls=debug");
            tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(|| Writer).init();
        });
        TEXT.set(Some(Vec::new()));
        Self(())
    }

    /// The lines that contain all of these texts.
    #[expect(clippy::unused_self, reason = "nothing is kept before `capture` was called")]
    pub(crate) fn lines(&self, texts: &[&str]) -> Vec<String> {
        let octets = TEXT.with_borrow(Clone::clone).unwrap_or_default();
        let text = String::from_utf8_lossy(&octets);
        text.lines().filter(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned).collect()
    }

    pub(crate) fn has(&self, texts: &[&str]) -> bool {
        !self.lines(texts).is_empty()
    }
}

impl Write for Writer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        TEXT.with_borrow_mut(|text| text.as_mut().map(|text| text.extend_from_slice(octets)));
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
