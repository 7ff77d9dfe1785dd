//! Sends one body and reads one answer, over HTTP/1.1 with kept connections.
//!
//! The pool is bounded by connections, not by requests: who holds a [`Lease`] may
//! have one connection open, and there are no more leases than connections. hyper's
//! own pooled client makes no such promise; it opens a connection beside one that is
//! about to come back, and keeps both.
//!
//! A request is sent again only where a kept connection turned out to be gone before
//! the first byte went out; anything later is a failure and counts.

use std::error::Error;
use std::io;
use std::time::Duration;

use aegis_protocol::headers;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

use crate::outcome::{ErrorKind, Origin};

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// The most characters of a library's error that are kept.
const MAX_TEXT: usize = 200;

/// Sends to one address.
#[derive(Debug)]
pub(crate) struct HttpClient {
    host: String,
    port: u16,
    host_header: HeaderValue,
    path: Uri,
    connect_timeout: Duration,
    /// One permit for each connection that may be open; none if only the requests
    /// under way are bounded.
    permits: Option<Semaphore>,
    /// Open and unused; the one used last is taken first.
    idle: Mutex<Vec<Connection>>,
}

/// The right to one connection.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    client: &'a HttpClient,
    _permit: Option<SemaphorePermit<'a>>,
}

/// An open connection, closed when this is dropped.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) from: Origin,
    pub(crate) reason: Option<String>,
    /// What safety checks said of it.
    pub(crate) flags: Option<String>,
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
    /// Opens at most so many connections at once to `uri`, whose host is set.
    pub(crate) fn new(
        uri: &Uri,
        connections: Option<usize>,
        connect_timeout: Duration,
    ) -> Result<Self, header::InvalidHeaderValue> {
        let host = uri.host().unwrap_or_default();
        let host_header = match uri.port() {
            Some(port) => HeaderValue::from_str(&format!("{host}:{port}"))?,
            None => HeaderValue::from_str(host)?,
        };
        let path = uri.path_and_query().cloned();
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            host_header,
            path: Uri::from(path.unwrap_or(PathAndQuery::from_static("/"))),
            connect_timeout,
            permits: connections.map(Semaphore::new),
            idle: Mutex::default(),
        })
    }

    /// Waits until a connection may be used.
    pub(crate) async fn lease(&self) -> Lease<'_> {
        let permit = match &self.permits {
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        Lease {
            client: self,
            _permit: permit,
        }
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host_header.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        request
    }

    /// A kept connection that still takes requests.
    async fn kept(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        let opened = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)
        };
        let failed = |error: io::Error| SendError::new(ErrorKind::Connect, &error);
        let (sender, driver) = tokio::time::timeout(self.connect_timeout, opened)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let driver = tokio::spawn(async {
            // Whoever waits for an answer on it is told the error.
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            driver: driver.abort_handle(),
        })
    }
}

// === impl Lease ===

impl Lease<'_> {
    /// Posts a body of JSON and reads the answer to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection that it used.
    pub(crate) async fn send(self, body: Bytes) -> Result<Answer, SendError> {
        let mut request = self.client.request(body);
        // A server may close a kept connection at any time.
        if let Some(mut connection) = self.client.kept().await {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return self.read(connection, response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::broken(error.error())),
                },
            }
        }
        let mut connection = self.client.connect().await?;
        match connection.sender.send_request(request).await {
            Ok(response) => self.read(connection, response).await,
            Err(error) => Err(SendError::broken(&error)),
        }
    }

    async fn read(
        &self,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Answer, SendError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| SendError::broken(&*error))?;
        self.client.idle.lock().push(connection);
        Ok(Answer {
            status: head.status,
            from: Origin {
                version: text(&head.headers, &headers::MODEL_VERSION),
                route: text(&head.headers, &headers::ROUTE),
            },
            reason: text(&head.headers, &headers::REASON),
            flags: text(&head.headers, &headers::SAFETY_FLAGS),
            body: body.to_bytes(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
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

    fn broken(error: &(dyn Error + 'static)) -> Self {
        Self::new(broken(error), error)
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
