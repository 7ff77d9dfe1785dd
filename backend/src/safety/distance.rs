//! Rows that are unlike the data that a model knows.

use std::sync::Arc;

use aegis_protocol::Tensor;

use super::finding::{Rows, What};
use super::gaussian::Gaussian;
use super::number::{each_row, with_numbers};
use super::{Unable, Violation};

/// A limit to the distance from a distribution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distance {
    /// The distribution, once a version's statistics are there.
    pub known: Option<Arc<Gaussian>>,
    /// The largest distance that is allowed: from `model.toml`, or else fitted.
    pub limit: Option<f64>,
}

// === impl Distance ===

impl Distance {
    /// Finds rows that are too far.
    pub(super) fn look(&self, tensor: &Tensor, rows: usize) -> Result<Option<Violation>, Unable> {
        let (Some(known), Some(limit)) = (&self.known, self.limit) else {
            return Err(Unable::NoStatistics);
        };
        let (expected, got) = (known.width(), tensor.element_count() / rows.max(1));
        if expected != got {
            return Err(Unable::Width { expected, got });
        }
        let (mut bad, mut first) = (Rows::default(), None);
        let mut room = Vec::with_capacity(expected);
        let mut see = |at: usize, row: &[f32]| {
            let distance = f64::from(known.distance(row, &mut room));
            // A distance that is NaN is too far as well.
            if distance.is_nan() || distance > limit {
                bad.add(at);
                first.get_or_insert(distance);
            }
        };
        with_numbers!(tensor, each_row(tensor, rows, &mut see))
            .ok_or(Unable::NoNumbers(tensor.datatype()))?;
        Ok(first.map(|distance| Violation {
            rows: bad,
            what: What::TooFar { limit, distance },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(limit: f64) -> Distance {
        Distance {
            known: Some(Arc::new(
                Gaussian::new(&[0.0, 0.0], &[1.0, 0.0, 2.0]).unwrap(),
            )),
            limit: Some(limit),
        }
    }

    #[test]
    fn only_rows_over_the_limit_are_named() {
        let rows = [0.0, 0.0, 3.0, 0.0, 0.0, 3.0, f32::NAN, 0.0];
        let tensor = Tensor::from_f32([4, 2], &rows).unwrap();
        let found = within(2.0).look(&tensor, 4).unwrap().unwrap();
        assert_eq!(found.rows.named(), [1, 3]);
        let what = What::TooFar {
            limit: 2.0,
            distance: 3.0,
        };
        assert_eq!(found.what, what);
    }

    #[test]
    fn rows_of_another_width_and_absent_statistics_fail_the_check() {
        let tensor = Tensor::from_f32([1, 3], &[0.0; 3]).unwrap();
        let width = Unable::Width {
            expected: 2,
            got: 3,
        };
        assert_eq!(within(2.0).look(&tensor, 1), Err(width));
        let absent = Distance::default().look(&tensor, 1);
        assert_eq!(absent, Err(Unable::NoStatistics));
    }
}
