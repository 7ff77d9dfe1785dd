//! An HTTP client that reports what came back, and does nothing on its own.
//!
//! In particular it never sends a request twice: a connection that was closed under a request is
//! a failure here, since it would be one for a client that may not repeat itself.

use std::net::SocketAddr;

use aegis_protocol::headers;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use crate::wait::PATIENCE;

type Inner = hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>;

/// A client with a pool of connections; a clone shares the pool.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Inner,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

// === impl Client ===

impl Client {
    /// A client with an empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::speaking(false)
    }

    /// A client that speaks HTTP/2 without being asked, on one connection.
    #[must_use]
    pub fn http2() -> Self {
        Self::speaking(true)
    }

    fn speaking(http2: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        builder.retry_canceled_requests(false);
        builder.http2_only(http2);
        Self {
            inner: builder.build(connector),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// When there is no whole answer within [`PATIENCE`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let asked = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let (head, body) = self.inner.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        timeout(PATIENCE, exchange)
            .await
            .context("no answer")
            .flatten()
            .context(asked)
    }

    /// Asks with `GET`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`].
    pub async fn get(&self, at: SocketAddr, path: &str) -> Result<Answer> {
        self.send(request(Method::GET, at, path).body(Full::default())?)
            .await
    }

    /// Sends JSON with `POST`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`].
    pub async fn post(&self, at: SocketAddr, path: &str, json: impl Into<Bytes>) -> Result<Answer> {
        self.post_with(at, path, json, &[]).await
    }

    /// Sends JSON with `POST` and more headers.
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`].
    pub async fn post_with(
        &self,
        at: SocketAddr,
        path: &str,
        json: impl Into<Bytes>,
        more: &[(HeaderName, &str)],
    ) -> Result<Answer> {
        let builder = request(Method::POST, at, path);
        let builder = builder.header(http::header::CONTENT_TYPE, "application/json");
        let builder = more.iter().fold(builder, |builder, (name, value)| {
            builder.header(name, *value)
        });
        self.send(builder.body(Full::new(json.into()))?).await
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

fn request(method: Method, at: SocketAddr, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://{at}{path}"))
}

// === impl Answer ===

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is something else; the error shows what.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "{} with a body that is no JSON: {}",
                self.status,
                self.text()
            )
        })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of a header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Which version answered.
    #[must_use]
    pub fn version(&self) -> &str {
        self.header(&headers::MODEL_VERSION)
    }

    /// How the proxy came to that version.
    #[must_use]
    pub fn route(&self) -> &str {
        self.header(&headers::ROUTE)
    }

    /// Why the request was refused.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.header(&headers::REASON)
    }

    /// What the body of a refusal says.
    ///
    /// # Errors
    ///
    /// When the body is not `{"error": "..."}`.
    pub fn error(&self) -> Result<String> {
        let body: aegis_protocol::ErrorBody = serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: no error in {}", self.status, self.text()))?;
        Ok(body.error)
    }
}
