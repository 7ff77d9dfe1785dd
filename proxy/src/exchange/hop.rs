//! What an endpoint says of its connection with us, and not of its answer.
//!
//! pingora writes `Connection` anew and lets the rest pass: a client would be told how
//! long a connection is kept that is not its own.
//!
//! Source: RFC 9110, 7.6.1.

use aegis_policy::Excuse;
use aegis_protocol::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Which of the rarer headers an answer has, found in one pass: to ask for each by its
/// name would cost a hash of the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Any that is of the connection, and says more than whether it is kept.
    pub(super) of_the_connection: bool,
    /// What the endpoint says of its load.
    pub(super) load_report: bool,
    /// `content-length` or `transfer-encoding`: its end does not depend on the
    /// connection's.
    pub(super) framed: bool,
    /// What it says for itself, should it be none: `retry-after` or `x-aegis-reason`.
    pub(super) excuse: Excuse,
}

// === impl Seen ===

impl Seen {
    /// Looks through the headers of an answer.
    #[must_use]
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                // By far the most common, and it names nothing.
                "connection" if matches!(value.as_bytes(), b"keep-alive" | b"close") => {}
                "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade" => {
                    seen.of_the_connection = true;
                }
                "content-length" | "transfer-encoding" => seen.framed = true,
                "endpoint-load-metrics" => seen.load_report = true,
                "retry-after" if seen.excuse == Excuse::None => seen.excuse = Excuse::Refusal,
                "x-aegis-reason" => seen.excuse = excuse(value),
                _ => {}
            }
        }
        seen
    }
}

/// What a reason says.
pub(super) fn excuse(reason: &HeaderValue) -> Excuse {
    if reason == Reason::Deadline.name() {
        Excuse::Deadline
    } else {
        Excuse::Refusal
    }
}

/// Takes out what is of the connection. `upgrade` says that the answer changes the
/// connection's protocol.
pub(super) fn remove(headers: &mut HeaderMap, upgrade: bool) {
    for name in named(headers) {
        if !(is_of_the_message(&name) || upgrade && name == header::UPGRADE) {
            headers.remove(name);
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    if !upgrade {
        headers.remove(header::UPGRADE);
    }
}

/// The headers that `Connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !matches!(*option, b"keep-alive" | b"close" | b""))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

/// Whether a client could not read the answer without it.
fn is_of_the_message(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use aegis_protocol::headers;

    use super::*;

    fn left(pairs: &[(&'static str, &'static str)], upgrade: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        remove(&mut headers, upgrade);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_of_the_connection_goes_and_the_rest_stays() {
        let answer = [
            ("content-type", "a"),
            ("connection", "close, X-Secret"),
            ("connection", "content-length,,  x-other "),
            ("content-length", "1"),
            ("x-secret", "b"),
            ("x-other", "b"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("x-kept", "c"),
        ];
        let kept = ["content-type", "connection", "content-length", "x-kept"];
        assert_eq!(left(&answer, false), kept);
        assert_eq!(left(&[("x", "y")], false), ["x"]);
    }

    #[test]
    fn what_an_answer_has_of_the_rarer_ones_is_seen() {
        let seen = |pairs: &[(HeaderName, &'static str)]| {
            let value = |(name, value): &(HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(value))
            };
            Seen::of(&pairs.iter().map(value).collect())
        };
        let common = (header::CONTENT_TYPE, "a");
        let kept = (header::CONNECTION, "keep-alive");
        assert_eq!(seen(&[common.clone(), kept]), Seen::default());
        for name in [
            KEEP_ALIVE,
            PROXY_CONNECTION,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
        ] {
            assert!(seen(&[common.clone(), (name, "x")]).of_the_connection);
        }
        assert!(seen(&[(header::CONNECTION, "close, x-secret")]).of_the_connection);
        assert!(seen(&[(header::CONTENT_LENGTH, "1")]).framed);
        assert!(seen(&[(header::TRANSFER_ENCODING, "chunked")]).framed);
        assert!(seen(&[(headers::LOAD_REPORT, "x")]).load_report);
    }

    #[test]
    fn the_reason_excuses_and_of_any_other_only_that_the_time_is_over_is_told_apart() {
        let excuse = |pairs: &[(HeaderName, &'static str)]| {
            let value = |(name, value): &(HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(value))
            };
            Seen::of(&pairs.iter().map(value).collect()).excuse
        };
        let (reason, later) = (headers::REASON, (header::RETRY_AFTER, "1"));
        assert_eq!(excuse(&[]), Excuse::None);
        assert_eq!(excuse(&[(reason.clone(), "x")]), Excuse::Refusal);
        assert_eq!(excuse(slice::from_ref(&later)), Excuse::Refusal);
        let late = (reason, "deadline");
        assert_eq!(excuse(slice::from_ref(&late)), Excuse::Deadline);
        assert_eq!(excuse(&[late.clone(), later.clone()]), Excuse::Deadline);
        assert_eq!(excuse(&[later, late]), Excuse::Deadline);
    }

    #[test]
    fn an_upgrade_keeps_its_name() {
        let answer = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(left(&answer, true), ["connection", "upgrade"]);
    }
}
