//! What active checks say of an endpoint: ready, not ready, draining.
//!
//! A threshold in each direction keeps one lost check from moving traffic. The
//! first check ever decides at once, so that a new endpoint waits for one
//! answer and not for several; and `draining` takes an endpoint out at first
//! sight, since it is the endpoint's own word.

/// How many checks in a row change an endpoint's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passing checks in a row that make an endpoint ready (at least 1).
    pub healthy_after: u32,
    /// Failing checks in a row that make it not ready (at least 1).
    pub unhealthy_after: u32,
}

/// The answer to one active check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The endpoint says that it is ready to serve this version.
    Up,
    /// No answer, a wrong answer, or an answer that says not ready or not loaded.
    Down,
    /// The endpoint is shutting down and asks for no more work.
    Draining,
}

/// Where the checks of one endpoint stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not checked yet; gets no traffic unless nothing else is left.
    Unknown,
    /// Takes traffic.
    Ready,
    /// Failed its checks.
    NotReady,
    /// Said that it is shutting down.
    Draining,
}

/// Counts checks towards the next [`Health`].
#[derive(Clone, Copy, Debug)]
pub struct HealthTracker {
    health: Health,
    /// Checks in a row that speak against `health`.
    against: u32,
}

// === impl HealthTracker ===

impl Default for HealthTracker {
    fn default() -> Self {
        Self {
            health: Health::Unknown,
            against: 0,
        }
    }
}

impl HealthTracker {
    /// Where the checks stand now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one check's answer, and returns the new health if it changed.
    pub fn check(&mut self, result: CheckResult, thresholds: Thresholds) -> Option<Health> {
        let (says, needed) = match (result, self.health) {
            (CheckResult::Draining, _) => (Health::Draining, 1),
            (CheckResult::Up, Health::Unknown) => (Health::Ready, 1),
            (CheckResult::Down, Health::Unknown) => (Health::NotReady, 1),
            (CheckResult::Up, _) => (Health::Ready, thresholds.healthy_after),
            (CheckResult::Down, _) => (Health::NotReady, thresholds.unhealthy_after),
        };
        if says == self.health {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed {
            return None;
        }
        *self = Self {
            health: says,
            against: 0,
        };
        Some(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckResult::{Down, Draining, Up};

    const THRESHOLDS: Thresholds = Thresholds {
        healthy_after: 2,
        unhealthy_after: 2,
    };

    fn after(checks: &[CheckResult]) -> Health {
        let mut tracker = HealthTracker::default();
        for check in checks {
            tracker.check(*check, THRESHOLDS);
        }
        tracker.health()
    }

    #[test]
    fn the_first_check_decides_at_once() {
        assert_eq!(after(&[]), Health::Unknown);
        assert_eq!(after(&[Up]), Health::Ready);
        assert_eq!(after(&[Down]), Health::NotReady);
    }

    #[test]
    fn one_check_against_changes_nothing_and_two_do() {
        assert_eq!(after(&[Up, Down]), Health::Ready);
        assert_eq!(after(&[Up, Down, Up, Down]), Health::Ready);
        assert_eq!(after(&[Up, Down, Down]), Health::NotReady);
        assert_eq!(after(&[Down, Up]), Health::NotReady);
        assert_eq!(after(&[Down, Up, Up]), Health::Ready);
    }

    #[test]
    fn draining_counts_at_first_sight_and_is_left_like_any_other_state() {
        assert_eq!(after(&[Up, Draining]), Health::Draining);
        assert_eq!(after(&[Up, Draining, Up]), Health::Draining);
        assert_eq!(after(&[Up, Draining, Up, Up]), Health::Ready);
        assert_eq!(after(&[Up, Draining, Down, Down]), Health::NotReady);
    }

    #[test]
    fn a_change_is_reported_once() {
        let mut tracker = HealthTracker::default();
        assert_eq!(tracker.check(Up, THRESHOLDS), Some(Health::Ready));
        assert_eq!(tracker.check(Up, THRESHOLDS), None);
        assert_eq!(tracker.check(Down, THRESHOLDS), None);
        assert_eq!(tracker.check(Down, THRESHOLDS), Some(Health::NotReady));
    }
}
