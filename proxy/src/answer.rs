//! Answers that the proxy gives itself: refusals, health, server metadata.
//!
//! pingora's own error answers close the connection, which turns a wave of
//! refusals into a storm of new connections. So an answer is written here, and
//! what is left of a short request body is read first, because pingora also
//! closes when an answer goes out before the body came in. (The answer to a
//! request whose attempts have all failed closes the connection all the same:
//! there pingora leaves no choice.)

use std::time::Duration;

use aegis_protocol::{
    ErrorBody, Reason,
    grpc::{Code, message_header},
    headers,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_core::{Error, ErrorType, Result, protocols::http::ServerSession};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde::Serialize;

use crate::{config::StaticAnswer, metrics::STATIC_LABEL};

/// The longest body that is read only to keep the connection.
const DRAIN_LIMIT: u64 = 64 * 1024;
/// And the longest time.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// The content type of every answer.
const JSON: &str = "application/json";
/// After this many seconds a refused client may try again.
const RETRY_AFTER: &str = "1";

/// A request that the proxy does not forward, and why.
#[derive(Debug)]
pub struct Refusal {
    /// The reason, from the closed set.
    pub reason: Reason,
    /// The status; that of the reason, unless there is a better one.
    pub status: StatusCode,
    /// What was wrong, what was expected.
    pub message: String,
    /// The methods that would be answered, for a 405.
    pub allow: Option<&'static str>,
}

/// An answer that was made up here.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// How a call ended, for an answer over gRPC.
    call: Option<Code>,
}

// === impl Refusal ===

impl Refusal {
    /// Refuses for `reason`, saying `message`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            status: reason.status(),
            message: message.into(),
            allow: None,
        }
    }

    /// Refuses for want of room, whatever ran out: the client is to come back.
    pub fn overload(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..Self::new(reason, message)
        }
    }

    /// The refusal as it goes out.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = Answer::json(self.status, &ErrorBody::new(&self.message));
        let mut add = |name, value| answer.headers.push((name, HeaderValue::from_static(value)));
        add(headers::REASON, self.reason.name());
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            add(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Some(allow) = self.allow {
            add(header::ALLOW, allow);
        }
        answer
    }

    /// The refusal of a gRPC call as it goes out.
    #[must_use]
    pub fn answer_call(&self) -> Answer {
        Answer {
            status: self.reason.status(),
            headers: vec![
                (headers::GRPC_MESSAGE, message_header(&self.message)),
                (
                    headers::REASON,
                    HeaderValue::from_static(self.reason.name()),
                ),
            ],
            body: Bytes::new(),
            call: Some(self.reason.into()),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(JSON))],
            // Our own types, made of strings and numbers, always serialise.
            body: serde_json::to_vec(body).unwrap_or_default().into(),
            call: None,
        }
    }

    /// The answer to a gRPC call: a message with its prefix.
    #[must_use]
    pub fn message(message: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: message,
            call: Some(Code::Ok),
        }
    }

    /// The static answer of a model, signed as such.
    #[must_use]
    pub fn of_config(answer: &StaticAnswer) -> Self {
        let mut all = answer.headers.clone();
        let route = HeaderValue::from_static(STATIC_LABEL);
        all.push((headers::ROUTE, route));
        Self {
            status: answer.status,
            headers: all,
            body: Bytes::copy_from_slice(answer.body.as_bytes()),
            call: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// How a call ends with it; none over HTTP.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.call
    }

    /// Its status; of a refused call, the one that means the same.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer as the last bytes of a connection of HTTP/1, for those whose
    /// request pingora could not parse.
    #[must_use]
    pub fn farewell(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        let length = HeaderValue::from(self.body.len());
        let framing = [
            (header::CONTENT_LENGTH, length),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        for (name, value) in self.headers.iter().chain(&framing) {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Writes it, keeping the connection where that is safe.
    ///
    /// # Errors
    /// The client's: it went away.
    pub async fn send(self, session: &mut Session) -> Result<()> {
        if let Some(code) = self.call {
            return self.send_call(session, code).await;
        }
        let is_read = drain(session).await?;
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 1))?;
        for (name, value) in self.headers {
            head.append_header(name, value)?;
        }
        if !matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        }
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(self.body), true).await?;
        if !is_read {
            linger(session).await;
        }
        Ok(())
    }
}

