//! Named scalars that ride along with a request, an answer or a tensor.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::text::excerpt;

/// The most parameters of a request, an answer, a tensor or an output.
pub(crate) const MAX_PARAMETERS: usize = 256;

/// Parameters by name, in the order of their names.
pub type Parameters = BTreeMap<String, Parameter>;

/// The parameter of an answer that names what safety checks found in which rows:
/// `low_confidence=0,3 ood_input=3`.
pub const SAFETY_FLAGS: &str = "safety_flags";

/// One parameter: the protocol allows booleans, numbers and strings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    String(String),
}

// === impl Parameter ===

impl Parameter {
    /// The value as a whole number; none for any other kind.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as a text; none for any other kind.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }
}

/// For messages: texts are quoted, and cut.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::String(value) => write!(f, "`{}`", excerpt(value)),
        }
    }
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

/// By hand, because serde's untagged enums buffer the value and then say only
/// that nothing matched.
struct ParameterVisitor;

// === impl ParameterVisitor ===

impl Visitor<'_> for ParameterVisitor {
    type Value = Parameter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean, a number or a string")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Parameter, E> {
        Ok(Parameter::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter::Int(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond i64 a parameter is a float, as in JSON"
    )]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Parameter, E> {
        Ok(i64::try_from(value).map_or(Parameter::Float(value as f64), Parameter::Int))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Parameter, E> {
        Ok(Parameter::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Parameter, E> {
        Ok(Parameter::String(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_is_taken_as_its_kind() {
        let text = r#"{"a": true, "b": -3, "c": 0.5, "d": "x", "e": 18446744073709551615}"#;
        let parameters: Parameters = serde_json::from_str(text).unwrap();
        assert_eq!(parameters["a"], Parameter::Bool(true));
        assert_eq!(parameters["b"].as_i64(), Some(-3));
        assert_eq!(parameters["c"], Parameter::Float(0.5));
        assert_eq!(parameters["d"].as_str(), Some("x"));
        assert_eq!(
            parameters["e"],
            Parameter::Float(18_446_744_073_709_551_615.0)
        );
    }

    #[test]
    fn lists_objects_and_null_are_refused() {
        for value in ["[1]", "{}", "null"] {
            let error = serde_json::from_str::<Parameter>(value)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("expected a boolean, a number or a string"),
                "{error}"
            );
        }
    }
}
