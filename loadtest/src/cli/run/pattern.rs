//! The flags that say when requests are sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::duration;
use crate::{Pattern, Profile, Rate, Schedule, Spacing, Spike, Trace};

/// When requests are sent: at a rate as users come, unless told otherwise.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "When requests are sent")]
pub(super) struct PatternArgs {
    /// Requests a second, on average.
    #[arg(long, default_value = "500")]
    rate: Rate,
    /// How long to measure, such as 30s or 2m.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    duration: Duration,
    /// How long to send before the measurement begins.
    #[arg(long, default_value = "2s", value_parser = duration::parse)]
    warmup: Duration,
    /// A rate to go to from `--rate`, evenly over the duration.
    #[arg(long, value_name = "RATE", group = "shape")]
    ramp_to: Option<Rate>,
    /// Rates to go through, each for an equal part of the duration, such as 100,200,400.
    #[arg(
        long,
        value_name = "RATES",
        value_delimiter = ',',
        group = "shape",
        conflicts_with = "rate"
    )]
    steps: Option<Vec<Rate>>,
    /// A rate to jump to for a while, from `--rate`.
    #[arg(long, value_name = "RATE", group = "shape", requires_all = ["spike_at", "spike_for"])]
    spike: Option<Rate>,
    /// When the spike begins, from the start of the measurement.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, requires = "spike")]
    spike_at: Option<Duration>,
    /// How long the spike lasts.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, requires = "spike")]
    spike_for: Option<Duration>,
    /// Recorded arrivals to send at, one a line: seconds, RFC 3339 times, or an access log of aegis-proxy (.gz is
    /// read too).
    #[arg(long, value_name = "FILE", group = "shape", conflicts_with_all = ["rate", "duration"])]
    replay: Option<PathBuf>,
    /// How many times as fast to replay.
    #[arg(long, default_value = "1", requires = "replay", value_parser = speed)]
    speed: f64,
    /// So many connections, each of which waits for its answer before it sends again: for comparison. It asks a
    /// server that stalls less, and so hides what users would see.
    #[arg(
        long,
        value_name = "CONNECTIONS",
        group = "shape",
        conflicts_with = "rate"
    )]
    closed: Option<usize>,
    /// Send requests evenly, and not as independent users come.
    #[arg(long, conflicts_with_all = ["closed", "replay"])]
    even: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (1e-3..=1e3).contains(&speed) => Ok(speed),
        _ => Err(format!(
            "expected a number from 0.001 to 1000, got `{text}`"
        )),
    }
}

// === impl PatternArgs ===

impl PatternArgs {
    pub(super) fn warmup(&self) -> Duration {
        self.warmup
    }

    pub(super) fn pattern(&self) -> Result<Pattern> {
        let Self {
            rate,
            duration,
            warmup,
            ..
        } = *self;
        if let Some(connections) = self.closed {
            return Ok(Pattern::Closed {
                connections,
                warmup,
                duration,
            });
        }
        let schedule = match &self.replay {
            Some(path) => {
                Schedule::Replayed(Arc::new(Trace::read(path, self.speed).context("--replay")?))
            }
            None => Schedule::Drawn {
                profile: self.profile(rate, duration)?,
                spacing: if self.even {
                    Spacing::Even
                } else {
                    Spacing::Poisson
                },
            },
        };
        Ok(Pattern::Open { schedule, warmup })
    }

    fn profile(&self, rate: Rate, duration: Duration) -> Result<Profile> {
        if let Some(to) = self.ramp_to {
            return Ok(Profile::ramp(rate, to, duration));
        }
        if let Some(rates) = &self.steps {
            return Profile::steps(rates, duration).context("--steps");
        }
        if let (Some(rate_of_spike), Some(at), Some(lasts)) =
            (self.spike, self.spike_at, self.spike_for)
        {
            let spike = Spike {
                rate: rate_of_spike,
                at,
                lasts,
            };
            return Profile::spike(rate, spike, duration).context("--spike");
        }
        Ok(Profile::constant(rate, duration))
    }
}
