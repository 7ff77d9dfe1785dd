//! What programs that have ended have used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;

/// CPU time of all children that were waited for, to a tick of the system's (10 ms).
pub(super) fn of_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name may hold anything; behind its last bracket the third field comes first.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let ticks = next().zip(next()).map(|(user, system)| user + system);
    let ticks = ticks.context("/proc/self/stat says no times of children")?;
    let seconds = ticks as f64 / clock_ticks_per_second() as f64;
    Ok(Duration::from_secs_f64(seconds))
}
