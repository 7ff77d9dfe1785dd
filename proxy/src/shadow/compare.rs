//! Compares two answers to one request, output by output, number by number.
//!
//! Two numbers agree when |a − b| ≤ atol + rtol · |a|, with a from the version that
//! answered the client: the rule of `numpy.isclose`, with the primary as what is
//! right. The relative difference is |a − b| ÷ max(|a|, |b|), from 0 to 2, so
//! that it is defined for a zero too. Integers are subtracted as integers. Two NaN
//! are alike, as are two infinities of one sign; a number and a NaN differ by
//! infinity. Byte strings are alike or differ by 1.
//!
//! Of outputs of floating-point numbers whose last axis has at least two elements,
//! the place of the largest is compared too, row by row: that is what a classifier
//! says in the end.

use aegis_protocol::{Datatype, Element, InferResponse, Tensor};

/// How far two numbers may be apart and still agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// `rtol`, in parts of the primary's number.
    pub relative: f64,
    /// `atol`.
    pub absolute: f64,
}

/// How far one output of two answers is apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The output's name.
    pub output: String,
    /// The largest |a − b|; infinite where one of the two is no number.
    pub absolute: f64,
    /// The largest |a − b| ÷ max(|a|, |b|).
    pub relative: f64,
    /// Whether every number is within the tolerance.
    pub agrees: bool,
    /// Rows whose largest element was compared.
    pub rows: u64,
    /// Those where it is at the same place.
    pub same_largest: u64,
}

/// Why two answers cannot be compared number by number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// One has an output that the other lacks.
    #[error("output {output:?} is in one answer only")]
    Outputs {
        /// Its name.
        output: String,
    },
    /// An output has another shape or datatype.
    #[error("output {output:?} is {primary} in one answer and {shadow} in the other")]
    Kind {
        /// Its name.
        output: String,
        /// What it is in the primary's answer.
        primary: String,
        /// And in the shadow's.
        shadow: String,
    },
}

/// Compares the shadow's answer with the primary's, in the order of the primary's
/// outputs.
///
/// # Errors
/// When the answers do not have the same outputs with the same shapes and datatypes.
pub fn compare(
    primary: &InferResponse,
    shadow: &InferResponse,
    tolerance: Tolerance,
) -> Result<Vec<Difference>, Mismatch> {
    for named in &shadow.outputs {
        if primary.output(&named.name).is_none() {
            let output = named.name.clone();
            return Err(Mismatch::Outputs { output });
        }
    }
    let one = |named: &aegis_protocol::NamedTensor| {
        let output = named.name.clone();
        let Some(other) = shadow.output(&named.name) else {
            return Err(Mismatch::Outputs { output });
        };
        if (named.tensor.datatype(), named.tensor.shape()) != (other.datatype(), other.shape()) {
            return Err(Mismatch::Kind {
                output,
                primary: kind(&named.tensor),
                shadow: kind(other),
            });
        }
        Ok(difference(output, &named.tensor, other, tolerance))
    };
    primary.outputs.iter().map(one).collect()
}

fn kind(tensor: &Tensor) -> String {
    format!("{} {}", tensor.datatype(), tensor.shape())
}

/// Both have one datatype and one shape.
fn difference(output: String, a: &Tensor, b: &Tensor, tolerance: Tolerance) -> Difference {
    let whole = |size, get: fn(&[u8]) -> i128| (integers([a, b], size, get, tolerance), (0, 0));
    let (apart, (rows, same_largest)) = match a.datatype() {
        Datatype::Fp16 => floats::<half::f16>([a, b], tolerance),
        Datatype::Bf16 => floats::<half::bf16>([a, b], tolerance),
        Datatype::Fp32 => floats::<f32>([a, b], tolerance),
        Datatype::Fp64 => floats::<f64>([a, b], tolerance),
        Datatype::Bool | Datatype::Uint8 => whole(1, |raw| raw[0].into()),
        Datatype::Int8 => whole(1, |raw| i8::get(raw).into()),
        Datatype::Uint16 => whole(2, |raw| u16::get(raw).into()),
        Datatype::Int16 => whole(2, |raw| i16::get(raw).into()),
        Datatype::Uint32 => whole(4, |raw| u32::get(raw).into()),
        Datatype::Int32 => whole(4, |raw| i32::get(raw).into()),
        Datatype::Uint64 => whole(8, |raw| u64::get(raw).into()),
        Datatype::Int64 => whole(8, |raw| i64::get(raw).into()),
        Datatype::Bytes => (Apart::of_bytes(a.data() == b.data()), (0, 0)),
    };
    Difference {
        output,
        absolute: apart.absolute,
        relative: apart.relative,
        agrees: apart.agrees,
        rows,
        same_largest,
    }
}

