//! How long endpoints take: what is expected next, what is usual, what is rare.
//!
//! Three views of the time to first byte, each as small as its use allows:
//!
//! - [`Expected`]: what the next request will take at one endpoint, for the
//!   choice between two. A *peak* average: it jumps up to a higher sample at
//!   once and comes down slowly, so that an endpoint is avoided from its first
//!   slow answer on (Finagle's peak EWMA).
//! - [`Recent`]: the last samples of one endpoint, for its median and tail,
//!   which is what its peers are compared with.
//! - [`Lately`]: the last ten to twenty seconds of a pool, or its last samples where
//!   those hold too few, for its 99th percentile, by which it is decided how long an
//!   attempt gets before it is rescued.

use std::time::{Duration, Instant};

/// Samples that [`Recent`] holds.
const RECENT: u16 = 64;
/// Samples that a median needs.
const ENOUGH: u16 = 8;
/// Classes of [`Lately`]: four to a doubling, from 100 µs to about 7 minutes.
const CLASSES: usize = 88;
const SMALLEST: f64 = 100e-6;
/// Samples that a 99th percentile needs; of fewer, the largest is all that can be said.
const ENOUGH_FOR_TAIL: u32 = 20;
/// How long a generation of [`Lately`] lasts, and longer where it has too few samples.
const GENERATION: Duration = Duration::from_secs(10);

/// A peak-sensitive, exponentially decaying average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    /// Seconds, as of `at`; none without a sample.
    last: Option<(f64, Instant)>,
}

/// The last samples of one endpoint.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Recent {
    len: u16,
    next: u16,
    /// The last sample, or how long it has been waited for meanwhile.
    last: f32,
    /// In a ring.
    samples: [Short; RECENT as usize],
}

/// Seconds in 16 bits, within a fortieth of a percent, from 1 µs to 68 minutes: a floating-point
/// number of five bits of exponent and eleven of fraction. Among ten thousand endpoints a decision
/// costs what it reads of memory, and of this there is most. They sort as what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Short(u16);

/// What is usual at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usual {
    pub(crate) median: f64,
    pub(crate) p95: f64,
}

/// A histogram of the last ten to twenty seconds. A pool that is asked once a minute is
/// known by what came before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lately {
    /// The one that is being filled, and the one before.
    generations: [Generation; 2],
    began: Option<Instant>,
    /// The one before is so old that it only counts while the new one has too few.
    is_old: bool,
}

#[derive(Clone, Debug)]
struct Generation {
    classes: Box<[u32; CLASSES]>,
    samples: u32,
}

// === impl Expected ===

impl Expected {
    /// Takes a sample. `decay` is the time in which a difference falls to 1/e.
    pub(crate) fn observe(&mut self, sample: Duration, decay: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let value = match self.last {
            Some((value, at)) if sample < value => {
                let keep = (-seconds(now, at) / decay.as_secs_f64()).exp();
                sample + (value - sample) * keep
            }
            _ => sample,
        };
        self.last = Some((value, now));
    }

    /// What the next request will take, in seconds. An old value has less
    /// weight than what is usual in the pool, or an endpoint that was avoided
    /// for one slow answer would be avoided for ever.
    pub(crate) fn seconds(&self, usual: f64, decay: Duration, now: Instant) -> f64 {
        match self.last {
            None => usual,
            Some((value, _)) if value <= usual => value,
            Some((value, at)) => {
                let keep = (-seconds(now, at) / decay.as_secs_f64()).exp();
                usual + (value - usual) * keep
            }
        }
    }

    /// The value without decay, for people.
    pub(crate) fn last(&self) -> Option<Duration> {
        self.last.map(|(value, _)| Duration::from_secs_f64(value))
    }
}

fn seconds(now: Instant, then: Instant) -> f64 {
    now.saturating_duration_since(then).as_secs_f64()
}

// === impl Short ===

impl Short {
    /// Bits of an `f32`'s fraction that are left out.
    const LEFT_OUT: u32 = 12;
    /// 2^-20 s, the smallest, as an `f32` without them.
    const LEAST: u32 = (127 - 20) << (23 - Self::LEFT_OUT);

    fn of(seconds: f32) -> Self {
        let rounded = seconds.to_bits() + (1 << (Self::LEFT_OUT - 1));
        let short = (rounded >> Self::LEFT_OUT).saturating_sub(Self::LEAST);
        Self(u16::try_from(short).unwrap_or(u16::MAX))
    }

