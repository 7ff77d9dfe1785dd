//! What happened so far, in memory that does not grow with the run.
//!
//! Pure: samples in, a [`Summary`] out. Everything that is keyed by what a
//! server sends is bounded, see [`Labels`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::labels::Labels;
use crate::measured::{Latencies, Measured};
use crate::outcome::{ErrorKind, Origin, Outcome, Sample};
use crate::report::{Client, Failure, PartSummary, Summary, VersionSummary};

mod labels;
#[cfg(test)]
mod tests;

/// The most versions, routes and reasons that are told apart.
const MAX_LABELS: usize = 64;

/// The most different failure texts that are kept.
const MAX_FAILURES: usize = 100;

/// Counts and latencies over some span of time.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    due: u64,
    dropped: u64,
    unsent: u64,
    finished: u64,
    ok: u64,
    scored: u64,
    right: u64,
    measured: Measured,
    wait: Latencies,
    versions: Labels<VersionTally>,
    statuses: BTreeMap<u16, u64>,
    reasons: Labels<u64>,
    errors: BTreeMap<ErrorKind, u64>,
    failures: Labels<u64>,
    parts: BTreeMap<Arc<str>, PartTally>,
}

/// What became of one kind of request.
#[derive(Clone, Debug, Default)]
struct PartTally {
    measured: Measured,
    scored: u64,
}

/// What one model version answered.
#[derive(Clone, Debug, Default)]
struct VersionTally {
    answers: u64,
    ok: u64,
    scored: u64,
    right: u64,
    routes: Labels<u64>,
    latency: Latencies,
}

// === impl Tally ===

