//! What an endpoint says of its connection with us, and not of its answer.
//!
//! pingora writes `Connection` anew and lets the rest pass: a client would be told how
//! long a connection is kept that is not its own.
//!
//! Source: RFC 9110, 7.6.1.

use http::{HeaderMap, HeaderName, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes them out. `upgrade` says that the answer changes the connection's protocol.
pub(super) fn remove(headers: &mut HeaderMap, upgrade: bool) {
    let mut any = false;
    for name in headers.keys() {
        any |= matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade"
        );
    }
    if !any {
        return;
    }
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
    use http::HeaderValue;

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
    fn an_upgrade_keeps_its_name() {
        let answer = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(left(&answer, true), ["connection", "upgrade"]);
    }
}
