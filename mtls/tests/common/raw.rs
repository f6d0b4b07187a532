//! A client that reads and writes single HTTP/2 frames (RFC 9113 section 4.1), so that a test sees exactly what is
//! sent.

use std::net::SocketAddr;

use testkit::http2::{ACK, END_HEADERS, END_STREAM, INITIAL_WINDOW_SIZE, PREFACE, frame, setting};
pub(crate) use testkit::http2::{DATA, GOAWAY, HEADERS, SETTINGS, WINDOW_UPDATE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::Client;

/// `END_STREAM` and `END_HEADERS`.
const WHOLE_REQUEST: u8 = END_STREAM | END_HEADERS;

pub(crate) struct RawHttp2 {
    stream: TlsStream<TcpStream>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl RawHttp2 {
    /// Opens a connection with windows of this size.
    pub(crate) async fn open(client: &Client, address: SocketAddr, window: u32) -> Self {
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut connection = Self { stream };
        connection.send(SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, window)).await.unwrap();
        connection
    }

    /// Requests a path, and waits for the header of the answer.
    pub(crate) async fn start(&mut self, stream: u32, path: &str) {
        let length = u8::try_from(path.len()).unwrap();
        // GET, https, and a literal path (RFC 7541 section 6): indexed fields 2 and 7, field 4 with a value, field 1
        // with another.
        let fields = [&[0x82, 0x87, 0x04, length], path.as_bytes(), &[0x01, 9], b"localhost"].concat();
        self.send(HEADERS, WHOLE_REQUEST, stream, &fields).await.unwrap();
        while self.next().await.expect("an answer begins").kind != HEADERS {}
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await?;
        self.stream.flush().await
    }

    /// The next frame other than an acknowledgement. `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut header = [0; 9];
            self.stream.read_exact(&mut header).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            if kind == SETTINGS && flags == ACK {
                continue;
            }
            return Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload });
        }
    }

    /// Whether the connection has ended with `close_notify` after all data was read.
    pub(crate) async fn has_ended_properly(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0))
    }

    /// All frames until the connection is over.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

impl Frame {
    /// The reason in a GOAWAY without an error. It must state that every stream may have been processed.
    pub(crate) fn farewell(&self) -> Option<&str> {
        let (last_stream, rest) = self.payload.split_first_chunk()?;
        let (error, why) = rest.split_first_chunk()?;
        let is_farewell = self.kind == GOAWAY
            && self.stream == 0
            && u32::from_be_bytes(*last_stream) == u32::MAX >> 1
            && u32::from_be_bytes(*error) == 0;
        is_farewell.then(|| std::str::from_utf8(why).unwrap())
    }
}
