//! The model repository extension: which models there are, and loading and unloading them.
//!
//! Shapes as Triton has them. Parameters are few and plain, and those that are not understood are
//! refused: a client that sends a configuration with a load must not believe that it was heeded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::excerpt;

/// The body of `POST /v2/repository/index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRequest {
    /// Only what is ready.
    #[serde(default)]
    pub ready: bool,
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIndex {
    /// The model.
    pub name: String,
    /// The version; none of a model that is not loaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How it is.
    pub state: ModelState,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// It answers.
    Ready,
    /// It is being loaded.
    Loading,
    /// It is not loaded, or cannot answer.
    Unavailable,
}

/// The body of `POST /v2/repository/models/M/load` and `/unload`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// What is asked for beside the model's name.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// A parameter is not understood. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such parameter.
    #[error("parameters.{}: not supported; known: {known}", excerpt(.name))]
    Unknown {
        /// Its name.
        name: String,
        /// What there is.
        known: &'static str,
    },
    /// It is of another type.
    #[error("parameters.{name}: expected {expected}")]
    Type {
        /// Its name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

// === impl ChangeRequest ===

impl ChangeRequest {
    /// The versions to load, the first of which answers requests that name none: the parameter
    /// `versions`, a text such as `3,1`.
    ///
    /// # Errors
    ///
    /// When there is another parameter.
    pub fn versions(&self) -> Result<Option<Vec<String>>, ChangeError> {
        const NAME: &str = "versions";
        self.only(NAME)?;
        match self.parameters.get(NAME) {
            None => Ok(None),
            Some(Value::String(versions)) => {
                let versions = versions.split(',').map(|version| version.trim().to_owned());
                Ok(Some(versions.collect()))
            }
            Some(_) => Err(ChangeError::Type {
                name: NAME,
                expected: "a text, such as \"3,1\"",
            }),
        }
    }

    /// Checks what an unload may say: `unload_dependents`, which changes nothing. It means the models
    /// that were loaded along with this one, and here each is loaded on its own, guards too.
    ///
    /// # Errors
    ///
    /// When there is another parameter.
    pub fn check_unload(&self) -> Result<(), ChangeError> {
        const NAME: &str = "unload_dependents";
        self.only(NAME)?;
        match self.parameters.get(NAME) {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(_) => Err(ChangeError::Type {
                name: NAME,
                expected: "true or false",
            }),
        }
    }

    fn only(&self, known: &'static str) -> Result<(), ChangeError> {
        match self.parameters.keys().find(|name| *name != known) {
            Some(name) => Err(ChangeError::Unknown {
                name: name.clone(),
                known,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ChangeRequest, ModelIndex, ModelState};

    fn change(parameters: &serde_json::Value) -> ChangeRequest {
        serde_json::from_value(json!({ "parameters": parameters })).unwrap()
    }

    #[test]
    fn versions_come_in_their_order() {
        let versions = change(&json!({ "versions": "3, 1" })).versions();
        assert_eq!(versions, Ok(Some(vec!["3".to_owned(), "1".to_owned()])));
        assert_eq!(change(&json!({})).versions(), Ok(None));
        assert_eq!(ChangeRequest::default().versions(), Ok(None));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let error = change(&json!({ "config": "{}" })).versions().unwrap_err();
        assert_eq!(
            error.to_string(),
            "parameters.config: not supported; known: versions"
        );
        let error = change(&json!({ "versions": 3 })).versions().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("parameters.versions: expected a text")
        );
        assert!(
            change(&json!({ "unload_dependents": false }))
                .check_unload()
                .is_ok()
        );
        let error = change(&json!({ "unload_dependents": 1 }))
            .check_unload()
            .unwrap_err();
        assert!(error.to_string().contains("true or false"), "{error}");
        assert!(change(&json!({ "versions": "1" })).check_unload().is_err());
    }

    #[test]
    fn a_line_of_the_index_is_written_as_triton_writes_it() {
        let line = ModelIndex {
            name: "digits".into(),
            version: String::new(),
            state: ModelState::Unavailable,
            reason: "not loaded".into(),
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"name":"digits","state":"UNAVAILABLE","reason":"not loaded"}"#
        );
    }
}
