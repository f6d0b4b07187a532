//! HTTP/2 frames (RFC 9113 section 4.1), for test clients that violate the protocol.
//!
//! It never checks whether a frame is valid.

/// The first bytes of a client (RFC 9113 section 3.4). SETTINGS follow.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A SETTINGS frame without settings.
pub const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];

/// The type of a frame (RFC 9113 section 6).
pub const DATA: u8 = 0;
/// The type of a frame.
pub const HEADERS: u8 = 1;
/// The type of a frame.
pub const PRIORITY: u8 = 2;
/// The type of a frame.
pub const RST_STREAM: u8 = 3;
/// The type of a frame.
pub const SETTINGS: u8 = 4;
/// The type of a frame.
pub const PUSH_PROMISE: u8 = 5;
/// The type of a frame.
pub const PING: u8 = 6;
/// The type of a frame.
pub const GOAWAY: u8 = 7;
/// The type of a frame.
pub const WINDOW_UPDATE: u8 = 8;
/// The type of a frame.
pub const CONTINUATION: u8 = 9;

/// A flag of SETTINGS and PING.
pub const ACK: u8 = 0x1;
/// A flag of HEADERS and DATA.
pub const END_STREAM: u8 = 0x1;
/// A flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// A flag of DATA and HEADERS.
pub const PADDED: u8 = 0x8;
/// A flag of HEADERS: a priority comes first.
pub const WITH_PRIORITY: u8 = 0x20;

/// `SETTINGS_INITIAL_WINDOW_SIZE`: the bytes of a body that may be sent on a stream before a window update.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame with this payload. It may exceed the protocol's limit.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload of less than 16 MiB").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// One setting, encoded for the payload of SETTINGS.
#[must_use]
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}
