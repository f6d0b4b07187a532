//! A stream with a writer thread of its own, so that a slow or stopped reader cannot delay a command.
//!
//! It never returns an error while printing. The result is returned by `flush`, and the caller decides what it means.

use std::{
    future::pending,
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// How long a reader may read nothing before it is given up: much longer than a pager or another program pauses.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes are written at a time. A pipe takes them at once or not at all.
const PIECE: usize = 4096;

/// A stream to print to.
#[derive(Debug)]
pub(in crate::cli) struct Spool {
    queue: mpsc::Sender<Item>,
    /// Changes with each piece that was written.
    taken: watch::Receiver<()>,
    patience: Duration,
}

#[derive(Debug)]
enum Item {
    Text(Vec<u8>),
    /// Report when everything before this is written.
    Flush(oneshot::Sender<Printed>),
}

/// The result of printing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Printed {
    /// The reader has everything, or closed the pipe, as `head` does.
    Enough,
    /// Some of it was lost, for this reason.
    Lost(String),
}

impl Spool {
    pub(in crate::cli) fn new(out: impl Write + Send + 'static) -> Self {
        Self::with_patience(out, PATIENCE)
    }

    fn with_patience(out: impl Write + Send + 'static, patience: Duration) -> Self {
        let (queue, waiting) = mpsc::channel();
        let (progress, taken) = watch::channel(());
        // Without the thread, the queue has no receiver, and `flush` reports that.
        let _ = thread::Builder::new().name("output".to_owned()).spawn(move || write_out(out, &waiting, &progress));
        Self { queue, taken, patience }
    }

    /// Prints this after everything before it.
    pub(in crate::cli) fn print(&self, text: impl Into<Vec<u8>>) {
        // If printing is impossible, `flush` reports it.
        let _ = self.queue.send(Item::Text(text.into()));
    }

    /// Waits until everything is written, as long as the reader reads.
    pub(in crate::cli) async fn flush(&self) -> Printed {
        let (tell, mut told) = oneshot::channel();
        let _ = self.queue.send(Item::Flush(tell));
        let mut taken = self.taken.clone();
        loop {
            tokio::select! {
                biased;
                printed = &mut told => {
                    return printed.unwrap_or_else(|_| Printed::Lost("no thread could be started".to_owned()));
                }
                more = timeout(self.patience, taken_more(&mut taken)) => {
                    if more.is_err() {
                        let seconds = self.patience.as_secs();
                        return Printed::Lost(format!("its reader has read nothing for {seconds} s"));
                    }
                }
            }
        }
    }
}

/// Resolves when another piece was written; never, if the thread has ended.
async fn taken_more(taken: &mut watch::Receiver<()>) {
    if taken.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Runs until the spool is dropped. Nothing is written after the first failure.
fn write_out(mut out: impl Write, queue: &mpsc::Receiver<Item>, progress: &watch::Sender<()>) {
    let mut written = Ok(());
    for item in queue {
        match item {
            Item::Text(text) => {
                for piece in text.chunks(PIECE) {
                    written = written.and_then(|()| out.write_all(piece)).and_then(|()| out.flush());
                    progress.send_replace(());
                }
            }
            Item::Flush(tell) => {
                let printed = match &written {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Printed::Lost(error.to_string()),
                    _ => Printed::Enough,
                };
                // The caller may have given up waiting.
                let _ = tell.send(printed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Fails in this way.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_printed_is_there_after_the_flush() {
        let (mut theirs, ours) = io::pipe().unwrap();
        let spool = Spool::new(ours);
        spool.print("one\n");
        spool.print("two\n");
        assert_eq!(spool.flush().await, Printed::Enough);
        drop(spool);
        let mut read = String::new();
        theirs.read_to_string(&mut read).unwrap();
        assert_eq!(read, "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_enough_and_a_full_device_is_a_loss() {
        for (kind, is_loss) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let spool = Spool::new(Failing(kind));
            spool.print("one\n");
            let printed = spool.flush().await;
            assert_eq!(matches!(printed, Printed::Lost(_)), is_loss, "{kind}: {printed:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_does_not_delay_printing() {
        let (theirs, ours) = io::pipe().unwrap();
        let mut spool = Spool::with_patience(ours, Duration::from_millis(10));
        // More than the capacity of any pipe.
        spool.print(vec![b'x'; 16 << 20]);
        assert!(matches!(spool.flush().await, Printed::Lost(_)));
        drop(theirs);
        spool.patience = PATIENCE;
        assert_eq!(spool.flush().await, Printed::Enough, "now it is a closed pipe");
    }
}
