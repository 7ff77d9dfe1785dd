//! The recent past of one endpoint: how many attempts went well, were slow, failed.
//!
//! Exact counts in ten buckets, so that a burst leaves the window a tenth of it
//! at a time. Traffic that is too thin to fill the window is judged by its last
//! few samples instead, as far back as a longer reach: without that, an endpoint
//! that gets one request a second and fails every other one would never trip.
//!
//! Among ten thousand endpoints none is in a cache, so what counts is how many
//! cache lines a sample touches. One that is like the last one and falls into
//! the same bucket touches two numbers that stand together: the count of the
//! bucket that is being filled, and that of the run of equal samples. Only when
//! a bucket ends or a run does, the rest of the window is written to.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Buckets that the window is made of, the one that is being filled included.
const BUCKETS: usize = 10;
const BUCKETS_U32: u32 = 10;

/// What one attempt counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Slow,
    Failed,
}

/// How many attempts ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered well and in time.
    pub good: u32,
    /// Answered late, or not yet and late already.
    pub slow: u32,
    /// Failed.
    pub failed: u32,
}

/// How far a window looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    /// The window.
    pub(crate) window: Duration,
    /// How far it reaches back for `min_samples` when it holds fewer.
    pub(crate) reach: Duration,
    /// How many samples a ratio needs.
    pub(crate) min_samples: u32,
}

/// Counts over a sliding window, in the order in which a sample touches them.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Window {
    /// When the bucket that is being filled began.
    began: Option<Instant>,
    /// How long a bucket lasts, in nanoseconds.
    bucket: u64,
    filling: Counts,
    run: Run,
    span: Span,
    /// The buckets before, and where the oldest of them stands.
    before: [Counts; BUCKETS - 1],
    oldest: usize,
    /// The runs before, oldest first: with `run`, at least the last `min_samples`
    /// and no run more than it takes.
    last: VecDeque<Run>,
    /// Samples in `last`.
    held: u32,
    /// When the last sample came of those that have been dropped from it.
    dropped: Option<Instant>,
}

/// Equal samples in a row, of one bucket.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When the last of them came.
    at: Option<Instant>,
    mark: Mark,
    /// How many; 0 before the first sample.
    count: u32,
}

// === impl Counts ===

impl Counts {
    /// How many there are in all.
    #[must_use]
    pub fn total(self) -> u32 {
        self.good + self.slow + self.failed
    }

    fn add(&mut self, mark: Mark) {
        let count = self.of(mark);
        *count = count.saturating_add(1);
    }

    /// Takes one away, if there is one.
    fn take(&mut self, mark: Mark) {
        let count = self.of(mark);
        *count = count.saturating_sub(1);
    }

    fn of(&mut self, mark: Mark) -> &mut u32 {
        match mark {
            Mark::Good => &mut self.good,
            Mark::Slow => &mut self.slow,
            Mark::Failed => &mut self.failed,
        }
    }

