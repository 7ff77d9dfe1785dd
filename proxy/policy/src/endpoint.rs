//! One address of one version, and all that is known of it.
//!
//! Among ten thousand endpoints none is in a cache when it is wanted, so a
//! decision costs what it reads of memory. An [`Endpoint`] is therefore laid out
//! by hand, in the order of its use and from the beginning of a cache line: two
//! lines that every choice reads, one that an attempt writes, and then what its
//! answer touches, which the processor fetches meanwhile because it follows.
//! `make bench-simulator` measures what that is worth.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use slotmap::DenseSlotMap;

use crate::{
    breaker::{Breaker, BreakerState, Threshold},
    config::{BalanceBy, BalanceConfig, BreakerConfig},
    fetch,
    health::{Health, HealthTracker},
    latency::{Expected, Recent, Usual},
    model::EndpointKey,
    status::EndpointStatus,
};

/// What an endpoint is expected to take after a failure, in seconds, at first:
/// failing fast must not look like being fast.
const PENALTY: f64 = 1.0;
/// The time in which that falls to 1/e, in seconds. An endpoint of 5 ms that
/// fails is asked about ten times a second then, which attracts nothing and
/// gives its breaker what it needs to decide; a penalty that lasts (a failure
/// kept in the average, say) would hide it from its breaker for minutes.
const PENALTY_DECAY: f64 = 0.02;
/// Latencies that differ by less than this factor are alike, and the load
/// decides. Idle endpoints would else be ranked by noise, and the last of n get
/// 1/n² of the requests.
const ALIKE: f64 = 1.25;
/// A retry prefers endpoints that have not failed for this long.
const FAILED_LATELY: Duration = Duration::from_secs(10);
/// How long an endpoint that refuses work is left alone, where it does not say,
/// and the longest that it may say.
const PARK: Duration = Duration::from_secs(1);
const LONGEST_PARK: Duration = Duration::from_mins(1);
/// How long a load report is believed, and after how long no more.
const FRESH: f64 = 1.0;
const STALE: f64 = 2.0;
/// From one time that it is asked for a report to the next. A report is believed
/// for a second and brought forward by what was sent since, so asking with every
/// request teaches nothing more, and costs each two headers.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Lines of an endpoint that a choice and its attempt touch, and those of all of it.
const FETCHED_FOR_CHOICE: usize = 6;
const FETCHED: usize = size_of::<Endpoint>() / 64;

/// All endpoints of a model, side by side.
pub(crate) type Endpoints = DenseSlotMap<EndpointKey, Endpoint>;

/// What an endpoint said of its own load, beside an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Requests that it has accepted and not finished, those that wait included.
    pub in_flight: f64,
    /// How long it expects a new request to wait.
    pub expected_wait: Option<Duration>,
}

/// One address of one version.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Endpoint {
    // The first line.
    pub(crate) expected: Expected,
    last_failure: Option<Instant>,
    parked_until: Option<Instant>,
    pub(crate) in_flight: u32,
    // The second.
    /// Where it stands in the pool's list of those that serve.
    pub(crate) serving_at: Option<usize>,
    reported: Option<Reported>,
    /// When it began to take traffic (again); none once it takes its full share.
    warming_since: Option<Instant>,
    /// The index of its pool; kept right when versions come and go.
    pub(crate) pool: usize,
    // The third, and on.
    pub(crate) address: SocketAddr,
    pub(crate) cold: Cold,
}

/// What choices do not read.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cold {
    attempts: u64,
    failures: u64,
    slow: u64,
    pub(crate) health: HealthTracker,
    pub(crate) breaker: Breaker,
    /// What is usual here, as of the pool's round of that number.
    pub(crate) usual: Option<(Usual, u32)>,
    pub(crate) recent: Recent,
    /// An operator has taken it out.
    pub(crate) drained: bool,
    /// Its breaker is not closed, but too much of the pool is out already.
    pub(crate) protected: bool,
    /// Whether the pool counts it as well.
    pub(crate) counted_well: bool,
    /// Where it stands in the pool's list of breakers that are not closed.
    pub(crate) tripped_at: Option<usize>,
    /// When it was last asked for its load.
    asked_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Instant,
    /// Requests there that others have sent.
    others: f32,
    /// Seconds.
    expected_wait: f32,
}

