//! How much memory this process may use: the limit of its control group (a container's, a unit's), or the machine's
//! memory.
//!
//! It never measures how much is in use.

use std::{fs, path::Path, sync::OnceLock};

/// The mount point of control groups, of both versions (`cgroups(7)`).
const MOUNTED: &str = "/sys/fs/cgroup";
/// The assumed memory if nothing can be read.
const UNKNOWN: u64 = 256 * 1024 * 1024;

/// The most memory that this process may use, in bytes. It is read once, so that limits that follow from it do not
/// change.
#[must_use]
pub fn limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        of_groups(&groups, Path::new(MOUNTED)).into_iter().chain(machine).min().unwrap_or(UNKNOWN)
    })
}

/// The smallest limit from a process's groups up to the root of each hierarchy. In a container, the path may be that of
/// the host, which does not exist there. Then the visible root is the container's own group.
fn of_groups(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, file) = if controllers.is_empty() {
            (mounted.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mounted.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let group = root.join(path);
        let on_the_way = group.ancestors().take_while(|group| group.starts_with(&root));
        on_the_way.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
    });
    limits.min()
}

/// The machine's memory in bytes, from `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_counts_in_both_versions() {
        let directory = tempfile::tempdir().unwrap();
        let mounted = directory.path();
        let write = |group: &str, file: &str, limit: &str| {
            fs::create_dir_all(mounted.join(group)).unwrap();
            fs::write(mounted.join(group).join(file), format!("{limit}\n")).unwrap();
        };
        assert_eq!(of_groups("0::/unit\n", mounted), None, "no such group");
        write("unit/inner", "memory.max", "max");
        assert_eq!(of_groups("0::/unit/inner\n", mounted), None, "no limit");
        write("unit", "memory.max", "1000");
        assert_eq!(of_groups("0::/unit/inner\n", mounted), Some(1000), "the limit of the parent group");
        write("unit/inner", "memory.max", "500");
        assert_eq!(of_groups("1:pids:/other\n0::/unit/inner\n", mounted), Some(500));

        write("memory", "memory.limit_in_bytes", "300");
        let seen_from_inside = "4:cpu,memory:/docker/0123\n3:pids:/docker/0123\n0::/\n";
        assert_eq!(of_groups(seen_from_inside, mounted), Some(300), "the visible root is the container's own group");
        write("memory/docker/0123", "memory.limit_in_bytes", "200");
        assert_eq!(of_groups(seen_from_inside, mounted), Some(200));
        assert_eq!(of_groups("4:memory:/../../etc\n", mounted), Some(300), "never outside the root");
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 * 1024 * 1024));
        assert_eq!(total("MemTotal: many\n"), None);
        assert!(limit() > 16 * 1024 * 1024);
    }
}
