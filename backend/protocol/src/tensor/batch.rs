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
        if let Some(size) = self.datatype.size() {
            return Ok(self.cut(parts, |start, rows| start + rows * per_row * size));
        }
        let mut strings = Spans::new(&self.data).flatten();
        Ok(self.cut(parts, |start, rows| {
            let last = strings.by_ref().take(rows * per_row).last();
            last.map_or(start, |(_, end)| end)
        }))
    }

    /// Parts of so many rows one behind the other. `end` says at which byte one ends that starts there
    /// and has so many rows.
    fn cut(&self, parts: &[usize], mut end: impl FnMut(usize, usize) -> usize) -> Vec<Self> {
        let mut start = 0;
        let part = |&rows| {
            let end = end(start, rows);
            let data = self.data.slice(start..end);
            start = end;
            Self {
                datatype: self.datatype,
                shape: self.shape.with_rows(rows),
                data,
            }
        };
        parts.iter().map(part).collect()
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
