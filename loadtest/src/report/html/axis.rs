//! Axes: what they range over, and where their ticks are.
//!
//! All are linear in what is drawn; a logarithmic one is drawn by the logarithms of its values, and its ticks
//! know that. The ticks are ours because plotters' own logarithmic axis has none within a decade.

use std::ops::Range;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    /// From the least to the largest, as drawn.
    pub(super) range: Range<f64>,
}

/// How values are drawn, and what is written beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Drawn by their decimal logarithm.
    Log,
    /// −log10(1 − q), written as percentiles.
    Nines,
}

// === impl Axis ===

impl Axis {
    /// From `from` to `until`, and a little at least.
    pub(super) fn linear(from: f64, until: f64) -> Self {
        let scale = Scale::Linear;
        let range = from..until.max(from + 1e-3);
        Self { scale, range }
    }

    /// From 0 to the largest, with some room, and at least up to `least`.
    pub(super) fn from_zero(least: f64, values: impl Iterator<Item = f64>) -> Self {
        Self::linear(0.0, values.fold(least, f64::max) * 1.08)
    }

    /// Over all values, which are positive.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Self {
        let least = |(least, largest): (f64, f64), value: f64| {
            let value = value.max(1e-3);
            (least.min(value), largest.max(value))
        };
        let (least, largest) = values.fold((f64::MAX, f64::MIN_POSITIVE), least);
        let (least, largest) = if least > largest {
            (1.0, 10.0)
        } else {
            (least, largest)
        };
        // Something of an axis also where all values are the same.
        let range = (least / 1.25).log10()..(largest * 1.25).log10();
        let scale = Scale::Log;
        Self { scale, range }
    }

    /// Percentiles from 0 up to so many nines.
    pub(super) fn nines(last: f64) -> Self {
        let scale = Scale::Nines;
        let range = 0.0..last.max(1.0);
        Self { scale, range }
    }

    /// Where a value is drawn.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Nines => value,
            Scale::Log => value.max(1e-3).log10(),
        }
    }

    /// About so many ticks, as drawn.
    pub(super) fn ticks(&self, about: u32) -> Vec<f64> {
        let ticks = match self.scale {
            Scale::Linear => linear(&self.range, about),
            Scale::Log => log(&self.range, about),
            Scale::Nines => {
                let nines = (1..=15).map(f64::from);
                [0.0, 0.5_f64.log10().abs()]
                    .into_iter()
                    .chain(nines)
                    .collect()
            }
        };
        let slack = (self.range.end - self.range.start) * 1e-9;
        let range = self.range.start - slack..=self.range.end + slack;
        ticks
            .into_iter()
            .filter(|tick| range.contains(tick))
            .collect()
    }

    /// What is written beside a tick.
    pub(super) fn label(&self, tick: f64) -> String {
        match self.scale {
            Scale::Linear => number(tick),
            Scale::Log => number(10_f64.powf(tick)),
            Scale::Nines => percentile(tick),
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear(range: &Range<f64>, about: u32) -> Vec<f64> {
    let rough = (range.end - range.start) / f64::from(about.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (range.start / step).ceil();
    let ticks = (0..=2 * about.max(1)).map(|index| (first + f64::from(index)) * step);
    ticks.collect()
}

/// Powers of ten, and 2 and 5 of each where there is room.
fn log(range: &Range<f64>, about: u32) -> Vec<f64> {
    let decades = range.end - range.start;
    let between: &[f64] = if decades * 3.0 <= f64::from(about) * 1.2 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    if decades < 0.5 {
        // So little is all but linear.
        let values = 10_f64.powf(range.start)..10_f64.powf(range.end);
        return linear(&values, about).into_iter().map(f64::log10).collect();
    }
    let every = (decades / f64::from(about.max(1))).ceil().max(1.0);
    let first = range.start.floor();
    let powers = (0..).map(|index| first + every * f64::from(index));
    let powers = powers.take_while(|power| *power <= range.end);
    powers
        .flat_map(|power| between.iter().map(move |factor| power + factor.log10()))
        .collect()
}

/// A number in as few characters as tell it from its neighbours.
fn number(value: f64) -> String {
    let size = value.abs();
    if !size.is_finite() {
        return "∞".to_owned();
    }
    if size >= 1e6 {
        return format!("{}M", number(value / 1e6));
    }
    if size >= 1e4 {
        return format!("{}k", number(value / 1e3));
    }
    let digits = if !(1e-9..100.0).contains(&size) {
        0
    } else if size >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// `0%`, `50%`, `90%`, `99%`, `99.9%` and so on.
fn percentile(nines: f64) -> String {
    if nines < 0.1 {
        return "0%".to_owned();
    }
    if nines < 1.0 {
        return "50%".to_owned();
    }
    let is_next = |count: &u8| f64::from(*count) > nines - 0.5;
    let count = (1..=15).find(is_next).unwrap_or(15);
    let text = "9".repeat(count.into());
    match text.split_at_checked(2) {
        Some((whole, "")) => format!("{whole}%"),
        Some((whole, part)) => format!("{whole}.{part}%"),
        None => "90%".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, about: u32) -> Vec<String> {
        axis.ticks(about)
            .into_iter()
            .map(|tick| axis.label(tick))
            .collect()
    }

    #[test]
    fn what_is_no_number_has_a_sign() {
        let signs = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(number);
        assert_eq!(signs, ["∞", "∞", "∞"]);
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::linear(0.0, 32.0), 6), ["0", "10", "20", "30"]);
        assert_eq!(
            labels(&Axis::linear(0.0, 1.0), 5),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            labels(&Axis::from_zero(1.0, [20_000.0].into_iter()), 5),
            ["0", "5000", "10k", "15k", "20k"]
        );
        assert_eq!(
            labels(&Axis::log([1.5, 40.0].into_iter()), 6),
            ["2", "5", "10", "20", "50"]
        );
        assert_eq!(
            labels(&Axis::log([0.5, 1500.0].into_iter()), 4),
            ["1", "10", "100", "1000"]
        );
        assert_eq!(
            labels(&Axis::nines(4.2), 9),
            ["0%", "50%", "90%", "99%", "99.9%", "99.99%"]
        );
    }

    #[test]
    fn an_axis_of_nothing_and_one_of_a_single_value_have_ticks() {
        for axis in [
            Axis::log(std::iter::empty()),
            Axis::log([3.0].into_iter()),
            Axis::log([0.0].into_iter()),
            Axis::from_zero(1.0, std::iter::empty()),
            Axis::from_zero(1.0, [0.0].into_iter()),
            Axis::linear(5.0, 5.0),
        ] {
            let ticks = axis.ticks(5);
            assert!((1..=11).contains(&ticks.len()), "{axis:?}: {ticks:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_axis_has_too_many_ticks(from in 0.0_f64..1e9, span in 0.0_f64..1e12, about in 1_u32..12) {
            for axis in [
                Axis::linear(from, from + span),
                Axis::log([from, from + span].into_iter()),
            ] {
                let count = axis.ticks(about).len();
                proptest::prop_assert!(count <= 3 * about as usize + 4, "{axis:?} {count}");
            }
        }
    }
}
