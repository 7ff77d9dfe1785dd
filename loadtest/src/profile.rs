//! How the rate of requests changes over a run.
//!
//! A profile is a list of segments, in each of which the rate goes evenly from one value to another:
//! a constant has one, a ramp has one, steps have one each. What is asked of it is when so many
//! requests are expected to have come due, which is the inverse of a quadratic, and exact.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::arrivals::Rate;
use crate::words::seconds;

/// The most steps.
const MAX_STEPS: usize = 1_000;

/// Rates over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// At least one.
    segments: Vec<Segment>,
    shape: Shape,
}

/// A part of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    seconds: f64,
    /// Requests a second at its beginning.
    from: f64,
    /// And at its end.
    to: f64,
}

/// What a profile is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Constant,
    Ramp,
    Steps,
    Spike,
}

/// A spike on top of a constant rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// The rate while it lasts.
    pub rate: Rate,
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Says that a profile makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// There are no steps, or too many.
    #[error("expected 1 to {MAX_STEPS} steps, got {got}")]
    Steps {
        /// How many.
        got: usize,
    },
    /// A spike is not within the run.
    #[error(
        "expected a spike that ends within the {length:?} of the run, got one from {from:?} to {to:?}"
    )]
    Spike {
        /// How long the run is.
        length: Duration,
        /// When the spike begins.
        from: Duration,
        /// When it ends.
        to: Duration,
    },
}

/// Walks through a profile, forwards.
#[derive(Debug)]
pub(crate) struct Walk {
    segments: std::vec::IntoIter<Segment>,
    now: Option<Segment>,
    /// When the present segment begins.
    began: f64,
    /// Requests that are expected before it.
    before: f64,
}

// === impl Profile ===

impl Profile {
    /// The same rate throughout.
    #[must_use]
    pub fn constant(rate: Rate, length: Duration) -> Self {
        Self::new(Shape::Constant, vec![Segment::flat(rate, length)])
    }

    /// A rate that goes evenly from one value to another.
    #[must_use]
    pub fn ramp(from: Rate, to: Rate, length: Duration) -> Self {
        let segment = Segment {
            seconds: length.as_secs_f64(),
            from: from.per_second(),
            to: to.per_second(),
        };
        Self::new(Shape::Ramp, vec![segment])
    }

    /// One rate after the other, each as long.
    ///
    /// # Errors
    ///
    /// When there are none, or too many.
    pub fn steps(rates: &[Rate], length: Duration) -> Result<Self, ProfileError> {
        let got = rates.len();
        if !(1..=MAX_STEPS).contains(&got) {
            return Err(ProfileError::Steps { got });
        }
        let each = length / u32::try_from(got).unwrap_or(1);
        let segments = rates.iter().map(|&rate| Segment::flat(rate, each));
        Ok(Self::new(Shape::Steps, segments.collect()))
    }

    /// A constant rate but for a while.
    ///
    /// # Errors
    ///
    /// When the spike does not end within the run.
    pub fn spike(rate: Rate, spike: Spike, length: Duration) -> Result<Self, ProfileError> {
        let (from, to) = (spike.at, spike.at.saturating_add(spike.lasts));
        if to > length {
            return Err(ProfileError::Spike { length, from, to });
        }
        let segments = vec![
            Segment::flat(rate, from),
            Segment::flat(spike.rate, spike.lasts),
            Segment::flat(rate, length.saturating_sub(to)),
        ];
        Ok(Self::new(Shape::Spike, segments))
    }

    fn new(shape: Shape, segments: Vec<Segment>) -> Self {
        Self { segments, shape }
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        let seconds = self.segments.iter().map(|segment| segment.seconds).sum();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many requests it comes to, on average.
    #[must_use]
    pub fn expected(&self) -> f64 {
        self.segments.iter().map(Segment::expected).sum()
    }

    /// The same after a while at the rate that it begins with.
    pub(crate) fn after(&self, warmup: Duration) -> Self {
        let first = self.segments.first().map_or(0.0, |first| first.from);
        let warmup = Segment {
            seconds: warmup.as_secs_f64(),
            from: first,
            to: first,
        };
        let mut segments = vec![warmup];
        segments.extend_from_slice(&self.segments);
        Self::new(self.shape, segments)
    }

    pub(crate) fn walk(&self) -> Walk {
        let mut segments = self.segments.clone().into_iter();
        Walk {
            now: segments.next(),
            segments,
            began: 0.0,
            before: 0.0,
        }
    }
}

/// For people: `200 requests/s for 30 s`.
impl Display for Profile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let whole = seconds(self.length());
        let rates: Vec<_> = self.segments.iter().map(|segment| segment.from).collect();
        match (self.shape, &self.segments[..]) {
            (Shape::Ramp, [ramp]) => {
                write!(f, "{} to {} requests/s over {whole} s", ramp.from, ramp.to)
            }
            (Shape::Spike, [base, spike, _]) => write!(
                f,
                "{} requests/s for {whole} s, and {} from {} s for {} s",
                base.from, spike.from, base.seconds, spike.seconds
            ),
            (Shape::Steps, [first, ..]) => {
                let rates: Vec<_> = rates.iter().map(f64::to_string).collect();
                write!(
                    f,
                    "{} requests/s, {} s each",
                    rates.join(", "),
                    first.seconds
                )
            }
            (_, segments) => {
                let rate = segments.first().map_or(0.0, |segment| segment.from);
                write!(f, "{rate} requests/s for {whole} s")
            }
        }
    }
}

