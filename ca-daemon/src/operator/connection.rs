//! A command's end of the daemon's socket.
//!
//! It never starts a daemon, and never waits for one that does not run.

use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::Question;
use crate::home::directory::Directory;

/// Reported when the answer does not parse.
const OTHER_RELEASE: &str = "the daemon's answer was not understood; it may be of another release: restart it";

/// The address of a socket. It has room for 107 bytes, so a longer path goes through a descriptor of its directory,
/// which has to stay open.
pub(crate) fn address(socket: &Path) -> io::Result<(Option<File>, PathBuf)> {
    match (socket.parent(), socket.file_name()) {
        (Some(parent), Some(name)) if socket.as_os_str().len() > 107 => {
            let directory = File::open(parent)?;
            let address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
            Ok((Some(directory), address))
        }
        _ => Ok((None, socket.to_owned())),
    }
}

/// A connection to the daemon on which no question was sent yet.
#[derive(Debug)]
pub(crate) struct DaemonConnection(UnixStream);

impl DaemonConnection {
    /// Connects to the daemon that serves this directory; none if no daemon runs.
    pub(crate) async fn open(directory: &Directory) -> io::Result<Option<Self>> {
        let (_directory, address) = match address(&directory.socket()) {
            Ok(address) => address,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match UnixStream::connect(address).await {
            Ok(stream) => Ok(Some(Self(stream))),
            // No file, or a socket whose daemon was killed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a question. The daemon takes one question per connection.
    pub(crate) async fn ask<Q: Question>(self, question: Q) -> io::Result<Answers<Q::Answer>> {
        let (read, mut write) = self.0.into_split();
        let mut line = serde_json::to_vec(&question.into()).map_err(io::Error::other)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        Ok(Answers { lines: BufReader::new(read).lines(), _write: write, answer: PhantomData })
    }
}

/// The answers to one question.
#[derive(Debug)]
pub(crate) struct Answers<A> {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// Kept open: when it is closed, the daemon assumes that the command has ended.
    _write: OwnedWriteHalf,
    answer: PhantomData<fn() -> A>,
}

impl<A: DeserializeOwned> Answers<A> {
    /// The next answer; none after the last one, or if the daemon has ended.
    pub(crate) async fn next(&mut self) -> io::Result<Option<A>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(|_| io::Error::other(OTHER_RELEASE))
    }

    /// The next answer; an error if there is none.
    pub(crate) async fn expect(&mut self) -> io::Result<A> {
        let answer = self.next().await?;
        answer.ok_or_else(|| io::Error::other("the daemon ended before it answered; try again"))
    }
}