// === impl Endpoint ===

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, pool: usize, breaker: &Arc<BreakerConfig>) -> Self {
        Self {
            expected: Expected::default(),
            last_failure: None,
            parked_until: None,
            in_flight: 0,
            serving_at: None,
            reported: None,
            warming_since: None,
            pool,
            address,
            cold: Cold {
                asked_at: None,
                attempts: 0,
                failures: 0,
                slow: 0,
                health: HealthTracker::default(),
                breaker: Breaker::new(Arc::clone(breaker)),
                usual: None,
                recent: Recent::default(),
                drained: false,
                protected: false,
                counted_well: false,
                tripped_at: None,
            },
        }
    }

    /// Asks for what a choice reads, and the attempt that may follow.
    pub(crate) fn fetch_for_choice(&self) {
        fetch::lines(self, 0, FETCHED_FOR_CHOICE);
    }

    /// Asks for what its answer will touch.
    pub(crate) fn fetch_for_answer(&self) {
        fetch::lines(self, FETCHED_FOR_CHOICE, FETCHED);
    }

    /// Ready by its checks, and not taken out by hand.
    pub(crate) fn is_ready(&self) -> bool {
        self.cold.health.health() == Health::Ready && !self.cold.drained
    }

    /// Not checked yet, and not taken out by hand.
    pub(crate) fn is_unknown(&self) -> bool {
        self.cold.health.health() == Health::Unknown && !self.cold.drained
    }

    /// Ready, and its breaker has nothing against it.
    pub(crate) fn is_well(&self) -> bool {
        self.is_ready() && self.cold.breaker.lets_traffic_through()
    }

    /// Whether traffic goes there: it is well, or cannot be spared.
    pub(crate) fn serves(&self) -> bool {
        self.is_well() || (self.is_ready() && self.cold.protected)
    }

    /// Whether a request would clearly wait for less here than at `other`.
    pub(crate) fn beats(
        &self,
        other: &Self,
        usual: f64,
        balance: &BalanceConfig,
        now: Instant,
    ) -> bool {
        let load = |e: &Self| f64::from(e.in_flight) + e.others(now) + 1.0;
        let (mine, its) = (load(self), load(other));
        if balance.by != BalanceBy::ExpectedWait {
            return mine < its;
        }
        let expected = |e: &Self| e.expects(usual, balance, now);
        let (here, there) = (expected(self), expected(other));
        if here < there * ALIKE && there < here * ALIKE {
            mine < its
        } else {
            here * mine < there * its
        }
    }

    /// Whether it may be given another request.
    pub(crate) fn has_room(&self, balance: &BalanceConfig, now: Instant) -> bool {
        self.in_flight < balance.max_in_flight && self.parked_until.is_none_or(|until| until <= now)
    }

    /// The part of its share that it takes: from `slow_start_from` to 1.
    pub(crate) fn warmth(&self, balance: &BalanceConfig, now: Instant) -> f64 {
        let Some(since) = self.warming_since else {
            return 1.0;
        };
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let whole = balance.slow_start.as_secs_f64();
        if passed >= whole {
            return 1.0;
        }
        let from = balance.slow_start_from;
        from + (1.0 - from) * passed / whole
    }

    pub(crate) fn failed_lately(&self, now: Instant) -> bool {
        self.last_failure
            .is_some_and(|at| now.saturating_duration_since(at) < FAILED_LATELY)
    }

    /// It begins to take traffic. What it took before it was out says nothing
    /// about what it takes now.
    pub(crate) fn begin_to_serve(&mut self, now: Instant) {
        self.warming_since = Some(now);
        self.expected = Expected::default();
        self.cold.recent.clear();
        self.cold.usual = None;
        self.last_failure = None;
    }

    /// An attempt begins; says whether the load is to be asked for with it.
    pub(crate) fn begin_attempt(&mut self, now: Instant) -> bool {
        self.in_flight += 1;
        self.cold.attempts += 1;
        let lately = |at| now.saturating_duration_since(at) < ASK_EVERY;
        let asks = !self.cold.asked_at.is_some_and(lately);
        if asks {
            self.cold.asked_at = Some(now);
        }
        asks
    }

    pub(crate) fn count_failure(&mut self, now: Instant) {
        self.cold.failures += 1;
        self.last_failure = Some(now);
    }

    /// It may have failed: for the choice that is as good as if it had.
    pub(crate) fn suspected(&mut self, now: Instant) {
        self.last_failure = Some(now);
    }

    pub(crate) fn count_slow(&mut self) {
        self.cold.slow += 1;
    }

    /// It refuses work; says until when it wants to be left alone.
    pub(crate) fn park(&mut self, told: Option<Duration>, now: Instant) -> Instant {
        let until = now + told.unwrap_or(PARK).min(LONGEST_PARK);
        self.parked_until = Some(until);
        until
    }

    pub(crate) fn take_report(&mut self, report: LoadReport, now: Instant) {
        // One of those that it counts is the request that it has just answered.
        let own = f64::from(self.in_flight);
        self.reported = Some(Reported {
            at: now,
            others: narrow((report.in_flight - own).max(0.0)),
            expected_wait: report.expected_wait.map_or(0.0, |wait| wait.as_secs_f32()),
        });
    }

    /// How bad a choice it is when nothing serves: smaller is better.
    pub(crate) fn panic_rank(&self) -> (u8, u32) {
        let rank = match self.cold.health.health() {
            _ if self.cold.drained => 4,
            Health::Ready => 0,
            Health::Draining => 1,
            Health::Unknown => 2,
            Health::NotReady => 3,
        };
        (rank, self.in_flight)
    }

    pub(crate) fn status(
        &self,
        threshold: Threshold,
        balance: &BalanceConfig,
        now: Instant,
    ) -> EndpointStatus {
        let breaker = &self.cold.breaker;
        let left = |until: Instant| {
            Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
        };
        EndpointStatus {
            address: self.address,
            health: self.cold.health.health(),
            drained: self.cold.drained,
            breaker: breaker.state(),
            tripped_by: breaker.tripped_by(),
            open_for: breaker.open_until().and_then(left),
            protected: self.cold.protected && breaker.state() != BreakerState::Closed,
            failures_in_a_row: breaker.failures_in_a_row(),
            slow_in_a_row: breaker.slow_in_a_row(),
            window: breaker.counts(now),
            threshold,
            latency: self.expected.last(),
            parked_for: self.parked_until.and_then(left),
            warmth: self.warmth(balance, now),
            in_flight: self.in_flight,
            attempts: self.cold.attempts,
            failures: self.cold.failures,
            slow: self.cold.slow,
        }
    }

    /// The time to first byte that a request on its own would see, in seconds.
    fn expects(&self, usual: f64, balance: &BalanceConfig, now: Instant) -> f64 {
        let measured = self.expected.seconds(usual, balance.decay, now);
        let said = self
            .reported
            .map_or(0.0, |r| f64::from(r.expected_wait) * r.belief(now));
        measured.max(self.penalty(now)).max(said)
    }

    fn penalty(&self, now: Instant) -> f64 {
        self.last_failure.map_or(0.0, |at| {
            let passed = now.saturating_duration_since(at).as_secs_f64();
            PENALTY * (-passed / PENALTY_DECAY).exp()
        })
    }

    /// Requests there that others have sent, as far as is known.
    fn others(&self, now: Instant) -> f64 {
        self.reported
            .map_or(0.0, |r| f64::from(r.others) * r.belief(now))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number of requests, of which no digit after the seventh matters"
)]
fn narrow(requests: f64) -> f32 {
    requests as f32
}

