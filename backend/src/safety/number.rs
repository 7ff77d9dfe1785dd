//! Numbers of any datatype, looked at without a copy.
//!
//! What is right is the usual case, so a tensor is first only asked whether anything is wrong: a fold
//! without branches, which the compiler turns into vector instructions. Only when something is, it
//! is walked over again to say what, and in which rows.
//!
//! Bounds are turned into the tensor's own type before they are compared: the FP32 next to 0.1 lies
//! above the FP64 next to 0.1, and a client that sends the bound itself must not be refused.

use aegis_protocol::{Element, Tensor};
use half::{bf16, f16};

use super::finding::Rows;

/// Elements between two looks at whether anything was wrong.
const BLOCK: usize = 4_096;

/// An element that is a number.
pub(super) trait Number: Element + PartialOrd {
    /// The least value that is not below `bound`, or the type's own bound.
    fn lower(bound: f64) -> Self;

    /// The largest value that is not above `bound`, or the type's own bound.
    fn upper(bound: f64) -> Self;

    /// As the widest of them, rounded where it must be.
    fn wide(self) -> f64;

    /// As most models compute, rounded where it must be.
    fn narrow(self) -> f32;

    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

/// An element that is wrong, and the rows that hold such.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) rows: Rows,
    /// Of the first, in row-major order.
    pub(super) index: usize,
    pub(super) value: f64,
}

/// Calls a generic function with the tensor's datatype; `None` where its elements are no numbers.
macro_rules! with_numbers {
    ($tensor:expr, $function:ident($($argument:expr),*)) => {{
        use aegis_protocol::Datatype;
        match $tensor.datatype() {
            Datatype::Uint8 => Some($function::<u8>($($argument),*)),
            Datatype::Uint16 => Some($function::<u16>($($argument),*)),
            Datatype::Uint32 => Some($function::<u32>($($argument),*)),
            Datatype::Uint64 => Some($function::<u64>($($argument),*)),
            Datatype::Int8 => Some($function::<i8>($($argument),*)),
            Datatype::Int16 => Some($function::<i16>($($argument),*)),
            Datatype::Int32 => Some($function::<i32>($($argument),*)),
            Datatype::Int64 => Some($function::<i64>($($argument),*)),
            Datatype::Fp16 => Some($function::<half::f16>($($argument),*)),
            Datatype::Bf16 => Some($function::<half::bf16>($($argument),*)),
            Datatype::Fp32 => Some($function::<f32>($($argument),*)),
            Datatype::Fp64 => Some($function::<f64>($($argument),*)),
            Datatype::Bool | Datatype::Bytes => None,
        }
    }};
}
pub(super) use with_numbers;

/// Finds the elements of a tensor of so many rows that are bad.
pub(super) fn scan<T: Number>(
    tensor: &Tensor,
    rows: usize,
    is_bad: impl Fn(T) -> bool,
) -> Option<Found> {
    let data = tensor.data();
    let is_clean = |block: &[u8]| {
        let elements = block.chunks_exact(T::SIZE).map(T::get);
        !elements.fold(false, |any, element| any | is_bad(element))
    };
    if data.chunks(BLOCK * T::SIZE).all(is_clean) {
        return None;
    }
    let width = (tensor.element_count() / rows.max(1)).max(1);
    let elements = data.chunks_exact(T::SIZE).map(T::get).enumerate();
    let mut bad = elements.filter(|(_, element)| is_bad(*element)).peekable();
    let (index, value) = bad.peek().map(|(index, value)| (*index, value.wide()))?;
    let mut rows = Rows::default();
    for (index, _) in bad {
        rows.add(index / width);
    }
    Some(Found { rows, index, value })
}

/// The rows of a tensor of so many; none where its elements are no numbers.
#[must_use]
pub fn rows_of(tensor: &Tensor, rows: usize) -> Option<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(rows);
    let mut see = |_, row: &[f32]| all.push(row.to_vec());
    with_numbers!(tensor, each_row(tensor, rows, &mut see))?;
    Some(all)
}

/// Hands out a tensor of so many rows row by row.
pub(super) fn each_row<T: Number>(
    tensor: &Tensor,
    rows: usize,
    see: &mut dyn FnMut(usize, &[f32]),
) {
    let width = tensor.element_count() / rows.max(1);
    if width == 0 {
        return;
    }
    let mut row = Vec::with_capacity(width);
    for (at, raw) in tensor.data().chunks_exact(width * T::SIZE).enumerate() {
        row.clear();
        row.extend(raw.chunks_exact(T::SIZE).map(|raw| T::get(raw).narrow()));
        see(at, &row);
    }
}

// === numbers ===

macro_rules! whole {
    ($($type:ty),+ $(,)?) => {$(
        #[allow(
            clippy::allow_attributes,
            clippy::cast_lossless,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from a float saturates, which the trait promises; the others depend on the type"
        )]
        impl Number for $type {
            fn lower(bound: f64) -> Self {
                bound.ceil() as Self
            }

            fn upper(bound: f64) -> Self {
                bound.floor() as Self
            }

            fn wide(self) -> f64 {
                self as f64
            }

            fn narrow(self) -> f32 {
                self as f32
            }

            fn is_finite(self) -> bool {
                true
            }
        }
    )+};
}

macro_rules! floats {
    ($($type:ty, $narrow:expr, $wide:expr, $cast:expr);+ $(;)?) => {$(
        impl Number for $type {
            fn lower(bound: f64) -> Self {
                $cast(bound)
            }

            fn upper(bound: f64) -> Self {
                $cast(bound)
            }

            fn wide(self) -> f64 {
                $wide(self)
            }

            fn narrow(self) -> f32 {
                $narrow(self)
            }

            fn is_finite(self) -> bool {
                Self::is_finite(self)
            }
        }
    )+};
}

whole!(u8, u16, u32, u64, i8, i16, i32, i64);

floats! {
    f16, f16::to_f32, f16::to_f64, f16::from_f64;
    bf16, bf16::to_f32, bf16::to_f64, bf16::from_f64;
    f32, std::convert::identity, f64::from, narrowed;
    f64, narrowed, std::convert::identity, std::convert::identity;
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest is what is wanted"
)]
fn narrowed(value: f64) -> f32 {
    value as f32
}
