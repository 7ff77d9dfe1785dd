//! The recent past of one endpoint: how many attempts went well, were slow, failed.
//!
//! Exact counts in ten buckets, so that a burst leaves the window a tenth of it
//! at a time. Traffic that is too thin to fill the window is judged by its last
//! few samples instead, as far back as a longer reach: without that, an endpoint
//! that gets one request a second and fails every other one would never trip.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Buckets that the window is made of.
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

/// Counts over a sliding window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    span: Span,
    buckets: [Counts; BUCKETS],
    /// The bucket that is being filled, and when it began.
    newest: usize,
    began: Option<Instant>,
    /// The last `min_samples`, oldest first.
    last: VecDeque<(Instant, Mark)>,
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

    /// Takes one away, and says whether there was one.
    fn take(&mut self, mark: Mark) -> bool {
        let count = self.of(mark);
        let less = count.checked_sub(1);
        *count = less.unwrap_or(0);
        less.is_some()
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
            span,
            buckets: [Counts::default(); BUCKETS],
            newest: 0,
            began: None,
            last: VecDeque::new(),
        }
    }

    /// Takes another span; what was counted is kept where it fits.
    pub(crate) fn reconfigure(&mut self, span: Span) {
        if span.window != self.span.window {
            *self = Self::new(span);
        }
        self.span = span;
        while self.last.len() > span.min_samples as usize {
            self.last.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.span);
    }

    pub(crate) fn push(&mut self, mark: Mark, now: Instant) {
        self.advance(now);
        self.buckets[self.newest].add(mark);
        if self.last.len() >= self.span.min_samples as usize {
            self.last.pop_front();
        }
        self.last.push_back((now, mark));
    }

    /// Takes back the last sample that was marked so, if it is still there.
    pub(crate) fn retract(&mut self, mark: Mark, now: Instant) {
        self.advance(now);
        let newest_first = (0..BUCKETS).map(|age| (self.newest + BUCKETS - age) % BUCKETS);
        for bucket in newest_first {
            if self.buckets[bucket].take(mark) {
                break;
            }
        }
        if let Some(at) = self.last.iter().rposition(|(_, last)| *last == mark) {
            self.last.remove(at);
        }
    }

    /// What the window holds; where that is too little, the last samples.
    pub(crate) fn counts(&self, now: Instant) -> Counts {
        let aged = self.steps(now);
        let recent = (aged..BUCKETS).map(|age| {
            let age = age - aged;
            self.buckets[(self.newest + BUCKETS - age) % BUCKETS]
        });
        let counts = recent.fold(Counts::default(), Counts::sum);
        if counts.total() >= self.span.min_samples {
            return counts;
        }
        let mut sparse = Counts::default();
        for (at, mark) in &self.last {
            if now.saturating_duration_since(*at) <= self.span.reach {
                sparse.add(*mark);
            }
        }
        sparse
    }

    fn bucket(&self) -> Duration {
        (self.span.window / BUCKETS_U32).max(Duration::from_millis(1))
    }

    /// How many buckets have begun since the newest did, at most all of them.
    fn steps(&self, now: Instant) -> usize {
        let Some(began) = self.began else {
            return 0;
        };
        let passed = now.saturating_duration_since(began).as_nanos() / self.bucket().as_nanos();
        usize::try_from(passed).unwrap_or(BUCKETS).min(BUCKETS)
    }

    fn advance(&mut self, now: Instant) {
        let steps = self.steps(now);
        let mut began = self.began.unwrap_or(now);
        for _ in 0..steps {
            self.newest = (self.newest + 1) % BUCKETS;
            self.buckets[self.newest] = Counts::default();
            began += self.bucket();
        }
        self.began = Some(if steps < BUCKETS { began } else { now });
    }
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
        window.retract(Mark::Good, now);
        window.retract(Mark::Slow, now);
        // Ten seconds hold nine, which is too few; so the last nineteen count.
        assert_eq!(window.counts(now).good, 19);
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
