//! The HTTP client of checks, and of loads that may cost something.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// Over plain TCP.
pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

/// One that speaks HTTP/1.1.
pub(crate) fn plain() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// What a program tells at `/metrics`.
pub(crate) async fn metrics(http: &Http, at: SocketAddr) -> Result<String> {
    let answer = http.get(format!("http://{at}/metrics").parse()?).await?;
    let text = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(text.into())?)
}
