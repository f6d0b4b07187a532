//! What a process has used so far, out of `/proc`: Linux only.
//!
//! It never looks at a process that is gone; that is an error.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// Processor time of a process and its children (nginx serves with some), all threads, user and system together. The kernel
/// counts it exactly, and shows it in ticks of 10 ms.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    family(pid)?.into_iter().map(own_processor_time).sum()
}

/// A process and its children.
fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| path.clone())?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    Ok([pid].into_iter().chain(children).collect())
}

fn own_processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).context("stat is short");
    // Fields 14 and 15 of proc(5); the first two are cut off. USER_HZ is 100 on every Linux of today.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// What a process and its children hold in memory now, in bytes; pages that they share count once.
pub(crate) fn proportional(pid: u32) -> anyhow::Result<f64> {
    family(pid)?
        .into_iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| path.clone())?;
            Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
        })
        .sum()
}

/// What a process holds in memory now, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    status(pid, "VmRSS:")
}

/// The most that a process ever held in memory, in bytes.
pub(crate) fn peak(pid: u32) -> anyhow::Result<f64> {
    status(pid, "VmHWM:")
}

/// Makes what a process holds now its peak. Only who owns it may.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    // 5 is "reset the peak" (proc(5)).
    fs::write(&path, "5").with_context(|| path.clone())
}

fn status(pid: u32, name: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path}: {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0)
}