// === impl Reported ===

impl Reported {
    /// How far the report is believed: wholly for a second, then less, then not.
    fn belief(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        ((STALE - age) / (STALE - FRESH)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    const LINE: usize = 64;

    #[test]
    fn a_short_wait_at_a_slow_one_beats_a_long_line_at_a_fast_one() {
        let now = crate::tests::origin();
        let balance = BalanceConfig::default();
        let endpoint = |port, ms, in_flight| {
            let breaker = Arc::new(BreakerConfig::default());
            let mut endpoint = Endpoint::new(([127, 0, 0, 1], port).into(), 0, &breaker);
            let takes = Duration::from_millis(ms);
            endpoint.expected.observe(takes, balance.decay, now);
            endpoint.in_flight = in_flight;
            endpoint
        };
        // 10 requests of 2 ms before it, and itself; one of 10 ms.
        let (fast, slow) = (endpoint(1, 2, 10), endpoint(2, 10, 0));
        assert!(slow.beats(&fast, 0.002, &balance, now));
        assert!(!fast.beats(&slow, 0.002, &balance, now));
        // And one of 2 ms before it is as good as nothing.
        let fast = endpoint(1, 2, 1);
        assert!(fast.beats(&slow, 0.002, &balance, now));
        assert!(!slow.beats(&fast, 0.002, &balance, now));
    }

    #[test]
    fn latencies_that_differ_by_less_than_a_quarter_are_alike_and_the_load_decides() {
        let now = crate::tests::origin();
        let balance = BalanceConfig::default();
        let endpoint = |ms, in_flight| {
            let breaker = Arc::new(BreakerConfig::default());
            let mut endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, &breaker);
            let takes = Duration::from_millis(ms);
            endpoint.expected.observe(takes, balance.decay, now);
            endpoint.in_flight = in_flight;
            endpoint
        };
        let beats = |one: &Endpoint, other: &Endpoint| one.beats(other, 10.0, &balance, now);
        let (nearly, quarter, faster) =
            (endpoint(1_249, 3), endpoint(1_250, 3), endpoint(1_000, 4));
        assert!(beats(&nearly, &faster) && !beats(&faster, &nearly));
        // Now both would take as long as the other with its line: neither is better.
        assert!(!beats(&quarter, &faster) && !beats(&faster, &quarter));
        assert!(beats(&endpoint(1_000, 5), &endpoint(1_250, 4)));
    }

    #[test]
    fn a_wait_that_it_reports_is_believed_less_as_it_ages() {
        let now = crate::tests::origin();
        let breaker = Arc::new(BreakerConfig::default());
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, &breaker);
        let report = LoadReport {
            in_flight: 0.0,
            expected_wait: Some(Duration::from_millis(900)),
        };
        endpoint.take_report(report, now);
        let balance = BalanceConfig::default();
        for (ms, seconds) in [(0, 0.9), (1_000, 0.9), (1_500, 0.45), (2_000, 0.005)] {
            let later = now + Duration::from_millis(ms);
            let expects = endpoint.expects(0.005, &balance, later);
            assert!((expects - seconds).abs() < 1e-6, "{ms} ms: {expects}");
        }
    }

