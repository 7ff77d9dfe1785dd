//! One endpoint's circuit breaker (Envoy calls this outlier detection).
//!
//! ```text
//!            failures, slowness                   time is up
//!   closed ────────────────────▶ open ───────────────────────▶ half-open
//!     ▲                           ▲                              │    │
//!     │                           └────── one probe fails ───────┘    │
//!     └───────────────── enough probes succeed ───────────────────────┘
//! ```
//!
//! Four rules open it: so many failures in a row, so large a share of failures,
//! and the same two for attempts that were slow. A success ends both rows; a
//! slow answer is an answer and ends the row of failures; a failure says nothing
//! about slowness and leaves that row alone. An answer that breaks off is a failure and
//! was no answer: what was counted of it is taken back, itself and nothing else, and
//! the row that it had ended goes on. How soon it began is as true as before.
//!
//! Every use of the endpoint holds a [`Ticket`], and what it taught is recorded
//! against that ticket. A ticket names the *epoch* in which it was given, and
//! every transition starts a new epoch: an answer that arrives after the
//! breaker has moved on says nothing about the state that it is in now. In
//! half-open, tickets are leased probes: one at first, more once one has
//! succeeded, each lost when its lease runs out. So a probe whose answer never
//! comes cannot wedge the breaker, which is how half-open fails elsewhere.
//!
//! With `enforce = false` the same machine runs and is shown, and no ticket is
//! ever refused: a dry run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{
    backoff::Backoff,
    config::BreakerConfig,
    window::{Counts, Mark, Window},
};

use row::{Place, Row};
pub use trip::{Basis, Slowness, Threshold, TripReason};

mod row;
mod trip;

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

/// What one use of the endpoint taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// It answered, in time.
    Good,
    /// It took too long.
    Slow(Slowness),
    /// It failed.
    Failed,
    /// It failed after all: its answer had begun, and broke off.
    BrokeOff,
    /// Nothing; a probe that taught nothing is free again.
    Nothing,
}

/// One step of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The new state.
    pub to: BreakerState,
    /// Why.
    pub reason: TripReason,
}

/// The right to use the endpoint once. What it taught goes to [`Breaker::record`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not recorded teaches nothing"]
pub struct Ticket {
    epoch: u64,
    probe: Option<u64>,
    /// What the use was counted as, so that just this can be taken back.
    counted: Option<Counted>,
}

/// What a use was counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    mark: Mark,
    at: Instant,
    /// Where it ended the row of failures, unless it is one.
    ended: Option<Place>,
}

/// A circuit breaker over failures and slowness: what a sample touches first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Breaker {
    epoch: u64,
    state: State,
    /// What happened while it was closed.
    window: Window,
    /// Shared: thousands of breakers have the same.
    config: Arc<BreakerConfig>,
    /// Trips not yet forgiven: the exponent of the back-off.
    trips: u32,
    /// Why the breaker last opened; kept while it is not closed. Apart: most are closed.
    tripped_by: Option<Box<TripReason>>,
}

#[derive(Clone, Debug)]
enum State {
    Closed {
        failures: Row,
        /// Slow attempts since the last success.
        slow: u32,
        /// Since when; a healthy time forgives trips.
        since: Option<Instant>,
    },
    Open {
        since: Instant,
        until: Instant,
    },
    HalfOpen {
        /// When it opened, before.
        since: Instant,
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

const PROBE_FAILED: TripReason = TripReason::ProbeFailed { slow: None };

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
    pub fn new(config: impl Into<Arc<BreakerConfig>>) -> Self {
        let config = config.into();
        Self {
            epoch: 0,
            state: State::closed(None),
            window: Window::new(config.span()),
            config,
            trips: 0,
            tripped_by: None,
        }
    }

    /// Takes new settings; the state and what was counted stay.
    pub fn reconfigure(&mut self, config: impl Into<Arc<BreakerConfig>>) {
        self.config = config.into();
        self.window.reconfigure(self.config.span());
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
            State::Open { until, .. } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// When it left closed; none while closed.
    #[must_use]
    pub fn tripped_since(&self) -> Option<Instant> {
        match self.state {
            State::Open { since, .. } | State::HalfOpen { since, .. } => Some(since),
            State::Closed { .. } => None,
        }
    }

    /// Why it last opened; none while closed.
    #[must_use]
    pub fn tripped_by(&self) -> Option<TripReason> {
        self.tripped_by.as_deref().copied()
    }

    /// Failures since the last answer, counted while closed.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        match self.state {
            State::Closed { ref failures, .. } => failures.len(),
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// Slow attempts since the last success, counted while closed.
    #[must_use]
    pub fn slow_in_a_row(&self) -> u32 {
        match self.state {
            State::Closed { slow, .. } => slow,
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// What the ratios are taken of.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        self.window.counts(now)
    }

    /// The earliest moment at which [`Self::acquire`] could give a probe: the
    /// end of the open time, now for a free probe, the end of the first lease
    /// when all are out. None while closed.
    #[must_use]
    pub fn probe_due(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } => Some(*until),
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
            counted: None,
        });
        (ticket, step)
    }

