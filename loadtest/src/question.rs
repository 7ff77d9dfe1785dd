//! What a model is asked, and what is right.
//!
//! Questions come from a table of labelled features ([`Dataset`]), from files of requests, arrays or pictures, or
//! are drawn from what the model says of itself, so that any model can be put under load with no file
//! at hand. Where the model's signature is known they are held to it before anything is sent: a run of
//! which every request is refused measures nothing.

use std::path::PathBuf;
use std::sync::Arc;

use aegis_protocol::{
    DecodeError, InferRequest, ModelMetadata, NamedTensor, Parameters, RequestedOutput, Tensor,
    TensorError, TensorMetadata, listed,
};

use crate::dataset::{Dataset, DatasetError};

pub use self::draw::Draw;
pub use self::fit::Misfit;

mod draw;
mod fit;
mod lines;
mod npy;
pub(crate) mod numbers;
mod png;

/// The most questions that are kept.
const MAX_QUESTIONS: usize = 1_000_000;

/// The most bytes of a file that are read, after decompression.
const MAX_BYTES: u64 = 1 << 30;

/// One request, and what is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What it is called, where it has a name of its own.
    pub id: Option<String>,
    /// The model's inputs.
    pub inputs: Vec<NamedTensor>,
    /// The outputs that it asks for; empty means all.
    pub outputs: Vec<RequestedOutput>,
    /// What a request says of itself, such as `priority`.
    pub parameters: Parameters,
    /// The right label; none where nothing is known.
    pub label: Option<i64>,
}

/// What one model is asked, in turn; at least one.
#[derive(Clone, Debug)]
pub enum Questions {
    /// Features and labels, for the input that the target names.
    Table(Arc<Dataset>),
    /// Whole requests.
    Made(Arc<Vec<Question>>),
}

/// Says why there are no questions. It is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// A table is none.
    #[error(transparent)]
    Table(#[from] DatasetError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is no request.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// A file is no array.
    #[error("{}: {problem}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is none, or there are too many.
    #[error("{}: expected 1 to {MAX_QUESTIONS} requests, got {got}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many there are.
        got: usize,
    },
    /// They are not what the model takes.
    #[error("{}: {misfit}", path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Where they are not.
        misfit: Misfit,
    },
    /// Nothing can be drawn for the model.
    #[error("the model `{model}`: {misfit}")]
    Undrawable {
        /// The model.
        model: String,
        /// Why not.
        misfit: Misfit,
    },
    /// The name of the file says nothing of what it holds.
    #[error("{}: expected a folder of PNGs, or a name that ends in .csv, .jsonl, .npy or .png, or one of them and .gz", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The file holds one array, and the model has several inputs.
    #[error(
        "{}: one array, and the model has {}: expected --input to name one, or a .jsonl with all of them",
        path.display(), inputs
    )]
    WhichInput {
        /// The file.
        path: PathBuf,
        /// The inputs.
        inputs: String,
    },
}

