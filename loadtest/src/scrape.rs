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
    /// By server, and then by model.
    tracks: Vec<Arc<Mutex<Vec<Track>>>>,
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

impl ScrapeUrl {
    /// What it says now; none where it says nothing that is one.
    pub(crate) async fn once(&self) -> Option<Exposition> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = tokio::time::timeout(TIMEOUT, ask(&client, self.0.clone())).await;
        answer.ok()?.ok()
    }
}

// === impl Scraper ===

impl Scraper {
    /// Asks these addresses from now on for what they say of each model; times are counted from `start`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(urls: &[ScrapeUrl], models: &[String], start: Instant) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let tracks: Vec<_> = urls
            .iter()
            .map(|url| Arc::new(Mutex::new(tracks(&name(&url.0), models))))
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
        let servers = self.tracks.iter();
        let of = |server: &Arc<Mutex<Vec<Track>>>| {
            let tracks = server.lock();
            tracks.iter().map(Track::scraped).collect::<Vec<_>>()
        };
        servers.flat_map(of).collect()
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

/// What is kept of one server: each model apart, since queues and batches are.
fn tracks(server: &str, models: &[String]) -> Vec<Track> {
    let tracks = models.iter().enumerate().map(|(number, model)| {
        let name = match models {
            [_] => server.to_owned(),
            _ => format!("{server} {}", aegis_protocol::excerpt(model)),
        };
        // What is the server's own is told once.
        Track::new(name, model.clone(), number == 0)
    });
    tracks.collect()
}

async fn scrape(
    client: Client<HttpConnector, Empty<Bytes>>,
    url: Uri,
    tracks: Arc<Mutex<Vec<Track>>>,
    start: Instant,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = tokio::time::timeout(TIMEOUT, ask(&client, url.clone())).await;
        let at = clock::now().saturating_duration_since(start).as_secs_f64();
        let answer = answer.unwrap_or(Err(ScrapeError::Timeout));
        for track in tracks.lock().iter_mut() {
            match &answer {
                Ok(exposition) => track.saw(at, exposition),
                Err(error) => track.missed(at, error),
            }
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
    fn every_model_of_a_mix_is_read_and_what_is_the_servers_is_told_once() {
        let models = ["a".to_owned(), "b".to_owned()];
        let mut all = tracks("h:1", &models);
        let text = |generation: u32, b: u32| {
            format!(
                "aegis_inference_queue_depth{{model=\"a\"}} 1\naegis_inference_queue_depth{{model=\"b\"}} {b}\n\
                 aegis_proxy_config_generation {generation}\n"
            )
        };
        for (at, text) in [(0.0, text(1, 5)), (1.0, text(2, 7))] {
            let exposition = Exposition::parse(&text).unwrap();
            for track in &mut all {
                track.saw(at, &exposition);
            }
        }
        let [a, b] = [all[0].scraped(), all[1].scraped()];
        assert_eq!((a.name.as_str(), b.name.as_str()), ("h:1 a", "h:1 b"));
        let queues = |scraped: &Scraped| {
            let polls = scraped.polls.iter();
            polls.map(|poll| poll.queue).collect::<Vec<_>>()
        };
        assert_eq!(queues(&a), [Some(1.0), Some(1.0)]);
        assert_eq!(queues(&b), [Some(5.0), Some(7.0)]);
        assert_eq!((a.changes.len(), b.changes.len()), (1, 0));
        assert_eq!(tracks("h:1", &models[..1])[0].scraped().name, "h:1");
    }

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
