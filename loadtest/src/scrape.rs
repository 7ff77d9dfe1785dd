//! Asks servers for their `/metrics` while a run goes on: queue depth, batch sizes, and what changed.
//!
//! Each server is asked once a second by a task of its own. A scrape that fails is a gap in its series and a
//! note, and the run goes on: a server that is too busy to be scraped is one that somebody wants to see the rest
//! of. What is kept is bounded, see [`Track`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use self::exposition::{Exposition, SyntaxError};
use self::track::Track;
pub(crate) use self::track::{Poll, Scraped};
use crate::clock;

pub(crate) mod exposition;
mod track;

/// How often a server is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The largest exposition that is read.
const MAX_BODY: usize = 16 << 20;

/// An address with metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScrapeUrl(Uri);

/// Scrapes until it is dropped.
#[derive(Debug)]
pub(crate) struct Scraper {
    tracks: Vec<Arc<Mutex<Track>>>,
    tasks: Vec<AbortHandle>,
}

/// Why there is no sample of a second.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("{}", causes(.0))]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("status {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no metrics: {0}")]
    Syntax(#[from] SyntaxError),
}

// === impl ScrapeUrl ===

impl std::str::FromStr for ScrapeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "expected an address like http://127.0.0.1:8000, whose /metrics is read, got `{}`",
                aegis_protocol::excerpt(text)
            )
        };
        let uri: Uri = text.parse().map_err(|_| refused())?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(refused());
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Ok(Self(uri));
        }
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/metrics"));
        Uri::from_parts(parts).map(Self).map_err(|_| refused())
    }
}

// === impl Scraper ===

impl Scraper {
    /// Asks these addresses from now on for what they say of a model; times are counted from `start`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(urls: &[ScrapeUrl], model: &str, start: Instant) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let tracks: Vec<_> = urls
            .iter()
            .map(|url| Arc::new(Mutex::new(Track::new(name(&url.0), model.to_owned()))))
            .collect();
        let tasks = urls.iter().zip(&tracks).map(|(url, track)| {
            let scrape = scrape(client.clone(), url.0.clone(), Arc::clone(track), start);
            tokio::spawn(scrape).abort_handle()
        });
        Self {
            tasks: tasks.collect(),
            tracks,
        }
    }

    /// What was seen so far.
    pub(crate) fn scraped(&self) -> Vec<Scraped> {
        let tracks = self.tracks.iter();
        tracks.map(|track| track.lock().scraped()).collect()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// An error and what caused it: the client's own words for the outermost are `client error (Connect)`.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let first = std::error::Error::source(error);
    let causes = std::iter::successors(first, |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    if texts.is_empty() {
        return error.to_string();
    }
    texts.join(": ")
}

/// Host and port, as people tell servers apart.
fn name(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

async fn scrape(
    client: Client<HttpConnector, Empty<Bytes>>,
    url: Uri,
    track: Arc<Mutex<Track>>,
    start: Instant,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = tokio::time::timeout(TIMEOUT, ask(&client, url.clone())).await;
        let at = clock::now().saturating_duration_since(start).as_secs_f64();
        let mut track = track.lock();
        match answer.unwrap_or(Err(ScrapeError::Timeout)) {
            Ok(exposition) => track.saw(at, &exposition),
            Err(error) => track.missed(at, &error),
        }
    }
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    url: Uri,
) -> Result<Exposition, ScrapeError> {
    let response = client.get(url).await.map_err(ScrapeError::Unreachable)?;
    if response.status() != http::StatusCode::OK {
        return Err(ScrapeError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(ScrapeError::Body)?.to_bytes();
    Ok(Exposition::parse(&String::from_utf8_lossy(&body))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_means_its_metrics() {
        for (text, uri) in [
            ("http://h:1", "http://h:1/metrics"),
            ("http://h:1/", "http://h:1/metrics"),
            ("http://h/admin/metrics", "http://h/admin/metrics"),
        ] {
            let url: ScrapeUrl = text.parse().unwrap();
            assert_eq!(url.0.to_string(), uri);
        }
        for text in ["", "h:1", "https://h", "/metrics", "http://"] {
            let error = text.parse::<ScrapeUrl>().unwrap_err();
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }
}
