//! When a request must be answered: the least of what the client says and what the server allows.

use std::time::{Duration, Instant};

use aegis_protocol::{
    Parameters,
    timeout::{self, BadParameter, BadTimeout, PARAMETER},
};

/// Why a timeout makes no sense. The client's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TimeoutError {
    /// The header.
    #[error(transparent)]
    Header(#[from] BadTimeout),
    /// The parameter.
    #[error(transparent)]
    Parameter(#[from] BadParameter),
}

/// The timeout that a request's parameters ask for.
///
/// # Errors
///
/// When it is anything but a whole number from 1.
pub(super) fn parameter(parameters: &Parameters) -> Result<Option<Duration>, TimeoutError> {
    let value = parameters.get(PARAMETER);
    Ok(value.map(timeout::of_parameter).transpose()?)
}

/// The least of these, from the request's arrival.
pub(crate) fn deadline(
    arrived: Instant,
    asked: [Option<Duration>; 2],
    allowed: Duration,
) -> Instant {
    arrived + asked.into_iter().flatten().fold(allowed, Duration::min)
}

#[cfg(test)]
mod tests {
    use aegis_protocol::Parameter;

    use super::*;

    #[test]
    fn the_parameter_is_read_by_its_name() {
        let of = |name: &str, value| parameter(&Parameters::from([(name.to_owned(), value)]));
        let us = Ok(Some(Duration::from_micros(250)));
        assert_eq!(of("timeout", Parameter::Int(250)), us);
        assert_eq!(of("time", Parameter::Int(250)), Ok(None));
        assert!(of("timeout", Parameter::Int(0)).is_err());
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
