//! Closed sets of label values.

/// What stands for the static answer: as a `kind`, and where traffic falls back `to`.
pub const STATIC_LABEL: &str = "static";

/// Why an attempt failed that a retry may follow.
pub const RETRY_REASONS: [&str; 8] = [
    "connect",
    "reset",
    "stale_connection",
    "garbage",
    "timeout",
    "pushback",
    "error_500",
    "error_5xx",
];

/// A name that was looked up has addresses.
pub(super) const LOOKUP_FOUND: &str = "found";

/// How looking a name up can end: that, or the label of a
/// [`LookupError`](crate::dns::LookupError).
pub(super) const LOOKUP_RESULTS: [&str; 6] = [
    LOOKUP_FOUND,
    "no_such_name",
    "no_address",
    "timeout",
    "refused",
    "failed",
];

/// The slices of a service were listed.
pub(super) const WATCH_LISTED: &str = "listed";
/// A watch of a service stands, or said that nothing changed.
pub(super) const WATCH_STANDS: &str = "watched";
/// A watch told of a change.
pub(super) const WATCH_CHANGED: &str = "changed";

/// What can be heard of a service: that, or the label of a
/// [`WatchError`](crate::kubernetes::WatchError).
pub(super) const WATCH_RESULTS: [&str; 3] = [WATCH_LISTED, WATCH_STANDS, WATCH_CHANGED];

/// How Kubernetes sees a pod.
pub(super) const POD_STATES: [&str; 3] = ["ready", "unready", "terminating"];

/// The errors that end a connection of HTTP/2 for what its client sent, by their numbers
/// (RFC 9113, 7).
pub(super) const H2_ERRORS: [(u32, &str); 6] = [
    (0x1, "protocol_error"),
    (0x3, "flow_control_error"),
    (0x5, "stream_closed"),
    (0x6, "frame_size_error"),
    (0x9, "compression_error"),
    (0xb, "enhance_your_calm"),
];
/// Any other.
pub(super) const H2_OTHER: &str = "other";

/// The label of an error of HTTP/2.
pub(super) fn h2_error(error: u32) -> &'static str {
    let known = H2_ERRORS.iter().find(|(number, _)| *number == error);
    known.map_or(H2_OTHER, |(_, name)| name)
}

/// Whether a failed attempt was followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryResult {
    /// Another attempt was made.
    Made,
    /// `max_retries` were made already, or no endpoint was left.
    Exhausted,
    /// The request's body cannot be sent again.
    NotReplayable,
    /// Too many attempts were retries lately.
    NoBudget,
    /// The deadline has passed.
    NoTime,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// A new configuration runs.
    Applied,
    /// The file has faults; what ran still runs.
    Refused,
    /// The file says what runs already.
    Unchanged,
}

// === impl RetryResult ===

impl RetryResult {
    /// Every result.
    pub const ALL: [Self; 5] = [
        Self::Made,
        Self::Exhausted,
        Self::NotReplayable,
        Self::NoBudget,
        Self::NoTime,
    ];

    /// The result as a label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Exhausted => "exhausted",
            Self::NotReplayable => "not_replayable",
            Self::NoBudget => "no_budget",
            Self::NoTime => "no_time",
        }
    }
}

// === impl ReloadResult ===

impl ReloadResult {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Refused, Self::Unchanged];

    /// The result as a label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The statuses that have a label of their own; the rest share one a class.
const CODES: [(u16, &str); 12] = [
    (200, "200"),
    (400, "400"),
    (404, "404"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (499, "499"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// The classes, by their first digit from 1, and what is no status at all.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// How many values the label `code` has.
pub(super) const CODE_LABELS: usize = CODES.len() + CLASSES.len();

/// The value of the label `code` at `index` of [`CODE_LABELS`].
pub(super) fn code_label(index: usize) -> &'static str {
    match CODES.get(index) {
        Some((_, label)) => label,
        None => CLASSES[(index - CODES.len()).min(CLASSES.len() - 1)],
    }
}

/// The index of a status in [`CODE_LABELS`].
pub(super) fn code_index(status: u16) -> usize {
    if let Some(index) = CODES.iter().position(|(code, _)| *code == status) {
        return index;
    }
    let class = match status {
        100..=599 => usize::from(status / 100) - 1,
        _ => CLASSES.len() - 1,
    };
    CODES.len() + class
}

#[cfg(test)]
mod tests {
    use super::{CODE_LABELS, LOOKUP_RESULTS, code_index, code_label};
    use crate::dns::LookupError;

    #[test]
    fn every_failed_lookup_has_one_label_of_a_closed_set() {
        for error in [
            LookupError::NoSuchName,
            LookupError::NoAddress,
            LookupError::Timeout,
            LookupError::Refused(String::new()),
            LookupError::Failed(String::new()),
        ] {
            assert!(LOOKUP_RESULTS[1..].contains(&error.label()), "{error}");
        }
    }

    #[test]
    fn every_status_has_one_label_of_a_closed_set() {
        for (status, label) in [
            (200, "200"),
            (204, "2xx"),
            (101, "1xx"),
            (308, "3xx"),
            (405, "4xx"),
            (499, "499"),
            (503, "503"),
            (599, "5xx"),
            (0, "other"),
            (999, "other"),
        ] {
            assert_eq!(code_label(code_index(status)), label, "{status}");
        }
        assert!((0..=u16::MAX).all(|status| code_index(status) < CODE_LABELS));
    }
}
