//! One endpoint's circuit breaker (Envoy calls this outlier detection).
//!
//! ```text
//!            failures in a row                    time is up
//!   closed ────────────────────▶ open ───────────────────────▶ half-open
//!     ▲                           ▲                              │    │
//!     │                           └────── one probe fails ───────┘    │
//!     └───────────────── enough probes succeed ───────────────────────┘
//! ```
//!
//! Every use of the endpoint holds a [`Ticket`], and its outcome is recorded
//! against that ticket. A ticket names the *epoch* in which it was given, and
//! every transition starts a new epoch: an answer that arrives after the
//! breaker has moved on says nothing about the state that it is in now. In
//! half-open, tickets are leased probes: one at first, more once one has
//! succeeded, each lost when its lease runs out. So a probe whose answer never
//! comes cannot wedge the breaker, which is how half-open fails elsewhere.
//!
//! With `enforce = false` the same machine runs and is shown, and no ticket is
//! ever refused: a dry run.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::{backoff::Backoff, config::BreakerConfig, outcome::Outcome};

/// A breaker's state, as shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Traffic flows.
    Closed,
    /// A few probes decide.
    HalfOpen,
    /// No traffic.
    Open,
}

/// What moved a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TripReason {
    /// So many failures in a row: closed → open.
    ConsecutiveFailures {
        /// How many it took.
        failures: u32,
    },
    /// A probe failed: half-open → open.
    ProbeFailed,
    /// The time in open is over: open → half-open.
    TimeUp,
    /// Enough probes succeeded: half-open → closed.
    ProbesSucceeded,
}

/// One step of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The new state.
    pub to: BreakerState,
    /// Why.
    pub reason: TripReason,
}

/// The right to use the endpoint once. Give it back with [`Breaker::record`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not recorded teaches nothing"]
pub struct Ticket {
    epoch: u64,
    probe: Option<u64>,
}

/// A circuit breaker over consecutive failures.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    epoch: u64,
    /// Trips not yet forgiven: the exponent of the back-off.
    trips: u32,
    /// Why the breaker last opened; kept while it is not closed.
    tripped_by: Option<TripReason>,
}

