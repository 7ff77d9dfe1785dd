//! Reads the text of a `data` member straight into the raw encoding, and finds the words for what is
//! wrong with it. Lists of numbers with which nothing is wrong do not come here (`cut`).
//!
//! The text is known to be well-formed JSON, so the walker only tells lists
//! from scalars. It takes two forms: flat, one list of all elements; or nested
//! exactly as deep as the shape has axes, each list as long as its axis. The
//! first child of the outer list decides which, and everything after must agree.
//!
//! Bounds: open lists are at most the shape's axes ([`MAX_RANK`]); elements past
//! the shape's count are counted for the error and not kept; memory is reserved
//! by the length of the text, since a shape can claim anything.
//!
//! [`MAX_RANK`]: crate::MAX_RANK

use std::fmt::{Display, Write};

use half::{bf16, f16};

use self::scalar::{Refusal, Scalar};
use super::error::DecodeError;
use crate::datatype::Datatype;
use crate::shape::Shape;
use crate::text::excerpt;

mod scalar;

/// Reads `text`, the value of the member `field`.
pub(super) fn decode(
    field: &str,
    text: &str,
    datatype: Datatype,
    shape: &Shape,
) -> Result<Vec<u8>, DecodeError> {
    let walk = Walk {
        field,
        text,
        datatype,
        shape,
        at: 0,
        open: Vec::new(),
        leaf: None,
    };
    match datatype {
        Datatype::Bool => walk.run(scalar::boolean),
        Datatype::Uint8 => walk.run(scalar::integer::<u8>),
        Datatype::Uint16 => walk.run(scalar::integer::<u16>),
        Datatype::Uint32 => walk.run(scalar::integer::<u32>),
        Datatype::Uint64 => walk.run(scalar::integer::<u64>),
        Datatype::Int8 => walk.run(scalar::integer::<i8>),
        Datatype::Int16 => walk.run(scalar::integer::<i16>),
        Datatype::Int32 => walk.run(scalar::integer::<i32>),
        Datatype::Int64 => walk.run(scalar::integer::<i64>),
        Datatype::Fp16 => walk.run(|scalar, raw| scalar::narrowed(scalar, raw, f16::from_f64)),
        Datatype::Bf16 => walk.run(|scalar, raw| scalar::narrowed(scalar, raw, bf16::from_f64)),
        Datatype::Fp32 => walk.run(scalar::float::<f32>),
        Datatype::Fp64 => walk.run(scalar::float::<f64>),
        Datatype::Bytes => walk.run(scalar::string),
    }
}

/// Where the walker stands in the text.
struct Walk<'a> {
    field: &'a str,
    text: &'a str,
    datatype: Datatype,
    shape: &'a Shape,
    /// Byte that is read next.
    at: usize,
    /// For each list that is open, outermost first, its children so far.
    open: Vec<usize>,
    /// How many lists stand around every element: 1 when flat, the rank when
    /// nested, unknown until the outer list has a child.
    leaf: Option<usize>,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn run(
        mut self,
        put: impl Fn(Scalar<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
    ) -> Result<Vec<u8>, DecodeError> {
        let expected = self.expected_elements()?;
        let mut raw = Vec::with_capacity(self.reservation(expected));
        let mut elements = 0;
        if !self.text.starts_with('[') {
            return Err(self.mismatch("a list of elements", &excerpt(self.text)));
        }
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'[' => self.open_list()?,
                b']' => self.close_list()?,
                b',' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'{' => {
                    self.child();
                    return Err(self.mismatch(scalar::wanted(self.datatype), &"an object"));
                }
                _ => {
                    let scalar = self.scalar()?;
                    if elements < expected {
                        put(scalar, &mut raw).map_err(|refusal| self.refused(scalar, refusal))?;
                    }
                    elements += 1;
                }
            }
        }
        if elements == expected {
            return Ok(raw);
        }
        let (field, shape) = (self.field.to_owned(), self.shape.clone());
        Err(DecodeError::ElementCount {
            field,
            shape,
            expected,
            got: elements,
        })
    }

    fn expected_elements(&self) -> Result<usize, DecodeError> {
        self.shape
            .element_count()
            .ok_or_else(|| DecodeError::Tensor {
                field: self.field.to_owned(),
                fault: crate::TensorError::TooManyElements {
                    shape: self.shape.clone(),
                },
            })
    }

    /// Bytes to reserve: no element takes less than two bytes of text, itself
    /// and a comma, and `BYTES` never grow by more than their lengths.
    fn reservation(&self, expected: usize) -> usize {
        let elements = expected.min(self.text.len() / 2);
        self.datatype
            .size()
            .map_or(self.text.len(), |size| elements * size)
    }

    fn open_list(&mut self) -> Result<(), DecodeError> {
        if !self.open.is_empty() {
            self.child();
            let leaf = *self.leaf.get_or_insert(self.shape.len());
            if self.open.len() >= leaf {
                return Err(self.mismatch(scalar::wanted(self.datatype), &"a list"));
            }
        }
        self.open.push(0);
        self.at += 1;
        Ok(())
    }

    fn close_list(&mut self) -> Result<(), DecodeError> {
        let got = self.open.pop().unwrap_or(0);
        self.at += 1;
        let axis = self.open.len();
        let is_nested = self.leaf.is_some_and(|leaf| leaf > 1);
        match self.shape.get(axis) {
            Some(&size) if is_nested && size != got => {
                let expected = format!("a list of {size} for axis {axis} of shape {}", self.shape);
                Err(self.mismatch(&expected, &format_args!("a list of {got}")))
            }
            _ => Ok(()),
        }
    }

    /// Takes the scalar that begins here.
    fn scalar(&mut self) -> Result<Scalar<'a>, DecodeError> {
        let scalar = Scalar::begin(&self.text[self.at..]);
        self.at += scalar.len();
        self.child();
        let leaf = *self.leaf.get_or_insert(1);
        if self.open.len() == leaf {
            Ok(scalar)
        } else {
            let expected = format!("a list, as shape {} nests", self.shape);
            Err(self.mismatch(&expected, &excerpt(scalar.text())))
        }
    }

    fn child(&mut self) {
        if let Some(children) = self.open.last_mut() {
            *children += 1;
        }
    }

    fn refused(&self, scalar: Scalar<'_>, refusal: Refusal) -> DecodeError {
        let got = excerpt(scalar.text());
        match refusal {
            Refusal::Kind => self.mismatch(scalar::wanted(self.datatype), &got),
            Refusal::NonFinite => DecodeError::NonFinite {
                field: self.place(),
                expected: format!("a finite {} number", self.datatype),
                got: got.to_string(),
            },
        }
    }

    fn mismatch(&self, expected: &str, got: &dyn Display) -> DecodeError {
        let (field, expected) = (self.place(), expected.to_owned());
        DecodeError::Mismatch {
            field,
            expected,
            got: got.to_string(),
        }
    }

    /// The field of the last child that was begun, such as `inputs[0].data[1][3]`.
    fn place(&self) -> String {
        let mut place = self.field.to_owned();
        for children in &self.open {
            // Writing to a string cannot fail.
            let _ = write!(place, "[{}]", children.saturating_sub(1));
        }
        place
    }
}
