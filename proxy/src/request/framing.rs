//! Refuses a request of HTTP/1 that two servers could read in two ways.
//!
//! Whichever way a server behind us chose, the other way would let a part of
//! the bytes become a request of its own, or carry a field past whoever checks
//! it. pingora refuses most of it and mends the rest in silence; what is mended
//! is refused here, because no client needs it (RFC 9112, sections 2.2, 3.2, 6).
//!
//! HTTP/2 has none of these: its frames say where a message ends.

use aegis_protocol::Reason;
use http::{HeaderMap, HeaderValue, Version, header};
use pingora_core::protocols::http::{ServerSession, v1::server::HttpSession};

use crate::answer::Refusal;

/// The most connection options that pingora lets pass.
const MAX_OPTIONS: usize = 9;

/// Checks the head of a request of HTTP/1 that pingora has parsed; it may have
/// `limit` bytes.
///
/// # Errors
/// The refusal.
pub fn refuse_framing(session: &ServerSession, limit: usize) -> Result<(), Refusal> {
    let Some(raw) = session.as_http1().map(HttpSession::get_headers_raw_bytes) else {
        return Ok(());
    };
    if raw.len() > limit {
        let message = format!("the request's head is over the limit of {limit} bytes");
        return Err(Refusal::new(Reason::HeaderTooLarge, message));
    }
    lines(&raw)?;
    let head = session.req_header();
    if is_plain(&head.headers) {
        return Ok(());
    }
    host(head.version, &head.headers)?;
    length(&head.headers, &raw)?;
    connection(&head.headers)?;
    expectation(&head.headers)
}

/// Whether there is nothing that could be read in two ways: the head of nearly every
/// request. Seen in one pass, where each question below costs a hash of a name.
fn is_plain(headers: &HeaderMap) -> bool {
    let (mut hosts, mut lengths, mut connections) = (0, 0, 0);
    for (name, value) in headers {
        let plain = match name.as_str() {
            "host" => {
                hosts += 1;
                true
            }
            "content-length" => {
                lengths += 1;
                value.as_bytes().iter().all(u8::is_ascii_digit)
            }
            "connection" => {
                connections += 1;
                is_usual(value)
            }
            "transfer-encoding" | "expect" => false,
            _ => true,
        };
        if !plain {
            return false;
        }
    }
    hosts >= 1 && lengths <= 1 && connections <= 1
}

/// A Connection that names nothing else.
fn is_usual(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), b"keep-alive" | b"close")
}

/// Lines end with CR and LF. Who takes LF alone for an end reads more fields. There is
/// no way out of the loop, so that it looks at many bytes at a time.
fn lines(raw: &[u8]) -> Result<(), Refusal> {
    let alone = |(before, byte): (&u8, &u8)| u8::from(*byte == b'\n' && *before != b'\r');
    let pairs = raw.iter().zip(raw.iter().skip(1));
    let any = pairs.fold(0, |any, pair| any | alone(pair));
    if any == 0 && raw.first() != Some(&b'\n') {
        return Ok(());
    }
    Err(bad(
        "a line of the request's head ends with LF alone; end it with CR and LF",
    ))
}

/// A request of HTTP/1.1 names its host in the header, also where the target names
/// it; two names are pingora's to refuse.
fn host(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::HOST) || version != Version::HTTP_11 {
        return Ok(());
    }
    Err(bad("the request has no Host header"))
}

/// One length, or one coding. Equal lengths are refused too: not every server
/// reads them alike.
fn length(headers: &HeaderMap, raw: &[u8]) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let one = lengths
        .next()
        .is_none_or(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
    if !one || lengths.next().is_some() {
        let message = "Content-Length is not one whole number; send one";
        return Err(bad(message));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !chunked(coding.as_bytes()) || codings.next().is_some() {
        let values = headers.get_all(header::TRANSFER_ENCODING).iter();
        let mut parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        if parts.all(chunked) {
            return Err(bad("Transfer-Encoding says `chunked` twice; say it once"));
        }
        let message = "Transfer-Encoding: `chunked` is understood, and no other coding";
        return Err(Refusal::new(Reason::NotImplemented, message));
    }
    // pingora has taken the length out by now.
    if has_line(raw, b"content-length:") {
        let message = "the request has both Content-Length and Transfer-Encoding; send one";
        return Err(bad(message));
    }
    Ok(())
}

fn has_line(raw: &[u8], start: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..start.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    })
}

/// What the header Connection names is taken out on the way. It must not name
/// what says where the message ends, or for whom it is.
fn connection(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::CONNECTION).iter();
    let (first, more) = (values.next(), values.next().is_some());
    if !more && first.is_none_or(is_usual) {
        return Ok(());
    }
    let values = headers.get_all(header::CONNECTION).iter();
    let options = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let options = options.map(<[u8]>::trim_ascii);
    let mut count = 0;
    for option in options.filter(|option| !option.is_empty()) {
        count += 1;
        if count > MAX_OPTIONS || !may_be_named(option) {
            let message = "the header Connection names too much, or what is not the connection's";
            return Err(bad(message));
        }
    }
    Ok(())
}

fn may_be_named(option: &[u8]) -> bool {
    let Ok(name) = header::HeaderName::from_bytes(option) else {
        return false;
    };
    let protected = name == header::HOST
        || name == header::CONTENT_LENGTH
        || name == header::CONTENT_TYPE
        || name == header::TRANSFER_ENCODING
        || name == header::AUTHORIZATION
        || name == header::FORWARDED
        || name.as_str().starts_with("x-forwarded-");
    let is_token = option
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    !protected && is_token
}

/// Only one expectation is known (RFC 9110, 10.1.1).
fn expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::EXPECT).iter();
    if values.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    let message = "Expect: `100-continue` is understood, and nothing else";
    Err(Refusal::new(Reason::ExpectationFailed, message))
}

fn bad(message: &str) -> Refusal {
    Refusal::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests;