#[derive(Clone, Debug)]
enum State {
    Closed {
        /// Failures since the last success.
        failures: u32,
        /// Since when; a healthy time forgives trips.
        since: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        successes: u32,
        /// Leases of the probes that are out; never more than the configured number.
        probes: Vec<Lease>,
        next_probe: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: u64,
    ends: Instant,
}

// === impl Ticket ===

impl Ticket {
    /// Whether the use is a half-open probe.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker that has seen nothing.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::closed(None),
            epoch: 0,
            trips: 0,
            tripped_by: None,
        }
    }

    /// Takes new settings; the state and what was counted stay.
    pub fn reconfigure(&mut self, config: BreakerConfig) {
        self.config = config;
    }

    /// The state that was last decided. An open breaker stays [`BreakerState::Open`]
    /// after its time is up, until a request comes to probe it.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether traffic may be sent without a probe: closed, or a dry run.
    #[must_use]
    pub fn lets_traffic_through(&self) -> bool {
        self.state() == BreakerState::Closed || !self.config.enforce
    }

    /// When the open time ends, if the breaker is open.
    #[must_use]
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Why it last opened; none while closed.
    #[must_use]
    pub fn tripped_by(&self) -> Option<TripReason> {
        self.tripped_by
    }

    /// Failures since the last success, counted while closed.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        match self.state {
            State::Closed { failures, .. } => failures,
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// The earliest moment at which [`Self::acquire`] could give a probe: the
    /// end of the open time, now for a free probe, the end of the first lease
    /// when all are out. None while closed.
    #[must_use]
    pub fn probe_due(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until } => Some(*until),
            State::HalfOpen {
                successes, probes, ..
            } => {
                let live = probes.iter().filter(|p| p.ends > now).count();
                if live < self.config.probes_at(*successes) {
                    Some(now)
                } else {
                    probes.iter().map(|p| p.ends).min()
                }
            }
        }
    }

    /// Asks to use the endpoint. Refused while open, and in half-open while
    /// every probe is out; a dry run refuses nothing.
    pub fn acquire(&mut self, now: Instant) -> (Option<Ticket>, Option<Step>) {
        let step = self.half_open_if_due(now);
        let probe = self.lease_probe(now);
        let open_to_all = self.lets_traffic_through();
        let ticket = (probe.is_some() || open_to_all).then_some(Ticket {
            epoch: self.epoch,
            probe,
        });
        (ticket, step)
    }

    /// A ticket whatever the state, for when nothing better is left. Its
    /// outcome counts if the breaker is closed.
    pub fn acquire_in_panic(&self) -> Ticket {
        Ticket {
            epoch: self.epoch,
            probe: None,
        }
    }

    /// Takes a ticket back with what was learnt.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used once")]
    pub fn record(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Step> {
        let Ticket { epoch, probe } = ticket;
        if epoch != self.epoch {
            return None;
        }
        match &mut self.state {
            State::Open { .. } => None,
            State::Closed { failures, .. } => {
                match outcome {
                    Outcome::Success => *failures = 0,
                    Outcome::Failure => *failures = failures.saturating_add(1),
                    Outcome::Pushback | Outcome::Neutral => {}
                }
                let failures = *failures;
                (failures >= self.config.consecutive_failures)
                    .then(|| self.open(TripReason::ConsecutiveFailures { failures }, now, rng))
            }
            State::HalfOpen {
                successes, probes, ..
            } => {
                let id = probe?;
                let held = probes.iter().position(|p| p.id == id && p.ends > now)?;
                probes.swap_remove(held);
                match outcome {
                    Outcome::Success => *successes += 1,
                    Outcome::Failure => return Some(self.open(TripReason::ProbeFailed, now, rng)),
                    Outcome::Pushback | Outcome::Neutral => {}
                }
                (*successes >= self.config.half_open_successes).then(|| self.close(now))
            }
        }
    }

    fn half_open_if_due(&mut self, now: Instant) -> Option<Step> {
        match self.state {
            State::Open { until } if until <= now => {
                self.epoch += 1;
                self.state = State::HalfOpen {
                    successes: 0,
                    probes: Vec::new(),
                    next_probe: 0,
                };
                Some(Step {
                    to: BreakerState::HalfOpen,
                    reason: TripReason::TimeUp,
                })
            }
            _ => None,
        }
    }

    fn lease_probe(&mut self, now: Instant) -> Option<u64> {
        let State::HalfOpen {
            successes,
            probes,
            next_probe,
        } = &mut self.state
        else {
            return None;
        };
        probes.retain(|p| p.ends > now);
        if probes.len() >= self.config.probes_at(*successes) {
            return None;
        }
        let id = *next_probe;
        *next_probe += 1;
        probes.push(Lease {
            id,
            ends: now + self.config.probe_lease,
        });
        Some(id)
    }

    fn open(&mut self, reason: TripReason, now: Instant, rng: &mut (impl Rng + ?Sized)) -> Step {
        self.trips = self.trips_remembered(now).saturating_add(1);
        let until = now + self.backoff().delay(self.trips, rng);
        self.epoch += 1;
        self.state = State::Open { until };
        self.tripped_by = Some(reason);
        Step {
            to: BreakerState::Open,
            reason,
        }
    }

    fn close(&mut self, now: Instant) -> Step {
        self.epoch += 1;
        self.state = State::closed(Some(now));
        self.tripped_by = None;
        Step {
            to: BreakerState::Closed,
            reason: TripReason::ProbesSucceeded,
        }
    }

    /// Trips less one for each base period spent closed.
    fn trips_remembered(&self, now: Instant) -> u32 {
        let State::Closed {
            since: Some(since), ..
        } = self.state
        else {
            return self.trips;
        };
        let base = self.backoff().base().max(Duration::from_millis(1));
        let healthy = now.saturating_duration_since(since);
        let forgiven = healthy.as_millis() / base.as_millis().max(1);
        self.trips
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.config.open_base, self.config.open_max)
    }
}

// === impl State ===

impl State {
    fn closed(since: Option<Instant>) -> Self {
        Self::Closed { failures: 0, since }
    }
}

// === impl TripReason ===

impl TripReason {
    /// Every reason's label, for metrics that exist at 0 from the start.
    pub const LABELS: [&'static str; 4] = [
        "consecutive_failures",
        "probe_failed",
        "time_up",
        "probes_succeeded",
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures { .. } => Self::LABELS[0],
            Self::ProbeFailed => Self::LABELS[1],
            Self::TimeUp => Self::LABELS[2],
            Self::ProbesSucceeded => Self::LABELS[3],
        }
    }
}

impl std::fmt::Display for TripReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} failures in a row"),
            Self::ProbeFailed => write!(f, "a probe failed"),
            Self::TimeUp => write!(f, "the open time is over"),
            Self::ProbesSucceeded => write!(f, "enough probes succeeded"),
        }
    }
}

// === impl BreakerState ===

impl BreakerState {
    /// The state as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The state as a gauge: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

#[cfg(test)]
mod tests;
