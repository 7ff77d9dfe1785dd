//! How far a row is from the data that a model knows: the Mahalanobis distance.
//!
//! A row x has the distance |W (x − μ)|, where μ is the mean of the data and W the inverse of L, the
//! Cholesky factor of its covariance (L Lᵀ = Σ). L is what is stored: that its diagonal is positive
//! *is* that Σ is positive definite, so that a file cannot hold a distance that makes no sense. W is
//! computed once, so that a row costs one pass over a triangle, without divisions, in eight lanes.
//!
//! Triangles are packed: row after row, each up to its diagonal.

/// The most numbers of a row; its triangle has half their square.
pub(super) const MAX_WIDTH: usize = 4_096;

/// Numbers that are multiplied and added at the same time.
const LANES: usize = 8;

/// A normal distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: Vec<f32>,
    /// W, packed.
    whitening: Vec<f32>,
}

/// Why numbers are no distribution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GaussianError {
    /// The mean is empty or too long.
    #[error("expected a mean of 1 to {MAX_WIDTH} numbers, got {got}")]
    Width {
        /// Its length.
        got: usize,
    },
    /// The triangle has another size.
    #[error("expected a triangle of {expected} numbers for a mean of {width}, got {got}")]
    Triangle {
        /// Length of the mean.
        width: usize,
        /// Numbers of such a triangle.
        expected: usize,
        /// Numbers of this one.
        got: usize,
    },
    /// A number is NaN or infinite.
    #[error("expected finite numbers")]
    NotFinite,
    /// The covariance is not positive definite.
    #[error("expected a positive definite covariance, got {got} at place {at} of the diagonal")]
    NotPositive {
        /// Which row, from 0.
        at: usize,
        /// What stands there.
        got: f64,
    },
}

// === impl Gaussian ===

impl Gaussian {
    /// Takes a mean and the packed Cholesky factor of a covariance.
    ///
    /// # Errors
    ///
    /// See [`GaussianError`].
    pub fn new(mean: &[f64], cholesky: &[f64]) -> Result<Self, GaussianError> {
        let width = mean.len();
        if width == 0 || width > MAX_WIDTH {
            return Err(GaussianError::Width { got: width });
        }
        let (expected, got) = (packed(width), cholesky.len());
        if expected != got {
            return Err(GaussianError::Triangle {
                width,
                expected,
                got,
            });
        }
        if !mean.iter().chain(cholesky).all(|number| number.is_finite()) {
            return Err(GaussianError::NotFinite);
        }
        let diagonal = |at: usize| cholesky[packed(at) + at];
        if let Some(at) = (0..width).find(|at| diagonal(*at) <= 0.0) {
            let got = diagonal(at);
            return Err(GaussianError::NotPositive { at, got });
        }
        let whitening: Vec<f32> = inverse(cholesky, width).map(narrowed).collect();
        let mean: Vec<f32> = mean.iter().copied().map(narrowed).collect();
        if !whitening
            .iter()
            .chain(&mean)
            .all(|number| number.is_finite())
        {
            return Err(GaussianError::NotFinite);
        }
        Ok(Self { mean, whitening })
    }

    /// Numbers of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The distance of a row of [`width`](Self::width) numbers. `centered` is room for that.
    #[must_use]
    pub fn distance(&self, row: &[f32], centered: &mut Vec<f32>) -> f32 {
        debug_assert_eq!(row.len(), self.mean.len());
        centered.clear();
        centered.extend(row.iter().zip(&self.mean).map(|(x, mean)| x - mean));
        let (mut rest, mut square) = (self.whitening.as_slice(), 0.0);
        for at in 0..centered.len() {
            let (line, below) = rest.split_at(at + 1);
            let part = dot(line, &centered[..=at]);
            square += part * part;
            rest = below;
        }
        square.sqrt()
    }
}

/// Numbers of a packed triangle.
pub(super) const fn packed(width: usize) -> usize {
    width * (width + 1) / 2
}

/// The packed Cholesky factor of a packed symmetric matrix.
///
/// # Errors
///
/// Where the matrix is not positive definite.
pub(super) fn cholesky(matrix: &[f64], width: usize) -> Result<Vec<f64>, GaussianError> {
    let mut factor = matrix.to_vec();
    for row in 0..width {
        for column in 0..=row {
            let (a, b) = (packed(row), packed(column));
            let known = (0..column).map(|at| factor[a + at] * factor[b + at]);
            let rest = factor[a + column] - known.sum::<f64>();
            factor[a + column] = if column < row {
                rest / factor[b + column]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return Err(GaussianError::NotPositive { at: row, got: rest });
            };
        }
    }
    Ok(factor)
}

