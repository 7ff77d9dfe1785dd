//! `[safety]` of `model.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What is checked in requests and answers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSafety {
    /// What a check that cannot do its work amounts to, as when a guard model fails. With `block`, a guard
    /// that is not ready, or has no time or room, makes the model not ready or the request one to send again.
    pub on_error: RawOnError,
    /// Whether a request of another signature is counted as flagged. It is refused either way:
    /// `block` or `off`.
    pub schema: RawAction,
    /// A NaN or an infinity in an input.
    pub nan_inf_input: RawAction,
    /// A NaN or an infinity in an output. Costs only the request whose rows hold it.
    pub nan_inf_output: RawAction,
    /// Bounds of a request.
    pub size: RawSize,
    /// Bounds of the numbers of inputs.
    pub range: Vec<RawRange>,
    /// Words that no text may hold.
    pub blocklist: Vec<RawBlocklist>,
    /// Patterns that no text may match.
    pub pattern: Vec<RawPattern>,
    /// Inputs that are unlike the data that the model knows.
    pub ood_input: Vec<RawOodInput>,
    /// Other models whose scores decide whether a request goes on.
    pub guard: Vec<RawGuard>,
    /// Bounds of the numbers of outputs.
    pub output_range: Vec<RawOutputRange>,
    /// Answers that the model is not sure of.
    pub low_confidence: Vec<RawLowConfidence>,
    /// Outputs that are unlike those that the model usually gives.
    pub ood_output: Vec<RawOodOutput>,
}

/// What is done about a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawAction {
    /// The request is refused and counted.
    #[default]
    Block,
    /// It is answered and counted; the header `x-aegis-safety-flags` and the parameter
    /// `safety_flags` of the answer say why it should not be trusted.
    Flag,
    /// It is answered and counted; the log says why, once a second at the most.
    Log,
    /// Not checked.
    Off,
}

/// What a check that cannot do its work amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOnError {
    /// The request is refused.
    #[default]
    Block,
    /// It is answered, and the answer says so.
    Flag,
    /// It is answered, and the log says so.
    Log,
}

/// Bounds of a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSize {
    /// What is done about one that is larger.
    pub action: RawAction,
    /// The most rows; 0 for no bound.
    pub max_rows: usize,
    /// The most elements, of all inputs together; 0 for no bound.
    pub max_elements: usize,
}

/// Bounds of the numbers of an input.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRange {
    /// What is done about a number outside.
    pub action: RawAction,
    /// Of which input.
    pub input: String,
    /// The least that is allowed; none when left out.
    pub min: Option<f64>,
    /// The largest that is allowed; none when left out.
    pub max: Option<f64>,
}

/// Words that no text of a BYTES input may hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBlocklist {
    /// What is done about a text that holds one.
    pub action: RawAction,
    /// Of which input.
    pub input: String,
    /// The words, wherever they stand in the text; at most 10,000.
    pub words: Vec<String>,
    /// Whether upper and lower case are the same, by Unicode's full case folding: `ß` is `SS`.
    pub fold_case: bool,
}

/// Patterns that no text of a BYTES input may match.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPattern {
    /// What is done about a text that matches one.
    pub action: RawAction,
    /// Of which input.
    pub input: String,
    /// Regular expressions, without look-around and back-references; at most 10,000.
    pub patterns: Vec<String>,
    /// Whether upper and lower case are the same, one character for one: `ß` is `ẞ`, and not `SS`.
    pub fold_case: bool,
}

/// Inputs that are unlike the data that the model knows, by their Mahalanobis distance. Needs
/// `VERSION/safety.json`, which `aegis-backend fit` makes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOodInput {
    /// What is done about a row that is too far.
    pub action: RawAction,
    /// Of which input.
    pub input: String,
    /// The largest distance that is allowed; the fitted one when left out.
    pub limit: Option<f64>,
}

/// Another model of the repository whose score decides whether a request goes on. Runs in an engine
/// of its own, within the request's deadline, and without that model's own checks.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawGuard {
    /// What is done about a score over the limit.
    pub action: RawAction,
    /// The guard's name in the repository; it must be served, too.
    pub model: String,
    /// Its version; the first that is served when left out.
    pub version: Option<String>,
    /// Our input for each input of the guard, by the guard's names.
    pub inputs: BTreeMap<String, String>,
    /// The guard's output that holds the score.
    pub output: String,
    /// Which number of a row of that output is the score, from 0.
    pub column: usize,
    /// The largest score that is allowed.
    pub max: f64,
}

/// Bounds of the numbers of an output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOutputRange {
    /// What is done about a number outside.
    pub action: RawAction,
    /// Of which output.
    pub output: String,
    /// The least that is allowed; none when left out.
    pub min: Option<f64>,
    /// The largest that is allowed; none when left out.
    pub max: Option<f64>,
}

/// Answers that the model is not sure of.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLowConfidence {
    /// What is done about such a row.
    pub action: RawAction,
    /// The output that holds the probabilities.
    pub output: String,
    /// What the largest of a row must reach.
    pub min: f64,
}

/// Outputs that are unlike those that the model usually gives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOodOutput {
    /// What is done about such a row.
    pub action: RawAction,
    /// Of which output.
    pub output: String,
    /// How it is told.
    pub method: RawMethod,
    /// The largest energy or distance that is allowed; the fitted one when left out.
    pub limit: Option<f64>,
}

/// How outputs are told from usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawMethod {
    /// −log Σ exp of the output, which holds logits.
    #[default]
    Energy,
    /// The Mahalanobis distance of the output.
    Mahalanobis,
}

// === defaults ===

impl Default for RawBlocklist {
    fn default() -> Self {
        Self {
            action: RawAction::Block,
            input: String::new(),
            words: Vec::new(),
            fold_case: true,
        }
    }
}

impl Default for RawPattern {
    fn default() -> Self {
        Self {
            action: RawAction::Block,
            input: String::new(),
            patterns: Vec::new(),
            fold_case: true,
        }
    }
}
