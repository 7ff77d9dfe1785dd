//! Answers that another endpoint may give better, and what they say of the one that gave them.
//!
//! The shell and the simulator both judge by this, so that what is tried in
//! the one is what happens in the other.

use crate::outcome::Excuse;

/// An answer that is not passed on while there is another endpoint to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadAnswer {
    /// The endpoint refused the work.
    Refused,
    /// The endpoint says that the request's time is over.
    Late,
    /// A 500, which may be the request's own fault.
    Error500,
    /// Another 5xx that another endpoint may not give.
    Error5xx,
}

// === impl BadAnswer ===

impl BadAnswer {
    /// Reads the status of an answer and its excuse. None for those that another
    /// endpoint would give too.
    #[must_use]
    pub fn of_status(status: u16, excuse: Excuse) -> Option<Self> {
        match status {
            429 => Some(Self::Refused),
            503 if excuse != Excuse::None => Some(Self::Refused),
            504 if excuse == Excuse::Deadline => Some(Self::Late),
            500 => Some(Self::Error500),
            502..=504 => Some(Self::Error5xx),
            _ => None,
        }
    }

    /// Whether another endpoint is asked at all; `on_500` says whether after a 500.
    #[must_use]
    pub fn is_tried_elsewhere(self, on_500: bool) -> bool {
        self != Self::Error500 || on_500
    }

    /// Whether its endpoint is only charged once another one has answered well.
    #[must_use]
    pub fn is_suspicious(self) -> bool {
        self == Self::Error500
    }

    /// Whether its endpoint is charged where nobody else is asked. The same 500 from
    /// everybody who was (`others_too`) is the request's own fault. So may be one
    /// that nobody else was asked about, for a reason that lies with the request or
    /// the budget; it counts where there was nobody else (`exhausted`).
    #[must_use]
    pub fn is_charged(self, others_too: bool, exhausted: bool) -> bool {
        !self.is_suspicious() || (exhausted && !others_too)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_500_counts_only_where_nobody_else_could_be_asked() {
        let charged = |others_too, exhausted| BadAnswer::Error500.is_charged(others_too, exhausted);
        assert!(charged(false, true));
        assert!(!charged(true, true));
        assert!(!charged(false, false));
        assert!(BadAnswer::Error5xx.is_charged(true, false));
        assert!(BadAnswer::Late.is_charged(true, false));
    }

    #[test]
    fn what_every_endpoint_would_answer_is_not_bad() {
        for status in [200, 400, 404, 501, 505] {
            assert_eq!(BadAnswer::of_status(status, Excuse::None), None);
        }
        for (status, excuse, bad) in [
            (429, Excuse::None, BadAnswer::Refused),
            (500, Excuse::None, BadAnswer::Error500),
            (503, Excuse::Refusal, BadAnswer::Refused),
            (503, Excuse::None, BadAnswer::Error5xx),
            (504, Excuse::None, BadAnswer::Error5xx),
            (504, Excuse::Deadline, BadAnswer::Late),
        ] {
            assert_eq!(BadAnswer::of_status(status, excuse), Some(bad), "{status}");
        }
        assert!(!BadAnswer::Error500.is_tried_elsewhere(false));
        assert!(BadAnswer::Refused.is_tried_elsewhere(false));
    }
}
