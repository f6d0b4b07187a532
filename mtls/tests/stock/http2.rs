//! Broken HTTP/2 (RFC 9113) and header compression (RFC 7541), one connection for each case.

use std::net::SocketAddr;

use testkit::http2::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{Both, STREAMS};
use crate::common::{Client, Http, PATIENCE};

/// The stream of the last request. An answer to it, or a refusal of this stream only, shows that the connection
/// continues.
const LAST: u32 = 1001;

/// What the client does.
enum Step {
    /// Sends bytes as they are.
    Raw(Vec<u8>),
    /// Waits for the header of an answer on this stream.
    Answered(u32),
}

/// What the client receives.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    /// A stream ends with this error. `NO_ERROR` is not recorded, because it may follow an answer that came before the
    /// request was complete.
    Reset(u32, u32),
    /// The connection ends with this error.
    GoAway(u32),
    /// The first byte of an answer's header, which is its status (RFC 7541 appendix A).
    Answer(u32, u8),
    Closed,
    GoesOn,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Step {
    Step::Raw(http2::frame(kind, flags, stream, payload))
}

/// A field that is in no table, without indexing (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// `GET / https` and a host.
fn request() -> Vec<u8> {
    [&[0x82, 0x84, 0x87][..], &field(":authority", "localhost")].concat()
}

fn endless() -> Vec<u8> {
    [&[0x82, 0x87][..], &field(":path", "/endless"), &field(":authority", "localhost")].concat()
}

/// A complete request.
fn get(stream: u32) -> Step {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request())
}

/// A request with this header and no body.
fn header(fields: &[Vec<u8>]) -> Step {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields.concat())
}

/// An incomplete request whose answer never ends.
fn open(stream: u32) -> [Step; 2] {
    [frame(HEADERS, END_HEADERS, stream, &endless()), Step::Answered(stream)]
}

/// A complete request whose answer never ends.
fn half_closed(stream: u32) -> [Step; 2] {
    [frame(HEADERS, END_HEADERS | END_STREAM, stream, &endless()), Step::Answered(stream)]
}

fn settings(id: u16, value: u32) -> Step {
    frame(SETTINGS, 0, 0, &http2::setting(id, value))
}

fn after(first: impl IntoIterator<Item = Step>, then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    first.into_iter().chain(then).collect()
}

type Case = (&'static str, Vec<Step>);

/// Frames, streams and flow control (RFC 9113 sections 4 and 5).
fn of_streams() -> Vec<Case> {
    let too_long = vec![0; 16 * 1024 + 1];
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    vec![
        ("4.1 an unknown frame", after([frame(0x16, 0, 0, b"what?")], [get(1), Step::Answered(1)])),
        ("4.1 unknown flags", after([frame(PING, 0x16, 0, b"whatever")], [get(1), Step::Answered(1)])),
        ("4.1 the reserved bit", after([frame(PING, 0, 1 << 31, b"whatever")], [get(1), Step::Answered(1)])),
        ("4.2 DATA too long", after(open(1), [frame(DATA, 0, 1, &too_long)])),
        ("4.2 HEADERS too long", vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &too_long)]),
        ("4.2 SETTINGS too long", vec![frame(SETTINGS, 0, 0, &[0, 0x16, 0, 0, 0, 0].repeat(2731))]),
        (
            "4.3 a header block that cannot be read",
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff])],
        ),
        (
            "4.3 PRIORITY within a header block",
            after([frame(HEADERS, END_STREAM, 1, &request())], [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]),
        ),
        ("4.3 HEADERS within a header block", after([frame(HEADERS, END_STREAM, 1, &request())], [get(3)])),
        ("5.1 DATA on an idle stream", vec![frame(DATA, END_STREAM, 1, b"test")]),
        ("5.1 RST_STREAM on an idle stream", vec![reset(1)]),
        ("5.1 WINDOW_UPDATE on an idle stream", vec![frame(WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes())]),
        ("5.1 CONTINUATION on an idle stream", vec![frame(CONTINUATION, END_HEADERS, 1, &request())]),
        ("5.1 DATA after the end of a request", after(half_closed(1), [frame(DATA, END_STREAM, 1, b"test")])),
        ("5.1 HEADERS after the end of a request", after(half_closed(1), [get(1)])),
        (
            "5.1 CONTINUATION after the end of a request",
            after(half_closed(1), [frame(CONTINUATION, END_HEADERS, 1, &request())]),
        ),
        ("5.1 DATA after RST_STREAM", after(open(1), [reset(1), frame(DATA, END_STREAM, 1, b"test")])),
        ("5.1 HEADERS after RST_STREAM", after(open(1), [reset(1), get(1)])),
        (
            "5.1 CONTINUATION after RST_STREAM",
            after(open(1), [reset(1), frame(CONTINUATION, END_HEADERS, 1, &request())]),
        ),
        (
            "5.1 WINDOW_UPDATE after RST_STREAM",
            after(open(1), [reset(1), frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())]),
        ),
        ("5.1.1 an even stream", vec![get(2)]),
        ("5.1.1 a lower stream", after(half_closed(5), [get(3)])),
        (
            "5.1.2 too many streams",
            (0..=STREAMS).map(|number| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &endless())).collect(),
        ),
        (
            "5.3.1 HEADERS that depend on themselves",
            vec![frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 16][..], &request()].concat(),
            )],
        ),
        ("5.3.1 PRIORITY that depends on itself", vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16])]),
        (
            "5.5 an unknown frame within a header block",
            vec![frame(HEADERS, END_STREAM, 1, &request()), frame(0x16, 0, 1, b"")],
        ),
    ]
}

