//! Why an attempt failed, whose fault it was, and whether another one may help.

use aegis_policy::BadAnswer;
use aegis_protocol::Reason;
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use crate::answer::Refusal;

/// How far an attempt had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No connection was made: nothing was sent.
    Connect,
    /// A connection was there.
    Proxy {
        /// It had served requests before.
        reused: bool,
        /// Part of the answer has gone to the client.
        answered: bool,
        /// pingora no longer holds all that was read of the body.
        truncated: bool,
        /// The client had not sent all of its body yet.
        uploading: bool,
    },
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The endpoint could not be reached.
    Connect,
    /// The connection broke before the answer was whole.
    Reset,
    /// A kept-alive connection broke before a byte of the answer: the endpoint
    /// may just have closed it for being idle.
    StaleConnection,
    /// No byte for too long.
    Timeout,
    /// No byte for too long, while the client was still sending its body: the
    /// endpoint may have been waiting for it.
    SlowUpload,
    /// The answer was not HTTP.
    Garbage,
    /// The endpoint refused the work.
    Pushback,
    /// The endpoint answered 500, which may be the request's own fault.
    Error500,
    /// The endpoint answered another 5xx that another endpoint may not.
    Error5xx,
    /// The client went away.
    ClientGone,
    /// The client sent what is no request body.
    BadBody,
    /// We failed: out of file descriptors, for one.
    Internal,
}

// === impl Stage ===

impl Stage {
    /// The stage of an attempt whose connection was made.
    #[must_use]
    pub fn of_session(session: &mut Session, reused: bool) -> Self {
        let uploading = !session.is_body_done();
        let head = session.response_written();
        Self::Proxy {
            reused,
            answered: head.is_some_and(|head| !head.status.is_informational()),
            truncated: session.retry_buffer_truncated(),
            uploading,
        }
    }

    /// Whether the client has seen nothing yet.
    #[must_use]
    pub fn nothing_answered(self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::Proxy {
                    answered: false,
                    ..
                }
        )
    }

    /// Whether a streamed body can no longer be sent from its start.
    #[must_use]
    pub fn body_lost(self) -> bool {
        matches!(
            self,
            Self::Proxy {
                truncated: true,
                ..
            }
        )
    }
}

// === impl Failure ===

impl Failure {
    /// Those that a retry may follow, for labels.
    pub const RETRIED: [Self; 8] = [
        Self::Connect,
        Self::Reset,
        Self::StaleConnection,
        Self::Garbage,
        Self::Timeout,
        Self::Pushback,
        Self::Error500,
        Self::Error5xx,
    ];

    /// Reads pingora's error.
    #[must_use]
    pub fn of(error: &Error, stage: Stage) -> Self {
        match (error.esource(), error.etype()) {
            (_, ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError) => {
                Self::Internal
            }
            _ if stage == Stage::Connect => Self::Connect,
            (ErrorSource::Downstream, _) => Self::of_client(error),
            // There was something to write, so it was not the client that was slow.
            (ErrorSource::Upstream, ErrorType::WriteTimedout) => Self::Timeout,
            (ErrorSource::Upstream, ErrorType::ReadTimedout) => match stage {
                Stage::Proxy {
                    uploading: true, ..
                } => Self::SlowUpload,
                _ => Self::Timeout,
            },
            (
                ErrorSource::Upstream,
                ErrorType::ConnectionClosed
                | ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::H2Error,
            ) => match stage {
                Stage::Proxy {
                    reused: true,
                    answered: false,
                    ..
                } => Self::StaleConnection,
                _ => Self::Reset,
            },
            (ErrorSource::Upstream, _) => Self::Garbage,
            (ErrorSource::Internal | ErrorSource::Unset, _) => Self::Internal,
        }
    }

    /// Reads an error of the connection to the client.
    #[must_use]
    pub fn of_client(error: &Error) -> Self {
        match error.etype() {
            // On HTTP/2 a client leaves by resetting its stream.
            ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::H2Error => Self::ClientGone,
            ErrorType::ReadTimedout => Self::SlowUpload,
            _ => Self::BadBody,
        }
    }

    /// Whether it says something about the endpoint.
    #[must_use]
    pub fn is_the_endpoints(self) -> bool {
        match self {
            Self::Connect
            | Self::Reset
            | Self::StaleConnection
            | Self::Timeout
            | Self::Garbage
            | Self::Pushback
            | Self::Error500
            | Self::Error5xx => true,
            Self::SlowUpload | Self::ClientGone | Self::BadBody | Self::Internal => false,
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn may_be_retried(self) -> bool {
        Self::RETRIED.contains(&self)
    }

    /// The failure as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::StaleConnection => "stale_connection",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
            Self::Pushback => "pushback",
            Self::Error500 => "error_500",
            Self::Error5xx => "error_5xx",
            Self::SlowUpload => "slow_upload",
            Self::ClientGone => "client_gone",
            Self::BadBody => "bad_body",
            Self::Internal => "internal",
        }
    }

