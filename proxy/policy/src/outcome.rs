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
    /// Nothing was learnt but how long it took: another 4xx, a 504 for the request's own
    /// deadline, the client left, or the attempt was abandoned.
    Neutral,
}

/// What an answer that is none says for itself, beside its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Excuse {
    /// Nothing.
    #[default]
    None,
    /// It refuses the work: `Retry-After`, or a backend's refusal reason.
    Refusal,
    /// The time that the request had is over: the reason `deadline`, or gRPC's
    /// `DEADLINE_EXCEEDED`.
    Deadline,
}

// === impl Outcome ===

impl Outcome {
    /// Judges an answer by its status and its excuse, of which `park` is what `Retry-After`
    /// said; `waited` is none while the request is still being sent.
    ///
    /// An endpoint that is told how long a request has, and says 504 when that is over, has
    /// not failed. Whether it was slow, how long it took says: the time may have been short, and
    /// also another than the attempt was given, where a body that streams asks for it.
    #[must_use]
    pub fn of_status(
        status: u16,
        excuse: Excuse,
        park: Option<Duration>,
        waited: Option<Duration>,
    ) -> Self {
        match status {
            429 => Self::Pushback { park },
            503 if excuse != Excuse::None => Self::Pushback { park },
            504 if excuse == Excuse::Deadline => Self::Neutral,
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

    fn of(status: u16, excuse: Excuse) -> Outcome {
        Outcome::of_status(status, excuse, None, Some(WAITED))
    }

    #[test]
    fn a_server_error_is_the_endpoints_and_a_client_error_is_not() {
        let bare = |status| of(status, Excuse::None);
        assert_eq!(bare(200), Outcome::Success { waited: WAITED });
        assert_eq!(bare(302), Outcome::Success { waited: WAITED });
        let early = Outcome::of_status(200, Excuse::None, None, None);
        assert_eq!(early, Outcome::Early);
        assert_eq!(bare(404), Outcome::Neutral);
        assert_eq!(bare(500), Outcome::Failure);
        assert_eq!(bare(503), Outcome::Failure);
        assert_eq!(bare(504), Outcome::Failure);
    }

    #[test]
    fn a_refusal_is_pushback_whether_429_or_503() {
        let pushback = Outcome::Pushback { park: None };
        assert_eq!(of(429, Excuse::None), pushback);
        assert_eq!(of(429, Excuse::Deadline), pushback);
        assert_eq!(of(503, Excuse::Refusal), pushback);
        assert_eq!(of(503, Excuse::Deadline), pushback);
        assert_eq!(of(500, Excuse::Refusal), Outcome::Failure);
        let park = Some(Duration::from_secs(3));
        assert_eq!(
            Outcome::of_status(429, Excuse::Refusal, park, Some(WAITED)),
            Outcome::Pushback { park }
        );
    }

    #[test]
    fn an_endpoint_that_says_that_the_time_is_over_has_not_failed() {
        assert_eq!(of(504, Excuse::Deadline), Outcome::Neutral);
        assert_eq!(of(504, Excuse::Refusal), Outcome::Failure);
        assert_eq!(of(500, Excuse::Deadline), Outcome::Failure);
    }
}
