//! Sends one body and reads one answer, over HTTP/1.1 with kept connections.
//!
//! hyper's pooled client opens a connection for each request under way and
//! keeps it afterwards. It sends a request again only where the connection was
//! gone before the first byte went out; anything later is a failure and counts.

use std::error::Error;
use std::time::Duration;

use aegis_protocol::headers;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::outcome::{ErrorKind, Origin};

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// The most characters of a library's error that are kept.
const MAX_TEXT: usize = 200;

/// Sends to one address.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) from: Origin,
    pub(crate) reason: Option<String>,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) kind: ErrorKind,
    /// The error and its causes, cut.
    pub(crate) text: String,
}

// === impl HttpClient ===

impl HttpClient {
    /// Keeps at most `idle` unused connections to `uri`.
    pub(crate) fn new(uri: Uri, idle: usize, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(idle)
            .build(connector);
        Self { client, uri }
    }

    /// Posts a body of JSON and reads the answer to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection that it used.
    pub(crate) async fn send(&self, body: Bytes) -> Result<Answer, SendError> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| SendError::new(ErrorKind::BadAnswer, &error))?;
        let response = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() {
                ErrorKind::Connect
            } else {
                broken(&error)
            };
            SendError::new(kind, &error)
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| SendError::new(broken(&*error), &*error))?;
        Ok(Answer {
            status: head.status,
            from: Origin {
                version: text(&head.headers, &headers::MODEL_VERSION),
                route: text(&head.headers, &headers::ROUTE),
            },
            reason: text(&head.headers, &headers::REASON),
            body: body.to_bytes(),
        })
    }
}

// === impl SendError ===

impl SendError {
    fn new(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        for cause in chain(error).skip(1) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        Self {
            kind,
            text: text.chars().take(MAX_TEXT).collect(),
        }
    }
}

/// Tells an answer that makes no sense from a connection that broke.
fn broken(error: &(dyn Error + 'static)) -> ErrorKind {
    let is_nonsense = chain(error).any(|error| {
        error.is::<http_body_util::LengthLimitError>()
            || error
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse)
    });
    if is_nonsense {
        ErrorKind::BadAnswer
    } else {
        ErrorKind::Reset
    }
}

/// The error and what caused it, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(aegis_protocol::excerpt(value).to_string())
}
