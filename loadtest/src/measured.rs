//! What a run came to, as histograms alone: all that a verdict needs, and all that an HDR log holds.
//!
//! Every request that was due is counted in one place, and adding two of these up is what measuring
//! both runs as one would have given, exactly: a histogram is a list of counts. So a load that
//! several machines send is judged as one (`aegis-loadtest merge`), with nobody to coordinate them.

use std::time::Duration;

use crate::outcome::{ErrorKind, Outcome, Sample};

pub use self::examples::Examples;
pub use self::latencies::{Latencies, LatenciesError};
pub use self::log::{LineError, LogError};
pub use self::run_id::RunId;

pub(crate) mod examples;
mod latencies;
pub(crate) mod log;
pub(crate) mod run_id;

/// Histograms of everything that was due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Answers with status 200, and requests given up: whoever gave up waited that long.
    pub latency: Latencies,
    /// Those of them that were given up.
    pub timeouts: Latencies,
    /// Every other failure, by how long it took to fail.
    pub failures: Latencies,
    /// Answers that were not the expected one, of those in `latency`.
    pub wrong: Latencies,
    /// Answers of which nobody knows what is right, of those in `latency`.
    pub unscored: Latencies,
    /// What this side could not send, as durations of nothing.
    pub dropped: Latencies,
    /// How late this side began to send.
    pub lag: Latencies,
    /// Different examples that answers were compared with; nothing where nobody counted.
    pub examples: Examples,
    /// What this machine ran out of descriptors or ports for, as durations of nothing.
    pub unsent: Latencies,
    /// Answers of those in `latency` that came when a closed loop's time was up: none of its rate.
    pub late: Latencies,
    /// Answers to a closed loop's warm-up that came in its time: of its rate, and of nothing else.
    pub early: Latencies,
}

// === impl Measured ===

impl Measured {
    /// Each histogram, and its tag in a log; what is read first by other programs has none.
    pub(crate) fn parts(&self) -> [(Option<&'static str>, &Latencies); 10] {
        [
            (None, &self.latency),
            (Some("timeout"), &self.timeouts),
            (Some("failed"), &self.failures),
            (Some("wrong"), &self.wrong),
            (Some("unscored"), &self.unscored),
            (Some("dropped"), &self.dropped),
            (Some("lag"), &self.lag),
            (Some("unsent"), &self.unsent),
            (Some("late"), &self.late),
            (Some("early"), &self.early),
        ]
    }

    /// The histogram of that tag.
    pub(crate) fn part_mut(&mut self, tag: Option<&str>) -> Option<&mut Latencies> {
        Some(match tag {
            None => &mut self.latency,
            Some("timeout") => &mut self.timeouts,
            Some("failed") => &mut self.failures,
            Some("wrong") => &mut self.wrong,
            Some("unscored") => &mut self.unscored,
            Some("dropped") => &mut self.dropped,
            Some("lag") => &mut self.lag,
            Some("unsent") => &mut self.unsent,
            Some("late") => &mut self.late,
            Some("early") => &mut self.early,
            Some(_) => return None,
        })
    }

    /// Counts the fate of a request.
    pub(crate) fn record(&mut self, sample: &Sample) {
        if matches!(sample.outcome, Outcome::Unsent { .. }) {
            return self.unsent.record(Duration::ZERO);
        }
        let latency = sample.latency();
        self.lag.record(sample.lag());
        match &sample.outcome {
            // Counted before.
            Outcome::Unsent { .. } => {}
            Outcome::Scored { right, .. } => {
                self.latency.record(latency);
                // Whoever gave up, below, waited that long: left out, the worst latencies of all
                // would be the ones that are not shown.
                match right {
                    Some(true) => {}
                    Some(false) => self.wrong.record(latency),
                    None => self.unscored.record(latency),
                }
            }
            Outcome::Failed {
                kind: ErrorKind::Timeout,
                ..
            } => {
                self.latency.record(latency);
                self.timeouts.record(latency);
            }
            Outcome::Refused { .. } | Outcome::Failed { .. } => self.failures.record(latency),
        }
    }

    /// Adds another run's.
    ///
    /// # Errors
    ///
    /// When the other holds a duration beyond the range of these.
    pub fn add(&mut self, other: &Self) -> Result<(), LatenciesError> {
        for (tag, part) in other.parts() {
            if let Some(sum) = self.part_mut(tag) {
                sum.add(part)?;
            }
        }
        self.examples.add(&other.examples);
        Ok(())
    }

    /// What has come since an earlier state of the same run.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self {
            // They are not by the interval: one that is sent again was there before.
            examples: self.examples.clone(),
            ..Self::default()
        };
        for ((tag, now), (_, then)) in self.parts().into_iter().zip(earlier.parts()) {
            if let Some(part) = since.part_mut(tag) {
                *part = now.since(then);
            }
        }
        since
    }

    /// Answers with status 200.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.latency.len().saturating_sub(self.timeouts.len())
    }

    /// Those by which the rate is counted. An open loop's are all of them; a closed loop's are those that came in
    /// its time, whenever they were asked for.
    #[must_use]
    pub fn in_time(&self) -> u64 {
        (self.ok() + self.early.len()).saturating_sub(self.late.len())
    }

    /// Answers a second of a measurement that lasted so long.
    #[must_use]
    pub fn rate(&self, elapsed: Duration) -> f64 {
        if elapsed.is_zero() {
            0.0
        } else {
            self.in_time() as f64 / elapsed.as_secs_f64()
        }
    }

    /// Answers with status 200 that could be compared with what is right.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.ok().saturating_sub(self.unscored.len())
    }

    /// Requests that were sent and got no such answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.timeouts.len() + self.failures.len()
    }

    /// Requests that were sent and whose fate is known.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.ok() + self.failed()
    }
}
