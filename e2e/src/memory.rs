//! Limits the memory of a process like a container does, with a control group of its own.
//!
//! It never changes a control group that it has not made, and removes its own at the end.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::process::wait_until;

/// The limit of each program in docker-compose.yml, in bytes.
pub const CONTAINER_MEMORY: u64 = 256 * 1024 * 1024;

/// A control group with a memory limit. The kernel kills a process in it that exceeds the limit.
#[derive(Debug)]
pub struct MemoryLimit {
    group: PathBuf,
    files: &'static Files,
}

/// The file names of one version of control groups.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    swap: &'static str,
    peak: &'static str,
    events: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    events: "memory.oom_control",
};
const V2: Files = Files { limit: "memory.max", swap: "memory.swap.max", peak: "memory.peak", events: "memory.events" };

impl MemoryLimit {
    /// `None` if this user may not make one; this is printed, and the test is skipped.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        match Self::make(bytes) {
            Ok(limit) => Some(limit),
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "a test that is skipped says so loudly")]
                {
                    eprintln!("SKIPPED: no control group for memory can be made here, which takes root: {error}");
                }
                None
            }
        }
    }

    fn make(bytes: u64) -> std::io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (parent, files) = if v1.is_dir() { (v1, &V1) } else { (Path::new("/sys/fs/cgroup"), &V2) };
        let group = parent.join(name);
        fs::create_dir(&group)?;
        let made = Self { group, files };
        made.write(files.limit, bytes)?;
        // Swap is limited too. Version 1 counts memory and swap together; a kernel without swap has no such file.
        let _ = made.write(files.swap, if std::ptr::eq(files, &V1) { bytes } else { 0 });
        Ok(made)
    }

    fn write(&self, file: &str, value: u64) -> std::io::Result<()> {
        fs::write(self.group.join(file), value.to_string())
    }

    /// This program, started inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(self.group.join("cgroup.procs")).arg(program);
        command
    }

    /// The peak memory since the group was made, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.group.join(self.files.peak)).expect("the group counts");
        text.trim().parse().expect("a number of bytes")
    }

    /// The number of processes in it that the kernel killed for exceeding the limit.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.group.join(self.files.events)).expect("the group counts");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).expect("the kernel counts what it kills")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group can be removed once the kernel has let go of its last process.
        wait_until("the control group is empty", || fs::remove_dir(&self.group).ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;

    #[test]
    fn who_needs_more_is_killed_and_counted() {
        let Some(limit) = MemoryLimit::new(16 * 1024 * 1024) else { return };
        let _ = run(limit.command("true").args(["of", "a few pages"])).success();
        assert!(limit.kills() == 0 && (1..16 * 1024 * 1024).contains(&limit.peak()));
        let ended = run(limit.command("sh").args(["-c", "tail /dev/zero"]));
        assert!(!ended.status.success() && limit.kills() == 1, "{ended:?}");
    }
}
