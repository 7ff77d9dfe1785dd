//! Waiting for a condition, never for a length of time.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a test waits for what should take a moment: long enough for a slow machine that also
/// compiles, short enough that a hang is a failure with a message rather than a stuck run.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Asks `probe` again and again until it answers, for [`PATIENCE`] at most.
///
/// # Errors
///
/// What was waited for, and the last reason that `probe` gave for not being there.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    let asking = async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match probe().await {
                Ok(value) => return value,
                Err(reason) => last = Some(reason),
            }
        }
    };
    let outcome = timeout(PATIENCE, asking).await;
    outcome
        .map_err(|_| last.unwrap_or_else(|| anyhow!("the probe never answered")))
        .with_context(|| format!("waited {} s for this, in vain: {what}", PATIENCE.as_secs()))
}
