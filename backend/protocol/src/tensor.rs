//! A tensor in the protocol's raw encoding, checked once and then trusted.
//!
//! The bytes are exactly what the binary tensor extension carries and what a
//! model runtime copies from: little-endian, row-major; for `BYTES`, each
//! element is a `u32` length and then that many bytes. Shape, datatype and
//! length agree in every value of this type, because the fields are private
//! and every constructor checks them: a runtime that copies `shape` elements
//! out of `data` without looking (libtorch does) cannot read past the end.
//!
//! `Bytes` makes rows free: [`Tensor::split_rows`] hands out slices of one
//! allocation.

use bytes::Bytes;

use crate::datatype::Datatype;
use crate::element::Element;
use crate::shape::Shape;

mod batch;
mod error;
mod strings;
#[cfg(test)]
mod tests;

pub use error::TensorError;
pub(crate) use strings::put as put_string;

/// A datatype, a shape, and as many bytes as they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    datatype: Datatype,
    shape: Shape,
    data: Bytes,
}

// === impl Tensor ===

impl Tensor {
    /// Takes raw bytes after checking that they are what datatype and shape say.
    ///
    /// # Errors
    ///
    /// When the shape's product overflows, the length differs, a `BYTES`
    /// element reaches past the end, or a `BOOL` byte is neither 0 nor 1.
    pub fn new(
        datatype: Datatype,
        shape: impl Into<Shape>,
        data: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        let (shape, data) = (shape.into(), data.into());
        let elements = count(&shape)?;
        match datatype.size() {
            Some(size) => check_length(datatype, size, elements, &shape, &data)?,
            None => strings::check(elements, &shape, &data)?,
        }
        if datatype == Datatype::Bool {
            check_bools(&data)?;
        }
        Ok(Self {
            datatype,
            shape,
            data,
        })
    }

    /// Builds a tensor of numbers or booleans.
    ///
    /// # Errors
    ///
    /// When the count of values is not the shape's.
    pub fn from_elements<T: Element>(
        shape: impl Into<Shape>,
        values: &[T],
    ) -> Result<Self, TensorError> {
        let shape = shape.into();
        check_count(&shape, values.len())?;
        let mut data = Vec::with_capacity(size_of_val(values));
        for &value in values {
            value.put(&mut data);
        }
        Ok(Self {
            datatype: T::DATATYPE,
            shape,
            data: data.into(),
        })
    }

    /// Builds an `FP32` tensor.
    ///
    /// # Errors
    ///
    /// When the count of values is not the shape's.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Result<Self, TensorError> {
        Self::from_elements(shape, values)
    }

    /// Builds an `INT64` tensor.
    ///
    /// # Errors
    ///
    /// When the count of values is not the shape's.
    pub fn from_i64(shape: impl Into<Shape>, values: &[i64]) -> Result<Self, TensorError> {
        Self::from_elements(shape, values)
    }

    /// The elements' type.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The axes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The raw encoding: little-endian, row-major.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The number of elements.
    #[must_use]
    pub fn element_count(&self) -> usize {
        // Every constructor has counted the shape, so it cannot overflow here.
        self.shape.element_count().unwrap_or(0)
    }

    /// The size of the first axis; none for a scalar.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.rows()
    }

    /// The elements in row-major order, as Rust's own type.
    ///
    /// # Errors
    ///
    /// When the tensor's datatype is another.
    pub fn elements<T: Element>(&self) -> Result<impl ExactSizeIterator<Item = T>, TensorError> {
        self.expect(T::DATATYPE)?;
        Ok(self.data.chunks_exact(T::SIZE).map(T::get))
    }

    /// The elements of an `FP32` tensor.
    ///
    /// # Errors
    ///
    /// When the tensor's datatype is another.
    pub fn as_f32(&self) -> Result<Vec<f32>, TensorError> {
        Ok(self.elements()?.collect())
    }

    /// The elements of an `INT64` tensor.
    ///
    /// # Errors
    ///
    /// When the tensor's datatype is another.
    pub fn as_i64(&self) -> Result<Vec<i64>, TensorError> {
        Ok(self.elements()?.collect())
    }

    /// The first NaN or infinite element, by its row-major index; none for
    /// datatypes that have no such values.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<(usize, f64)> {
        match self.datatype {
            Datatype::Fp16 => first_non_finite::<half::f16>(&self.data),
            Datatype::Bf16 => first_non_finite::<half::bf16>(&self.data),
            Datatype::Fp32 => first_non_finite::<f32>(&self.data),
            Datatype::Fp64 => first_non_finite::<f64>(&self.data),
            _ => None,
        }
    }

    fn expect(&self, expected: Datatype) -> Result<(), TensorError> {
        if self.datatype == expected {
            Ok(())
        } else {
            Err(TensorError::WrongDatatype {
                expected,
                got: self.datatype,
            })
        }
    }
}

fn count(shape: &Shape) -> Result<usize, TensorError> {
    shape
        .element_count()
        .ok_or_else(|| TensorError::TooManyElements {
            shape: shape.clone(),
        })
}

fn check_count(shape: &Shape, got: usize) -> Result<(), TensorError> {
    let expected = count(shape)?;
    if expected == got {
        Ok(())
    } else {
        Err(TensorError::ElementCount {
            shape: shape.clone(),
            expected,
            got,
        })
    }
}

fn check_length(
    datatype: Datatype,
    size: usize,
    elements: usize,
    shape: &Shape,
    data: &Bytes,
) -> Result<(), TensorError> {
    let expected = elements
        .checked_mul(size)
        .ok_or_else(|| TensorError::TooManyElements {
            shape: shape.clone(),
        })?;
    if expected == data.len() {
        Ok(())
    } else {
        Err(TensorError::Length {
            datatype,
            shape: shape.clone(),
            expected,
            got: data.len(),
        })
    }
}

fn check_bools(data: &[u8]) -> Result<(), TensorError> {
    match data.iter().position(|&byte| byte > 1) {
        Some(index) => Err(TensorError::NotBool {
            index,
            got: data[index],
        }),
        None => Ok(()),
    }
}

fn first_non_finite<T: Element + Into<f64>>(data: &[u8]) -> Option<(usize, f64)> {
    data.chunks_exact(T::SIZE)
        .map(|raw| T::get(raw).into())
        .enumerate()
        .find(|(_, value)| !value.is_finite())
}
