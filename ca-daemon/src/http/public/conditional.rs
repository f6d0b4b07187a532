//! Conditional requests (RFC 9110 section 13): a client that has the current bytes gets 304 without them.
//!
//! It never depends on what the bytes mean.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use pki::time::Timestamp;

use crate::http::public::lists;

/// Something public with a validator.
#[derive(Clone, Debug)]
pub(in crate::http) struct Representation {
    pub(in crate::http) body: Arc<Vec<u8>>,
    pub(in crate::http) media_type: &'static str,
    pub(in crate::http) cache_control: &'static str,
    /// A strong entity tag, with its quotes.
    pub(in crate::http) etag: String,
    pub(in crate::http) modified: Modified,
}

/// When something was last modified, and what a copy with the same date proves.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) enum Modified {
    /// No other version has this date.
    At(Timestamp),
    /// An earlier version has the same date, because dates are whole seconds, or a later one, because the clock went
    /// back. So the date does not identify the version.
    AgainWithin(Timestamp),
}

impl Representation {
    pub(in crate::http) fn answer(&self, request: &HeaderMap) -> Response {
        let (Modified::At(at) | Modified::AgainWithin(at)) = self.modified;
        let headers = [
            (header::ETAG, self.etag.clone()),
            (header::LAST_MODIFIED, httpdate::fmt_http_date(system_time(at))),
            (header::CACHE_CONTROL, self.cache_control.to_owned()),
        ];
        if self.is_known_to(request) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, [(header::CONTENT_TYPE, self.media_type)], lists::body(&self.body)).into_response()
    }

    /// `If-None-Match` decides if it is there; a date counts only without it (RFC 9110 section 13.2.2).
    ///
    /// The date has to be equal. Section 13.1.3 recommends a 304 for later dates as well, but a clock that was ahead
    /// gave an earlier version a later date, and a client with that version lacks the newest revocations.
    fn is_known_to(&self, request: &HeaderMap) -> bool {
        if request.contains_key(header::IF_NONE_MATCH) {
            let lists = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
            return lists.flat_map(|list| list.split(',')).any(|tag| self.is_tagged(tag.trim()));
        }
        let Modified::At(at) = self.modified else { return false };
        let since = request.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
        since.and_then(|text| httpdate::parse_http_date(text).ok()).is_some_and(|since| since == system_time(at))
    }

    /// Weak comparison (RFC 9110 section 8.8.3.2): a proxy that compresses a response weakens its tag.
    fn is_tagged(&self, tag: &str) -> bool {
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(moment.unix()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn answer(modified: Modified, header: HeaderName, value: &str) -> StatusCode {
        let representation = Representation {
            body: Arc::new(b"octets".to_vec()),
            media_type: "application/pkix-crl",
            cache_control: "no-cache",
            etag: "\"7-abc\"".to_owned(),
            modified,
        };
        representation.answer(&HeaderMap::from_iter([(header, value.parse().unwrap())])).status()
    }

    #[test]
    fn a_client_with_the_current_bytes_gets_304() {
        let at = Modified::At(Timestamp::from_unix(1_795_510_800));
        for (tag, status) in [
            ("\"7-abc\"", 304),
            ("W/\"7-abc\"", 304),
            ("\"6-abc\", \"7-abc\"", 304),
            ("*", 304),
            ("\"6-abc\"", 200),
            ("7-abc", 200),
        ] {
            assert_eq!(answer(at, header::IF_NONE_MATCH, tag), status, "{tag}");
        }
        for (date, status) in [
            ("Tue, 24 Nov 2026 09:00:00 GMT", 304),
            ("Tue, 24 Nov 2026 09:00:01 GMT", 200),
            ("Tue, 24 Nov 2026 08:59:59 GMT", 200),
            ("yesterday", 200),
        ] {
            assert_eq!(answer(at, header::IF_MODIFIED_SINCE, date), status, "{date}");
        }
    }

    #[test]
    fn a_date_that_two_versions_share_proves_nothing() {
        let modified = Modified::AgainWithin(Timestamp::from_unix(1_795_510_800));
        assert_eq!(answer(modified, header::IF_MODIFIED_SINCE, "Tue, 24 Nov 2026 09:00:00 GMT"), 200);
        assert_eq!(answer(modified, header::IF_NONE_MATCH, "\"7-abc\""), 304);
    }
}
