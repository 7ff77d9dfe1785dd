//! When a request must be answered: the least of what the client says and what the server allows.

use std::time::{Duration, Instant};

use aegis_protocol::{Parameter, Parameters, excerpt, timeout::BadTimeout};

/// The protocol's parameter, in microseconds.
const PARAMETER: &str = "timeout";

/// Why a timeout makes no sense. The client's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TimeoutError {
    /// The header.
    #[error(transparent)]
    Header(#[from] BadTimeout),
    /// The parameter.
    #[error("parameters.timeout: expected whole microseconds >= 1, got {got}")]
    Parameter {
        /// Its value, cut.
        got: String,
    },
}

/// The timeout that a request's parameters ask for.
///
/// # Errors
///
/// When it is anything but a whole number from 1.
pub(super) fn parameter(parameters: &Parameters) -> Result<Option<Duration>, TimeoutError> {
    let Some(value) = parameters.get(PARAMETER) else {
        return Ok(None);
    };
    match value.as_i64().map(u64::try_from) {
        Some(Ok(us @ 1..)) => Ok(Some(Duration::from_micros(us))),
        _ => Err(TimeoutError::Parameter { got: show(value) }),
    }
}

/// The least of these, from the request's arrival.
pub(super) fn deadline(
    arrived: Instant,
    asked: [Option<Duration>; 2],
    allowed: Duration,
) -> Instant {
    arrived + asked.into_iter().flatten().fold(allowed, Duration::min)
}

fn show(value: &Parameter) -> String {
    match value {
        Parameter::Bool(value) => value.to_string(),
        Parameter::Int(value) => value.to_string(),
        Parameter::Float(value) => value.to_string(),
        Parameter::String(value) => format!("`{}`", excerpt(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_parameter(value: Parameter) -> Result<Option<Duration>, TimeoutError> {
        parameter(&Parameters::from([("timeout".to_owned(), value)]))
    }

    #[test]
    fn the_parameter_is_in_microseconds() {
        assert_eq!(
            with_parameter(Parameter::Int(250)),
            Ok(Some(Duration::from_micros(250)))
        );
        assert_eq!(parameter(&Parameters::new()), Ok(None));
    }

    #[test]
    fn anything_but_a_whole_number_from_1_is_refused() {
        let values = [
            Parameter::Int(0),
            Parameter::Int(-5),
            Parameter::Float(1.5),
            Parameter::Bool(true),
            Parameter::String("5".to_owned()),
        ];
        for value in values {
            assert!(with_parameter(value.clone()).is_err(), "{value:?}");
        }
    }

    #[test]
    fn the_least_counts() {
        let now = crate::clock::now();
        let (a, b) = (Duration::from_millis(5), Duration::from_millis(7));
        assert_eq!(
            deadline(now, [Some(a), Some(b)], Duration::from_secs(1)),
            now + a
        );
        assert_eq!(
            deadline(now, [None, Some(b)], Duration::from_millis(1)),
            now + Duration::from_millis(1)
        );
        assert_eq!(deadline(now, [None, Some(Duration::MAX)], b), now + b);
    }
}
