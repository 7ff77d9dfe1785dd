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
    /// When the measurement's time is over; of a closed loop that is known from the start.
    ended: Option<Instant>,
    /// Whether answers are counted by when they came.
    is_closed: bool,
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
            is_closed: false,
        }
    }

    /// Sets when the measurement begins.
    pub(super) fn begin(&mut self, at: Instant) {
        self.began = at;
        self.window_began = at;
    }

    /// Stops the measurement's time at the earliest instant that it is told. What is under way still counts when
    /// it is over.
    pub(super) fn end(&mut self, at: Instant) {
        self.ended = Some(self.ended.map_or(at, |ended| ended.min(at)));
    }

    /// The same, of a closed loop: its rate is of the answers that came in its time. What is sent in it would be as
    /// good where answers are quick; where they take as long as the measurement, one connection's are one more
    /// than came.
    pub(super) fn close(&mut self, at: Instant) {
        self.end(at);
        self.is_closed = true;
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
        let is_late = self.is_closed && self.ended.is_some_and(|ended| sample.ended > ended);
        for tally in [&mut self.total, &mut self.window] {
            tally.record(sample);
            if is_late {
                tally.late(sample);
            }
        }
    }

    /// Counts what a closed loop sent before its measurement began, where its answer came in its time.
    pub(super) fn warm(&mut self, sample: &Sample) {
        let is_over = self.ended.is_some_and(|ended| sample.ended > ended);
        if sample.ended >= self.began && !is_over {
            self.total.early(sample);
            self.window.early(sample);
        }
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
        self.until(now).saturating_duration_since(self.began)
    }

    /// Until when it has been: now, or its end.
    fn until(&self, now: Instant) -> Instant {
        self.ended.map_or(now, |ended| ended.min(now))
    }

    /// Takes the window's figures, and begins the next.
    pub(super) fn window(&mut self, now: Instant) -> Summary {
        let until = self.until(now);
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
    fn a_closed_loops_rate_is_of_the_answers_that_came_in_its_time() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recorder = Recorder::new(start);
        recorder.begin(at(1));
        recorder.close(at(3));
        // Of the warm-up: before it began, and in its time.
        recorder.warm(&answer(start));
        recorder.warm(&answer(at(2)));
        assert!((recorder.window(at(2)).achieved_rate - 1.0).abs() < 1e-9);
        // Of the measurement: in its time, and when it was over.
        for ended in [2, 3, 4, 5] {
            recorder.due(true);
            recorder.record(&answer(at(ended)));
        }
        recorder.end(at(9));
        let summary = recorder.total(at(9));
        assert!((summary.elapsed_seconds - 2.0).abs() < 1e-9);
        assert_eq!((summary.requests, summary.ok), (4, 4), "all of them count");
        assert!((summary.achieved_rate - 1.5).abs() < 1e-9, "{summary}");
        let (measured, elapsed) = recorder.measured(at(9), &[]);
        assert!((measured.rate(elapsed) - 1.5).abs() < 1e-9);
        assert!((recorder.window(at(9)).achieved_rate - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_closed_loop_that_is_stopped_ends_then() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recorder = Recorder::new(start);
        recorder.begin(start);
        recorder.close(at(10));
        assert_eq!(recorder.elapsed(at(1)), Duration::from_secs(1));
        recorder.close(at(2));
        recorder.end(at(3));
        assert_eq!(recorder.elapsed(at(9)), Duration::from_secs(2));
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