    #[test]
    fn of_two_that_are_as_good_neither_is_clearly_better() {
        let now = crate::tests::origin();
        let breaker = Arc::new(BreakerConfig::default());
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, &breaker);
        let same = Endpoint::new(([127, 0, 0, 1], 2).into(), 0, &breaker);
        for by in [BalanceBy::ExpectedWait, BalanceBy::LeastRequest] {
            let balance = BalanceConfig {
                by,
                ..BalanceConfig::default()
            };
            assert!(!endpoint.beats(&same, 0.005, &balance, now), "{by:?}");
        }
    }

    #[test]
    fn a_failure_is_of_late_for_ten_seconds_and_not_at_their_end() {
        let now = crate::tests::origin();
        let breaker = Arc::new(BreakerConfig::default());
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, &breaker);
        assert!(!endpoint.failed_lately(now));
        endpoint.count_failure(now);
        assert!(endpoint.failed_lately(now + FAILED_LATELY.mul_f64(0.999)));
        assert!(!endpoint.failed_lately(now + FAILED_LATELY));
    }

    #[test]
    fn of_the_requests_that_it_reports_those_of_others_count_on_top_of_ours() {
        let now = crate::tests::origin();
        let breaker = Arc::new(BreakerConfig::default());
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, &breaker);
        endpoint.in_flight = 4;
        for (reported, others) in [(10.0, 6.0), (4.0, 0.0), (1.0, 0.0)] {
            let report = LoadReport {
                in_flight: reported,
                expected_wait: None,
            };
            endpoint.take_report(report, now);
            assert!((endpoint.others(now) - others).abs() < 1e-6, "{reported}");
            // Believed for a second, half of it in the next, and then no more.
            let later = |ms| endpoint.others(now + Duration::from_millis(ms));
            assert!((later(1_000) - others).abs() < 1e-6, "{reported}");
            assert!((later(1_500) - others / 2.0).abs() < 1e-6, "{reported}");
            assert!(later(2_000).abs() < 1e-6, "{reported}");
        }
    }

    #[test]
    fn a_choice_reads_two_lines_and_what_follows_stands_in_the_order_of_its_use() {
        assert_eq!(align_of::<Endpoint>(), LINE);
        assert_eq!(offset_of!(Endpoint, serving_at), LINE);
        assert_eq!(offset_of!(Endpoint, address), 2 * LINE);
        let breaker = offset_of!(Endpoint, cold) + offset_of!(Cold, breaker);
        assert_eq!(breaker, 3 * LINE);
        assert!(FETCHED_FOR_CHOICE * LINE > breaker + LINE);
        assert_eq!(size_of::<Endpoint>(), FETCHED * LINE);
    }
}