/// Says why a line is no request.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// It is no JSON, or of other members.
    #[error("expected a request, or {{\"request\": ..., \"label\": ...}}: {0}")]
    Json(#[from] serde_json::Error),
    /// Its request is none.
    #[error(transparent)]
    Request(#[from] DecodeError),
    /// It is not what the model takes.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// What is known of the model when its questions are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Its signature; none where the server does not tell.
    pub metadata: Option<&'a ModelMetadata>,
    /// The input that takes a table's or an array's values; none leaves it to the signature.
    pub input: Option<&'a str>,
    /// What black and white of a picture become; none leaves it to the datatype: 0 and 1 of floats, 0 and 255 of
    /// whole numbers.
    pub pixels: Option<(f64, f64)>,
}

// === impl Question ===

impl Question {
    pub(crate) fn new(inputs: Vec<NamedTensor>, label: Option<i64>) -> Self {
        Self {
            id: None,
            inputs,
            outputs: Vec::new(),
            parameters: Parameters::new(),
            label,
        }
    }

    /// As a request, whose data is shared.
    pub(crate) fn request(&self) -> InferRequest {
        InferRequest {
            id: self.id.clone(),
            parameters: self.parameters.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        }
    }
}

/// As it stands, and with nothing known of what is right.
impl From<InferRequest> for Question {
    fn from(request: InferRequest) -> Self {
        Self {
            id: request.id,
            inputs: request.inputs,
            outputs: request.outputs,
            parameters: request.parameters,
            label: None,
        }
    }
}

// === impl Questions ===

impl Questions {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Table(data) => data.examples().len(),
            Self::Made(questions) => questions.len(),
        }
    }

    /// Whether some know what is right.
    #[must_use]
    pub fn are_labelled(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Made(questions) => questions.iter().any(|question| question.label.is_some()),
        }
    }

    /// The question of that number, where `input` takes a table's features.
    pub(crate) fn get(&self, number: usize, input: &str) -> Result<Option<Question>, TensorError> {
        match self {
            Self::Table(data) => {
                let example = data.examples().get(number);
                example
                    .map(|example| {
                        let image = Tensor::from_f32([1, example.input.len()], &example.input)?;
                        let inputs = vec![NamedTensor::new(input, image)];
                        Ok(Question::new(inputs, Some(example.label)))
                    })
                    .transpose()
            }
            Self::Made(questions) => Ok(questions.get(number).cloned()),
        }
    }

    /// Reads a file of questions, by the ending of its name, or a folder of pictures, and holds them to the model's signature.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not what its name says, or holds what the model does not take.
    pub fn read(path: &std::path::Path, asked: Asked<'_>) -> Result<Self, QuestionError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let made = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv") => table(path, asked)?,
            Some("jsonl") => lines::read(path, asked)?,
            Some("npy") => npy::read(path, asked)?,
            Some("png" | "PNG") => png::read(path, asked)?,
            _ if path.is_dir() => png::read(path, asked)?,
            _ => {
                return Err(QuestionError::Unknown {
                    path: path.to_owned(),
                });
            }
        };
        match made.len() {
            1..=MAX_QUESTIONS => Ok(Self::Made(Arc::new(made))),
            got => Err(QuestionError::Count {
                path: path.to_owned(),
                got,
            }),
        }
    }
}

/// A table of features and labels, in the shape that the model takes.
fn table(path: &std::path::Path, asked: Asked<'_>) -> Result<Vec<Question>, QuestionError> {
    let data = Dataset::from_csv(path)?;
    let misfit = |misfit| QuestionError::Misfit {
        path: path.to_owned(),
        misfit,
    };
    let target = input(path, asked)?;
    let mut questions = Vec::with_capacity(data.examples().len());
    for (example, line) in data.examples().iter().zip(1..) {
        let values = example.input.iter().map(|&value| f64::from(value));
        let tensor = match &target {
            Some(metadata) => numbers::one(metadata, &values.collect::<Vec<_>>()),
            None => {
                Tensor::from_f32([1, example.input.len()], &example.input).map_err(Misfit::from)
            }
        };
        let tensor = tensor.map_err(|problem| misfit(problem.at(line)))?;
        let name = target
            .as_ref()
            .map_or(DEFAULT_INPUT, |metadata| &metadata.name);
        let name = asked.input.unwrap_or(name);
        questions.push(Question::new(
            vec![NamedTensor::new(name, tensor)],
            Some(example.label),
        ));
    }
    Ok(questions)
}

/// The input of the bundled model, where nobody says otherwise.
pub(crate) const DEFAULT_INPUT: &str = "image";

/// The input that takes the values of a file with one array; none where no signature is known.
fn input(
    path: &std::path::Path,
    asked: Asked<'_>,
) -> Result<Option<TensorMetadata>, QuestionError> {
    let Some(metadata) = asked.metadata else {
        return Ok(None);
    };
    let misfit = |misfit| QuestionError::Misfit {
        path: path.to_owned(),
        misfit,
    };
    let inputs = &metadata.inputs;
    match (asked.input, &inputs[..]) {
        (Some(name), _) => {
            let found = inputs.iter().find(|input| input.name == name);
            let found = found
                .ok_or_else(|| Misfit::no_such(name, inputs))
                .map_err(misfit)?;
            fit::missing(&[name], inputs).map_err(misfit)?;
            Ok(Some(found.clone()))
        }
        (None, [only]) => Ok(Some(only.clone())),
        (None, _) => Err(QuestionError::WhichInput {
            path: path.to_owned(),
            inputs: listed(inputs.iter().map(|input| input.name.as_str())),
        }),
    }
}

#[cfg(test)]
mod tests;
