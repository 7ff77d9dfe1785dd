//! What came of the requests that were drawn: counted, and summed up for people.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Difference, Mismatch};
use crate::{config, metrics::ShadowMetrics};

/// How a request that was drawn for the shadow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Compared: every number is within the tolerance.
    Agreed,
    /// Compared: some number is not.
    Differed,
    /// The answers have other outputs, shapes or datatypes.
    Mismatched,
    /// An answer could not be read.
    Unreadable,
    /// The shadow answered with another status than 200.
    Status,
    /// The shadow did not answer in time.
    Timeout,
    /// The shadow could not be reached, or broke off.
    Failed,
    /// `max_at_once` requests were kept or out already.
    Busy,
    /// No endpoint of the shadow serves and has room.
    NoEndpoint,
    /// The request's body was not kept.
    NotKept,
    /// A body is over `max_kept_bytes`.
    TooLarge,
    /// The request or an answer is compressed, or in no form that is known.
    Unsupported,
    /// The client did not get the whole answer.
    CutShort,
}

/// Counts, and remembers the worst.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: ShadowMetrics,
    summary: Mutex<Summary>,
}

#[derive(Debug, Default)]
struct Summary {
    agreed: u64,
    differed: u64,
    failed: u64,
    skipped: u64,
    worst: Option<Worst>,
}

/// What came of a shadow since it was set as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// The version that is asked too.
    pub version: String,
    /// Of how much of the traffic.
    pub percent: f64,
    /// Answers that were compared.
    pub compared: u64,
    /// Those that agree within the tolerance.
    pub agreed: u64,
    /// Requests that the shadow did not answer, or not in kind.
    pub failed: u64,
    /// Requests that were drawn and not sent, or not compared.
    pub skipped: u64,
    /// The largest difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
}

/// The largest difference so far, by its absolute size: the relative one of numbers
/// near 0 is mostly noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// The output.
    pub output: String,
    /// The largest |a − b| of that answer's output; none where it is infinite.
    pub absolute: Option<f64>,
    /// Its largest |a − b| ÷ max(|a|, |b|); none where it is infinite.
    pub relative: Option<f64>,
}

// === impl Ended ===

impl Ended {
    /// Every way.
    pub const ALL: [Self; 13] = [
        Self::Agreed,
        Self::Differed,
        Self::Mismatched,
        Self::Unreadable,
        Self::Status,
        Self::Timeout,
        Self::Failed,
        Self::Busy,
        Self::NoEndpoint,
        Self::NotKept,
        Self::TooLarge,
        Self::Unsupported,
        Self::CutShort,
    ];

    /// The value of the metrics' label `result`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::Mismatched => "mismatched",
            Self::Unreadable => "unreadable",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::NoEndpoint => "no_endpoint",
            Self::NotKept => "not_kept",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::CutShort => "cut_short",
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(metrics: ShadowMetrics) -> Self {
        Self {
            metrics,
            summary: Mutex::default(),
        }
    }

    /// A request ended without a comparison.
    pub(super) fn ended(&self, how: Ended) {
        self.metrics.ended(how);
        let mut summary = self.summary.lock();
        match how {
            Ended::Agreed => summary.agreed += 1,
            Ended::Differed => summary.differed += 1,
            Ended::Mismatched
            | Ended::Unreadable
            | Ended::Status
            | Ended::Timeout
            | Ended::Failed => summary.failed += 1,
            Ended::Busy
            | Ended::NoEndpoint
            | Ended::NotKept
            | Ended::TooLarge
            | Ended::Unsupported
            | Ended::CutShort => summary.skipped += 1,
        }
    }

    /// Two answers were compared.
    pub(super) fn compared(&self, model_version: &str, result: &Result<Vec<Difference>, Mismatch>) {
        let differences = match result {
            Ok(differences) => differences,
            Err(mismatch) => {
                self.ended(Ended::Mismatched);
                self.tell(model_version, &mismatch.to_string());
                return;
            }
        };
        for difference in differences {
            self.metrics.compared(difference);
        }
        let agrees = differences.iter().all(|difference| difference.agrees);
        self.ended(if agrees {
            Ended::Agreed
        } else {
            Ended::Differed
        });
        let Some(worst) = differences
            .iter()
            .max_by(|a, b| a.absolute.total_cmp(&b.absolute))
        else {
            return;
        };
        self.summary.lock().remember(worst);
        if !agrees {
            let Difference {
                output,
                absolute,
                relative,
                ..
            } = worst;
            let message =
                format!("output {output:?} differs by {absolute:.3e}, relatively {relative:.3e}");
            self.tell(model_version, &message);
        }
    }

    /// Tells the log of the first, the second, the fourth, … answer that is not as
    /// the primary's.
    fn tell(&self, model_version: &str, what: &str) {
        let summary = self.summary.lock();
        let so_far = summary.differed + summary.failed;
        if so_far.is_power_of_two() {
            tracing::warn!(
                model_version,
                so_far,
                "the shadow answers otherwise: {what}"
            );
        }
    }

    pub(super) fn status(&self, settings: &config::Shadow) -> ShadowStatus {
        let summary = self.summary.lock();
        ShadowStatus {
            version: settings.version.to_string(),
            percent: settings.percent,
            compared: summary.agreed + summary.differed,
            agreed: summary.agreed,
            failed: summary.failed,
            skipped: summary.skipped,
            worst: summary.worst.clone(),
        }
    }
}

// === impl Summary ===

impl Summary {
    fn remember(&mut self, difference: &Difference) {
        let finite = |number: f64| number.is_finite().then_some(number);
        let known = self.worst.as_ref();
        // None is infinite, which nothing is worse than.
        let is_worse = known.is_none_or(|worst| {
            let known = worst.absolute.unwrap_or(f64::INFINITY);
            difference.absolute > known
        });
        if is_worse {
            self.worst = Some(Worst {
                output: difference.output.clone(),
                absolute: finite(difference.absolute),
                relative: finite(difference.relative),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(output: &str, absolute: f64) -> Difference {
        Difference {
            output: output.into(),
            absolute,
            relative: 0.1,
            agrees: false,
            rows: 0,
            same_largest: 0,
        }
    }

    #[test]
    fn the_worst_is_remembered_and_nothing_is_worse_than_no_number() {
        let mut summary = Summary::default();
        let mut worst = |output, absolute| {
            summary.remember(&difference(output, absolute));
            let worst = summary.worst.clone().expect("one was remembered");
            (worst.output, worst.absolute)
        };
        assert_eq!(worst("a", 0.2), ("a".into(), Some(0.2)));
        assert_eq!(worst("b", 0.1), ("a".into(), Some(0.2)));
        assert_eq!(worst("c", f64::INFINITY), ("c".into(), None));
        assert_eq!(worst("d", 1e9), ("c".into(), None));
    }
}
