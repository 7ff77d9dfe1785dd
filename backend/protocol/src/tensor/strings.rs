//! `BYTES` tensors: elements of any length, each behind a little-endian `u32`.

use bytes::Bytes;

use super::{Tensor, TensorError, check_count};
use crate::datatype::Datatype;
use crate::shape::Shape;

/// Bytes of the length before each element.
const PREFIX: usize = 4;

/// Walks over the elements' positions in checked or unchecked data.
pub(super) struct Spans<'a> {
    data: &'a [u8],
    at: usize,
    index: usize,
}

/// Checks that `data` is exactly `elements` well-formed elements.
pub(super) fn check(elements: usize, shape: &Shape, data: &[u8]) -> Result<(), TensorError> {
    let mut got = 0;
    for span in Spans::new(data) {
        span?;
        got += 1;
    }
    if got == elements {
        Ok(())
    } else {
        Err(TensorError::ElementCount {
            shape: shape.clone(),
            expected: elements,
            got,
        })
    }
}

/// Appends one element.
pub(crate) fn put(raw: &mut Vec<u8>, element: &[u8]) -> Result<(), TensorError> {
    let length = u32::try_from(element.len()).map_err(|_| TensorError::ElementTooLong {
        length: element.len(),
    })?;
    raw.extend_from_slice(&length.to_le_bytes());
    raw.extend_from_slice(element);
    Ok(())
}

// === impl Tensor ===

impl Tensor {
    /// Builds a `BYTES` tensor.
    ///
    /// # Errors
    ///
    /// When the count of values is not the shape's, or a value is longer than
    /// a `u32` can say.
    pub fn from_strings<T: AsRef<[u8]>>(
        shape: impl Into<Shape>,
        values: &[T],
    ) -> Result<Self, TensorError> {
        let shape = shape.into();
        check_count(&shape, values.len())?;
        let mut data = Vec::new();
        for value in values {
            put(&mut data, value.as_ref())?;
        }
        Ok(Self {
            datatype: Datatype::Bytes,
            shape,
            data: data.into(),
        })
    }

    /// The elements of a `BYTES` tensor, as slices of its data.
    ///
    /// # Errors
    ///
    /// When the tensor's datatype is another.
    pub fn strings(&self) -> Result<impl Iterator<Item = Bytes>, TensorError> {
        self.expect(Datatype::Bytes)?;
        let spans = Spans::new(&self.data).filter_map(Result::ok);
        Ok(spans.map(|(start, end)| self.data.slice(start..end)))
    }
}

// === impl Spans ===

impl<'a> Spans<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            index: 0,
        }
    }
}

impl Iterator for Spans<'_> {
    /// Where the next element begins, behind its length, and where it ends.
    type Item = Result<(usize, usize), TensorError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.data.len() {
            return None;
        }
        let rest = &self.data[self.at..];
        let span = rest.first_chunk::<PREFIX>().and_then(|prefix| {
            let start = self.at + PREFIX;
            let length = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
            let end = start.checked_add(length)?;
            (end <= self.data.len()).then_some((start, end))
        });
        let index = self.index;
        self.index += 1;
        // After a bad length nothing behind it can be told apart: stop there.
        self.at = span.map_or(self.data.len(), |(_, end)| end);
        Some(span.ok_or(TensorError::Truncated { index }))
    }
}
