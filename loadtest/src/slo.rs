//! What a release must keep, and whether a run shows that it does.
//!
//! An objective is *met* where even the bad end of its confidence interval keeps it, *missed* where
//! not even the good end does, and *undecided* in between: the run was too small to tell. So nothing
//! passes by luck, and nothing fails by it.
//!
//! A run that the load generator could not keep up with says nothing of the server: it is *invalid*,
//! whatever its figures are.

use serde::{Deserialize, Serialize};

use crate::report::Quantiles;

pub use self::file::{SloError, schema};
pub use self::judge::{Limits, invalid, judge};

pub(crate) mod binomial;
mod file;
mod judge;
mod show;

/// Service level objectives.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// How sure a verdict is: the confidence of every interval.
    pub(crate) confidence: f64,
    /// The least share of requests that are answered.
    pub(crate) availability: Option<f64>,
    /// The least share of answers that are right, of those that can be wrong.
    pub(crate) accuracy: Option<f64>,
    /// Bounds of latency, by rising quantile.
    pub(crate) latency: Vec<Bound>,
}

/// A quantile of latency, and what it has to be below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    /// Between 0 and 1.
    pub(crate) quantile: f64,
    /// In milliseconds.
    pub(crate) below_ms: f64,
}

/// What a run says about objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What it comes to.
    pub verdict: Verdict,
    /// The confidence of the intervals.
    pub confidence: f64,
    /// Each objective.
    pub objectives: Vec<Objective>,
}

/// What objectives come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every one is met.
    Pass,
    /// One is missed.
    Fail,
    /// None is missed, and one is undecided.
    TooSmall,
    /// The load was not the one that was asked for.
    Invalid,
    /// Every one is met, of a run that broke off.
    Partial,
}

/// One objective, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// `availability`, `accuracy`, or a quantile such as `p99`.
    pub name: String,
    /// The least share, or the latency in milliseconds to stay below.
    pub target: f64,
    /// The same of what was measured; none where there was nothing to measure.
    pub measured: Option<f64>,
    /// The lower end of the confidence interval; none where the run is too small to have one.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// Whether it is kept.
    pub state: State,
    /// About how many requests would decide, or different examples of an accuracy, at the same shares; none where it is decided, or where the
    /// figure is so near to the target that no run would.
    pub needs: Option<u64>,
    /// Of an accuracy: the different examples that it rests on, where answers to the same ones came again.
    #[serde(default)]
    pub examples: Option<u64>,
}

/// Whether an objective is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is, to the end of the interval.
    Met,
    /// It is not, to the other end.
    Missed,
    /// The interval holds the target.
    Undecided,
}

/// Why the load was not the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// Requests were not sent, since as many as allowed were under way.
    Dropped {
        /// How many.
        requests: u64,
    },
    /// Requests could not be sent, since this machine was out of descriptors, ports or memory.
    Unsent {
        /// How many.
        requests: u64,
    },
    /// Requests were sent too late.
    Late {
        /// How late, all in all.
        lag: Quantiles,
        /// What the 99th percentile had to stay within, in milliseconds.
        limit_ms: f64,
    },
    /// No request came due.
    Empty,
}
