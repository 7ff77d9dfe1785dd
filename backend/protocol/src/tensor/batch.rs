//! Joining requests into a batch and cutting the answer apart again.
//!
//! Both work on axis 0 of the raw encoding, where rows lie one behind the
//! other for every datatype, `BYTES` included: joining is one copy, cutting is
//! none.

use super::strings::Spans;
use super::{Tensor, TensorError};
use crate::shape::Shape;

// === impl Tensor ===

impl Tensor {
    /// Joins tensors along axis 0, in the given order.
    ///
    /// A single tensor is passed on without a copy.
    ///
    /// # Errors
    ///
    /// When none is given, one is a scalar, or datatypes or row shapes differ.
    pub fn concat(tensors: &[&Self]) -> Result<Self, TensorError> {
        let (&first, others) = tensors.split_first().ok_or(TensorError::NothingToJoin)?;
        let mut rows = first.rows().ok_or(TensorError::NoRows)?;
        if others.is_empty() {
            return Ok(first.clone());
        }
        let mut bytes = first.data.len();
        for tensor in others {
            tensor.expect(first.datatype)?;
            rows = first.joined_rows(rows, &tensor.shape)?;
            bytes += tensor.data.len();
        }
        let mut data = Vec::with_capacity(bytes);
        for tensor in tensors {
            data.extend_from_slice(&tensor.data);
        }
        let shape = first.shape.with_rows(rows);
        // Rows of no elements take no bytes, so memory does not bound their count.
        super::count(&shape)?;
        Ok(Self {
            datatype: first.datatype,
            shape,
            data: data.into(),
        })
    }

    /// Cuts axis 0 into parts of the given numbers of rows, without copying.
    ///
    /// # Errors
    ///
    /// When it is a scalar, or the parts do not sum to its rows: a model that
    /// answered with another number of rows than it was given.
    pub fn split_rows(&self, parts: &[usize]) -> Result<Vec<Self>, TensorError> {
        let expected = self.rows().ok_or(TensorError::NoRows)?;
        let got = parts
            .iter()
            .fold(0_usize, |sum, &rows| sum.saturating_add(rows));
        if got != expected {
            return Err(TensorError::RowCount { expected, got });
        }
        let per_row = self.element_count().checked_div(expected).unwrap_or(0);
        let elements = parts.iter().map(|rows| rows * per_row);
        let ends = match self.datatype.size() {
            Some(size) => ends_of_numbers(elements, size),
            None => ends_of_strings(elements, &self.data),
        };
        let mut start = 0;
        let part = |(&rows, end)| {
            let data = self.data.slice(start..end);
            start = end;
            Self {
                datatype: self.datatype,
                shape: self.shape.with_rows(rows),
                data,
            }
        };
        Ok(parts.iter().zip(ends).map(part).collect())
    }

    fn joined_rows(&self, rows: usize, other: &Shape) -> Result<usize, TensorError> {
        let more = other.rows().ok_or(TensorError::NoRows)?;
        if self.shape.row() != other.row() {
            return Err(TensorError::RowShape {
                expected: self.shape.clone(),
                got: other.clone(),
            });
        }
        rows.checked_add(more)
            .ok_or_else(|| TensorError::TooManyElements {
                shape: self.shape.clone(),
            })
    }
}

/// Bytes at which the parts end, each of so many elements of `size` bytes.
fn ends_of_numbers(parts: impl Iterator<Item = usize>, size: usize) -> Vec<usize> {
    parts
        .scan(0, |at, elements| {
            *at += elements * size;
            Some(*at)
        })
        .collect()
}

/// Bytes at which the parts end, each of so many elements of any length.
fn ends_of_strings(parts: impl Iterator<Item = usize>, data: &[u8]) -> Vec<usize> {
    let mut spans = Spans::new(data).flatten();
    parts
        .scan(0, |at, elements| {
            *at = spans
                .by_ref()
                .take(elements)
                .last()
                .map_or(*at, |(_, end)| end);
            Some(*at)
        })
        .collect()
}
