//! Captures the log while a test runs.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::Once,
};

use tracing_subscriber::EnvFilter;

thread_local! {
    static TEXT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Every log line of `mtls` on this thread. A `#[tokio::test]` runs all of its tasks on one thread.
pub(crate) struct Log(());

/// Writes to the log of the thread, if a test captures it.
struct Writer;

impl Log {
    pub(crate) fn capture() -> Self {
        static SUBSCRIBED: Once = Once::new();
        // One subscriber for the whole process: a subscriber for each thread loses lines whose first use is on another
        // thread.
        SUBSCRIBED.call_once(|| {
            let filter = EnvFilter::new("mtls=debug");
            tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(|| Writer).init();
        });
        TEXT.set(Some(Vec::new()));
        Self(())
    }

    /// The lines that contain all of these texts.
    #[expect(clippy::unused_self, reason = "nothing is captured before `capture` was called")]
    pub(crate) fn lines(&self, texts: &[&str]) -> Vec<String> {
        let bytes = TEXT.with_borrow(Clone::clone).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned).collect()
    }

    pub(crate) fn has(&self, texts: &[&str]) -> bool {
        !self.lines(texts).is_empty()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TEXT.with_borrow_mut(|text| text.as_mut().map(|text| text.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