/// Frame by frame (RFC 9113 section 6).
fn of_frames() -> Vec<Case> {
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let half = request().len() / 2;
    vec![
        ("6.1 DATA on stream 0", vec![frame(DATA, END_STREAM, 0, b"test")]),
        (
            "6.1 DATA with too much padding",
            after(open(1), [frame(DATA, END_STREAM | PADDED, 1, &[6, b'x', b'x', b'x', b'x'])]),
        ),
        ("6.1 DATA with padding only", after(open(1), [frame(DATA, PADDED, 1, &[3, 0, 0, 0])])),
        ("6.2 HEADERS on stream 0", vec![get(0)]),
        (
            "6.2 HEADERS with too much padding",
            vec![frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[255][..], &request()].concat())],
        ),
        ("6.2 HEADERS that are empty", vec![frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &[])]),
        ("6.3 PRIORITY on stream 0", vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])]),
        ("6.3 PRIORITY of another length", after(half_closed(1), [frame(PRIORITY, 0, 1, &[0, 0, 0, 1])])),
        ("6.4 RST_STREAM on stream 0", vec![frame(RST_STREAM, 0, 0, &8_u32.to_be_bytes())]),
        ("6.4 RST_STREAM of another length", after(open(1), [frame(RST_STREAM, 0, 1, &[0, 0, 0])])),
        ("6.5 SETTINGS, acknowledged and not empty", vec![frame(SETTINGS, ACK, 0, &[0, 1, 0, 0, 0, 0])]),
        ("6.5 SETTINGS on a stream", vec![frame(SETTINGS, 0, 1, &[])]),
        ("6.5 SETTINGS of another length", vec![frame(SETTINGS, 0, 0, &[0, 1, 0])]),
        ("6.5.2 ENABLE_PUSH of 2", vec![settings(2, 2)]),
        ("6.5.2 INITIAL_WINDOW_SIZE of 2^31", vec![settings(4, 1 << 31)]),
        ("6.5.2 MAX_FRAME_SIZE of 2^14 - 1", vec![settings(5, (1 << 14) - 1)]),
        ("6.5.2 MAX_FRAME_SIZE of 2^24", vec![settings(5, 1 << 24)]),
        ("6.5.2 an unknown setting", after([settings(0x16, 1)], [get(1), Step::Answered(1)])),
        ("6.5.3 the same setting twice", after([settings(4, 100), settings(4, 1)], [get(1), Step::Answered(1)])),
        (
            "6.6 PUSH_PROMISE of a client",
            after(open(1), [frame(PUSH_PROMISE, END_HEADERS, 1, &[&2_u32.to_be_bytes()[..], &request()].concat())]),
        ),
        ("6.7 PING on a stream", vec![frame(PING, 0, 1, b"whatever")]),
        ("6.7 PING of another length", vec![frame(PING, 0, 0, b"short")]),
        (
            "6.7 PING acknowledgement without a PING",
            after([frame(PING, ACK, 0, b"whatever")], [get(1), Step::Answered(1)]),
        ),
        ("6.8 GOAWAY on a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])]),
        ("6.9 WINDOW_UPDATE of 0", vec![update(0, 0)]),
        ("6.9 WINDOW_UPDATE of 0 on a stream", after(open(1), [update(1, 0)])),
        ("6.9 WINDOW_UPDATE of another length", vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])]),
        ("6.9.1 a window above 2^31 - 1", vec![update(0, (1 << 31) - 1), update(0, (1 << 31) - 1)]),
        (
            "6.9.1 a stream's window above 2^31 - 1",
            after(open(1), [update(1, (1 << 31) - 1), update(1, (1 << 31) - 1)]),
        ),
        (
            "6.9.2 a window that overflows by a setting",
            after(open(1), [update(1, (1 << 31) - 1 - 65_535), settings(4, 65_536)]),
        ),
        (
            "6.10 a header block in two frames",
            vec![
                frame(HEADERS, END_STREAM, 1, &request()[..half]),
                frame(CONTINUATION, END_HEADERS, 1, &request()[half..]),
                Step::Answered(1),
            ],
        ),
        (
            "6.10 CONTINUATION on stream 0",
            vec![frame(HEADERS, END_STREAM, 1, &request()), frame(CONTINUATION, END_HEADERS, 0, &[])],
        ),
        (
            "6.10 CONTINUATION after the end of a header block",
            after(half_closed(1), [frame(CONTINUATION, END_HEADERS, 1, &[])]),
        ),
        (
            "6.10 DATA before the end of a header block",
            vec![frame(HEADERS, 0, 1, &request()), frame(DATA, END_STREAM, 1, b"test")],
        ),
    ]
}