/// The largest differences so far.
#[derive(Clone, Copy, Debug)]
struct Apart {
    absolute: f64,
    relative: f64,
    agrees: bool,
}

// === impl Apart ===

impl Apart {
    const NONE: Self = Self {
        absolute: 0.0,
        relative: 0.0,
        agrees: true,
    };

    fn of_bytes(alike: bool) -> Self {
        let far = f64::from(u8::from(!alike));
        Self {
            absolute: far,
            relative: far,
            agrees: alike,
        }
    }

    /// Takes two numbers in that are `far` apart; `scale` is the larger of their
    /// magnitudes, `right` that of the primary's.
    fn add(&mut self, far: f64, scale: f64, right: f64, tolerance: Tolerance) {
        if far == 0.0 {
            return;
        }
        let relative = if far.is_finite() { far / scale } else { far };
        self.absolute = self.absolute.max(far);
        self.relative = self.relative.max(relative);
        self.agrees &= far <= tolerance.absolute + tolerance.relative * right && far.is_finite();
    }
}

/// The two tensors' raw bytes, so many at a time.
fn pairs(tensors: [&Tensor; 2], size: usize) -> impl Iterator<Item = [&[u8]; 2]> {
    let [a, b] = tensors.map(|tensor| tensor.data().chunks_exact(size));
    a.zip(b).map(|(a, b)| [a, b])
}

fn floats<T: Element + Into<f64>>(
    tensors: [&Tensor; 2],
    tolerance: Tolerance,
) -> (Apart, (u64, u64)) {
    let mut apart = Apart::NONE;
    for pair in pairs(tensors, T::SIZE) {
        let [a, b]: [f64; 2] = pair.map(|raw| T::get(raw).into());
        let alike = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        if alike {
            continue;
        }
        let far = (a - b).abs();
        let far = if far.is_nan() { f64::INFINITY } else { far };
        apart.add(far, a.abs().max(b.abs()), a.abs(), tolerance);
    }
    (apart, same_largest::<T>(tensors))
}

fn integers(
    tensors: [&Tensor; 2],
    size: usize,
    get: fn(&[u8]) -> i128,
    tolerance: Tolerance,
) -> Apart {
    let mut apart = Apart::NONE;
    for pair in pairs(tensors, size) {
        let [a, b] = pair.map(get);
        let scale = a.unsigned_abs().max(b.unsigned_abs());
        let right = a.unsigned_abs();
        apart.add(a.abs_diff(b) as f64, scale as f64, right as f64, tolerance);
    }
    apart
}

/// How many rows there are along the last axis, and in how many of them the
/// largest element is at the same place.
fn same_largest<T: Element + Into<f64>>(tensors: [&Tensor; 2]) -> (u64, u64) {
    let width = tensors[0].shape().last().copied().unwrap_or(0);
    if width < 2 {
        return (0, 0);
    }
    let rows = pairs(tensors, width * T::SIZE);
    rows.fold((0, 0), |(rows, same), [a, b]| {
        let alike = largest::<T>(a) == largest::<T>(b);
        (rows + 1, same + u64::from(alike))
    })
}

/// The place of the first of the largest numbers; none when one is no number.
fn largest<T: Element + Into<f64>>(row: &[u8]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, raw) in row.chunks_exact(T::SIZE).enumerate() {
        let value: f64 = T::get(raw).into();
        if value.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, largest)| value > largest) {
            best = Some((at, value));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
