//! What a server says about itself and its models.

use serde::{Deserialize, Serialize};

use crate::datatype::Datatype;

/// The answer to `GET /v2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: String,
    /// The server's own version.
    pub version: String,
    /// Protocol extensions that it speaks.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// The answer to `GET /v2/health/live`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLive {
    /// Whether the process can answer at all.
    pub live: bool,
}

/// The answer to `GET /v2/health/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReady {
    /// Whether every model that should be served is ready.
    pub ready: bool,
}

/// The answer to `GET /v2/models/M[/versions/V]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// The versions that are served here.
    #[serde(default)]
    pub versions: Vec<String>,
    /// What runs it, such as `torchscript`.
    pub platform: String,
    /// Its inputs.
    pub inputs: Vec<TensorMetadata>,
    /// Its outputs.
    pub outputs: Vec<TensorMetadata>,
}

/// One tensor of a model's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its elements' type.
    pub datatype: Datatype,
    /// Its axes, outermost first; -1 where the size is free.
    pub shape: Vec<i64>,
}

/// The answer to `GET /v2/models/M[/versions/V]/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReady {
    /// The model's name.
    pub name: String,
    /// Whether it would answer now.
    pub ready: bool,
}

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong: the field, what was expected and what was there.
    pub error: String,
}

// === impl ErrorBody ===

impl ErrorBody {
    /// Puts an error's text into a body.
    #[must_use]
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self {
            error: error.to_string(),
        }
    }
}
