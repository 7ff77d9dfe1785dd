//! What became of one request.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One request, from when it was due to when its fate was known.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Which kind of request it was; none where there is one only.
    pub(crate) part: Option<Arc<str>>,
    /// When it was due: latency runs from here.
    pub(crate) intended: Instant,
    /// When this side began to send it.
    pub(crate) began: Instant,
    /// When it was handed to a connection; none where it never was.
    pub(crate) started: Option<Instant>,
    /// When its answer was read whole, or it was given up.
    pub(crate) ended: Instant,
    /// Its fate.
    pub(crate) outcome: Outcome,
}

/// The fate of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A 200 with what was asked for.
    Scored {
        /// Who says to have answered.
        from: Origin,
        /// Whether the label was the example's; none where the example has none.
        right: Option<bool>,
    },
    /// An answer with another status.
    Refused {
        /// Who says to have answered.
        from: Origin,
        /// The status.
        status: u16,
        /// The refusal's reason, where it names one.
        reason: Option<String>,
        /// The body, cut.
        text: String,
    },
    /// This machine could not send it: out of file descriptors, of local ports, of memory. No server's doing.
    Unsent {
        /// What the system said.
        text: String,
    },
    /// No answer that could be used.
    Failed {
        /// The kind of failure.
        kind: ErrorKind,
        /// What the library said, or what is wrong with the answer.
        text: String,
    },
}

/// What the answer's headers say of where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The model version that answered.
    pub(crate) version: Option<Arc<str>>,
    /// How the proxy chose that version.
    pub(crate) route: Option<Arc<str>>,
}

/// The kinds of failure that leave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No connection could be made.
    Connect,
    /// The connection broke before the answer was whole.
    Reset,
    /// The answer did not come in time.
    Timeout,
    /// The answer was no HTTP, no protocol answer, or without the label.
    BadAnswer,
}

// === impl Sample ===

impl Sample {
    /// What its user waited.
    pub(crate) fn latency(&self) -> Duration {
        self.ended.saturating_duration_since(self.intended)
    }

    /// How late this side began.
    pub(crate) fn lag(&self) -> Duration {
        self.began.saturating_duration_since(self.intended)
    }

    /// How long it waited for a connection that it was allowed to use.
    pub(crate) fn wait(&self) -> Duration {
        let started = self.started.unwrap_or(self.ended);
        started.saturating_duration_since(self.began)
    }
}

// === impl ErrorKind ===

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Reset, Self::Timeout, Self::BadAnswer];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad_answer",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
