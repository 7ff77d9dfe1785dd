//! Counts everything twice: for the run, and for the window.

use std::time::{Duration, Instant};

use crate::measured::Measured;
use crate::measured::examples::{Examples, Set};
use crate::outcome::Sample;
use crate::report::Summary;
use crate::tally::Tally;

/// The run's tally and the window's, and since when they count.
#[derive(Debug)]
pub(super) struct Recorder {
    total: Tally,
    window: Tally,
    began: Instant,
    window_began: Instant,
    ended: Option<Instant>,
}

// === impl Recorder ===

impl Recorder {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            total: Tally::default(),
            window: Tally::default(),
            began: now,
            window_began: now,
            ended: None,
        }
    }

    /// Sets when the measurement begins.
    pub(super) fn begin(&mut self, at: Instant) {
        self.began = at;
        self.window_began = at;
    }

    /// Stops the measurement's time, once. What is under way still counts when it is over.
    pub(super) fn end(&mut self, at: Instant) {
        self.ended.get_or_insert(at);
    }

    pub(super) fn due(&mut self, is_sent: bool) {
        for tally in [&mut self.total, &mut self.window] {
            tally.due();
            if !is_sent {
                tally.dropped();
            }
        }
    }

    pub(super) fn record(&mut self, sample: &Sample) {
        self.total.record(sample);
        self.window.record(sample);
    }

    pub(super) fn total(&self, now: Instant) -> Summary {
        self.total
            .summary(self.elapsed(now), self.total.in_flight())
    }

    /// The run's histograms, and how long it has been measured. `sets` are the examples of each kind of request,
    /// of which there are several where they have names.
    pub(super) fn measured(
        &self,
        now: Instant,
        sets: &[(Option<String>, Set)],
    ) -> (Measured, Duration) {
        let mut measured = self.total.measured().clone();
        let sets = sets.iter();
        let scored = sets.map(|(name, set)| (*set, self.total.scored_of(name.as_deref())));
        measured.examples = Examples::of(scored);
        (measured, self.elapsed(now))
    }

    /// How long the run has been measured.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        let until = self.ended.unwrap_or(now);
        until.saturating_duration_since(self.began)
    }

    /// Takes the window's figures, and begins the next.
    pub(super) fn window(&mut self, now: Instant) -> Summary {
        let until = self.ended.unwrap_or(now);
        let elapsed = until.saturating_duration_since(self.window_began);
        self.window_began = until.max(self.window_began);
        std::mem::take(&mut self.window).summary(elapsed, self.total.in_flight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::outcome::{Origin, Outcome};

    fn answer(at: Instant) -> Sample {
        let outcome = Outcome::Scored {
            from: Origin::default(),
            right: Some(true),
        };
        Sample {
            part: None,
            intended: at,
            began: at,
            started: Some(at),
            ended: at,
            outcome,
        }
    }

    #[test]
    fn a_window_counts_since_the_last_and_the_total_since_the_start() {
        let start = clock::now();
        let second = Duration::from_secs(1);
        let mut recorder = Recorder::new(start);
        recorder.begin(start);
        for _ in 0..3 {
            recorder.due(true);
            recorder.record(&answer(start));
        }
        let first = recorder.window(start + second);
        assert_eq!((first.requests, first.ok), (3, 3));
        assert!((first.achieved_rate - 3.0).abs() < 1e-9);

        recorder.due(true);
        recorder.due(false);
        let second_window = recorder.window(start + 3 * second);
        assert_eq!((second_window.requests, second_window.ok), (2, 0));
        assert_eq!(
            (second_window.client.dropped, second_window.in_flight),
            (1, 1)
        );
        assert!((second_window.elapsed_seconds - 2.0).abs() < 1e-9);

        recorder.record(&answer(start));
        recorder.end(start + 4 * second);
        let total = recorder.total(start + 60 * second);
        assert_eq!((total.requests, total.ok, total.in_flight), (5, 4, 0));
        assert!((total.elapsed_seconds - 4.0).abs() < 1e-9);
        assert_eq!(recorder.window(start + 60 * second).ok, 1);
    }

    #[test]
    fn a_window_before_the_measurement_is_empty_and_moves_nothing() {
        let start = clock::now();
        let mut recorder = Recorder::new(start);
        recorder.begin(start + Duration::from_secs(2));
        assert!(recorder.window(start).elapsed_seconds.abs() < 1e-9);
        let window = recorder.window(start + Duration::from_secs(3));
        assert!((window.elapsed_seconds - 1.0).abs() < 1e-9);
    }
}
