//! The answer to `GET /health`: which models this process holds, and how they are.

use serde::{Deserialize, Serialize};

/// Says how a server and its models are.
///
/// `model_version` and `loaded` stand at the top level in every answer, so that
/// a probe needs to know neither the models' names nor how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The version served; of several models, `name:version` of each, with commas.
    pub model_version: String,
    /// Whether every configured model is loaded.
    pub loaded: bool,
    /// Whether the process is going away.
    #[serde(default)]
    pub draining: bool,
    /// Each configured model version.
    #[serde(default)]
    pub models: Vec<ModelHealth>,
}

/// Says how one model version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelHealth {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Whether it is in memory.
    pub loaded: bool,
    /// Whether it has run at every batch size that can occur.
    pub warm: bool,
    /// The digest over all files of the version, where they were verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whose trusted key signed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Why it is not loaded or not warm, or what is wrong with one that is loaded all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
