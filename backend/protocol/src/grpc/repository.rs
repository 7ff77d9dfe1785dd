//! The messages of the model repository extension.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;

use super::{NamedParameter, ParameterChoice};
use crate::repository::{ChangeRequest, ModelIndex, ModelState};

/// Which models there are.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RepositoryIndexRequest {
    /// Which repository; there is one.
    #[prost(string, tag = "1")]
    pub repository_name: String,
    /// Only what is ready.
    #[prost(bool, tag = "2")]
    pub ready: bool,
}

/// These models.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RepositoryIndexResponse {
    /// One line for each version.
    #[prost(message, repeated, tag = "1")]
    pub models: Vec<IndexLine>,
}

/// A line of the index.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IndexLine {
    /// The model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The version; none of a model that is not loaded.
    #[prost(string, tag = "2")]
    pub version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Why it is not ready.
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// A model is to be loaded, or unloaded: both have the same fields.
#[derive(Clone, PartialEq, Message)]
pub struct RepositoryChangeRequest {
    /// Which repository; there is one.
    #[prost(string, tag = "1")]
    pub repository_name: String,
    /// The model.
    #[prost(string, tag = "2")]
    pub model_name: String,
    /// What is asked for beside it.
    #[prost(message, repeated, tag = "3")]
    pub parameters: Vec<NamedParameter>,
}

/// It was loaded, or unloaded.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RepositoryChangeResponse {}

// === impl IndexLine ===

impl From<ModelIndex> for IndexLine {
    fn from(line: ModelIndex) -> Self {
        let state = match line.state {
            ModelState::Ready => "READY",
            ModelState::Loading => "LOADING",
            ModelState::Unavailable => "UNAVAILABLE",
        };
        Self {
            name: line.name,
            version: line.version,
            state: state.to_owned(),
            reason: line.reason,
        }
    }
}

// === impl RepositoryChangeRequest ===

impl From<RepositoryChangeRequest> for ChangeRequest {
    /// As if it had come in JSON; a parameter of an unknown type is null, which no parameter takes.
    fn from(request: RepositoryChangeRequest) -> Self {
        let value = |parameter: NamedParameter| {
            let choice = parameter.value.and_then(|value| value.choice);
            let value = match choice {
                Some(ParameterChoice::Bool(value)) => Value::from(value),
                Some(ParameterChoice::Int(value)) => Value::from(value),
                Some(ParameterChoice::Text(value)) => Value::from(value),
                Some(ParameterChoice::Double(value)) => Value::from(value),
                Some(ParameterChoice::Uint(value)) => Value::from(value),
                None => Value::Null,
            };
            (parameter.name, value)
        };
        let parameters: BTreeMap<_, _> = request.parameters.into_iter().map(value).collect();
        Self { parameters }
    }
}