/// Requests (RFC 9113 section 8) and header compression (RFC 7541).
fn of_requests() -> Vec<Case> {
    let with = |name: &str, value: &str| vec![header(&[request(), field(name, value)])];
    let host = || field(":authority", "localhost");
    let of_length = |length: &str, body: &[u8]| {
        let fields = [endless(), field("content-length", length)].concat();
        vec![frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, END_STREAM, 1, body)]
    };
    vec![
        ("8.1 HEADERS again that end nothing", after(open(1), [frame(HEADERS, END_HEADERS, 1, &field("x-end", "1"))])),
        ("8.1 trailers with a pseudo-header", after(open(1), [frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82])])),
        ("8.1.1 less body than announced", of_length("5", b"test")),
        ("8.1.1 more body than announced", of_length("1", b"test")),
        ("8.1.1 no body although announced", with("content-length", "4")),
        ("8.2.1 a name in upper case", with("X-TEST", "ok")),
        ("8.2.1 a name with a space", with("x test", "ok")),
        ("8.2.1 a value with a line's end", with("x-test", "a\r\nb")),
        ("8.2.2 a header of connections", with("connection", "keep-alive")),
        ("8.2.2 transfer-encoding", with("transfer-encoding", "chunked")),
        ("8.2.2 TE other than trailers", with("te", "trailers, deflate")),
        ("8.3 an unknown pseudo-header", with(":test", "ok")),
        ("8.3 a pseudo-header of answers", with(":status", "200")),
        (
            "8.3 a pseudo-header after others",
            vec![header(&[vec![0x82, 0x84], field("x-test", "ok"), vec![0x87], host()])],
        ),
        ("8.3.1 no method", vec![header(&[vec![0x84, 0x87], host()])]),
        ("8.3.1 no scheme", vec![header(&[vec![0x82, 0x84], host()])]),
        ("8.3.1 no path", vec![header(&[vec![0x82, 0x87], host()])]),
        ("8.3.1 an empty path", vec![header(&[vec![0x82, 0x87], field(":path", ""), host()])]),
        ("8.3.1 two methods", vec![header(&[vec![0x82, 0x82, 0x84, 0x87], host()])]),
        ("8.3.1 two schemes", vec![header(&[vec![0x82, 0x84, 0x87, 0x87], host()])]),
        ("8.3.1 two paths", vec![header(&[vec![0x82, 0x84, 0x84, 0x87], host()])]),
        ("8.3.1 another authority than the host", after(with("host", "elsewhere"), [Step::Answered(1)])),
        ("7541 2.3.3 an index beyond the tables", vec![header(&[request(), vec![0xc6]])]),
        ("7541 4.2 a table larger than allowed", vec![header(&[vec![0x3f, 0xe1, 0xff, 0x03], request()])]),
        ("7541 4.2 a table's size at the end", vec![header(&[request(), vec![0x20]])]),
        ("7541 5.2 a string longer than its block", vec![header(&[request(), vec![0, 0x7f, 0xff]])]),
        (
            "7541 5.2 Huffman padding of 8 bits",
            vec![header(&[request(), vec![0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff]])],
        ),
        (
            "7541 5.2 Huffman padding of zeros",
            vec![header(&[request(), vec![0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]])],
        ),
        (
            "7541 5.2 Huffman's end of string",
            vec![header(&[
                request(),
                vec![0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f],
            ])],
        ),
        ("7541 6.1 index 0", vec![header(&[request(), vec![0x80]])]),
        (
            "a header of 20 KiB",
            vec![
                frame(HEADERS, END_STREAM, 1, &request()),
                frame(CONTINUATION, 0, 1, &padding(10)),
                frame(CONTINUATION, END_HEADERS, 1, &padding(10)),
                Step::Answered(1),
            ],
        ),
    ]
}

