//! What may happen often and should be told seldom: a fault that repeats must not fill the log.

use std::time::{Duration, Instant};

/// Lets one through, and the next only after a while.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Option<Instant>,
}

// === impl Seldom ===

impl Seldom {
    /// Lets one through in so much time.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether this one, now, is let through.
    pub fn lets_through(&mut self, now: Instant) -> bool {
        let lately = |last| now.saturating_duration_since(last) < self.every;
        let is_through = !self.last.is_some_and(lately);
        if is_through {
            self.last = Some(now);
        }
        is_through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_let_through_in_its_time() {
        let begin = crate::clock::now();
        let mut seldom = Seldom::new(Duration::from_secs(1));
        let through: Vec<_> = (0..50)
            .filter(|tick| seldom.lets_through(begin + Duration::from_millis(50) * *tick))
            .collect();
        assert_eq!(through, [0, 20, 40]);
    }
}
