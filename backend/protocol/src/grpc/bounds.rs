//! What a message may become, looked at before it is decoded.
//!
//! The limit on bodies bounds the bytes of a message and not what they become: an entry of `inputs` may be
//! two bytes, and takes three hundred in memory; a number of `int64_contents` may be one, and takes eight. A
//! decoder has made all of it before anybody can count. So the keys are walked over first, which costs next
//! to nothing: tensors in `raw_input_contents` are passed by their length. Of tensors and parameters there
//! are no more than in JSON, and lists of numbers and texts become no more than a limit in all.

use bytes::Bytes;
use prost::Message;

use super::fields::{Field, Fields};
use super::{CallError, ModelInferRequest, RepositoryChangeRequest};
use crate::infer::MAX_TENSORS;
use crate::parameters::MAX_PARAMETERS;

/// A message would become too much. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// More entries than anybody has.
    #[error("{field}: expected at most {limit}, got more")]
    TooMany {
        /// The list, such as `inputs[0].parameters`.
        field: String,
        /// The most that there may be.
        limit: usize,
    },
    /// Lists that are short on the wire and long in memory.
    #[error(
        "{field}: expected all lists of numbers and texts to become at most {limit} bytes, got more"
    )]
    TooLarge {
        /// The list at which it is too much.
        field: String,
        /// What they may become together.
        limit: usize,
    },
}

/// An inference that is within bounds, and not yet decoded.
#[derive(Clone, Debug)]
pub struct Weighed {
    message: Bytes,
    lists: usize,
}

/// What lists may still become.
struct Room {
    left: usize,
    limit: usize,
}

/// Entries of a list so far.
#[derive(Default)]
struct Count(usize);

// === impl Weighed ===

impl Weighed {
    /// Looks at a `ModelInferRequest`: whether it has as many tensors and parameters as JSON may have, and
    /// its lists become at most `limit` bytes.
    ///
    /// # Errors
    /// When it does not, or is no message.
    pub fn of(message: &Bytes, limit: usize) -> Result<Self, CallError> {
        const PARAMETERS: u32 = 4;
        const INPUTS: u32 = 5;
        const OUTPUTS: u32 = 6;
        const RAW: u32 = 7;
        let mut room = Room { left: limit, limit };
        let [mut parameters, mut inputs, mut outputs, mut raw] = [const { Count(0) }; 4];
        for field in Fields::of(message) {
            let Field {
                tag,
                bytes: Some(bytes),
            } = field?
            else {
                continue;
            };
            match tag {
                PARAMETERS => {
                    parameters.add(MAX_PARAMETERS, || "parameters".to_owned())?;
                }
                INPUTS => {
                    let at = inputs.add(MAX_TENSORS, || "inputs".to_owned())?;
                    input(bytes, at, &mut room)?;
                }
                OUTPUTS => {
                    let at = outputs.add(MAX_TENSORS, || "outputs".to_owned())?;
                    output(bytes, at)?;
                }
                RAW => {
                    raw.add(MAX_TENSORS, || "raw_input_contents".to_owned())?;
                }
                _ => {}
            }
        }
        Ok(Self {
            message: message.clone(),
            lists: room.limit - room.left,
        })
    }

    /// The bytes that its lists become, each list by itself before it is a tensor.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.lists
    }

    /// Decodes it. Raw contents are slices of the message, which they keep in memory, whatever else is in
    /// it: where they are the lesser part they are copied, as [`crate::binary`] does, so that what is kept
    /// is at most twice what a queue counts.
    ///
    /// # Errors
    /// When it is another message.
    pub fn decode(self) -> Result<ModelInferRequest, CallError> {
        let length = self.message.len();
        let mut request = ModelInferRequest::decode(self.message)?;
        let raw = &mut request.raw_input_contents;
        let kept: usize = raw.iter().map(Bytes::len).sum();
        if kept < length.saturating_sub(kept) {
            for contents in raw {
                *contents = Bytes::copy_from_slice(contents);
            }
        }
        Ok(request)
    }
}

fn input(message: &[u8], at: usize, room: &mut Room) -> Result<(), CallError> {
    const SHAPE: u32 = 3;
    const PARAMETERS: u32 = 4;
    const CONTENTS: u32 = 5;
    let mut parameters = Count::default();
    for field in Fields::of(message) {
        let Field { tag, bytes } = field?;
        match (tag, bytes) {
            (SHAPE, sizes) => {
                let count = sizes.map_or(1, varints);
                room.take(count * size_of::<i64>(), || format!("inputs[{at}].shape"))?;
            }
            (PARAMETERS, Some(_)) => {
                parameters.add(MAX_PARAMETERS, || format!("inputs[{at}].parameters"))?;
            }
            (CONTENTS, Some(contents)) => {
                for list in Fields::of(contents) {
                    room.take(becomes(&list?), || format!("inputs[{at}].contents"))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn output(message: &[u8], at: usize) -> Result<(), CallError> {
    const PARAMETERS: u32 = 2;
    let mut parameters = Count::default();
    for field in Fields::of(message) {
        if field?.tag == PARAMETERS {
            parameters.add(MAX_PARAMETERS, || format!("outputs[{at}].parameters"))?;
        }
    }
    Ok(())
}

/// The bytes that a field of `TensorContents` takes in memory: a packed list, or one element.
fn becomes(list: &Field<'_>) -> usize {
    let of_varints = |size| size * list.bytes.map_or(1, varints);
    let of_fixed = |size| list.bytes.map_or(size, <[u8]>::len);
    match list.tag {
        1 => of_varints(size_of::<bool>()),
        2 | 4 => of_varints(size_of::<i32>()),
        3 | 5 => of_varints(size_of::<i64>()),
        6 => of_fixed(size_of::<f32>()),
        7 => of_fixed(size_of::<f64>()),
        // Its bytes stay where they are.
        8 => size_of::<Bytes>(),
        _ => 0,
    }
}

/// How many numbers a packed list has: each ends with a byte whose highest bit is not set.
fn varints(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 0x80).count()
}

// === impl RepositoryChangeRequest ===

impl RepositoryChangeRequest {
    /// Decodes a message that has as many parameters as JSON may have.
    ///
    /// # Errors
    /// When it has more, or is another message.
    pub fn read(message: &[u8]) -> Result<Self, CallError> {
        const PARAMETERS: u32 = 3;
        let mut parameters = Count::default();
        for field in Fields::of(message) {
            if field?.tag == PARAMETERS {
                parameters.add(MAX_PARAMETERS, || "parameters".to_owned())?;
            }
        }
        Ok(Self::decode(message)?)
    }
}

// === impl Count ===

impl Count {
    /// One more; its index.
    fn add(&mut self, limit: usize, field: impl FnOnce() -> String) -> Result<usize, BoundsError> {
        let at = self.0;
        if at == limit {
            let field = field();
            return Err(BoundsError::TooMany { field, limit });
        }
        self.0 += 1;
        Ok(at)
    }
}

// === impl Room ===

impl Room {
    fn take(&mut self, bytes: usize, field: impl FnOnce() -> String) -> Result<(), BoundsError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(BoundsError::TooLarge {
                field: field(),
                limit: self.limit,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
