//! Summarizes the outcomes of many requests: answers per replica, latencies, failures by kind.
//!
//! It never sends anything.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::outcome::{Answer, Failure, FailureKind};

/// The longest latency that is recorded exactly: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// The outcomes of all requests.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Of the answered requests, in microseconds.
    latencies: Histogram<u64>,
    replicas: BTreeMap<String, u64>,
    failures: BTreeMap<FailureKind, (u64, String)>,
    answered: u64,
    failed: u64,
    /// The last body and its replica. The next body is usually equal, and parsing each would be most of the work.
    last: (String, String),
}

impl Summary {
    pub(crate) fn new() -> Self {
        Self {
            latencies: Histogram::new_with_max(LONGEST, 3).expect("the bounds are valid constants"),
            replicas: BTreeMap::new(),
            failures: BTreeMap::new(),
            answered: 0,
            failed: 0,
            last: (String::new(), replica("")),
        }
    }

    pub(crate) fn add(&mut self, outcome: &Result<Answer, Failure>) {
        match outcome {
            Ok(answer) => {
                self.answered += 1;
                let micros = u64::try_from(answer.latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(micros);
                if self.last.0 != answer.body {
                    self.last = (answer.body.clone(), replica(&answer.body));
                }
                match self.replicas.get_mut(&self.last.1) {
                    Some(count) => *count += 1,
                    None => _ = self.replicas.insert(self.last.1.clone(), 1),
                }
            }
            Err(failure) => {
                self.failed += 1;
                let entry = self.failures.entry(failure.kind.clone()).or_insert_with(|| (0, failure.detail.clone()));
                entry.0 += 1;
            }
        }
    }

    /// Adds the counts of another summary.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("all summaries have the same bounds");
        for (replica, count) in &other.replicas {
            *self.replicas.entry(replica.clone()).or_default() += count;
        }
        for (kind, (count, detail)) in &other.failures {
            self.failures.entry(kind.clone()).or_insert_with(|| (0, detail.clone())).0 += count;
        }
        self.answered += other.answered;
        self.failed += other.failed;
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    pub(crate) fn requests(&self) -> u64 {
        self.answered + self.failed
    }

    pub(crate) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    fn percentile(&self, percentile: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_percentile(percentile))
    }

    pub(crate) fn to_json(&self, elapsed: Duration) -> Value {
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(kind, (count, detail))| {
                let alert = if let FailureKind::HandshakeRefused(alert) = kind { Some(alert) } else { None };
                let status = if let FailureKind::Status(status) = kind { Some(status) } else { None };
                json!({ "kind": kind.to_string(), "alert": alert, "status": status, "count": count, "first": detail })
            })
            .collect();
        let micros = |percentile| self.latencies.value_at_percentile(percentile);
        let latency = (self.answered > 0).then(|| {
            json!({
                "min": self.latencies.min(),
                "p50": micros(50.0),
                "p90": micros(90.0),
                "p99": micros(99.0),
                "p999": micros(99.9),
                "max": self.latencies.max(),
            })
        });
        json!({
            "requests": self.answered + self.failed,
            "answered": self.answered,
            "failed": self.failed,
            "elapsedMicroseconds": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "latencyMicroseconds": latency,
            "replicas": self.replicas,
            "failures": failures,
        })
    }

    /// The summary as lines for people.
    pub(crate) fn to_text(&self, elapsed: Duration) -> String {
        use fmt::Write as _;
        let mut text = String::new();
        let total = self.answered + self.failed;
        let _ = write!(text, "{} of {total} requests answered in {}", self.answered, Short(elapsed));
        if self.answered > 0 {
            let _ = write!(
                text,
                "\nlatency  p50 {}  p90 {}  p99 {}  max {}",
                Short(self.percentile(50.0)),
                Short(self.percentile(90.0)),
                Short(self.percentile(99.0)),
                Short(Duration::from_micros(self.latencies.max()))
            );
            let replicas: Vec<_> = self.replicas.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let _ = write!(text, "\nanswered by  {}", replicas.join(", "));
        }
        for (kind, (count, detail)) in &self.failures {
            let _ = write!(text, "\nfailed {count}: {kind}");
            if !detail.is_empty() {
                let _ = write!(text, " ({detail})");
            }
        }
        text
    }
}

/// A duration with about three significant figures: `850 us`, `1.20 ms`, `3.05 s`.
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 1.0 {
            write!(f, "{seconds:.2} s")
        } else if seconds >= 0.001 {
            write!(f, "{:.2} ms", seconds * 1e3)
        } else {
            write!(f, "{:.0} us", seconds * 1e6)
        }
    }
}

/// The name of the replica, from its answer.
fn replica(body: &str) -> String {
    serde_json::from_str::<Value>(body)
        .ok()
        .and_then(|answer| answer.get("service")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| "(unnamed)".to_owned())
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn a_summary_counts_replicas_and_kinds_of_failure() {
        let mut summary = Summary::new();
        for service in ["service0", "service1", "service0"] {
            let body = format!("{{\"service\":\"{service}\"}}");
            summary.add(&Ok(Answer { body, latency: Duration::from_millis(2) }));
        }
        let kind = FailureKind::alert(AlertDescription::CertificateRevoked);
        summary.add(&Err(Failure { kind, detail: String::new() }));
        assert_eq!(summary.failed(), 1);
        let text = summary.to_text(Duration::from_secs(1));
        assert!(text.contains("3 of 4 requests answered"), "{text}");
        assert!(text.contains("service0 2, service1 1"), "{text}");
        assert!(text.contains("p50 2.00 ms  p90 2.00 ms"), "{text}");
        assert!(text.contains("failed 1: refused by the service: TLS alert certificate_revoked"), "{text}");
        let json = summary.to_json(Duration::from_secs(1));
        assert_eq!(json["replicas"]["service0"], 2);
        assert_eq!(json["failures"][0]["alert"], "certificate_revoked");
    }
}