impl Answer {
    /// Answers a call: a message and trailers, or only a header, which ends the
    /// stream. Only pingora's own type of an HTTP/2 stream can write either.
    async fn send_call(self, session: &mut Session, code: Code) -> Result<()> {
        let ServerSession::H2(stream) = &mut *session.downstream_session else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let mut head = ResponseHeader::build(StatusCode::OK, Some(self.headers.len() + 2))?;
        for (name, value) in self.headers {
            head.insert_header(name, value)?;
        }
        head.insert_header(header::CONTENT_TYPE, "application/grpc")?;
        if self.body.is_empty() {
            head.insert_header(headers::GRPC_STATUS, code.header())?;
            return stream.write_response_header(Box::new(head), true);
        }
        stream.write_response_header(Box::new(head), false)?;
        stream.write_body(self.body, false).await?;
        stream.write_trailers(HeaderMap::from_iter([(
            headers::GRPC_STATUS,
            code.header(),
        )]))
    }
}

/// Reads what is left of the body when it is short, and gives the connection
/// up when it is not. Says whether nothing is left.
async fn drain(session: &mut Session) -> Result<bool> {
    // On HTTP/2 what is left of a body is the stream's affair, not the connection's.
    if session.is_body_done() || session.is_http2() {
        return Ok(true);
    }
    let left = content_length(session)
        .map(|length| length.saturating_sub(session.body_bytes_read() as u64));
    if left.is_some_and(|left| left <= DRAIN_LIMIT) && !expects_continue(session) {
        session.set_total_drain_timeout(Some(DRAIN_TIME));
        if session.drain_request_body().await.is_ok() {
            return Ok(true);
        }
    }
    session.set_keepalive(None);
    Ok(false)
}

/// Reads on for a moment after the answer. Closing with bytes unread resets the
/// connection, and a client that sends all before it reads (most do) would see
/// the reset and never the answer.
async fn linger(session: &mut Session) {
    if !expects_continue(session) {
        session.set_total_drain_timeout(Some(DRAIN_TIME));
        // The answer is out; what the client does now is its own affair.
        let _ = session.drain_request_body().await;
    }
}

/// The length that the request's body has by its own word.
#[must_use]
pub fn content_length(session: &Session) -> Option<u64> {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH)?;
    // The framing was looked at: these are digits.
    std::str::from_utf8(length.as_bytes()).ok()?.parse().ok()
}

/// Whether the client waits to be told before it sends the body.
#[must_use]
pub fn expects_continue(session: &Session) -> bool {
    let expect = session.req_header().headers.get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_status_its_reason_and_when_to_come_back() {
        let answer = Refusal::new(Reason::NoEndpoint, "all are down").answer();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let names: Vec<_> = answer.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["content-type", "x-aegis-reason", "retry-after"]);
        assert_eq!(answer.body, r#"{"error":"all are down"}"#);
    }

    #[test]
    fn a_farewell_is_a_whole_answer_that_ends_the_connection() {
        let bytes = Refusal::new(Reason::HeaderTooLarge, "no")
            .answer()
            .farewell();
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\n\
                        content-type: application/json\r\n\
                        x-aegis-reason: header_too_large\r\n\
                        content-length: 14\r\n\
                        connection: close\r\n\r\n\
                        {\"error\":\"no\"}";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        let refusal = Refusal {
            allow: Some("POST"),
            ..Refusal::new(Reason::MethodNotAllowed, "no")
        };
        let answer = refusal.answer();
        let (name, value) = answer.headers.last().expect("has headers");
        assert_eq!(
            (name, value),
            (&header::ALLOW, &HeaderValue::from_static("POST"))
        );
    }
}
