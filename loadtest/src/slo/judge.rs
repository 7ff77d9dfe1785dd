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
    let unsent = measured.unsent.len();
    if measured.finished() + dropped + unsent == 0 {
        invalid.push(Invalid::Empty);
    }
    if dropped > 0 {
        invalid.push(Invalid::Dropped { requests: dropped });
    }
    if unsent > 0 {
        invalid.push(Invalid::Unsent { requests: unsent });
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
        let examples = measured.examples.count();
        objectives.push(of_accuracy(target, right, scored, examples, confidence));
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

/// A share that rests on different examples: the same one again shows nothing new.
fn of_accuracy(
    target: f64,
    right: u64,
    scored: u64,
    examples: Option<u64>,
    confidence: f64,
) -> Objective {
    let mut objective = of_share("accuracy", target, right, scored, confidence);
    let Some(examples) = examples.filter(|&examples| 0 < examples && examples < scored) else {
        return objective;
    };
    // As many of the examples are right as of the answers; between two, each end takes the worse.
    let of = |number: u64| u128::from(number) * u128::from(examples);
    let below = u64::try_from(of(right) / u128::from(scored)).unwrap_or(examples);
    let above = u64::try_from(of(right).div_ceil(u128::from(scored))).unwrap_or(examples);
    let (low, _) = binomial::share(below, examples, confidence);
    let (_, high) = binomial::share(above, examples, confidence);
    let state = state(Some((low, high)), target);
    objective.state = state;
    objective.low = Some(low);
    objective.high = Some(high);
    objective.needs = needs(state, below, examples, target, confidence);
    objective.examples = Some(examples);
    objective
}

fn state(interval: Option<(f64, f64)>, target: f64) -> State {
    match interval {
        Some((low, _)) if low >= target => State::Met,
        Some((_, high)) if high < target => State::Missed,
        _ => State::Undecided,
    }
}

fn of_share(name: &str, target: f64, good: u64, all: u64, confidence: f64) -> Objective {
    let interval = (all > 0).then(|| binomial::share(good, all, confidence));
    let state = state(interval, target);
    Objective {
        name: name.to_owned(),
        target,
        measured: (all > 0).then(|| good as f64 / all as f64),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        state,
        needs: needs(state, good, all, target, confidence),
        examples: None,
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
        examples: None,
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

    /// The fewest different examples that can show that the accuracy is met; none where none is wanted.
    #[must_use]
    pub fn least_examples(&self) -> Option<u64> {
        self.accuracy
            .map(|target| binomial::least(target, self.confidence))
    }

    /// Whether answers have to be compared with what is right.
    #[must_use]
    pub fn wants_accuracy(&self) -> bool {
        self.accuracy.is_some()
    }
}

// === impl Judgement ===

impl Judgement {
    /// The same of a run that broke off: what was missed is missed, but it passes nothing.
    #[must_use]
    pub fn of_partial(mut self) -> Self {
        if self.verdict == Verdict::Pass {
            self.verdict = Verdict::Partial;
        }
        self
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
