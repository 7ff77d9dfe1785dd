//! Another model whose score decides whether a request goes on.
//!
//! The guard is any model of the same repository. Its engine is asked directly and not through its
//! own checks, so that guards cannot go round in circles, whatever they name. What follows is pure:
//! which of our tensors become its inputs, and what its score means.

use std::fmt;

use aegis_protocol::{Datatype, NamedTensor, Tensor};

use super::finding::{Rows, What};
use super::number::{each_row, with_numbers};
use super::{Action, Unable, Violation};
use crate::signature::{Inputs, Signature, SignatureError};

/// A guard model, as the model that it guards names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// What is done about a score over the limit.
    pub action: Action,
    /// The guard's name in the repository.
    pub model: String,
    /// Its version; its first, where none is named.
    pub version: Option<String>,
    /// The names of its inputs, and which of our inputs each of them is.
    pub inputs: Vec<(String, usize)>,
    /// The name of its output that holds the score.
    pub output: String,
    /// Which number of a row of that output is the score.
    pub column: usize,
    /// The largest score that is allowed.
    pub limit: f64,
}

/// Why a guard cannot be asked. The author's to mend.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A model that guards itself.
    #[error("a model cannot guard itself")]
    Itself,
    /// It is not there to be asked.
    #[error("it is not served here")]
    NotServed,
    /// One of its inputs is left out.
    #[error("its input `{input}` is not given")]
    NotGiven {
        /// The name.
        input: String,
    },
    /// It has no such input.
    #[error("it has no input `{input}`")]
    NoInput {
        /// The name.
        input: String,
    },
    /// Our input is of another datatype.
    #[error("its input `{input}` is of {expected}, ours of {got}")]
    Datatype {
        /// The name.
        input: String,
        /// What it takes.
        expected: Datatype,
        /// What it is given.
        got: Datatype,
    },
    /// It has no such output, or one that is no number.
    #[error("it has no output `{output}` of numbers")]
    NoOutput {
        /// The name.
        output: String,
    },
    /// Our inputs are not what it takes.
    #[error("our inputs are not what it takes")]
    Inputs(#[from] SignatureError),
}

// === impl Guard ===

impl Guard {
    /// What the guard is asked for a request, and which of its outputs holds the score.
    ///
    /// # Errors
    ///
    /// See [`GuardError`].
    pub fn question(
        &self,
        theirs: &Signature,
        ours: &Inputs,
    ) -> Result<(Inputs, usize), GuardError> {
        let output = theirs
            .outputs
            .iter()
            .position(|spec| spec.name == self.output);
        let output = output.ok_or_else(|| GuardError::NoOutput {
            output: self.output.clone(),
        })?;
        // What our request has left out is left out there.
        let there = |(_, at): &&(String, usize)| ours.tensors[*at].element_count() > 0;
        let given = self.inputs.iter().filter(there);
        let given =
            given.map(|(name, at)| NamedTensor::new(name.as_str(), ours.tensors[*at].clone()));
        Ok((theirs.arrange(given.collect())?, output))
    }

    /// What there is to tell of it.
    pub(crate) fn says(&self, what: impl fmt::Display) -> String {
        format!("guard model `{}`: {what}", self.model)
    }

