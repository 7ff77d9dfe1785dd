//! What an attempt taught about its endpoint.
//!
//! An outcome is decided once, from what was seen on the wire, and recorded
//! against the permit of that attempt. It speaks of the endpoint, not of the
//! request: a 404 is a good answer from a healthy endpoint, and a client that
//! has little patience says nothing about who kept it waiting.

use std::time::Duration;

/// The verdict of one attempt on the endpoint that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The endpoint answered as it should. Whether it did so in time is for the
    /// policy to say, which knows what its peers take.
    Success {
        /// From the last byte of the request to the first of the answer.
        waited: Duration,
    },
    /// The endpoint began its answer before it had the whole request: it is
    /// well, and how long it took says nothing.
    Early,
    /// The endpoint failed: a 5xx, no connection, or a reset before an answer.
    Failure,
    /// No byte of an answer came within the time that the attempt was given.
    TimedOut,
    /// The endpoint is well but refuses work: 429, or 503 with `Retry-After` or
    /// a refusal reason. Neither a success nor a failure to the breaker.
    Pushback {
        /// How long it asks to be left alone, where it says so.
        park: Option<Duration>,
    },
    /// Nothing was learnt: another 4xx, the client left, or the attempt was
    /// abandoned.
    Neutral,
}

// === impl Outcome ===

impl Outcome {
    /// Judges an answer by its status. `refused` says that it carried
    /// `Retry-After` or a backend's refusal reason, `park` what the former said;
    /// `waited` is none while the request is still being sent.
    #[must_use]
    pub fn of_status(
        status: u16,
        refused: bool,
        park: Option<Duration>,
        waited: Option<Duration>,
    ) -> Self {
        match status {
            429 => Self::Pushback { park },
            503 if refused => Self::Pushback { park },
            500..=599 => Self::Failure,
            400..=499 => Self::Neutral,
            _ => waited.map_or(Self::Early, |waited| Self::Success { waited }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITED: Duration = Duration::from_millis(7);

    fn of(status: u16, refused: bool) -> Outcome {
        Outcome::of_status(status, refused, None, Some(WAITED))
    }

    #[test]
    fn a_server_error_is_the_endpoints_and_a_client_error_is_not() {
        assert_eq!(of(200, false), Outcome::Success { waited: WAITED });
        assert_eq!(of(302, false), Outcome::Success { waited: WAITED });
        let early = Outcome::of_status(200, false, None, None);
        assert_eq!(early, Outcome::Early);
        assert_eq!(of(404, false), Outcome::Neutral);
        assert_eq!(of(500, false), Outcome::Failure);
        assert_eq!(of(503, false), Outcome::Failure);
    }

    #[test]
    fn a_refusal_is_pushback_whether_429_or_503() {
        assert_eq!(of(429, false), Outcome::Pushback { park: None });
        assert_eq!(of(503, true), Outcome::Pushback { park: None });
        assert_eq!(of(500, true), Outcome::Failure);
        let park = Some(Duration::from_secs(3));
        assert_eq!(
            Outcome::of_status(429, true, park, Some(WAITED)),
            Outcome::Pushback { park }
        );
    }
}
