//! Open-loop load at an even rate: latency counts from the instant at which a request was due.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::clock;

/// How long a client waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// One request, when it was due and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) due: Instant,
    pub(crate) took: Duration,
    pub(crate) ok: bool,
    pub(crate) by: By,
}

/// Which version answered, and whether by the way of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The first version, to which the split had sent the request.
    Stable,
    /// Another one, or it does not say so.
    Other,
}

/// Sends `rate` requests a second for so long, beginning now.
pub(crate) async fn run(
    at: SocketAddr,
    path: &str,
    rate: u32,
    lasts: Duration,
) -> Result<Vec<Sample>> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let uri: http::Uri = format!("http://{at}{path}").parse()?;
    // As large as an 8×8 image in JSON with some company.
    let body = Bytes::from(format!("{{\"inputs\":[],\"id\":\"{}\"}}", "x".repeat(512)));
    let samples = Arc::new(Mutex::new(Vec::new()));
    let began = clock::now();
    let mut requests = JoinSet::new();
    let gap = Duration::from_secs(1) / rate;
    let mut due = began;
    while due < began + lasts {
        tokio::time::sleep_until(due.into()).await;
        let (client, uri, body) = (client.clone(), uri.clone(), body.clone());
        let samples = Arc::clone(&samples);
        requests.spawn(async move {
            let asked = tokio::time::timeout_at((due + PATIENCE).into(), ask(&client, uri, body));
            let (status, by) = match asked.await {
                Ok(Ok(answered)) => answered,
                _ => (0, By::Other),
            };
            let took = clock::now().saturating_duration_since(due);
            let ok = status == 200;
            samples.lock().push(Sample { due, took, ok, by });
        });
        while requests.try_join_next().is_some() {}
        due += gap;
    }
    while requests.join_next().await.is_some() {}
    let mut samples = std::mem::take(&mut *samples.lock());
    samples.sort_by_key(|sample| sample.due);
    Ok(samples)
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    uri: http::Uri,
    body: Bytes,
) -> Result<(u16, By)> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let says = |name: &str, value: &str| response.headers().get(name).is_some_and(|v| v == value);
    let stable = says("x-aegis-model-version", "1") && says("x-aegis-route", "split");
    response.into_body().collect().await?;
    Ok((status, if stable { By::Stable } else { By::Other }))
}