    /// What happened, for the client: no addresses, no internals.
    fn text(self) -> &'static str {
        match self {
            Self::Connect => "the endpoint could not be reached",
            Self::Reset | Self::StaleConnection => "the endpoint broke off before its answer",
            Self::Timeout => "the endpoint did not answer in time",
            Self::Garbage => "the endpoint's answer was not HTTP",
            Self::Pushback => "the endpoint refused the work",
            Self::Error500 | Self::Error5xx => "the endpoint failed",
            Self::SlowUpload => "the request's body did not arrive in time",
            Self::ClientGone => "the client went away",
            Self::BadBody => "the request's body is not framed as HTTP says",
            Self::Internal => "the proxy failed",
        }
    }
}

impl From<BadAnswer> for Failure {
    fn from(bad: BadAnswer) -> Self {
        match bad {
            BadAnswer::Refused => Self::Pushback,
            BadAnswer::Late => Self::Timeout,
            BadAnswer::Error500 => Self::Error500,
            BadAnswer::Error5xx => Self::Error5xx,
        }
    }
}

/// The refusal that ends a request whose attempts have all failed.
#[must_use]
pub fn refusal(failure: Option<Failure>, attempts: u32) -> Refusal {
    let failure = failure.unwrap_or(Failure::Internal);
    let reason = match failure {
        Failure::Timeout => Reason::Deadline,
        Failure::SlowUpload => Reason::RequestTimeout,
        Failure::ClientGone | Failure::BadBody => Reason::BadRequest,
        _ => Reason::UpstreamError,
    };
    let message = match (failure.is_the_endpoints(), attempts) {
        (false, _) => failure.text().to_owned(),
        (true, 1) => format!("{} (1 attempt)", failure.text()),
        (true, _) => format!("{} ({attempts} attempts)", failure.text()),
    };
    Refusal::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Stage = stage(false, false, false);
    const REUSED: Stage = stage(true, false, false);

    const fn stage(reused: bool, answered: bool, uploading: bool) -> Stage {
        Stage::Proxy {
            reused,
            answered,
            truncated: false,
            uploading,
        }
    }

    #[test]
    fn a_reset_is_forgivable_only_on_a_kept_alive_connection() {
        let closed = || Error::new_up(ErrorType::ConnectionClosed);
        assert_eq!(Failure::of(&closed(), FRESH), Failure::Reset);
        assert_eq!(Failure::of(&closed(), REUSED), Failure::StaleConnection);
        let halfway = stage(true, true, false);
        assert_eq!(Failure::of(&closed(), halfway), Failure::Reset);
        assert!(!halfway.nothing_answered());
    }

    #[test]
    fn the_clients_and_our_own_failures_are_never_retried() {
        for error in [
            Error::new_down(ErrorType::ConnectionClosed),
            Error::new_in(ErrorType::InternalError),
        ] {
            assert!(!Failure::of(&error, FRESH).may_be_retried(), "{error}");
        }
    }

    #[test]
    fn a_slow_uploader_and_our_own_troubles_are_not_charged_to_the_endpoint() {
        let timeout = Error::new_up(ErrorType::ReadTimedout);
        assert_eq!(Failure::of(&timeout, FRESH), Failure::Timeout);
        let uploading = stage(false, false, true);
        assert_eq!(Failure::of(&timeout, uploading), Failure::SlowUpload);
        let stuck = Error::new_up(ErrorType::WriteTimedout);
        assert_eq!(Failure::of(&stuck, uploading), Failure::Timeout);
        let no_socket = Error::new(ErrorType::SocketError);
        assert_eq!(Failure::of(&no_socket, Stage::Connect), Failure::Internal);
        let refused = Error::new_up(ErrorType::ConnectRefused);
        assert_eq!(Failure::of(&refused, Stage::Connect), Failure::Connect);
        assert!(!Failure::SlowUpload.is_the_endpoints());
        assert!(!Failure::Internal.is_the_endpoints());
    }

    #[test]
    fn a_client_that_left_is_told_from_one_that_sends_nonsense() {
        let left = Error::new_down(ErrorType::ConnectionClosed);
        let nonsense = Error::new_down(ErrorType::InvalidHTTPHeader);
        assert_eq!(Failure::of(&left, FRESH), Failure::ClientGone);
        assert_eq!(Failure::of(&nonsense, FRESH), Failure::BadBody);
        assert_eq!(
            refusal(Some(Failure::BadBody), 1).reason,
            Reason::BadRequest
        );
    }

    #[test]
    fn a_timeout_is_504_and_the_rest_502() {
        let status = |failure| refusal(Some(failure), 1).reason.status().as_u16();
        assert_eq!(status(Failure::Timeout), 504);
        assert_eq!(status(Failure::Connect), 502);
        assert_eq!(status(Failure::Garbage), 502);
        assert_eq!(
            refusal(Some(Failure::Reset), 3).message,
            "the endpoint broke off before its answer (3 attempts)"
        );
    }
}