    fn seconds(self) -> f64 {
        f64::from(f32::from_bits(
            (u32::from(self.0) + Self::LEAST) << Self::LEFT_OUT,
        ))
    }
}

// === impl Recent ===

impl Default for Recent {
    fn default() -> Self {
        Self {
            samples: [Short::default(); RECENT as usize],
            len: 0,
            next: 0,
            last: 0.0,
        }
    }
}

impl Recent {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.last = sample.as_secs_f32();
        self.samples[usize::from(self.next)] = Short::of(self.last);
        self.next = (self.next + 1) % RECENT;
        self.len = (self.len + 1).min(RECENT);
    }

    /// A sample is on its way that will be no less.
    pub(crate) fn waits(&mut self, waited: Duration) {
        self.last = self.last.max(waited.as_secs_f32());
    }

    /// The last sample, or how long it has been waited for; 0 before the first.
    pub(crate) fn last(&self) -> Duration {
        Duration::from_secs_f32(self.last)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.next = 0;
        self.last = 0.0;
    }

    /// The median and the 95th percentile; none of too few samples.
    pub(crate) fn usual(&self) -> Option<Usual> {
        if self.len < ENOUGH {
            return None;
        }
        let len = usize::from(self.len);
        let mut sorted = self.samples;
        let sorted = &mut sorted[..len];
        sorted.sort_unstable();
        Some(Usual {
            median: sorted[(len - 1) / 2].seconds(),
            p95: sorted[(len * 95 / 100).min(len - 1)].seconds(),
        })
    }
}

// === impl Lately ===

impl Lately {
    pub(crate) fn push(&mut self, sample: Duration, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= GENERATION && self.generations[0].is_enough() {
            self.generations.swap(0, 1);
            self.generations[0].clear();
            self.is_old = age >= GENERATION * 2;
            self.began = Some(now);
        }
        self.generations[0].push(sample);
    }

    /// Whether a 99th percentile can be told from the largest sample.
    pub(crate) fn is_enough(&self) -> bool {
        let [new, old] = &self.generations;
        new.samples + old.samples >= ENOUGH_FOR_TAIL
    }

    /// The 99th percentile, rounded up to its class (at most 19 % too high); of few
    /// samples, the largest; none before the first.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let [new, old] = &self.generations;
        let old = (!self.is_old || !new.is_enough()).then_some(old);
        let count = |class: usize| new.classes[class] + old.map_or(0, |old| old.classes[class]);
        let samples = new.samples + old.map_or(0, |old| old.samples);
        let mut above = samples / 100;
        for class in (0..CLASSES).rev() {
            if count(class) > above {
                return Some(upper_edge(class));
            }
            above -= count(class);
        }
        None
    }
}

// === impl Generation ===

impl Default for Generation {
    fn default() -> Self {
        Self {
            classes: Box::new([0; CLASSES]),
            samples: 0,
        }
    }
}

impl Generation {
    fn push(&mut self, sample: Duration) {
        // Half of what a count holds, so that two of them can be added.
        if self.samples < u32::MAX / 2 {
            self.classes[class(sample)] += 1;
            self.samples += 1;
        }
    }

    fn clear(&mut self) {
        self.classes.fill(0);
        self.samples = 0;
    }

    fn is_enough(&self) -> bool {
        self.samples >= ENOUGH_FOR_TAIL
    }
}

fn class(sample: Duration) -> usize {
    let doublings = (sample.as_secs_f64() / SMALLEST).max(1.0).log2();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 88"
    )]
    let class = (doublings * 4.0) as usize;
    class.min(CLASSES - 1)
}

