//! Each rule on its own; `tests/tests/hostile.rs` sends them over sockets.

use http::HeaderName;

use super::*;

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn reason(result: Result<(), Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason)
}

#[test]
fn lines_end_with_both_characters() {
    assert!(lines(b"GET / HTTP/1.1\r\na: b\r\n\r\n").is_ok());
    for raw in [
        &b"GET / HTTP/1.1\na: b\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\na: b\n\r\n",
        b"\n",
    ] {
        assert_eq!(reason(lines(raw)), Some(Reason::BadRequest), "{raw:?}");
    }
}

#[test]
fn a_host_is_named_since_http_1_1() {
    let (none, one) = (map(&[]), map(&[("host", "a")]));
    assert_eq!(
        reason(host(Version::HTTP_11, &none)),
        Some(Reason::BadRequest)
    );
    assert!(host(Version::HTTP_10, &none).is_ok());
    assert!(host(Version::HTTP_11, &one).is_ok());
}

#[test]
fn a_message_has_one_length_or_one_coding() {
    for (fields, expected) in [
        (&[][..], None),
        (&[("content-length", "5")], None),
        (&[("transfer-encoding", "chunked")], None),
        (&[("transfer-encoding", "Chunked ")], None),
        (&[("content-length", "+5")], Some(Reason::BadRequest)),
        (&[("content-length", "5, 5")], Some(Reason::BadRequest)),
        (
            &[("content-length", "5"), ("content-length", "5")],
            Some(Reason::BadRequest),
        ),
        (
            &[("transfer-encoding", "chunked, chunked")],
            Some(Reason::BadRequest),
        ),
        (
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            Some(Reason::BadRequest),
        ),
        (
            &[("transfer-encoding", "gzip, chunked")],
            Some(Reason::NotImplemented),
        ),
        (
            &[("transfer-encoding", "xchunked")],
            Some(Reason::NotImplemented),
        ),
    ] {
        assert_eq!(reason(length(&map(fields), b"")), expected, "{fields:?}");
    }
    let coded = map(&[("transfer-encoding", "chunked")]);
    let raw = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-LENGTH: 5\r\n\r\n";
    assert_eq!(reason(length(&coded, raw)), Some(Reason::BadRequest));
}

#[test]
fn connection_names_only_what_is_the_connections() {
    for good in [
        "keep-alive",
        "close",
        "Keep-Alive",
        "Upgrade, HTTP2-Settings",
        "close, x-aegis-attempt",
        "",
        ",",
    ] {
        assert!(connection(&map(&[("connection", good)])).is_ok(), "{good}");
    }
    for evil in [
        "host",
        "close, Host",
        "content-length",
        "Transfer-Encoding",
        "x-forwarded-for",
        "authorization",
        "\"host\"",
        ":path",
        "a b",
        "a,b,c,d,e,f,g,h,i,j",
    ] {
        let result = connection(&map(&[("connection", evil)]));
        assert_eq!(reason(result), Some(Reason::BadRequest), "{evil}");
    }
    let twice = map(&[("connection", "close"), ("connection", "host")]);
    assert!(connection(&twice).is_err());
}

#[test]
fn one_expectation_is_known() {
    for good in ["100-continue", "100-Continue"] {
        assert!(expectation(&map(&[("expect", good)])).is_ok());
    }
    for bad in ["", "200-ok", "100-continue, x", "100-continue;a"] {
        let result = expectation(&map(&[("expect", bad)]));
        assert_eq!(reason(result), Some(Reason::ExpectationFailed), "{bad}");
    }
}
