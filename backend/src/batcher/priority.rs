//! How important a request is, beside others of the same model.

use aegis_protocol::Parameters;

/// The name of the parameter.
const PARAMETER: &str = "priority";
/// The least important.
const LAST: u8 = 10;
/// Of requests that say nothing, or 0, which the protocol's users take for that.
const USUAL: u8 = 5;

/// A level; the lower, the sooner. What waits at a lower level is run first, whatever its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

/// The parameter names no level. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "parameters.priority: expected a whole number from 1, the first, to {LAST}, or 0 for the usual, got {got}"
)]
pub struct BadPriority {
    /// Its value, cut.
    pub got: String,
}

// === impl Priority ===

impl Priority {
    /// Before everybody.
    pub const FIRST: Self = Self(1);
    /// Behind everybody.
    pub const LAST: Self = Self(LAST);

    /// The level that a request's parameters ask for.
    ///
    /// # Errors
    ///
    /// When it is none that there is.
    pub fn of_parameters(parameters: &Parameters) -> Result<Self, BadPriority> {
        let Some(value) = parameters.get(PARAMETER) else {
            return Ok(Self::default());
        };
        match value.as_i64().map(u8::try_from) {
            Some(Ok(0)) => Ok(Self::default()),
            Some(Ok(level @ 1..=LAST)) => Ok(Self(level)),
            _ => Err(BadPriority {
                got: value.to_string(),
            }),
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(USUAL)
    }
}

#[cfg(test)]
mod tests {
    use aegis_protocol::Parameter;

    use super::*;

    fn of(value: Parameter) -> Result<Priority, BadPriority> {
        Priority::of_parameters(&Parameters::from([(PARAMETER.to_owned(), value)]))
    }

    #[test]
    fn nothing_and_0_are_the_usual_and_1_is_the_first() {
        assert_eq!(
            Priority::of_parameters(&Parameters::new()),
            Ok(Priority::default())
        );
        assert_eq!(of(Parameter::Int(0)), Ok(Priority::default()));
        assert_eq!(of(Parameter::Int(1)), Ok(Priority::FIRST));
        assert_eq!(of(Parameter::Int(10)), Ok(Priority::LAST));
        assert!(Priority::FIRST < Priority::default() && Priority::default() < Priority::LAST);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for value in [
            Parameter::Int(11),
            Parameter::Int(-1),
            Parameter::Float(1.5),
            Parameter::String("high".to_owned()),
        ] {
            let error = of(value).unwrap_err().to_string();
            assert!(
                error.starts_with("parameters.priority: expected"),
                "{error}"
            );
        }
    }
}
