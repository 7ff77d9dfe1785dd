//! The binary tensor extension: data behind the JSON, raw, and not in it.
//!
//! `Inference-Header-Content-Length` says where the JSON ends. A tensor whose parameters hold a
//! `binary_data_size` has so many bytes behind it, in the order of the tensors, and nothing else
//! is there. They are [`Tensor`](crate::Tensor)'s own encoding, so that a part becomes a tensor by
//! [`Bytes::slice`], and a tensor becomes a part as it is: neither is copied.
//!
//! A slice keeps the whole body in memory, which is more than the tensor: a queue that bounds
//! tensors would hold any JSON for nothing. So where the parts are less than the JSON before them,
//! they are copied once and the body is let go of: what is kept is at most twice what is counted.
//!
//! Source: Triton's `extension_binary_data.md`, and the Open Inference Protocol's binary extension.

use bytes::Bytes;
use http::HeaderMap;

use crate::headers::JSON_LENGTH;
use crate::infer::InferRequest;
use crate::json::DecodeError;
use crate::parameters::Parameters;
use crate::text::excerpt;

#[cfg(test)]
mod tests;

/// The parameter of a tensor whose data lies behind the JSON: how many bytes.
pub(crate) const SIZE: &str = "binary_data_size";
/// The parameter of an output that is asked for: whether its data shall.
const WANTED: &str = "binary_data";
/// The parameter of a request: whether every output's data shall, but for those that say otherwise.
const ALL_WANTED: &str = "binary_data_output";

/// A body: JSON, and what lies behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The JSON.
    pub head: Vec<u8>,
    /// The data of the tensors that are not in it, in their order. None says that all are in it.
    pub parts: Option<Vec<Bytes>>,
}

/// In which form each output of an answer is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputForms {
    /// What holds for outputs that are not named.
    all: bool,
    /// What holds for those that are, in their order.
    named: Vec<bool>,
}

/// What lies behind the JSON of a body that is being read.
#[derive(Clone)]
pub(crate) struct Parts {
    /// What is left of it; none where nothing says that there is any.
    left: Option<Bytes>,
    /// Bytes taken so far.
    taken: usize,
}

/// The length of the JSON, as the header says; none where there is none, and all is JSON.
///
/// # Errors
///
/// When it is anything but a whole number, or is there twice with two values.
pub fn json_length(headers: &HeaderMap) -> Result<Option<usize>, DecodeError> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = |text: &str| {
        let got = format!("`{}`", excerpt(text));
        mismatch(JSON_LENGTH.as_str(), "a whole number of bytes", got)
    };
    let text = value.to_str().map_err(|_| bad("not ASCII"))?;
    if let Some(other) = values.find(|other| *other != value) {
        let other = other.to_str().unwrap_or("not ASCII");
        return Err(bad(&format!("{text}, {other}")));
    }
    // Only digits: `parse` alone would take a sign.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| is_number);
    length.map(Some).ok_or_else(|| bad(text))
}

/// How many bytes behind the JSON belong to the tensor with these parameters.
///
/// # Errors
///
/// When the parameter is anything but a whole number.
pub(crate) fn data_size(
    tensor: &str,
    parameters: &Parameters,
) -> Result<Option<usize>, DecodeError> {
    let Some(value) = parameters.get(SIZE) else {
        return Ok(None);
    };
    let size = value.as_i64().and_then(|size| usize::try_from(size).ok());
    size.map(Some).ok_or_else(|| {
        let field = format!("{tensor}.parameters.{SIZE}");
        mismatch(&field, "a whole number of bytes", value.to_string())
    })
}

pub(crate) fn mismatch(field: &str, expected: &str, got: String) -> DecodeError {
    DecodeError::Mismatch {
        field: field.to_owned(),
        expected: expected.to_owned(),
        got,
    }
}

// === impl Encoded ===

impl Encoded {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        let parts = self.parts.iter().flatten();
        self.head.len() + parts.map(Bytes::len).sum::<usize>()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the header must say; none where all is JSON.
    #[must_use]
    pub fn json_length(&self) -> Option<usize> {
        self.parts.as_ref().map(|_| self.head.len())
    }

