//! Follows the HTTP/2 frames (RFC 9113 section 4.1) that were sent, to know whether one more frame can be appended.
//!
//! It never reads the payload of a frame.

/// A frame's header: three bytes of length, type, flags and four bytes of stream.
const HEADER: usize = 9;
/// The first frame of a connection is of this type (RFC 9113 section 3.4).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// What was sent over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Frames. The last one lacks this.
    Frames(Missing),
    /// Something other than HTTP/2.
    Other,
}

/// What a frame still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// This many bytes of its payload. With zero, the frame is complete.
    Payload(usize),
    /// The rest of its header. `there` bytes of it were sent, with this part of its length.
    Header { there: usize, length: usize },
}

impl Sent {
    /// Continues with the next sent bytes.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        if *self == Self::Nothing && !bytes.is_empty() {
            // HTTP/2 implementations write the first frame in one piece.
            let is_http2 = bytes.get(3) == Some(&SETTINGS);
            *self = if is_http2 { Self::Frames(Missing::Payload(0)) } else { Self::Other };
        }
        let Self::Frames(missing) = self else { return };
        while let [first, rest @ ..] = bytes {
            *missing = match *missing {
                Missing::Payload(0) if bytes.len() >= HEADER => {
                    let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
                    bytes = &bytes[HEADER..];
                    Missing::Payload(length)
                }
                Missing::Payload(0) => Missing::Header { there: 0, length: 0 },
                Missing::Payload(missing) => {
                    let there = missing.min(bytes.len());
                    bytes = &bytes[there..];
                    Missing::Payload(missing - there)
                }
                Missing::Header { there, length } => {
                    bytes = rest;
                    let length = if there < 3 { length << 8 | usize::from(*first) } else { length };
                    if there + 1 == HEADER {
                        Missing::Payload(length)
                    } else {
                        Missing::Header { there: there + 1, length }
                    }
                }
            };
        }
    }

    /// Whether the peer can detect that it was cut off: a frame has a length, and a stream has an end flag.
    pub(crate) fn says_its_length(self) -> bool {
        !matches!(self, Self::Other)
    }

    /// Whether it is HTTP/2 and ends with a complete frame.
    pub(crate) fn is_whole(self) -> bool {
        self == Self::Frames(Missing::Payload(0))
    }
}

/// A GOAWAY frame without an error (RFC 9113 section 6.8), with debug data for the developer of the peer. Its last
/// stream is the highest possible one. Which streams were processed is not known here, and the peer must not repeat a
/// request by mistake.
pub(crate) fn go_away(why: &str) -> Vec<u8> {
    let why = why.as_bytes();
    let length = u32::try_from(8 + why.len()).expect("a few words").to_be_bytes();
    let stream = [0; 4];
    let last_stream = (u32::MAX >> 1).to_be_bytes();
    let no_error = [0; 4];
    [&length[1..], &[GOAWAY, 0], &stream, &last_stream, &no_error, why].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], &vec![0x48; payload]].concat()
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_the_writes_were_cut() {
        let mut cut = Sent::default();
        cut.pass(&frame(SETTINGS, 6)[..12]);
        assert!(!cut.is_whole() && cut.says_its_length());
        let frames = [frame(SETTINGS, 6), frame(1, 300), frame(0, 0), frame(0, 70_000)];
        let sent = frames.concat();
        let ends = frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        for size in [4, 7, 9, 10, 100, 16_384, sent.len()] {
            let mut passed = Sent::default();
            let mut count = 0;
            for part in sent.chunks(size) {
                passed.pass(part);
                count += part.len();
                assert_eq!(passed.is_whole(), ends.contains(&count), "{count} bytes in parts of {size}");
            }
            passed.pass(&go_away("why"));
            assert!(passed.is_whole());
        }
    }

    #[test]
    fn data_that_is_not_http_2_never_ends_with_a_frame() {
        let mut sent = Sent::default();
        assert!(!sent.is_whole() && sent.says_its_length());
        sent.pass(b"");
        assert_eq!(sent, Sent::Nothing);
        for part in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &frame(SETTINGS, 0)] {
            sent.pass(part);
            assert!(!sent.is_whole() && !sent.says_its_length());
            assert_eq!(sent, Sent::Other);
        }
    }
}
