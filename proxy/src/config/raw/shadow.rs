//! The shadow of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ranges::{PERCENT, SHADOW_BYTES, SHADOW_IN_FLIGHT, TOLERANCE, UPSTREAM_MS};

/// Another version that a part of the inferences is asked of too, off the clients'
/// path, to compare the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Shadow")]
pub struct RawShadow {
    /// The version; empty for none.
    pub version: String,
    /// Of how many in a hundred inferences that another version answers well.
    #[schemars(range(min = PERCENT.min, max = PERCENT.max))]
    pub percent: f64,
    /// Requests and answers with longer bodies are not compared, in bytes.
    #[schemars(range(min = SHADOW_BYTES.min, max = SHADOW_BYTES.max))]
    pub max_kept_bytes: u64,
    /// Requests that are kept or out at once; further ones are not compared.
    #[schemars(range(min = SHADOW_IN_FLIGHT.min, max = SHADOW_IN_FLIGHT.max))]
    pub max_at_once: u64,
    /// How long its answer may take, in milliseconds.
    #[schemars(range(min = UPSTREAM_MS.min, max = UPSTREAM_MS.max))]
    pub answer_timeout_ms: u64,
    /// Two numbers agree that are at most `atol` plus this part of the client's
    /// number apart.
    #[schemars(range(min = TOLERANCE.min, max = TOLERANCE.max))]
    pub rtol: f64,
    /// See `rtol`.
    #[schemars(range(min = TOLERANCE.min, max = TOLERANCE.max))]
    pub atol: f64,
}

// === impl RawShadow ===

impl Default for RawShadow {
    fn default() -> Self {
        Self {
            version: String::new(),
            percent: 5.0,
            max_kept_bytes: 1024 * 1024,
            max_at_once: 32,
            answer_timeout_ms: 5_000,
            rtol: 1e-4,
            atol: 1e-5,
        }
    }
}
