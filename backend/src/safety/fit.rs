//! Fits to rows of data what later rows are compared with.
//!
//! **Covariance.** Data with more numbers in a row than rows, or with numbers that never change (the
//! corners of an image), have a covariance that cannot be inverted. It is shrunk towards a multiple
//! of the identity by as much as Ledoit and Wolf prove best (A well-conditioned estimator for
//! large-dimensional covariance matrices, 2004): the data say how much.
//!
//! **Limit.** Rows that were fitted to look nearer than they are, so that limits come from other rows,
//! drawn by a hash of their number. Of n of those, the limit is the ⌈(n + 1)(1 − rate)⌉th smallest
//! score, which is the finite-sample correction of split conformal prediction: whatever the
//! distribution, a new row of it lies above with a probability of at most `rate`.

use super::gaussian::{Gaussian, GaussianError, MAX_WIDTH, cholesky, packed};
use super::score::energy;
use super::statistics::Fitted;

/// Of so many rows, one chooses the limit and the others are fitted to.
const CALIBRATED_OF: u64 = 4;

/// At the least, so that numbers that never change have a variance.
const MIN_SHRINKAGE: f64 = 1e-6;

/// What came of a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What to compare with.
    pub fitted: Fitted,
    /// Rows that it was fitted to.
    pub fitted_rows: usize,
    /// Rows that chose the limit.
    pub calibrated_rows: usize,
}

/// Why nothing can be fitted. The data's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// No such share.
    #[error("expected a false positive rate over 0 and under 1, got {got}")]
    Rate {
        /// The rate.
        got: f64,
    },
    /// No limit of these rows has that rate.
    #[error(
        "expected at least {needed} rows beside the fitted ones for a false positive rate of {rate}, got {got}"
    )]
    TooFew {
        /// The rate.
        rate: f64,
        /// Rows that it needs.
        needed: usize,
        /// Rows that there are.
        got: usize,
    },
    /// Rows have no common width, or too many numbers.
    #[error("expected rows of {expected} numbers, from 1 to {MAX_WIDTH}, got one of {got}")]
    Width {
        /// Numbers of the first row.
        expected: usize,
        /// Numbers of another.
        got: usize,
    },
    /// A number is NaN or infinite.
    #[error("expected finite numbers, got another in row {row}")]
    NotFinite {
        /// Which row, from 0.
        row: usize,
    },
    /// All rows are the same, or nearly so.
    #[error("the rows do not differ enough to have a covariance")]
    Flat(#[from] GaussianError),
}

/// Fits a normal distribution, and a limit to the distance from it.
///
/// # Errors
///
/// See [`FitError`].
pub fn mahalanobis(rows: &[Vec<f32>], rate: f64) -> Result<Outcome, FitError> {
    check(rows)?;
    let (fitted, others) = split(rows);
    if fitted.is_empty() {
        return Err(too_few(rate, others.len()));
    }
    let mean = mean(&fitted);
    let (matrix, shrinkage) = covariance(&fitted, &mean);
    let factor = cholesky(&matrix, mean.len())?;
    let known = Gaussian::new(&mean, &factor)?;
    let mut room = Vec::new();
    let distances = others.iter().map(|row| known.distance(row, &mut room));
    Ok(Outcome {
        fitted_rows: fitted.len(),
        calibrated_rows: others.len(),
        fitted: Fitted::Mahalanobis {
            limit: limit(distances.map(f64::from).collect(), rate)?,
            shrinkage,
            mean,
            cholesky: factor,
        },
    })
}

/// Fits a limit to the energy of logits; nothing else is fitted, and so every row calibrates.
///
/// # Errors
///
/// See [`FitError`].
pub fn energies(rows: &[Vec<f32>], rate: f64) -> Result<Outcome, FitError> {
    check(rows)?;
    let energies = rows.iter().map(|row| f64::from(energy(row)));
    Ok(Outcome {
        fitted_rows: 0,
        calibrated_rows: rows.len(),
        fitted: Fitted::Energy {
            limit: limit(energies.collect(), rate)?,
        },
    })
}

/// The least limit that at most a share of `rate` of new scores like these exceeds.
fn limit(mut scores: Vec<f64>, rate: f64) -> Result<f64, FitError> {
    if !(rate > 0.0 && rate < 1.0) {
        return Err(FitError::Rate { got: rate });
    }
    scores.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length, rounded up, is a place"
    )]
    let place = ((scores.len() + 1) as f64 * (1.0 - rate)).ceil() as usize;
    let limit = place.checked_sub(1).and_then(|at| scores.get(at));
    limit.copied().ok_or_else(|| too_few(rate, scores.len()))
}

