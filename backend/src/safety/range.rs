//! Numbers within bounds, and numbers that are numbers.

use aegis_protocol::Tensor;

use super::finding::What;
use super::number::{Found, Number, scan, with_numbers};
use super::{Unable, Violation};

/// Bounds, both of them allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

// === impl Range ===

impl Range {
    /// Finds numbers that lie outside; NaN lies outside of everything.
    pub(super) fn look(self, tensor: &Tensor, rows: usize) -> Result<Option<Violation>, Unable> {
        let found = with_numbers!(tensor, outside(tensor, rows, self));
        let found = found.ok_or(Unable::NoNumbers(tensor.datatype()))?;
        Ok(found.map(|Found { rows, index, value }| Violation {
            rows,
            what: What::OutOfRange {
                min: self.min,
                max: self.max,
                index,
                value,
            },
        }))
    }
}

fn outside<T: Number>(tensor: &Tensor, rows: usize, range: Range) -> Option<Found> {
    let (min, max) = (T::lower(range.min), T::upper(range.max));
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "a branch would keep the loop from being vectorised"
    )]
    // So that NaN is outside.
    let is_outside = |value: T| !((value >= min) & (value <= max));
    scan(tensor, rows, is_outside)
}

/// Finds NaN and infinities.
pub(super) fn finite(tensor: &Tensor, rows: usize) -> Option<Violation> {
    let found = with_numbers!(tensor, non_finite(tensor, rows))??;
    let Found { rows, index, value } = found;
    let what = What::NonFinite { index, value };
    Some(Violation { rows, what })
}

fn non_finite<T: Number>(tensor: &Tensor, rows: usize) -> Option<Found> {
    scan(tensor, rows, |value: T| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(range: [f64; 2], tensor: &Tensor, rows: usize) -> Option<Violation> {
        let [min, max] = range;
        Range { min, max }.look(tensor, rows).unwrap()
    }

    #[test]
    fn bounds_are_allowed_in_every_type_and_nan_is_not() {
        let tenth = Tensor::from_f32([1], &[0.1]).unwrap();
        assert_eq!(
            look([0.0, 0.1], &tenth, 1),
            None,
            "f32's 0.1 is above f64's"
        );
        let whole = Tensor::from_elements([3], &[0_u8, 16, 17]).unwrap();
        let found = look([0.0, 16.5], &whole, 3).unwrap();
        assert_eq!(found.rows.named(), [2]);
        let nan = Tensor::from_f32([2], &[1.0, f32::NAN]).unwrap();
        assert_eq!(look([0.0, 16.0], &nan, 2).unwrap().rows.named(), [1]);
    }

    #[test]
    fn text_has_no_range() {
        let text = Tensor::from_strings([1], &["x"]).unwrap();
        let range = Range { min: 0.0, max: 1.0 };
        assert!(range.look(&text, 1).is_err());
        assert_eq!(finite(&text, 1), None);
    }

    proptest! {
        #[test]
        fn the_first_and_every_row_are_found_as_by_a_plain_loop(
            values in prop::collection::vec(prop_oneof![
                8 => -20.0_f32..20.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY),
            ], 1..64),
            min in -15.0_f32..0.0,
            max in 0.0_f32..15.0,
        ) {
            let width = 4;
            let rows = values.len().div_ceil(width);
            let mut values = values;
            values.resize(rows * width, 0.0);
            let tensor = Tensor::from_f32([rows, width], &values).unwrap();
            for (bad, found) in [
                (Box::new(|value: f32| {
                    value.is_nan() || value < min
                        || value > max
                }) as Box<dyn Fn(f32) -> bool>, look([min, max].map(f64::from), &tensor, rows)),
                (Box::new(|value: f32| !value.is_finite()), finite(&tensor, rows)),
            ] {
                let first = values.iter().position(|value| bad(*value));
                let mut expected: Vec<usize> = (0..values.len())
                    .filter(|at| bad(values[*at])).map(|at| at / width).collect();
                expected.dedup();
                let index = found.as_ref().map(|found| match found.what {
                    What::OutOfRange { index, .. } | What::NonFinite { index, .. } => index,
                    _ => usize::MAX,
                });
                prop_assert_eq!(index, first);
                prop_assert_eq!(found.map_or(0, |found| found.rows.count()), expected.len());
            }
        }
    }
}
