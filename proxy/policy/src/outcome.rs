//! What an attempt taught about its endpoint.
//!
//! An outcome is decided once, from what was seen on the wire, and recorded
//! against the permit of that attempt. It speaks of the endpoint, not of the
//! request: a 404 is a good answer from a healthy endpoint.

/// The verdict of one attempt on the endpoint that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The endpoint answered as it should.
    Success,
    /// The endpoint failed: a 5xx, no connection, or a reset before an answer.
    Failure,
    /// The endpoint is well but refuses work: 429, or 503 with `Retry-After` or
    /// a refusal reason. Neither a success nor a failure to the breaker.
    Pushback,
    /// Nothing was learnt: the client left, or the attempt was abandoned.
    Neutral,
}

// === impl Outcome ===

impl Outcome {
    /// Judges an answer by its status; `refused` says that it carried
    /// `Retry-After` or a backend's refusal reason.
    #[must_use]
    pub fn of_status(status: u16, refused: bool) -> Self {
        match status {
            429 => Self::Pushback,
            503 if refused => Self::Pushback,
            500..=599 => Self::Failure,
            400..=499 => Self::Neutral,
            _ => Self::Success,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_the_endpoints_and_a_client_error_is_not() {
        assert_eq!(Outcome::of_status(200, false), Outcome::Success);
        assert_eq!(Outcome::of_status(302, false), Outcome::Success);
        assert_eq!(Outcome::of_status(404, false), Outcome::Neutral);
        assert_eq!(Outcome::of_status(500, false), Outcome::Failure);
        assert_eq!(Outcome::of_status(503, false), Outcome::Failure);
    }

    #[test]
    fn a_refusal_is_pushback_whether_429_or_503() {
        assert_eq!(Outcome::of_status(429, false), Outcome::Pushback);
        assert_eq!(Outcome::of_status(503, true), Outcome::Pushback);
        assert_eq!(Outcome::of_status(500, true), Outcome::Failure);
    }
}