impl Default for Tally {
    fn default() -> Self {
        Self {
            due: 0,
            dropped: 0,
            unsent: 0,
            finished: 0,
            ok: 0,
            scored: 0,
            right: 0,
            measured: Measured::default(),
            wait: Latencies::default(),
            versions: Labels::new(MAX_LABELS),
            statuses: BTreeMap::new(),
            reasons: Labels::new(MAX_LABELS),
            errors: ErrorKind::ALL.map(|kind| (kind, 0)).into(),
            failures: Labels::new(MAX_FAILURES),
            parts: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Counts a request whose instant has come.
    pub(crate) fn due(&mut self) {
        self.due += 1;
    }

    /// Counts one that this client could not send.
    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
        self.measured.dropped.record(Duration::ZERO);
    }

    /// Requests that are due, not dropped, and not over.
    pub(crate) fn in_flight(&self) -> u64 {
        let over = self.dropped + self.unsent + self.finished;
        self.due.saturating_sub(over)
    }

    /// Counts the fate of a request.
    pub(crate) fn record(&mut self, sample: &Sample) {
        self.measured.record(sample);
        if let Outcome::Unsent { text } = &sample.outcome {
            self.unsent += 1;
            *self.failures.entry(&format!("not sent: {text}")) += 1;
            return;
        }
        self.finished += 1;
        self.wait.record(sample.wait());
        if let Some(name) = &sample.part {
            let part = self.parts.entry(Arc::clone(name)).or_default();
            part.measured.record(sample);
            let scored = matches!(sample.outcome, Outcome::Scored { right: Some(_), .. });
            part.scored += u64::from(scored);
        }
        match &sample.outcome {
            Outcome::Scored { from, right } => self.scored(from, *right, sample.latency()),
            Outcome::Refused {
                from,
                status,
                reason,
                text,
            } => {
                *self.statuses.entry(*status).or_default() += 1;
                if from.version.is_some() {
                    self.version(from).answers += 1;
                }
                if let Some(reason) = reason {
                    *self.reasons.entry(reason) += 1;
                }
                *self.failures.entry(&format!("{status}: {text}")) += 1;
            }
            // Counted before.
            Outcome::Unsent { .. } => {}
            Outcome::Failed { kind, text } => {
                *self.errors.entry(*kind).or_default() += 1;
                *self.failures.entry(&format!("{kind}: {text}")) += 1;
            }
        }
    }

    /// Of one that was recorded: its answer came when a closed loop's time was up.
    pub(crate) fn late(&mut self, sample: &Sample) {
        if matches!(sample.outcome, Outcome::Scored { .. }) {
            self.measured.late.record(sample.latency());
        }
    }

    /// Of one that is not: its answer came in a closed loop's time.
    pub(crate) fn early(&mut self, sample: &Sample) {
        if matches!(sample.outcome, Outcome::Scored { .. }) {
            self.measured.early.record(sample.latency());
        }
    }

    /// Answers that could be compared, of a kind of request where there are several.
    pub(crate) fn scored_of(&self, part: Option<&str>) -> u64 {
        part.map_or(self.scored, |name| {
            self.parts.get(name).map_or(0, |part| part.scored)
        })
    }

    /// The histograms.
    pub(crate) fn measured(&self) -> &Measured {
        &self.measured
    }

    /// The figures, over a span of that length.
    pub(crate) fn summary(&self, elapsed: Duration, in_flight: u64) -> Summary {
        let answers = self
            .versions
            .iter()
            .map(|(_, version)| version.answers)
            .sum();
        let versions = self.versions.iter();
        let failures = self.failures.iter();
        Summary {
            elapsed_seconds: elapsed.as_secs_f64(),
            requests: self.due,
            finished: self.finished,
            in_flight,
            ok: self.ok,
            scored: self.scored,
            right: self.right,
            failed: self.finished - self.ok,
            achieved_rate: self.measured.rate(elapsed),
            accuracy: ratio(self.right, self.scored),
            latency: self.measured.latency.quantiles(),
            versions: versions
                .map(|(name, version)| (name.to_owned(), version.summary(answers)))
                .collect(),
            statuses: self.statuses.clone(),
            reasons: self
                .reasons
                .iter()
                .map(|(name, &count)| (name.to_owned(), count))
                .collect(),
            errors: self.errors.clone(),
            failures: failures
                .map(|(text, &count)| Failure {
                    text: text.to_owned(),
                    count,
                })
                .collect(),
            parts: self
                .parts
                .iter()
                .map(|(name, part)| (name.to_string(), part.summary()))
                .collect(),
            client: Client {
                dropped: self.dropped,
                unsent: self.unsent,
                lag: self.measured.lag.quantiles(),
                wait: self.wait.quantiles(),
            },
        }
    }

    fn scored(&mut self, from: &Origin, right: Option<bool>, latency: Duration) {
        self.ok += 1;
        self.scored += u64::from(right.is_some());
        self.right += u64::from(right == Some(true));
        *self.statuses.entry(200).or_default() += 1;
        let version = self.version(from);
        version.answers += 1;
        version.ok += 1;
        version.scored += u64::from(right.is_some());
        version.right += u64::from(right == Some(true));
        version.latency.record(latency);
    }

    /// The version that answered, with the answer's route counted.
    fn version(&mut self, from: &Origin) -> &mut VersionTally {
        let version = self
            .versions
            .entry(from.version.as_deref().unwrap_or("unknown"));
        if let Some(route) = &from.route {
            *version.routes.entry(route) += 1;
        }
        version
    }
}

// === impl PartTally ===

impl PartTally {
    fn summary(&self) -> PartSummary {
        let wrong = self.measured.wrong.len();
        PartSummary {
            finished: self.measured.finished(),
            ok: self.measured.ok(),
            accuracy: ratio(self.scored.saturating_sub(wrong), self.scored),
            latency: self.measured.latency.quantiles(),
        }
    }
}

// === impl VersionTally ===

impl VersionTally {
    fn summary(&self, answers: u64) -> VersionSummary {
        VersionSummary {
            answers: self.answers,
            share: ratio(self.answers, answers).unwrap_or(0.0),
            ok: self.ok,
            right: self.right,
            accuracy: ratio(self.right, self.scored),
            routes: self
                .routes
                .iter()
                .map(|(name, &count)| (name.to_owned(), count))
                .collect(),
            latency: self.latency.quantiles(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
