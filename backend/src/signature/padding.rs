//! Tensors filled up to one of a few lengths, so that requests of different lengths run together.
//!
//! Only equal shapes run together, so that a free axis keeps requests apart: texts of 37 and of 38 tokens
//! never share a batch. Where `model.toml` names lengths (`pad_to`), an input is filled up to the next of them
//! before it is queued, and an output that follows it (`unpad`) is cut back to the length that came in. Only these
//! lengths are ever run, and all of them are warmed up.
//!
//! Filling is bounded: a request of more rows than a batch holds runs alone anyway, and as it came. So no
//! tensor becomes larger than a full batch of the largest length, which `model.toml` is held to.

use aegis_protocol::{Shape, Tensor};

use super::{Inputs, Signature, SignatureError, TensorSpec};

/// How a free axis of an input is filled up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding {
    /// The axis.
    pub axis: usize,
    /// The lengths that it is filled up to, the shortest first; at least one.
    pub lengths: Vec<usize>,
    /// The element that it is filled with, in the raw encoding.
    pub with: Vec<u8>,
}

/// An output's axis that is as long as an input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follows {
    /// The axis of the output.
    pub axis: usize,
    /// The place of the input among the inputs.
    pub input: usize,
}

/// The lengths that inputs had, and have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filled(Vec<Option<Length>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Length {
    was: usize,
    is: usize,
}

// === impl Signature ===

impl Signature {
    /// Fills the inputs up, where they have at most so many rows. None where nothing has to be.
    pub(crate) fn fill(&self, inputs: &mut Inputs, max_rows: usize) -> Option<Filled> {
        let pads = self.inputs.iter().any(|spec| spec.padding.is_some());
        if !pads || inputs.rows > max_rows {
            return None;
        }
        let specs = self.inputs.iter().zip(&mut inputs.tensors);
        let filled = specs.map(|(spec, tensor)| {
            let padding = spec.padding.as_ref()?;
            let was = *tensor.shape().get(padding.axis)?;
            let is = padding.length(was)?;
            *tensor = resized(tensor, padding.axis, is, &padding.with)?;
            Some(Length { was, is })
        });
        let filled = Filled(filled.collect());
        filled.0.iter().any(Option::is_some).then_some(filled)
    }

    /// Cuts outputs back to the lengths that came in.
    ///
    /// # Errors
    ///
    /// When the model returned another length than it was given, for an output that should follow.
    pub(crate) fn cut(
        &self,
        outputs: Vec<Tensor>,
        filled: &Filled,
    ) -> Result<Vec<Tensor>, SignatureError> {
        let specs = self.outputs.iter().zip(outputs);
        let cut = specs.map(|(spec, tensor)| {
            let length = |follows: &Follows| Some((follows.axis, (*filled.0.get(follows.input)?)?));
            let Some((axis, Length { was, is })) = spec.follows.as_ref().and_then(length) else {
                return Ok(tensor);
            };
            let got = tensor.shape().get(axis).copied().unwrap_or(0);
            if got != is {
                return Err(SignatureError::Length {
                    name: spec.name.clone(),
                    axis,
                    expected: is,
                    got,
                });
            }
            Ok(resized(&tensor, axis, was, &[]).unwrap_or(tensor))
        });
        cut.collect()
    }
}

// === impl TensorSpec ===

impl TensorSpec {
    /// The same with another length at warm-up: the `nth` that it is filled up to, from the longest.
    pub(super) fn of_length(&self, nth: usize) -> Self {
        let mut spec = self.clone();
        if let Some(padding) = &self.padding {
            let lengths = padding.lengths.iter().rev();
            spec.example = lengths
                .take(nth + 1)
                .next_back()
                .copied()
                .into_iter()
                .collect();
        }
        spec
    }

    /// Refuses what is longer than the longest that there is.
    pub(super) fn check_length(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        let Some(padding) = &self.padding else {
            return Ok(());
        };
        let got = tensor.shape().get(padding.axis).copied().unwrap_or(0);
        let longest = padding.lengths.last().copied().unwrap_or(0);
        if got > longest {
            return Err(SignatureError::TooLong {
                name: self.name.clone(),
                axis: padding.axis,
                longest,
                got,
            });
        }
        Ok(())
    }
}

// === impl Padding ===

impl Padding {
    /// The shortest length that so many elements fit into, where that is another one.
    fn length(&self, of: usize) -> Option<usize> {
        let next = self.lengths.iter().find(|length| **length >= of);
        next.copied().filter(|next| *next != of)
    }
}