    /// The body in one piece, which copies every part.
    #[must_use]
    pub fn joined(self) -> Vec<u8> {
        let mut body = self.head;
        let parts = self.parts.unwrap_or_default();
        body.reserve_exact(parts.iter().map(Bytes::len).sum());
        for part in &parts {
            body.extend_from_slice(part);
        }
        body
    }
}

// === impl OutputForms ===

impl OutputForms {
    /// All in binary.
    pub(crate) const BINARY: Self = Self {
        all: true,
        named: Vec::new(),
    };

    /// What a request asks for.
    ///
    /// # Errors
    ///
    /// When a parameter that says so is no boolean.
    pub fn of(request: &InferRequest) -> Result<Self, DecodeError> {
        let all = flag("parameters", &request.parameters, ALL_WANTED)?.unwrap_or(false);
        let named = request.outputs.iter().enumerate().map(|(index, output)| {
            if output.parameters.is_empty() {
                return Ok(all);
            }
            let field = format!("outputs[{index}].parameters");
            Ok(flag(&field, &output.parameters, WANTED)?.unwrap_or(all))
        });
        let named = named.collect::<Result<_, _>>()?;
        Ok(Self { all, named })
    }

    /// Whether the output at that place, in the order asked for, is written in binary.
    #[must_use]
    pub fn is_binary(&self, index: usize) -> bool {
        self.named.get(index).copied().unwrap_or(self.all)
    }
}

fn flag(field: &str, parameters: &Parameters, name: &str) -> Result<Option<bool>, DecodeError> {
    match parameters.get(name) {
        None => Ok(None),
        Some(crate::Parameter::Bool(value)) => Ok(Some(*value)),
        Some(other) => {
            let field = format!("{field}.{name}");
            Err(mismatch(&field, "true or false", other.to_string()))
        }
    }
}

// === impl Parts ===

impl Parts {
    /// There are none: all is JSON.
    pub(crate) const fn none() -> Self {
        Self {
            left: None,
            taken: 0,
        }
    }

    /// Cuts a body behind its JSON.
    ///
    /// # Errors
    ///
    /// When the JSON would be longer than the body.
    pub(crate) fn cut(body: &Bytes, head: Option<usize>) -> Result<(&[u8], Self), DecodeError> {
        let Some(head) = head else {
            return Ok((body, Self::none()));
        };
        let Some(json) = body.get(..head) else {
            let expected = format!("at most {}, the length of the body", body.len());
            return Err(mismatch(JSON_LENGTH.as_str(), &expected, head.to_string()));
        };
        let left = if body.len() - head < head {
            Bytes::copy_from_slice(&body[head..])
        } else {
            body.slice(head..)
        };
        let parts = Self {
            left: Some(left),
            taken: 0,
        };
        Ok((json, parts))
    }

    /// The next so many bytes, which a tensor says are its own.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub(crate) fn take(&mut self, tensor: &str, size: usize) -> Result<Bytes, DecodeError> {
        let fault = |expected: String, got: String| {
            let field = format!("{tensor}.parameters.{SIZE}");
            Err(mismatch(&field, &expected, got))
        };
        let Some(left) = &mut self.left else {
            let expected = format!("the header {JSON_LENGTH} beside it");
            return fault(expected, "no such header".to_owned());
        };
        if size > left.len() {
            let left = left.len();
            let expected = format!("at most {left}, the bytes of the body that are left");
            return fault(expected, size.to_string());
        }
        self.taken += size;
        Ok(left.split_to(size))
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// When bytes are left that belong to no tensor.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        let left = self.left.map_or(0, |left| left.len());
        if left == 0 {
            return Ok(());
        }
        let taken = self.taken;
        let expected = format!("{taken} bytes behind the JSON, the sum of all {SIZE}");
        Err(mismatch("body", &expected, (taken + left).to_string()))
    }
}