/// The inverse of a packed lower triangle, packed.
fn inverse(factor: &[f64], width: usize) -> impl Iterator<Item = f64> + use<> {
    let mut inverse = vec![0.0; factor.len()];
    for row in 0..width {
        let line = &factor[packed(row)..=packed(row) + row];
        let (above, own) = inverse.split_at_mut(packed(row));
        // own = (e_row − Σ line[at] · inverse[at]) / line[row]
        for (at, factor) in line[..row].iter().enumerate() {
            let known = &above[packed(at)..=packed(at) + at];
            for (own, known) in own.iter_mut().zip(known) {
                *own -= factor * known;
            }
        }
        own[row] += 1.0;
        own[..=row].iter_mut().for_each(|own| *own /= line[row]);
    }
    inverse.into_iter()
}

/// In lanes: a plain sum of floats has an order that a compiler must keep.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest is what is wanted"
)]
fn narrowed(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distance(gaussian: &Gaussian, row: &[f32]) -> f32 {
        gaussian.distance(row, &mut Vec::new())
    }

    #[test]
    fn with_unit_covariance_it_is_the_euclidean_distance() {
        let unit = Gaussian::new(&[1.0, 1.0], &[1.0, 0.0, 1.0]).unwrap();
        assert!((distance(&unit, &[4.0, 5.0]) - 5.0).abs() < 1e-6);
        assert!(distance(&unit, &[f32::NAN, 5.0]).is_nan());
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        let error = |mean: &[f64], factor: &[f64]| Gaussian::new(mean, factor).unwrap_err();
        assert_eq!(error(&[], &[]), GaussianError::Width { got: 0 });
        let triangle = GaussianError::Triangle {
            width: 2,
            expected: 3,
            got: 2,
        };
        assert_eq!(error(&[0.0; 2], &[1.0; 2]), triangle);
        assert_eq!(error(&[0.0], &[f64::NAN]), GaussianError::NotFinite);
        let flat = GaussianError::NotPositive { at: 1, got: 0.0 };
        assert_eq!(error(&[0.0; 2], &[1.0, 3.0, 0.0]), flat);
        let too_steep = error(&[0.0], &[1e-60]);
        assert_eq!(too_steep, GaussianError::NotFinite, "its inverse overflows");
    }

    proptest! {
        /// Σ = A Aᵀ + I of a random A: the factor gives Σ back, and the distance is that of the
        /// definition, (x − μ)ᵀ Σ⁻¹ (x − μ), where Σ⁻¹ (x − μ) is found by Gaussian elimination.
        #[test]
        fn it_is_the_distance_of_the_definition(
            width in 1_usize..12,
            seed in prop::collection::vec(-2.0_f64..2.0, 12 * 12 + 24),
        ) {
            let a = |row: usize, column: usize| seed[row * 12 + column];
            let sigma = |i: usize, j: usize| {
                (0..width).map(|k| a(i, k) * a(j, k)).sum::<f64>() + f64::from(u8::from(i == j))
            };
            let matrix: Vec<f64> = (0..width).flat_map(|i| (0..=i).map(move |j| (i, j)))
                .map(|(i, j)| sigma(i, j)).collect();
            let factor = cholesky(&matrix, width).unwrap();
            for i in 0..width {
                for j in 0..=i {
                    let back: f64 = (0..=j).map(|k| factor[packed(i) + k] * factor[packed(j) + k]).sum();
                    prop_assert!((back - sigma(i, j)).abs() < 1e-9);
                }
            }
            let (mean, x) = (&seed[144..144 + width], &seed[156..156 + width]);
            let mut system: Vec<Vec<f64>> = (0..width).map(|i| {
                (0..width).map(|j| sigma(i, j)).chain([x[i] - mean[i]]).collect()
            }).collect();
            for pivot in 0..width {
                for row in 0..width {
                    if row != pivot {
                        let by = system[row][pivot] / system[pivot][pivot];
                        let from = system[pivot].clone();
                        for (value, from) in system[row].iter_mut().zip(from) {
                            *value -= by * from;
                        }
                    }
                }
            }
            let square: f64 = (0..width)
                .map(|i| system[i][width] / system[i][i] * (x[i] - mean[i])).sum();
            let row: Vec<f32> = x.iter().map(|x| narrowed(*x)).collect();
            let got = distance(&Gaussian::new(mean, &factor).unwrap(), &row);
            prop_assert!((f64::from(got) - square.sqrt()).abs() < 1e-3 * (1.0 + square.sqrt()));
        }
    }
}
