//! The runs against one backend: what it serves at most, and whether a rate keeps the objectives.

use std::time::Duration;

use aegis_protocol::{HealthReport, path};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::{Costs, Held, Setting};
use crate::client::{HttpClient, Letter};
use crate::load::{Load, LoadError};
use crate::plan::{Pattern, Plan};
use crate::scrape::exposition::Exposition;
use crate::slo::{Invalid, Limits, Slo, Verdict, invalid, judge};
use crate::{Profile, Rate, Schedule, Spacing};

/// The longest that a backend is asked of itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sent before a run is measured.
const WARMUP: Duration = Duration::from_millis(500);

/// The most connections of a closed loop.
const MAX_CONNECTIONS: u32 = 1024;

/// How much longer than asked a run may be, to be large enough for the objectives.
const LONGEST: u32 = 6;

/// What runs share.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// Of one model at one address; its pattern is each run's own.
    pub(crate) plan: Plan,
    pub(crate) slo: Slo,
    pub(crate) limits: Limits,
    /// How long each run is measured.
    pub(crate) measure: Duration,
}

/// Why a run shows nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the backend answered no request: {0}")]
    Silent(String),
}

/// Whether a model may be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    NotYet,
    /// It is not loaded, and will not be.
    Never(String),
}

/// What a backend counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    queued: f64,
    queue_seconds: f64,
}

/// Asks a backend for its health.
pub(super) async fn ready(url: &str, model: &str, version: &str) -> Ready {
    let Some(body) = get(url, path::HEALTH).await else {
        return Ready::NotYet;
    };
    let Ok(health) = serde_json::from_slice::<HealthReport>(&body) else {
        return Ready::NotYet;
    };
    let mut failed = health.models.iter().filter_map(|model| {
        let reason = model
            .reason
            .as_ref()
            .filter(|_| !model.loaded || !model.warm)?;
        Some((model, reason))
    });
    // Others are waited for, too: what is still loading takes processors from what is measured.
    if let Some((_, reason)) = failed.find(|(health, reason)| {
        health.name == model && health.version == version && !is_passing(reason)
    }) {
        return Ready::Never(reason.clone());
    }
    let is_over = |model: &aegis_protocol::ModelHealth| {
        model.warm
            || model
                .reason
                .as_ref()
                .is_some_and(|reason| !is_passing(reason))
    };
    if health.models.iter().all(is_over) && !health.models.is_empty() {
        Ready::Yes
    } else {
        Ready::NotYet
    }
}

/// The reason of what will be ready yet.
fn is_passing(reason: &str) -> bool {
    reason == "loading"
}

async fn get(url: &str, path: &str) -> Option<Bytes> {
    let uri: Uri = url.parse().ok()?;
    let letter = Letter {
        method: Method::GET,
        path: path.parse().ok()?,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let client = HttpClient::new(&uri, Some(1), PATIENCE).ok()?;
    let answer = async { client.lease().await.send(&letter, None).await };
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    Some(answer.ok()?.ok()?.body)
}

// === impl Bench ===

impl Bench {
    fn url(&self) -> String {
        let first = self.plan.parts.first();
        first.map(|part| part.target.url()).unwrap_or_default()
    }

    async fn metrics(&self) -> Option<Exposition> {
        let body = get(&self.url(), "/metrics").await?;
        Exposition::parse(&String::from_utf8_lossy(&body)).ok()
    }

    fn sum(&self, metrics: &Exposition, name: &str, more: &[(&str, &str)]) -> Option<f64> {
        let target = &self.plan.parts.first()?.target;
        let version = target.version().map(|version| ("model_version", version));
        let labels = [("model", target.model())].into_iter();
        let labels: Vec<_> = labels.chain(version).chain(more.iter().copied()).collect();
        metrics.sum(name, &labels)
    }

    /// What a batch costs, as the backend learned it.
    pub(crate) async fn costs(&self) -> Option<Costs> {
        let metrics = self.metrics().await?;
        let term = |term| {
            let name = "aegis_inference_batch_cost_seconds";
            self.sum(&metrics, name, &[("term", term)])
        };
        Some(Costs {
            alpha: term("alpha")?,
            beta: term("beta")?,
        })
    }

    async fn counted(&self) -> Option<Counted> {
        let metrics = self.metrics().await?;
        Some(Counted {
            queued: self.sum(&metrics, "aegis_inference_queue_seconds_count", &[])?,
            queue_seconds: self.sum(&metrics, "aegis_inference_queue_seconds_sum", &[])?,
        })
    }

    /// Answers a second of as many connections as keep every instance in full batches.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops the load.
    pub(crate) async fn saturate(&self, setting: Setting) -> Result<f64, BenchError> {
        let full = setting.max_batch_size.saturating_mul(setting.instances);
        let connections = full.saturating_mul(3).clamp(8, MAX_CONNECTIONS);
        let mut plan = self.plan.clone();
        plan.pattern = Pattern::Closed {
            connections: connections as usize,
            warmup: WARMUP.min(self.measure),
            duration: self.measure,
        };
        let mut handle = Load::new(plan)?.start();
        handle.finished().await;
        let (measured, elapsed) = handle.measured();
        let report = handle.stop().await;
        if measured.ok() == 0 {
            let failures = report.summary.failures.into_iter();
            let most = failures.max_by_key(|failure| failure.count);
            return Err(BenchError::Silent(most.map_or_else(
                || "none was sent".to_owned(),
                |failure| failure.text,
            )));
        }
        if measured.in_time() == 0 {
            let text = format!(
                "none within {elapsed:?}, in which {} were sent",
                report.summary.requests
            );
            return Err(BenchError::Silent(text));
        }
        Ok(measured.rate(elapsed))
    }

    /// Whether the objectives are kept at a rate.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops the load.
    pub(crate) async fn hold(&self, rate: f64) -> Result<Held, BenchError> {
        let Ok(rate) = Rate::new(rate) else {
            return Ok(Held::default());
        };
        let mut plan = self.plan.clone();
        plan.pattern = Pattern::Open {
            schedule: Schedule::Drawn {
                profile: Profile::constant(rate, self.length(rate)),
                spacing: Spacing::Poisson,
            },
            warmup: WARMUP.min(self.measure),
        };
        let before = self.counted().await;
        let mut handle = Load::new(plan)?.start();
        handle.finished().await;
        let (measured, _) = handle.measured();
        drop(handle);
        let after = self.counted().await;
        let reasons = invalid(&measured, self.limits);
        // What a server that is too slow kept from being sent is its failure.
        let is_full = reasons
            .iter()
            .any(|why| matches!(why, Invalid::Dropped { .. }));
        let verdict = judge(&self.slo, &measured, self.limits).verdict;
        let queue = before.zip(after).and_then(|(before, after)| {
            let queued = after.queued - before.queued;
            (queued > 0.0).then(|| (after.queue_seconds - before.queue_seconds) / queued)
        });
        Ok(Held {
            is_met: verdict == Verdict::Pass,
            is_doubtful: matches!(verdict, Verdict::TooSmall | Verdict::Invalid) && !is_full,
            p99_ms: measured.latency.quantile_ms(0.99),
            queue_seconds: queue,
        })
    }

    /// As long as was asked, or longer where so few requests could show nothing.
    fn length(&self, rate: Rate) -> Duration {
        let least = 2.0 * self.slo.least() as f64 / rate.per_second();
        let longest = self.measure * LONGEST;
        Duration::try_from_secs_f64(least)
            .unwrap_or(longest)
            .clamp(self.measure, longest)
    }
}
