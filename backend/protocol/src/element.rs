//! Rust's numbers as elements of a tensor's raw encoding.

use half::{bf16, f16};

use crate::datatype::Datatype;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is exactly one fixed-size element of a tensor.
///
/// Sealed: the set of datatypes is the protocol's.
pub trait Element: Copy + sealed::Sealed {
    /// The datatype whose elements are of this type.
    const DATATYPE: Datatype;
    /// Bytes of one element in the raw encoding.
    const SIZE: usize = size_of::<Self>();

    /// Appends the element, little-endian.
    fn put(self, raw: &mut Vec<u8>);

    /// Reads the element that begins `raw`.
    ///
    /// # Panics
    ///
    /// When `raw` holds fewer than [`Self::SIZE`] bytes.
    fn get(raw: &[u8]) -> Self;
}

macro_rules! elements {
    ($($type:ty => $datatype:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DATATYPE: Datatype = Datatype::$datatype;

            #[inline]
            fn put(self, raw: &mut Vec<u8>) {
                raw.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn get(raw: &[u8]) -> Self {
                let mut bytes = [0; Self::SIZE];
                bytes.copy_from_slice(&raw[..Self::SIZE]);
                Self::from_le_bytes(bytes)
            }
        }
    )+};
}

elements! {
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f16 => Fp16,
    bf16 => Bf16,
    f32 => Fp32,
    f64 => Fp64,
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DATATYPE: Datatype = Datatype::Bool;

    fn put(self, raw: &mut Vec<u8>) {
        raw.push(u8::from(self));
    }

    fn get(raw: &[u8]) -> Self {
        raw[0] != 0
    }
}
