//! Which of the rarer headers a request has, found in one pass.
//!
//! To ask a map of headers for a name costs a hash of the name, several times what
//! it costs to compare it with the few that are there; and most requests have none
//! of these.

use http::HeaderMap;

use crate::forwarded::is_hearsay;

/// Which of the rarer headers a request has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
pub struct Seen {
    /// `x-request-id`
    pub request_id: bool,
    /// `traceparent`
    pub traceparent: bool,
    /// `x-request-timeout-ms`
    pub timeout: bool,
    /// `x-aegis-model-version`
    pub version: bool,
    /// Any that says who stands before the sender.
    pub forwarded: bool,
    /// `expect`
    pub expect: bool,
}

// === impl Seen ===

impl Seen {
    /// Looks through the headers of a request.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            let flag = match name.as_str() {
                "x-request-id" => &mut seen.request_id,
                "traceparent" => &mut seen.traceparent,
                "x-request-timeout-ms" => &mut seen.timeout,
                "x-aegis-model-version" => &mut seen.version,
                name if is_hearsay(name) => &mut seen.forwarded,
                "expect" => &mut seen.expect,
                _ => continue,
            };
            *flag = true;
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use aegis_protocol::headers;
    use http::{HeaderName, HeaderValue, header};

    use super::*;

    fn of(names: impl IntoIterator<Item = HeaderName>) -> Seen {
        let value = HeaderValue::from_static("x");
        Seen::of(
            &names
                .into_iter()
                .map(|name| (name, value.clone()))
                .collect(),
        )
    }

    #[test]
    fn each_is_found_among_others() {
        let others = || [header::HOST, header::CONTENT_TYPE, headers::ATTEMPT];
        assert_eq!(of(others()), Seen::default());
        let found = |name: HeaderName| of(others().into_iter().chain([name]));
        assert!(found(headers::REQUEST_ID).request_id);
        assert!(found(headers::TRACEPARENT).traceparent);
        assert!(found(headers::REQUEST_TIMEOUT_MS).timeout);
        assert!(found(headers::MODEL_VERSION).version);
        assert!(found(header::EXPECT).expect);
        for name in [
            "forwarded",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-port",
        ] {
            assert!(found(HeaderName::from_static(name)).forwarded, "{name}");
        }
    }
}
