//! What is wrong with a head that was refused.
//!
//! pingora says only that it refuses. What it was given is parsed again here,
//! with the parser that it uses and under the same bounds, for the status that
//! the fault has and for a sentence that its author can use. What that costs
//! does not matter: the connection ends with it.

use std::time::Duration;

use aegis_protocol::Reason;
use http::{HeaderName, Method, header};
use httparse::{EMPTY_HEADER, Error, Request, Status};
use pingora_http::RequestHeader;

use crate::answer::Refusal;

/// The most fields that pingora takes.
const MAX_FIELDS: usize = 256;

/// A head that came to its limit without an end.
#[must_use]
pub(super) fn too_large(head: &[u8], limit: usize) -> Refusal {
    if head.contains(&b'\n') {
        let message = format!("the request's head is over the limit of {limit} bytes");
        return Refusal::new(Reason::HeaderTooLarge, message);
    }
    let message = format!("the request line is over the limit of {limit} bytes");
    Refusal::new(Reason::UriTooLong, message)
}

/// A head that did not come in in its time.
#[must_use]
pub(super) fn too_slow(limit: Duration) -> Refusal {
    let limit = limit.as_millis();
    let message = format!("the request's head did not arrive within {limit} ms");
    Refusal::new(Reason::RequestTimeout, message)
}

/// A head that pingora refused, as far as it was seen.
#[must_use]
pub(super) fn of(head: &[u8]) -> Refusal {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Err(Error::TooManyHeaders) => {
            let message = format!("the request has over {MAX_FIELDS} header fields");
            Refusal::new(Reason::HeaderTooLarge, message)
        }
        Err(error) => of_syntax(head, error),
        Ok(Status::Complete(_)) => of_meaning(&request),
        Ok(Status::Partial) => bad("the request's head is not valid HTTP/1.1"),
    }
}

fn of_syntax(head: &[u8], error: Error) -> Refusal {
    if names_another_version(head) {
        let message = "this port speaks HTTP/1.1 and HTTP/1.0";
        return Refusal::new(Reason::HttpVersion, message);
    }
    bad(match error {
        Error::HeaderName => {
            "a header field's name is not a token, or there is a space before its colon or its line"
        }
        Error::HeaderValue => "a header field's value holds a control character",
        Error::NewLine => "a line of the request's head does not end with CR and LF",
        _ => "the request line is not `METHOD TARGET HTTP/1.1`",
    })
}

/// Whether the request line ends with a version of HTTP, and with another one.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or(head);
    let word = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next();
    let Some(version) = word.and_then(|word| word.strip_prefix(b"HTTP/")) else {
        return false;
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    version.split(|byte| *byte == b'.').all(digits) && !matches!(version, b"1.0" | b"1.1")
}

/// The head is well-formed, and means nothing or two things.
fn of_meaning(request: &Request<'_, '_>) -> Refusal {
    if request.method == Some(Method::CONNECT.as_str()) {
        let message = "this port makes no tunnels: CONNECT is not answered";
        return Refusal {
            allow: Some("GET, POST"),
            ..Refusal::new(Reason::MethodNotAllowed, message)
        };
    }
    // As pingora does, before it looks at any field.
    let target = request.path.unwrap_or_default().as_bytes();
    if RequestHeader::build(Method::GET, target, None).is_err() {
        return bad("the request's target is no URI: percent-encode what may not stand in one");
    }
    let has = |name: HeaderName| {
        let mut fields = request.headers.iter();
        fields.any(|field| field.name.eq_ignore_ascii_case(name.as_str()))
    };
    bad(if has(header::TRANSFER_ENCODING) {
        "Transfer-Encoding must be `chunked`, in a request of HTTP/1.1"
    } else if has(header::CONTENT_LENGTH) {
        "Content-Length must be one whole number; or the target and Host disagree"
    } else {
        "the request names several hosts, or one that is none"
    })
}

fn bad(message: &str) -> Refusal {
    Refusal::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(head: &str) -> Reason {
        of(head.as_bytes()).reason
    }

    #[test]
    fn a_version_that_is_not_spoken_is_told_apart_from_no_version() {
        for line in ["GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/3"] {
            let head = format!("{line}\r\nhost: a\r\n\r\n");
            assert_eq!(reason(&head), Reason::HttpVersion, "{line}");
        }
        for line in ["GET /", "GET / HTTP/x.y", "GET / HTCPCP/1.0", "\0"] {
            let head = format!("{line}\r\nhost: a\r\n\r\n");
            assert_eq!(reason(&head), Reason::BadRequest, "{line:?}");
        }
    }

    #[test]
    fn too_many_fields_are_too_large_a_head() {
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(reason(&head), Reason::HeaderTooLarge);
    }

    #[test]
    fn a_tunnel_is_refused_as_a_method() {
        let refusal = of(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
        assert_eq!(refusal.reason, Reason::MethodNotAllowed);
        assert_eq!(refusal.allow, Some("GET, POST"));
    }

    #[test]
    fn each_fault_is_named() {
        for (fields, part) in [
            ("a: b\r\n c: d", "name"),
            ("a : b", "name"),
            ("a: \0", "control character"),
            ("transfer-encoding: gzip", "Transfer-Encoding"),
            ("content-length: 1\r\ncontent-length: 2", "Content-Length"),
            ("host: a\r\nhost: b", "hosts"),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            let refusal = of(head.as_bytes());
            assert_eq!(refusal.reason, Reason::BadRequest);
            let message = &refusal.message;
            assert!(message.contains(part), "{fields:?}: {message}");
        }
    }

    #[test]
    fn a_target_that_is_no_uri_is_named_whatever_the_fields_are() {
        for fields in [
            "",
            "content-length: 2\r\n",
            "transfer-encoding: chunked\r\n",
        ] {
            let head = format!("GET /v2?a={{\"x\":1}} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let refusal = of(head.as_bytes());
            assert_eq!(refusal.reason, Reason::BadRequest);
            let message = &refusal.message;
            assert!(
                message.contains("target is no URI"),
                "{fields:?}: {message}"
            );
        }
    }

    #[test]
    fn a_line_without_an_end_is_the_targets_fault() {
        assert_eq!(too_large(b"GET /aaaa", 9).reason, Reason::UriTooLong);
        let head = b"GET / HTTP/1.1\r\na: b";
        assert_eq!(too_large(head, 20).reason, Reason::HeaderTooLarge);
    }
}