// === impl Segment ===

impl Segment {
    fn flat(rate: Rate, length: Duration) -> Self {
        Self {
            seconds: length.as_secs_f64(),
            from: rate.per_second(),
            to: rate.per_second(),
        }
    }

    fn expected(&self) -> f64 {
        f64::midpoint(self.from, self.to) * self.seconds
    }

    /// After how many seconds `requests` are expected, of those that are expected at all.
    fn when(&self, requests: f64) -> f64 {
        // from·t + slope·t²/2 = requests, in the form that loses nothing where the slope is small.
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * requests)
            .max(0.0)
            .sqrt();
        2.0 * requests / (self.from + root)
    }
}

// === impl Walk ===

impl Walk {
    /// When so many requests are expected to have come due, in seconds; none at the end. Never less than
    /// the last time.
    pub(crate) fn when(&mut self, requests: f64) -> Option<f64> {
        loop {
            let segment = self.now?;
            let within = requests - self.before;
            if within < segment.expected() {
                return Some(self.began + segment.when(within));
            }
            self.began += segment.seconds;
            self.before += segment.expected();
            self.now = self.segments.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate::new(per_second).unwrap()
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn each_shape_says_what_it_is() {
        let spike = Spike {
            rate: rate(2000.0),
            at: Duration::from_secs(10),
            lasts: Duration::from_secs(5),
        };
        let steps = Profile::steps(&[rate(100.0), rate(250.0)], MINUTE).unwrap();
        for (profile, text, expected) in [
            (
                Profile::constant(rate(200.0), MINUTE),
                "200 requests/s for 60 s",
                12_000.0,
            ),
            (
                Profile::ramp(rate(100.0), rate(500.0), MINUTE),
                "100 to 500 requests/s over 60 s",
                18_000.0,
            ),
            (steps, "100, 250 requests/s, 30 s each", 10_500.0),
            (
                Profile::spike(rate(500.0), spike, MINUTE).unwrap(),
                "500 requests/s for 60 s, and 2000 from 10 s for 5 s",
                37_500.0,
            ),
        ] {
            assert_eq!(profile.to_string(), text);
            assert!((profile.expected() - expected).abs() < 1e-6, "{text}");
            assert_eq!(profile.length(), MINUTE, "{text}");
            let warm = profile.after(Duration::from_secs(2));
            assert_eq!(warm.length(), Duration::from_secs(62), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(
            Profile::steps(&[], MINUTE),
            Err(ProfileError::Steps { got: 0 })
        );
        let spike = Spike {
            rate: rate(1.0),
            at: Duration::from_secs(58),
            lasts: Duration::from_secs(3),
        };
        let error = Profile::spike(rate(1.0), spike, MINUTE).unwrap_err();
        let text = "expected a spike that ends within the 60s of the run, got one from 58s to 61s";
        assert_eq!(error.to_string(), text);
    }

    proptest! {
        /// The inverse, against summing the rate up in small pieces.
        #[test]
        fn the_time_of_a_request_is_where_so_many_are_expected(
            from in 1.0_f64..1000.0, to in 1.0_f64..1000.0, part in 0.0_f64..0.999,
        ) {
            let profile = Profile::ramp(rate(from), rate(to), MINUTE);
            let wanted = profile.expected() * part;
            let at = profile.walk().when(wanted).unwrap();
            let pieces = 10_000;
            let piece = at / f64::from(pieces);
            let summed: f64 = (0..pieces)
                .map(|n| (from + (to - from) * (f64::from(n) + 0.5) * piece / 60.0) * piece)
                .sum();
            prop_assert!((summed - wanted).abs() < 1e-6 * wanted.max(1.0), "{summed} {wanted}");
        }

        #[test]
        fn a_walk_goes_forward_through_every_segment_and_ends(seed in 1_u32..500) {
            let rates: Vec<_> = (0..5).map(|n| rate(f64::from((seed * (n + 3)) % 97 + 1))).collect();
            let profile = Profile::steps(&rates, MINUTE).unwrap();
            let mut walk = profile.walk();
            let times: Vec<_> = (0_u32..).map_while(|n| walk.when(f64::from(n))).collect();
            prop_assert!(times.is_sorted());
            let expected = profile.expected();
            prop_assert!((times.len() as f64 - expected).abs() <= 1.0, "{} {expected}", times.len());
            prop_assert!(*times.last().unwrap() < 60.0);
        }
    }
}
