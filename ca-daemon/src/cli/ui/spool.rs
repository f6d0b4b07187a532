//! A stream that a thread of its own writes to, so that nobody who should read it can hold up the work of a command.
//!
//! It never fails: what became of what was printed is asked in the end, and decides nothing by itself.

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

/// How long a reader may take nothing before it is not waited for any longer. Much longer than a pager or another program pauses.
const PATIENCE: Duration = Duration::from_secs(30);
/// So much is written at a time: what a pipe takes at once or not at all.
const PIECE: usize = 4096;

/// Where to print what.
#[derive(Debug)]
pub(in crate::cli) struct Spool {
    queue: mpsc::Sender<Item>,
    /// Changes with each piece that was taken.
    taken: watch::Receiver<()>,
    patience: Duration,
}

#[derive(Debug)]
enum Item {
    Text(Vec<u8>),
    /// Tell when everything before this is written.
    Flush(oneshot::Sender<Printed>),
}

/// What became of what was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Printed {
    /// Whoever read it has all of it, or had seen enough and closed the pipe, as `head` does.
    Enough,
    /// For this reason some of it is lost.
    Lost(String),
}

impl Spool {
    pub(in crate::cli) fn new(out: impl Write + Send + 'static) -> Self {
        Self::with_patience(out, PATIENCE)
    }

    fn with_patience(out: impl Write + Send + 'static, patience: Duration) -> Self {
        let (queue, waiting) = mpsc::channel();
        let (progress, taken) = watch::channel(());
        // Without the thread nobody receives, and that is what is said in the end.
        let _ = thread::Builder::new().name("output".to_owned()).spawn(move || write_out(out, &waiting, &progress));
        Self { queue, taken, patience }
    }

    /// Prints this as soon as everything before it is printed.
    pub(in crate::cli) fn print(&self, text: impl Into<Vec<u8>>) {
        // Where nothing can be printed, that is found out by who asks for it.
        let _ = self.queue.send(Item::Text(text.into()));
    }

    /// Waits until everything is written, for as long as somebody reads.
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
                        return Printed::Lost(format!("nobody has read any of it for {seconds} s"));
                    }
                }
            }
        }
    }
}

/// Resolves when somebody has taken another piece; never, if there is no thread any more.
async fn taken_more(taken: &mut watch::Receiver<()>) {
    if taken.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Runs until the spool is dropped. After the first failure nothing more is tried.
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
                // Whoever asked may have given up.
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
    async fn nobody_who_reads_nothing_holds_up_who_prints() {
        let (theirs, ours) = io::pipe().unwrap();
        let mut spool = Spool::with_patience(ours, Duration::from_millis(10));
        // More than any pipe takes.
        spool.print(vec![b'x'; 16 << 20]);
        assert!(matches!(spool.flush().await, Printed::Lost(_)));
        drop(theirs);
        spool.patience = PATIENCE;
        assert_eq!(spool.flush().await, Printed::Enough, "now it is a closed pipe");
    }
}
