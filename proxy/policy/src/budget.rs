//! The retry budget: how many retries a model may make in all.
//!
//! Retries multiply load exactly when there is too much of it, so what bounds
//! them is a share of the traffic and not a number a request: over the last ten
//! seconds `ratio · first attempts + per_second · 10` (the numbers are
//! Finagle's and linkerd's). The floor lets a model with little traffic retry at
//! all. A retry is paid for when it is decided, not when it ends: attempts that
//! hang must not be free while they hang. What is not inference has a budget of its own:
//! clients that ask for metadata again and again must not use up what rescues the work.

use std::time::{Duration, Instant};

/// Seconds that the budget looks back.
const SECONDS: usize = 10;

/// How many retries there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Retries per first attempt, from 0 to 10.
    pub ratio: f64,
    /// Retries a second that are there whatever the traffic.
    pub per_second: f64,
}

/// Counts first attempts and retries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    seconds: [Second; SECONDS],
    newest: usize,
    began: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    firsts: u32,
    retries: u32,
}

// === impl BudgetConfig ===

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            per_second: 10.0,
        }
    }
}

// === impl Budget ===

impl Budget {
    /// Counts a first attempt.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let second = &mut self.seconds[self.newest];
        second.firsts = second.firsts.saturating_add(1);
    }

    /// Pays for a retry, if there is enough for one.
    pub(crate) fn withdraw(&mut self, config: BudgetConfig, now: Instant) -> bool {
        let enough = self.left(config, now) >= 1.0;
        if enough {
            let second = &mut self.seconds[self.newest];
            second.retries = second.retries.saturating_add(1);
        }
        enough
    }

    /// How many retries there may be now; never negative.
    pub(crate) fn left(&mut self, config: BudgetConfig, now: Instant) -> f64 {
        self.advance(now);
        let firsts: f64 = self.seconds.iter().map(|s| f64::from(s.firsts)).sum();
        let retries: f64 = self.seconds.iter().map(|s| f64::from(s.retries)).sum();
        (config.ratio * firsts + config.per_second * SECONDS as f64 - retries).max(0.0)
    }

    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began).as_secs();
        let steps = usize::try_from(passed).unwrap_or(SECONDS).min(SECONDS);
        for _ in 0..steps {
            self.newest = (self.newest + 1) % SECONDS;
            self.seconds[self.newest] = Second::default();
        }
        if steps > 0 {
            self.began = Some(began + Duration::from_secs(passed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::origin;
    use proptest::prelude::*;

    #[test]
    fn twenty_percent_and_ten_a_second() {
        let config = BudgetConfig::default();
        let mut budget = Budget::default();
        let now = origin();
        for _ in 0..500 {
            budget.deposit(now);
        }
        let paid = (0..1_000).filter(|_| budget.withdraw(config, now)).count();
        assert_eq!(paid, 200, "0.2 · 500 + 10 · 10");
        assert!(!budget.withdraw(config, now + Duration::from_secs(9)));
        assert!(budget.withdraw(config, now + Duration::from_secs(11)));
    }

    #[test]
    fn nothing_is_nothing() {
        let config = BudgetConfig {
            ratio: 0.0,
            per_second: 0.0,
        };
        let mut budget = Budget::default();
        budget.deposit(origin());
        assert!(!budget.withdraw(config, origin()));
    }

    proptest! {
        /// When a retry is paid for, those of the last nine seconds are within
        /// the ratio of the first attempts of the last ten and the floor. (The
        /// oldest of the ten seconds is only partly in the window.)
        #[test]
        fn retries_never_exceed_the_budget(steps in prop::collection::vec((0..900u64, any::<bool>()), 1..400)) {
            let config = BudgetConfig { ratio: 0.2, per_second: 1.0 };
            let mut budget = Budget::default();
            let mut now = origin();
            let (mut firsts, mut retries) = (Vec::new(), Vec::new());
            for (gap, first) in steps {
                now += Duration::from_millis(gap);
                if first {
                    budget.deposit(now);
                    firsts.push(now);
                } else if budget.withdraw(config, now) {
                    retries.push(now);
                    let within = |of: &[Instant], span: u64| {
                        let span = Duration::from_secs(span);
                        of.iter().filter(|at| now.duration_since(**at) < span).count() as f64
                    };
                    prop_assert!(within(&retries, 9) <= 0.2 * within(&firsts, 10) + 10.0 + 1e-9);
                }
            }
        }
    }
}