    /// A ticket whatever the state, for when nothing better is left. Its
    /// outcome counts if the breaker is closed.
    pub fn acquire_in_panic(&self) -> Ticket {
        Ticket {
            epoch: self.epoch,
            probe: None,
            counted: None,
        }
    }

    /// Takes note of what a use taught. A second sample of one ticket is taken
    /// too: an answer that began well may break off.
    pub fn record(
        &mut self,
        ticket: &mut Ticket,
        sample: Sample,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<Step> {
        if ticket.epoch != self.epoch {
            return None;
        }
        let reason = match &mut self.state {
            State::Open { .. } => None,
            State::Closed { .. } => self.count(ticket, sample, now),
            State::HalfOpen {
                successes, probes, ..
            } => {
                let id = ticket.probe?;
                if sample == Sample::BrokeOff {
                    return Some(self.open(PROBE_FAILED, now, rng));
                }
                let held = probes.iter().position(|p| p.id == id && p.ends > now)?;
                probes.swap_remove(held);
                match sample {
                    Sample::Good => *successes += 1,
                    Sample::Failed | Sample::BrokeOff => {
                        return Some(self.open(PROBE_FAILED, now, rng));
                    }
                    Sample::Slow(slow) => {
                        let reason = TripReason::ProbeFailed { slow: Some(slow) };
                        return Some(self.open(reason, now, rng));
                    }
                    Sample::Nothing => {}
                }
                return (*successes >= self.config.half_open_successes).then(|| self.close(now));
            }
        };
        reason.map(|reason| self.open(reason, now, rng))
    }

    /// The time in open is over and an active check has passed: from now on
    /// requests may probe. A check alone never closes a breaker.
    pub fn check_passed(&mut self, now: Instant) -> Option<Step> {
        self.half_open_if_due(now)
    }

    /// Counts a sample in closed, and says which rule it breaks.
    fn count(&mut self, ticket: &mut Ticket, sample: Sample, now: Instant) -> Option<TripReason> {
        let State::Closed { failures, slow, .. } = &mut self.state else {
            return None;
        };
        let enough = self.config.consecutive_failures;
        let (mark, ended) = match sample {
            Sample::Nothing => return None,
            Sample::Good => {
                *slow = 0;
                (Mark::Good, Some(failures.ends(enough)))
            }
            Sample::Slow(_) => {
                *slow = slow.saturating_add(1);
                (Mark::Slow, Some(failures.ends(enough)))
            }
            Sample::Failed | Sample::BrokeOff => {
                if sample == Sample::BrokeOff
                    && let Some(counted) = ticket.counted
                {
                    // One that had failed already has failed once.
                    failures.goes_on(counted.ended?);
                    self.window.retract(counted.mark, counted.at, now);
                }
                failures.fails();
                (Mark::Failed, None)
            }
        };
        let (failures, slow) = (failures.len(), *slow);
        let at = now;
        ticket.counted = Some(Counted { mark, at, ended });
        self.window.push(mark, now);
        match sample {
            Sample::Good | Sample::Nothing => None,
            Sample::Failed | Sample::BrokeOff if failures >= self.config.consecutive_failures => {
                Some(TripReason::ConsecutiveFailures { failures })
            }
            Sample::Failed | Sample::BrokeOff => {
                let counts = self.window.counts(now);
                let (failures, of) = (counts.failed, counts.total());
                self.too_many(failures, of, self.config.failure_ratio)
                    .then_some(TripReason::FailureRatio { failures, of })
            }
            Sample::Slow(last) if slow >= self.config.consecutive_slow => {
                Some(TripReason::ConsecutiveSlow { slow, last })
            }
            Sample::Slow(last) => {
                let counts = self.window.counts(now);
                let (slow, of) = (counts.slow, counts.total());
                self.too_many(slow, of, self.config.slow_ratio)
                    .then_some(TripReason::SlowRatio { slow, of, last })
            }
        }
    }

    fn too_many(&self, bad: u32, of: u32, ratio: f64) -> bool {
        of >= self.config.min_samples && f64::from(bad) >= ratio * f64::from(of)
    }

    fn half_open_if_due(&mut self, now: Instant) -> Option<Step> {
        match self.state {
            State::Open { since, until } if until <= now => {
                self.epoch += 1;
                self.state = State::HalfOpen {
                    since,
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
            ..
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
        let since = self.tripped_since().unwrap_or(now);
        self.epoch += 1;
        self.state = State::Open { since, until };
        self.tripped_by = Some(Box::new(reason));
        Step {
            to: BreakerState::Open,
            reason,
        }
    }

    fn close(&mut self, now: Instant) -> Step {
        self.epoch += 1;
        self.state = State::closed(Some(now));
        self.window.clear();
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
        Self::Closed {
            failures: Row::default(),
            slow: 0,
            since,
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
