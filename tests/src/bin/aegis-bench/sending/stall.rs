//! A server that stands still for one second of every ten.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;

use super::server::Server;
use crate::clock;

/// From one stall to the next, and how long each is.
const EVERY: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(1);

/// How long a run lasts: two stalls.
pub(super) const LASTS: Duration = Duration::from_secs(20);

/// When the first one begins.
const FIRST: Duration = Duration::from_secs(4);

/// The 99th percentile of who comes at a steady rate: a part of `STALL / EVERY` waits, evenly up to all of the
/// stall, so that 1 % of all wait longer than this.
pub(super) fn expected() -> Duration {
    STALL.saturating_sub(EVERY / 100)
}

/// Runs a load while the server stalls, and gives back what it came to.
pub(super) async fn beside<T>(server: &Server, load: impl Future<Output = T>) -> Result<T> {
    let over = tokio::select! {
        over = load => over,
        Err(error) = stalls(server) => return Err(error),
    };
    // It may have been over in the midst of a stall.
    server.go_on()?;
    Ok(over)
}

async fn stalls(server: &Server) -> Result<Infallible> {
    let mut next = tokio::time::Instant::from_std(clock::now()) + FIRST;
    loop {
        tokio::time::sleep_until(next).await;
        server.stop()?;
        tokio::time::sleep_until(next + STALL).await;
        server.go_on()?;
        next += EVERY;
    }
}
