//! Questions drawn at random, from what a model says of itself.

use std::sync::Arc;

use aegis_protocol::{Datatype, ModelMetadata, NamedTensor, Shape, Tensor, TensorMetadata};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fit::{Misfit, expected};
use super::{Question, QuestionError, Questions, numbers};

/// How many different questions are drawn at most.
const QUESTIONS: usize = 64;

/// The most elements of all questions together; one question may have more alone. All of them are written
/// before the first is sent.
const MAX_IN_ALL: usize = 4 << 20;

/// The most elements of one tensor.
const MAX_ELEMENTS: usize = 16 << 20;

/// The characters of drawn text.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// How free choices are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Rows of a request, where the first axis is free.
    pub rows: usize,
    /// The size of every other free axis.
    pub free_axis: usize,
    /// The least number; whole numbers are drawn from this to `to`, both included.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// Decides all of them.
    pub seed: u64,
}

// === impl Draw ===

impl Draw {
    /// Draws questions that the model takes.
    ///
    /// # Errors
    ///
    /// When an input can hold none of the numbers, or would be too large.
    pub fn questions(&self, metadata: &ModelMetadata) -> Result<Questions, QuestionError> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut questions = Vec::with_capacity(QUESTIONS);
        let mut elements = 0;
        for _ in 0..QUESTIONS {
            let inputs = metadata.inputs.iter();
            let inputs = inputs.map(|input| self.input(input, &mut random));
            let inputs = inputs.collect::<Result<Vec<_>, _>>();
            let inputs = inputs.map_err(|misfit| QuestionError::Undrawable {
                model: metadata.name.clone(),
                misfit,
            })?;
            let sizes = inputs.iter().map(|input| input.tensor.element_count());
            let size = sizes.sum::<usize>();
            elements += size;
            questions.push(Question::new(inputs, None));
            if elements + size > MAX_IN_ALL {
                break;
            }
        }
        Ok(Questions::Made(Arc::new(questions)))
    }

    fn input(&self, input: &TensorMetadata, random: &mut StdRng) -> Result<NamedTensor, Misfit> {
        let sizes = input.shape.iter().zip(0..).map(|(&size, axis)| match size {
            ..0 if axis == 0 => self.rows,
            ..0 => self.free_axis,
            size => usize::try_from(size).unwrap_or(usize::MAX),
        });
        let shape = Shape::from(sizes.collect::<Vec<_>>());
        let count = shape.element_count().filter(|&count| count <= MAX_ELEMENTS);
        let count = count.ok_or_else(|| Misfit::Other {
            name: input.name.clone(),
            expected: expected(input),
            got: format!("{shape}, over the {MAX_ELEMENTS} elements that are drawn"),
        })?;
        let tensor = if input.datatype == Datatype::Bytes {
            let texts: Vec<_> = (0..count).map(|_| word(random)).collect();
            Tensor::from_strings(shape, &texts)?
        } else {
            let range = self.range(input)?;
            let drawn: Vec<_> = (0..count)
                .map(|_| number(input.datatype, range, random))
                .collect();
            numbers::tensor(input, shape, &drawn)?
        };
        Ok(NamedTensor::new(input.name.as_str(), tensor))
    }

    /// What is drawn from for an input: whatever the datatype holds, nothing beyond it is drawn and refused later.
    fn range(&self, input: &TensorMetadata) -> Result<(f64, f64), Misfit> {
        let (least, most) = match input.datatype {
            // No number is meant by what is true or false.
            Datatype::Bool => return Ok((0.0, 1.0)),
            datatype if datatype.is_float() => (self.from, self.to),
            _ => (self.from.ceil(), self.to.floor()),
        };
        let held = numbers::range(input.datatype).filter(|(lowest, highest)| {
            let is_whole = input.datatype.is_float() || least <= most;
            is_whole && *lowest <= least && most <= *highest
        });
        held.map(|_| (least, most)).ok_or_else(|| {
            let (lowest, highest) = numbers::range(input.datatype).unwrap_or((0.0, 0.0));
            let kind = if input.datatype.is_float() {
                "numbers"
            } else {
                "whole numbers"
            };
            Misfit::Other {
                name: input.name.clone(),
                expected: format!(
                    "{}, so {kind} from {lowest} to {highest} to draw from",
                    expected(input)
                ),
                got: format!("{} to {}", self.from, self.to),
            }
        })
    }
}

fn number(datatype: Datatype, (least, most): (f64, f64), random: &mut StdRng) -> f64 {
    if datatype.is_float() {
        return random.random_range(least..=most);
    }
    // The share of the range, so that both ends are as likely as all between.
    (least + random.random::<f64>() * (most - least + 1.0))
        .floor()
        .min(most)
}

fn word(random: &mut StdRng) -> String {
    let length = random.random_range(1..=12);
    let letter = |_| {
        let at = random.random_range(0..LETTERS.len());
        char::from(LETTERS.get(at).copied().unwrap_or(b'a'))
    };
    (0..length).map(letter).collect()
}
