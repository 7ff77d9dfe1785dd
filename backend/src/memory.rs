//! How much memory is free: the least of what the machine has and of what the cgroup allows.
//!
//! Memory that holds files which can be read again counts as free: the kernel gives it back when it
//! is needed. Where nothing can be read, nothing is known, and nobody is refused for it.

use std::fs;
use std::path::Path;

/// Bytes that are free, where the system says it.
#[must_use]
pub fn free() -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| available(&text));
    [machine, cgroup()].into_iter().flatten().min()
}

/// What the cgroup of this process allows beyond what it uses. In a container it is the root.
fn cgroup() -> Option<u64> {
    let folder = Path::new("/sys/fs/cgroup");
    let file = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (limit, used) = (file("memory.max")?, file("memory.current")?);
    room(&limit, &used, &file("memory.stat").unwrap_or_default())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `MemAvailable` of `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is left under a limit; none where there is no limit.
fn room(limit: &str, used: &str, stat: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let files = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::{available, free, room};

    #[test]
    fn what_the_machine_has_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        for nonsense in ["", "MemAvailable: lots", "MemAvailable: 1"] {
            assert_eq!(available(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_a_cgroup_uses_for_files_counts_as_free() {
        assert_eq!(
            room("1000\n", "700\n", "anon 300\ninactive_file 400\n"),
            Some(700)
        );
        assert_eq!(room("1000", "1200", ""), Some(0));
        assert_eq!(room("max\n", "700", ""), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(free().is_some_and(|bytes| bytes > 1 << 20));
    }
}
