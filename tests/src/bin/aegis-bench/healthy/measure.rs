//! What a program and its children have used, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// CPU time of all threads of the process and its descendants: on a core, in nanoseconds, by the
/// scheduler's own count (`/proc/PID/task/*/schedstat`).
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for pid in family(pid)? {
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may end while it is asked about.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let on_core = text.split(' ').next().context("an empty schedstat")?;
            total += on_core.parse::<u64>()?;
        }
    }
    ensure!(total > 0, "the system counts no CPU time for process {pid}");
    Ok(Duration::from_nanos(total))
}

/// What each of so many requests has taken, in microseconds.
pub(crate) fn micros_each(spent: Duration, requests: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / requests.max(1) as f64
}

/// Resident bytes of the process and its descendants. Pages that they share count for each.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let mut kib = 0;
    for pid in family(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
        kib += line.parse::<u64>()?;
    }
    Ok(kib * 1024)
}

/// The process and its descendants.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) else {
            continue;
        };
        // The name may hold anything; behind its last bracket come state and parent.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let parent = rest.split_whitespace().nth(1);
        parents.push((child, parent.and_then(|parent| parent.parse().ok())));
    }
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&member) = family.get(at) {
        let children = parents.iter().filter(|(_, parent)| *parent == Some(member));
        family.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    Ok(family)
}
