//! Open-loop load on a schedule: latency counts from the instant at which a request was due.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::{self, Http};
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

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) body: Bytes,
    /// How long the server is told that the client waits.
    pub(crate) timeout: Option<Duration>,
}

// === impl Ask ===

impl Ask {
    /// As large as an 8×8 image in JSON with some company, for pods that read nothing of it.
    pub(crate) fn some(path: &str) -> Self {
        let body = format!("{{\"inputs\":[],\"id\":\"{}\"}}", "x".repeat(512));
        Self {
            path: path.to_owned(),
            body: body.into(),
            timeout: None,
        }
    }
}

/// So many requests a second, evenly, for so long.
pub(crate) fn even(rate: u32, lasts: Duration) -> impl Iterator<Item = Duration> + Send {
    let gap = Duration::from_secs(1) / rate;
    (0..)
        .map(move |at: u32| gap * at)
        .take_while(move |due| *due < lasts)
}

/// Sends requests at these times from now on.
pub(crate) async fn run(
    at: SocketAddr,
    asks: Ask,
    schedule: impl Iterator<Item = Duration>,
) -> Result<Vec<Sample>> {
    let client = client::plain();
    let uri: http::Uri = format!("http://{at}{}", asks.path).parse()?;
    let Ask { body, timeout, .. } = asks;
    let samples = Arc::new(Mutex::new(Vec::new()));
    let began = clock::now();
    let mut requests = JoinSet::new();
    for due in schedule.map(|due| began + due) {
        tokio::time::sleep_until(due.into()).await;
        let (client, uri, body) = (client.clone(), uri.clone(), body.clone());
        let samples = Arc::clone(&samples);
        requests.spawn(async move {
            let asked =
                tokio::time::timeout_at((due + PATIENCE).into(), ask(&client, uri, body, timeout));
            let (status, by) = match asked.await {
                Ok(Ok(answered)) => answered,
                _ => (0, By::Other),
            };
            let took = clock::now().saturating_duration_since(due);
            let ok = status == 200;
            samples.lock().push(Sample { due, took, ok, by });
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
    let mut samples = std::mem::take(&mut *samples.lock());
    samples.sort_by_key(|sample| sample.due);
    Ok(samples)
}

async fn ask(
    client: &Http,
    uri: http::Uri,
    body: Bytes,
    timeout: Option<Duration>,
) -> Result<(u16, By)> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(timeout) = timeout {
        request = request.header("x-request-timeout-ms", timeout.as_millis().to_string());
    }
    let response = client.request(request.body(Full::new(body))?).await?;
    let status = response.status().as_u16();
    let says = |name: &str, value: &str| response.headers().get(name).is_some_and(|v| v == value);
    let stable = says("x-aegis-model-version", "1") && says("x-aegis-route", "split");
    response.into_body().collect().await?;
    Ok((status, if stable { By::Stable } else { By::Other }))
}