    /// Compares what it takes with what it is given, as far as that can be known before a request.
    ///
    /// # Errors
    ///
    /// See [`GuardError`].
    pub fn fits(&self, ours: &Signature, theirs: &Signature) -> Result<(), GuardError> {
        for spec in &theirs.inputs {
            let given = self.inputs.iter().find(|(name, _)| *name == spec.name);
            let (_, at) = given.ok_or_else(|| GuardError::NotGiven {
                input: spec.name.clone(),
            })?;
            let (expected, got) = (spec.datatype, ours.inputs[*at].datatype);
            if expected != got {
                let input = spec.name.clone();
                return Err(GuardError::Datatype {
                    input,
                    expected,
                    got,
                });
            }
        }
        if let Some((name, _)) = self
            .inputs
            .iter()
            .find(|(name, _)| theirs.inputs.iter().all(|spec| spec.name != *name))
        {
            return Err(GuardError::NoInput {
                input: name.clone(),
            });
        }
        let output = theirs.outputs.iter().find(|spec| spec.name == self.output);
        match output.map(|spec| spec.datatype) {
            Some(Datatype::Bytes | Datatype::Bool) | None => Err(GuardError::NoOutput {
                output: self.output.clone(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Judges the guard's answer for a request of so many rows.
    pub(crate) fn judge(
        &self,
        scores: &Tensor,
        asked_rows: usize,
        rows: usize,
    ) -> Result<Option<Violation>, Unable> {
        let width = scores.element_count() / asked_rows.max(1);
        if self.column >= width {
            return Err(Unable::NoScore {
                column: self.column,
                width,
            });
        }
        let (mut bad, mut first) = (Rows::default(), None);
        let mut see = |at: usize, row: &[f32]| {
            let got = f64::from(row[self.column]);
            if got.is_nan() || got > self.limit {
                bad.add(at);
                first.get_or_insert(got);
            }
        };
        with_numbers!(scores, each_row(scores, asked_rows, &mut see))
            .ok_or(Unable::NoNumbers(scores.datatype()))?;
        Ok(first.map(|got| Violation {
            // A guard that does not batch judges the request as a whole.
            rows: if asked_rows == rows {
                bad
            } else {
                Rows::all(rows)
            },
            what: What::Score {
                most: self.limit,
                got,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{Axis, TensorSpec};

    fn guard() -> Guard {
        Guard {
            action: Action::Block,
            model: "guard".to_owned(),
            version: None,
            inputs: vec![("text".to_owned(), 1)],
            output: "toxicity".to_owned(),
            column: 1,
            limit: 0.5,
        }
    }

    fn spec(name: &str, datatype: Datatype, axes: Vec<Axis>) -> TensorSpec {
        TensorSpec::new(name, datatype, axes)
    }

    fn signature() -> Signature {
        Signature {
            batched: true,
            inputs: vec![spec("text", Datatype::Bytes, vec![Axis::Free])],
            outputs: vec![spec(
                "toxicity",
                Datatype::Fp32,
                vec![Axis::Free, Axis::Fixed(2)],
            )],
        }
    }

    fn inputs() -> Inputs {
        let number = Tensor::from_f32([2], &[0.0; 2]).unwrap();
        let text = Tensor::from_strings([2], &["a", "b"]).unwrap();
        Inputs {
            tensors: vec![number, text],
            plain: Vec::new(),
            rows: 2,
        }
    }

    #[test]
    fn our_tensor_goes_by_the_guards_own_name() {
        let (question, output) = guard().question(&signature(), &inputs()).unwrap();
        assert_eq!(question.tensors, [inputs().tensors[1].clone()]);
        assert_eq!((question.rows, output), (2, 0));
    }

    #[test]
    fn a_guard_that_takes_something_else_cannot_be_asked() {
        let other = Guard {
            inputs: vec![("text".to_owned(), 0)],
            ..guard()
        };
        let error = other.question(&signature(), &inputs()).unwrap_err();
        assert!(matches!(error, GuardError::Inputs(_)), "{error}");
        let other = Guard {
            output: "score".to_owned(),
            ..guard()
        };
        let error = other.question(&signature(), &inputs()).unwrap_err();
        assert_eq!(error.to_string(), "it has no output `score` of numbers");
        let fits = |guard: Guard| {
            let ours = Signature {
                batched: true,
                inputs: vec![
                    spec("n", Datatype::Fp32, vec![Axis::Free]),
                    spec("t", Datatype::Bytes, vec![Axis::Free]),
                ],
                outputs: Vec::new(),
            };
            guard.fits(&ours, &signature())
        };
        assert!(fits(guard()).is_ok());
        for (inputs, message) in [
            (vec![], "its input `text` is not given"),
            (
                vec![("text".to_owned(), 0)],
                "its input `text` is of BYTES, ours of FP32",
            ),
            (
                vec![("text".to_owned(), 1), ("other".to_owned(), 0)],
                "it has no input `other`",
            ),
        ] {
            let error = fits(Guard { inputs, ..guard() }).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_rows_over_the_limit_are_named_and_all_where_the_guard_sees_one() {
        let scores = Tensor::from_f32([2, 2], &[0.9, 0.5, 0.1, 0.6]).unwrap();
        let found = guard().judge(&scores, 2, 2).unwrap().unwrap();
        assert_eq!(found.rows.named(), [1]);
        let whole = Tensor::from_f32([2], &[0.9, f32::NAN]).unwrap();
        let found = guard().judge(&whole, 1, 2).unwrap().unwrap();
        assert_eq!(found.rows.named(), [0, 1]);
        let narrow = Tensor::from_f32([2, 1], &[0.0; 2]).unwrap();
        assert!(guard().judge(&narrow, 2, 2).is_err());
    }
}
