//! The daemon's end of a conversation with one command.
//!
//! It never keeps answering a command that has gone away.

use std::{io, net::SocketAddr, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};
use tracing::debug;

use super::{AnyQuestion, Confirmed, Expected, Forget, ForgetOutcome, ListensOn, Published};
use crate::{feed::Feed, store::StoreError};

/// The longest question, in bytes.
const MAX_QUESTION: u64 = 4096;

/// The answer to a line that is not a question; every conversation can parse it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum NoQuestion {
    Failed(String),
}

/// Reads the one question on this connection, and answers it.
pub(crate) async fn respond(stream: UnixStream, feed: Feed, operations: SocketAddr) {
    let (read, write) = stream.into_split();
    let mut asker = Asker { gone: read, write };
    if let Err(error) = asker.answer(&feed, operations).await {
        // The command has ended, for example by Ctrl-C.
        debug!(%error, "a command no longer reads its answers");
    }
}

/// The connection to a command.
pub(super) struct Asker {
    gone: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Asker {
    async fn answer(&mut self, feed: &Feed, operations: SocketAddr) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new((&mut self.gone).take(MAX_QUESTION)).read_line(&mut line).await?;
        let arrived = Instant::now();
        match serde_json::from_str(&line) {
            Ok(AnyQuestion::Published(Published { wait })) => self.announce(feed, wait, arrived).await,
            Ok(AnyQuestion::RollCall(call)) => {
                self.call_roll(feed, arrived + Duration::from_millis(call.timeout_millis)).await
            }
            Ok(AnyQuestion::Operations) => self.send(&ListensOn::Operations(operations)).await,
            Ok(AnyQuestion::RelyingParties) => self.send(&Expected::RelyingParties(feed.relying_parties())).await,
            Ok(AnyQuestion::Forget(Forget { name, instance })) => {
                let forgotten = feed.forget(&name, instance.as_deref()).await;
                let failed = |error: StoreError| ForgetOutcome::Failed(error.to_string());
                self.send(&forgotten.map_or_else(failed, ForgetOutcome::Forgotten)).await
            }
            Err(error) => self.send(&NoQuestion::Failed(format!("not a question: {error}"))).await,
        }
    }

    /// Announces what was published, then reports which instances confirm it.
    async fn announce(&mut self, feed: &Feed, wait: Option<super::Wait>, arrived: Instant) -> io::Result<()> {
        let refreshed = feed.refresh().await;
        if let Some(wait) = &wait {
            feed.note_committed(wait.issuer, wait.number, wait.committed(arrived));
        }
        // The database's files were replaced, so the confirmations of this number are unknown.
        let is_replaced = refreshed.as_ref().is_err_and(StoreError::is_replaced);
        let failed = |error: StoreError| Confirmed::Failed(error.to_string());
        self.send(&refreshed.map_or_else(failed, |()| Confirmed::Announced)).await?;
        match wait.filter(|_| !is_replaced) {
            Some(wait) => self.follow(feed, wait, arrived).await,
            None => Ok(()),
        }
    }

    /// Resolves when the command has ended. It sends nothing after its question.
    pub(super) async fn gone(&mut self) {
        let mut rest = [0; 1];
        let _ = self.gone.read(&mut rest).await;
    }

    pub(super) async fn send(&mut self, answer: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }
}