/// The tensor with another length on an axis: cut, or filled with an element. None where memory cannot hold it.
fn resized(tensor: &Tensor, axis: usize, length: usize, with: &[u8]) -> Option<Tensor> {
    let size = tensor.datatype().size()?;
    let old = tensor.shape();
    let mut sizes = old.to_vec();
    *sizes.get_mut(axis)? = length;
    let shape = Shape::from(sizes);
    let inner = old.get(axis + 1..)?.iter().product::<usize>() * size;
    let (was, is) = (old.get(axis)? * inner, length.checked_mul(inner)?);
    let mut data = Vec::with_capacity(shape.element_count()?.checked_mul(size)?);
    for piece in tensor.data().chunks_exact(was.max(1)) {
        data.extend_from_slice(piece.get(..is).unwrap_or(piece));
        let missing = is.saturating_sub(was) / size;
        data.extend(std::iter::repeat_n(with, missing).flatten());
    }
    Tensor::new(tensor.datatype(), shape, data).ok()
}

#[cfg(test)]
mod tests {
    use aegis_protocol::{Datatype, NamedTensor};

    use super::*;
    use crate::signature::Axis;

    /// An input `[-1, -1, 2]` that is filled up to 2 or 4 with sevens, and an output `[-1, -1]` that follows it.
    fn signature() -> Signature {
        let axes = vec![Axis::Free, Axis::Free, Axis::Fixed(2)];
        let mut x = TensorSpec::new("x", Datatype::Int32, axes);
        x.padding = Some(Padding {
            axis: 1,
            lengths: vec![2, 4],
            with: 7_i32.to_le_bytes().to_vec(),
        });
        let mut y = TensorSpec::new("y", Datatype::Int32, vec![Axis::Free, Axis::Free]);
        y.follows = Some(Follows { axis: 1, input: 0 });
        Signature {
            batched: true,
            inputs: vec![x],
            outputs: vec![y],
        }
    }

    fn x(rows: usize, length: usize) -> Inputs {
        let count = i32::try_from(rows * length * 2).unwrap();
        let values: Vec<i32> = (0..count).collect();
        let tensor = Tensor::from_elements([rows, length, 2], &values).unwrap();
        let named = vec![NamedTensor::new("x", tensor)];
        signature().arrange(named).unwrap()
    }

    #[test]
    fn an_input_is_filled_up_behind_each_row_and_the_output_cut_back() {
        let signature = signature();
        let mut inputs = x(2, 3);
        let filled = signature.fill(&mut inputs, 8).unwrap();
        let expected = [0, 1, 2, 3, 4, 5, 7, 7, 6, 7, 8, 9, 10, 11, 7, 7];
        assert_eq!(
            inputs.tensors,
            [Tensor::from_elements([2, 4, 2], &expected).unwrap()]
        );
        let answer = Tensor::from_elements([2, 4], &[1, 2, 3, 0, 5, 6, 7, 0]).unwrap();
        let cut = signature.cut(vec![answer], &filled).unwrap();
        assert_eq!(
            cut,
            [Tensor::from_elements([2, 3], &[1, 2, 3, 5, 6, 7]).unwrap()]
        );
        let other = Tensor::from_elements([2, 3], &[0; 6]).unwrap();
        let error = signature.cut(vec![other], &filled).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`y`.shape: expected 4 on axis 1, as the input that it follows, got 3"
        );
    }

    #[test]
    fn what_has_one_of_the_lengths_or_runs_alone_stays_as_it_is() {
        let signature = signature();
        for (rows, length, max_rows) in [(2, 2, 8), (2, 4, 8), (9, 3, 8)] {
            let mut inputs = x(rows, length);
            assert_eq!(signature.fill(&mut inputs, max_rows), None);
            assert_eq!(inputs, x(rows, length));
        }
        let mut inputs = x(1, 1);
        assert!(signature.fill(&mut inputs, 8).is_some());
        assert_eq!(inputs.tensors[0].shape().to_string(), "[1,2,2]");
    }

    #[test]
    fn what_is_longer_than_the_longest_is_refused() {
        let tensor = Tensor::from_elements([1, 5, 2], &[0_i32; 10]).unwrap();
        let error = signature().arrange(vec![NamedTensor::new("x", tensor)]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`x`.shape: expected at most 4 on axis 1, the longest of pad_to, got 5"
        );
    }

    #[test]
    fn every_length_is_warmed_up() {
        let shapes = signature().warm_ups(3);
        let shapes: Vec<_> = shapes
            .iter()
            .map(|inputs| inputs.tensors[0].shape().to_string())
            .collect();
        assert_eq!(shapes, ["[3,4,2]", "[3,2,2]"]);
    }
}
