//! `safety.json`: what was fitted to a data set, beside the version that it was fitted for.
//!
//! It lies in the version's folder, so that a signature of the folder covers it: who could change a
//! limit could switch a check off. It says what it was made from, by digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::gaussian::{Gaussian, GaussianError};

/// The file's name in a version's folder.
pub const FILE: &str = "safety.json";

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// The only form that there is.
const FORMAT: &str = "aegis-safety-1";

/// Everything that was fitted for a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    format: String,
    /// What it was fitted to.
    pub provenance: Provenance,
    /// By the names of inputs.
    #[serde(default)]
    pub inputs: BTreeMap<String, Fitted>,
    /// By the names of outputs.
    #[serde(default)]
    pub outputs: BTreeMap<String, Fitted>,
}

/// Where statistics come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The program that fitted them.
    pub program: String,
    /// The files that it read.
    pub data: Vec<Source>,
    /// Rows that means and covariances were computed from.
    pub fitted_rows: usize,
    /// Other rows, that limits were chosen by.
    pub calibrated_rows: usize,
    /// The share of such rows that may be taken for strange ones.
    pub false_positive_rate: f64,
}

/// A file of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, without its folder.
    pub file: String,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// What was fitted for one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Fitted {
    /// A normal distribution.
    Mahalanobis {
        /// The largest distance that is allowed.
        limit: f64,
        /// How much of the covariance is replaced by its average variance, 0 to 1.
        shrinkage: f64,
        /// The mean of the rows.
        mean: Vec<f64>,
        /// The Cholesky factor of their covariance, packed.
        cholesky: Vec<f64>,
    },
    /// The energy of logits.
    Energy {
        /// The largest energy that is allowed.
        limit: f64,
    },
}

/// Why statistics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// No JSON of that form.
    #[error("safety.json")]
    Json(#[from] serde_json::Error),
    /// Another form.
    #[error("safety.json: expected format `{FORMAT}`, got `{got}`")]
    Format {
        /// The form that it says.
        got: String,
    },
    /// It holds nothing for a tensor that is checked.
    #[error("safety.json holds no {method} of {side} `{tensor}`; `aegis-backend fit` makes it")]
    Missing {
        /// What is needed.
        method: &'static str,
        /// Of an input, or of an output.
        side: &'static str,
        /// Of which.
        tensor: String,
    },
    /// There is no file, and the description needs one.
    #[error(
        "the model's safety checks need {FILE}, which is not there; `aegis-backend fit` makes it"
    )]
    NoFile,
    /// A limit is no number.
    #[error("safety.json: `{tensor}`: expected a finite limit, got {got}")]
    Limit {
        /// Of which tensor.
        tensor: String,
        /// What it is.
        got: f64,
    },
    /// A distribution is none.
    #[error("safety.json: `{tensor}`")]
    Gaussian {
        /// Of which tensor.
        tensor: String,
        /// What is wrong with it.
        #[source]
        source: GaussianError,
    },
    /// It is of rows of another width.
    #[error("safety.json: `{tensor}`: expected rows of {expected} numbers, got {got}")]
    Width {
        /// Of which tensor.
        tensor: String,
        /// Numbers of a row, by `model.toml`.
        expected: usize,
        /// Numbers that it was fitted to.
        got: usize,
    },
}

/// Reads the bytes of the file.
///
/// # Errors
///
/// When there is none, or it is larger than it may be.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

// === impl Statistics ===

impl Statistics {
    /// Statistics of nothing yet.
    #[must_use]
    pub fn new(provenance: Provenance) -> Self {
        Self {
            format: FORMAT.to_owned(),
            provenance,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// When it is of another form. What is fitted for a tensor is looked at when it is used.
    pub fn from_json(text: &[u8]) -> Result<Self, StatisticsError> {
        let statistics: Self = serde_json::from_slice(text)?;
        if statistics.format != FORMAT {
            return Err(StatisticsError::Format {
                got: statistics.format,
            });
        }
        Ok(statistics)
    }

    /// Writes the text of the file.
    ///
    /// # Errors
    ///
    /// Never, of what these types can hold; the encoder's signature allows it.
    pub fn to_json(&self) -> Result<String, StatisticsError> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(text)
    }
}

// === impl Fitted ===

impl Fitted {
    /// The limit, whatever it is.
    pub(crate) fn limit_unchecked(&self) -> f64 {
        match *self {
            Self::Mahalanobis { limit, .. } | Self::Energy { limit } => limit,
        }
    }

    /// The limit that was chosen.
    ///
    /// # Errors
    ///
    /// When it is no number. `tensor` is for the message.
    pub(super) fn limit(&self, tensor: &str) -> Result<f64, StatisticsError> {
        let got = self.limit_unchecked();
        if got.is_finite() {
            return Ok(got);
        }
        let tensor = tensor.to_owned();
        Err(StatisticsError::Limit { tensor, got })
    }

    /// The distribution; none of an energy.
    ///
    /// # Errors
    ///
    /// When it is none, or of rows of another width than `expected`, where that is known.
    pub(super) fn gaussian(
        &self,
        tensor: &str,
        expected: Option<usize>,
    ) -> Result<Option<Arc<Gaussian>>, StatisticsError> {
        let Self::Mahalanobis { mean, cholesky, .. } = self else {
            return Ok(None);
        };
        let name = || tensor.to_owned();
        let source = |source| StatisticsError::Gaussian {
            tensor: name(),
            source,
        };
        let known = Gaussian::new(mean, cholesky).map_err(source)?;
        let got = known.width();
        match expected {
            Some(expected) if expected != got => Err(StatisticsError::Width {
                tensor: name(),
                expected,
                got,
            }),
            _ => Ok(Some(Arc::new(known))),
        }
    }
}