fn upper_edge(class: usize) -> Duration {
    Duration::from_secs_f64(SMALLEST * ((class + 1) as f64 / 4.0).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::origin;

    const DECAY: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let mut expected = Expected::default();
        let now = origin();
        assert!((expected.seconds(0.005, DECAY, now) - 0.005).abs() < 1e-9);
        assert_eq!(expected.last(), None);
        expected.observe(5 * MS, DECAY, now);
        assert_eq!(expected.last(), Some(5 * MS));
        expected.observe(200 * MS, DECAY, now);
        assert!((expected.seconds(0.005, DECAY, now) - 0.2).abs() < 1e-9);
        expected.observe(5 * MS, DECAY, now + DECAY / 10);
        let after = expected.seconds(0.005, DECAY, now + DECAY / 10);
        assert!((0.17..0.19).contains(&after), "{after}");
        let later = expected.seconds(0.005, DECAY, now + 10 * DECAY);
        assert!(later < 0.006, "{later}");
    }

    #[test]
    fn one_that_is_faster_than_usual_stays_so_however_long_it_was_not_asked() {
        let mut expected = Expected::default();
        expected.observe(MS, DECAY, origin());
        let later = expected.seconds(0.005, DECAY, origin() + 10 * DECAY);
        assert!((later - 0.001).abs() < 1e-9, "{later}");
    }

    #[test]
    fn the_tail_is_made_of_all_that_was_slow_however_differently() {
        let mut lately = Lately::default();
        for (ms, count) in [(1, 988), (100, 6), (1_000, 6)] {
            for _ in 0..count {
                lately.push(ms * MS, origin());
            }
        }
        let p99 = lately.p99().unwrap();
        assert!((100 * MS..130 * MS).contains(&p99), "{p99:?}");
    }

    #[test]
    fn sixteen_bits_hold_a_time_within_a_fortieth_of_a_percent_and_sort_as_it_does() {
        let mut times: Vec<f32> = (0..2_000).map(|n| 1.0e-6 * 1.011_f32.powi(n)).collect();
        times.retain(|time| *time < 4_000.0);
        for pair in times.windows(2) {
            let short = [Short::of(pair[0]), Short::of(pair[1])];
            assert!(short[0] < short[1], "{pair:?}");
            let off = (short[0].seconds() / f64::from(pair[0]) - 1.0).abs();
            assert!(off < 0.000_25, "{}: off by {off}", pair[0]);
        }
        assert!(Short::of(0.0).seconds() < 1.0e-6);
        let longest = Short::of(1.0e9).seconds();
        assert!((4_090.0..4_096.0).contains(&longest), "{longest}");
        assert_eq!(Short::of(f32::MAX), Short::of(1.0e9));
        assert!((Short::of(1.0).seconds() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_median_and_the_tail_are_those_of_the_last_samples() {
        let mut recent = Recent::default();
        for ms in 1..=7 {
            recent.push(ms * MS);
        }
        assert_eq!(recent.usual(), None, "seven are too few");
        for ms in 1..=200 {
            recent.push(ms * MS);
        }
        let usual = recent.usual().unwrap();
        assert!((usual.median / 0.168 - 1.0).abs() < 0.000_25, "{usual:?}");
        assert!((usual.p95 / 0.197 - 1.0).abs() < 0.000_25, "{usual:?}");
        recent.clear();
        assert_eq!(recent.usual(), None);
    }

    #[test]
    fn the_tail_of_a_pool_is_within_a_class_and_forgotten_in_time() {
        let mut lately = Lately::default();
        let now = origin();
        for ms in 1..=1_000 {
            lately.push(ms * MS, now);
        }
        let p99 = lately.p99().unwrap();
        assert!((990 * MS..1_190 * MS).contains(&p99), "{p99:?}");
        for _ in 0..50 {
            lately.push(MS, now + 2 * GENERATION);
        }
        assert!(lately.p99().unwrap() < 2 * MS);
    }

    #[test]
    fn the_tail_of_few_samples_is_their_largest_and_absurd_ones_have_a_class() {
        let mut lately = Lately::default();
        assert_eq!((lately.p99(), lately.is_enough()), (None, false));
        for ms in [5, 700, 20].into_iter().chain([5; 16]) {
            lately.push(ms * MS, origin());
            assert!(!lately.is_enough());
        }
        let largest = lately.p99().unwrap();
        assert!((700 * MS..840 * MS).contains(&largest), "{largest:?}");
        lately.push(Duration::from_hours(24), origin());
        assert!(lately.is_enough());
        assert!(lately.p99().unwrap() > Duration::from_mins(5));
        lately.push(Duration::ZERO, origin());
    }

    #[test]
    fn a_pool_that_is_hardly_asked_is_known_by_its_last_samples() {
        let mut lately = Lately::default();
        let mut now = origin();
        let mut ask = |lately: &mut Lately, ms: u32, times| {
            for _ in 0..times {
                now += Duration::from_mins(1);
                lately.push(ms * MS, now);
            }
            lately.p99().unwrap()
        };
        let slow = ask(&mut lately, 900, 20);
        assert!(slow > 900 * MS && lately.is_enough(), "{slow:?}");
        // As long as nothing else is known.
        assert_eq!(ask(&mut lately, 5, 19), slow);
        let fast = ask(&mut lately, 5, 1);
        assert!(fast < 7 * MS && lately.is_enough(), "{fast:?}");
    }
}
