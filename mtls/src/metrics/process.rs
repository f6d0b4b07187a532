//! The process metrics of every program, with the common names of Prometheus's client libraries
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), and its release.
//!
//! It never fails: a value that cannot be read is left out.

use procfs::process::{LimitValue, Process, Stat};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

/// A registry for a program. Its own metrics begin with `prefix`; those of the process do not.
#[must_use]
pub fn registry(prefix: &'static str, version: &'static str, register: impl FnOnce(&mut Registry)) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(OfThisProcess));
    let own = registry.sub_registry_with_prefix(prefix);
    own.register("build", "Which release this is", Info::new([("version", version)]));
    register(own);
    registry
}

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
struct OfThisProcess;

impl Collector for OfThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Ok(process) = Process::myself() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: Option<u64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                gauge.encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    prometheus_client::metrics::MetricType::Gauge,
                )?)
            }
            None => Ok(()),
        };
        let stat = process.stat().ok();
        let limit = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(files) => Some(files),
            LimitValue::Unlimited => None,
        });
        gauge(
            "process_open_fds",
            "Open file descriptors",
            process.fd_count().ok().and_then(|count| count.try_into().ok()),
        )?;
        gauge("process_max_fds", "The most file descriptors that may be open", limit)?;
        gauge("process_virtual_memory_bytes", "Virtual memory", stat.as_ref().map(|stat| stat.vsize))?;
        gauge("process_resident_memory_bytes", "Resident memory", stat.as_ref().map(resident))?;
        gauge("process_threads", "Threads", stat.as_ref().and_then(|stat| stat.num_threads.try_into().ok()))?;
        gauge("process_start_time_seconds", "When it was started, in Unix time", stat.as_ref().and_then(started))?;
        if let Some(stat) = &stat {
            let descriptor = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time, in user and in system mode",
                None,
                prometheus_client::metrics::MetricType::Counter,
            )?;
            ConstCounter::new(cpu_seconds(stat)).encode(descriptor)?;
        }
        Ok(())
    }
}

fn resident(stat: &Stat) -> u64 {
    stat.rss.saturating_mul(procfs::page_size())
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a hundredth of a second are exact in 52 bits")]
fn cpu_seconds(stat: &Stat) -> f64 {
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn started(stat: &Stat) -> Option<u64> {
    Some(procfs::boot_time_secs().ok()? + stat.starttime / procfs::ticks_per_second())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::metrics::exposition::scrape;

    #[test]
    fn a_process_reports_its_resources_and_start_time() {
        let registry = registry("it", "0.0.1", |_| {});
        let text = scrape(&registry, &HeaderMap::new()).1;
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} ")))
                .unwrap_or_else(|| panic!("{text}"));
            line.parse::<f64>().unwrap()
        };
        assert!(value("process_open_fds") > 2.0 && value("process_max_fds") > value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1_700_000_000.0);
        assert!(text.contains("\nit_build_info{version=\"0.0.1\"} 1\n"), "{text}");
    }
}
