//! When the requests of an open loop are due.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use crate::arrivals::{Arrivals, Rate, Spacing};
use crate::profile::Profile;
use crate::trace::Trace;
use crate::words::seconds;

/// Instants, drawn or recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Drawn from a profile of rates.
    Drawn {
        /// The rates.
        profile: Profile,
        /// How requests follow each other.
        spacing: Spacing,
    },
    /// As they came once.
    Replayed(Arc<Trace>),
}

// === impl Schedule ===

impl Schedule {
    /// As independent users come, at one rate.
    #[must_use]
    pub fn constant(rate: Rate, length: Duration) -> Self {
        Self::Drawn {
            profile: Profile::constant(rate, length),
            spacing: Spacing::Poisson,
        }
    }

    /// How long it is, without the warm-up.
    #[must_use]
    pub fn length(&self) -> Duration {
        match self {
            Self::Drawn { profile, .. } => profile.length(),
            // The last arrival is within.
            Self::Replayed(trace) => trace.length() + Duration::from_nanos(1),
        }
    }

    /// How many requests it comes to, on average.
    #[must_use]
    pub fn expected(&self) -> f64 {
        match self {
            Self::Drawn { profile, .. } => profile.expected(),
            Self::Replayed(trace) => trace.arrivals() as f64,
        }
    }

    /// Requests a second, on average.
    #[must_use]
    pub fn mean_rate(&self) -> f64 {
        let seconds = self.length().as_secs_f64();
        if seconds > 0.0 {
            self.expected() / seconds
        } else {
            0.0
        }
    }

    /// The instants, with those of a warm-up before them: at the rate of the beginning, or at the mean
    /// one of a trace.
    pub(crate) fn instants(
        &self,
        warmup: Duration,
        seed: u64,
    ) -> Box<dyn Iterator<Item = Duration> + Send> {
        match self {
            Self::Drawn { profile, spacing } => {
                Box::new(Arrivals::of(&profile.after(warmup), *spacing, seed))
            }
            Self::Replayed(trace) => {
                let trace = Arc::clone(trace);
                let recorded = (0..).map_while(move |number| trace.at(number));
                let recorded = recorded.map(move |at| warmup + at);
                match Rate::new(self.mean_rate()) {
                    Ok(rate) => Box::new(Arrivals::new(rate, seed).until(warmup).chain(recorded)),
                    Err(_) => Box::new(recorded),
                }
            }
        }
    }
}

/// For people.
impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn { profile, spacing } => {
                write!(f, "{profile}")?;
                match spacing {
                    Spacing::Poisson => Ok(()),
                    Spacing::Even => write!(f, ", evenly"),
                }
            }
            Self::Replayed(trace) => {
                let seconds = seconds(trace.length());
                write!(f, "{} recorded arrivals over {seconds} s", trace.arrivals())?;
                match trace.sample() {
                    None => Ok(()),
                    Some(part) => write!(
                        f,
                        ", a sample (of ordinary requests the log has {} %)",
                        (part * 1e6).round() / 1e4
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_follows_a_warm_up_at_its_own_rate() {
        let trace = Trace::from_reader("t".as_ref(), "0\n0.5\n1\n2\n".as_bytes(), 1.0).unwrap();
        let schedule = Schedule::Replayed(Arc::new(trace));
        assert_eq!(schedule.to_string(), "4 recorded arrivals over 2 s");
        let warmup = Duration::from_secs(100);
        let (before, after): (Vec<_>, Vec<_>) =
            schedule.instants(warmup, 3).partition(|&at| at < warmup);
        // Two a second: six deviations around 200.
        assert!((115..285).contains(&before.len()), "{}", before.len());
        let after: Vec<_> = after
            .iter()
            .map(|&at| at.saturating_sub(warmup).as_millis())
            .collect();
        assert_eq!(after, [0, 500, 1000, 2000]);
        assert!(before.is_sorted());
    }

    #[test]
    fn a_replay_of_a_sample_is_called_one() {
        let lines = "{\"time\":\"2026-11-28T12:00:01Z\",\"sample\":0.1}\n\
                     {\"time\":\"2026-11-28T12:00:16.0000001Z\",\"sample\":0.1}\n";
        let trace = Trace::from_reader("t".as_ref(), lines.as_bytes(), 1.0).unwrap();
        let shown = Schedule::Replayed(Arc::new(trace)).to_string();
        let said =
            "2 recorded arrivals over 15 s, a sample (of ordinary requests the log has 10 %)";
        assert_eq!(shown, said);
    }

    #[test]
    fn even_requests_are_as_far_apart_as_the_rate_says() {
        let schedule = Schedule::Drawn {
            profile: Profile::constant(Rate::new(4.0).unwrap(), Duration::from_secs(1)),
            spacing: Spacing::Even,
        };
        let at: Vec<_> = schedule
            .instants(Duration::ZERO, 1)
            .map(|at| at.as_millis())
            .collect();
        assert_eq!(at, [0, 250, 500, 750]);
        assert_eq!(schedule.to_string(), "4 requests/s for 1 s, evenly");
    }
}
