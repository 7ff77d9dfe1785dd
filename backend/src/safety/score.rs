//! How sure a model is of what it answers.
//!
//! Two scores of a row of outputs. *Confidence* is the largest of its probabilities. *Energy* is
//! −log Σ exp(x) over its logits: unlike the largest softmax, it also grows when all logits are
//! small, which is how networks answer what is unlike their training data (Liu et al., Energy-based
//! Out-of-distribution Detection, 2020).

use aegis_protocol::Tensor;

use super::finding::{Rows, What};
use super::number::{each_row, with_numbers};
use super::{Unable, Violation};

/// Finds rows whose largest probability is below `least`.
pub(super) fn unsure(
    least: f64,
    tensor: &Tensor,
    rows: usize,
) -> Result<Option<Violation>, Unable> {
    // In the type that was compared with, as the client sees it.
    let bound = narrowed(least);
    let what = |got| What::Unsure { least, got };
    worst(tensor, rows, confidence, |got| got >= bound, what)
}

/// Finds rows whose energy is above `limit`.
pub(super) fn energetic(
    limit: f64,
    tensor: &Tensor,
    rows: usize,
) -> Result<Option<Violation>, Unable> {
    let what = |energy| What::TooMuchEnergy { limit, energy };
    worst(tensor, rows, energy, |got| f64::from(got) <= limit, what)
}

/// The largest of a row; NaN when it holds one.
pub(super) fn confidence(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a.is_nan() || a > b { a } else { b };
    row.iter().copied().fold(f32::NEG_INFINITY, larger)
}

/// −log Σ exp(x) of a row, with the largest taken out so that nothing overflows.
pub(super) fn energy(row: &[f32]) -> f32 {
    let largest = confidence(row);
    if !largest.is_finite() {
        return -largest;
    }
    let sum: f32 = row.iter().map(|x| (x - largest).exp()).sum();
    -(largest + sum.ln())
}

/// Finds the rows whose score is not good, and tells of the first.
fn worst(
    tensor: &Tensor,
    rows: usize,
    score: fn(&[f32]) -> f32,
    is_good: impl Fn(f32) -> bool,
    what: impl Fn(f64) -> What,
) -> Result<Option<Violation>, Unable> {
    let (mut bad, mut first) = (Rows::default(), None);
    let mut see = |at: usize, row: &[f32]| {
        let got = score(row);
        if !is_good(got) {
            bad.add(at);
            first.get_or_insert(got);
        }
    };
    with_numbers!(tensor, each_row(tensor, rows, &mut see))
        .ok_or(Unable::NoNumbers(tensor.datatype()))?;
    Ok(first.map(|got| Violation {
        rows: bad,
        what: what(f64::from(got)),
    }))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the nearest is what is compared"
)]
fn narrowed(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_that_are_unsure_or_nan_are_named() {
        let tensor = Tensor::from_f32([3, 2], &[0.9, 0.1, 0.5, 0.5, f32::NAN, 1.0]).unwrap();
        let found = unsure(0.6, &tensor, 3).unwrap().unwrap();
        assert_eq!(found.rows.named(), [1, 2]);
        assert_eq!(
            found.what,
            What::Unsure {
                least: 0.6,
                got: 0.5
            }
        );
        let sure = Tensor::from_f32([1, 2], &[0.4, 0.6]).unwrap();
        assert_eq!(
            unsure(0.6, &sure, 1),
            Ok(None),
            "the bound itself is sure enough"
        );
    }

    #[test]
    fn small_logits_have_more_energy_than_large_ones() {
        let tensor = Tensor::from_f32([2, 3], &[9.0, 0.0, 0.0, 0.1, 0.0, 0.1]).unwrap();
        let found = energetic(-5.0, &tensor, 2).unwrap().unwrap();
        assert_eq!(found.rows.named(), [1]);
        let broken = Tensor::from_f32([1, 2], &[f32::NAN, 0.0]).unwrap();
        assert!(energetic(-5.0, &broken, 1).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn energy_is_that_of_the_formula_and_never_overflows(
            row in prop::collection::vec(-80.0_f32..80.0, 1..20),
            shift in prop_oneof![Just(0.0_f32), Just(1e4)],
        ) {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            let shifted: Vec<f32> = row.iter().map(|x| x + shift).collect();
            let expected = -(sum.ln() + f64::from(shift));
            let got = f64::from(energy(&shifted));
            prop_assert!((got - expected).abs() <= 1e-5 * (1.0 + expected.abs()) + 1e-2 * f64::from(shift > 0.0));
        }
    }
}
