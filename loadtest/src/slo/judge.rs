//! Holds what was measured to objectives.

use std::time::Duration;

use super::{Bound, Invalid, Judgement, Objective, Slo, State, Verdict, binomial};
use crate::measured::Measured;

/// What a load generator has to keep, for its run to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How late it may begin to send, at the 99th percentile.
    pub lag: Duration,
}

/// Why the load was not the one that was asked for; empty where it was.
#[must_use]
pub fn invalid(measured: &Measured, limits: Limits) -> Vec<Invalid> {
    let mut invalid = Vec::new();
    let dropped = measured.dropped.len();
    if measured.finished() + dropped == 0 {
        invalid.push(Invalid::Empty);
    }
    if dropped > 0 {
        invalid.push(Invalid::Dropped { requests: dropped });
    }
    let limit_ms = limits.lag.as_secs_f64() * 1000.0;
    if let Some(lag) = measured.lag.quantiles().filter(|lag| lag.p99_ms > limit_ms) {
        invalid.push(Invalid::Late { lag, limit_ms });
    }
    invalid
}

/// Holds what was measured to objectives. What is invalid passes none.
#[must_use]
pub fn judge(slo: &Slo, measured: &Measured, limits: Limits) -> Judgement {
    let confidence = slo.confidence;
    let mut objectives = Vec::new();
    if let Some(target) = slo.availability {
        let (ok, all) = (measured.ok(), measured.finished());
        objectives.push(of_share("availability", target, ok, all, confidence));
    }
    if let Some(target) = slo.accuracy {
        let scored = measured.scored();
        let right = scored.saturating_sub(measured.wrong.len());
        objectives.push(of_share("accuracy", target, right, scored, confidence));
    }
    for &bound in &slo.latency {
        objectives.push(of_quantile(bound, measured, confidence));
    }
    let any = |state| objectives.iter().any(|objective| objective.state == state);
    let verdict = if !invalid(measured, limits).is_empty() {
        Verdict::Invalid
    } else if any(State::Missed) {
        Verdict::Fail
    } else if any(State::Undecided) {
        Verdict::TooSmall
    } else {
        Verdict::Pass
    };
    Judgement {
        verdict,
        confidence,
        objectives,
    }
}

fn of_share(name: &str, target: f64, good: u64, all: u64, confidence: f64) -> Objective {
    let interval = (all > 0).then(|| binomial::share(good, all, confidence));
    let state = match interval {
        Some((low, _)) if low >= target => State::Met,
        Some((_, high)) if high < target => State::Missed,
        _ => State::Undecided,
    };
    Objective {
        name: name.to_owned(),
        target,
        measured: (all > 0).then(|| good as f64 / all as f64),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        state,
        needs: needs(state, good, all, target, confidence),
    }
}

fn of_quantile(bound: Bound, measured: &Measured, confidence: f64) -> Objective {
    let Bound { quantile, below_ms } = bound;
    let latency = &measured.latency;
    let all = latency.len();
    let (low, high) = binomial::ranks(quantile, all, confidence);
    let at = |rank: Option<u64>| rank.and_then(|rank| latency.at_rank_ms(rank));
    let (low, high) = (at(low), at(high));
    // A request that was given up sooner than that would have taken longer, and nobody knows how long.
    let is_known = measured.timeouts.below(below_ms) == 0;
    let state = match (low, high) {
        (_, Some(high)) if high < below_ms && is_known => State::Met,
        (Some(low), _) if low >= below_ms => State::Missed,
        _ => State::Undecided,
    };
    Objective {
        name: bound.name(),
        target: below_ms,
        measured: latency.quantile_ms(quantile),
        low,
        high,
        state,
        needs: needs(state, latency.below(below_ms), all, quantile, confidence),
    }
}

fn needs(state: State, good: u64, all: u64, target: f64, confidence: f64) -> Option<u64> {
    let undecided = state == State::Undecided;
    undecided
        .then(|| binomial::needed(good, all, target, confidence))
        .flatten()
}

// === impl Slo ===

impl Slo {
    /// The fewest requests that can show that every objective is met.
    #[must_use]
    pub fn least(&self) -> u64 {
        let quantiles = self.latency.iter().map(|bound| bound.quantile);
        let targets = quantiles.chain(self.availability).chain(self.accuracy);
        targets
            .map(|target| binomial::least(target, self.confidence))
            .max()
            .unwrap_or(1)
    }

    /// The longest latency that an objective speaks of.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        let bounds = self.latency.iter();
        let longest = bounds.map(|bound| bound.below_ms).reduce(f64::max)?;
        Duration::try_from_secs_f64(longest / 1000.0).ok()
    }

    /// Whether answers have to be compared with what is right.
    #[must_use]
    pub fn wants_accuracy(&self) -> bool {
        self.accuracy.is_some()
    }
}

// === impl Bound ===

impl Bound {
    /// `p99`, or `p99.9`.
    fn name(self) -> String {
        // Rounded, since 0.999 × 100 is not quite 99.9.
        format!("p{}", (self.quantile * 1e8).round() / 1e6)
    }
}

#[cfg(test)]
mod tests;
