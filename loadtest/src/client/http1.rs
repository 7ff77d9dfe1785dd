//! Sends one letter and reads one answer, over HTTP/1.1 with kept connections.
//!
//! The pool is bounded by connections, not by requests: who holds a [`Lease`] may
//! have one connection open, and there are no more leases than connections. hyper's
//! own pooled client makes no such promise; it opens a connection beside one that is
//! about to come back, and keeps both.
//!
//! A request is sent again only where a kept connection turned out to be gone before
//! the first byte went out; anything later is a failure and counts.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

use super::{Answer, Letter, MAX_ANSWER, SendError};
use crate::outcome::ErrorKind;

/// Sends to one address.
#[derive(Debug)]
pub(crate) struct HttpClient {
    host: String,
    port: u16,
    host_header: HeaderValue,
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
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            host_header,
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

    fn request(
        &self,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(letter.body.clone()));
        *request.method_mut() = letter.method.clone();
        *request.uri_mut() = letter.path.clone();
        let headers = request.headers_mut();
        headers.clone_from(&letter.headers);
        headers.insert(header::HOST, self.host_header.clone());
        if let Some((name, value)) = more {
            headers.insert(name, value);
        }
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
    /// Sends a letter, with one header more where there is one, and reads the answer to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection that it used.
    pub(crate) async fn send(
        self,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, SendError> {
        let mut request = self.client.request(letter, more);
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
        Ok(Answer::new(
            head.status.as_u16(),
            &head.headers,
            body.to_bytes(),
        ))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