    fn sum(self, other: Self) -> Self {
        Self {
            good: self.good.saturating_add(other.good),
            slow: self.slow.saturating_add(other.slow),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

// === impl Window ===

impl Window {
    pub(crate) fn new(span: Span) -> Self {
        Self {
            began: None,
            bucket: bucket(span.window),
            filling: Counts::default(),
            run: Run::EMPTY,
            span,
            before: [Counts::default(); BUCKETS - 1],
            oldest: 0,
            last: VecDeque::new(),
            held: 0,
            dropped: None,
        }
    }

    /// Takes another span; what was counted is kept where it fits.
    pub(crate) fn reconfigure(&mut self, span: Span) {
        if span.window != self.span.window {
            *self = Self::new(span);
        }
        self.span = span;
        self.trim();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.span);
    }

    pub(crate) fn push(&mut self, mark: Mark, now: Instant) {
        self.advance(now);
        self.filling.add(mark);
        if mark != self.run.mark {
            self.end_run();
        }
        self.run = Run {
            at: Some(now),
            mark,
            count: self.run.count.saturating_add(1),
        };
    }

    /// Takes back a sample that came at that time and was marked so, if it is still there.
    pub(crate) fn retract(&mut self, mark: Mark, at: Instant, now: Instant) {
        self.advance(now);
        if let Some(bucket) = self.bucket_of(at) {
            bucket.take(mark);
        }
        if self.dropped.is_some_and(|dropped| at <= dropped) {
            return;
        }
        // The first of its kind that had not ended by then.
        let is_its = |run: &Run| run.mark == mark && run.at >= Some(at);
        if let Some(found) = self.last.iter().position(is_its) {
            self.held -= 1;
            self.last[found].count -= 1;
            if self.last[found].count == 0 {
                self.last.remove(found);
            }
        } else if self.run.mark == mark {
            self.run.count = self.run.count.saturating_sub(1);
        }
    }

    /// The bucket that holds what came at that time.
    fn bucket_of(&mut self, at: Instant) -> Option<&mut Counts> {
        let earlier = self.began?.saturating_duration_since(at);
        if earlier.is_zero() {
            return Some(&mut self.filling);
        }
        let age = earlier.as_nanos().div_ceil(u128::from(self.bucket));
        let age = usize::try_from(age).ok().filter(|age| *age < BUCKETS)?;
        Some(&mut self.before[(self.oldest + BUCKETS - 1 - age) % (BUCKETS - 1)])
    }

    /// What the window holds; where that is too little, the last samples.
    pub(crate) fn counts(&self, now: Instant) -> Counts {
        let aged = self.steps(now);
        let young = (BUCKETS - 1).saturating_sub(aged);
        let mut counts = if aged < BUCKETS {
            self.filling
        } else {
            Counts::default()
        };
        for age in 1..=young {
            let at = (self.oldest + BUCKETS - 1 - age) % (BUCKETS - 1);
            counts = counts.sum(self.before[at]);
        }
        if counts.total() >= self.span.min_samples {
            return counts;
        }
        self.sparse(now)
    }

    /// The last `min_samples` samples, as far as the window reaches.
    fn sparse(&self, now: Instant) -> Counts {
        let mut counts = Counts::default();
        let mut wanted = self.span.min_samples;
        let newest_first = std::iter::once(&self.run).chain(self.last.iter().rev());
        for run in newest_first {
            let reached = run
                .at
                .is_some_and(|at| now.saturating_duration_since(at) <= self.span.reach);
            if !reached {
                continue;
            }
            let taken = run.count.min(wanted);
            *counts.of(run.mark) += taken;
            wanted -= taken;
        }
        counts
    }

    /// How many buckets have begun since the newest did, at most all of them.
    fn steps(&self, now: Instant) -> usize {
        let Some(began) = self.began else {
            return 0;
        };
        let passed = now.saturating_duration_since(began).as_nanos();
        let bucket = u128::from(self.bucket);
        if passed < bucket {
            return 0;
        }
        usize::try_from(passed / bucket).map_or(BUCKETS, |steps| steps.min(BUCKETS))
    }

    fn advance(&mut self, now: Instant) {
        let steps = self.steps(now);
        let Some(mut began) = self.began.filter(|_| steps > 0) else {
            self.began.get_or_insert(now);
            return;
        };
        for _ in 0..steps {
            self.before[self.oldest] = std::mem::take(&mut self.filling);
            self.oldest = (self.oldest + 1) % (BUCKETS - 1);
            began += Duration::from_nanos(self.bucket);
        }
        self.began = Some(if steps < BUCKETS { began } else { now });
        self.end_run();
    }

    /// The next sample begins another run.
    fn end_run(&mut self) {
        if self.run.count > 0 {
            self.held = self.held.saturating_add(self.run.count);
            self.last.push_back(self.run);
            self.trim();
        }
        self.run = Run::EMPTY;
    }

    fn trim(&mut self) {
        while let Some(oldest) = self.last.front()
            && self.held - oldest.count >= self.span.min_samples
        {
            self.held -= oldest.count;
            self.dropped = oldest.at;
            self.last.pop_front();
        }
    }
}

/// A tenth of a window, in nanoseconds; at least a millisecond.
fn bucket(window: Duration) -> u64 {
    let bucket = (window / BUCKETS_U32).max(Duration::from_millis(1));
    u64::try_from(bucket.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Run ===

impl Run {
    const EMPTY: Self = Self {
        at: None,
        mark: Mark::Good,
        count: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::origin;
    use proptest::prelude::*;

    const SPAN: Span = Span {
        window: Duration::from_secs(10),
        reach: Duration::from_mins(5),
        min_samples: 20,
    };

    #[test]
    fn a_thin_stream_is_judged_by_its_last_samples() {
        let mut window = Window::new(SPAN);
        let start = origin();
        for second in 0..30u64 {
            let mark = if second % 2 == 0 {
                Mark::Failed
            } else {
                Mark::Good
            };
            window.push(mark, start + Duration::from_secs(7 * second));
        }
        let now = start + Duration::from_secs(7 * 29);
        let counts = window.counts(now);
        assert_eq!((counts.failed, counts.good), (10, 10));
        // And what is older than the reach is forgotten.
        assert_eq!(window.counts(now + Duration::from_mins(6)).total(), 0);
    }

    #[test]
    fn a_full_window_forgets_a_tenth_at_a_time() {
        let mut window = Window::new(SPAN);
        let start = origin();
        for tenth in 0..100u32 {
            window.push(Mark::Slow, start + Duration::from_millis(100) * tenth);
        }
        let now = start + Duration::from_millis(9_900);
        assert_eq!(window.counts(now).slow, 100);
        assert_eq!(window.counts(now + Duration::from_secs(1)).slow, 90);
        window.push(Mark::Good, now + Duration::from_secs(5));
        let counts = window.counts(now + Duration::from_secs(5));
        assert_eq!((counts.slow, counts.good), (50, 1));
    }

    #[test]
    fn a_sample_that_is_taken_back_was_never_there() {
        let mut window = Window::new(SPAN);
        let start = origin();
        for second in 0..30 {
            window.push(Mark::Good, start + Duration::from_secs(second));
        }
        let now = start + Duration::from_secs(29);
        window.retract(Mark::Good, now, now);
        window.retract(Mark::Slow, now, now);
        // Ten seconds hold nine, which is too few; so the last twenty count.
        assert_eq!(window.counts(now).good, 20);
        // The first ones are long gone, and those of others stay.
        for second in 0..9 {
            window.retract(Mark::Good, start + Duration::from_secs(second), now);
        }
        assert_eq!(window.counts(now).good, 20);
    }

    #[test]
    fn another_span_is_taken_and_what_fits_it_is_kept() {
        let mut window = Window::new(SPAN);
        let at = |second| origin() + Duration::from_secs(second);
        for number in 0..40 {
            window.push(Mark::Good, at(5 * number));
        }
        let now = at(5 * 39);
        assert_eq!(window.counts(now).good, SPAN.min_samples);
        window.reconfigure(Span {
            min_samples: 5,
            ..SPAN
        });
        assert_eq!(window.counts(now).good, 5, "as few as are wanted");
        // The buckets of another window hold other times.
        window.reconfigure(Span {
            window: SPAN.window * 2,
            ..SPAN
        });
        assert_eq!(window.counts(now), Counts::default());
    }

    #[test]
    fn a_sample_is_taken_back_from_wherever_it_stands_and_no_other_is() {
        let seconds = Duration::from_secs;
        for shift in 0..20 {
            let mut window = Window::new(SPAN);
            // The ring begins anywhere.
            for second in 0..=shift {
                window.push(Mark::Slow, origin() + seconds(second));
            }
            let start = origin() + seconds(shift + 11);
            for (at, mark) in [(0, Mark::Failed), (3, Mark::Failed), (5, Mark::Good)] {
                (0..30).for_each(|_| window.push(mark, start + seconds(at)));
            }
            window.retract(Mark::Failed, start + seconds(3), start + seconds(5));
            let failed = |window: &Window, at| window.counts(start + seconds(at)).failed;
            assert_eq!(failed(&window, 9), 59, "{shift}");
            assert_eq!([12, 13].map(|at| failed(&window, at)), [29, 0], "{shift}");
            window.retract(Mark::Failed, start, start + seconds(11));
            assert_eq!(
                failed(&window, 12),
                29,
                "those of the first second are gone"
            );
        }
    }

    proptest! {
        /// Against a list of everything: no sample of the last nine tenths is
        /// missing, none older than the window is counted.
        #[test]
        fn it_counts_what_a_list_would(
            gaps in prop::collection::vec(0..400u64, 1..300),
            later in 0..12_000u64,
        ) {
            let mut window = Window::new(SPAN);
            let mut now = origin();
            let mut all = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                window.push(Mark::Good, now);
                all.push(now);
            }
            now += Duration::from_millis(later);
            let within = |span: Duration| {
                let within = all.iter().filter(|at| now.duration_since(**at) <= span);
                u32::try_from(within.count()).unwrap()
            };
            let (least, most) = (within(Duration::from_secs(9)), within(SPAN.window));
            let counted = window.counts(now).total();
            if counted == 20 {
                prop_assert!(least <= 20);
            } else {
                prop_assert!(counted <= most.max(20) && counted >= least, "{least} {counted} {most}");
            }
        }
    }
}
