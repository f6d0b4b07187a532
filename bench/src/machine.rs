//! The facts of the machine and of what ran on it, without which a number says nothing.
//!
//! It never measures anything.

use std::{fmt::Write as _, fs};

use crate::{commands::first_line, peers::Peer};

/// The facts as a list in Markdown.
pub(crate) fn facts() -> String {
    let processor = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = first_line("uname", &["-sr"]);
    let changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]);
    let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"]);
    let commit = if changed.is_empty() { commit } else { format!("{commit} with changes that are not committed") };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    let rows = [
        ("processor", format!("{processor}, {cores} cores")),
        ("memory", memory),
        ("kernel", kernel),
        ("compiler", first_line("rustc", &["--version"])),
        ("commit", commit),
        ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("load before the run (1 min)", load),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "- {name}: {value}");
    }
    for peer in Peer::ALL {
        let _ = writeln!(text, "- {}: {}", peer.name(), peer.version());
    }
    text
}

/// The value of the first line that begins with this name and a colon.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_else(|| "unknown".to_owned())
}
