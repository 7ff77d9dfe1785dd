//! Sends one call and reads its answer, over HTTP/2 connections that calls share.
//!
//! Calls take the connections in turn, as many at once as the server lets them; a connection that is gone
//! is made anew by the next call that would take it, and nothing that was sent is sent again.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aegis_protocol::grpc::{Code, message_of};
use aegis_protocol::headers::{GRPC_MESSAGE, GRPC_STATUS};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{Answer, Letter, MAX_ANSWER, SendError};
use crate::outcome::ErrorKind;

/// Connections, unless told otherwise.
const CONNECTIONS: usize = 8;

/// What a stream and a connection may have sent unread: answers of a load are read at once.
const WINDOW: u32 = 4 << 20;

/// Sends to one address.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    host: String,
    port: u16,
    /// `http://HOST:PORT`, to which the path of a call is added.
    authority: http::uri::Authority,
    connect_timeout: Duration,
    connections: Vec<Mutex<Option<SendRequest<Full<Bytes>>>>>,
    next: AtomicUsize,
}

// === impl GrpcClient ===

impl GrpcClient {
    /// Opens at most so many connections to `uri`, whose host is set.
    pub(crate) fn new(uri: &Uri, connections: Option<usize>, connect_timeout: Duration) -> Self {
        let connections = connections.unwrap_or(CONNECTIONS);
        let nobody = || http::uri::Authority::from_static("localhost");
        Self {
            host: uri
                .host()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authority: uri.authority().cloned().unwrap_or_else(nobody),
            connect_timeout,
            connections: (0..connections).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Makes a call, with one header more where there is one, and reads its answer to the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it resets its stream.
    pub(crate) async fn send(
        &self,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, SendError> {
        let mut sender = self.connection().await?;
        let request = self.request(letter, more);
        let sent = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let response = sent.await.map_err(|error| SendError::broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| SendError::broken(&*error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        ended(
            head.status.as_u16(),
            &head.headers,
            &trailers,
            &body.to_bytes(),
        )
    }

    fn request(
        &self,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(letter.body.clone()));
        *request.method_mut() = letter.method.clone();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = letter.path.path_and_query().cloned();
        // All three are there.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(&letter.headers);
        if let Some((name, value)) = more {
            headers.insert(name, value);
        }
        request
    }

    /// The next connection, made anew where it is gone. Who waits for one that is being made waits for
    /// the server.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len().max(1);
        let Some(slot) = self.connections.get(next) else {
            let none = io::Error::other("no connection is allowed");
            return Err(SendError::new(ErrorKind::Connect, &none));
        };
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = self.connect().await?;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let opened = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)
        };
        let failed = |error: io::Error| SendError::new(ErrorKind::Connect, &error);
        let (sender, driver) = tokio::time::timeout(self.connect_timeout, opened)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        // Ends when the last sender is dropped, or the connection is gone, which its calls are told.
        tokio::spawn(async {
            let _ = driver.await;
        });
        Ok(sender)
    }
}

/// How a call ended: by its trailers, or by its head where it has no answer.
fn ended(
    status: u16,
    head: &HeaderMap,
    trailers: &HeaderMap,
    body: &Bytes,
) -> Result<Answer, SendError> {
    let nonsense = |text: String| SendError {
        kind: Some(ErrorKind::BadAnswer),
        text,
    };
    let code = trailers.get(GRPC_STATUS).or_else(|| head.get(GRPC_STATUS));
    let Some(code) = code else {
        return Err(nonsense(format!(
            "expected a grpc-status, got none and HTTP status {status}"
        )));
    };
    let number = code.to_str().unwrap_or_default().to_owned();
    let code = Code::of_header(code);
    if code != Code::Ok {
        let told = trailers
            .get(GRPC_MESSAGE)
            .or_else(|| head.get(GRPC_MESSAGE));
        let told = told
            .map(|told| unescaped(told.as_bytes()))
            .unwrap_or_default();
        let mut answer = Answer::new(code.http_status(), head, Bytes::new());
        // What is refused at once has one head; what is refused later says why at its end.
        answer.reason = answer
            .reason
            .or_else(|| Answer::new(0, trailers, Bytes::new()).reason);
        answer.message = Some(format!("grpc-status {number}: {told}"));
        return Ok(answer);
    }
    let (is_compressed, message) = message_of(body).map_err(|error| nonsense(error.to_string()))?;
    if is_compressed {
        return Err(nonsense(
            "expected an answer that is not compressed".to_owned(),
        ));
    }
    Ok(Answer::new(200, head, message))
}

/// A message as `grpc-message` writes it: bytes that are no printable ASCII in `%` and two digits.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_as_its_trailers_say() {
        let head = HeaderMap::new();
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, "14".parse().unwrap());
        trailers.insert(
            GRPC_MESSAGE,
            "no endpoint of `a%20b%C3%A9`, 5%".parse().unwrap(),
        );
        trailers.insert("x-aegis-reason", "no_endpoint".parse().unwrap());
        let answer = ended(200, &head, &trailers, &Bytes::new()).unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.reason.as_deref(), Some("no_endpoint"));
        let message = answer.message.unwrap();
        assert_eq!(message, "grpc-status 14: no endpoint of `a bé`, 5%");
        trailers.insert(GRPC_STATUS, "0".parse().unwrap());
        let answer = ended(
            200,
            &head,
            &trailers,
            &Bytes::from_static(&[0, 0, 0, 0, 2, 7, 8]),
        );
        assert_eq!(answer.unwrap().body, [7, 8].as_slice());
    }

    #[test]
    fn what_is_no_grpc_is_a_bad_answer() {
        let none = HeaderMap::new();
        let error = ended(404, &none, &none, &Bytes::new()).unwrap_err();
        assert_eq!(error.kind, Some(ErrorKind::BadAnswer));
        assert!(error.text.ends_with("HTTP status 404"), "{}", error.text);
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, "0".parse().unwrap());
        assert!(ended(200, &none, &trailers, &Bytes::from_static(b"x")).is_err());
        assert!(ended(200, &none, &trailers, &Bytes::from_static(&[1, 0, 0, 0, 0])).is_err());
    }
}