fn too_few(rate: f64, got: usize) -> FitError {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, rounded up"
    )]
    let needed = (1.0 / rate - 1.0).ceil() as usize;
    FitError::TooFew { rate, needed, got }
}

fn check(rows: &[Vec<f32>]) -> Result<(), FitError> {
    let expected = rows.first().map_or(0, Vec::len);
    for (at, row) in rows.iter().enumerate() {
        let got = row.len();
        if got != expected || got == 0 || got > MAX_WIDTH {
            return Err(FitError::Width { expected, got });
        }
        if !row.iter().all(|number| number.is_finite()) {
            return Err(FitError::NotFinite { row: at });
        }
    }
    Ok(())
}

/// Rows to fit to, and rows to choose a limit by.
fn split(rows: &[Vec<f32>]) -> (Vec<&[f32]>, Vec<&[f32]>) {
    let numbered = (0_u64..).zip(rows.iter().map(Vec::as_slice));
    let (others, fitted): (Vec<_>, Vec<_>) =
        numbered.partition(|(at, _)| mixed(*at).is_multiple_of(CALIBRATED_OF));
    let rows = |half: Vec<(u64, _)>| half.into_iter().map(|(_, row)| row).collect();
    (rows(fitted), rows(others))
}

/// `SplitMix64`'s finalizer: data are often sorted, or go round, and this does not.
fn mixed(at: u64) -> u64 {
    let mut x = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn mean(rows: &[&[f32]]) -> Vec<f64> {
    let mut mean = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for row in rows {
        for (sum, number) in mean.iter_mut().zip(*row) {
            *sum += f64::from(*number);
        }
    }
    for sum in &mut mean {
        *sum /= rows.len() as f64;
    }
    mean
}

/// The packed covariance, shrunk, and by how much.
fn covariance(rows: &[&[f32]], mean: &[f64]) -> (Vec<f64>, f64) {
    let (width, n) = (mean.len(), rows.len() as f64);
    let mut matrix = vec![0.0; packed(width)];
    let mut fourth_powers = 0.0;
    for row in rows {
        let centered = row.iter().zip(mean).map(|(x, mean)| f64::from(*x) - mean);
        let centered: Vec<f64> = centered.collect();
        fourth_powers += centered.iter().map(|x| x * x).sum::<f64>().powi(2);
        for (at, x) in centered.iter().enumerate() {
            let line = &mut matrix[packed(at)..=packed(at) + at];
            for (sum, y) in line.iter_mut().zip(&centered) {
                *sum += x * y;
            }
        }
    }
    for sum in &mut matrix {
        *sum /= n;
    }
    let diagonal = |at: usize| packed(at) + at;
    let variance = (0..width).map(|at| matrix[diagonal(at)]).sum::<f64>() / width as f64;
    let shrinkage = shrinkage(&matrix, width, variance, fourth_powers, n);
    for value in &mut matrix {
        *value *= 1.0 - shrinkage;
    }
    for at in 0..width {
        matrix[diagonal(at)] += shrinkage * variance;
    }
    (matrix, shrinkage)
}

/// Ledoit and Wolf's: the error of the covariance, in parts of its distance from the identity.
fn shrinkage(matrix: &[f64], width: usize, variance: f64, fourth_powers: f64, n: f64) -> f64 {
    let squares: f64 = (0..width)
        .map(|at| {
            let line = &matrix[packed(at)..packed(at) + at];
            let diagonal = matrix[packed(at) + at];
            2.0 * line.iter().map(|x| x * x).sum::<f64>() + diagonal * diagonal
        })
        .sum();
    let distance = squares - width as f64 * variance * variance;
    let error = (fourth_powers / n - squares) / n;
    if distance <= 0.0 {
        return 1.0;
    }
    (error / distance).clamp(MIN_SHRINKAGE, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A normal number or nearly, from twelve uniform ones.
    fn normal(seed: &mut u64) -> f32 {
        let mut uniform = || {
            *seed += 1;
            (mixed(*seed) >> 40) as f32 / (1_u64 << 24) as f32
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }

    /// Rows whose second number follows the first, and whose third never changes.
    fn rows(seed: u64, rows: usize) -> Vec<Vec<f32>> {
        let mut seed = seed << 32;
        let row = |_| {
            let (a, b) = (normal(&mut seed), normal(&mut seed));
            vec![5.0 + a, 2.0 * a + 0.1 * b, 7.0]
        };
        (0..rows).map(row).collect()
    }

    fn distance(fitted: &Fitted, row: &[f32]) -> (f64, f64) {
        let Fitted::Mahalanobis {
            limit,
            mean,
            cholesky,
            ..
        } = fitted
        else {
            panic!("{fitted:?}");
        };
        let known = Gaussian::new(mean, cholesky).unwrap();
        (f64::from(known.distance(row, &mut Vec::new())), *limit)
    }

    #[test]
    fn what_breaks_a_relation_is_far_though_each_number_is_usual() {
        let fitted = mahalanobis(&rows(1, 2_000), 0.01).unwrap();
        assert!(
            fitted.fitted_rows > 1_400 && fitted.calibrated_rows > 400,
            "{fitted:?}"
        );
        let (usual, limit) = distance(&fitted.fitted, &[6.0, 2.0, 7.0]);
        let (strange, _) = distance(&fitted.fitted, &[6.0, -2.0, 7.0]);
        let (changed, _) = distance(&fitted.fitted, &[6.0, 2.0, 8.0]);
        assert!(usual < limit, "{usual} {limit}");
        assert!(
            strange > 3.0 * limit && changed > 3.0 * limit,
            "{strange} {changed} {limit}"
        );
    }

    #[test]
    fn new_rows_are_over_the_limit_at_about_the_rate_that_was_asked_for() {
        // The share of 4,000 rows varies by the rows themselves and by the 1,000 that chose the limit:
        // a standard deviation of 0.008 around 0.05, of which five are allowed.
        for seed in 1..4 {
            let fitted = mahalanobis(&rows(seed, 4_000), 0.05).unwrap().fitted;
            let new = rows(seed + 100, 4_000);
            let over = new.iter().filter(|row| {
                let (distance, limit) = distance(&fitted, row);
                distance > limit
            });
            let share = over.count() as f64 / new.len() as f64;
            assert!((share - 0.05).abs() < 0.04, "seed {seed}: {share}");
        }
    }

    #[test]
    fn fewer_rows_than_numbers_have_a_distance_too() {
        let mut seed = 9;
        let rows: Vec<Vec<f32>> = (0..60)
            .map(|_| (0..200).map(|_| normal(&mut seed)).collect())
            .collect();
        let fitted = mahalanobis(&rows, 0.2).unwrap().fitted;
        assert!(distance(&fitted, &rows[0]).0.is_finite());
    }

    #[test]
    fn data_that_fit_nothing_are_refused() {
        let rate = |rate| mahalanobis(&rows(1, 100), rate).unwrap_err();
        assert_eq!(rate(1.0), FitError::Rate { got: 1.0 });
        assert!(matches!(rate(0.001), FitError::TooFew { needed: 999, .. }));
        let same = vec![vec![1.0, 2.0]; 50];
        assert!(matches!(
            mahalanobis(&same, 0.2).unwrap_err(),
            FitError::Flat(_)
        ));
        let ragged = vec![vec![1.0], vec![1.0, 2.0]];
        let width = FitError::Width {
            expected: 1,
            got: 2,
        };
        assert_eq!(mahalanobis(&ragged, 0.2).unwrap_err(), width);
        let nan = vec![vec![1.0], vec![f32::NAN]];
        assert_eq!(
            energies(&nan, 0.2).unwrap_err(),
            FitError::NotFinite { row: 1 }
        );
        assert!(matches!(
            mahalanobis(&[], 0.2).unwrap_err(),
            FitError::TooFew { .. }
        ));
    }

    proptest! {
        /// The limit is one of the scores, and so few lie above it that one more may, too.
        #[test]
        fn at_most_the_share_that_was_asked_for_lies_above_the_limit(
            scores in prop::collection::vec(-1e3_f64..1e3, 1..300),
            rate in 0.005_f64..0.9,
        ) {
            match limit(scores.clone(), rate) {
                Ok(limit) => {
                    let above = scores.iter().filter(|score| **score > limit).count();
                    prop_assert!(scores.contains(&limit));
                    prop_assert!(above as f64 <= rate * (scores.len() + 1) as f64 + 1e-9);
                }
                Err(_) => prop_assert!((scores.len() as f64) < 1.0 / rate - 1.0 + 1e-6),
            }
        }
    }
}
