//! What is asked of a model's policy, and what it answers.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::EndpointKey;
use crate::{
    breaker::{Step, Ticket},
    config::BalanceConfig,
    endpoint::LoadReport,
    outcome::Outcome,
    pool::Wish,
    running::RequestKey,
};

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The version that the client named, if it did.
    pub version: Option<&'a str>,
    /// The client's key, where its requests are to stay with one version.
    pub sticky: Option<u64>,
    /// Whether the request can be sent again, and so may probe a tripped
    /// endpoint, or be rescued from a slow one.
    pub replayable: bool,
    /// Whether the client is still sending it: its age counts from
    /// [`ModelPolicy::sent`](super::ModelPolicy::sent) on.
    pub uploading: bool,
    /// Whether another attempt may follow this one.
    pub retries_left: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// When the first byte of the answer must be there.
    pub deadline: Instant,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The work that endpoints are judged by.
    Inference,
    /// Anything else, such as metadata: it probes nothing and teaches nothing, since
    /// an endpoint may do it well and the work badly, and has a retry budget of its own.
    Other,
}

/// What a request asks for after an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// The version that was chosen first.
    pub chosen: &'a str,
    /// How that came about.
    pub by: ChosenBy,
    /// The endpoints that it has been to.
    pub tried: &'a [EndpointKey],
    /// As [`Ask::uploading`].
    pub uploading: bool,
    /// As [`Ask::retries_left`].
    pub retries_left: bool,
    /// As [`Ask::purpose`].
    pub purpose: Purpose,
    /// As [`Ask::deadline`].
    pub deadline: Instant,
}

/// How the version that a request should go to was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChosenBy {
    /// Drawn by weight.
    Split,
    /// Named by the client.
    Pinned,
    /// By the client's key.
    Sticky,
}

/// How the version of an attempt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Drawn by weight.
    Split,
    /// Named by the client.
    Pinned,
    /// By the client's key.
    Sticky,
    /// Another version answered than the one that was chosen.
    Fallback(FallbackReason),
    /// No version answered: what the configuration says for that.
    Static(FallbackReason),
}

/// Why a request left the version that was chosen for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// None of the version's endpoints serves.
    Unavailable,
    /// Some do, and cannot carry all of its traffic.
    Spill,
    /// The request was tried there and failed.
    AttemptsFailed,
}

/// One attempt to answer a request.
#[derive(Debug)]
pub struct Attempt {
    /// The version that answers.
    pub version: Arc<str>,
    /// The version that was chosen first.
    pub chosen: Arc<str>,
    /// How that was chosen.
    pub by: ChosenBy,
    /// How the version that answers came about.
    pub kind: RouteKind,
    /// Where to send it.
    pub address: SocketAddr,
    /// To be given back to [`ModelPolicy::release`](super::ModelPolicy::release).
    pub permit: Permit,
    /// How long to wait for the first byte of the answer.
    pub first_byte_within: Duration,
    /// Whether to ask the endpoint for its load beside the answer.
    pub asks_load: bool,
    /// What the choice moved: an open breaker that is probed now.
    pub transition: Option<Transition>,
}

/// The right to send one request to one endpoint.
#[derive(Debug)]
#[must_use = "a permit that is not released keeps its endpoint's slot"]
pub struct Permit {
    pub(super) endpoint: EndpointKey,
    pub(super) request: RequestKey,
    pub(super) is_probe: bool,
}

/// An attempt that ended with an error which may be the request's own fault.
/// Its slot is free; the verdict is open.
#[derive(Debug)]
#[must_use = "a suspect that is not resolved holds its probe until the lease ends"]
pub struct Suspect {
    pub(super) endpoint: EndpointKey,
    /// None of an attempt that teaches nothing.
    pub(super) ticket: Option<Ticket>,
}

/// What was seen of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// The verdict on the endpoint.
    pub outcome: Outcome,
    /// What the endpoint said of its load.
    pub report: Option<LoadReport>,
}

/// One breaker has moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The version of the endpoint.
    pub version: Arc<str>,
    /// The endpoint.
    pub address: SocketAddr,
    /// The new state, and why.
    pub step: Step,
}

/// Why there is no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client named a version that the model does not have. Its fault.
    #[error("the model has no such version")]
    UnknownVersion,
    /// Every endpoint that could answer was tried.
    #[error("no endpoint is left to try")]
    NoEndpoint,
    /// Every endpoint that could answer has as many requests as it may.
    #[error("every endpoint has as many requests as it may (max_in_flight)")]
    NoRoom,
    /// They have, and no more requests may wait for them.
    #[error("every endpoint has as many requests as it may, and so has the queue (max_queued)")]
    QueueFull,
    /// They have, and by all that is known the deadline comes before a slot.
    #[error(
        "every endpoint has as many requests as it may, and the wait would outlast the deadline"
    )]
    WaitTooLong,
    /// The request waited for a slot in vain.
    #[error("every endpoint had as many requests as it may until the deadline")]
    WaitedInVain,
    /// Too many attempts were retries lately.
    #[error("the retry budget is spent")]
    NoBudget,
    /// The deadline has passed.
    #[error("the deadline has passed")]
    NoTime,
}

/// Where an attempt goes, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) chosen: usize,
    pub(super) by: ChosenBy,
    pub(super) version: usize,
    pub(super) kind: RouteKind,
}

/// What an attempt may take, and whether another may follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) tried: &'a [EndpointKey],
    pub(super) uploading: bool,
    pub(super) rescue: bool,
    pub(super) teaches: bool,
    pub(super) deadline: Instant,
}

// === impl Permit ===

impl Permit {
    /// The endpoint that it is for.
    #[must_use]
    pub fn endpoint(&self) -> EndpointKey {
        self.endpoint
    }

    /// Whether the attempt is a half-open probe.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

// === impl Observed ===

impl From<Outcome> for Observed {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            report: None,
        }
    }
}

// === impl Route ===

impl Route {
    pub(super) fn own(chosen: usize, by: ChosenBy) -> Self {
        let kind = match by {
            ChosenBy::Split => RouteKind::Split,
            ChosenBy::Pinned => RouteKind::Pinned,
            ChosenBy::Sticky => RouteKind::Sticky,
        };
        Self {
            chosen,
            by,
            version: chosen,
            kind,
        }
    }
}

// === impl Terms ===

impl<'a> Terms<'a> {
    pub(super) fn wish(&self, balance: &'a BalanceConfig, now: Instant) -> Wish<'a> {
        Wish {
            tried: self.tried,
            balance,
            now,
        }
    }
}

// === impl RouteKind ===

impl RouteKind {
    /// Every kind's label.
    pub const LABELS: [&'static str; 5] = ["split", "pinned", "sticky", "fallback", "static"];

    /// The kind as a header value and metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Split => Self::LABELS[0],
            Self::Pinned => Self::LABELS[1],
            Self::Sticky => Self::LABELS[2],
            Self::Fallback(_) => Self::LABELS[3],
            Self::Static(_) => Self::LABELS[4],
        }
    }
}

// === impl FallbackReason ===

impl FallbackReason {
    /// Every reason's label.
    pub const LABELS: [&'static str; 3] = ["unavailable", "spill", "attempts_failed"];

    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => Self::LABELS[0],
            Self::Spill => Self::LABELS[1],
            Self::AttemptsFailed => Self::LABELS[2],
        }
    }
}
