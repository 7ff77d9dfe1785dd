//! Why a breaker moved, with the figures that moved it.

use std::{fmt, time::Duration};

/// What moved a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TripReason {
    /// So many failures in a row: closed → open.
    ConsecutiveFailures {
        /// How many it took.
        failures: u32,
    },
    /// So large a part of the recent attempts failed: closed → open.
    FailureRatio {
        /// How many failed.
        failures: u32,
        /// Of how many.
        of: u32,
    },
    /// So many slow attempts in a row: closed → open.
    ConsecutiveSlow {
        /// How many it took.
        slow: u32,
        /// The last of them.
        last: Slowness,
    },
    /// So large a part of the recent attempts was slow: closed → open.
    SlowRatio {
        /// How many were slow.
        slow: u32,
        /// Of how many.
        of: u32,
        /// The last of them.
        last: Slowness,
    },
    /// A probe failed: half-open → open.
    ProbeFailed {
        /// How slow it was, where that is how it failed.
        slow: Option<Slowness>,
    },
    /// The time in open is over: open → half-open.
    TimeUp,
    /// Enough probes succeeded: half-open → closed.
    ProbesSucceeded,
}

/// An attempt that took too long, or has been taking too long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowness {
    /// How long it waited for its answer.
    pub waited: Duration,
    /// How long it might have.
    pub threshold: Threshold,
}

/// From when on an attempt is slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The time to first byte that is just not slow.
    pub limit: Duration,
    /// Where it comes from.
    pub basis: Basis,
}

/// What a threshold was worked out from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// `latency_threshold`: slow whatever the others do.
    Absolute,
    /// What an attempt is given before it is tried elsewhere.
    PerTry,
    /// The least that counts as slow beside others that are fast.
    Floor,
    /// So many times the median of the other endpoints' medians.
    Median {
        /// How many times.
        factor: f64,
        /// The median.
        of: Duration,
    },
    /// So many times the median of the other endpoints' 95th percentiles.
    Tail {
        /// How many times.
        factor: f64,
        /// The 95th percentile.
        of: Duration,
    },
}

// === impl Basis ===

impl Basis {
    /// Whether it says no more than that others are faster.
    #[must_use]
    pub fn is_relative(self) -> bool {
        match self {
            Self::Floor | Self::Median { .. } | Self::Tail { .. } => true,
            Self::Absolute | Self::PerTry => false,
        }
    }
}

// === impl TripReason ===

impl TripReason {
    /// Every reason's label, for metrics that exist at 0 from the start.
    pub const LABELS: [&'static str; 7] = [
        "consecutive_failures",
        "failure_ratio",
        "consecutive_slow",
        "slow_ratio",
        "probe_failed",
        "time_up",
        "probes_succeeded",
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures { .. } => Self::LABELS[0],
            Self::FailureRatio { .. } => Self::LABELS[1],
            Self::ConsecutiveSlow { .. } => Self::LABELS[2],
            Self::SlowRatio { .. } => Self::LABELS[3],
            Self::ProbeFailed { .. } => Self::LABELS[4],
            Self::TimeUp => Self::LABELS[5],
            Self::ProbesSucceeded => Self::LABELS[6],
        }
    }

    /// Whether slowness was the reason: what overload looks like too.
    #[must_use]
    pub fn is_slowness(self) -> bool {
        matches!(
            self,
            Self::ConsecutiveSlow { .. }
                | Self::SlowRatio { .. }
                | Self::ProbeFailed { slow: Some(_) }
        )
    }
}

impl fmt::Display for TripReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} failures in a row"),
            Self::FailureRatio { failures, of } => {
                write!(f, "{failures} of the last {of} attempts failed")
            }
            Self::ConsecutiveSlow { slow, last } => {
                write!(f, "{slow} slow attempts in a row, the last {last}")
            }
            Self::SlowRatio { slow, of, last } => {
                write!(
                    f,
                    "{slow} of the last {of} attempts were slow, the last {last}"
                )
            }
            Self::ProbeFailed { slow: None } => write!(f, "a probe failed"),
            Self::ProbeFailed { slow: Some(slow) } => write!(f, "a probe was slow: {slow}"),
            Self::TimeUp => write!(f, "the open time is over"),
            Self::ProbesSucceeded => write!(f, "enough probes succeeded"),
        }
    }
}

impl fmt::Display for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waited, threshold } = self;
        write!(f, "{} where {threshold}", Millis(*waited))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is the limit (", Millis(self.limit))?;
        match self.basis {
            Basis::Absolute => write!(f, "latency_threshold)"),
            Basis::PerTry => write!(f, "per try, then it is tried elsewhere)"),
            Basis::Floor => write!(f, "relative_floor, its peers are faster)"),
            Basis::Median { factor, of } => {
                write!(f, "{factor} × {}, its peers' median)", Millis(of))
            }
            Basis::Tail { factor, of } => {
                write!(f, "{factor} × {}, its peers' 95th percentile)", Millis(of))
            }
        }
    }
}

/// Milliseconds, with as many digits as anyone needs.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_secs_f64() * 1e3;
        let digits = usize::from(ms < 100.0);
        write!(f, "{ms:.digits$} ms")
    }
}