/// A header of this many KiB, in fields of one KiB.
fn padding(kilobytes: usize) -> Vec<u8> {
    // The length of the value is 1000: 127 and 873 more (RFC 7541 section 5.1).
    let one = [&[0, 6][..], b"x-long", &[0x7f, 0xe9, 0x06], &[b'x'; 1000]].concat();
    one.repeat(kilobytes)
}

async fn react(client: &Client, address: SocketAddr, preface: &[u8], steps: &[Step]) -> Vec<Reaction> {
    let mut stream = client.connect(address).await.unwrap();
    stream.get_ref().0.set_nodelay(true).unwrap();
    let mut reactions = Vec::new();
    let mut sending = [preface, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]].concat();
    for step in steps {
        match step {
            Step::Raw(bytes) => sending.extend(bytes),
            Step::Answered(number) => {
                // The service may refuse before everything is sent.
                let _ = stream.write_all(&sending).await;
                sending.clear();
                read(&mut stream, *number, &mut reactions).await;
            }
        }
    }
    if let Step::Raw(last) = get(LAST) {
        sending.extend(last);
    }
    let _ = stream.write_all(&sending).await;
    read(&mut stream, LAST, &mut reactions).await;
    reactions
}

/// Reads until this stream is answered or reset, or the connection is over.
async fn read(stream: &mut TlsStream<TcpStream>, awaited: u32, reactions: &mut Vec<Reaction>) {
    while reactions.last() != Some(&Reaction::Closed) {
        let (mut header, mut payload) = ([0; 9], Vec::new());
        let frame = async {
            stream.read_exact(&mut header).await?;
            payload.resize(u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize, 0);
            stream.read_exact(&mut payload).await
        };
        if timeout(PATIENCE, frame).await.expect("a frame or the end arrives").is_err() {
            return reactions.push(Reaction::Closed);
        }
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let of_stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        match header[3] {
            HEADERS | RST_STREAM if of_stream == LAST => return reactions.push(Reaction::GoesOn),
            HEADERS if of_stream == awaited => return reactions.push(Reaction::Answer(of_stream, payload[0])),
            RST_STREAM if number(0) != 0 => {
                reactions.push(Reaction::Reset(of_stream, number(0)));
                if of_stream == awaited {
                    return;
                }
            }
            GOAWAY => reactions.push(Reaction::GoAway(number(4))),
            _ => {}
        }
    }
}

#[tokio::test]
async fn broken_http_2_has_the_same_consequences_as_with_stock_hyper() {
    let both = Both::start().await;
    let issued = both.authority.client("client_1");
    let client = Client::new(&both.authority, &issued, Http::Two, &both.service.clock);
    let mut different = Vec::new();
    let mut compare = async |name: &'static str, preface: &[u8], steps: &[Step]| {
        let ours = react(&client, both.service.address, preface, steps).await;
        let stock = react(&client, both.stock, preface, steps).await;
        if ours != stock {
            different.push(format!("{name}: {ours:?}, and stock hyper {stock:?}"));
        }
        stock
    };
    let cases: Vec<Case> = [of_streams(), of_frames(), of_requests()].into_iter().flatten().collect();
    let mut tolerated = 0;
    for (name, steps) in &cases {
        tolerated += usize::from(compare(name, PREFACE, steps).await.last() == Some(&Reaction::GoesOn));
    }
    let stock = compare("3.4 another preface", b"INVALID CONNECTION PREFACE\r\n\r\n", &[]).await;
    assert_eq!(stock, [Reaction::Closed], "the comparison notices what is refused");
    assert!((1..cases.len()).contains(&tolerated), "{tolerated} of {} cases are tolerated", cases.len());
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), cases.len(), different.join("\n"));
}
