//! Writes a scrape in the format that the scraper accepts: `OpenMetrics` 1.0 if it asks for it, and otherwise
//! Prometheus's text format.
//!
//! It never decides what is measured.

use http::{HeaderMap, HeaderValue, header};
use prometheus_client::{encoding::text, registry::Registry};

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Text,
}

impl Format {
    /// `OpenMetrics` only for a scraper that names it.
    fn accepted(headers: &HeaderMap) -> Self {
        let names_it = |value: &HeaderValue| {
            value
                .to_str()
                .is_ok_and(|value| value.split(',').any(|range| media_type(range) == "application/openmetrics-text"))
        };
        if headers.get_all(header::ACCEPT).iter().any(names_it) { Self::OpenMetrics } else { Self::Text }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}

/// The media type of a range in an Accept header, without its parameters (RFC 9110 section 12.5.1).
fn media_type(range: &str) -> String {
    range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The body of a scrape and its Content-Type, for a request with these headers.
#[must_use]
pub fn scrape(registry: &Registry, headers: &HeaderMap) -> (HeaderValue, String) {
    let format = Format::accepted(headers);
    let mut written = String::new();
    text::encode(&mut written, registry).expect("writing to a string does not fail");
    let body = match format {
        Format::OpenMetrics => written,
        Format::Text => plain(&written),
    };
    (format.content_type(), body)
}

/// Converts `OpenMetrics` to Prometheus's text format. There, HELP and TYPE use the sample names of counters and infos,
/// and there is neither a unit nor an end marker.
fn plain(open_metrics: &str) -> String {
    let mut written = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, but the name depends on the type.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, text)) = help.take().and_then(|help| help.split_once(' ')) {
                written.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            written.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            written.extend([line, "\n"]);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge, info::Info};

    use super::*;

    #[test]
    fn open_metrics_is_sent_only_if_it_is_accepted() {
        let table = [
            (&[][..], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/plain;version=0.0.4"], Format::Text),
            (&["text/html, Application/OpenMetrics-Text; version=1.0.0;q=0.5"], Format::OpenMetrics),
            (&["text/plain", "application/openmetrics-text"], Format::OpenMetrics),
        ];
        for (accepted, format) in table {
            let mut headers = HeaderMap::new();
            for value in accepted {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(Format::accepted(&headers), format, "{accepted:?}");
        }
    }

    #[test]
    fn plain_text_uses_the_sample_names_in_help_and_type() {
        let mut registry = Registry::with_prefix("it");
        let counter = Counter::<u64>::default();
        counter.inc();
        registry.register("happened", "How often it did", counter);
        registry.register("level", "How high it is", Gauge::<i64>::default());
        registry.register("build", "Which release", Info::new([("version", "1")]));
        let (content_type, text) = scrape(&registry, &HeaderMap::new());
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        let expected = "# HELP it_happened_total How often it did.\n\
                        # TYPE it_happened_total counter\nit_happened_total 1\n\
                        # HELP it_level How high it is.\n# TYPE it_level gauge\nit_level 0\n\
                        # HELP it_build_info Which release.\n# TYPE it_build_info gauge\n\
                        it_build_info{version=\"1\"} 1\n";
        assert_eq!(text, expected);
    }
}
