//! One connection, down to its TLS records: what is said on it, and for each piece whether it has arrived too late.
//!
//! It knows as much of HTTP/1.1 and of HTTP/2 (RFC 9113) as it takes to ask and to see that an answer begins or goes on.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use testkit::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, SETTINGS, WINDOW_UPDATE,
    frame, setting,
};

use crate::books::{Books, Tap};

/// How long a read waits, and so how soon whoever reads looks at something else.
const TICK: Duration = Duration::from_millis(2);
/// How long a connection to a machine that does not answer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The header of a TLS record (RFC 8446 section 5.1).
const RECORD_HEADER: usize = 5;
/// The header of an HTTP/2 frame (RFC 9113 section 4.1).
const FRAME_HEADER: usize = 9;

/// `:status 200` out of the static table of HPACK (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The head of an answer.
    Begins { is_late: bool },
    /// Something of an answer's body.
    GoesOn { is_late: bool },
    /// The request was refused in words.
    Refused,
    /// The server takes no more requests.
    GoAway,
    /// There was nothing for now.
    Nothing,
}

/// An open connection.
pub(crate) struct Wire {
    tap: Arc<Tap>,
    tls: ClientConnection,
    /// Octets that are no whole record yet.
    records: Vec<u8>,
    /// The place in the stream of the first of them.
    place: u64,
    /// Octets that are no whole frame yet.
    frames: Vec<u8>,
    is_late: bool,
    is_http2: bool,
    next_stream: u32,
}

impl Wire {
    /// Connects and shakes hands, as far as a client can know (RFC 8446 section 4.4), unless there is no reason any more.
    pub(crate) fn connect(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        books: &Books,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<Self> {
        let is_http2 = tls.alpn_protocols.first().is_some_and(|protocol| protocol == b"h2");
        let tls = ClientConnection::new(tls, ServerName::IpAddress(address.ip().into())).map_err(io::Error::other)?;
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TICK))?;
        let tap = books.open(socket);
        let (records, frames) = (Vec::new(), Vec::new());
        let mut wire = Self { tap, tls, records, place: 0, frames, is_late: false, is_http2, next_stream: 1 };
        wire.flush()?;
        while wire.tls.is_handshaking() {
            if !is_wanted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            wire.take_in()?;
        }
        Ok(wire)
    }

    /// Whether a session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Begins HTTP/2, where an answer may be so long before this side has to say that it wants more of it. HTTP/1.1 has nothing of that.
    pub(crate) fn preface(&mut self, window: u32) -> io::Result<()> {
        if !self.is_http2 {
            return Ok(());
        }
        let mut said = PREFACE.to_vec();
        said.extend(frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, window)));
        // Of the connection as a whole as much as there can be.
        said.extend(frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()));
        self.say(&said)
    }

    /// Asks; returns the stream.
    pub(crate) fn ask(&mut self, path: &str) -> io::Result<u32> {
        if !self.is_http2 {
            self.say(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
            return Ok(0);
        }
        let stream = self.next_stream;
        self.next_stream += 2;
        // `:method GET` and `:scheme https` out of the static table, `:path` and `:authority` spelled out.
        let mut head = vec![0x82, 0x87];
        for (name, value) in [(4, path), (1, "localhost")] {
            head.extend([name, u8::try_from(value.len()).expect("paths are short")]);
            head.extend(value.as_bytes());
        }
        let mut said = Vec::new();
        said.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        self.say(&said)?;
        Ok(stream)
    }

    /// Says that more is wanted of an answer.
    pub(crate) fn open_window(&mut self, stream: u32, more: u32) -> io::Result<()> {
        let mut said = Vec::new();
        said.extend(frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes()));
        self.say(&said)
    }

    /// The next thing that came in; an error if nothing will any more.
    pub(crate) fn hear(&mut self) -> io::Result<Event> {
        loop {
            let event = if self.is_http2 { self.next_frame()? } else { self.next_text() };
            if let Some(event) = event {
                return Ok(event);
            }
            if !self.take_in()? {
                return Ok(Event::Nothing);
            }
        }
    }

    /// All of HTTP/1.1 that has come.
    fn next_text(&mut self) -> Option<Event> {
        let text = std::mem::take(&mut self.frames);
        let is_late = self.is_late;
        if text.is_empty() {
            None
        } else if text.starts_with(b"HTTP/1.1 2") {
            Some(Event::Begins { is_late })
        } else if text.starts_with(b"HTTP/1.1 ") {
            Some(Event::Refused)
        } else {
            Some(Event::GoesOn { is_late })
        }
    }

    fn next_frame(&mut self) -> io::Result<Option<Event>> {
        while self.frames.len() >= FRAME_HEADER {
            let length =
                usize::from(self.frames[0]) << 16 | usize::from(self.frames[1]) << 8 | usize::from(self.frames[2]);
            if self.frames.len() < FRAME_HEADER + length {
                break;
            }
            let whole: Vec<u8> = self.frames.drain(..FRAME_HEADER + length).collect();
            let (kind, flags, body) = (whole[3], whole[4], &whole[FRAME_HEADER..]);
            let is_late = self.is_late;
            match kind {
                HEADERS if body.first() == Some(&STATUS_200) => return Ok(Some(Event::Begins { is_late })),
                HEADERS => return Ok(Some(Event::Refused)),
                DATA if !body.is_empty() => return Ok(Some(Event::GoesOn { is_late })),
                SETTINGS | PING if flags & ACK == 0 => {
                    let answer = if kind == PING { body } else { &[] };
                    let mut said = Vec::new();
                    said.extend(frame(kind, ACK, 0, answer));
                    self.say(&said)?;
                }
                GOAWAY => return Ok(Some(Event::GoAway)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Takes in one record; whether there was anything.
    fn take_in(&mut self) -> io::Result<bool> {
        loop {
            if let [_, _, _, high, low, ..] = *self.records {
                let length = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
                if self.records.len() >= length {
                    let record: Vec<u8> = self.records.drain(..length).collect();
                    self.is_late = self.tap.is_late(self.place);
                    self.place += u64::try_from(length).expect("lengths are 64 bits at most");
                    let mut rest = &*record;
                    while !rest.is_empty() {
                        // A piece of it each time.
                        self.tls.read_tls(&mut rest)?;
                    }
                    let state = self.tls.process_new_packets();
                    // Also the alert that says what was wrong.
                    let written = self.flush();
                    state.map_err(io::Error::other)?;
                    written?;
                    match self.tls.reader().read_to_end(&mut self.frames) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                        Err(error) => return Err(error),
                        // It was said in so many words that nothing comes any more.
                        Ok(_) if self.frames.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(_) => return Ok(true),
                    }
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.tap.take(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.records.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tap.socket())?;
        }
        Ok(())
    }
}
